-- The books of backups by hand: what is written down, and what is refused.

\set SHOW_CONTEXT never
SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_backup LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_auditor LOGIN;
SELECT leyser.grant_usage('regress_leyser_backup', 'backup'), leyser.grant_usage('regress_leyser_operator', 'operator'),
       leyser.grant_usage('regress_leyser_auditor', 'auditor');
SELECT max(event_id) AS first_event FROM leyser.event \gset
-- the ids that messages tell
SELECT setval('leyser.generation_record_generation_id_seq', 1000) AS before \gset

-- A backup, another one on top of it, and a third on that.
\c - regress_leyser_backup
SET client_min_messages = warning;
SELECT leyser.begin_backup($$it's a "label" -- 日次; /*$$, 's3://bucket/''x''', 'JP') AS full \gset
SELECT label, location, region, kind, parent, state, countable, kept, reason, chain, tool, timeline, bytes, recorded_by,
       start_lsn <= pg_current_wal_lsn() AS not_before, started_at <= clock_timestamp() AS begun, day = (started_at AT TIME ZONE 'UTC')::date AS day,
       due_at - started_at AS stays, completed_at
    FROM leyser.backup_generation WHERE generation_id = :full;
SELECT leyser.complete_backup(:full, '0/1000028', '0/1000100', 4096, 'sha256:00');
SELECT leyser.begin_backup('second', '/backup', 'JP', kind => 'incremental', parent => :full) AS second \gset
SELECT leyser.complete_backup(:second, '0/1000200', '0/1000300', NULL, NULL);
SELECT leyser.begin_backup('third', '/backup', 'JP', 'incremental', :second) AS third \gset
SELECT leyser.complete_backup(:third, '0/1000400', '0/1000400', 0, NULL);
SELECT leyser.verify_backup(:full, true, 'read from end to end');
CREATE TEMP VIEW book AS
    SELECT b.label, b.kind, b.state, b.countable, b.kept, b.reason, replace(b.chain, b.parent::text, 'N') AS chain,
           b.verified_at IS NOT NULL AS verified, b.error
    FROM leyser.backup_generation b WHERE b.generation_id > :before;
SELECT * FROM book ORDER BY label;

-- What needs a bad one is an orphan, until a good verification of that one.
SELECT leyser.verify_backup(:full, false, 'block 7 has a wrong checksum');
SELECT * FROM book ORDER BY label;
CALL trial.attempt(format($$SELECT leyser.verify_backup(%s, true, NULL)$$, :second));
SELECT leyser.verify_backup(:full, true, NULL);
SELECT * FROM book ORDER BY label;

-- A running one whose parent goes is an orphan as soon as it is complete.
SELECT leyser.begin_backup('fourth', '/backup', 'JP', 'differential', :full) AS fourth \gset
SELECT leyser.confirm_backup_deleted(:full);
SELECT leyser.complete_backup(:fourth, '0/1000500', '0/1000600', 1, NULL);
SELECT * FROM book ORDER BY label;

-- Snapshots and restored copies may be of an unknown place.
SELECT leyser.begin_backup('snap', 'vol-1', 'JP', 'snapshot') AS snap \gset
SELECT leyser.complete_backup(:snap, NULL, NULL, NULL, NULL);
SELECT leyser.begin_backup('copy', 'staging', 'JP', 'restore_copy') AS copy \gset
SELECT leyser.complete_backup(:copy, NULL, NULL, NULL, NULL);
SELECT label, state, countable, start_lsn IS NOT NULL AS has_place FROM leyser.backup_generation WHERE generation_id IN (:snap, :copy) ORDER BY label;
SELECT leyser.begin_backup('bad', '/backup', 'JP') AS bad \gset
SELECT leyser.fail_backup(:bad, 'No space left on device');
-- another system's
SELECT leyser.begin_backup('elsewhere', '/backup', 'JP', system_identifier => 7, timeline => 3) AS elsewhere \gset
SELECT leyser.complete_backup(:elsewhere, 'FF/0', 'FF/1', 1, NULL);
SELECT label, system_identifier, timeline, countable, kept, reason FROM leyser.backup_generation WHERE generation_id = :elsewhere;

-- States out of order, and generations that are not there.
SELECT format($$
    SELECT leyser.complete_backup(%1$s, '0/1', '0/2', 1, NULL)
    SELECT leyser.complete_backup(%2$s, '0/1', '0/2', 1, NULL)
    SELECT leyser.fail_backup(%1$s, 'late')
    SELECT leyser.fail_backup(%2$s, 'late')
    SELECT leyser.verify_backup(%2$s, true, NULL)
    SELECT leyser.verify_backup(%3$s, true, NULL)
    SELECT leyser.verify_backup(%3$s, false, 'gone')
    SELECT leyser.confirm_backup_deleted(%3$s)
    SELECT leyser.complete_backup(-1, '0/1', '0/2', 1, NULL)
    SELECT leyser.fail_backup(-1, 'no')
    SELECT leyser.verify_backup(-1, true, NULL)
    SELECT leyser.confirm_backup_deleted(-1)
    SELECT leyser.confirm_backup_deleted(NULL)$$, :snap, :bad, :full) AS statements \gset
\c - :superuser
SET client_min_messages = warning;
SELECT leyser.begin_backup('runs', '/backup', 'JP') AS runs \gset
SELECT array_agg(s) AS statements FROM regexp_split_to_table(:'statements' || format($$
    SELECT leyser.verify_backup(%s, true, NULL)$$, :runs), E'\n *') s WHERE s <> '' \gset
CALL trial.attempt_all(VARIADIC :'statements');

-- What cannot be: nothing of it is written.
SELECT array_agg(s) AS statements FROM regexp_split_to_table(format($$
    SELECT leyser.begin_backup(NULL, '/backup', 'JP')
    SELECT leyser.begin_backup(' ', '/backup', 'JP')
    SELECT leyser.begin_backup(E'one\ntwo', '/backup', 'JP')
    SELECT leyser.begin_backup(repeat('x', 1001), '/backup', 'JP')
    SELECT leyser.begin_backup('x', NULL, 'JP')
    SELECT leyser.begin_backup('x', E'\t', 'JP')
    SELECT leyser.begin_backup('x', '/backup', NULL)
    SELECT leyser.begin_backup('x', '/backup', 'US')
    SELECT leyser.begin_backup('x', '/backup', 'jp')
    SELECT leyser.begin_backup('x', '/backup', 'JP', NULL)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'partial')
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental')
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'full', %1$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'snapshot', %1$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'restore_copy', %1$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', -1)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %1$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %2$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %3$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %4$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %5$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', 'incremental', %6$s)
    SELECT leyser.begin_backup('x', '/backup', 'JP', timeline => 0)
    SELECT leyser.complete_backup(%3$s, NULL, '0/2', 1, NULL)
    SELECT leyser.complete_backup(%3$s, '0/1', NULL, 1, NULL)
    SELECT leyser.complete_backup(%3$s, '0/2', '0/1', 1, NULL)
    SELECT leyser.complete_backup(%3$s, '0/1', '0/2', -1, NULL)
    SELECT leyser.complete_backup(%3$s, '0/1', 'FFFFFFFF/0', 1, NULL)
    SELECT leyser.complete_backup(%3$s, '0/1', '0/2', 1, E'a\nb')
    SELECT leyser.fail_backup(%3$s, NULL)
    SELECT leyser.fail_backup(%3$s, E'a\nb')
    SELECT leyser.verify_backup(%4$s, NULL, NULL)
    SELECT leyser.verify_backup(%4$s, false, NULL)
    SELECT leyser.verify_backup(%4$s, true, E'a\nb')$$, :full, :bad, :runs, :snap, :third, :elsewhere), E'\n *') s WHERE s <> '' \gset
