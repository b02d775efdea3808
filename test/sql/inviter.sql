-- An open secret is as good as the one who made it: who invited or reset an account
-- and keeps the secret does not become what others make of that account later.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_gateway LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
CREATE SCHEMA regress_leyser_inviter;
GRANT USAGE ON SCHEMA regress_leyser_inviter TO PUBLIC;
-- the secrets that inviters keep; no application sees those of others
CREATE TABLE regress_leyser_inviter.kept (account text, by_account text, secret text);
GRANT ALL ON regress_leyser_inviter.kept TO PUBLIC;
CREATE PROCEDURE regress_leyser_inviter.invite(inviter text, account text, reset boolean DEFAULT false) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('inv-a', inviter);
    INSERT INTO regress_leyser_inviter.kept VALUES (account, inviter,
        CASE WHEN reset THEN leyser.reset_password(account, '90 days') ELSE leyser.invite_account(account, valid_for => '90 days') END);
END
$$;
CREATE PROCEDURE regress_leyser_inviter.accept(account text, inviter text) LANGUAGE plpgsql AS $$
DECLARE
    kept CONSTANT text := (SELECT k.secret FROM regress_leyser_inviter.kept k WHERE (k.account, k.by_account) = (accept.account, accept.inviter));
BEGIN
    CALL trial.attempt(format('SELECT leyser.accept_invitation(''inv-a'', %L, %L, %L)', accept.account, kept, md5(random()::text)));
END
$$;
CREATE PROCEDURE regress_leyser_inviter.act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('inv-a', account);
    CALL trial.attempt(statement);
END
$$;
SELECT leyser.create_permission('inv.read', 'read'), leyser.create_permission('inv.write', 'write'), leyser.create_tenant('inv-a');
SELECT leyser.create_account('ada', 'inv-a') > 0 AS ada;
\c - regress_leyser_gateway
\set SHOW_CONTEXT never
-- hal and hip hold leyser.accounts and may pass on inv.read; bea is an administrator
BEGIN;
SELECT leyser.enter('inv-a', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bea,hal,hip}'::text[]) a;
SELECT leyser.grant_administrator('bea');
SELECT leyser.grant_permission(a, 'leyser.accounts'), leyser.grant_permission(a, 'inv.read', with_grant_option => true) FROM unnest('{hal,hip}'::text[]) a;
SELECT leyser.create_role('reader', '{inv.read}'), leyser.create_role('lead');
COMMIT;
SELECT format('CALL regress_leyser_inviter.invite(''hal'', %L)', a) FROM unnest('{plain,reader,writer,admin,later,roled,filled,denied}'::text[]) a \gexec
CALL regress_leyser_inviter.invite('hip', 'left');
CALL regress_leyser_inviter.invite('hip', 'out');
CALL regress_leyser_inviter.invite('bea', 'former');
CALL regress_leyser_inviter.invite('bea', 'hers');

-- Others make something of the accounts.
CALL regress_leyser_inviter.act('hal', 'SELECT leyser.grant_permission(''reader'', ''inv.read'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_permission(''writer'', ''inv.write'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_administrator(''admin'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_permission(''later'', ''inv.write'', valid_from => now() + interval ''1 day'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_role(''roled'', ''reader'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_role(''filled'', ''lead'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.alter_role(''lead'', add_permissions => ''{inv.write}'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.deny_permission(''denied'', ''inv.write'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_administrator(''hers'')');
-- and of the inviters
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.revoke_permission(''hip'', ''leyser.accounts'')');

-- What the inviter could have granted is no reason; what goes beyond it voids.
CALL regress_leyser_inviter.accept('plain', 'hal');
CALL regress_leyser_inviter.accept('reader', 'hal');
CALL regress_leyser_inviter.accept('roled', 'hal');
CALL regress_leyser_inviter.accept('denied', 'hal');
CALL regress_leyser_inviter.accept('writer', 'hal');
CALL regress_leyser_inviter.accept('admin', 'hal');
CALL regress_leyser_inviter.accept('later', 'hal');
CALL regress_leyser_inviter.accept('filled', 'hal');
-- who may invite no longer
CALL regress_leyser_inviter.accept('left', 'hip');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_permission(''hip'', ''leyser.accounts'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.disable_account(''hip'')');
CALL regress_leyser_inviter.accept('out', 'hip');
-- an administrator's do not wait for the grants, as long as it is one
CALL regress_leyser_inviter.accept('hers', 'bea');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_permission(''former'', ''inv.write'')');
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.revoke_administrator(''bea'')');
CALL regress_leyser_inviter.accept('former', 'bea');

-- A reset is the same.
CALL regress_leyser_inviter.invite('hal', 'denied', reset => true);
DELETE FROM regress_leyser_inviter.kept WHERE account = 'plain';
CALL regress_leyser_inviter.invite('hal', 'plain', reset => true);
CALL regress_leyser_inviter.act('ada', 'SELECT leyser.grant_permission(''plain'', ''inv.write'')');
CALL regress_leyser_inviter.accept('plain', 'hal');
-- the holder of leyser.accounts resets whom it could have granted all to, and no other
CALL regress_leyser_inviter.act('hal', 'SELECT length(leyser.reset_password(''reader''))');
CALL regress_leyser_inviter.act('hal', 'SELECT leyser.reset_password(''plain'')');

-- A new secret from an administrator, and what a void one says, whatever the reason.
DELETE FROM regress_leyser_inviter.kept WHERE account = 'admin';
CALL regress_leyser_inviter.invite('ada', 'admin');
CALL regress_leyser_inviter.accept('admin', 'ada');
CALL trial.attempt('SELECT leyser.accept_invitation(''inv-a'', ''writer'', ''wrong'', ''whatever it may be'')');

-- From outside: a provisioner's first account is an administrator's, and is meant so.
\c - :superuser
SELECT leyser.create_tenant('inv-b');
SELECT leyser.invite_account('zoe', 'inv-b') AS secret \gset
SELECT leyser.accept_invitation('inv-b', 'zoe', :'secret', 'a lamp that never goes out');
SELECT state FROM leyser.account_record WHERE tenant_id = 'inv-b' ORDER BY account_id;
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_inviter CASCADE;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP ROLE regress_leyser_gateway;
