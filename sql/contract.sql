-- Contracts: their end, at a moment that is said before.
--
-- The tenant is locked out by the clock (src/cache_tenant.c), whether anybody
-- looks or not.  That the contract is over is written down by whoever looks first:
-- each function here begins with settle_contract(), which also locks the tenant's
-- row, so of two that decide about a contract one comes after the other.

-- ---- the policy ----

CREATE FUNCTION leyser.contract_time_zone() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT p.contract_time_zone FROM leyser.contract_policy p), 'Asia/Tokyo')
$$;
REVOKE ALL ON FUNCTION leyser.contract_time_zone() FROM PUBLIC;
COMMENT ON FUNCTION leyser.contract_time_zone() IS
    'internal: the time zone in which a contract''s last day ends';

-- Abbreviations are refused, and what the server would read as a POSIX zone: it
-- takes any letters with an offset, with the sign the other way round.
CREATE FUNCTION leyser.set_contract_time_zone(time_zone text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former text := leyser.contract_time_zone();
BEGIN
    IF time_zone IS NULL OR time_zone NOT IN (SELECT z.name FROM pg_timezone_names z) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown time zone',
            DETAIL = 'It is none of the names that the server knows.',
            HINT = 'See view pg_timezone_names; for example Asia/Tokyo.';
    END IF;
    INSERT INTO leyser.contract_policy (contract_time_zone) VALUES (time_zone)
        ON CONFLICT (singleton) DO UPDATE SET contract_time_zone = excluded.contract_time_zone;
    PERFORM leyser.record_event('contract.time_zone_set', NULL, time_zone, jsonb_build_object('former', former));
END
$$;
REVOKE ALL ON FUNCTION leyser.set_contract_time_zone(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_contract_time_zone(text) IS
    'operator: the time zone in which the last day of a contract ends, of those announced from now on; 22023 for a name that the server does not know';

-- ---- what time has brought ----

CREATE FUNCTION leyser.settle_contract(tenant_id text) RETURNS leyser.tenant_record
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present leyser.tenant_record;
BEGIN
    SELECT t.* INTO present FROM leyser.tenant_record t
        WHERE t.tenant_id = settle_contract.tenant_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    IF present.state <> 'terminating' OR present.ends_at > clock_timestamp() THEN
        RETURN present;
    END IF;
    PERFORM leyser.move_tenant(present.tenant_id, '{terminating}', 'terminated');
    PERFORM leyser.record_event('contract.ended', present.tenant_id, NULL, jsonb_build_object('ends_at', present.ends_at));
    IF EXISTS (SELECT FROM leyser.hold_record h WHERE h.tenant_id = present.tenant_id) THEN
        PERFORM leyser.move_tenant(present.tenant_id, '{terminated}', 'held');
    END IF;
    UPDATE leyser.tenant_record t SET state_since = t.ends_at WHERE t.tenant_id = present.tenant_id
        RETURNING t.* INTO present;
    RETURN present;
END
$$;
REVOKE ALL ON FUNCTION leyser.settle_contract(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.settle_contract(text) IS
    'internal: locks a tenant, writes down that its contract has ended where that is so, and returns it; 42704 for an unknown one';

CREATE FUNCTION leyser.contract_has_ended(tenant_id text) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.tenant t WHERE t.tenant_id = contract_has_ended.tenant_id
                   AND t.state IN ('terminated', 'held', 'erased'))
$$;
REVOKE ALL ON FUNCTION leyser.contract_has_ended(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.contract_has_ended(text) IS
    'internal: whether a tenant''s contract is over, erased or not; false for an unknown tenant';

CREATE FUNCTION leyser.refuse_ended_contract(tenant_id text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text := (SELECT t.state FROM leyser.tenant t WHERE t.tenant_id = refuse_ended_contract.tenant_id);
BEGIN
    IF present IN ('terminated', 'held', 'erased') THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant''s contract has ended',
            DETAIL = format('The tenant is %s: nothing is stored for it any longer.', present),
            HINT = 'A new contract begins with a new tenant: leyser.create_tenant().';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_ended_contract(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_ended_contract(text) IS
    'internal: LY008 for a tenant whose contract has ended; nothing for an unknown one';

-- The purge's door: a due purge of a tenant that nobody holds.
CREATE FUNCTION leyser.purge_from(ends_at timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT ends_at + current_setting('leyser.purge_delay')::interval $$;
REVOKE ALL ON FUNCTION leyser.purge_from(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_from(timestamptz) IS
    'internal: when the purge after a contract''s end may begin: leyser.purge_delay later';

CREATE FUNCTION leyser.require_purgeable(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(tenant_id);
BEGIN
    IF tenant.state <> 'terminated' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a tenant that is %s cannot be purged', tenant.state),
            DETAIL = CASE tenant.state
                WHEN 'held' THEN 'The law demands that its rows be kept.'
                WHEN 'erased' THEN 'It was purged already.'
                WHEN 'terminating' THEN format('Its contract ends at %s.', leyser.told_moment(tenant.ends_at))
                ELSE 'Its contract has no end.' END,
            HINT = CASE tenant.state
                WHEN 'held' THEN 'leyser.release_hold() ends the hold.'
                WHEN 'erased' THEN 'See leyser.purge_report().'
                WHEN 'terminating' THEN 'Call it again then.'
                ELSE 'leyser.terminate_contract() gives it one.' END;
    END IF;
    IF leyser.purge_from(tenant.ends_at) > clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant cannot be purged yet',
            DETAIL = format('leyser.purge_delay holds its purge until %s.', leyser.told_moment(leyser.purge_from(tenant.ends_at))),
            HINT = 'The tenant is locked out meanwhile.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_purgeable(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_purgeable(text) IS
    'internal: locks a tenant and raises LY008 unless its purge may begin now; 42704 for an unknown one';

-- ---- the moment ----

CREATE FUNCTION leyser.told_moment(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(' ', to_char(l.local, 'YYYY-MM-DD HH24:MI:SS'), z.name,
                     CASE WHEN l.local = date_trunc('day', l.local) THEN
                          format('(the end of %s)', to_char(l.local - interval '1 day', 'YYYY-MM-DD')) END,
                     '=', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), 'UTC')
    FROM leyser.contract_time_zone() z (name) CROSS JOIN LATERAL (SELECT moment AT TIME ZONE z.name) l (local)
$$;
REVOKE ALL ON FUNCTION leyser.told_moment(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_moment(timestamptz) IS
    'internal: a moment as people of the contract and of the server read it';

-- The end of a day: the first moment of the next one.
CREATE FUNCTION leyser.end_of_day(last_day date) RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (last_day + 1)::timestamp AT TIME ZONE leyser.contract_time_zone() $$;
REVOKE ALL ON FUNCTION leyser.end_of_day(date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_of_day(date) IS
    'internal: when a day ends in the contract time zone';

-- A day means its end; a time needs a zone; all else could be read in two ways.
CREATE FUNCTION leyser.contract_moment(told text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    trimmed text := btrim(told);
BEGIN
    IF trimmed IS NULL THEN
        RETURN NULL;
    ELSIF trimmed ~ '^\d{4}-\d{2}-\d{2}$' THEN
        RETURN leyser.end_of_day(trimmed::date);
    ELSIF lower(trimmed) = 'now'
       OR trimmed ~ '^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?([Zz]| ?[+-]\d{2}(:?\d{2})?)$'
       OR substring(trimmed FROM '^\d{4}-\d{2}-\d{2} \d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)? (.+)$')
          IN (SELECT z.name FROM pg_timezone_names z) THEN
        RETURN trimmed::timestamptz;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'invalid_datetime_format',
        MESSAGE = 'effective_at says no day and no moment',
        DETAIL = 'It is neither a day in the form YYYY-MM-DD, which means its end, nor a time with a time zone.',
        HINT = format('For example ''2026-12-31'', ''2026-12-31 18:00 %s'', ''2026-12-31 09:00Z'', or ''now''.',
                      leyser.contract_time_zone());
EXCEPTION WHEN datetime_field_overflow THEN
    RAISE EXCEPTION USING ERRCODE = 'datetime_field_overflow',
        MESSAGE = 'effective_at is no day of the calendar, or no time of a day',
        DETAIL = format('It says %s.', trimmed),
        HINT = 'Give a day that there is.';
END
$$;
REVOKE ALL ON FUNCTION leyser.contract_moment(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.contract_moment(text) IS
    'internal: what a text says about a contract''s end; 22007 where it could mean two things, 22008 for a day that is none';

-- now() of a transaction that took longer is good, too.
CREATE FUNCTION leyser.check_effective_at(effective_at timestamptz) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF effective_at IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'effective_at must not be null',
            DETAIL = 'A contract''s end must be said.',
            HINT = 'Give a day (its end is meant), a moment, or now().';
    END IF;
    -- later ones overflow where a delay is added; a year ends at different moments
    IF NOT isfinite(effective_at) OR effective_at >= '10000-01-02 00:00Z' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'effective_at is no moment',
            DETAIL = 'It is infinite, or after the year 9999.',
            HINT = 'Give a day (its end is meant), a moment, or now().';
    END IF;
    IF effective_at < now() - interval '1 minute' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'effective_at lies in the past',
            DETAIL = format('It is %s; the tenant has worked since.', leyser.told_moment(effective_at)),
            HINT = 'Give now() to end the contract at once.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_effective_at(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_effective_at(timestamptz) IS
    'internal: 22023 for a contract''s end that lies in the past or nowhere, 22004 for none';
