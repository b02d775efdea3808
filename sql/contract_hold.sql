-- Holds: what the law keeps from being erased.
--
-- A hold may be placed as soon as a contract's end is announced, for a purge can
-- begin at its very end.  Whoever deletes must hold a share lock on the purge's row
-- meanwhile: so nothing is deleted any more once hold_purge() has returned.

CREATE FUNCTION leyser.check_hold(tenant leyser.tenant_record, legal_basis text, review_on date) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_line('legal basis', legal_basis, true);
    IF review_on IS NULL OR NOT isfinite(review_on) OR review_on <= (clock_timestamp() AT TIME ZONE leyser.contract_time_zone())::date THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid day of review',
            DETAIL = 'A hold is looked at again, on a day to come.',
            HINT = 'Give the day on which somebody decides whether it is still needed.';
    END IF;
    IF tenant.state NOT IN ('terminating', 'terminated', 'held') THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a tenant that is %s cannot be held', tenant.state),
            DETAIL = CASE tenant.state WHEN 'erased' THEN 'There is nothing left to hold.'
                                       ELSE 'Its contract has no end, so nothing is erased.' END,
            HINT = 'See view leyser.contract.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_hold(leyser.tenant_record, text, date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_hold(leyser.tenant_record, text, date) IS
    'internal: 22023 for a hold without basis or review, LY008 for a tenant that cannot be held';

CREATE FUNCTION leyser.hold_purge(tenant_id text, legal_basis text, review_on date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(hold_purge.tenant_id);
    open bigint;
    begun text;
BEGIN
    PERFORM leyser.check_hold(tenant, hold_purge.legal_basis, hold_purge.review_on);
    INSERT INTO leyser.hold_record (tenant_id, legal_basis, review_on, held_by)
        VALUES (tenant.tenant_id, hold_purge.legal_basis, hold_purge.review_on, leyser.caller()::text)
        ON CONFLICT (tenant_id) DO UPDATE SET legal_basis = excluded.legal_basis,
            review_on = excluded.review_on, held_by = excluded.held_by, held_at = excluded.held_at;
    IF tenant.state = 'terminated' THEN
        PERFORM leyser.move_tenant(tenant.tenant_id, '{terminated}', 'held');
    END IF;
    SELECT p.purge_id, p.state INTO open, begun FROM leyser.purge_record p
        WHERE p.tenant_id = tenant.tenant_id AND p.state NOT IN ('erased', 'held') FOR UPDATE;
    IF open IS NOT NULL THEN
        PERFORM leyser.move_purge(open, 'held');
    END IF;
    PERFORM leyser.record_event('purge.held', tenant.tenant_id, hold_purge.legal_basis,
        jsonb_build_object('review_on', hold_purge.review_on, 'purge', begun));
    IF begun IS DISTINCT FROM 'due' AND begun IS NOT NULL THEN
        RAISE NOTICE USING MESSAGE = format('the purge of tenant "%s" had begun', tenant.tenant_id),
            DETAIL = 'What it has deleted so far is gone.',
            HINT = 'leyser.purge_report() tells how much that is.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.hold_purge(text, text, date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.hold_purge(text, text, date) IS
    'operator: keeps a tenant whose contract ends or has ended from being erased, until release_hold(); it stays locked out; again for another basis or day; 22023 without a legal basis or a day of review to come, 42704 for an unknown tenant, LY008 where its contract has no end or it is erased';

CREATE FUNCTION leyser.release_hold(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(release_hold.tenant_id);
    held leyser.hold_record;
    stopped bigint;
BEGIN
    DELETE FROM leyser.hold_record h WHERE h.tenant_id = tenant.tenant_id RETURNING h.* INTO held;
    IF held.tenant_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant is not held',
            DETAIL = format('It is %s.', tenant.state),
            HINT = 'See view leyser.contract.';
    END IF;
    IF tenant.state = 'held' THEN
        PERFORM leyser.move_tenant(tenant.tenant_id, '{held}', 'terminated');
    END IF;
    -- it begins anew, which finds what is left
    SELECT p.purge_id INTO stopped FROM leyser.purge_record p WHERE p.tenant_id = tenant.tenant_id AND p.state = 'held';
    IF FOUND THEN
        PERFORM leyser.move_purge(stopped, 'due');
        PERFORM leyser.start_purge_worker();
    END IF;
    PERFORM leyser.record_event('purge.released', tenant.tenant_id, held.legal_basis,
        jsonb_build_object('review_on', held.review_on, 'held_by', held.held_by, 'held_at', held.held_at));
END
$$;
REVOKE ALL ON FUNCTION leyser.release_hold(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.release_hold(text) IS
    'operator: ends a hold; a purge that it stopped goes on; 42704 for an unknown tenant, LY008 where it is not held';

CREATE VIEW leyser.contract AS
    SELECT t.tenant_id, t.name, t.state, r.effective_at, t.ends_at, leyser.purge_from(t.ends_at) AS purge_from,
           r.reason, r.requested_by, r.requested_at, r.confirmed_by, r.confirmed_at,
           h.legal_basis, h.review_on, h.held_by, h.held_at
    FROM leyser.tenant t
    LEFT JOIN leyser.termination_record r ON r.tenant_id = t.tenant_id
    LEFT JOIN leyser.hold_record h ON h.tenant_id = t.tenant_id
    WHERE coalesce(r.tenant_id, h.tenant_id) IS NOT NULL OR t.ends_at IS NOT NULL;
COMMENT ON VIEW leyser.contract IS
    'contracts that end or have ended, who said so, from when on they can be purged, and holds (operator, auditor)';
