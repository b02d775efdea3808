-- What the other tests use: a way to try a statement that tells the SQLSTATE beside
-- message, detail and hint, and one to see whether a call left anything behind.

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

-- All rows of all of leyser's tables, as one digest; for everybody, in a context
-- and out of it.
CREATE FUNCTION trial.digest() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one regclass;
    rows text;
    digest text := '';
BEGIN
    FOR one IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'leyser'::regnamespace AND c.relkind = 'r' ORDER BY c.relname LOOP
        EXECUTE format('SELECT string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C") FROM %s t', one) INTO rows;
        digest := md5(concat(digest, one, rows));
    END LOOP;
    RETURN digest;
END
$$;
GRANT EXECUTE ON FUNCTION trial.digest() TO PUBLIC;
-- Tries one statement after another, and tells where one changed something.
CREATE PROCEDURE trial.attempt_all(VARIADIC statements text[]) LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT text := trial.digest();
    statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        RAISE INFO '%', statement;
        CALL trial.attempt(statement);
        IF trial.digest() <> before THEN
            RAISE INFO 'SOMETHING CHANGED';
        END IF;
    END LOOP;
END
$$;
GRANT EXECUTE ON PROCEDURE trial.attempt_all(text[]) TO PUBLIC;

CALL trial.attempt('SELECT 1');
CALL trial.attempt_all('SELECT 2', 'INSERT INTO leyser.blocked_password VALUES (''a trial'')', 'SELECT 3');
DELETE FROM leyser.blocked_password WHERE password = 'a trial';
CALL trial.attempt('SELECT 1 / 0');
CALL trial.attempt('SELECT leyser.tenant_id()');
