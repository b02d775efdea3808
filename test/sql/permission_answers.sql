-- Why somebody may do something or may not, who may, and who could when.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_gateway LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.create_permission('ans.read', 'read'), leyser.create_permission('ans.write', 'write');
SELECT leyser.create_tenant('ans-a'), leyser.create_tenant('ans-b');
SELECT leyser.create_account('ada', 'ans-a') > 0 AS ada, leyser.create_account('zoe', 'ans-b') > 0 AS zoe;
CREATE SCHEMA regress_leyser_answer;
GRANT USAGE ON SCHEMA regress_leyser_answer TO PUBLIC;
CREATE PROCEDURE regress_leyser_answer.act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('ans-a', account);
    CALL trial.attempt(statement);
END
$$;
\c - regress_leyser_gateway
SET timezone = 'UTC';
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bob,cyd,dan,eve}'::text[]) a;
SELECT leyser.create_role('reader', '{ans.read}'), leyser.create_role('clerk'), leyser.create_role('lead', '{ans.write}'), leyser.create_role('other');
SELECT leyser.alter_role('clerk', add_roles => '{reader}'), leyser.alter_role('lead', add_roles => '{other,clerk}'), leyser.alter_role('other', add_roles => '{clerk}');
SELECT leyser.grant_role('bob', 'lead', 'japan', valid_until => '2100-01-01');
SELECT leyser.grant_permission('cyd', 'ans.read', 'japan.tokyo'), leyser.grant_permission('cyd', 'ans.read', 'korea', valid_from => '2090-01-01');
SELECT leyser.grant_permission('dan', 'ans.read'), leyser.deny_permission('dan', 'ans.read', 'japan');
SELECT leyser.grant_permission('eve', 'ans.read', valid_until => clock_timestamp() + interval '0.2 s');
COMMIT;
SELECT pg_sleep(0.3);

-- The path that allows, the shortest one of several.
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT allowed, finding, path, in_scope, valid_until, granted_by FROM leyser.explain_permission('bob', 'ans.read', 'japan.osaka');
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('ADA', 'ans.read', 'japan.osaka');
-- the denial that forbids, beside what would allow
SELECT allowed, finding, path, in_scope, granted_by FROM leyser.explain_permission('dan', 'ans.read', 'japan.osaka');
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('dan', 'ans.read', 'korea');
-- what is missing
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('cyd', 'ans.read', 'japan');
SELECT allowed, finding, path, in_scope, valid_from > '2089-01-01' AS in_2090 FROM leyser.explain_permission('cyd', 'ans.read', 'korea.seoul');
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('eve', 'ans.read');
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('eve', 'ans.write');
SELECT leyser.disable_account('bob');
SELECT allowed, finding, path, in_scope FROM leyser.explain_permission('bob', 'ans.read', 'japan');
-- an expired grant, a denied one and a disabled account are in no list
SELECT * FROM leyser.accounts_with('ans.read', 'japan.tokyo');
SELECT * FROM leyser.accounts_with('ans.read');
SELECT leyser.enable_account('bob');
SELECT * FROM leyser.accounts_with('ans.read', 'japan.tokyo');
SELECT * FROM leyser.permissions_of('bob');
SELECT * FROM leyser.permissions_of('cyd');
SELECT * FROM leyser.permissions_of('dan');
SELECT * FROM leyser.permissions_of('eve');
COMMIT;

-- Within one transaction: never from a cache.
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.revoke_role('bob', 'lead', 'japan');
SELECT allowed, finding FROM leyser.explain_permission('bob', 'ans.read', 'japan');
SELECT * FROM leyser.permissions_of('bob');
SAVEPOINT s;
SELECT leyser.grant_permission('bob', 'ans.write');
SELECT allowed, finding FROM leyser.explain_permission('bob', 'ans.write');
ROLLBACK TO s;
SELECT allowed, finding FROM leyser.explain_permission('bob', 'ans.write');
COMMIT;

