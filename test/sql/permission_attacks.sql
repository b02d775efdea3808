-- Faults that were published of other permission systems, each tried as an attack
-- and refused:
--   1. an expired grant that keeps working
--   2. a cached decision that survives a change
--   3. a listing that omits somebody, or adds somebody
--   4. a cycle of roles
--   5. a grant by somebody who never held it
-- What two connections are needed for is in the isolation specs revoking and
-- role_cycle.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_gateway LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.create_permission('att.read', 'read'), leyser.create_permission('att.write', 'write'), leyser.create_permission('att.pay', 'pay');
SELECT leyser.create_tenant('att-a'), leyser.create_tenant('att-b');
SELECT leyser.create_account('ada', 'att-a') > 0 AS ada, leyser.create_account('ada', 'att-b') > 0 AS other_ada;
CREATE SCHEMA regress_leyser_attack AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_attack TO PUBLIC;
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_attack.doc (tenant_id text NOT NULL, id int, place text);
INSERT INTO regress_leyser_attack.doc VALUES ('att-a', 1, 'japan'), ('att-a', 2, 'korea'), ('att-b', 3, 'japan');
SELECT leyser.protect('regress_leyser_attack.doc'), leyser.set_permissions('regress_leyser_attack.doc', 'att.read', scope_column => 'place');
GRANT SELECT ON regress_leyser_attack.doc TO regress_leyser_gateway;
RESET ROLE;
SET search_path = regress_leyser_attack;
-- a statement as an account, in a transaction of its own
CREATE PROCEDURE act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('att-a', account);
    CALL trial.attempt(statement);
END
$$;
-- the documents that an account reads, by a plan that the connection keeps
CREATE FUNCTION reads(account text) RETURNS int[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM leyser.enter('att-a', account);
    RETURN ARRAY(SELECT d.id FROM regress_leyser_attack.doc d ORDER BY 1);
END
$$;
-- what an account may, in some scopes: permission@scope
CREATE TABLE found (account_name text, permission text, scope text, by text);
GRANT SELECT, INSERT ON found TO regress_leyser_gateway;
CREATE VIEW question AS
    SELECT p AS permission, s AS scope FROM unnest('{att.read,att.write,att.pay,leyser.grants}'::text[]) p,
        unnest('{NULL,japan,japan.tokyo,japan.tokyo.minato,japanese,korea}'::text[]) s;
GRANT SELECT ON question TO PUBLIC;
CREATE FUNCTION ask(account text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('att-a', account);
    INSERT INTO regress_leyser_attack.found
        SELECT account, q.permission, q.scope, 'check' FROM regress_leyser_attack.question q
        WHERE leyser.has_permission(q.permission, q.scope);
    RETURN (SELECT count(*) FROM regress_leyser_attack.found f WHERE f.account_name = account AND f.by = 'check');
END
$$;
RESET search_path;

\c - regress_leyser_gateway
BEGIN;
SELECT leyser.enter('att-b', 'ada');
SELECT leyser.create_account('bob') > 0 AS made;
SELECT leyser.grant_permission('bob', 'att.pay');
COMMIT;
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bob,cyd,dan,eve,fay}'::text[]) a;
COMMIT;

-- 1. An expired grant that keeps working.  bob uses what he was given for two
-- seconds before and after its end: by rows, questions, a cursor, and as a grantor.
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT leyser.grant_permission('bob', 'att.read', 'japan', valid_until => clock_timestamp() + interval '2 s', with_grant_option => true);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT leyser.enter('att-a', 'bob');
SELECT id FROM regress_leyser_attack.doc;
DECLARE later CURSOR FOR SELECT id FROM regress_leyser_attack.doc;
SELECT leyser.has_permission('att.read', 'japan');
SELECT pg_sleep(2.1) \g /dev/null
FETCH 1 FROM later;
SELECT id FROM regress_leyser_attack.doc;
SELECT leyser.has_permission('att.read', 'japan');
CALL trial.attempt($$SELECT leyser.require_permission('att.read', 'japan')$$);
SELECT allowed, finding FROM leyser.explain_permission('bob', 'att.read', 'japan');
SELECT * FROM leyser.permissions_of('bob');
COMMIT;
CALL regress_leyser_attack.act('bob', $$SELECT leyser.grant_permission('cyd', 'att.read', 'japan')$$);
CALL regress_leyser_attack.act('bob', $$SELECT leyser.grant_permission('cyd', 'att.read', 'japan', valid_until => clock_timestamp() + interval '1 s')$$);
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT account_name FROM leyser.accounts_with('att.read', 'japan');
COMMIT;

-- 2. A cached decision that survives a change.  The connection has answered for
-- these accounts before; whatever way the right goes, the next answer is another.
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT leyser.create_role('part', '{att.read}'), leyser.create_role('reader'), leyser.alter_role('reader', add_roles => '{part}');
SELECT leyser.grant_role('bob', 'reader', 'japan'), leyser.grant_permission('cyd', 'att.read');
COMMIT;
SELECT regress_leyser_attack.reads('bob');
SELECT regress_leyser_attack.reads('cyd');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.deny_permission('cyd', 'att.read', 'korea')$$);
SELECT regress_leyser_attack.reads('cyd');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.revoke_permission('cyd', 'att.read')$$);
SELECT regress_leyser_attack.reads('cyd');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('part', drop_permissions => '{att.read}')$$);
SELECT regress_leyser_attack.reads('bob');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('part', add_permissions => '{att.read}')$$);
SELECT regress_leyser_attack.reads('bob');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('reader', drop_roles => '{part}')$$);
SELECT regress_leyser_attack.reads('bob');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('reader', add_roles => '{part}')$$);
SELECT regress_leyser_attack.reads('bob');
-- a role, or an account, that comes after another one of the same name
CALL regress_leyser_attack.act('ada', $$SELECT leyser.drop_role('reader', cascade => true), leyser.create_role('reader', '{att.read}')$$);
SELECT regress_leyser_attack.reads('bob');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.grant_role('bob', 'reader')$$);
SELECT regress_leyser_attack.reads('bob');
CALL regress_leyser_attack.act('ada', $$SELECT leyser.delete_account('bob'), leyser.create_account('bob')$$);
SELECT regress_leyser_attack.reads('bob');
-- one's own change, within the transaction, and taken back
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT leyser.grant_administrator('fay');
COMMIT;
BEGIN;
SELECT leyser.enter('att-a', 'fay');
SELECT count(*) FROM regress_leyser_attack.doc;
SAVEPOINT s;
SELECT leyser.revoke_administrator('fay');
SELECT count(*) FROM regress_leyser_attack.doc;
ROLLBACK TO s;
SELECT count(*) FROM regress_leyser_attack.doc;
SELECT leyser.revoke_administrator('fay');
COMMIT;
SELECT regress_leyser_attack.reads('fay');

