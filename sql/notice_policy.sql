-- The policy of notices: how long before, in whose name, and who gets mail.

CREATE FUNCTION leyser.present_notice_policy() RETURNS leyser.notice_policy
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p FROM leyser.notice_policy p
    UNION ALL
    SELECT ROW(true, '14 days', NULL, NULL)::leyser.notice_policy
    WHERE NOT EXISTS (SELECT FROM leyser.notice_policy)
$$;
REVOKE ALL ON FUNCTION leyser.present_notice_policy() FROM PUBLIC;
COMMENT ON FUNCTION leyser.present_notice_policy() IS
    'internal: the policy of notices that holds: what was set, or the first values';

-- An address goes into a header and to a program: one address of RFC 5321 without
-- quoted parts, in ASCII.  One that begins with a dash could be an option.
CREATE FUNCTION leyser.mail_address_problem(address text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN address IS NULL OR address = '' THEN 'It is missing.'
        WHEN octet_length(address) > 254 THEN 'It has more than 254 characters.'
        WHEN leyser.has_control_characters(address) THEN 'It has line breaks or other control characters.'
        WHEN address ~ '[^!-~]' THEN 'It has blanks, or characters that are not ASCII.'
        WHEN address !~ '^[^@]{1,64}@[^@]+$' THEN 'It is not one name of up to 64 characters, @ and a domain.'
        WHEN address !~ '^[A-Za-z0-9!#$%&''*+/=?^_`{|}~][A-Za-z0-9!#$%&''*+/=?^_`{|}~-]*([.][A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@'
            THEN 'The part before the @ begins with a dash, or has other characters than a plain name.'
        WHEN address !~* '@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$'
            THEN 'The part after the @ is no name of a domain.'
    END
$$;
REVOKE ALL ON FUNCTION leyser.mail_address_problem(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_address_problem(text) IS
    'internal: why a text is no address that mail is sent to, or NULL';

CREATE FUNCTION leyser.check_mail_address(address text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := leyser.mail_address_problem(address);
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid mail address', DETAIL = problem,
            HINT = 'Give one address, for example status@example.com.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_mail_address(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_mail_address(text) IS 'internal: 22023 for what is no single mail address';

CREATE FUNCTION leyser.set_notice_policy(lead_time interval DEFAULT NULL, mail_sender text DEFAULT NULL, service_name text DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
DECLARE
    former leyser.notice_policy;
    policy leyser.notice_policy;
BEGIN
    LOCK TABLE leyser.notice_policy IN SHARE ROW EXCLUSIVE MODE;
    former := leyser.present_notice_policy();
    policy := former;
    policy.lead_time := justify_hours(coalesce(set_notice_policy.lead_time, policy.lead_time));
    policy.mail_sender := coalesce(set_notice_policy.mail_sender, policy.mail_sender);
    policy.service_name := coalesce(set_notice_policy.service_name, policy.service_name);
    PERFORM leyser.check_span('lead_time', policy.lead_time, '365 days');
    IF policy.mail_sender IS NOT NULL THEN
        PERFORM leyser.check_mail_address(policy.mail_sender);
    END IF;
    PERFORM leyser.check_line('service name', policy.service_name, policy.service_name IS NOT NULL);
    IF length(policy.service_name) > 100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid service name', DETAIL = 'It has more than 100 characters.',
            HINT = 'Give the name that people know the service by.';
    END IF;
    IF policy IS DISTINCT FROM former THEN
        DELETE FROM leyser.notice_policy;
        INSERT INTO leyser.notice_policy SELECT policy.*;
        PERFORM leyser.record_event('notice.policy_set', NULL, NULL, to_jsonb(policy) - 'singleton'
            || jsonb_build_object('former', to_jsonb(former) - 'singleton'));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.set_notice_policy(interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_notice_policy(interval, text, text) IS
    'operator: how long before its start an upgrade or maintenance is announced (at first 14 days), the address that mail comes from, and the service''s name in mails and feeds; what is left out stays; 22023 for a time that is negative or has months, an address or name that cannot be, 55P03 while another call changes it';

-- ---- the audience ----

CREATE FUNCTION leyser.check_severity(severity text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (severity IN ('critical', 'high', 'medium', 'low')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown severity',
            DETAIL = 'Severities are critical, high, medium and low.',
            HINT = 'It decides who gets mail: see leyser.set_notice_audience().';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_severity(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_severity(text) IS 'internal: 22023 for an unknown severity';

CREATE FUNCTION leyser.first_audience() RETURNS SETOF leyser.notice_audience
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('critical', 'all', 'all'), ('high', 'affected', 'all'), ('medium', 'affected', 'affected'), ('low', 'none', 'affected')
$$;
REVOKE ALL ON FUNCTION leyser.first_audience() FROM PUBLIC;
COMMENT ON FUNCTION leyser.first_audience() IS 'internal: who gets mail by severity, until somebody says otherwise';

CREATE FUNCTION leyser.present_audience(severity text) RETURNS leyser.notice_audience
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a FROM leyser.notice_audience a WHERE a.severity = present_audience.severity
    UNION ALL
    SELECT f FROM leyser.first_audience() f
    WHERE f.severity = present_audience.severity
      AND NOT EXISTS (SELECT FROM leyser.notice_audience a WHERE a.severity = present_audience.severity)
$$;
REVOKE ALL ON FUNCTION leyser.present_audience(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.present_audience(text) IS
    'internal: who gets mail of notices of a severity: what was set, or the first values';

CREATE FUNCTION leyser.set_notice_audience(severity text, contract_holders text DEFAULT NULL, extra_contacts text DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former leyser.notice_audience;
    audience leyser.notice_audience;
BEGIN
    PERFORM leyser.check_severity(set_notice_audience.severity);
    former := leyser.present_audience(set_notice_audience.severity);
    audience := former;
    audience.contract_holders := coalesce(set_notice_audience.contract_holders, former.contract_holders);
    audience.extra_contacts := coalesce(set_notice_audience.extra_contacts, former.extra_contacts);
    IF NOT ARRAY[audience.contract_holders, audience.extra_contacts] <@ '{none,affected,all}' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown audience',
            DETAIL = 'Contacts are those of all tenants, of affected ones, or none.',
            HINT = 'Give all, affected or none.';
    END IF;
    INSERT INTO leyser.notice_audience SELECT audience.*
        ON CONFLICT ON CONSTRAINT notice_audience_pkey DO UPDATE
        SET contract_holders = excluded.contract_holders, extra_contacts = excluded.extra_contacts;
    PERFORM leyser.record_event('notice.audience_set', NULL, audience.severity,
        to_jsonb(audience) - 'severity' || jsonb_build_object('former', to_jsonb(former) - 'severity'));
END
$$;
REVOKE ALL ON FUNCTION leyser.set_notice_audience(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_notice_audience(text, text, text) IS
    'operator: whose contract holders and extra contacts get mail of notices of a severity: of all tenants, of affected ones (of all where a notice names none), or of none; the provider''s own extra contacts get it unless that is none; of a notice that is not published, tenants that it does not affect get none; what is left out stays; 22023 for a severity or audience that is none';
