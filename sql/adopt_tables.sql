-- Table of what adoption changed at users' tables, so that it can be taken back.
--
-- Nobody has rights on it, as on all of leyser's tables.

CREATE TABLE leyser.adoption_record (
    adoption_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    -- column and trigger: made; index: made, its relation is the indexed table;
    -- not_null: the column's name; key: a foreign key that got the tenant columns
    change text NOT NULL CHECK (change IN ('column', 'trigger', 'index', 'not_null', 'key')),
    object name NOT NULL,
    former text,                        -- key: its definition before
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (relation, change, object)
);
COMMENT ON TABLE leyser.adoption_record IS
    'what protect_schema() and add_tenant_column() changed at users'' tables; taken back in the reverse order';
SELECT pg_catalog.pg_extension_config_dump('leyser.adoption_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.adoption_record_adoption_id_seq', '');

CREATE FUNCTION leyser.note_adoption(relation regclass, change text, object name, former text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.adoption_record (relation, change, object, former) VALUES (relation, change, object, former)
        ON CONFLICT DO NOTHING
$$;
REVOKE ALL ON FUNCTION leyser.note_adoption(regclass, text, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_adoption(regclass, text, name, text) IS
    'internal: writes down what adoption changed at a table, once';
