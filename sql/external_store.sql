-- What the database cannot erase: files, search indexes and the like.

CREATE FUNCTION leyser.check_store_name(name text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IS NULL OR btrim(name) IS DISTINCT FROM name OR length(name) NOT BETWEEN 1 AND 200 OR leyser.has_control_characters(name) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid name of an external store',
            DETAIL = 'It is missing, has more than 200 characters, control characters, or blanks at its ends.',
            HINT = 'Give a name of one line.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_store_name(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_store_name(text) IS 'internal: 22023 for a name that cannot be';

CREATE FUNCTION leyser.register_external_store(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_store_name(register_external_store.name);
    INSERT INTO leyser.external_store (name) VALUES (register_external_store.name) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = 'external store already exists',
            DETAIL = 'A store of this name is registered.',
            HINT = 'Give another name.';
    END IF;
    PERFORM leyser.record_event('external_store.registered', NULL, register_external_store.name, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.register_external_store(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.register_external_store(text) IS
    'operator: names a store outside the database that holds tenants'' data; from now on each purge stays open until confirm_external_erasure(); 22023 for a name that cannot be, 42710 for one that is registered';

CREATE FUNCTION leyser.drop_external_store(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leyser.external_store s WHERE s.name = drop_external_store.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'external store does not exist',
            DETAIL = 'No store of this name is registered.',
            HINT = 'See leyser.register_external_store().';
    END IF;
    DELETE FROM leyser.purge_table t USING leyser.purge_record p
        WHERE p.purge_id = t.purge_id AND p.state <> 'erased'
          AND t.action = 'confirm' AND t.relation = 0 AND t.relation_name = drop_external_store.name;
    PERFORM leyser.record_event('external_store.dropped', NULL, drop_external_store.name, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_external_store(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_external_store(text) IS
    'operator: no purge waits for this store any longer; 42704 for an unknown one';

CREATE FUNCTION leyser.planned_confirmations(tenant_id text) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation_name FROM leyser.purge_table t
    JOIN leyser.purge_record r ON r.purge_id = t.purge_id AND r.state <> 'erased'
    WHERE r.tenant_id = planned_confirmations.tenant_id AND t.action = 'confirm'
$$;
REVOKE ALL ON FUNCTION leyser.planned_confirmations(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.planned_confirmations(text) IS
    'internal: large objects, publications and the like that a planned purge cannot erase';

CREATE FUNCTION leyser.missing_confirmations(purge_id bigint) RETURNS TABLE (relation oid, name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, t.relation_name FROM leyser.purge_table t
    JOIN leyser.purge_record r ON r.purge_id = t.purge_id
    WHERE t.purge_id = missing_confirmations.purge_id AND t.action = 'confirm' AND t.relation <> 0
      AND NOT EXISTS (SELECT FROM leyser.external_erasure e WHERE e.tenant_id = r.tenant_id AND e.name = t.relation_name)
    ORDER BY t.relation_name COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.missing_confirmations(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.missing_confirmations(bigint) IS
    'internal: what somebody has to empty in this database, and to confirm, before it is scrubbed';

-- Bytes of what is emptied here are scrubbed afterwards; a view that is refreshed
-- before the tenant's rows are gone copies them once more.
CREATE FUNCTION leyser.note_confirmed(tenant_id text, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
    emptied oid;
BEGIN
    SELECT r.* INTO purge FROM leyser.purge_record r
        WHERE r.tenant_id = note_confirmed.tenant_id AND r.state <> 'erased' FOR UPDATE;
    SELECT t.relation INTO emptied FROM leyser.purge_table t
        WHERE t.purge_id = purge.purge_id AND t.action = 'confirm' AND t.relation <> 0 AND t.relation_name = note_confirmed.name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF purge.deleted_at IS NULL AND emptied <> 'pg_largeobject'::regclass THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" cannot be confirmed yet', note_confirmed.name),
            DETAIL = 'The tenant''s rows are not deleted yet: refreshed now, it would copy them.',
            HINT = 'Refresh it when view leyser.purge_status names it among the blockers.';
    END IF;
    UPDATE leyser.purge_record r SET deleted_xid = pg_current_xact_id()
        WHERE r.purge_id = purge.purge_id AND purge.deleted_at IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_confirmed(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_confirmed(text, text) IS
    'internal: what was emptied in this database is scrubbed when nobody sees its content any longer; LY008 for a view that still would copy rows';

-- Before the lock-out the tenant still writes there; while it is held, the store
-- must keep its share as well.
CREATE FUNCTION leyser.confirm_external_erasure(tenant_id text, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(confirm_external_erasure.tenant_id);
BEGIN
    -- a store, or what the plan of the tenant's purge found
    IF NOT EXISTS (SELECT FROM leyser.external_store s WHERE s.name = confirm_external_erasure.name)
            AND NOT EXISTS (SELECT FROM leyser.planned_confirmations(tenant.tenant_id) p WHERE p = confirm_external_erasure.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'external store does not exist',
            DETAIL = 'No store of this name is registered, and no purge of the tenant waits for it.',
            HINT = 'leyser.register_external_store() names one; leyser.purge_plan() lists what is to be confirmed.';
    END IF;
    IF tenant.state <> 'terminated' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('an erasure cannot be confirmed for a tenant that is %s', tenant.state),
            DETAIL = CASE tenant.state WHEN 'held' THEN 'Under a hold nothing of it may be erased.'
                                       WHEN 'erased' THEN 'Its purge has ended.'
                                       ELSE 'It can still write there until its contract ends.' END,
            HINT = 'See view leyser.contract.';
    END IF;
    PERFORM leyser.note_confirmed(tenant.tenant_id, confirm_external_erasure.name);
    INSERT INTO leyser.external_erasure (tenant_id, name, confirmed_by)
        VALUES (tenant.tenant_id, confirm_external_erasure.name, leyser.caller()::text) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the erasure was confirmed already',
            DETAIL = 'There is nothing to confirm for this store and tenant.',
            HINT = 'See leyser.purge_report().';
    END IF;
    PERFORM leyser.record_event('external_erasure.confirmed', tenant.tenant_id, confirm_external_erasure.name, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.confirm_external_erasure(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirm_external_erasure(text, text) IS
    'operator: says that an external store holds nothing of a tenant any longer, after its contract''s end; 42704 for an unknown store or tenant, LY008 where the contract has not ended, is held, it was confirmed, or a view is to be refreshed after the rows are gone';

CREATE FUNCTION leyser.missing_external_erasures(tenant_id text) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.name FROM (SELECT x.name FROM leyser.external_store x
                        UNION SELECT p FROM leyser.planned_confirmations(missing_external_erasures.tenant_id) p) s
    WHERE NOT EXISTS (SELECT FROM leyser.external_erasure e
                      WHERE e.tenant_id = missing_external_erasures.tenant_id AND e.name = s.name)
    ORDER BY s.name
$$;
REVOKE ALL ON FUNCTION leyser.missing_external_erasures(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.missing_external_erasures(text) IS
    'internal: the external stores, and what else the plan lists, that nobody confirmed for a tenant: its purge stays open';
