-- A transaction that sets its token and asks for its tenant again and again takes no
-- memory for each turn: otherwise one client could fill a server's.

SET client_min_messages = warning;
SELECT leyser.create_tenant('mem-a'), leyser.create_account('ada', 'mem-a') IS NOT NULL AS account;
SELECT leyser.issue_token('mem-a', 'ada') AS a \gset
CREATE FUNCTION trial.bytes() RETURNS bigint LANGUAGE sql
    AS $$ SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext' $$;

BEGIN;
SET LOCAL leyser.token = :'a';
SELECT leyser.tenant_id(), leyser.account_name(), leyser.session_id();
SELECT trial.bytes() AS before \gset
-- in one statement, in many, and in loops of plpgsql
SELECT count(set_config('leyser.token', :'a', true)), count(DISTINCT leyser.tenant_id() || leyser.account_name())
    FROM generate_series(1, 100000);
SELECT count(DISTINCT set_config('leyser.token', :'a', true) || leyser.tenant_id()) FROM generate_series(1, 100000);
SELECT set_config('trial.token', :'a', true) IS NOT NULL AS kept;
DO $$
DECLARE
    token text := current_setting('trial.token');
BEGIN
    FOR i IN 1 .. 100000 LOOP
        PERFORM set_config('leyser.token', token, true);
        PERFORM leyser.tenant_id();
    END LOOP;
END $$;
SELECT trial.bytes() - :before < 64 * 1024 AS "has not grown";
COMMIT;

DROP FUNCTION trial.bytes();
