\echo Use "CREATE EXTENSION leyser" to load this file. \quit

-- Refuse early, with the next step, what could not work later.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = 'leyser needs a database with encoding UTF8',
            DETAIL = 'Tokens are JSON, and tenant ids are compared byte by byte.',
            HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
    IF NOT ('leyser' = ANY (string_to_array(replace(replace(
            current_setting('shared_preload_libraries'), ' ', ''), '"', ''), ','))) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'leyser is not preloaded',
            DETAIL = 'Tokens and guards only work when the server loads leyser at its start.',
            HINT = 'Add leyser to shared_preload_libraries and restart the server.';
    END IF;
    -- Whoever owns the schema could replace what lies in it.
    IF (SELECT NOT r.rolsuper FROM pg_catalog.pg_namespace n
        JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'leyser') THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'schema "leyser" belongs to a role that is no superuser',
            DETAIL = 'The owner of the schema could replace the functions that policies call.',
            HINT = 'DROP SCHEMA leyser; then CREATE EXTENSION leyser again.';
    END IF;
END
$$;

COMMENT ON SCHEMA leyser IS
    'leyser: tenants separated by row security that cannot be forged or widened';
