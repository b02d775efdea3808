-- Ending contracts.

-- A reason or a legal basis: one line, for the records.
CREATE FUNCTION leyser.check_line(argument text, value text, required boolean) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN value IS NULL OR btrim(value) = '' THEN CASE WHEN required THEN 'It is missing.' END
        WHEN length(value) > 1000 THEN 'It has more than 1000 characters.'
        WHEN leyser.has_control_characters(value) THEN 'It has control characters.' END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('invalid %s', argument), DETAIL = problem,
            HINT = 'Give one line of up to 1000 characters.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_line(text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_line(text, text, boolean) IS
    'internal: 22023 for a text that is missing, longer than 1000 characters or of several lines';

CREATE FUNCTION leyser.refuse_second_end(tenant leyser.tenant_record) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    termination leyser.termination_record;
BEGIN
    SELECT r.* INTO termination FROM leyser.termination_record r WHERE r.tenant_id = tenant.tenant_id;
    IF tenant.state IN ('active', 'suspended') AND termination.tenant_id IS NULL THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY008',
        MESSAGE = CASE WHEN tenant.state IN ('active', 'suspended', 'terminating') THEN 'the contract''s end was announced already'
                       ELSE 'the contract has ended already' END,
        DETAIL = CASE WHEN tenant.state IN ('active', 'suspended') THEN
                          format('Role "%s" did, for %s; another role has not confirmed it.', termination.requested_by,
                                 leyser.told_moment(termination.effective_at))
                      WHEN tenant.ends_at IS NULL THEN format('The tenant is %s.', tenant.state)
                      ELSE format('The tenant is %s: %s.', tenant.state, leyser.told_moment(tenant.ends_at)) END,
        HINT = CASE WHEN tenant.state IN ('active', 'suspended', 'terminating') THEN 'Call leyser.cancel_termination() first.'
                    ELSE 'See view leyser.contract.' END;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_second_end(leyser.tenant_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_second_end(leyser.tenant_record) IS
    'internal: LY008 where a contract''s end is announced, or past';

-- NULL: not counted, for the time was up, somebody had locked it, or it raised an
-- error.  Up to 100000 rows are counted, through an index where the table is protected,
-- and begun is when counting began: no size of a table and nobody's migration must keep
-- a contract from its end.
CREATE FUNCTION leyser.count_some_rows(target leyser.purge_target, tenant_id text, begun timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET lock_timeout = '3s'
AS $$
BEGIN
    RETURN CASE WHEN clock_timestamp() < begun + interval '3 seconds'
                     -- a condition may have no index: it is read as a whole
                     AND (target.kind <> 'by_rule' OR pg_relation_size(target.relation) < 128 * 1024 * 1024
                          AND leyser.refused_condition(target.relation, target.condition) IS NULL) THEN
        leyser.query_as_owner(target.relation,
            format(E'SELECT count(*) FROM (SELECT FROM ONLY %s WHERE (%s\n) LIMIT 100001) counted',
                   target.relation_name, target.condition), tenant_id)::bigint END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.count_some_rows(leyser.purge_target, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_some_rows(leyser.purge_target, text, timestamptz) IS
    'internal: how many rows of a table a purge would find, counted to 100001; NULL where that takes too long';

-- What will be erased, the largest tables first.
CREATE FUNCTION leyser.tell_rows(tenant_id text) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH began AS MATERIALIZED (
        SELECT clock_timestamp() AS at
    ), counted AS MATERIALIZED (
        SELECT t.relation_name, leyser.count_some_rows(t, tell_rows.tenant_id, b.at) AS rows
        FROM began b, leyser.purge_targets(tell_rows.tenant_id) t
        WHERE t.relkind = 'r' AND t.kind <> 'leyser' AND t.condition IS NOT NULL
    ), sorted AS (
        SELECT c.*, row_number() OVER (ORDER BY c.rows DESC NULLS LAST, c.relation_name COLLATE "C") AS place
        FROM counted c WHERE c.rows > 0 OR c.rows IS NULL
    )
    SELECT CASE WHEN count(*) = 0 THEN 'It has no rows.'
           ELSE format('Its rows: %s.', concat_ws(', ',
               string_agg(format('%s in %s', CASE WHEN s.rows > 100000 THEN 'more than 100000' ELSE s.rows::text END, s.relation_name),
                          ', ' ORDER BY s.place) FILTER (WHERE s.rows IS NOT NULL AND s.place <= 10),
               CASE WHEN count(s.rows) > 10 THEN format('and more in other tables (%s)', count(s.rows) - 10) END,
               'not counted in ' || string_agg(s.relation_name, ', ' ORDER BY s.place) FILTER (WHERE s.rows IS NULL))) END
    FROM sorted s
$$;
REVOKE ALL ON FUNCTION leyser.tell_rows(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell_rows(text) IS
    'internal: how many rows a tenant has in which tables, as a sentence; waits seconds, not more, for large or locked tables';

-- What is about to happen, before it can no longer be taken back.
CREATE FUNCTION leyser.tell_end(tenant leyser.tenant_record, ends_at timestamptz, told_rows text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE NOTICE USING
        MESSAGE = format('the contract of tenant "%s"%s ends at %s', tenant.tenant_id,
                         coalesce(' (' || tenant.name || ')', ''), leyser.told_moment(ends_at)),
        DETAIL = format('From then on nobody enters the tenant (LY004), and its rows can be purged. %s', told_rows),
        HINT = CASE WHEN ends_at > clock_timestamp() THEN 'Until then leyser.cancel_termination() takes it back.'
                    ELSE 'Only ROLLBACK takes that back, where this is a transaction block.' END;
END
$$;
REVOKE ALL ON FUNCTION leyser.tell_end(leyser.tenant_record, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell_end(leyser.tenant_record, timestamptz, text) IS
    'internal: tells as NOTICE whose contract ends, when, and what it has';

-- A tenant that was suspended stays locked out while its contract runs out.
CREATE FUNCTION leyser.set_end(tenant leyser.tenant_record, moment timestamptz) RETURNS leyser.tenant_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyser.tenant_record t SET ends_at = greatest(moment, clock_timestamp()), is_suspended = (t.state = 'suspended')
        WHERE t.tenant_id = tenant.tenant_id;
    UPDATE leyser.termination_record r SET from_state = tenant.state WHERE r.tenant_id = tenant.tenant_id;
    PERFORM leyser.move_tenant(tenant.tenant_id, '{active,suspended}', 'terminating');
    RETURN leyser.settle_contract(tenant.tenant_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.set_end(leyser.tenant_record, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_end(leyser.tenant_record, timestamptz) IS
    'internal: gives an active or suspended tenant''s contract its end';

CREATE FUNCTION leyser.terminate_contract(tenant_id text, effective_at timestamptz, reason text DEFAULT NULL)
    RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record;
    alone boolean := NOT current_setting('leyser.second_person')::boolean;
    told_rows text;
BEGIN
    PERFORM leyser.check_effective_at(terminate_contract.effective_at);
    PERFORM leyser.check_line('reason', terminate_contract.reason, false);
    told_rows := leyser.tell_rows(terminate_contract.tenant_id);  -- it takes time: before the tenant is locked
    tenant := leyser.settle_contract(terminate_contract.tenant_id);
    PERFORM leyser.refuse_second_end(tenant);
    INSERT INTO leyser.termination_record (tenant_id, effective_at, reason, requested_by, requested_in, from_state, confirmed_by, confirmed_at)
        VALUES (tenant.tenant_id, terminate_contract.effective_at, terminate_contract.reason, leyser.caller()::text, session_user,
                tenant.state, CASE WHEN alone THEN leyser.caller()::text END, CASE WHEN alone THEN clock_timestamp() END);
    PERFORM leyser.record_event('contract.terminated', tenant.tenant_id, NULL,
        jsonb_build_object('effective_at', terminate_contract.effective_at, 'reason', terminate_contract.reason, 'confirmed', alone));
    IF alone THEN
        tenant := leyser.set_end(tenant, terminate_contract.effective_at);
    END IF;
    PERFORM leyser.tell_end(tenant, coalesce(tenant.ends_at, terminate_contract.effective_at), told_rows);
    IF NOT alone THEN
        RAISE NOTICE USING MESSAGE = 'another role has to confirm it',
            DETAIL = 'leyser.second_person is on: until then nothing happens to the tenant.',
            HINT = 'That role calls leyser.confirm_termination().';
    END IF;
    RETURN tenant.ends_at;
END
$$;
REVOKE ALL ON FUNCTION leyser.terminate_contract(text, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.terminate_contract(text, timestamptz, text) IS
    'operator: ends a tenant''s contract at a moment, from which on every context of it gets LY004 and its purge may begin; returns the moment, NULL where leyser.second_person waits for confirm_termination(); 22023 for the past, what is after the year 9999, or a reason of several lines, 22004 without a moment, 42704 for an unknown tenant, LY008 where it is neither active nor suspended, or its end was announced';

CREATE FUNCTION leyser.terminate_contract(tenant_id text, effective_at date, reason text DEFAULT NULL)
    RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN leyser.terminate_contract(tenant_id,
        CASE WHEN effective_at > '9999-12-31' THEN 'infinity' WHEN isfinite(effective_at) THEN leyser.end_of_day(effective_at)
             ELSE effective_at::timestamptz END, reason);
END
$$;
REVOKE ALL ON FUNCTION leyser.terminate_contract(text, date, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.terminate_contract(text, date, text) IS
    'operator: the same at the end of a day in the contract time zone';

CREATE FUNCTION leyser.terminate_contract(tenant_id text, effective_at text, reason text DEFAULT NULL)
    RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN leyser.terminate_contract(tenant_id, leyser.contract_moment(effective_at), reason);
END
$$;
REVOKE ALL ON FUNCTION leyser.terminate_contract(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.terminate_contract(text, text, text) IS
    'operator: the same for a literal: a day (YYYY-MM-DD) means its end in the contract time zone, a time needs a zone; 22007 for what could mean two things';

-- current_date + interval '30 days' is a midnight of the session's time zone: the
-- beginning of the day that is meant, or hours away from it.
CREATE FUNCTION leyser.terminate_contract(tenant_id text, effective_at timestamp, reason text DEFAULT NULL)
    RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = 'effective_at has no time zone',
        DETAIL = 'A timestamp without time zone is a different moment in each session.',
        HINT = format('Give a date, whose end is meant, or: … AT TIME ZONE %L.', leyser.contract_time_zone());
END
$$;
REVOKE ALL ON FUNCTION leyser.terminate_contract(text, timestamp, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.terminate_contract(text, timestamp, text) IS
    'operator: refuses a timestamp without time zone (22023)';

-- The other role is another person: one that SET ROLE only dresses up does not count.
CREATE FUNCTION leyser.confirm_termination(tenant_id text) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    told_rows text := leyser.tell_rows(confirm_termination.tenant_id);
    tenant leyser.tenant_record := leyser.settle_contract(confirm_termination.tenant_id);
    termination leyser.termination_record;
BEGIN
    SELECT r.* INTO termination FROM leyser.termination_record r
        WHERE r.tenant_id = tenant.tenant_id AND r.confirmed_by IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is nothing to confirm',
            DETAIL = format('The tenant is %s, and no termination of its contract waits for another role.', tenant.state),
            HINT = 'See view leyser.contract.';
    END IF;
    IF leyser.caller()::text = termination.requested_by OR session_user = termination.requested_in THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: the termination must be confirmed by another role',
            DETAIL = format('Role "%s" requested it.', termination.requested_by),
            HINT = 'Another person confirms it, as a role of their own.';
    END IF;
    UPDATE leyser.termination_record r SET confirmed_by = leyser.caller()::text, confirmed_at = clock_timestamp()
        WHERE r.tenant_id = tenant.tenant_id;
    PERFORM leyser.record_event('contract.confirmed', tenant.tenant_id, NULL,
        jsonb_build_object('effective_at', termination.effective_at, 'requested_by', termination.requested_by));
    tenant := leyser.set_end(tenant, termination.effective_at);
    PERFORM leyser.tell_end(tenant, tenant.ends_at, told_rows);
    RETURN tenant.ends_at;
END
$$;
REVOKE ALL ON FUNCTION leyser.confirm_termination(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirm_termination(text) IS
    'operator, another than who requested it: puts a termination in force; where its moment has passed, at once; returns the moment; 42501 for the same role or session, 42704 for an unknown tenant, LY008 where nothing waits';

CREATE FUNCTION leyser.cancel_termination(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(cancel_termination.tenant_id);
    termination leyser.termination_record;
BEGIN
    IF tenant.state IN ('active', 'suspended', 'terminating') THEN
        DELETE FROM leyser.termination_record r WHERE r.tenant_id = tenant.tenant_id RETURNING r.* INTO termination;
    END IF;
    IF termination.tenant_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no termination to cancel',
            DETAIL = CASE WHEN tenant.ends_at IS NULL THEN format('The tenant is %s.', tenant.state)
                          ELSE format('The tenant is %s: its contract ended at %s.', tenant.state, leyser.told_moment(tenant.ends_at)) END,
            HINT = 'A contract that has ended stays ended; see view leyser.contract.';
    END IF;
    IF tenant.state = 'terminating' THEN
        PERFORM leyser.move_tenant(tenant.tenant_id, '{terminating}', termination.from_state);
        UPDATE leyser.tenant_record t SET ends_at = NULL, is_suspended = false WHERE t.tenant_id = tenant.tenant_id;
    END IF;
    PERFORM leyser.record_event('contract.cancelled', tenant.tenant_id, NULL,
        jsonb_build_object('effective_at', termination.effective_at, 'requested_by', termination.requested_by));
END
$$;
REVOKE ALL ON FUNCTION leyser.cancel_termination(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.cancel_termination(text) IS
    'operator: takes a termination back before its moment; the tenant is what it was; 42704 for an unknown tenant, LY008 where its contract has no end or has ended';
