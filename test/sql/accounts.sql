-- Accounts: invited, accepted, changed and deleted, each step beside what must
-- be refused.  Secrets and passwords are in psql's variables, never in a table.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_provisioner LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_provisioner', 'provisioner');
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.create_tenant('acc-a'), leyser.create_tenant('acc-b');

-- An application makes no account from outside, not even a tenant's first one.
\c - regress_leyser_app
CALL trial.attempt($$SELECT leyser.invite_account('mallory', 'acc-a')$$);
CALL trial.attempt($$SELECT leyser.create_account('mallory', 'acc-a')$$);
CALL trial.attempt($$SELECT leyser.invite_account('mallory')$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-a', 'I want it')$$);
CALL trial.attempt($$SELECT leyser.block_passwords('{whatever it may be}')$$);

-- A provisioner makes the first account, and no other.
\c - regress_leyser_provisioner
CALL trial.attempt($$SELECT leyser.invite_account('ann', 'acc-none')$$);
CALL trial.attempt($$SELECT leyser.invite_account('ann', NULL)$$);
CALL trial.attempt($$SELECT leyser.invite_account('ann', 'acc-a', valid_for => '0')$$);
CALL trial.attempt($$SELECT leyser.invite_account('ann', 'acc-a', valid_for => '91 days')$$);
SELECT leyser.invite_account('Ann', 'acc-a') AS first_secret \gset
SELECT leyser.invite_account('ann', 'acc-a') AS ann_secret \gset
SELECT length(:'ann_secret') AS letters, :'ann_secret' ~ '^[A-Za-z0-9_-]+$' AS fits_a_link,
    :'ann_secret' <> :'first_secret' AS renewed;
CALL trial.attempt($$SELECT leyser.invite_account('mallory', 'acc-a')$$);
SELECT leyser.invite_account('bea', 'acc-b') AS bea_secret \gset
CALL trial.attempt($$SELECT * FROM leyser.account$$);
CALL trial.attempt($$SELECT * FROM leyser.invitation_record$$);

-- Accepting: the right secret for the right account, once, with a good password.
\c - regress_leyser_app
\set SHOW_CONTEXT never
SELECT leyser.accept_invitation('acc-a', 'ann', :'first_secret', 'a garden without any fence');
SELECT leyser.accept_invitation('acc-b', 'ann', :'ann_secret', 'a garden without any fence');
SELECT leyser.accept_invitation('acc-a', 'bea', :'ann_secret', 'a garden without any fence');
SELECT leyser.accept_invitation('acc-a', NULL, :'ann_secret', 'a garden without any fence');
SELECT leyser.accept_invitation('acc-a', 'ann', NULL, 'a garden without any fence');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', NULL);
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', '');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'fourteen chars');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', repeat('no end ', 147));
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'abcdefghijklmnopq');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', '98765432109876543210');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'abababababababababab');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'ACC-A acc-a ann ann');
SELECT leyser.accept_invitation('acc-a', 'ANN', :'ann_secret', 'a garden without any fence');
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'another garden with a fence');
SELECT leyser.accept_invitation('acc-b', 'bea', :'bea_secret', repeat('長い合言葉', 10) || 'です');
-- An invitation that is late.
\c - :superuser
SELECT leyser.invite_account('cid', 'acc-a') AS cid_secret \gset
UPDATE leyser.invitation_record SET expires_at = clock_timestamp() - interval '1 second';
\c - regress_leyser_app
CALL trial.attempt(format('SELECT leyser.accept_invitation(%L, %L, %L, %L)', 'acc-a', 'cid',
    :'cid_secret', 'a garden without any fence'));
-- One that was invited and has not accepted has no context.
CALL trial.attempt($$SELECT leyser.login('acc-a', 'cid', '') IS NULL$$);