-- About oneself always; about others with leyser.grants, in its scope.
BEGIN;
SELECT leyser.enter('ans-a', 'cyd');
SELECT allowed, finding FROM leyser.explain_permission('CYD', 'ans.read', 'japan.tokyo');
SELECT * FROM leyser.permissions_of('cyd');
SELECT change FROM leyser.permission_history('cyd');
SELECT leyser.had_permission('cyd', 'ans.read', 'japan.tokyo', clock_timestamp());
CALL trial.attempt('SELECT leyser.explain_permission(''dan'', ''ans.read'')');
CALL trial.attempt('SELECT leyser.explain_permission(''nobody'', ''ans.read'')');
CALL trial.attempt('SELECT leyser.permissions_of(''dan'')');
CALL trial.attempt('SELECT leyser.accounts_with(''ans.read'')');
CALL trial.attempt('SELECT leyser.permission_history(''dan'')');
CALL trial.attempt('SELECT leyser.permission_history()');
CALL trial.attempt('SELECT leyser.had_permission(''dan'', ''ans.read'', NULL, now())');
COMMIT;
CALL regress_leyser_answer.act('ada', 'SELECT leyser.grant_permission(''cyd'', ''leyser.grants'', ''japan'')');
CALL regress_leyser_answer.act('cyd', 'SELECT leyser.explain_permission(''dan'', ''ans.read'', ''japan.tokyo'')');
CALL regress_leyser_answer.act('cyd', 'SELECT leyser.explain_permission(''dan'', ''ans.read'')');
CALL regress_leyser_answer.act('cyd', 'SELECT leyser.accounts_with(''ans.read'', ''japan'')');
CALL regress_leyser_answer.act('cyd', 'SELECT leyser.accounts_with(''ans.read'', ''korea'')');
BEGIN;
SELECT leyser.enter('ans-a', 'cyd');
SELECT account_name, kind, permission, scope FROM leyser.granted ORDER BY 1, 2, 3, 4;
COMMIT;
-- nothing of another tenant
BEGIN;
SELECT leyser.enter('ans-b', 'zoe');
SELECT * FROM leyser.accounts_with('ans.read');
SELECT count(*) FROM leyser.permission_history();
SELECT count(*) FROM leyser.role;
CALL trial.attempt('SELECT leyser.explain_permission(''bob'', ''ans.read'')');
CALL trial.attempt('SELECT leyser.had_permission(''bob'', ''ans.read'', NULL, now())');
COMMIT;
CALL trial.attempt('SELECT * FROM leyser.role');
CALL trial.attempt('SELECT * FROM leyser.granted');
CALL trial.attempt('SELECT leyser.permissions_of(''bob'')');

