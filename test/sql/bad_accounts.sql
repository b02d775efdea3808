-- Bad input about accounts, passwords, invitations, roles, grants and permissions:
-- SQLSTATE, detail and hint, and no row of any table of leyser changed.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application'), leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.create_tenant('wrong-a'), leyser.create_tenant('wrong-b');
SELECT leyser.create_permission('bad.read', 'read'), leyser.create_permission('bad.write', 'write');
SELECT leyser.create_account('ada', 'wrong-a') > 0 AS ada, leyser.create_account('zoe', 'wrong-b') > 0 AS zoe;
SELECT leyser.block_passwords('{correct horse battery staple}');
BEGIN;
SELECT leyser.enter('wrong-a', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bob,cyd}'::text[]) a;
SELECT leyser.invite_account('dan') AS dan_secret, leyser.invite_account('eve') AS eve_secret \gset
SELECT leyser.create_role('Reader', '{bad.read}'), leyser.create_role('clerk', '{bad.write}');
SELECT leyser.alter_role('clerk', add_roles => '{reader}');
-- what bob may pass on: to read in japan until 2100, and a role in korea
SELECT leyser.grant_permission('bob', 'bad.read', 'japan', valid_until => '2100-01-01', with_grant_option => true),
    leyser.grant_role('bob', 'clerk', 'korea', with_grant_option => true), leyser.deny_permission('cyd', 'bad.write', 'korea');
COMMIT;
BEGIN;
SELECT leyser.enter('wrong-b', 'zoe');
SELECT leyser.create_role('theirs');
COMMIT;
SELECT leyser.issue_token('wrong-a', 'ada') AS ada, leyser.issue_token('wrong-a', 'bob') AS bob, leyser.issue_token('wrong-a', 'cyd') AS cyd \gset

-- A permission, a role, an account that is not there, another tenant's or NULL.
\c - regress_leyser_app
BEGIN; SELECT set_config('leyser.token', :'ada', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('cyd', 'bad.raed')$$,
    $$SELECT leyser.grant_permission('cyd', NULL)$$,
    $$SELECT leyser.revoke_permission('bob', 'bad.raed')$$,
    $$SELECT leyser.deny_permission('cyd', 'bad.raed')$$,
    $$SELECT leyser.lift_denial('cyd', 'bad.raed')$$,
    $$SELECT leyser.create_role('new', '{bad.read,bad.raed}')$$,
    $$SELECT leyser.alter_role('reader', add_permissions => '{bad.write,bad.raed}')$$,
    $$SELECT leyser.alter_role('reader', drop_permissions => '{bad.read,bad.raed}')$$,
    $$SELECT leyser.has_permission('bad.raed')$$,
    $$SELECT leyser.has_permission(NULL)$$,
    $$SELECT leyser.require_permission('bad.raed')$$,
    $$SELECT leyser.explain_permission('cyd', 'bad.raed')$$,
    $$SELECT leyser.accounts_with('bad.raed')$$,
    $$SELECT leyser.had_permission('cyd', 'bad.raed', NULL, now())$$);
CALL trial.attempt_all(
    $$SELECT leyser.grant_role('cyd', 'theirs')$$,
    $$SELECT leyser.grant_role('cyd', NULL)$$,
    $$SELECT leyser.revoke_role('bob', 'theirs')$$,
    $$SELECT leyser.alter_role('theirs', add_permissions => '{bad.read}')$$,
    $$SELECT leyser.alter_role('reader', add_roles => '{theirs}')$$,
    $$SELECT leyser.alter_role('clerk', drop_roles => '{reader,theirs}')$$,
    $$SELECT leyser.drop_role('theirs')$$,
    $$SELECT leyser.drop_role(NULL)$$);
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('zoe', 'bad.read')$$,
    $$SELECT leyser.grant_permission(NULL, 'bad.read')$$,
    $$SELECT leyser.grant_role('zoe', 'reader')$$,
    $$SELECT leyser.revoke_permission('zoe', 'bad.read')$$,
    $$SELECT leyser.revoke_role('zoe', 'reader')$$,
    $$SELECT leyser.deny_permission('zoe', 'bad.read')$$,
    $$SELECT leyser.lift_denial('zoe', 'bad.read')$$,
    $$SELECT leyser.grant_administrator('zoe')$$,
    $$SELECT leyser.revoke_administrator('zoe')$$,
    $$SELECT leyser.disable_account('zoe')$$,
    $$SELECT leyser.enable_account('zoe')$$,
    $$SELECT leyser.rename_account('zoe', 'zora')$$,
    $$SELECT leyser.delete_account('zoe')$$,
    $$SELECT leyser.reset_password('zoe')$$,
    $$SELECT leyser.revoke_sessions('zoe')$$,
    $$SELECT leyser.explain_permission('zoe', 'bad.read')$$,
    $$SELECT leyser.permissions_of('zoe')$$,
    $$SELECT leyser.permission_history('zoe')$$,
    $$SELECT leyser.had_permission('zoe', 'bad.read', NULL, now())$$);

