\set SHOW_CONTEXT never
\echo
\echo '== 20. A table is adopted while the application runs: a forgotten job shows before it breaks'
\echo
SET client_min_messages = error;
CREATE TABLE standing_order (bid int NOT NULL, aid int NOT NULL, amount int NOT NULL);
RESET client_min_messages;
INSERT INTO standing_order SELECT bid, bid * 100000, 10 FROM generate_series(4, 9) bid;
CREATE INDEX ON standing_order (bid);
ALTER TABLE standing_order OWNER TO bank_owner;
GRANT SELECT, UPDATE ON standing_order TO bank_app;
\c -reuse-previous=on - bank_operator
SET ROLE bank_owner;
\echo '   bank_owner=> SELECT leyser.protect(''standing_order'', ''bid'', enforcement => ''observe'');'
SELECT leyser.protect('standing_order', 'bid', enforcement => 'observe') \g /dev/null
RESET ROLE;
\c -reuse-previous=on - bank_gateway
SELECT leyser.issue_token('4') AS token_4 \gset
\c -reuse-previous=on - bank_app
\echo '   The application works in its context; the nightly job never heard of one, and works still:'
SET application_name = 'branch desk';
BEGIN;
SELECT set_config('leyser.token', :'token_4', true) AS token;
SELECT count(*) AS orders, min(bid) AS branch FROM standing_order WHERE bid = 4;
COMMIT;
SET application_name = 'nightly job';
\set QUIET off
UPDATE standing_order SET amount = amount + 1;
\set QUIET on
SELECT 1 / (:ROW_COUNT = 6)::int AS checked \gset
\c -reuse-previous=on - bank_auditor
\echo '   bank_auditor=> SELECT … FROM leyser.context_gap;'
SELECT relation, gap, sqlstate, role, application, count FROM leyser.context_gap;
SELECT 1 / (count(*) = 1 AND min(application) = 'nightly job')::int AS checked FROM leyser.context_gap \gset
\echo '   So it is known what enforcing will stop:'
\c -reuse-previous=on - bank_operator
SET ROLE bank_owner;
\set VERBOSITY terse
\echo '   bank_owner=> SELECT leyser.protect(''standing_order'', enforcement => ''enforce'');'
SELECT leyser.protect('standing_order', enforcement => 'enforce') \g /dev/null
\set VERBOSITY default
\c -reuse-previous=on - bank_app
\set ON_ERROR_STOP off
UPDATE standing_order SET amount = amount + 1;
\ir refused.psql
\echo '   … and what it will not:'
BEGIN;
SELECT set_config('leyser.token', :'token_4', true) AS token;
SELECT count(*) AS orders, min(bid) AS branch FROM standing_order WHERE bid = 4;
COMMIT;
