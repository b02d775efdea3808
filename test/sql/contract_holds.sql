-- Holds keep a tenant locked out and not erased; external stores keep a purge
-- open until somebody confirms them.

\set SHOW_CONTEXT never
SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_auditor LOGIN;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator'), leyser.grant_usage('regress_leyser_auditor', 'auditor');
SELECT max(event_id) AS first_event FROM leyser.event \gset
SELECT leyser.create_tenant('hol-a'), leyser.create_tenant('hol-b'), leyser.create_tenant('hol-c');
\c - regress_leyser_operator
SET client_min_messages = warning;

-- An active tenant is not held; one whose end is announced can be.
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'court order 17', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.release_hold('hol-a')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('nobody', 'court order 17', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.release_hold(NULL)$$);
SELECT leyser.terminate_contract('hol-b', '2999-12-31') > now() AS announced;
SELECT leyser.hold_purge('hol-b', 'court order 17', '2999-01-31');
SELECT tenant_id, state, legal_basis, review_on, held_by FROM leyser.contract WHERE tenant_id = 'hol-b';
SELECT leyser.release_hold('hol-b');
SELECT leyser.hold_purge('hol-b', 'court order 17', '2999-01-31');
-- what ends the announcement does not end the hold: a later end finds it
SELECT leyser.cancel_termination('hol-b');
SELECT tenant_id, state, effective_at, legal_basis, review_on FROM leyser.contract WHERE tenant_id = 'hol-b';
SELECT leyser.terminate_contract('hol-b', now()) <= clock_timestamp() AS ended;
SELECT state FROM leyser.tenant WHERE tenant_id = 'hol-b';

-- Without a basis, or for ever, none.
SELECT leyser.terminate_contract('hol-a', now()) <= clock_timestamp() AS ended;
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', NULL, '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', '  ', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', E'one\ntwo', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', repeat('x', 1001), '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'court order 17', NULL)$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'court order 17', 'infinity')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'court order 17', '2026-01-31')$$);

-- A purge in the middle of its work: held, it deletes nothing; released, it is due.
-- In one transaction: no worker must find this purge.
\c - :superuser
SET client_min_messages = warning;
BEGIN;
INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
    VALUES ('hol-a', 'deleting', 1000, 0, 'regress');
SET LOCAL client_min_messages = notice;
SET LOCAL ROLE regress_leyser_operator;
SELECT leyser.hold_purge('hol-a', 'court order 17', '2999-01-31');
RESET ROLE;
SELECT t.state AS tenant, p.state AS purge FROM leyser.tenant t JOIN leyser.purge_record p USING (tenant_id) WHERE tenant_id = 'hol-a';
CALL trial.attempt($$SELECT leyser.require_purgeable('hol-a')$$);
CALL trial.attempt($$SELECT leyser.enter('hol-a')$$);
SET LOCAL ROLE regress_leyser_operator;
-- again, for another day
SELECT leyser.hold_purge('hol-a', 'court order 17, prolonged', '2999-02-28');
SELECT state, legal_basis, review_on FROM leyser.contract WHERE tenant_id = 'hol-a';
SELECT leyser.release_hold('hol-a');
CALL trial.attempt($$SELECT leyser.release_hold('hol-a')$$);
RESET ROLE;
SELECT t.state AS tenant, p.state AS purge FROM leyser.tenant t JOIN leyser.purge_record p USING (tenant_id) WHERE tenant_id = 'hol-a';
SELECT leyser.require_purgeable('hol-a');
DELETE FROM leyser.purge_record WHERE tenant_id = 'hol-a';
COMMIT;

-- The purge's door.
CALL trial.attempt($$SELECT leyser.require_purgeable('hol-c')$$);
CALL trial.attempt($$SELECT leyser.require_purgeable('nobody')$$);
BEGIN;
SELECT leyser.terminate_contract('hol-c', '2999-12-31') > now() AS announced;
CALL trial.attempt($$SELECT leyser.require_purgeable('hol-c')$$);
ROLLBACK;
BEGIN;
UPDATE leyser.tenant_record SET state = 'erased', name = NULL WHERE tenant_id = 'hol-a';
CALL trial.attempt($$SELECT leyser.require_purgeable('hol-a')$$);
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'court order 17', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.create_account('late', 'hol-a')$$);
ROLLBACK;

-- External stores.
\c - regress_leyser_operator
SELECT leyser.register_external_store('regress bucket'), leyser.register_external_store('regress search');
CALL trial.attempt($$SELECT leyser.register_external_store('regress bucket')$$);
CALL trial.attempt($$SELECT leyser.register_external_store(' regress')$$);
CALL trial.attempt($$SELECT leyser.register_external_store('')$$);
CALL trial.attempt($$SELECT leyser.register_external_store(NULL)$$);
CALL trial.attempt($$SELECT leyser.register_external_store(repeat('x', 201))$$);
-- not before the tenant is locked out, not while it is held, and not in the dark
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('hol-c', 'regress bucket')$$);
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('hol-b', 'regress bucket')$$);
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('hol-a', 'regress bukcet')$$);
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('nobody', 'regress bucket')$$);
SELECT leyser.confirm_external_erasure('hol-a', 'regress bucket');
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('hol-a', 'regress bucket')$$);
\c - :superuser
SELECT s FROM leyser.missing_external_erasures('hol-a') s WHERE s ~ '^regress';
SELECT confirmed_by FROM leyser.external_erasure WHERE tenant_id = 'hol-a';
\c - regress_leyser_operator
SELECT leyser.drop_external_store('regress search');
CALL trial.attempt($$SELECT leyser.drop_external_store('regress search')$$);
\c - :superuser
SELECT s FROM leyser.missing_external_erasures('hol-a') s WHERE s ~ '^regress';

-- Auditors look on.
\c - regress_leyser_auditor
CALL trial.attempt($$SELECT leyser.hold_purge('hol-a', 'mine', '2999-01-31')$$);
CALL trial.attempt($$SELECT leyser.release_hold('hol-b')$$);
CALL trial.attempt($$SELECT leyser.register_external_store('mine')$$);
CALL trial.attempt($$SELECT leyser.confirm_external_erasure('hol-a', 'regress bucket')$$);
SELECT event, tenant_id, object, detail - 'ends_at' - 'effective_at' - 'held_at' AS detail FROM leyser.event
WHERE event_id > :first_event AND event ~ '^(purge|external)' ORDER BY event_id;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.drop_external_store('regress bucket');
DELETE FROM leyser.external_erasure WHERE tenant_id ~ '^hol-';
DELETE FROM leyser.hold_record WHERE tenant_id ~ '^hol-';
DELETE FROM leyser.termination_record WHERE tenant_id ~ '^hol-';
DELETE FROM leyser.tenant_record WHERE tenant_id ~ '^hol-';
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator'), leyser.revoke_usage('regress_leyser_auditor', 'auditor');
DROP ROLE regress_leyser_operator, regress_leyser_auditor;
