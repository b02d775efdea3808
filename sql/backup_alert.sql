-- What is wrong with the backups, as rows.

-- Days of UTC that are over by a slack and have no backup that was good when it was
-- new: also one that has gone since counts.  Looked at are those that the ceiling
-- still lets be kept, from the day on which the books were begun: nobody promised
-- anything about the days before it, though an import may know backups of them.
CREATE FUNCTION leyser.missed_days(at timestamptz) RETURNS TABLE (day date, due_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH backup AS MATERIALIZED (
        SELECT (g.started_at AT TIME ZONE 'UTC')::date AS day,
               g.completed_at IS NOT NULL AND g.state <> 'orphan' AND g.kind <> 'restore_copy'
                   AND (g.failed_at IS NULL OR g.verified_at > g.failed_at) AS good
        FROM leyser.generation_record g
    ), policy AS (
        SELECT p.daily_at, p.slack, missed_days.at AT TIME ZONE 'UTC' AS at,
               greatest((SELECT (min(g.recorded_at) AT TIME ZONE 'UTC')::date FROM leyser.generation_record g),
                        (missed_days.at AT TIME ZONE 'UTC' - (p.max_age + p.slack))::date) AS first_day
        FROM leyser.present_backup_policy() p
    )
    SELECT d.day::date, (d.day + p.daily_at + p.slack) AT TIME ZONE 'UTC'
    FROM policy p CROSS JOIN LATERAL generate_series(p.first_day::timestamp, p.at, '1 day') d (day)
    WHERE EXISTS (SELECT FROM backup) AND d.day + p.daily_at + p.slack <= p.at AND NOT EXISTS (SELECT FROM backup b WHERE b.good AND b.day = d.day::date)
$$;
REVOKE ALL ON FUNCTION leyser.missed_days(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.missed_days(timestamptz) IS
    'internal: the days of UTC, as far back as the ceiling, whose backup was due and was not made, and since when it has been missing';

-- Of the first days of the books, and of the first on another system after
-- pg_upgrade, there cannot be as many generations yet.
CREATE FUNCTION leyser.books_began() RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(min(g.recorded_at), (SELECT s.since FROM leyser.system_record s WHERE s.system_identifier = leyser.this_system()
        AND EXISTS (SELECT FROM leyser.system_record o WHERE o.since < s.since)))
    FROM leyser.generation_record g
$$;
REVOKE ALL ON FUNCTION leyser.books_began() FROM PUBLIC;
COMMENT ON FUNCTION leyser.books_began() IS
    'internal: since when the books tell of generations of this system; NULL: they tell of none';

CREATE FUNCTION leyser.floor_alerts(at timestamptz)
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH present AS (
        SELECT count(d.place) AS countable, max(p.generations) AS wanted, max(p.slack) AS slack, max(p.max_age) AS max_age,
               leyser.books_began() AS first,
               (SELECT max(g.started_at) FROM leyser.generation_record g WHERE g.completed_at IS NOT NULL) AS newest,
               (SELECT max(g.verified_at) FROM leyser.generation_record g
                WHERE g.system_identifier = leyser.this_system()) AS verified,
               (SELECT min(e.at) FROM leyser.event_record e) AS installed
        FROM leyser.present_backup_policy() p
        LEFT JOIN leyser.policy_decision(floor_alerts.at, leyser.this_system()) d ON d.place IS NOT NULL
    )
    SELECT 'too few', format('%s of %s', p.countable, p.wanted), coalesce(p.newest, p.first),
           'Fewer generations count than the floor promises.',
           'Take a backup on every day; leyser.backup_generation tells why a generation does not count.'
    FROM present p WHERE p.first IS NOT NULL AND p.countable < least(p.wanted,
        floor(extract(epoch FROM floor_alerts.at - p.first - p.slack) / 86400) + 1)
    UNION ALL
    SELECT 'no backup', current_database(), p.installed, 'The books know of no backup.',
           'Take one: leyser.begin_backup() tells the books of it, or an import does.'
    FROM present p WHERE p.first IS NULL AND leyser.shift_in_utc(p.installed, '1 day' + p.slack) <= floor_alerts.at
    UNION ALL
    SELECT 'unverified', coalesce('last at ' || to_char(p.verified AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI"Z"'), 'never'),
           coalesce(p.verified, p.first), 'No backup was verified for longer than the oldest may be kept.',
           'Verify one with its tool, or restore it, and call leyser.verify_backup().'
    FROM present p WHERE leyser.shift_in_utc(coalesce(p.verified, p.first), p.max_age) <= floor_alerts.at
$$;
REVOKE ALL ON FUNCTION leyser.floor_alerts(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.floor_alerts(timestamptz) IS
    'internal: alerts about all generations together: too few, none at all, none verified';

CREATE FUNCTION leyser.generation_alerts(at timestamptz)
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH generation AS MATERIALIZED (
        SELECT g.*, format('%s "%s"', g.generation_id, g.label) AS subject, p.slack, p.regions, d.kept, d.reason,
               leyser.shift_in_utc(g.started_at, p.max_age + p.slack) AS ceiling,
               (SELECT greatest(a.failed_at, a.expired_at, a.deleted_at) FROM leyser.generation_record a
                WHERE a.generation_id = g.parent) AS parent_went_at
        FROM leyser.generation_record g CROSS JOIN leyser.present_backup_policy() p
        LEFT JOIN leyser.policy_decision(generation_alerts.at, leyser.this_system()) d ON d.generation_id = g.generation_id
        -- one that failed and left nothing is told until a later one is there
        WHERE g.state <> 'deleted' AND (g.deleted_at IS NULL OR NOT EXISTS (SELECT FROM leyser.generation_record n
            WHERE n.completed_at IS NOT NULL AND n.started_at > g.started_at))
    )
    SELECT 'failed', g.subject, g.failed_at, coalesce(g.error, 'It failed.'),
           'Take another one' || CASE WHEN g.deleted_at IS NULL THEN ', and delete this one.' ELSE '.' END
        FROM generation g WHERE g.state = 'failed'
    UNION ALL
    SELECT 'orphan', g.subject, coalesce(g.parent_went_at, g.started_at), leyser.parent_problem(g.parent),
           'It cannot be restored: take a full backup, and delete this one.'
        FROM generation g WHERE g.state = 'orphan'
    UNION ALL
    SELECT 'running too long', g.subject, leyser.shift_in_utc(g.started_at, g.slack), 'It has been running for longer than the slack.',
           'See what it does; leyser.fail_backup() tells that it will not be complete.'
        FROM generation g WHERE g.state = 'running' AND leyser.shift_in_utc(g.started_at, g.slack) <= generation_alerts.at
    UNION ALL
    SELECT 'not deleted', g.subject, g.expired_at, 'It has expired, and nobody has seen it to be gone.',
           leyser.removal_remedy(g.tool, g.location)
        FROM generation g WHERE g.state = 'expired' AND leyser.shift_in_utc(g.expired_at, g.slack) <= generation_alerts.at
    UNION ALL
    SELECT 'too old', g.subject, g.ceiling, format('It is beyond the ceiling, and kept: %s.', g.reason),
           CASE WHEN g.reason = 'another system' THEN 'Delete it, and call leyser.confirm_backup_deleted().'
                WHEN g.reason = 'newest verified' THEN 'Verify a newer one.'
                WHEN g.reason = 'newest that counts' THEN 'Take a backup.'
                ELSE 'Take full backups more often, so that chains are shorter.' END
        FROM generation g WHERE g.ceiling < generation_alerts.at AND g.kept AND g.state <> 'running'
    UNION ALL
    SELECT 'not expired', g.subject, g.ceiling, 'It is beyond the ceiling, and the policy was not carried out.',
           'Call leyser.expire_backups().'
        FROM generation g WHERE g.ceiling < generation_alerts.at AND NOT g.kept AND g.state <> 'expired'
    UNION ALL
    SELECT 'wrong region', g.subject, g.recorded_at, format('It lies in %s, which is not in the policy.', coalesce(g.region, 'an unknown region')),
           leyser.region_remedy(g.tool, g.region)
        FROM generation g WHERE g.region IS NULL OR g.region <> ALL (g.regions)
$$;
REVOKE ALL ON FUNCTION leyser.generation_alerts(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.generation_alerts(timestamptz) IS
    'internal: alerts about single generations';

CREATE FUNCTION leyser.backup_alerts(at timestamptz DEFAULT clock_timestamp())
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'missed day', to_char(m.day, 'YYYY-MM-DD'), m.due_at, 'No backup that began on this day of UTC was good.',
           'Take a backup; the day itself cannot be made good.'
        FROM leyser.missed_days(backup_alerts.at) m
    UNION ALL
    SELECT * FROM leyser.floor_alerts(backup_alerts.at)
    UNION ALL
    SELECT * FROM leyser.generation_alerts(backup_alerts.at)
    UNION ALL
    SELECT 'clock moved back', current_database(), n,
           format('The books know a later time than the clock, %s: nothing expires.', to_char(n AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')),
           'Set the clock right; where it is right: CALL leyser.tick(accept_clock => true).'
        FROM leyser.newest_recorded() n WHERE n > backup_alerts.at
$$;
REVOKE ALL ON FUNCTION leyser.backup_alerts(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.backup_alerts(timestamptz) IS
    'internal: what is wrong with the backups at a moment, one row each: what, with which, since when, and the remedy';
