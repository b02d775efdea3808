-- for_each_tenant(): the books of statements that run once for each tenant.
--
-- The work itself is in src/each_tenant.c, and a row of leyser.work_record; here is
-- which tenants are done.  A mark is committed with its tenant's rows.  No dump
-- carries the marks, as no work is carried.

CREATE TABLE leyser.each_tenant_record (
    work_id bigint NOT NULL REFERENCES leyser.work_record ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('done', 'failed')),
    -- of the error: its message may hold the tenant's values
    error_code text,
    error_relation text,
    error_constraint name,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (work_id, tenant_id)
);
COMMENT ON TABLE leyser.each_tenant_record IS
    'for which tenants a statement of for_each_tenant() is done, and for which it failed';

-- The tenants whose turn it can be.
CREATE FUNCTION leyser.active_tenants(work_id bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tenant_id FROM leyser.tenant_record t, leyser.work_record w
    WHERE w.work_id = active_tenants.work_id
      AND t.state IN ('active', 'terminating') AND NOT t.is_suspended
      AND (t.ends_at IS NULL OR t.ends_at > clock_timestamp())
      AND (w.arguments -> 'tenants' = 'null' OR w.arguments -> 'tenants' ? t.tenant_id)
$$;
REVOKE ALL ON FUNCTION leyser.active_tenants(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.active_tenants(bigint) IS
    'internal: the active tenants for which a work of for_each_tenant() is';

CREATE FUNCTION leyser.check_each_tenant(tenants text[], on_error text, label text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unfit text;
BEGIN
    IF on_error NOT IN ('continue', 'stop') OR length(label) NOT BETWEEN 1 AND 200
            OR EXISTS (SELECT FROM unnest(tenants) t WHERE t IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid argument of leyser.for_each_tenant()',
            DETAIL = 'on_error is continue or stop; a label has 1 to 200 characters; tenants are ids, none of them null.',
            HINT = 'Leave them out to get their defaults.';
    END IF;
    SELECT t INTO unfit FROM unnest(tenants) t WHERE NOT EXISTS (SELECT FROM leyser.tenant_record r
        WHERE r.tenant_id = t AND r.state IN ('active', 'terminating') AND NOT r.is_suspended
          AND (r.ends_at IS NULL OR r.ends_at > clock_timestamp())) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY004',
            MESSAGE = 'tenant is not active',
            DETAIL = format('Tenant "%s", which was asked for, is unknown, suspended or terminated.', unfit),
            HINT = 'Leave it out; nothing was done for the others either.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_each_tenant(text[], text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_each_tenant(text[], text, text) IS
    'internal: 22023 for wrong arguments of for_each_tenant(), LY004 for a tenant that is not active';

-- The statement is known by its digest: it may hold what should not be kept.
CREATE FUNCTION leyser.begin_each_tenant(statement text, tenants text[], on_error text, label text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    digest text := encode(sha256(convert_to(statement, 'UTF8')), 'hex');
    new_id bigint;
BEGIN
    PERFORM leyser.check_each_tenant(begin_each_tenant.tenants, begin_each_tenant.on_error, begin_each_tenant.label);
    new_id := leyser.work_begin('for_each_tenant', coalesce(begin_each_tenant.label, left(digest, 16)),
        jsonb_build_object('statement', digest, 'role', leyser.caller()::text,
            'tenants', (SELECT array_agg(DISTINCT t ORDER BY t) FROM unnest(begin_each_tenant.tenants) t)));
    -- those that failed have another turn; those that are done do not
    DELETE FROM leyser.each_tenant_record e WHERE e.work_id = new_id AND e.state = 'failed';
    PERFORM leyser.step_each_tenant(new_id);
    PERFORM leyser.record_event('each_tenant.began', NULL, new_id::text, jsonb_build_object('label', begin_each_tenant.label,
        'statement', digest, 'tenants', coalesce(cardinality(begin_each_tenant.tenants), 0), 'on_error', begin_each_tenant.on_error));
    RETURN new_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_each_tenant(text, text[], text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_each_tenant(text, text[], text, text) IS
    'internal: the unfinished work of this statement, role and tenants, or a new one; 55P03 where it is running, 22023, LY004';

CREATE FUNCTION leyser.step_each_tenant(work_id bigint) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.work_step(step_each_tenant.work_id,
        (SELECT count(*) FROM leyser.each_tenant_record e WHERE e.work_id = step_each_tenant.work_id AND e.state = 'done'),
        (SELECT count(*) FROM leyser.active_tenants(step_each_tenant.work_id)), NULL)
$$;
REVOKE ALL ON FUNCTION leyser.step_each_tenant(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.step_each_tenant(bigint) IS 'internal: counts how far a work of for_each_tenant() is';

-- In the order of their ids; those that were created meanwhile come last.
CREATE FUNCTION leyser.next_each_tenant(work_id bigint, after text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    next_id text;
BEGIN
    SELECT t INTO next_id FROM leyser.active_tenants(next_each_tenant.work_id) t
        WHERE t > next_each_tenant.after COLLATE "C"
          AND NOT EXISTS (SELECT FROM leyser.each_tenant_record e WHERE e.work_id = next_each_tenant.work_id AND e.tenant_id = t)
        ORDER BY t COLLATE "C" LIMIT 1;
    IF next_id IS NULL THEN
        SELECT t INTO next_id FROM leyser.active_tenants(next_each_tenant.work_id) t
            WHERE NOT EXISTS (SELECT FROM leyser.each_tenant_record e WHERE e.work_id = next_each_tenant.work_id AND e.tenant_id = t)
            ORDER BY t COLLATE "C" LIMIT 1;
    END IF;
    RETURN next_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.next_each_tenant(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_each_tenant(bigint, text) IS
    'internal: the next tenant of a work of for_each_tenant(), or NULL';

CREATE FUNCTION leyser.enter_each_tenant(work_id bigint, tenant_id text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.record_event('each_tenant.entered', enter_each_tenant.tenant_id, enter_each_tenant.work_id::text, NULL)
$$;
REVOKE ALL ON FUNCTION leyser.enter_each_tenant(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.enter_each_tenant(bigint, text) IS
    'internal: records that for_each_tenant() works for a tenant';

CREATE FUNCTION leyser.mark_each_tenant(work_id bigint, tenant_id text, error_code text, error_relation text,
                                        error_constraint text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.each_tenant_record (work_id, tenant_id, state, error_code, error_relation, error_constraint)
        VALUES (mark_each_tenant.work_id, mark_each_tenant.tenant_id,
            CASE WHEN mark_each_tenant.error_code IS NULL THEN 'done' ELSE 'failed' END,
            mark_each_tenant.error_code, mark_each_tenant.error_relation, mark_each_tenant.error_constraint);
    UPDATE leyser.work_record w SET done = w.done + CASE WHEN mark_each_tenant.error_code IS NULL THEN 1 ELSE 0 END,
            updated_at = clock_timestamp()
        WHERE w.work_id = mark_each_tenant.work_id
$$;
REVOKE ALL ON FUNCTION leyser.mark_each_tenant(bigint, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mark_each_tenant(bigint, text, text, text, text) IS
    'internal: a tenant is done, or failed with this SQLSTATE';

CREATE FUNCTION leyser.end_each_tenant(work_id bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    done bigint;
    failed bigint;
    left_out bigint;
    summary text;
BEGIN
    PERFORM leyser.step_each_tenant(end_each_tenant.work_id);
    SELECT count(*) FILTER (WHERE e.state = 'done'), count(*) FILTER (WHERE e.state = 'failed') INTO done, failed
        FROM leyser.each_tenant_record e WHERE e.work_id = end_each_tenant.work_id;
    SELECT count(*) INTO left_out FROM leyser.tenant_record t
        WHERE (t.state = 'suspended' OR t.state = 'terminating' AND t.is_suspended)
          AND EXISTS (SELECT FROM leyser.work_record w WHERE w.work_id = end_each_tenant.work_id
                      AND w.arguments -> 'tenants' = 'null')
          AND NOT EXISTS (SELECT FROM leyser.each_tenant_record e
                          WHERE e.work_id = end_each_tenant.work_id AND e.tenant_id = t.tenant_id);
    summary := format('done for %s tenants, failed for %s, left out %s that are suspended', done, failed, left_out);
    PERFORM leyser.work_end(end_each_tenant.work_id, CASE WHEN failed = 0 THEN 'done' ELSE 'failed' END,
                            CASE WHEN failed > 0 THEN summary END);
    PERFORM leyser.record_event('each_tenant.ended', NULL, end_each_tenant.work_id::text,
        jsonb_build_object('done', done, 'failed', failed, 'left_out', left_out));
    RETURN summary;
END
$$;
REVOKE ALL ON FUNCTION leyser.end_each_tenant(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_each_tenant(bigint) IS
    'internal: ends a work of for_each_tenant(), and sums up';

CREATE PROCEDURE leyser.for_each_tenant(statement text, tenants text[] DEFAULT NULL, on_error text DEFAULT 'continue',
                                        label text DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_for_each_tenant';
REVOKE ALL ON PROCEDURE leyser.for_each_tenant(text, text[], text, text) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.for_each_tenant(text, text[], text, text) IS
    'gateway: runs a statement once for each active tenant (or those given), in its context, with the caller''s rights, a transaction each; a call that was cut off or had failures goes on where the same is called again; on_error continue or stop; label names it in view leyser.work; 38000 where it failed for a tenant, 0A000 for transaction control, 25001 in a transaction block, 42501 for a role that row security does not bind, 55P03 where it is running, 22004 a null argument, 22023, 42601 no SQL, LY004';

-- Who called it sees its works; operators and auditors see all.
CREATE FUNCTION leyser.list_each_tenant()
    RETURNS TABLE (work_id bigint, label text, tenant_id text, state text, error_code text, error_relation text,
                   error_constraint name, at timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.work_id, w.subject, e.tenant_id, e.state, e.error_code, e.error_relation, e.error_constraint, e.at
    FROM leyser.each_tenant_record e JOIN leyser.work_record w USING (work_id)
    WHERE w.started_by = leyser.caller()::text OR leyser.role_has_usage(leyser.caller(), 'operator')
       OR leyser.role_has_usage(leyser.caller(), 'auditor')
$$;
REVOKE ALL ON FUNCTION leyser.list_each_tenant() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_each_tenant() IS 'internal: what view each_tenant shows';

CREATE VIEW leyser.each_tenant AS SELECT * FROM leyser.list_each_tenant();
COMMENT ON VIEW leyser.each_tenant IS
    'for which tenants a statement of for_each_tenant() is done, and with which SQLSTATE, table and constraint it failed for others (gateway: of its own calls; operator, auditor: of all)';
