-- A denial binds administrators, too: what is denied to one does not come back
-- through an account that it makes an administrator, or takes over.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_support LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
CREATE SCHEMA regress_leyser_denied;
GRANT USAGE ON SCHEMA regress_leyser_denied TO PUBLIC;
CREATE PROCEDURE regress_leyser_denied.act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('den-a', account);
    CALL trial.attempt(statement);
END
$$;
SELECT leyser.create_permission('den.read', 'read'), leyser.create_tenant('den-a');
SELECT leyser.create_account('ada', 'den-a') > 0 AS ada;
\c - regress_leyser_gateway
\set SHOW_CONTEXT never
BEGIN;
SELECT leyser.enter('den-a', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{dan,eva,bob,cyd,friend}'::text[]) a;
SELECT leyser.grant_administrator('dan'), leyser.grant_administrator('eva');
SELECT leyser.grant_permission('bob', 'den.read'), leyser.grant_permission('cyd', 'leyser.grants');
SELECT leyser.grant_support_access('regress_leyser_support', '1 hour', 'a ticket');
COMMIT;

-- Without what managing takes: no administrator is made, unmade, or reset.
CALL regress_leyser_denied.act('ada', 'SELECT leyser.deny_permission(''dan'', ''leyser.grants'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.grant_administrator(''friend'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.revoke_administrator(''eva'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.create_account(''puppet'', administrator => true)');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.invite_account(''puppet'', administrator => true)');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.reset_password(''eva'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.disable_account(''eva'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''1 hour'', ''mine'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.revoke_support_access(''regress_leyser_support'')');
-- nor an account taken over that has what is denied
CALL regress_leyser_denied.act('dan', 'SELECT leyser.reset_password(''cyd'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.rename_account(''cyd'', ''cid'')');
-- accounts are still its to manage
CALL regress_leyser_denied.act('dan', 'SELECT leyser.disable_account(''friend'')');
CALL regress_leyser_denied.act('dan', 'SELECT length(leyser.reset_password(''bob''))');

-- Whatever is denied: an administrator made by it, or taken over, would have it.
CALL regress_leyser_denied.act('ada', 'SELECT leyser.lift_denial(''dan'', ''leyser.grants'')');
CALL regress_leyser_denied.act('ada', 'SELECT leyser.enable_account(''friend'')');
CALL regress_leyser_denied.act('ada', 'SELECT leyser.deny_permission(''dan'', ''den.read'', ''japan'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.grant_administrator(''friend'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.create_account(''puppet'', administrator => true)');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.reset_password(''eva'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.reset_password(''bob'')');
CALL regress_leyser_denied.act('dan', 'SELECT length(leyser.reset_password(''cyd''))');
-- what does not give it anything back is open to it
CALL regress_leyser_denied.act('dan', 'SELECT leyser.revoke_administrator(''eva'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.revoke_support_access(''regress_leyser_support'')');
-- without denials, all of it
CALL regress_leyser_denied.act('ada', 'SELECT leyser.lift_denial(''dan'', ''den.read'', ''japan'')');
CALL regress_leyser_denied.act('dan', 'SELECT leyser.grant_administrator(''friend'')');
CALL regress_leyser_denied.act('dan', 'SELECT length(leyser.reset_password(''friend''))');

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_denied CASCADE;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DELETE FROM leyser.support_record WHERE tenant_id = 'den-a';
DROP ROLE regress_leyser_gateway, regress_leyser_support;
