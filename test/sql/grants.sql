-- Roles, grants and denials inside a tenant: who may give what to whom, for how
-- long and where, and what is taken away with what.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_provisioner LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway'), leyser.grant_usage('regress_leyser_operator', 'operator'),
    leyser.grant_usage('regress_leyser_provisioner', 'provisioner');
CREATE SCHEMA regress_leyser_grants;
GRANT USAGE ON SCHEMA regress_leyser_grants TO PUBLIC;
-- a statement as an account, in a transaction of its own
CREATE PROCEDURE regress_leyser_grants.act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('gra-a', account);
    CALL trial.attempt(statement);
END
$$;
-- what an account may do, as a string
CREATE FUNCTION regress_leyser_grants.may(account text, VARIADIC questions text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('gra-a', account);
    RETURN (SELECT string_agg(q || '=' || left(leyser.has_permission(split_part(q, '@', 1), nullif(split_part(q, '@', 2), ''))::text, 1), ' ' ORDER BY n)
            FROM unnest(questions) WITH ORDINALITY u (q, n));
END
$$;
\c - regress_leyser_operator
SELECT leyser.create_permission('gra.read', 'read'), leyser.create_permission('gra.write', 'write'), leyser.create_permission('gra.report', 'see reports');
\c - regress_leyser_provisioner
SELECT leyser.create_tenant('gra-a'), leyser.create_tenant('gra-b');
SELECT leyser.create_account('Ada', 'gra-a') IS NOT NULL AS ada, leyser.create_account('zoe', 'gra-b') IS NOT NULL AS zoe;
\c - regress_leyser_gateway
BEGIN;
SELECT leyser.enter('gra-a', 'Ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bob,cyd,dan}'::text[]) a;
COMMIT;
BEGIN;
SELECT leyser.enter('gra-b', 'zoe');
SELECT leyser.create_account('bob') > 0 AS made;
SELECT leyser.create_role('theirs', '{gra.read}');
COMMIT;

-- An administrator has all there is; others have nothing, until they are given it.
SELECT regress_leyser_grants.may('Ada', 'gra.read', 'gra.write@japan', 'leyser.accounts');
SELECT regress_leyser_grants.may('bob', 'gra.read', 'gra.write@japan', 'leyser.accounts');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan'')');
SELECT regress_leyser_grants.may('bob', 'gra.read', 'gra.read@japan', 'gra.read@japan.tokyo', 'gra.read@japanese', 'gra.read@korea', 'gra.write@japan');
-- not the account of the same name in another tenant
BEGIN;
SELECT leyser.enter('gra-b', 'bob');
SELECT leyser.has_permission('gra.read', 'japan');
COMMIT;

-- Only what one holds with grant option, not wider, not longer, not to oneself.
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', ''japan'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan'', valid_until => now() + interval ''1 hour'', with_grant_option => true)');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', ''japan.tokyo'', valid_until => now() + interval ''59 min'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', ''japan.tokyo'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', ''japan'', valid_until => now() + interval ''61 min'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', valid_until => now() + interval ''1 min'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.read'', ''jap'', valid_until => now() + interval ''1 min'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', ''japan'', valid_until => now() + interval ''1 min'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan.tokyo'', valid_until => now() + interval ''1 min'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''Ada'', ''gra.read'')');
-- whoever may not grant is not told who exists
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_permission(''nobody'', ''gra.read'', ''japan'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan'')');
SELECT regress_leyser_grants.may('cyd', 'gra.read@japan', 'gra.read@japan.tokyo', 'gra.read@japan.tokyo.minato');
BEGIN;
SELECT leyser.enter('gra-a', 'Ada');
SELECT account_name, kind, permission, scope, valid_until = 'infinity' AS for_ever, with_grant_option, granted_by, in_force FROM leyser.granted ORDER BY 1, 2, 5;
COMMIT;
-- others see what they have and what they gave
BEGIN;
SELECT leyser.enter('gra-a', 'bob');
SELECT account_name, permission, scope, with_grant_option, granted_by FROM leyser.granted ORDER BY 1, 2, 4;
COMMIT;
BEGIN;
SELECT leyser.enter('gra-b', 'zoe');
SELECT account_name, kind FROM leyser.granted;
COMMIT;