-- The first account is its tenant's administrator; another one is not.
SELECT leyser.login('acc-a', 'ann', 'a garden without any fence') AS ann \gset
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.account_name(), leyser.has_permission('leyser.accounts');
SELECT leyser.invite_account('dan') AS dan_secret, leyser.invite_account('eve') AS eve_secret \gset
SELECT leyser.create_account('robot') IS NOT NULL AS made;
SELECT account_name, state, has_password FROM leyser.account ORDER BY account_name;
CALL trial.attempt($$SELECT leyser.invite_account('ANN')$$);
CALL trial.attempt($$SELECT leyser.invite_account('ＡＮＮ')$$);
CALL trial.attempt($$SELECT leyser.create_account('Dan')$$);
CALL trial.attempt($$SELECT leyser.invite_account('frank', 'acc-b')$$);
CALL trial.attempt($$SELECT leyser.create_account('frank', 'acc-b')$$);
CALL trial.attempt($$SELECT leyser.disable_account('bea')$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-a', 'in a context')$$);
COMMIT;
-- Nothing of it left anything in the other tenant.
SELECT leyser.accept_invitation('acc-a', 'dan', :'dan_secret', 'what dan alone knows');
SELECT leyser.accept_invitation('acc-a', 'eve', :'eve_secret', 'what eve alone knows');
SELECT leyser.login('acc-a', 'dan', 'what dan alone knows') AS dan,
    leyser.login('acc-b', 'bea', repeat('長い合言葉', 10) || 'です') AS bea \gset
BEGIN;
SELECT set_config('leyser.token', :'bea', true) \g /dev/null
SELECT account_name, state FROM leyser.account;
SELECT event, account_name, detail - 'expires_at' - 'session_id' - 'ends_at' AS detail
    FROM leyser.account_event ORDER BY at;
COMMIT;

-- Names: what cannot be seen, looks like another name or is too long.
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.invite_account(NULL)$$);
CALL trial.attempt($$SELECT leyser.invite_account('')$$);
CALL trial.attempt($$SELECT leyser.invite_account(' dan')$$);
CALL trial.attempt($$SELECT leyser.invite_account(E'dan\n')$$);
CALL trial.attempt($$SELECT leyser.invite_account(U&'da\200Bn')$$);
CALL trial.attempt($$SELECT leyser.invite_account(U&'d\0430n')$$);
CALL trial.attempt($$SELECT leyser.invite_account(repeat('n', 201))$$);
CALL trial.attempt($$SELECT leyser.rename_account('dan', U&'\0430nn')$$);
CALL trial.attempt($$SELECT leyser.rename_account('dan', 'Ann')$$);
CALL trial.attempt($$SELECT leyser.rename_account('dan', E'\t')$$);
CALL trial.attempt($$SELECT leyser.rename_account('nobody', 'somebody')$$);
-- NFD is stored as NFC; a quote is a letter like others
SELECT leyser.create_account(U&'Zoe\0308 "O''Neil"; --') IS NOT NULL AS made;
SELECT account_name, account_name = U&'Zo\00EB "O''Neil"; --' AS composed
    FROM leyser.account WHERE account_name LIKE 'Z%';
CALL trial.attempt($$SELECT leyser.create_account(U&'ZO\00CB "O''NEIL"; --')$$);
SELECT leyser.delete_account('zoë "o''neil"; --');
COMMIT;

-- Without the permission: one's own account, and nothing of others.
BEGIN;
SELECT set_config('leyser.token', :'dan', true) \g /dev/null
SELECT account_name FROM leyser.account;
SELECT count(*) FROM leyser.account_event;
SELECT account_name FROM leyser.session;
CALL trial.attempt($$SELECT leyser.invite_account('frank')$$);
CALL trial.attempt($$SELECT leyser.create_account('frank', 'acc-a', true)$$);
CALL trial.attempt($$SELECT leyser.disable_account('ann')$$);
CALL trial.attempt($$SELECT leyser.enable_account('ann')$$);
CALL trial.attempt($$SELECT leyser.rename_account('ann', 'anna')$$);
CALL trial.attempt($$SELECT leyser.delete_account('ann')$$);
CALL trial.attempt($$SELECT leyser.reset_password('ann')$$);
CALL trial.attempt($$SELECT leyser.revoke_sessions('ann')$$);
CALL trial.attempt($$SELECT leyser.revoke_sessions('nobody')$$);
CALL trial.attempt($$SELECT leyser.import_account('frank', '$2a$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC')$$);
COMMIT;

-- With the permission, and not as an administrator: no way to become one.
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.grant_permission('dan', 'leyser.accounts');
SELECT leyser.grant_permission('eve', 'leyser.grants');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'dan', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.invite_account('frank', administrator => true)$$);
CALL trial.attempt($$SELECT leyser.reset_password('ann')$$);
CALL trial.attempt($$SELECT leyser.disable_account('ann')$$);
CALL trial.attempt($$SELECT leyser.rename_account('ann', 'anna')$$);
CALL trial.attempt($$SELECT leyser.reset_password('eve')$$);
CALL trial.attempt($$SELECT leyser.rename_account('eve', 'adam')$$);
SELECT leyser.disable_account('eve'), leyser.enable_account('eve');
SELECT leyser.rename_account('robot', 'Robot 2');
CALL trial.attempt($$SELECT leyser.disable_account('Robot 2')$$);
CALL trial.attempt($$SELECT leyser.disable_account('robot 2')$$);
CALL trial.attempt($$SELECT leyser.reset_password('robot 2')$$);
CALL trial.attempt($$SELECT leyser.enable_account('eve')$$);
SELECT account_name, state, has_password FROM leyser.account ORDER BY account_name;
ROLLBACK;

