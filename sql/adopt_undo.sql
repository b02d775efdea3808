-- Taking back what adoption changed at users' tables: the way out.

-- Checked with the rights of the table's owner, whose code queries of the table may run;
-- made without them, for the owner may have lost the right to refer to the other table.
CREATE FUNCTION leyser.restore_key(relation regclass, name name, definition text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    command text := format('ALTER TABLE %s ADD CONSTRAINT %I %s', relation, name, definition);
BEGIN
    IF definition ~ ' NOT VALID$' OR (SELECT c.relkind FROM pg_class c WHERE c.oid = relation) = 'p' THEN
        PERFORM leyser.add_key(relation, command);
    ELSE
        PERFORM leyser.add_key(relation, command || ' NOT VALID');
        PERFORM leyser.add_key(relation, format('ALTER TABLE %s VALIDATE CONSTRAINT %I', relation, name));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.restore_key(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.restore_key(regclass, name, text) IS
    'internal: puts a former foreign key back; 23503 where rows no longer fit it';

-- With a column the server drops, without a word, each constraint and unique index that
-- has it: ours are gone by now, and the others were somebody's wish.
CREATE FUNCTION leyser.refuse_lost_keys(relation regclass, column_name name) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost text := (SELECT string_agg(quote_ident(l.name), ', ' ORDER BY l.name) FROM pg_attribute a CROSS JOIN LATERAL (
            SELECT c.conname FROM pg_constraint c
                WHERE c.conrelid = a.attrelid AND c.contype IN ('f', 'p', 'u', 'x', 'c') AND a.attnum = ANY (c.conkey)
            UNION SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = a.attrelid AND i.indisunique AND a.attnum = ANY (i.indkey)) l (name)
        WHERE a.attrelid = refuse_lost_keys.relation AND a.attname = refuse_lost_keys.column_name);
BEGIN
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('constraints of "%s" need column "%s"', relation, column_name),
            DETAIL = format('They would be lost with it: %s.', lost),
            HINT = 'Put constraints without the column in their place, or drop them, and call it again.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_lost_keys(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_lost_keys(regclass, name) IS
    'internal: 2BP01 where a column that is to be dropped is part of constraints or unique indexes';

CREATE FUNCTION leyser.undo_change(change leyser.adoption_record) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = change.relation) THEN
        RETURN;
    END IF;
    CASE change.change
        WHEN 'key' THEN
            IF EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = change.relation AND c.conname = change.object) THEN
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', change.relation, change.object);
                PERFORM leyser.restore_key(change.relation, change.object, change.former);
            END IF;
        WHEN 'index' THEN
            EXECUTE (SELECT format('DROP INDEX %s', i.indexrelid::regclass) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE i.indrelid = change.relation AND c.relname = change.object
                UNION ALL SELECT 'SELECT' LIMIT 1);
        WHEN 'not_null' THEN
            EXECUTE (SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', change.relation, a.attname) FROM pg_attribute a
                WHERE a.attrelid = change.relation AND a.attname = change.object
                UNION ALL SELECT 'SELECT' LIMIT 1);
        WHEN 'trigger' THEN
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', change.object, change.relation);
        WHEN 'column' THEN
            PERFORM leyser.refuse_lost_keys(change.relation, change.object);
            EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', change.relation, change.object);
    END CASE;
END
$$;
REVOKE ALL ON FUNCTION leyser.undo_change(leyser.adoption_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.undo_change(leyser.adoption_record) IS
    'internal: takes back one change; nothing where it is gone already';

CREATE FUNCTION leyser.undo_adoption() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
DECLARE
    change leyser.adoption_record;
    left_behind record;
    undone bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM leyser.table_record t JOIN leyser.adoption_record a USING (relation) WHERE t.tenant_attnum IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'tables that were adopted are protected',
            DETAIL = 'Their protection needs the tenant columns.',
            HINT = 'SELECT leyser.unprotect_all(); first.';
    END IF;
    -- what an unfinished call has made beside
    FOR left_behind IN SELECT c.conrelid::regclass AS relation, c.conname FROM pg_constraint c
            WHERE c.conrelid IN (SELECT a.relation FROM leyser.adoption_record a)
              AND (c.conname = 'leyser_tenant_not_null' OR c.conname ~ '^leyser_key_[0-9]+$') LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', left_behind.relation, left_behind.conname);
    END LOOP;
    FOR change IN SELECT a.* FROM leyser.adoption_record a ORDER BY a.adoption_id DESC LOOP
        PERFORM leyser.undo_change(change);
        DELETE FROM leyser.adoption_record a WHERE a.adoption_id = change.adoption_id;
        undone := undone + 1;
    END LOOP;
    PERFORM leyser.record_event('adoption.undone', NULL, NULL, jsonb_build_object('changes', undone));
    RETURN undone;
END
$$;
REVOKE ALL ON FUNCTION leyser.undo_adoption() FROM PUBLIC;
COMMENT ON FUNCTION leyser.undo_adoption() IS
    'operator: takes back, in one transaction that locks these tables, what protect_schema() and add_tenant_column() changed: foreign keys, NOT NULL, indexes, triggers, the columns with what is in them; returns how many changes; LY008 while such a table is protected, 55P03 where one is locked, 23503 where rows no longer fit the former foreign key, 2BP01 where others'' constraints need a column';