CALL trial.attempt_all(VARIADIC :'statements');
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL trial.attempt($$SELECT leyser.begin_backup('x', '/backup', 'JP')$$);
CALL trial.attempt($$SELECT leyser.expire_backups()$$);
COMMIT;

-- The policy: what is left out stays.
\c - regress_leyser_operator
SET client_min_messages = warning;
SELECT leyser.set_backup_policy(generations => 3, regions => '{JP, JP-W}');
SELECT leyser.set_backup_policy(slack => '30 hours', daily_at => '18:30', contract_time_zone => 'Asia/Tokyo');
SELECT leyser.set_backup_policy();
\c - :superuser
SET client_min_messages = warning;
TABLE leyser.backup_policy;
SELECT leyser.check_region('JP-W');
CALL trial.attempt_all(
    $$SELECT leyser.set_backup_policy(generations => 0)$$,
    $$SELECT leyser.set_backup_policy(generations => 1001)$$,
    $$SELECT leyser.set_backup_policy(generations => 9)$$,
    $$SELECT leyser.set_backup_policy(max_age => '1 month')$$,
    $$SELECT leyser.set_backup_policy(max_age => '1 year')$$,
    $$SELECT leyser.set_backup_policy(max_age => '-1 day')$$,
    $$SELECT leyser.set_backup_policy(max_age => '1 day')$$,
    $$SELECT leyser.set_backup_policy(max_age => '3651 days')$$,
    $$SELECT leyser.set_backup_policy(max_age => '3 days', slack => '0')$$,
    $$SELECT leyser.set_backup_policy(slack => '-1 second')$$,
    $$SELECT leyser.set_backup_policy(slack => '366 days')$$,
    $$SELECT leyser.set_backup_policy(regions => '{}')$$,
    $$SELECT leyser.set_backup_policy(regions => '{NULL}')$$,
    $$SELECT leyser.set_backup_policy(regions => E'{"a\nb"}')$$,
    $$SELECT leyser.set_backup_policy(daily_at => '24:00')$$,
    $$SELECT leyser.set_backup_policy(contract_time_zone => 'Nowhere/City')$$,
    $$SELECT leyser.set_backup_policy(generations => 4, contract_time_zone => 'Nowhere/City')$$);