-- The last administrator stays, whatever is tried, and nobody ends oneself.
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.disable_account('ann')$$);
CALL trial.attempt($$SELECT leyser.delete_account('ann')$$);
CALL trial.attempt($$SELECT leyser.rename_account('ann', 'anna')$$);
SELECT leyser.grant_administrator('dan');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'dan', true) \g /dev/null
SELECT leyser.disable_account('ann');
CALL trial.attempt($$SELECT leyser.delete_account('dan')$$);
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true);
ROLLBACK;
SELECT leyser.login('acc-a', 'ann', 'a garden without any fence') IS NULL AS disabled;
BEGIN;
SELECT set_config('leyser.token', :'dan', true) \g /dev/null
SELECT leyser.enable_account('ann');
COMMIT;
-- her session ended for good, and her password works again
BEGIN;
SELECT set_config('leyser.token', :'ann', true);
ROLLBACK;
SELECT leyser.login('acc-a', 'ann', 'a garden without any fence') AS ann \gset
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.revoke_administrator('dan');
CALL trial.attempt($$SELECT leyser.revoke_administrator('ann')$$);
COMMIT;

-- Enabled again: what it was before.  An account for an issuer's tokens stays active, also
-- with a reset that is open; one that has not accepted its invitation stays invited.
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.create_account('till') IS NOT NULL AS made, length(leyser.reset_password('till')) > 0 AS reset,
    length(leyser.invite_account('gus')) > 0 AS invited;
SELECT leyser.disable_account('till'), leyser.enable_account('till'), leyser.disable_account('gus'), leyser.enable_account('gus') \g /dev/null
SELECT leyser.disable_account('till'), leyser.enable_account('till'), leyser.disable_account('gus'), leyser.enable_account('gus') \g /dev/null
SELECT account_name, state FROM leyser.account WHERE account_name IN ('till', 'gus') ORDER BY 1;
-- Invited again: a new secret each time, as an administrator, too.
SELECT leyser.invite_account('ivy', administrator => true) AS first, leyser.invite_account('ivy', administrator => true) AS ivy_secret,
    leyser.invite_account('gus', administrator => true) AS gus_secret \gset
SELECT :'first' <> :'ivy_secret' AS renewed;
SELECT account_name, kind, granted_by FROM leyser.granted WHERE account_name IN ('ivy', 'gus') ORDER BY 1;
CALL trial.attempt($$SELECT leyser.invite_account('ann', administrator => true)$$);
COMMIT;
CALL trial.attempt(format('SELECT leyser.accept_invitation(%L, %L, %L, %L)', 'acc-a', 'ivy', :'first', 'what ivy alone knows'));
SELECT leyser.accept_invitation('acc-a', 'ivy', :'ivy_secret', 'what ivy alone knows'),
    leyser.accept_invitation('acc-a', 'gus', :'gus_secret', 'what gus alone knows');
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.delete_account('ivy'), leyser.delete_account('gus'), leyser.delete_account('till') \g /dev/null
COMMIT;

-- Deleted: nothing personal stays, the name is free again, and the id is the history's.
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.delete_account('eve');
CALL trial.attempt($$SELECT leyser.enable_account('eve')$$);
SELECT leyser.invite_account('eve') IS NOT NULL AS invited_again;
COMMIT;
SELECT leyser.login('acc-a', 'eve', 'what eve alone knows') IS NULL AS gone;
\c - :superuser
SELECT state, account_name, name_key, password, password_set_at FROM leyser.account_record
    WHERE tenant_id = 'acc-a' AND state = 'deleted' AND account_id IN (
        SELECT object::bigint FROM leyser.event_record WHERE event = 'account.accepted');
SELECT (SELECT count(*) FROM leyser.password_record p WHERE p.account_id = a.account_id) AS passwords,
       (SELECT count(*) FROM leyser.session_record s WHERE s.account_id = a.account_id) AS sessions,
       (SELECT count(*) FROM leyser.grant_record g WHERE g.account_id = a.account_id) AS grants,
       (SELECT count(*) > 0 FROM leyser.permission_change c WHERE c.account_id = a.account_id) AS history
    FROM leyser.account_record a WHERE tenant_id = 'acc-a' AND state = 'deleted' ORDER BY account_id;

