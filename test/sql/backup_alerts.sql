-- What is wrong with backups, each with since when and what to do.  The rows have their
-- times from the past; alerts are told for a moment, whatever the session's time zone.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'Pacific/Kiritimati';
BEGIN;
TRUNCATE leyser.generation_record, leyser.wal_archive_record, leyser.wal_archive_history, leyser.backup_policy;
CREATE FUNCTION pg_temp.backup(label text, at timestamptz, state text DEFAULT 'verified', region text DEFAULT 'JP', kind text DEFAULT 'full', parent text DEFAULT NULL)
    RETURNS void LANGUAGE sql AS $$
    INSERT INTO leyser.generation_record (state, kind, parent, tool, label, region, system_identifier, timeline, started_at, completed_at,
            verified_at, failed_at, expired_at, error, recorded_by, recorded_at)
        SELECT state, kind, (SELECT g.generation_id FROM leyser.generation_record g WHERE g.label = backup.parent), 'manual', label, region,
               c.system_identifier, 1, at, CASE WHEN state <> 'running' THEN at + interval '1 hour' END,
               CASE state WHEN 'verified' THEN at + interval '2 hours' END, CASE state WHEN 'failed' THEN at + interval '2 hours' END,
               CASE state WHEN 'expired' THEN at + interval '7 days' END, CASE state WHEN 'failed' THEN 'bad block' END, 'regress', at
        FROM pg_control_system() c
$$;
CREATE FUNCTION pg_temp.alerts(at timestamptz) RETURNS TABLE (alert text, subject text, since text, detail text, remedy text) LANGUAGE sql AS $$
    SELECT a.alert, regexp_replace(a.subject, '^[0-9]+ ', 'N '), to_char(a.since AT TIME ZONE 'UTC', 'MM-DD HH24:MI'),
           regexp_replace(a.detail, 'generation [0-9]+', 'generation N'), a.remedy
    FROM leyser.backup_alerts(at) a ORDER BY 1, 2
$$;

-- Books without a backup.
SELECT alert, subject = current_database() AS here, detail, remedy FROM leyser.backup_alerts('2100-01-01');

-- Good days: nothing, also while the next backup is due, and runs.
SELECT pg_temp.backup('day ' || d, timestamptz '2020-03-01 15:00Z' + make_interval(days => d)) FROM generate_series(0, 9) d;
SELECT alert, subject, since FROM pg_temp.alerts('2020-03-10 17:30Z') WHERE alert <> 'not expired';
UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2020-03-10 17:00Z' WHERE started_at < '2020-03-04Z';
SELECT * FROM pg_temp.alerts('2020-03-10 17:30Z');
SELECT * FROM pg_temp.alerts('2020-03-11 16:00Z');
SELECT * FROM pg_temp.alerts('2020-03-12 14:59Z');

-- A day is missed when the slack is over, in UTC.
SELECT * FROM pg_temp.alerts('2020-03-12 15:00Z');

-- Days later the ceiling has taken most; the newest that counts stays, and says so.
SELECT count(*) FROM leyser.expire_backups_at('2020-03-19 12:00Z');
SELECT alert, subject, since, detail FROM pg_temp.alerts('2020-03-19 15:30Z') WHERE alert <> 'not deleted' AND alert <> 'clock moved back';

-- Single generations: failed, without a parent, running, not deleted, elsewhere, and
-- kept beyond the ceiling for what needs them.
TRUNCATE leyser.generation_record;
SELECT pg_temp.backup('full', '2020-03-01 15:00Z', 'complete');
SELECT pg_temp.backup('day ' || d, timestamptz '2020-03-01 15:00Z' + make_interval(days => d), 'complete', kind => 'incremental', parent => 'full') FROM generate_series(1, 9) d;
SELECT pg_temp.backup('bad', '2020-03-10 16:00Z', 'failed');
SELECT pg_temp.backup('child of bad', '2020-03-10 17:00Z', 'orphan', kind => 'incremental', parent => 'bad');
SELECT pg_temp.backup('endless', '2020-03-09 17:00Z', 'running');
SELECT pg_temp.backup('expired', '2020-03-02 16:00Z', 'expired');
SELECT pg_temp.backup('far away', '2020-03-09 13:00Z', region => 'US');
SELECT pg_temp.backup('nowhere', '2020-03-09 14:00Z', region => NULL);
SELECT * FROM pg_temp.alerts('2020-03-10 20:00Z');

-- A verification long ago is none, and the clock.
SELECT alert, subject, since, detail, remedy FROM pg_temp.alerts('2020-03-16 16:00Z') WHERE alert = 'unverified';
SELECT alert, since, detail, remedy FROM pg_temp.alerts('2020-03-10 17:30Z') WHERE alert = 'clock moved back';
SELECT subject = current_database() AS here FROM leyser.backup_alerts('2020-03-10 17:30Z') WHERE alert = 'clock moved back';
SELECT count(*) FROM leyser.expire_backups_at('2020-03-10 17:30Z');
SELECT g.label FROM leyser.expire_backups_at('2020-03-10 20:00Z') e JOIN leyser.generation_record g ON g.generation_id = e ORDER BY 1;
-- the view of all alerts has these, too
SELECT DISTINCT alert FROM leyser.backup_alert WHERE alert IN ('failed', 'orphan', 'wrong region') ORDER BY 1;
-- Books that were begun with an import know of days before, and promise nothing for them.
TRUNCATE leyser.generation_record;
SELECT pg_temp.backup('day ' || d, timestamptz '2020-03-01 15:00Z' + make_interval(days => d)) FROM unnest('{1,3,8}'::int[]) d;
UPDATE leyser.generation_record SET recorded_at = '2020-03-09 16:00Z';
SELECT alert, subject, since FROM pg_temp.alerts('2020-03-09 17:30Z');
SELECT alert, subject, since FROM pg_temp.alerts('2020-03-11 16:30Z');
-- Nor does another system in its first days have what it cannot have.
INSERT INTO leyser.system_record VALUES (1, '2020-01-01Z', '0/1');
UPDATE leyser.generation_record SET system_identifier = 1;
UPDATE leyser.system_record SET since = '2020-03-09 17:00Z' WHERE system_identifier = leyser.this_system();
INSERT INTO leyser.system_record SELECT leyser.this_system(), '2020-03-09 17:00Z', '0/1' ON CONFLICT DO NOTHING;
SELECT alert, subject, since FROM pg_temp.alerts('2020-03-09 17:30Z') WHERE alert <> 'too old';
SELECT alert, subject, since FROM pg_temp.alerts('2020-03-11 16:30Z') WHERE alert <> 'too old';
ROLLBACK;