-- A scope that is no path.
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('cyd', 'bad.read', 'japan..tokyo')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', '')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', '東京')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', 'a' || repeat('.a', 16))$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', repeat('a', 64))$$,
    $$SELECT leyser.grant_role('cyd', 'reader', 'japan.')$$,
    $$SELECT leyser.revoke_permission('bob', 'bad.read', '.japan')$$,
    $$SELECT leyser.revoke_role('bob', 'clerk', 'korea ')$$,
    $$SELECT leyser.deny_permission('cyd', 'bad.read', 'japan*')$$,
    $$SELECT leyser.lift_denial('cyd', 'bad.write', E'korea\n')$$,
    $$SELECT leyser.has_permission('bad.read', 'japan/tokyo')$$,
    $$SELECT leyser.require_permission('bad.read', 'japan/tokyo')$$,
    $$SELECT leyser.explain_permission('bob', 'bad.read', 'japan/tokyo')$$,
    $$SELECT leyser.accounts_with('bad.read', 'japan/tokyo')$$,
    $$SELECT leyser.had_permission('bob', 'bad.read', 'japan/tokyo', now())$$);

-- A start that is after the end; times that are never, or over.
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_from => '2100-01-02', valid_until => '2100-01-01')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_from => '2100-01-01', valid_until => '2100-01-01')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_from => '2000-01-01', valid_until => '2000-01-02')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_from => 'infinity')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_until => NULL)$$,
    $$SELECT leyser.grant_role('cyd', 'reader', valid_from => '2100-01-02', valid_until => '2100-01-01')$$,
    $$SELECT leyser.grant_role('cyd', 'reader', valid_from => NULL)$$,
    $$SELECT leyser.deny_permission('cyd', 'bad.read', valid_from => '2100-01-02', valid_until => '2100-01-01')$$,
    $$SELECT leyser.deny_permission('cyd', 'bad.read', valid_until => '-infinity')$$,
    $$SELECT leyser.had_permission('cyd', 'bad.read', NULL, now() + '1 day')$$,
    $$SELECT leyser.had_permission('cyd', 'bad.read', NULL, NULL)$$);

-- To oneself, also as an administrator; by another spelling of one's name.
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('ada', 'bad.read')$$,
    $$SELECT leyser.grant_permission('ADA', 'bad.read')$$,
    $$SELECT leyser.grant_role('ada', 'reader')$$,
    $$SELECT leyser.grant_role('ＡＤＡ', 'reader')$$,
    $$SELECT leyser.grant_administrator('ada')$$,
    $$SELECT leyser.lift_denial('ada', 'bad.read')$$);
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('bob', 'bad.read', 'japan', valid_until => '2099-01-01')$$,
    $$SELECT leyser.grant_role('bob', 'clerk', 'korea.seoul')$$);

-- What one does not hold: at all, as wide, as long, or with grant option.
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('cyd', 'bad.write', 'japan', valid_until => '2099-01-01')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', valid_until => '2099-01-01')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', 'jap', valid_until => '2099-01-01')$$,
    $$SELECT leyser.grant_permission('cyd', 'bad.read', 'japan')$$,
    $$SELECT leyser.grant_role('cyd', 'clerk', 'japan')$$,
    $$SELECT leyser.grant_role('cyd', 'reader')$$,
    $$SELECT leyser.grant_administrator('cyd')$$,
    $$SELECT leyser.create_role('mine', '{bad.read}')$$,
    $$SELECT leyser.alter_role('reader', add_permissions => '{bad.write}')$$,
    $$SELECT leyser.drop_role('reader', cascade => true)$$,
    $$SELECT leyser.deny_permission('cyd', 'bad.read', 'japan')$$,
    $$SELECT leyser.lift_denial('cyd', 'bad.write', 'korea')$$,
    $$SELECT leyser.revoke_permission('cyd', 'bad.read', 'japan')$$,
    $$SELECT leyser.revoke_role('cyd', 'clerk', 'korea')$$,
    $$SELECT leyser.revoke_administrator('ada')$$);
