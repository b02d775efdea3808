-- has_permission(): what an account may, by its grants, roles, scopes and times.
SELECT current_user AS superuser \gset
CREATE ROLE regress_leyser_app LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('may-a'), leyser.create_tenant('may-b');
INSERT INTO leyser.permission_record VALUES ('doc.read', 'read'), ('doc.write', 'write'), ('doc.sign', 'sign');
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
    SELECT t, n, n, 'active' FROM unnest('{may-a, may-b}'::text[]) t, unnest('{ann, bob, cat, dan, eve, zoe}'::text[]) n;
CREATE SCHEMA regress_leyser_may;
-- gives one of tenant may-a's accounts something
CREATE FUNCTION regress_leyser_may.give(account text, kind text, permission text, scope text,
    valid_from timestamptz DEFAULT '-infinity', valid_until timestamptz DEFAULT 'infinity') RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO leyser.grant_record (account_id, kind, role_id, permission, scope, valid_from, valid_until, with_grant_option)
    SELECT a.account_id, give.kind, r.role_id, CASE WHEN r.role_id IS NULL THEN give.permission END, give.scope,
        give.valid_from, give.valid_until, false
    FROM leyser.account_record a LEFT JOIN leyser.role_record r ON give.kind = 'role' AND r.role_name = give.permission
    WHERE (a.tenant_id, a.account_name) = ('may-a', give.account) $$;
-- role outer includes inner, inner includes outer: a cycle that no function lets
-- in must still end
INSERT INTO leyser.role_record (tenant_id, role_name, name_key)
    VALUES ('may-a', 'outer', 'outer'), ('may-a', 'inner', 'inner'), ('may-a', 'empty', 'empty');
INSERT INTO leyser.role_member SELECT a.role_id, b.role_id FROM leyser.role_record a, leyser.role_record b
    WHERE (a.role_name, b.role_name) IN (('outer', 'inner'), ('inner', 'outer'), ('empty', 'outer')) AND a.role_name <> 'empty';
INSERT INTO leyser.role_permission SELECT role_id, 'doc.write' FROM leyser.role_record WHERE role_name = 'inner';
SET search_path = regress_leyser_may;
-- ann reads everywhere but in jp.tokyo; bob writes as "outer" in jp; cat's time is
-- over, dan's has not begun, eve administers but may not sign
SELECT give('ann', 'permission', 'doc.read', NULL), give('ann', 'deny', 'doc.read', 'jp.tokyo'),
    give('bob', 'role', 'outer', 'jp'), give('bob', 'role', 'empty', NULL),
    give('cat', 'permission', 'doc.read', NULL, '-infinity', now()),
    give('dan', 'permission', 'doc.read', NULL, now() + '1 hour', 'infinity'),
    give('eve', 'administrator', NULL, NULL), give('eve', 'deny', 'doc.sign', NULL) \g /dev/null
RESET search_path;
SELECT leyser.issue_token('may-a', 'ann') AS ann, leyser.issue_token('may-a', 'bob') AS bob,
    leyser.issue_token('may-a', 'cat') AS cat, leyser.issue_token('may-a', 'dan') AS dan,
    leyser.issue_token('may-a', 'eve') AS eve, leyser.issue_token('may-b', 'eve') AS other_eve,
    leyser.issue_token('may-a') AS nobody, leyser.issue_token('may-a', 'zoe') AS disabled \gset
UPDATE leyser.account_record SET state = 'disabled' WHERE (tenant_id, account_name) = ('may-a', 'zoe');
-- a token that reads: what its account may, everywhere and in some scopes
\set may 'SELECT p AS permission, leyser.has_permission(p) AS everywhere, string_agg(s, '' '' ORDER BY s COLLATE "C") FILTER (WHERE leyser.has_permission(p, s)) AS scopes FROM unnest(''{doc.read,doc.sign,doc.write,leyser.grants}''::text[]) p, unnest(''{jp,jp.tokyo,jp.tokyo.shibuya,jp.tokyo2,jp.osaka,jpx,us}''::text[]) s GROUP BY p ORDER BY p'

\c - regress_leyser_app
BEGIN; SELECT set_config('leyser.token', :'ann', true) \g /dev/null
:may;
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'bob', true) \g /dev/null
:may;
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'cat', true) \g /dev/null
:may;
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'dan', true) \g /dev/null
:may;
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'eve', true) \g /dev/null
:may;
COMMIT;
-- the account of the same name in another tenant, and a context without account
BEGIN; SELECT set_config('leyser.token', :'other_eve', true) \g /dev/null
:may;
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'nobody', true) \g /dev/null
:may;
\set VERBOSITY default
SELECT leyser.require_permission('doc.read');
ROLLBACK;
BEGIN; SELECT set_config('leyser.token', :'disabled', true) \g /dev/null
ROLLBACK;
SELECT leyser.has_permission('doc.read');

-- require_permission() raises, or does not.
BEGIN; SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.require_permission('doc.read'), leyser.require_permission('doc.read', 'jp');
SELECT leyser.require_permission('doc.read', 'jp.tokyo.shibuya');
ROLLBACK;