SELECT leyser.set_backup_policy(7, '7 days', '{JP}', '15:00', 'Asia/Tokyo', '1 day');

-- Who may do what.
\c - regress_leyser_auditor
CALL trial.attempt($$SELECT count(*) FROM leyser.backup_generation$$);
CALL trial.attempt($$SELECT leyser.begin_backup('x', '/backup', 'JP')$$);
CALL trial.attempt($$SELECT leyser.expire_backups()$$);
CALL trial.attempt($$TABLE leyser.generation_record$$);
\c - regress_leyser_operator
CALL trial.attempt($$SELECT count(*) FROM leyser.backup_generation$$);
CALL trial.attempt($$SELECT leyser.confirm_backup_deleted(1)$$);
\c - regress_leyser_backup
CALL trial.attempt($$SELECT leyser.set_backup_policy(generations => 1)$$);
CALL trial.attempt($$SELECT leyser.move_generation(1, 'deleted')$$);
CALL trial.attempt($$TABLE leyser.generation_record$$);

-- What was recorded.
\c - :superuser
SET client_min_messages = warning;
SELECT event, object, detail - 'generation_id' - 'former' - 'start_lsn' - 'stop_lsn' - 'parent' AS detail FROM leyser.event
    WHERE event_id > :first_event AND event ~ '^backup' ORDER BY event_id;
SELECT leyser.fail_backup(:runs, 'the end of this test');
SELECT leyser.confirm_backup_deleted(generation_id) FROM leyser.backup_generation WHERE state <> 'deleted' AND generation_id > :before ORDER BY generation_id;
SELECT count(*) FROM leyser.backup_generation WHERE kept AND generation_id > :before;
SELECT leyser.revoke_usage('regress_leyser_backup', 'backup'), leyser.revoke_usage('regress_leyser_operator', 'operator'),
       leyser.revoke_usage('regress_leyser_auditor', 'auditor');
DROP ROLE regress_leyser_backup, regress_leyser_operator, regress_leyser_auditor;