-- 3. A listing that omits somebody, or adds somebody: beside the check itself, for
-- every account, permission and scope.  Rights by grants, roles in roles and
-- administration; ended, not begun, denied above and below, and of one who is disabled.
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT leyser.create_role('lead', '{att.write}'), leyser.alter_role('lead', add_roles => '{reader}');
SELECT leyser.grant_role('bob', 'lead', 'japan'), leyser.grant_permission('cyd', 'att.read'), leyser.deny_permission('cyd', 'att.read', 'japan.tokyo'),
    leyser.grant_permission('dan', 'att.pay', 'japan.tokyo'), leyser.deny_permission('dan', 'att.pay', 'japan'),
    leyser.grant_permission('dan', 'att.read', valid_from => '2090-01-01'),
    leyser.grant_permission('dan', 'att.write', valid_until => clock_timestamp() + interval '0.5 s'),
    leyser.grant_administrator('eve'), leyser.deny_permission('eve', 'att.pay', 'korea'),
    leyser.grant_role('fay', 'lead'), leyser.disable_account('fay');
SELECT pg_sleep(0.6) \g /dev/null
COMMIT;
SELECT regress_leyser_attack.ask('ada');
SELECT regress_leyser_attack.ask('bob');
SELECT regress_leyser_attack.ask('cyd');
SELECT regress_leyser_attack.ask('dan');
SELECT regress_leyser_attack.ask('eve');
CALL trial.attempt($$SELECT regress_leyser_attack.ask('fay')$$);
BEGIN;
SELECT leyser.enter('att-a', 'ada');
INSERT INTO regress_leyser_attack.found
    SELECT a.account_name, q.permission, q.scope, 'accounts_with' FROM regress_leyser_attack.question q, leyser.accounts_with(q.permission, q.scope) a;
INSERT INTO regress_leyser_attack.found
    SELECT n, q.permission, q.scope, 'permissions_of' FROM unnest('{ada,bob,cyd,dan,eve,fay}'::text[]) n, regress_leyser_attack.question q
    WHERE EXISTS (SELECT FROM leyser.permissions_of(n) p WHERE p.permission = q.permission
        AND (p.scope IS NULL OR q.scope || '.' LIKE p.scope || '.%')
        AND NOT EXISTS (SELECT FROM unnest(p.except_scopes) e WHERE q.scope || '.' LIKE e || '.%'));
INSERT INTO regress_leyser_attack.found
    SELECT n, q.permission, q.scope, 'explain_permission' FROM unnest('{ada,bob,cyd,dan,eve,fay}'::text[]) n, regress_leyser_attack.question q
    WHERE (SELECT bool_and(e.allowed) FROM leyser.explain_permission(n, q.permission, q.scope) e);
COMMIT;
-- nobody is in one and not in the others
SELECT account_name, permission, scope, array_agg(by ORDER BY by) FROM regress_leyser_attack.found
    GROUP BY 1, 2, 3 HAVING count(*) <> 4 ORDER BY 1, 2, 3;
SELECT account_name, permission, string_agg(coalesce(scope, 'everywhere'), ' ' ORDER BY scope NULLS FIRST) AS scopes
    FROM regress_leyser_attack.found WHERE by = 'check' GROUP BY 1, 2 ORDER BY 1, 2;