COMMIT;
BEGIN; SELECT set_config('leyser.token', :'cyd', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.grant_permission('bob', 'bad.read')$$,
    $$SELECT leyser.grant_role('bob', 'reader')$$,
    $$SELECT leyser.invite_account('fay')$$,
    $$SELECT leyser.disable_account('bob')$$);
COMMIT;

-- Names: taken, in another case, width or composition; empty, too long, with blanks
-- around them, with what cannot be seen, with letters that look like others.
BEGIN; SELECT set_config('leyser.token', :'ada', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.create_role('READER')$$,
    $$SELECT leyser.create_role('ｒｅａｄｅｒ')$$,
    $$SELECT leyser.create_role(U&'r\0435ader')$$,
    $$SELECT leyser.create_role('')$$,
    $$SELECT leyser.create_role(NULL)$$,
    $$SELECT leyser.create_role(' x')$$,
    $$SELECT leyser.create_role(repeat('x', 201))$$,
    $$SELECT leyser.create_role(E'x\ty')$$,
    $$SELECT leyser.create_role(U&'x\0085')$$,
    $$SELECT leyser.create_role(U&'x\200by')$$,
    $$SELECT leyser.create_role(U&'x\202ey')$$);
CALL trial.attempt_all(
    $$SELECT leyser.invite_account('BOB')$$,
    $$SELECT leyser.create_account('ｂｏｂ')$$,
    $$SELECT leyser.create_account(U&'b\043eb')$$,
    $$SELECT leyser.create_account('')$$,
    $$SELECT leyser.create_account(NULL)$$,
    $$SELECT leyser.create_account('x ')$$,
    $$SELECT leyser.create_account(repeat('x', 201))$$,
    $$SELECT leyser.create_account(E'x\x7f')$$,
    $$SELECT leyser.invite_account(U&'x\200by')$$,
    $$SELECT leyser.rename_account('bob', 'CYD')$$,
    $$SELECT leyser.rename_account('bob', U&'\0441yd')$$,
    $$SELECT leyser.rename_account('bob', E'b\nb')$$,
    $$SELECT leyser.rename_account('bob', '')$$,
    $$SELECT leyser.rename_account('bob', NULL)$$);
-- quotes are letters like others, nothing that ends a statement
SELECT leyser.create_role('"; DROP ROLE x; --''%s\'), leyser.grant_role('cyd', '"; DROP ROLE X; --''%S\', 'q');
SELECT role_name FROM leyser.role WHERE role_name ~ 'DROP';
ROLLBACK;

-- Steps that are none: a second end, the last administrator, what is in use.
BEGIN; SELECT set_config('leyser.token', :'ada', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.revoke_permission('bob', 'bad.read')$$,
    $$SELECT leyser.revoke_role('cyd', 'reader')$$,
    $$SELECT leyser.revoke_administrator('bob')$$,
    $$SELECT leyser.revoke_administrator('ada')$$,
    $$SELECT leyser.disable_account('ada')$$,
    $$SELECT leyser.delete_account('ada')$$,
    $$SELECT leyser.enable_account('bob')$$,
    $$SELECT leyser.lift_denial('cyd', 'bad.write', 'korea.seoul')$$,
    $$SELECT leyser.deny_permission('ada', 'leyser.grants')$$,
    $$SELECT leyser.drop_role('reader')$$,
    $$SELECT leyser.alter_role('reader', add_roles => '{clerk}')$$,
    $$SELECT leyser.alter_role('reader', add_roles => '{reader}')$$);
COMMIT;
\c - regress_leyser_operator
CALL trial.attempt_all(
    $$SELECT leyser.create_permission('bad.read', 'again')$$,
    $$SELECT leyser.create_permission('Bad.Read', 'case')$$,
    $$SELECT leyser.create_permission('leyser.mine', 'ours')$$,
    $$SELECT leyser.create_permission('bad..read', 'dots')$$,
    $$SELECT leyser.create_permission(NULL, 'null')$$,
    $$SELECT leyser.create_permission(repeat('a', 101), 'long')$$,
    $$SELECT leyser.create_permission('bad.new', '')$$,
    $$SELECT leyser.create_permission('bad.new', E'two\nlines')$$,
    $$SELECT leyser.drop_permission('bad.read')$$,
    $$SELECT leyser.drop_permission('bad.raed')$$,
    $$SELECT leyser.drop_permission('leyser.grants')$$);

-- Passwords: NULL, empty, too short, a character too long, on the block list, hardly
-- any, or the account's own name; one letter may stand for many.  The secret is in
-- a setting and not told.
\c - regress_leyser_app
SELECT set_config('trial.secret', :'dan_secret', false) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), NULL)$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), '')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'fourteen chars')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), repeat('long one', 128) || '!')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), repeat('long one', 127) || U&'a ton\3316')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'Correct Horse Battery Staple')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'abcdefghijklmnopqrst')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'aaaaaaaaaaaaaaaaaaaa')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'dan wrong-a DAN WRONG-A')$$);