-- An administrator who is lost is recovered from outside; the tenant sees it.
\c - regress_leyser_provisioner
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-none', 'a reason')$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-a', '')$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-a', NULL)$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('acc-a', 'a reason', valid_for => '1 year')$$);
SELECT leyser.recover_administrator('acc-a', 'letter of the board, 2026-11-02') AS ann_secret \gset
\c - regress_leyser_app
SELECT leyser.login('acc-a', 'ann', 'a garden without any fence') IS NULL AS former_password_ended;
BEGIN;
SELECT set_config('leyser.token', :'ann', true);
ROLLBACK;
CALL trial.attempt(format('SELECT leyser.accept_invitation(%L, %L, %L, %L)', 'acc-a', 'ann',
    :'ann_secret', 'a garden without any fence'));
SELECT leyser.accept_invitation('acc-a', 'ann', :'ann_secret', 'the wall of another garden');
SELECT leyser.login('acc-a', 'ann', 'the wall of another garden') AS ann \gset
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT event, account_name, caller_role, detail FROM leyser.account_event
    WHERE event LIKE 'administrator%';
COMMIT;

-- The block list, and the last five passwords.
\c - regress_leyser_operator
SELECT leyser.block_passwords('{"Summer In The City 1966", "summer in the city 1966", ""}');
CALL trial.attempt($$SELECT * FROM leyser.blocked_password$$);
CALL trial.attempt($$SELECT * FROM leyser.account$$);
\c - regress_leyser_app
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.change_password('the wall of another garden', 'ＳＵＭＭＥＲ in the city 1966')$$);
CALL trial.attempt($$SELECT leyser.change_password('the wall of another garden', 'the wall of another garden')$$);
CALL trial.attempt($$SELECT leyser.change_password('the wall of another garden', 'a garden without any fence')$$);
SELECT leyser.change_password('the wall of another garden', 'password number two');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.change_password('password number two', 'password number three');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.change_password('password number three', 'password number four');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.change_password('password number four', 'a garden without any fence')$$);
SELECT leyser.change_password('password number four', 'password number five');
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.change_password('password number five', 'a garden without any fence');
COMMIT;

-- Names of mixed scripts: Latin with Cherokee, Armenian, Georgian, Lisu and Coptic, and
-- others that are mixed nowhere; then what is written somewhere.
\c - :superuser
\pset format unaligned
SELECT name, leyser.name_problem(name) IS NOT NULL AS refused FROM (VALUES
    (U&'d\13A2n'), (U&'\0561nn'), (U&'bo\10D5'), (U&'\A4EEnn'), (U&'ann\2C9F'), (U&'\0430\03BF'), (U&'\0585\0430'),
    (U&'\AB70da'), (U&'\+01D44E\043D\043D'), (U&'\00B5sv'), (U&'\3042\AC00'), (U&'\3105\3042'), (U&'\0430\4E00'), (U&'\0905\0985'),
    (U&'\0430\0441\0435_7'), (U&'\0431\043E\0440\0438\0441 2.0 @'), ('山田 Taro 2'), ('やまだタロー'), ('김철수 Kim 金'), (U&'\738B\3105 Wang'),
    ('María-José O''Neil'), ('Ελένη'), ('Иван Иванов'), (U&'\0561\0576\056B'), (U&'\13D3\13B5'), (U&'e\0301\0323'), ('robot-7 😀'), ('محمد ١٢'), ('नमस्ते 7')) n (name);
\pset format aligned

-- What stays nowhere: a password or a secret.
\c - :superuser
SELECT count(*) FROM leyser.event_record
    WHERE concat_ws('|', object, detail) ~ 'garden|alone knows|number|\$2a' OR concat_ws('|', object, detail) ~ :'ann_secret';
SELECT DISTINCT left(password, 36) = (SELECT keyring_id::text FROM leyser.identity) AS peppered,
    substr(password, 37, 7) AS bcrypt, length(password)
    FROM leyser.account_record WHERE password IS NOT NULL AND tenant_id LIKE 'acc-%';
DELETE FROM leyser.blocked_password;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
SELECT leyser.revoke_usage('regress_leyser_provisioner', 'provisioner');
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator');
DROP ROLE regress_leyser_app, regress_leyser_provisioner, regress_leyser_operator;
