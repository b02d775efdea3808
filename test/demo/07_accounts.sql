\set SHOW_CONTEXT never
\echo
\echo '== 10. Accounts: branch 3 runs itself'
\echo '   The provider invites one person; the password is known to nobody else.'
\echo
\c -reuse-previous=on - bank_sales
\echo '   bank_sales=> SELECT leyser.invite_account(''ines'', tenant_id => ''3'');'
SELECT leyser.invite_account('ines', tenant_id => '3') AS invitation \gset
\c -reuse-previous=on - bank_app
\echo '   bank_app=> SELECT leyser.accept_invitation(''3'', ''ines'', …, ''12345678'');'
\set ON_ERROR_STOP off
SELECT leyser.accept_invitation('3', 'ines', :'invitation', '12345678');
\ir refused.psql
SELECT leyser.accept_invitation('3', 'ines', :'invitation', 'seven owls sing at noon') \g /dev/null
\echo '   The invitation is used up; the password gives a token, a guess gives nothing:'
\set ON_ERROR_STOP off
SELECT leyser.accept_invitation('3', 'ines', :'invitation', 'eight owls sing at noon');
\ir refused.psql
SELECT leyser.login('3', 'somebody', 'seven owls sing at noon') AS guessed;
SELECT leyser.login('3', 'ines', 'seven owls sing at noon') AS token_ines \gset
\echo '   As the administrator of her branch she invites two others:'
BEGIN;
SELECT set_config('leyser.token', :'token_ines', true) AS token;
SELECT leyser.invite_account('ana') AS for_ana, leyser.invite_account('ben') AS for_ben \gset
SELECT account_name, state, has_password FROM leyser.account ORDER BY account_id;
COMMIT;
SELECT leyser.accept_invitation('3', 'ana', :'for_ana', 'a ferry full of violets'),
       leyser.accept_invitation('3', 'ben', :'for_ben', 'bread is older than money') \g /dev/null
SELECT leyser.login('3', 'ana', 'a ferry full of violets') AS token_ana,
       leyser.login('3', 'ben', 'bread is older than money') AS token_ben \gset

\echo '== 11. Permissions: the operator names them and says which table asks for them'
\echo
\c -reuse-previous=on - bank_operator
SELECT leyser.create_permission('account.read', 'see accounts of the branch'),
       leyser.create_permission('account.write', 'change accounts of the branch') \g /dev/null
\echo '   bank_operator=> SELECT leyser.set_permissions(''pgbench_accounts'', ''account.read'', ''account.write'');'
SELECT leyser.set_permissions('pgbench_accounts', 'account.read', 'account.write') \g /dev/null
SELECT relation, read_permission, write_permission FROM leyser.governed_table
WHERE read_permission IS NOT NULL;
\c -reuse-previous=on - bank_app
\echo '   Nobody has them yet, so Ana sees nothing:'
BEGIN;
SELECT set_config('leyser.token', :'token_ana', true) AS token;
SELECT count(*) AS accounts FROM pgbench_accounts;
COMMIT;
\echo '   Ines lets Ana read, and Ben also write:'
BEGIN;
SELECT set_config('leyser.token', :'token_ines', true) AS token;
SELECT leyser.grant_permission('ana', 'account.read'), leyser.grant_permission('ben', 'account.read'),
       leyser.grant_permission('ben', 'account.write') \g /dev/null
SELECT account_name, permission FROM leyser.granted WHERE kind = 'permission' ORDER BY 1, 2;
COMMIT;
\echo '   Ana reads her branch.  Her UPDATE finds no row that she may change:'
BEGIN;
SELECT set_config('leyser.token', :'token_ana', true) AS token;
SELECT count(*) AS accounts, min(bid) AS branch FROM pgbench_accounts;
UPDATE pgbench_accounts SET abalance = abalance + 100 WHERE aid = 250001 RETURNING aid;
SELECT 1 / (:ROW_COUNT = 0)::int AS checked \gset
\echo '   bank_app=> INSERT INTO pgbench_accounts (aid, abalance) VALUES (2000001, 0);'
\set ON_ERROR_STOP off
INSERT INTO pgbench_accounts (aid, abalance) VALUES (2000001, 0);
\ir refused.psql
ROLLBACK;
BEGIN;
SELECT set_config('leyser.token', :'token_ana', true) AS token;
\echo '   She cannot grant herself more, either:'
\set ON_ERROR_STOP off
SELECT leyser.grant_permission('ana', 'account.write');
\ir refused.psql
ROLLBACK;
\echo '== 12. A revoke bites in a connection that is open'
\echo
\setenv LEYSER_DEMO_TOKEN :token_ines
BEGIN;
SELECT set_config('leyser.token', :'token_ben', true) AS token;
\echo '   Ben writes:'
UPDATE pgbench_accounts SET abalance = abalance WHERE aid = 250001 RETURNING aid, bid;
SELECT 1 / :ROW_COUNT AS checked \gset
\echo '   In another connection, Ines: SELECT leyser.revoke_permission(''ben'', ''account.write'');'
\! echo "BEGIN; SELECT set_config('leyser.token', :'token', true); SELECT leyser.revoke_permission('ben', 'account.write'); COMMIT;" | psql -X -q -U bank_app -v ON_ERROR_STOP=1 -v token="$LEYSER_DEMO_TOKEN" > /dev/null
\setenv LEYSER_DEMO_TOKEN
\echo '   The next statement of Ben''s open transaction:'
UPDATE pgbench_accounts SET abalance = abalance WHERE aid = 250001 RETURNING aid, bid;
SELECT 1 / (:ROW_COUNT = 0)::int AS checked \gset
COMMIT;
\echo '   Why?  Ben asks about himself:'
BEGIN;
SELECT set_config('leyser.token', :'token_ben', true) AS token;
SELECT permission, allowed, finding, path, granted_by
FROM (VALUES ('account.read'), ('account.write')) p (permission),
     leyser.explain_permission('ben', permission);
COMMIT;
\echo '   And Ines, who could and who can:'
BEGIN;
SELECT set_config('leyser.token', :'token_ines', true) AS token;
SELECT * FROM leyser.accounts_with('account.write');
SELECT change, account_now AS account, coalesce(row_before, row_after) ->> 'permission' AS permission, changed_by
FROM leyser.permission_history('ben') WHERE change LIKE 'grant.%';
COMMIT;
