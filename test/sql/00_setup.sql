-- A way to try a statement that tells the SQLSTATE beside message, detail and
-- hint; the other tests use it.

CREATE SCHEMA trial;
GRANT USAGE ON SCHEMA trial TO PUBLIC;
-- The statement is undone where it fails; it runs as whoever calls.
CREATE PROCEDURE trial.attempt(statement text) LANGUAGE plpgsql AS $$
DECLARE
    told_message text;
    told_detail text;
    told_hint text;
BEGIN
    EXECUTE statement;
    RAISE INFO 'works';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS told_message = MESSAGE_TEXT, told_detail = PG_EXCEPTION_DETAIL,
        told_hint = PG_EXCEPTION_HINT;
    RAISE INFO '%: %', SQLSTATE, told_message USING
        DETAIL = coalesce(nullif(told_detail, ''), '(none)'),
        HINT = coalesce(nullif(told_hint, ''), '(none)');
END
$$;
GRANT EXECUTE ON PROCEDURE trial.attempt(text) TO PUBLIC;

CALL trial.attempt('SELECT 1');
CALL trial.attempt('SELECT 1 / 0');
CALL trial.attempt('SELECT leyser.tenant_id()');
