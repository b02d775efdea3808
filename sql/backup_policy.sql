-- The policy of backups: a floor, a ceiling with slack, regions, and the hour.
--
-- All of it is reckoned in UTC.  An interval of days added to a timestamptz would
-- follow the session's time zone over a change of clocks; without a zone it does not.

CREATE FUNCTION leyser.present_backup_policy() RETURNS leyser.backup_policy
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p FROM leyser.backup_policy p
    UNION ALL
    SELECT ROW(true, 7, '7 days', '1 day', '{JP}', '15:00', true)::leyser.backup_policy
    WHERE NOT EXISTS (SELECT FROM leyser.backup_policy)
$$;
REVOKE ALL ON FUNCTION leyser.present_backup_policy() FROM PUBLIC;
COMMENT ON FUNCTION leyser.present_backup_policy() IS
    'internal: the policy of backups that holds: what was set, or the first values';

CREATE FUNCTION leyser.shift_in_utc(moment timestamptz, by interval) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (moment AT TIME ZONE 'UTC' + by) AT TIME ZONE 'UTC' $$;
REVOKE ALL ON FUNCTION leyser.shift_in_utc(timestamptz, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.shift_in_utc(timestamptz, interval) IS
    'internal: a moment so much later, where every day has 24 hours';

-- Months and years have no length of their own.
CREATE FUNCTION leyser.check_span(argument text, span interval, longest interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF extract(year FROM span) <> 0 OR extract(month FROM span) <> 0 OR span < interval '0' OR span > longest THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('invalid %s', argument),
            DETAIL = format('It has months or years, is negative, or is longer than %s days.', extract(day FROM longest)),
            HINT = 'Give days and hours, for example ''7 days''.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_span(text, interval, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_span(text, interval, interval) IS
    'internal: 22023 for an interval that is negative, too long, or has months';

-- The oldest of N daily generations is N days old when the next backup begins, and
-- is needed until that one is complete.
CREATE FUNCTION leyser.check_backup_policy(policy leyser.backup_policy) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    region text;
BEGIN
    IF policy.generations NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid number of generations',
            DETAIL = 'It is not between 1 and 1000.',
            HINT = 'Give how many daily generations are kept at least.';
    END IF;
    PERFORM leyser.check_span('max_age', policy.max_age, '3650 days');
    PERFORM leyser.check_span('slack', policy.slack, '365 days');
    IF policy.max_age + policy.slack <= make_interval(days => policy.generations) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the ceiling would take generations that the floor keeps',
            DETAIL = format('The oldest of %s daily generations is more than %s days old when the next backup is complete.',
                            policy.generations, policy.generations),
            HINT = 'max_age and slack together must be longer than that; or keep fewer generations.';
    END IF;
    IF policy.daily_at = time '24:00' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid daily_at',
            DETAIL = 'A day of UTC has no 24:00.',
            HINT = 'Give a time from 00:00 on, in UTC.';
    END IF;
    FOREACH region IN ARRAY policy.regions || CASE WHEN policy.regions = '{}' THEN '{NULL}'::text[] ELSE '{}' END LOOP
        PERFORM leyser.check_line('region', region, true);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_backup_policy(leyser.backup_policy) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_backup_policy(leyser.backup_policy) IS
    'internal: 22023 for a policy that cannot be kept';

CREATE FUNCTION leyser.set_backup_policy(generations integer DEFAULT NULL, max_age interval DEFAULT NULL, regions text[] DEFAULT NULL,
                                         daily_at time DEFAULT NULL, contract_time_zone text DEFAULT NULL, slack interval DEFAULT NULL, daily_backup boolean DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
DECLARE
    former leyser.backup_policy;
    policy leyser.backup_policy;
BEGIN
    LOCK TABLE leyser.backup_policy IN SHARE ROW EXCLUSIVE MODE;
    former := leyser.present_backup_policy();
    policy := former;
    policy.generations := coalesce(set_backup_policy.generations, policy.generations);
    policy.max_age := justify_hours(coalesce(set_backup_policy.max_age, policy.max_age));
    policy.slack := justify_hours(coalesce(set_backup_policy.slack, policy.slack));
    policy.regions := coalesce(set_backup_policy.regions, policy.regions);
    policy.daily_at := coalesce(set_backup_policy.daily_at, policy.daily_at);
    policy.daily_backup := coalesce(set_backup_policy.daily_backup, policy.daily_backup);
    PERFORM leyser.check_backup_policy(policy);
    IF set_backup_policy.contract_time_zone IS NOT NULL THEN
        PERFORM leyser.set_contract_time_zone(set_backup_policy.contract_time_zone);
    END IF;
    IF policy IS DISTINCT FROM former THEN
        DELETE FROM leyser.backup_policy;
        INSERT INTO leyser.backup_policy SELECT policy.*;
        PERFORM leyser.record_event('backup_policy.set', NULL, NULL, to_jsonb(policy) - 'singleton'
            || jsonb_build_object('former', to_jsonb(former) - 'singleton'));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.set_backup_policy(integer, interval, text[], time, text, interval, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_backup_policy(integer, interval, text[], time, text, interval, boolean) IS
    'operator: how many daily generations are kept at least (1 to 1000), how old the oldest may be, in which regions they lie, when the daily one is due (UTC), in which time zone contracts end, the slack that a run of the next backup may take, and whether tick() takes the daily one where leyser.backup_directory is set (at first it does; not where another database of the server does); what is left out stays; 22023 for a policy that cannot be kept, 55P03 while another call changes it';
