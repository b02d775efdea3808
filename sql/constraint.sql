-- Constraints under row security: validated over all tenants, and remedies for those
-- that do not carry the tenant column.

CREATE FUNCTION leyser.sees_all_rows(child regclass, parent regclass) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT p.relrowsecurity OR pg_has_role(c.relowner, p.relowner, 'USAGE')
    FROM pg_class c, pg_class p WHERE c.oid = child AND p.oid = parent
$$;
REVOKE ALL ON FUNCTION leyser.sees_all_rows(regclass, regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.sees_all_rows(regclass, regclass) IS
    'internal: whether row security hides no row of the one table from the owner of the other, while FORCE does not bind it';

-- How many rows break a constraint; of_tenants counts their tenants instead.  As the
-- table's owner, whom FORCE does not bind meanwhile; NULL where it may not read the
-- other table, or not all of it.
CREATE FUNCTION leyser.count_violations(present pg_catalog.pg_constraint, of_tenants boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant_column name := (SELECT a.attname FROM leyser.table_record t JOIN pg_attribute a ON a.attrelid = t.relation
        AND a.attnum = t.tenant_attnum WHERE t.relation = present.conrelid);
    counted text := CASE WHEN of_tenants AND tenant_column IS NOT NULL THEN format('count(DISTINCT c.%I)', tenant_column) ELSE 'count(*)' END;
    only_there text := (SELECT CASE WHEN c.relkind = 'r' AND (present.contype = 'f' OR present.connoinherit) THEN 'ONLY ' ELSE '' END
        FROM pg_class c WHERE c.oid = present.conrelid);
    filled text;
    matching text;
BEGIN
    IF present.contype = 'c' THEN
        RETURN leyser.count_as_owner(present.conrelid, format('SELECT %s FROM %s%s c WHERE NOT (%s)', counted, only_there,
            present.conrelid::regclass, pg_get_expr(present.conbin, present.conrelid)));
    END IF;
    IF NOT leyser.sees_all_rows(present.conrelid, present.confrelid) THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(format('c.%I IS NOT NULL', a.attname), CASE present.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END),
           string_agg(format('p.%I OPERATOR(%I.%s) c.%I', r.attname, n.nspname, o.oprname, a.attname), ' AND ')
        INTO filled, matching
        FROM unnest(present.conkey, present.confkey, present.conpfeqop) k (child, parent, operator)
        JOIN pg_attribute a ON a.attrelid = present.conrelid AND a.attnum = k.child
        JOIN pg_attribute r ON r.attrelid = present.confrelid AND r.attnum = k.parent
        JOIN pg_operator o ON o.oid = k.operator JOIN pg_namespace n ON n.oid = o.oprnamespace;
    RETURN leyser.count_as_owner(present.conrelid, format('SELECT %s FROM %s%s c WHERE (%s) AND NOT EXISTS (SELECT FROM %s%s p WHERE %s)',
        counted, only_there, present.conrelid::regclass, filled,
        (SELECT CASE WHEN c.relkind = 'r' THEN 'ONLY ' END FROM pg_class c WHERE c.oid = present.confrelid),
        present.confrelid::regclass, matching));
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.count_violations(pg_catalog.pg_constraint, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_violations(pg_catalog.pg_constraint, boolean) IS
    'internal: how many rows, or tenants, break a foreign key or check; NULL where the table''s owner may not read the other table';

CREATE FUNCTION leyser.find_constraint(acting regrole, relation regclass, name name) RETURNS pg_catalog.pg_constraint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present pg_constraint;
BEGIN
    PERFORM leyser.check_governable(relation);
    IF NOT (pg_has_role(acting, (SELECT c.relowner FROM pg_class c WHERE c.oid = relation), 'USAGE')
            OR leyser.role_has_usage(acting, 'operator')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for table "%s"', relation),
            DETAIL = 'Only its owner or an operator can validate its constraints.',
            HINT = 'A superuser can call leyser.grant_usage(role, ''operator'').';
    END IF;
    SELECT c.* INTO present FROM pg_constraint c WHERE c.conrelid = relation AND c.conname = find_constraint.name;
    IF NOT FOUND OR present.contype NOT IN ('f', 'c') THEN
        RAISE EXCEPTION USING ERRCODE = CASE WHEN present.oid IS NULL THEN 'undefined_object' ELSE 'wrong_object_type' END,
            MESSAGE = format('"%s" has no foreign key or check "%s"', relation, find_constraint.name),
            DETAIL = 'Other constraints are always valid.',
            HINT = 'Give the name of a foreign key or check of this table.';
    END IF;
    RETURN present;
END
$$;
REVOKE ALL ON FUNCTION leyser.find_constraint(regrole, regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.find_constraint(regrole, regclass, name) IS
    'internal: a foreign key or check that this role may validate; 42501, 42704, 42809';

-- Whether the server finds it valid.  What it says may hold rows' values, and so may
-- what a function of the owner's raises: neither is told.
CREATE FUNCTION leyser.try_validation(present pg_catalog.pg_constraint) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.run_as_owner(present.conrelid, format('ALTER TABLE %s VALIDATE CONSTRAINT %I', present.conrelid::regclass, present.conname));
    RETURN NULL;
EXCEPTION
    WHEN SQLSTATE 'LY007' OR lock_not_available OR deadlock_detected OR insufficient_resources OR insufficient_privilege THEN
        RAISE;
    WHEN OTHERS THEN
        RETURN SQLSTATE;
END
$$;
REVOKE ALL ON FUNCTION leyser.try_validation(pg_catalog.pg_constraint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.try_validation(pg_catalog.pg_constraint) IS
    'internal: validates a constraint as the table''s owner, over all rows; NULL, or the SQLSTATE';

CREATE FUNCTION leyser.validate_constraint(relation regclass, name name) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_call_as';
REVOKE ALL ON FUNCTION leyser.validate_constraint(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.validate_constraint(regclass, name) IS
    'owner of the table or operator: validates a foreign key or check over the rows of all tenants; also looks again at one that is marked valid; 23503 or 23514 where rows break it (the detail counts them), 42501, 42704, 42809, 42P01, 55P03 it is locked, LY007 in a context, 55000 it cannot be looked at';

CREATE FUNCTION leyser.validate_constraint_as(acting regrole, relation regclass, name name) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
DECLARE
    present pg_constraint := leyser.find_constraint(acting, relation, name);
    violation text := CASE present.contype WHEN 'f' THEN '23503' ELSE '23514' END;
    failed_with text;
    broken bigint;
BEGIN
    IF leyser.in_context() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY007',
            MESSAGE = format('constraint "%s" cannot be validated while a context is set', name),
            DETAIL = 'It is about the rows of all tenants.',
            HINT = 'Call it in a transaction without a context.';
    END IF;
    IF present.convalidated THEN
        EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', relation);
    ELSE
        failed_with := leyser.try_validation(present);
    END IF;
    IF present.convalidated OR failed_with IS NOT NULL THEN
        IF coalesce(failed_with, violation) = violation THEN
            broken := leyser.count_violations(present, false);
        END IF;
        IF failed_with IS NULL AND broken IS NULL OR failed_with <> violation THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('constraint "%s" of "%s" could not be looked at', name, relation),
                DETAIL = CASE WHEN failed_with IS NULL THEN 'The table''s owner does not see all rows of the table that it refers to.'
                    ELSE format('Its expression failed with SQLSTATE %s for some row.', failed_with) END,
                HINT = CASE WHEN failed_with IS NULL THEN 'Let one role own both tables, or GRANT the owner of that table to the owner of this one.'
                    ELSE 'Mend the expression, or the rows in their tenants'' contexts.' END;
        ELSIF failed_with IS NOT NULL OR broken > 0 THEN
            RAISE EXCEPTION USING ERRCODE = violation,
                MESSAGE = format('constraint "%s" of "%s" is violated', name, relation),
                DETAIL = format('%s rows of %s tenants break it.', coalesce(broken::text, 'Some'),
                                coalesce(leyser.count_violations(present, true)::text, 'some')),
                HINT = 'Mend the rows in their tenants'' contexts, such as with CALL leyser.for_each_tenant(), and call it again.';
        END IF;
    END IF;
    PERFORM leyser.record_event('constraint.validated', NULL, relation::text, jsonb_build_object('constraint', name));
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.validate_constraint_as(regrole, regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.validate_constraint_as(regrole, regclass, name) IS
    'internal: validate_constraint() for the role that called it';

-- ---- keys without the tenant column ----

-- Rows that refer to another tenant's row; NULL where the owner may not look.
CREATE FUNCTION leyser.count_crossings(present pg_catalog.pg_constraint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT leyser.count_as_owner(present.conrelid, format(
            'SELECT count(*) FROM %s c JOIN %s p ON %s WHERE c.%I::text IS DISTINCT FROM p.%I::text',
            present.conrelid::regclass, present.confrelid::regclass,
            (SELECT string_agg(format('p.%I OPERATOR(%I.%s) c.%I', r.attname, n.nspname, o.oprname, a.attname), ' AND ')
             FROM unnest(present.conkey, present.confkey, present.conpfeqop) k (child, parent, operator)
             JOIN pg_attribute a ON a.attrelid = present.conrelid AND a.attnum = k.child
             JOIN pg_attribute r ON r.attrelid = present.confrelid AND r.attnum = k.parent
             JOIN pg_operator o ON o.oid = k.operator JOIN pg_namespace n ON n.oid = o.oprnamespace),
            c.tenant_column, p.tenant_column))
        FROM leyser.table_record c, leyser.table_record p
        WHERE c.relation = present.conrelid AND p.relation = present.confrelid
          AND leyser.sees_all_rows(present.conrelid, present.confrelid));
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.count_crossings(pg_catalog.pg_constraint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_crossings(pg_catalog.pg_constraint) IS
    'internal: how many rows refer to another tenant''s row through a foreign key without the tenant column';

-- The foreign key with the tenant column, as strict as the one that it replaces.
CREATE FUNCTION leyser.foreign_key_remedy(key_oid oid, child_attnum smallint, parent_attnum smallint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.key_index_remedy(k.confrelid, parent_attnum || k.confkey)
        || format('ALTER TABLE %1$s ADD CONSTRAINT %2$I %3$s%4$s; SELECT leyser.validate_constraint(%5$L, %2$L); ALTER TABLE %1$s DROP CONSTRAINT %6$I;',
                  k.conrelid::regclass, (leyser.short_name(k.conname, 50) || '_tenant')::name, leyser.widened_key(k.oid, child_attnum, parent_attnum),
                  CASE WHEN c.relkind = 'r' THEN ' NOT VALID' END, k.conrelid::regclass::text, k.conname)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.oid = foreign_key_remedy.key_oid
$$;
REVOKE ALL ON FUNCTION leyser.foreign_key_remedy(oid, smallint, smallint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.foreign_key_remedy(oid, smallint, smallint) IS
    'internal: SQL that puts a foreign key with the tenant columns in the place of one without';

-- SQL that puts the tenant column in front of a unique index's columns.
CREATE FUNCTION leyser.unique_remedy(index oid, tenant_column name) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN c.relkind = 'p' AND k.oid IS NOT NULL THEN
            format('ALTER TABLE %1$s DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I %3$s;', i.indrelid::regclass, k.conname,
                   overlay(pg_get_constraintdef(k.oid) PLACING format('(%I, ', tenant_column)
                           FROM strpos(pg_get_constraintdef(k.oid), '(') FOR 1))
        ELSE format('CREATE UNIQUE INDEX %s%I ON %s %s', CASE WHEN c.relkind = 'r' THEN 'CONCURRENTLY ' END, n.new_name,
                i.indrelid::regclass, overlay(d.rest PLACING format('(%I, ', tenant_column) FROM strpos(d.rest, '(') FOR 1))
            || CASE WHEN k.oid IS NULL THEN format('; DROP INDEX %s%s;', CASE WHEN c.relkind = 'r' THEN 'CONCURRENTLY ' END, i.indexrelid::regclass)
                ELSE format('; ALTER TABLE %1$s DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I %3$s USING INDEX %4$I%5$s%6$s;', i.indrelid::regclass, k.conname,
                    CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, n.new_name,
                    CASE WHEN k.condeferrable THEN ' DEFERRABLE' END, CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' END) END END
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_class x ON x.oid = i.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
    CROSS JOIN LATERAL (SELECT (leyser.short_name(x.relname, 50) || '_tenant')::name AS new_name) n
    JOIN pg_namespace s ON s.oid = c.relnamespace
    -- behind the names, which can have anything in them
    CROSS JOIN LATERAL (SELECT substr(pg_get_indexdef(i.indexrelid), 1 + length(format('CREATE UNIQUE INDEX %I ON %s%I.%I ',
        x.relname, CASE WHEN x.relkind = 'I' THEN 'ONLY ' END, s.nspname, c.relname))) AS rest) d
    WHERE i.indexrelid = unique_remedy.index
$$;
REVOKE ALL ON FUNCTION leyser.unique_remedy(oid, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unique_remedy(oid, name) IS
    'internal: SQL that puts a unique index with the tenant column in the place of one without';

CREATE FUNCTION leyser.key_remedies(relation regclass DEFAULT NULL)
    RETURNS TABLE (step integer, key_of regclass, key_name name, problem text, crossing_rows bigint, remedy text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 1, t.relation, c.conname, f.gap, leyser.count_crossings(c),
           CASE WHEN p.kind = 'own' THEN leyser.foreign_key_remedy(c.oid, t.tenant_attnum, p.tenant_attnum) END
    FROM leyser.table_record t
    CROSS JOIN LATERAL leyser.foreign_key_gaps(t.relation, t.tenant_attnum) f
    JOIN pg_constraint c ON c.conrelid = t.relation AND c.conname = f.constraint_name AND c.contype = 'f'
    JOIN leyser.table_record p ON p.relation = c.confrelid
    WHERE t.tenant_attnum IS NOT NULL AND (key_remedies.relation IS NULL OR t.relation = key_remedies.relation)
      AND starts_with(f.gap, format('foreign key "%s" of "%s" ', c.conname, t.relation))
    UNION ALL
    SELECT 2, t.relation, x.relname, format('unique index "%s" does not contain the tenant column', i.indexrelid::regclass), NULL,
           CASE WHEN t.kind = 'own' AND NOT EXISTS (SELECT FROM pg_constraint r WHERE r.contype = 'f' AND r.conindid = i.indexrelid)
                THEN leyser.unique_remedy(i.indexrelid, a.attname) END
    FROM leyser.table_record t
    JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
    JOIN leyser.telling_key i ON i.indrelid = t.relation
    JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
    WHERE key_remedies.relation IS NULL OR t.relation = key_remedies.relation
    ORDER BY 1, 2, 3
$$;
REVOKE ALL ON FUNCTION leyser.key_remedies(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_remedies(regclass) IS
    'operator, auditor: foreign keys (step 1) and unique indexes (step 2) of protected tables that do not carry the tenant column, with SQL for the table''s owner to paste, one statement at a time; crossing_rows: how many rows refer to another tenant''s row, and must be mended first; remedy is NULL for an index that foreign keys of step 1 still need, and for kind own_and_global; those of look-ups are left out';