-- The past: what was granted later, or put into a role later, was not there before.
SELECT clock_timestamp() AS before \gset
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.create_role('late'), leyser.grant_role('eve', 'late', 'p', valid_from => '2000-01-01');
COMMIT;
SELECT clock_timestamp() AS empty \gset
CALL regress_leyser_answer.act('ada', 'SELECT leyser.alter_role(''late'', add_roles => ''{lead}'')');
SELECT clock_timestamp() AS filled \gset
CALL regress_leyser_answer.act('ada', 'SELECT leyser.deny_permission(''eve'', ''ans.read'', ''p.q'')');
SELECT clock_timestamp() AS denied \gset
CALL regress_leyser_answer.act('ada', 'SELECT leyser.disable_account(''eve'')');
SELECT clock_timestamp() AS disabled \gset
CALL regress_leyser_answer.act('ada', 'SELECT leyser.enable_account(''eve'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.drop_role(''clerk'', cascade => true)');
SELECT clock_timestamp() AS dropped \gset
CALL regress_leyser_answer.act('ada', 'SELECT leyser.grant_permission(''eve'', ''ans.read'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.rename_account(''eve'', ''Evelyn'')');
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT w.at, leyser.had_permission('evelyn', 'ans.read', 'p', w.time::timestamptz) AS p,
       leyser.had_permission('evelyn', 'ans.read', 'p.q', w.time::timestamptz) AS q,
       leyser.had_permission('evelyn', 'ans.write', 'p', w.time::timestamptz) AS write
    FROM (VALUES (1, 'before', :'before'), (2, 'empty', :'empty'), (3, 'filled', :'filled'), (4, 'denied', :'denied'),
        (5, 'disabled', :'disabled'), (6, 'dropped', :'dropped'), (7, 'now', clock_timestamp()::text)) w (n, at, time) ORDER BY n;
SELECT change, account_now, role_name, changed_by, row_before IS NOT NULL AS before, row_after IS NOT NULL AS after
    FROM leyser.permission_history('evelyn');
SELECT change, account_now, role_name, row_before -> 'permissions' AS before, row_after -> 'permissions' AS after
    FROM leyser.permission_history() WHERE change LIKE 'role.%';
SELECT bool_and(at BETWEEN now() - interval '10 min' AND clock_timestamp()) AS at FROM leyser.permission_history();
-- a deleted account leaves its id
SELECT account_id AS deleted FROM leyser.permission_history('evelyn') LIMIT 1 \gset
SELECT leyser.delete_account('evelyn');
SELECT change, account_now, changed_by FROM leyser.permission_history() WHERE account_id = :deleted AND change !~ 'account';
SELECT count(*) FROM leyser.permission_history() h WHERE h::text ~* 'eve';
COMMIT;

-- What is for another scope, and decides nothing, is told to those who may see it.
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.create_account('fay') > 0 AS made;
SELECT leyser.grant_permission('fay', 'leyser.grants', 'japan');
SELECT leyser.grant_permission('cyd', 'ans.read', 'japan.tokyo.minato', valid_until => '2090-01-01');
SELECT finding, in_scope FROM leyser.explain_permission('cyd', 'ans.read', 'japan.osaka');
COMMIT;
BEGIN;
SELECT leyser.enter('ans-a', 'fay');
SELECT allowed, finding, in_scope FROM leyser.explain_permission('cyd', 'ans.read', 'japan.osaka');
SELECT allowed, finding, in_scope FROM leyser.explain_permission('cyd', 'ans.read', 'japan.tokyo');
COMMIT;
BEGIN;
SELECT leyser.enter('ans-a', 'cyd');
SELECT finding, in_scope FROM leyser.explain_permission('cyd', 'ans.read', 'japan.osaka');
COMMIT;

-- A change is dated when it is made, although it counts for others from the COMMIT
-- on; one that is rolled back was never made.
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.grant_permission('bob', 'ans.write', 'made');
SAVEPOINT s;
SELECT leyser.grant_permission('bob', 'ans.write', 'unmade');
SELECT clock_timestamp() AS between \gset
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT leyser.enter('ans-a', 'ada');
SELECT leyser.had_permission('bob', 'ans.write', 'made', :'between') AS made, leyser.had_permission('bob', 'ans.write', 'unmade', :'between') AS unmade;
COMMIT;

-- Every change is in the event log, too: by whom, and of whom by id.
\c - :superuser
SELECT event, account_name, object = :'deleted' AS of_deleted, object ~ '^\d+$' AS by_id, count(*) FROM leyser.event
    WHERE tenant_id = 'ans-a' AND event ~ '^(grant|role)' GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4;

-- Bad input.
\c - regress_leyser_gateway
CALL regress_leyser_answer.act('ada', 'SELECT leyser.explain_permission(''bob'', ''ans.none'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.explain_permission(''bob'', ''ans.read'', ''a b'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.explain_permission(''nobody'', ''ans.read'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.explain_permission(NULL, ''ans.read'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.permissions_of(NULL)');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.accounts_with(NULL)');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.accounts_with(''ans.read'', ''.'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.had_permission(''bob'', ''ans.read'', NULL, NULL)');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.had_permission(''bob'', ''ans.read'', NULL, now() + interval ''1 day'')');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.had_permission(''bob'', ''ans.none'', NULL, now())');
CALL regress_leyser_answer.act('ada', 'SELECT leyser.permission_history(''nobody'')');

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_answer CASCADE;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP ROLE regress_leyser_gateway;