-- Roles include roles; what one puts into a role one holds oneself.
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''Reader'', ''{gra.read}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''clerk'', ''{gra.write}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''clerk'', add_roles => ''{reader}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_role(''dan'', ''CLERK'', ''japan'')');
SELECT regress_leyser_grants.may('dan', 'gra.read@japan.x', 'gra.write@japan', 'gra.read', 'gra.report@japan');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''lead'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''lead'', add_roles => ''{clerk}'')');
-- a cycle, of one, two and three roles
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''lead'', add_roles => ''{lead}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''clerk'', add_roles => ''{lead}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''Reader'', add_roles => ''{lead}'')');
-- another way in between is no cycle
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''lead'', add_roles => ''{reader}'')');
BEGIN;
SELECT leyser.enter('gra-a', 'Ada');
SELECT role_name, permissions, includes FROM leyser.role ORDER BY 1;
COMMIT;
BEGIN;
SELECT leyser.enter('gra-a', 'dan');
SELECT role_name FROM leyser.role ORDER BY 1;
COMMIT;
-- with leyser.grants one makes roles, of nothing that one could not give oneself
CALL regress_leyser_grants.act('dan', 'SELECT leyser.create_role(''mine'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''dan'', ''leyser.grants'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.create_role(''mine'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.alter_role(''mine'', add_permissions => ''{gra.report}'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.alter_role(''mine'', add_roles => ''{reader}'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.alter_role(''clerk'', add_permissions => ''{leyser.accounts}'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_role(''cyd'', ''reader'', ''japan'')');
-- an empty role, too: more may come into it
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_role(''cyd'', ''mine'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_administrator(''dan'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.revoke_administrator(''Ada'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.deny_permission(''Ada'', ''gra.read'')');
SELECT regress_leyser_grants.may('cyd', 'gra.read@japan', 'gra.report');
-- what is put into a role reaches those who have it, what is taken out leaves them
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''reader'', add_permissions => ''{gra.report}'')');
SELECT regress_leyser_grants.may('dan', 'gra.report@japan', 'gra.read@japan');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''clerk'', drop_roles => ''{reader}'')');
SELECT regress_leyser_grants.may('dan', 'gra.report@japan', 'gra.read@japan', 'gra.write@japan');
-- a role that is in use
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.drop_role(''clerk'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.drop_role(''clerk'', cascade => true)');
SELECT regress_leyser_grants.may('dan', 'gra.write@japan');
BEGIN;
SELECT leyser.enter('gra-a', 'Ada');
SELECT role_name, permissions, includes FROM leyser.role ORDER BY 1;
COMMIT;
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''dan'', ''leyser.grants'')');