-- Invitations: another account's or tenant's, none, one that is late or was used.
CALL trial.attempt_all(
    $$SELECT leyser.accept_invitation('wrong-a', 'eve', current_setting('trial.secret'), 'nine nightingales in Nara')$$,
    $$SELECT leyser.accept_invitation('wrong-b', 'dan', current_setting('trial.secret'), 'nine nightingales in Nara')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', 'x' || current_setting('trial.secret'), 'nine nightingales in Nara')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', '', 'nine nightingales in Nara')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'dan', NULL, 'nine nightingales in Nara')$$,
    $$SELECT leyser.accept_invitation('wrong-a', 'nobody', current_setting('trial.secret'), 'nine nightingales in Nara')$$);
\c - :superuser
UPDATE leyser.invitation_record i SET expires_at = clock_timestamp() - interval '1 ms'
    FROM leyser.account_record a WHERE a.account_id = i.account_id AND a.account_name = 'eve';
\c - regress_leyser_app
SELECT set_config('trial.secret', :'eve_secret', false) \g /dev/null
CALL trial.attempt_all($$SELECT leyser.accept_invitation('wrong-a', 'eve', current_setting('trial.secret'), 'nine nightingales in Nara')$$);
-- the longest password that can be, and its invitation a second time
SELECT set_config('trial.secret', :'dan_secret', false) \g /dev/null
SELECT leyser.accept_invitation('wrong-a', 'dan', :'dan_secret', repeat('long one', 128));
CALL trial.attempt_all($$SELECT leyser.accept_invitation('wrong-a', 'dan', current_setting('trial.secret'), 'nine nightingales in Nara')$$);
SELECT leyser.login('wrong-a', 'dan', repeat('long one', 128)) AS dan \gset
BEGIN; SELECT set_config('leyser.token', :'dan', true) \g /dev/null
CALL trial.attempt_all(
    $$SELECT leyser.change_password(repeat('long one', 128), repeat('long one', 128))$$,
    $$SELECT leyser.change_password(repeat('long one', 128), repeat('long one', 128) || '!')$$,
    $$SELECT leyser.change_password(repeat('long one', 128), '')$$,
    $$SELECT leyser.change_password(repeat('long one', 128), 'correct horse battery staple')$$);
COMMIT;
CALL trial.attempt_all(
    $$SELECT leyser.change_password('whoever I may be', 'nine nightingales in Nara')$$,
    $$SELECT leyser.login('wrong-a', 'dan', 'whatever', lifetime => '0')$$,
    $$SELECT leyser.login('wrong-a', 'dan', 'whatever', lifetime => '91 days')$$,
    $$SELECT leyser.login('wrong-a', 'dan', 'whatever', lifetime => NULL)$$);
-- the password counts to its last character; a longer one is wrong like any other
SELECT leyser.login('wrong-a', 'dan', repeat('long one', 127) || 'long onf') IS NULL AS another,
    leyser.login('wrong-a', 'dan', repeat('long one', 128) || '!') IS NULL AS longer;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application'), leyser.revoke_usage('regress_leyser_operator', 'operator');
DELETE FROM leyser.blocked_password WHERE password = 'correct horse battery staple';
DELETE FROM leyser.grant_record g USING leyser.account_record a WHERE a.account_id = g.account_id AND a.tenant_id ~ '^wrong-[ab]$';
DELETE FROM leyser.role_record WHERE tenant_id ~ '^wrong-[ab]$';
DELETE FROM leyser.permission_record WHERE permission ~ '^bad[.]';
DROP ROLE regress_leyser_app, regress_leyser_operator;