-- Wrong questions.
BEGIN; SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.has_permission('doc.raed')$$);
CALL trial.attempt($$SELECT leyser.has_permission(NULL)$$);
CALL trial.attempt($$SELECT leyser.has_permission(repeat('x', 101))$$);
CALL trial.attempt($$SELECT leyser.has_permission('doc.read', 'jp..tokyo')$$);
CALL trial.attempt($$SELECT leyser.require_permission('doc.raed')$$);
CALL trial.attempt($$SELECT leyser.require_permission(NULL)$$);
CALL trial.attempt($$SELECT leyser.require_permission('doc.read', 'jp.')$$);
ROLLBACK; BEGIN; SELECT set_config('leyser.token', :'nobody', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.has_permission('doc.read', '東京')$$);
CALL trial.attempt($$SELECT leyser.require_permission('doc.read')$$);
ROLLBACK;
CALL trial.attempt($$SELECT leyser.has_permission('doc.read')$$);
SELECT s, leyser.scope_problem(s) FROM unnest(ARRAY['a', 'A-b_9.c', '', '.', 'a.', '.a', 'a..b', 'a b', 'a.*', E'a\n',
    'ａ', repeat('x', 63), repeat('x', 64), 'a' || repeat('.b', 15), 'a' || repeat('.b', 16)]) s;

-- One call site, other arguments: a loop in which no statement begins.
BEGIN; SELECT set_config('leyser.token', :'ann', true) \g /dev/null
DO $$
DECLARE
    p text;
    s text;
BEGIN
    FOREACH p IN ARRAY '{doc.read, doc.write, doc.read}'::text[] LOOP
        FOREACH s IN ARRAY ARRAY['jp', 'jp.tokyo', NULL, 'jp', NULL] LOOP
            IF leyser.has_permission(p, s) THEN
                RAISE INFO '% in %: yes', p, s;
            ELSE
                RAISE INFO '% in %: no', p, s;
            END IF;
        END LOOP;
    END LOOP;
END $$;
COMMIT;

-- More scopes than are probed one by one, than a call site has slots for, and
-- longer ones than it keeps: all the same.
BEGIN; SELECT set_config('leyser.token', :'bob', true) \g /dev/null
SELECT prefix, count(*) FILTER (WHERE leyser.has_permission('doc.write', prefix || n || rest)) AS yes, count(*)
    FROM unnest('{jp.,us.,jp}'::text[]) prefix, generate_series(1, 5000) n, unnest(ARRAY['', '.' || repeat('x', 60)]) rest GROUP BY prefix ORDER BY prefix COLLATE "C";
COMMIT;

-- A client that asks the server to ignore indexes misses no deny.
\set without_indexes 'dbname=' :DBNAME ' user=regress_leyser_app options=-P'
\c :without_indexes
SHOW ignore_system_indexes;
SET client_min_messages = error;
BEGIN; SELECT set_config('leyser.token', :'eve', true) \g /dev/null
:may;
COMMIT;

-- Times are compared with the clock at each statement, without any message: a
-- grant that expires, one that begins, within a transaction.
\set as_usual 'dbname=' :DBNAME ' user=' :superuser ' options=\'\''
\c :as_usual
SELECT regress_leyser_may.give('cat', 'permission', 'doc.sign', NULL, '-infinity', clock_timestamp() + '1.5 s'),
    regress_leyser_may.give('cat', 'permission', 'doc.write', NULL, clock_timestamp() + '1.5 s', 'infinity') \g /dev/null
\c - regress_leyser_app
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT set_config('leyser.token', :'cat', true) \g /dev/null
SELECT leyser.has_permission('doc.sign') AS ends, leyser.has_permission('doc.write') AS begins;
SELECT pg_sleep(2) \g /dev/null
SELECT leyser.has_permission('doc.sign') AS ends, leyser.has_permission('doc.write') AS begins;
COMMIT;

-- An account of ten thousand grants and more, which are never read whole.
\c - :superuser
SELECT regress_leyser_may.give('dan', 'permission', 'doc.read', 'p.n' || n) FROM generate_series(1, 10500) n \g /dev/null
SELECT regress_leyser_may.give('dan', 'deny', 'doc.read', 'p.n7') \g /dev/null
\c - regress_leyser_app
BEGIN; SELECT set_config('leyser.token', :'dan', true) \g /dev/null
SELECT count(*) FILTER (WHERE leyser.has_permission('doc.read', 'p.n' || n)) AS yes,
    count(*) FILTER (WHERE leyser.has_permission('doc.read', 'p.n' || n || '.x')) AS below, leyser.has_permission('doc.read', 'p') AS above FROM generate_series(1, 12000) n;
COMMIT;

-- What a transaction itself changes counts at its next statement, until it is
-- rolled back.
\c - :superuser
BEGIN; SELECT leyser.enter('may-a', 'ann') \g /dev/null
SELECT leyser.has_permission('doc.read', 'us');
SAVEPOINT one;
DELETE FROM leyser.grant_record WHERE account_id = leyser.context_account_id();
SELECT leyser.has_permission('doc.read', 'us');
ROLLBACK TO one;
SELECT leyser.has_permission('doc.read', 'us');
ROLLBACK;
BEGIN; SELECT leyser.enter('may-a', 'ann') \g /dev/null
SELECT leyser.has_permission('doc.read', 'us');
COMMIT;

SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
DROP SCHEMA regress_leyser_may CASCADE;
DELETE FROM leyser.grant_record g USING leyser.account_record a WHERE a.account_id = g.account_id AND a.tenant_id ~ '^may-';
DELETE FROM leyser.role_record WHERE tenant_id ~ '^may-';
DELETE FROM leyser.permission_record WHERE permission ~ '^doc';
DELETE FROM leyser.account_record WHERE tenant_id ~ '^may-';
DROP ROLE regress_leyser_app;