-- Denials beat grants, roles and administrators; in their scope and below.
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''dan'', ''gra.report'', with_grant_option => true)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.deny_permission(''dan'', ''gra.report'', ''japan.tokyo'')');
SELECT regress_leyser_grants.may('dan', 'gra.report', 'gra.report@japan', 'gra.report@japan.tokyo', 'gra.report@japan.tokyo.x', 'gra.report@japan.tokyos');
-- what is denied below would come back through the grantee
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_permission(''cyd'', ''gra.report'', ''japan.tokyo.x'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_permission(''cyd'', ''gra.report'', ''japan'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_permission(''cyd'', ''gra.report'', ''japan.kyoto'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.lift_denial(''dan'', ''gra.report'', ''japan.tokyo'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''dan'', ''gra.report'', ''japan.tokyo'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.lift_denial(''dan'', ''gra.report'', ''japan'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.lift_denial(''dan'', ''gra.report'', ''japan.tokyo'')');
SELECT regress_leyser_grants.may('dan', 'gra.report@japan.tokyo.x');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_administrator(''cyd'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.deny_permission(''cyd'', ''gra.write'')');
SELECT regress_leyser_grants.may('cyd', 'gra.write', 'gra.write@x', 'gra.read');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.lift_denial(''cyd'', ''gra.write'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_permission(''dan'', ''gra.write'')');

-- The last administrator stays: one to whom nothing is denied.
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.revoke_administrator(''Ada'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.deny_permission(''Ada'', ''gra.read'', ''x'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.lift_denial(''cyd'', ''gra.write'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.deny_permission(''cyd'', ''leyser.accounts'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.revoke_administrator(''Ada'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.deny_permission(''Ada'', ''leyser.grants'', ''x'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.lift_denial(''cyd'', ''leyser.accounts'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.disable_account(''cyd'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_administrator(''Ada'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.disable_account(''Ada'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.delete_account(''Ada'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.enable_account(''cyd'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.revoke_administrator(''Ada'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_administrator(''cyd'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.revoke_administrator(''cyd'')');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_administrator(''Ada'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_administrator(''cyd'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_administrator(''cyd'')');

-- What somebody granted who loses the right: kept, or cascaded.
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.write'', with_grant_option => true)');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', ''a'', with_grant_option => true)');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_permission(''dan'', ''gra.write'', ''a.b'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'')');
SELECT regress_leyser_grants.may('bob', 'gra.write@a');
SELECT regress_leyser_grants.may('cyd', 'gra.write@a');
SELECT regress_leyser_grants.may('dan', 'gra.write@a.b');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''dan'', ''gra.write'', ''b'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''cyd'', ''gra.write'', ''a'', cascade => true)');
SELECT regress_leyser_grants.may('dan', 'gra.write@a.b');
-- two that granted to each other do not hold each other up
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.write'', with_grant_option => true)');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', with_grant_option => true)');
CALL regress_leyser_grants.act('cyd', 'SELECT leyser.grant_permission(''bob'', ''gra.write'', ''a'', with_grant_option => true)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'', cascade => true)');
SELECT regress_leyser_grants.may('bob', 'gra.write@a');
SELECT regress_leyser_grants.may('cyd', 'gra.write@a');
-- what somebody else supports stays
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.write'', with_grant_option => true)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.write'', ''a'', with_grant_option => true)');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', ''a.b'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', ''c'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'', cascade => true)');
SELECT regress_leyser_grants.may('cyd', 'gra.write@a.b', 'gra.write@c');
-- one takes back what one gave, and gives up what one has; no more
CALL regress_leyser_grants.act('dan', 'SELECT leyser.revoke_permission(''cyd'', ''gra.write'', ''a.b'')');
CALL regress_leyser_grants.act('dan', 'SELECT leyser.revoke_permission(''nobody'', ''gra.write'', ''a.b'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.revoke_permission(''cyd'', ''gra.write'', ''a.b'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'', ''a'')');
CALL regress_leyser_grants.act('bob', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'', ''a'')');
SELECT regress_leyser_grants.may('bob', 'gra.write@a');

-- Times: not yet, in force, over; by the clock, within one transaction.
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''dan'', ''gra.write'', ''t'', valid_from => clock_timestamp() + interval ''1 s'', valid_until => clock_timestamp() + interval ''3 s'', with_grant_option => true)');
BEGIN;
SELECT leyser.enter('gra-a', 'dan');
SELECT leyser.has_permission('gra.write', 't') AS not_yet;
SELECT pg_sleep(1.2);
SELECT leyser.has_permission('gra.write', 't') AS in_force;
SELECT pg_sleep(2);
SELECT leyser.has_permission('gra.write', 't') AS over;
COMMIT;
-- what is over cannot be passed on
CALL regress_leyser_grants.act('dan', 'SELECT leyser.grant_permission(''cyd'', ''gra.write'', ''t'', valid_until => now() + interval ''1 hour'')');

