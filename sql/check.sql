-- The security check: rules over the catalogues and the registry, each a set, so that it
-- takes a second over thousands of policies.
--
-- A family of rules is a function that tells what they are, and one that tells what they
-- find; nothing else knows of a rule.

CREATE FUNCTION leyser.list_rules()
    RETURNS TABLE (check_id text, family text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.check_id, split_part(r.check_id, '.', 1), r.severity, r.fails, r.what, r.why, r.example, r.remedy FROM (
        SELECT * FROM leyser.bypass_rules()
        UNION ALL SELECT * FROM leyser.bypass_read_rules()
        UNION ALL SELECT * FROM leyser.governed_rules()
        UNION ALL SELECT * FROM leyser.leak_rules()
        UNION ALL SELECT * FROM leyser.widen_rules()
        UNION ALL SELECT * FROM leyser.token_rules()
        UNION ALL SELECT * FROM leyser.key_rules()
        UNION ALL SELECT * FROM leyser.performance_rules()
        UNION ALL SELECT * FROM leyser.copy_rules()
        UNION ALL SELECT * FROM leyser.server_rules()
        UNION ALL SELECT * FROM leyser.server_setting_rules()
        UNION ALL SELECT * FROM leyser.environment_rules()
    ) r
$$;
REVOKE ALL ON FUNCTION leyser.list_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_rules() IS 'internal: the rows of view check_rule';

CREATE VIEW leyser.check_rule AS
    SELECT r.check_id, r.family, r.severity, r.fails, r.what, r.why, r.example, r.remedy FROM leyser.list_rules() r;
COMMENT ON VIEW leyser.check_rule IS
    'the rules of check_security(): id, family, severity (critical, high, medium, low), how it fails (open: somebody may see or change more than they should; closed: something is refused or stops; none), what it says and why, SQL that makes it fire on a small schema, and the form of its remedy (operator, auditor)';

-- What a family is not asked for is not computed.
-- Conditions of policies are compared as they are printed.
CREATE FUNCTION leyser.list_findings(family text) RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $$
    SELECT * FROM leyser.bypass_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'bypass'
    UNION ALL SELECT * FROM leyser.bypass_view_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'bypass'
    UNION ALL SELECT * FROM leyser.bypass_function_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'bypass'
    UNION ALL SELECT * FROM leyser.bypass_right_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'bypass'
    UNION ALL SELECT * FROM leyser.governed_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'governed'
    UNION ALL SELECT * FROM leyser.governed_part_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'governed'
    UNION ALL SELECT * FROM leyser.leak_key_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'leak'
    UNION ALL SELECT * FROM leyser.leak_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'leak'
    UNION ALL SELECT * FROM leyser.widen_policy_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'widen'
    UNION ALL SELECT * FROM leyser.widen_right_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'widen'
    UNION ALL SELECT * FROM leyser.widen_function_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'widen'
    UNION ALL SELECT * FROM leyser.token_setting_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'token'
    UNION ALL SELECT * FROM leyser.token_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'token'
    UNION ALL SELECT * FROM leyser.key_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'key'
    UNION ALL SELECT * FROM leyser.key_duty_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'key'
    UNION ALL SELECT * FROM leyser.key_own_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'key'
    UNION ALL SELECT * FROM leyser.performance_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'performance'
    UNION ALL SELECT * FROM leyser.replication_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'replication'
    UNION ALL SELECT * FROM leyser.cron_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'job'
    UNION ALL SELECT * FROM leyser.job_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'job'
    UNION ALL SELECT * FROM leyser.server_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'server'
    UNION ALL SELECT * FROM leyser.server_setting_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'server'
    UNION ALL SELECT * FROM leyser.door_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'server'
    UNION ALL SELECT * FROM leyser.environment_findings() WHERE list_findings.family IS NULL OR list_findings.family = 'server'
$$;
REVOKE ALL ON FUNCTION leyser.list_findings(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_findings(text) IS
    'internal: what the rules find, waived or not; NULL: of all families';

CREATE FUNCTION leyser.check_security(family text DEFAULT NULL)
    RETURNS TABLE (check_id text, severity text, object text, finding text, remedy text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF check_security.family IS NOT NULL AND NOT EXISTS (SELECT FROM leyser.list_rules() r WHERE r.family = check_security.family) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown family of rules',
            DETAIL = format('Families are %s.', (SELECT string_agg(DISTINCT r.family, ', ') FROM leyser.list_rules() r)),
            HINT = 'Leave it out for all of them; view leyser.check_rule lists the rules.';
    END IF;
    RETURN QUERY
        SELECT f.check_id, r.severity, f.object, f.finding, f.remedy
        FROM leyser.list_findings(check_security.family) f
        JOIN leyser.list_rules() r ON r.check_id = f.check_id
        WHERE NOT EXISTS (SELECT FROM leyser.waiver_record w
                          WHERE w.check_id = f.check_id AND w.object = f.object AND w.valid_until > clock_timestamp())
        ORDER BY array_position('{critical,high,medium,low}', r.severity), f.check_id, f.object;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_security(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_security(text) IS
    'operator, auditor: what is wrong with the separation of tenants now, worst first, each with SQL to paste for whoever owns the object; without findings that are waived; of one family (view check_rule) where that is given, 22023 for an unknown one; no tenant''s rows or names';

-- ---- waivers ----

CREATE FUNCTION leyser.check_waiver_text(reason text, until timestamptz) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(btrim(check_waiver_text.reason), '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a reason is missing',
            DETAIL = 'Auditors read why a finding is accepted.',
            HINT = 'Give reason => ''…''.';
    END IF;
    IF (until > clock_timestamp() AND until <= clock_timestamp() + interval '366 days') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a waiver ends within a year',
            DETAIL = 'Its end must be ahead, and at most 366 days away.',
            HINT = 'For example until => now() + interval ''90 days''.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_waiver_text(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_waiver_text(text, timestamptz) IS 'internal: 22023 for a waiver without reason or end';

CREATE FUNCTION leyser.waive_check(check_id text, object text, reason text, until timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    family text := (SELECT r.family FROM leyser.list_rules() r WHERE r.check_id = waive_check.check_id);
BEGIN
    IF family IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'unknown rule',
            DETAIL = 'No rule of the security check has this id.',
            HINT = 'View leyser.check_rule lists the rules.';
    END IF;
    PERFORM leyser.check_waiver_text(waive_check.reason, waive_check.until);
    IF NOT EXISTS (SELECT FROM leyser.list_findings(family) f WHERE f.check_id = waive_check.check_id AND f.object = waive_check.object) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no such finding',
            DETAIL = 'What is not found cannot be waived.',
            HINT = 'Give the object as leyser.check_security() names it.';
    END IF;
    INSERT INTO leyser.waiver_record (check_id, object, reason, waived_by, valid_until)
        VALUES (waive_check.check_id, waive_check.object, waive_check.reason, leyser.caller()::text, waive_check.until)
        ON CONFLICT (check_id, object) DO UPDATE SET reason = excluded.reason, waived_by = excluded.waived_by,
            waived_at = excluded.waived_at, valid_until = excluded.valid_until;
    PERFORM leyser.record_event('check.waived', NULL, waive_check.object,
        jsonb_build_object('check_id', waive_check.check_id, 'reason', waive_check.reason, 'until', waive_check.until));
END
$$;
REVOKE ALL ON FUNCTION leyser.waive_check(text, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.waive_check(text, text, text, timestamptz) IS
    'operator: accepts a finding until then, with a reason that auditors read; another call replaces both; afterwards check_security() shows it again; 22023 without a reason, or an end that is not within a year; 42704 unknown rule; LY008 there is no such finding';

CREATE FUNCTION leyser.lift_waiver(check_id text, object text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM leyser.waiver_record w WHERE w.check_id = lift_waiver.check_id AND w.object = lift_waiver.object;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no such waiver',
            DETAIL = 'Nobody waived this finding.',
            HINT = 'See view leyser.check_waiver.';
    END IF;
    PERFORM leyser.record_event('check.waiver_lifted', NULL, lift_waiver.object, jsonb_build_object('check_id', lift_waiver.check_id));
END
$$;
REVOKE ALL ON FUNCTION leyser.lift_waiver(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lift_waiver(text, text) IS
    'operator: ends a waiver before its time; LY008 where there is none';

CREATE VIEW leyser.check_waiver AS
    SELECT w.check_id, w.object, w.reason, w.waived_by, w.waived_at, w.valid_until, w.valid_until > pg_catalog.clock_timestamp() AS is_valid
    FROM leyser.waiver_record w;
COMMENT ON VIEW leyser.check_waiver IS
    'findings that somebody accepted: who, why, and until when (operator, auditor)';

-- ---- what was seen when ----

-- An event is told once a finding that fails open is there and not waived: also when its
-- waiver ends, and when it comes back.
CREATE FUNCTION leyser.note_findings() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen_at timestamptz := clock_timestamp();
    one record;
    told integer := 0;
BEGIN
    INSERT INTO leyser.finding_record AS r (check_id, object, finding, first_seen, last_seen)
        SELECT DISTINCT ON (f.check_id, f.object) f.check_id, f.object, f.finding, seen_at, seen_at
        FROM leyser.list_findings(NULL) f ORDER BY f.check_id, f.object, f.finding
        ON CONFLICT (check_id, object) DO UPDATE SET finding = excluded.finding, last_seen = seen_at, gone_at = NULL;
    UPDATE leyser.finding_record r SET gone_at = seen_at, told_at = NULL WHERE r.last_seen < seen_at AND r.gone_at IS NULL;
    FOR one IN
        UPDATE leyser.finding_record r SET told_at = seen_at
            FROM leyser.list_rules() k
            WHERE k.check_id = r.check_id AND k.fails = 'open' AND r.gone_at IS NULL AND r.told_at IS NULL
              AND NOT EXISTS (SELECT FROM leyser.waiver_record w
                              WHERE w.check_id = r.check_id AND w.object = r.object AND w.valid_until > seen_at)
            RETURNING r.check_id, r.object, r.finding, k.severity LOOP
        PERFORM leyser.record_event('check.found', NULL, one.object,
            jsonb_build_object('check_id', one.check_id, 'severity', one.severity, 'finding', one.finding));
        told := told + 1;
    END LOOP;
    DELETE FROM leyser.finding_record r WHERE r.gone_at < seen_at - interval '1 year';
    RETURN (SELECT format('findings: %s, new ones that fail open: %s', count(*), told) FROM leyser.finding_record r WHERE r.gone_at IS NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.note_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_findings() IS
    'internal: job check security: notes what is found, since when, and what is gone; a new finding that fails open is an event';

CREATE VIEW leyser.check_finding AS
    SELECT f.check_id, r.severity, r.fails, f.object, f.finding, f.first_seen, f.last_seen, f.gone_at,
           CASE WHEN w.valid_until > pg_catalog.clock_timestamp() THEN w.valid_until END AS waived_until
    FROM leyser.finding_record f
    LEFT JOIN leyser.list_rules() r ON r.check_id = f.check_id
    LEFT JOIN leyser.waiver_record w ON w.check_id = f.check_id AND w.object = f.object;
COMMENT ON VIEW leyser.check_finding IS
    'what the nightly check has seen: first and last when, and since when it is gone (for a year); waived ones too (operator, auditor)';