-- 4. A cycle of roles: by which a part gets what the whole has, or a check never ends.
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('lead', add_roles => '{lead}')$$);
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('reader', add_roles => '{lead}')$$);
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('reader', add_roles => '{part}')$$);
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('part', add_roles => '{LEAD}')$$);
-- taken out and closed in the same call
CALL regress_leyser_attack.act('ada', $$SELECT leyser.alter_role('lead', drop_roles => '{reader}', add_roles => '{reader,lead}')$$);
-- one that is there all the same, by a superuser's hand: everything ends, and is right
\c - :superuser
BEGIN;
INSERT INTO leyser.role_member SELECT p.role_id, l.role_id FROM leyser.role_record p, leyser.role_record l
    WHERE (p.tenant_id, p.role_name, l.tenant_id, l.role_name) = ('att-a', 'part', 'att-a', 'lead');
SELECT leyser.enter('att-a', 'ada');
SELECT allowed, path FROM leyser.explain_permission('bob', 'att.write', 'japan');
SELECT permission, scope FROM leyser.permissions_of('bob');
SELECT account_name FROM leyser.accounts_with('att.write', 'japan');
CALL trial.attempt($$SELECT leyser.alter_role('reader', add_permissions => '{att.pay}')$$);
CALL trial.attempt($$SELECT leyser.revoke_role('bob', 'lead', 'japan', cascade => true)$$);
CALL trial.attempt($$SELECT leyser.drop_role('part', cascade => true)$$);
SELECT role_name, includes FROM leyser.role ORDER BY 1;
ROLLBACK;

-- 5. A grant by somebody who never held it, or holds it no longer, or less of it.
-- cyd may read, without grant option, and makes roles; nobody but administrators pays.
\c - regress_leyser_gateway
CALL regress_leyser_attack.act('ada', $$SELECT leyser.grant_permission('cyd', 'leyser.grants', with_grant_option => true)$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.pay')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.read', 'korea')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('cyd', 'att.pay')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_administrator('dan')$$);
-- through a role: a new one, one that is there, one that is empty and filled later
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.create_role('payer', '{att.pay}')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.alter_role('reader', add_permissions => '{att.pay}')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_role('dan', 'lead')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.create_role('payer')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_role('dan', 'payer')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.alter_role('payer', add_roles => '{lead}')$$);
-- through the lifting of a denial
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.lift_denial('dan', 'att.pay', 'japan')$$);
-- through another account, which passes on what cyd may pass on, and no more
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'leyser.grants', with_grant_option => true)$$);
CALL regress_leyser_attack.act('dan', $$SELECT leyser.grant_permission('cyd', 'att.pay')$$);
-- what one held once: after a revoke, after an end, under a denial somewhere below
CALL regress_leyser_attack.act('ada', $$SELECT leyser.grant_permission('cyd', 'att.write', with_grant_option => true)$$);
CALL regress_leyser_attack.act('ada', $$SELECT leyser.revoke_permission('cyd', 'att.write')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.write')$$);
CALL regress_leyser_attack.act('ada', $$SELECT leyser.grant_permission('cyd', 'att.write', with_grant_option => true), leyser.deny_permission('cyd', 'att.write', 'japan.tokyo')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.write', 'japan')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.write', 'japan.tokyo.minato')$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.grant_permission('dan', 'att.write', 'korea')$$);
-- of another tenant, where the account of one's name holds it
CALL regress_leyser_attack.act('bob', $$SELECT leyser.grant_permission('dan', 'att.pay')$$);
-- not by the tables, not by what leyser keeps for itself
CALL regress_leyser_attack.act('cyd', $$INSERT INTO leyser.grant_record (account_id, kind, permission, valid_from, valid_until, with_grant_option) VALUES (1, 'permission', 'att.pay', '-infinity', 'infinity', true)$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.make_administrator(leyser.context_account_id(), NULL)$$);
CALL regress_leyser_attack.act('cyd', $$SELECT leyser.add_grant(NULL)$$);
-- nobody got anything but what cyd did hold
BEGIN;
SELECT leyser.enter('att-a', 'ada');
SELECT account_name, through FROM leyser.accounts_with('att.pay', 'korea.seoul') ORDER BY 1;
SELECT account_name, through FROM leyser.accounts_with('att.pay', 'japan') ORDER BY 1;
SELECT account_name, kind, permission, role_name, scope FROM leyser.granted WHERE granted_by <> 'ada' ORDER BY 1, 2, 3, 4;
COMMIT;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP SCHEMA regress_leyser_attack CASCADE;
DELETE FROM leyser.grant_record g USING leyser.account_record a WHERE a.account_id = g.account_id AND a.tenant_id ~ '^att-';
DELETE FROM leyser.role_record WHERE tenant_id ~ '^att-';
DELETE FROM leyser.permission_record WHERE permission ~ '^att[.]';
DELETE FROM leyser.account_record WHERE tenant_id ~ '^att-';
DROP ROLE regress_leyser_owner, regress_leyser_gateway;