-- Nobody acts without an account, and nobody in another tenant.
BEGIN;
SELECT leyser.enter('gra-a');
CALL trial.attempt('SELECT leyser.grant_permission(''bob'', ''gra.read'')');
CALL trial.attempt('SELECT * FROM leyser.granted');
CALL trial.attempt('SELECT leyser.has_permission(''gra.read'')');
COMMIT;
CALL trial.attempt('SELECT leyser.grant_permission(''bob'', ''gra.read'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''zoe'', ''gra.read'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_role(''bob'', ''theirs'')');
-- a superuser may, from outside
\c - :superuser
BEGIN;
SELECT leyser.enter('gra-a');
SELECT leyser.grant_permission('dan', 'gra.report', 'outside');
SELECT granted_by FROM leyser.granted WHERE scope = 'outside';
COMMIT;
-- what it says of every function: internal ones are nobody's
\c - regress_leyser_gateway
CALL trial.attempt('SELECT leyser.make_administrator(1, NULL)');
CALL trial.attempt('SELECT leyser.effective_permission(1, ''gra.read'', NULL, now())');
CALL trial.attempt('SELECT * FROM leyser.grant_record');
CALL trial.attempt('SELECT leyser.create_permission(''gra.other'', ''other'')');

-- Bad input: nothing changes.
\c - :superuser
SELECT count(*) AS grants_before, (SELECT count(*) FROM leyser.permission_change) AS changes_before FROM leyser.grant_record \gset
\c - regress_leyser_gateway
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.none'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', NULL)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''nobody'', ''gra.read'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(NULL, ''gra.read'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_role(''bob'', ''none'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_role(''bob'', NULL)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan..tokyo'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', '''')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''japan.'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', E''japan\n'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', ''日本'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', repeat(''a.'', 16) || ''a'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', repeat(''a'', 64))');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', valid_from => ''2100-01-02'', valid_until => ''2100-01-01'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', valid_from => ''2000-01-01'', valid_until => ''2000-01-02'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', valid_from => NULL)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_permission(''bob'', ''gra.read'', valid_from => ''infinity'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''bob'', ''gra.write'', ''none'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.revoke_permission(''nobody'', ''gra.write'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''READER'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''ｒｅａｄｅｒ'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''rеader'')'); -- a Cyrillic е
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role('''')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(NULL)');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role('' x'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(E''x\ty'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(U&''x\200by'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(repeat(''x'', 201))');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''x'', ''{gra.none}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''none'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''reader'', drop_permissions => ''{gra.none}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.alter_role(''reader'', drop_roles => ''{none}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.drop_role(''none'')');
\c - regress_leyser_operator
CALL trial.attempt('SELECT leyser.create_permission(''gra.read'', ''again'')');
CALL trial.attempt('SELECT leyser.create_permission(''Gra.Read'', ''again'')');
CALL trial.attempt('SELECT leyser.create_permission(''leyser.other'', ''ours'')');
CALL trial.attempt('SELECT leyser.create_permission(''gra..x'', ''dots'')');
CALL trial.attempt('SELECT leyser.create_permission(NULL, ''none'')');
CALL trial.attempt('SELECT leyser.create_permission(repeat(''a'', 101), ''long'')');
CALL trial.attempt('SELECT leyser.create_permission(''gra.x'', '''')');
CALL trial.attempt('SELECT leyser.drop_permission(''gra.read'')');
CALL trial.attempt('SELECT leyser.drop_permission(''gra.none'')');
CALL trial.attempt('SELECT leyser.drop_permission(''leyser.grants'')');
\c - :superuser
SELECT count(*) = :grants_before AS same_grants, (SELECT count(*) FROM leyser.permission_change) = :changes_before AS same_history FROM leyser.grant_record;
-- a name with quotes is a name
\c - regress_leyser_gateway
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.create_role(''o''''brien "x" \ %s'', ''{gra.read}'')');
CALL regress_leyser_grants.act('Ada', 'SELECT leyser.grant_role(''bob'', ''O''''BRIEN "x" \ %s'', ''q'')');
SELECT regress_leyser_grants.may('bob', 'gra.read@q');

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_grants CASCADE;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway'), leyser.revoke_usage('regress_leyser_operator', 'operator'),
    leyser.revoke_usage('regress_leyser_provisioner', 'provisioner');
DROP ROLE regress_leyser_gateway, regress_leyser_operator, regress_leyser_provisioner;
