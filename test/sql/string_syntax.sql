-- A client can change how the server reads backslashes in strings; what checks
-- names, scopes, hashes and reasons inside leyser reads them as they were written.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_support LOGIN;
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway'), leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.create_tenant('syn-a');
SELECT leyser.create_account('ada', 'syn-a') > 0 AS ada;

\c - regress_leyser_operator
\set SHOW_CONTEXT never
SET standard_conforming_strings = off;
SET escape_string_warning = off;
CALL trial.attempt($$SELECT leyser.create_permission('syn;b c', 'a blank')$$);
CALL trial.attempt($$SELECT leyser.create_permission('leyserx', 'fits')$$);
CALL trial.attempt($$SELECT leyser.create_permission('syn.tab', E'a tab\there')$$);
CALL trial.attempt($$SELECT leyser.create_permission('syn.read', '001f')$$);
\c - regress_leyser_gateway
\set SHOW_CONTEXT never
BEGIN;
SELECT leyser.enter('syn-a', 'ada');
SET LOCAL standard_conforming_strings = off;
SET LOCAL escape_string_warning = off;
CALL trial.attempt($$SELECT leyser.create_account('bob') > 0$$);
CALL trial.attempt($$SELECT leyser.create_account(E'zero\u200bwidth')$$);
CALL trial.attempt($$SELECT leyser.create_account(E'bell\u0007')$$);
CALL trial.attempt($$SELECT leyser.create_role(E'tab\t')$$);
CALL trial.attempt($$SELECT leyser.import_account('eve', '$2a$10$' || repeat('a', 53)) > 0$$);
CALL trial.attempt($$SELECT leyser.import_account('fay', 'x2a' || repeat('a', 57))$$);
CALL trial.attempt($$SELECT leyser.grant_permission('bob', 'syn.read', 'a b;c/d')$$);
CALL trial.attempt($$SELECT leyser.grant_permission('bob', 'syn.read', 'a.b')$$);
CALL trial.attempt($$SELECT leyser.grant_support_access('regress_leyser_support', '1 hour', E'a tab\there')$$);
CALL trial.attempt($$SELECT leyser.grant_support_access('regress_leyser_support', '1 hour', 'ticket 001f')$$);
COMMIT;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway'), leyser.revoke_usage('regress_leyser_operator', 'operator');
DELETE FROM leyser.support_record WHERE tenant_id = 'syn-a';
DROP ROLE regress_leyser_gateway, regress_leyser_operator, regress_leyser_support;
