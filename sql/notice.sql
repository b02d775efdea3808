-- Notices: upgrades and maintenance that are told before, incidents, and what is said
-- of them later.  Each change is kept, read by tenants, and mailed.

CREATE FUNCTION leyser.lock_notice(notice_id bigint) RETURNS leyser.notice_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    notice leyser.notice_record;
BEGIN
    SELECT n.* INTO notice FROM leyser.notice_record n WHERE n.notice_id = lock_notice.notice_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'notice does not exist', DETAIL = 'No notice has this id.', HINT = 'See view leyser.notice.';
    END IF;
    IF notice.ended_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the notice has ended', DETAIL = format('It ended at %s.', leyser.told_time(notice.ended_at)),
            HINT = 'Announce another one.';
    END IF;
    RETURN notice;
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_notice(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_notice(bigint) IS
    'internal: a notice that has not ended, locked; 42704 for an unknown one, LY008 for one that has ended';

-- ---- times ----

CREATE FUNCTION leyser.is_short_notice(kind text, starts_at timestamptz) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT kind <> 'incident' AND starts_at < leyser.shift_in_utc(clock_timestamp(), (leyser.present_notice_policy()).lead_time)
$$;
REVOKE ALL ON FUNCTION leyser.is_short_notice(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_short_notice(text, timestamptz) IS
    'internal: whether upgrade or maintenance begin before the policy''s lead time is over';

-- Feeds and pages have four digits for a year.
CREATE FUNCTION leyser.check_notice_year(argument text, moment timestamptz) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF moment < '0001-01-01 00:00Z' OR moment >= '10000-01-01 00:00Z' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('invalid %s', argument), DETAIL = 'Its year, in UTC, is not one from 1 to 9999.',
            HINT = 'Look for a slip of the pen: a year has up to four digits.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_notice_year(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_notice_year(text, timestamptz) IS 'internal: 22023 for a moment that is in no year from 1 to 9999';

CREATE FUNCTION leyser.check_notice_start(kind text, starts_at timestamptz, short_notice_reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN starts_at IS NULL OR NOT isfinite(starts_at) THEN 'It is missing, or infinite.'
        WHEN kind = 'incident' AND starts_at > clock_timestamp() THEN 'An incident does not begin in the future.'
        WHEN kind <> 'incident' AND starts_at <= clock_timestamp() THEN 'It is past.' END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid starts_at', DETAIL = problem,
            HINT = 'Upgrades and maintenance are announced before they start, incidents afterwards.';
    END IF;
    PERFORM leyser.check_notice_year('starts_at', starts_at);
    PERFORM leyser.check_line('short_notice_reason', short_notice_reason, false);
    IF leyser.is_short_notice(kind, starts_at) AND coalesce(btrim(short_notice_reason), '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the start is sooner than the lead time of the policy',
            DETAIL = format('It must be %s at the earliest.',
                leyser.told_time(leyser.shift_in_utc(clock_timestamp(), (leyser.present_notice_policy()).lead_time))),
            HINT = 'Choose a later time; where it cannot wait, give short_notice_reason, which is recorded.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_notice_start(text, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_notice_start(text, timestamptz, text) IS
    'internal: 22023 for a start that is past, in no year of four digits, or too soon without a reason';

CREATE FUNCTION leyser.check_notice_end(starts_at timestamptz, ends_at timestamptz) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT isfinite(ends_at) OR ends_at <= starts_at THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid ends_at', DETAIL = 'It is not after the start, or infinite.',
            HINT = 'Leave it out where nobody knows the end yet.';
    END IF;
    PERFORM leyser.check_notice_year('ends_at', ends_at);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_notice_end(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_notice_end(timestamptz, timestamptz) IS 'internal: 22023 for an end that is not after the start, or in no year of four digits';

-- ---- the tenants that it affects ----

CREATE FUNCTION leyser.check_notice_readers(published boolean, tenants text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT published AND cardinality(tenants) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a notice that affects all tenants is published',
            DETAIL = 'It names no affected tenants, so all of them read it, and what was said before.',
            HINT = 'Name those that it affects in affected_tenants, or say published => true.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_notice_readers(boolean, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_notice_readers(boolean, text[]) IS
    'internal: 22023 for a notice that would be kept from others than all tenants';

CREATE FUNCTION leyser.set_notice_tenants(notice_id bigint, tenants text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM unnest(tenants) t (tenant_id)
               WHERE NOT EXISTS (SELECT FROM leyser.tenant r WHERE r.tenant_id = t.tenant_id AND r.state IN ('active', 'suspended', 'terminating'))) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist', DETAIL = 'An affected tenant is unknown, or its contract has ended.',
            HINT = 'See view leyser.tenant.';
    END IF;
    DELETE FROM leyser.notice_tenant t WHERE t.notice_id = set_notice_tenants.notice_id;
    INSERT INTO leyser.notice_tenant (notice_id, tenant_id)
        SELECT DISTINCT set_notice_tenants.notice_id, t.tenant_id FROM unnest(tenants) t (tenant_id);
    UPDATE leyser.notice_record n SET everybody = cardinality(tenants) = 0 WHERE n.notice_id = set_notice_tenants.notice_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.set_notice_tenants(bigint, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_notice_tenants(bigint, text[]) IS
    'internal: the tenants that a notice affects, {} for all; 42704 for an unknown one';

-- ---- a change ----

CREATE FUNCTION leyser.add_notice_change(notice leyser.notice_record, change text, short_notice_reason text,
                                         language text, subject text, body text, translations jsonb)
    RETURNS integer
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_number integer := (SELECT coalesce(max(c.number) + 1, 0) FROM leyser.notice_change c WHERE c.notice_id = notice.notice_id);
    mails bigint;
BEGIN
    UPDATE leyser.notice_record n SET severity = notice.severity, starts_at = notice.starts_at, ends_at = notice.ends_at,
            ended_at = notice.ended_at, published = notice.published, changes = new_number
        WHERE n.notice_id = notice.notice_id;
    INSERT INTO leyser.notice_change (notice_id, number, change, changed_by, severity, starts_at, ends_at, short_notice_reason, lead_time)
        SELECT notice.notice_id, new_number, add_notice_change.change, leyser.caller()::text, notice.severity, notice.starts_at, notice.ends_at,
               nullif(btrim(add_notice_change.short_notice_reason), ''), p.lead_time
        FROM leyser.present_notice_policy() p;
    INSERT INTO leyser.notice_text (notice_id, number, language, subject, body)
        SELECT notice.notice_id, new_number, t.text_language, t.text_subject, t.text_body
        FROM leyser.notice_texts(add_notice_change.language, add_notice_change.subject, add_notice_change.body,
                                 add_notice_change.translations) t;
    mails := leyser.queue_mails(notice.notice_id, new_number);
    PERFORM leyser.record_event(format('notice.%s', add_notice_change.change), NULL, notice.notice_id::text, jsonb_strip_nulls(jsonb_build_object(
        'kind', notice.kind, 'severity', notice.severity, 'number', new_number, 'starts_at', notice.starts_at, 'ends_at', notice.ends_at,
        'ended_at', notice.ended_at, 'published', notice.published, 'short_notice_reason', add_notice_change.short_notice_reason, 'mails', mails)));
    RETURN new_number;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_notice_change(leyser.notice_record, text, text, text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_notice_change(leyser.notice_record, text, text, text, text, text, jsonb) IS
    'internal: writes down a notice as it is now and the words of its change, queues the mails and returns the change''s number; 22023 for words that cannot be';

CREATE FUNCTION leyser.announce(kind text, severity text, subject text, body text,
                                starts_at timestamptz DEFAULT NULL, ends_at timestamptz DEFAULT NULL,
                                language text DEFAULT 'en', translations jsonb DEFAULT '{}', affected_tenants text[] DEFAULT '{}',
                                published boolean DEFAULT true, short_notice_reason text DEFAULT NULL)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    starts timestamptz := coalesce(announce.starts_at, CASE WHEN announce.kind = 'incident' THEN clock_timestamp() END);
    notice leyser.notice_record;
    reason text;
BEGIN
    IF (announce.kind IN ('upgrade', 'maintenance', 'incident')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown kind of notice', DETAIL = 'Kinds are upgrade, maintenance and incident.',
            HINT = 'Give one of them.';
    END IF;
    PERFORM leyser.check_severity(announce.severity);
    PERFORM leyser.check_notice_readers(announce.published, coalesce(announce.affected_tenants, '{}'));
    PERFORM leyser.check_notice_start(announce.kind, starts, announce.short_notice_reason);
    PERFORM leyser.check_notice_end(starts, announce.ends_at);
    reason := CASE WHEN leyser.is_short_notice(announce.kind, starts) THEN announce.short_notice_reason END;
    INSERT INTO leyser.notice_record (kind, severity, starts_at, ends_at, published, everybody, announced_by)
        VALUES (announce.kind, announce.severity, starts, announce.ends_at, coalesce(announce.published, true), true, leyser.caller()::text)
        RETURNING * INTO notice;
    PERFORM leyser.set_notice_tenants(notice.notice_id, coalesce(announce.affected_tenants, '{}'));
    PERFORM leyser.add_notice_change(notice, 'announced', reason, announce.language, announce.subject, announce.body, announce.translations);
    RETURN notice.notice_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.announce(text, text, text, text, timestamptz, timestamptz, text, jsonb, text[], boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.announce(text, text, text, text, timestamptz, timestamptz, text, jsonb, text[], boolean, text) IS
    'operator: announces an upgrade, maintenance or an incident (its start: now, unless it is given), queues the mails to the audience of the severity and returns its notice_id; language (en, ja) is that of subject and body, translations {"ja": {"subject": …, "body": …}}; affected_tenants {}: all; published: all tenants and the feed show it, else the affected ones do, which must be named; short_notice_reason: why it cannot wait for the policy''s lead time; 22023 for a kind, severity, language, text or time that cannot be, or too short notice without a reason, 42704 for an unknown tenant';

CREATE FUNCTION leyser.update_notice(notice_id bigint, subject text, body text, severity text DEFAULT NULL,
                                     starts_at timestamptz DEFAULT NULL, ends_at timestamptz DEFAULT NULL,
                                     language text DEFAULT 'en', translations jsonb DEFAULT '{}', affected_tenants text[] DEFAULT NULL,
                                     short_notice_reason text DEFAULT NULL, published boolean DEFAULT NULL)
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    notice leyser.notice_record := leyser.lock_notice(update_notice.notice_id);
    reason text;
BEGIN
    notice.severity := coalesce(update_notice.severity, notice.severity);
    PERFORM leyser.check_severity(notice.severity);
    IF update_notice.starts_at <> notice.starts_at THEN
        PERFORM leyser.check_notice_start(notice.kind, update_notice.starts_at, update_notice.short_notice_reason);
        reason := CASE WHEN leyser.is_short_notice(notice.kind, update_notice.starts_at) THEN update_notice.short_notice_reason END;
        notice.starts_at := update_notice.starts_at;
    END IF;
    notice.ends_at := coalesce(update_notice.ends_at, notice.ends_at);
    PERFORM leyser.check_notice_end(notice.starts_at, notice.ends_at);
    IF notice.published AND NOT update_notice.published THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a published notice stays published', DETAIL = 'All tenants have read it, and the feed has carried it.',
            HINT = 'Leave published out, and say what is new in the words.';
    END IF;
    notice.published := coalesce(update_notice.published, notice.published);
    PERFORM leyser.check_notice_readers(notice.published, update_notice.affected_tenants);
    IF update_notice.affected_tenants IS NOT NULL THEN
        PERFORM leyser.set_notice_tenants(notice.notice_id, update_notice.affected_tenants);
    END IF;
    RETURN leyser.add_notice_change(notice, 'updated', reason, update_notice.language, update_notice.subject, update_notice.body,
                                    update_notice.translations);
END
$$;
REVOKE ALL ON FUNCTION leyser.update_notice(bigint, text, text, text, timestamptz, timestamptz, text, jsonb, text[], text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.update_notice(bigint, text, text, text, timestamptz, timestamptz, text, jsonb, text[], text, boolean) IS
    'operator: says something new of a notice, queues the mails and returns the number of the change; what is left out stays, a new start is judged as an announcement''s; published true: from now on all tenants and the feed show it, with all that was said before; affected_tenants {}: all, where it is published; mail goes to the audience of the severity and to whoever had mail of this notice and still reads it; 22023 as announce(), and for published false where it is, 42704 for an unknown notice or tenant, LY008 for one that has ended';

CREATE FUNCTION leyser.end_notice(notice_id bigint, subject text, body text, ended_at timestamptz DEFAULT NULL,
                                  language text DEFAULT 'en', translations jsonb DEFAULT '{}')
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    notice leyser.notice_record := leyser.lock_notice(end_notice.notice_id);
    problem text;
BEGIN
    notice.ended_at := coalesce(end_notice.ended_at, clock_timestamp());
    problem := CASE
        WHEN NOT isfinite(notice.ended_at) OR notice.ended_at > clock_timestamp() THEN 'It lies in the future, or is infinite.'
        WHEN notice.kind = 'incident' AND notice.ended_at < notice.starts_at THEN 'It lies before the start of the incident.'
        WHEN notice.kind <> 'incident' AND end_notice.ended_at < notice.announced_at THEN 'It lies before the announcement.' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid ended_at', DETAIL = problem,
            HINT = 'Leave it out where it has ended now; an end before the start of upgrade or maintenance calls them off.';
    END IF;
    RETURN leyser.add_notice_change(notice, 'ended', NULL, end_notice.language, end_notice.subject, end_notice.body,
                                    end_notice.translations);
END
$$;
REVOKE ALL ON FUNCTION leyser.end_notice(bigint, text, text, timestamptz, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_notice(bigint, text, text, timestamptz, text, jsonb) IS
    'operator: a notice has ended (now, or when ended_at says), or is called off before its start; queues the mails, as update_notice(), and returns the number of the change; 22023 for words that cannot be, or an end in the future, before the start of an incident or before upgrade or maintenance was announced, 42704 for an unknown notice, LY008 for one that has ended';

-- ---- who reads what ----

CREATE VIEW leyser.notice AS
    SELECT n.notice_id, n.kind, n.severity,
           CASE WHEN n.ended_at < n.starts_at THEN 'called off' WHEN n.ended_at IS NOT NULL THEN 'ended'
                WHEN n.starts_at > clock_timestamp() THEN 'announced' WHEN n.ends_at <= clock_timestamp() THEN 'overdue'
                ELSE 'current' END AS state,
           n.starts_at, n.ends_at, n.ended_at, n.published, n.announced_at, n.announced_by, f.lead_time,
           (SELECT c.short_notice_reason FROM leyser.notice_change c
            WHERE c.notice_id = n.notice_id AND c.short_notice_reason IS NOT NULL ORDER BY c.number DESC LIMIT 1) AS short_notice_reason,
           n.changes, (SELECT count(*) FROM leyser.notice_tenant a WHERE a.notice_id = n.notice_id) AS affected_tenants, n.everybody,
           t.language, t.subject, t.body
    FROM leyser.notice_record n
    JOIN leyser.notice_change f ON f.notice_id = n.notice_id AND f.number = 0
    LEFT JOIN LATERAL (SELECT x.language, x.subject, x.body FROM leyser.notice_text x
                       WHERE x.notice_id = n.notice_id AND x.number = n.changes ORDER BY x.language LIMIT 1) t ON true;
COMMENT ON VIEW leyser.notice IS
    'upgrades, maintenance and incidents (operator, auditor): announced, current, overdue (the planned end is past, and nobody has said that it ended), ended or called off; lead_time is what the policy asked for when it was announced; the words are the last ones, in English where there are such';

CREATE VIEW leyser.notice_update AS
    SELECT c.notice_id, c.number, c.change, c.at, c.changed_by, c.severity, c.starts_at, c.ends_at, c.short_notice_reason,
           t.language, t.subject, t.body
    FROM leyser.notice_change c JOIN leyser.notice_text t ON t.notice_id = c.notice_id AND t.number = c.number;
COMMENT ON VIEW leyser.notice_update IS
    'all that was said of notices (operator, auditor): announcement (number 0), updates and end, a row for each language';

-- A tenant that is not named learns of a published notice, and not whom it affects.
CREATE VIEW leyser.tenant_notice WITH (security_barrier) AS
    SELECT n.notice_id, n.kind, c.number, c.change, c.at, c.severity, c.starts_at, c.ends_at, n.ended_at,
           n.everybody OR EXISTS (SELECT FROM leyser.notice_tenant a WHERE a.tenant_id = leyser.tenant_id() AND a.notice_id = n.notice_id) AS affected,
           t.language, t.subject, t.body
    FROM leyser.notice_record n
    JOIN leyser.notice_change c ON c.notice_id = n.notice_id
    JOIN leyser.notice_text t ON t.notice_id = c.notice_id AND t.number = c.number
    WHERE leyser.tenant_id() IS NOT NULL AND (n.published OR n.everybody
          OR EXISTS (SELECT FROM leyser.notice_tenant a WHERE a.tenant_id = leyser.tenant_id() AND a.notice_id = n.notice_id));
COMMENT ON VIEW leyser.tenant_notice IS
    'what the context''s tenant was told (application): published notices, and those that affect it, a row for each change and language; LY001 without a context';
