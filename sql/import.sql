-- COPY for tenants: into a staging table, then checked into the protected one.
--
-- The staging table is temporary and dropped on commit: no other session and no
-- later transaction can read it, no dump carries it, and a crash or a rollback
-- leaves nothing that would have to be purged.  It is the extension owner's; its
-- comment says what it is for (src/import.c).

-- Columns that can be copied: NULL means all, without those that fill themselves.
CREATE FUNCTION leyser.import_columns(acting regrole, relation regclass, columns name[]) RETURNS name[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted name[];
    unfit name;
BEGIN
    IF import_columns.columns IS NULL THEN
        SELECT array_agg(a.attname ORDER BY a.attnum) INTO wanted
            FROM pg_attribute a JOIN leyser.table_record t ON t.relation = a.attrelid AND a.attnum <> t.tenant_attnum
            WHERE a.attrelid = import_columns.relation AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attgenerated = '' AND a.attidentity = ''
              AND has_column_privilege(acting, a.attrelid, a.attnum, 'INSERT');
    ELSE
        SELECT c INTO unfit FROM unnest(import_columns.columns) WITH ORDINALITY u (c, ord)
            WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = import_columns.relation AND a.attname = u.c
                              AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a') LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_column',
                MESSAGE = format('column "%s" of "%s" cannot be imported', unfit, import_columns.relation),
                DETAIL = 'It does not exist, or its values are always generated.',
                HINT = 'Leave columns out to import all that can be.';
        END IF;
        wanted := import_columns.columns;
    END IF;
    IF coalesce(cardinality(wanted), 0) = 0 OR cardinality(wanted) <> (SELECT count(DISTINCT c) FROM unnest(wanted) c) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('no columns of "%s" to import', import_columns.relation),
            DETAIL = 'None is left, or one is there twice.',
            HINT = 'Give columns => ''{…}'', each once.';
    END IF;
    RETURN wanted;
END
$$;
REVOKE ALL ON FUNCTION leyser.import_columns(regrole, regclass, name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_columns(regrole, regclass, name[]) IS
    'internal: the columns of an import; 42703 or 22023 where there are none, or wrong ones';

CREATE FUNCTION leyser.check_import(acting regrole, relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_governable(relation);
    IF NOT has_any_column_privilege(acting, relation, 'INSERT') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for table "%s"', relation),
            DETAIL = 'An import inserts with the rights of who calls.',
            HINT = format('Its owner can GRANT INSERT ON %s TO …;', relation);
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = check_import.relation AND t.tenant_attnum IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not protected', relation),
            DETAIL = 'Imports are for tables with row security, into which COPY is refused.',
            HINT = 'COPY into it as into any table.';
    END IF;
    IF leyser.tenant_id() IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY001',
            MESSAGE = 'no tenant context',
            DETAIL = 'An import is for the tenant of the context.',
            HINT = 'Run SELECT set_config(''leyser.token'', $1, true) first in the transaction.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_import(regrole, regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_import(regrole, regclass) IS
    'internal: raises where a role cannot import into a table';

CREATE FUNCTION leyser.import_table(relation regclass, columns name[] DEFAULT NULL) RETURNS regclass
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    acting regrole := leyser.caller();
    wanted name[];
    staging text;
BEGIN
    PERFORM leyser.check_import(acting, import_table.relation);
    wanted := leyser.import_columns(acting, import_table.relation, import_table.columns);
    SELECT format('pg_temp.%I', 'leyser_import_' || CASE WHEN octet_length(c.relname::text) < 50 THEN c.relname::text
            -- long names may begin alike
            ELSE leyser.short_name(c.relname, 40) || '_' || left(md5(c.relname), 8) END)
        INTO staging FROM pg_class c WHERE c.oid = import_table.relation;
    IF to_regclass(staging) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('an import into "%s" has begun already', import_table.relation),
            DETAIL = format('Its staging table is %s.', staging),
            HINT = 'Finish it with leyser.import_finish(), or roll back.';
    END IF;
    EXECUTE (SELECT format('CREATE TEMPORARY TABLE %s (%s) ON COMMIT DROP', staging, string_agg(
            format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                   (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                    WHERE l.oid = a.attcollation AND l.collname <> 'default')), ', ' ORDER BY w.ord))
        FROM unnest(wanted) WITH ORDINALITY w (name, ord)
        JOIN pg_attribute a ON a.attrelid = import_table.relation AND a.attname = w.name);
    EXECUTE format('COMMENT ON TABLE %s IS %L', staging, format('leyser: import into %s', import_table.relation::oid));
    EXECUTE format('GRANT SELECT, INSERT ON %s TO %I', staging, (SELECT r.rolname FROM pg_roles r WHERE r.oid = acting));
    RETURN staging::regclass;
END
$$;
REVOKE ALL ON FUNCTION leyser.import_table(regclass, name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_table(regclass, name[]) IS
    'application, in a context: makes a temporary table leyser_import_… to COPY into, which this transaction alone can read, with these columns (default: all but the tenant column and those that fill themselves); LY001 no context, LY008 not protected or begun already, 42501 no right to insert, 42703, 22023, 42P01, 42809';

CREATE FUNCTION leyser.import_finish(staging regclass, max_errors integer DEFAULT 20) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_import_finish';
REVOKE ALL ON FUNCTION leyser.import_finish(regclass, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_finish(regclass, integer) IS
    'application, in the transaction of import_table(): inserts the rows with the caller''s rights in its context, all or none, and gives their number; where some cannot be, an error with the SQLSTATE of the first tells up to max_errors lines; LY008 no import, LY001, 22023';

CREATE FUNCTION leyser.end_import(staging regclass, relation regclass, rows bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DROP TABLE %s', staging);
    PERFORM leyser.record_event('import.finished', leyser.tenant_id(), relation::text, jsonb_build_object('rows', rows));
END
$$;
REVOKE ALL ON FUNCTION leyser.end_import(regclass, regclass, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_import(regclass, regclass, bigint) IS
    'internal: drops an import''s staging table and records the import';
