-- What of a table's rows could be reached past its protection.

-- What a foreign key with the tenant columns refers to.
CREATE FUNCTION leyser.key_index_remedy(relation regclass, columns smallint[]) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('CREATE UNIQUE INDEX%s ON %s (%s); ', CASE WHEN c.relkind = 'r' THEN ' CONCURRENTLY' END, c.oid::regclass,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord) FROM unnest(key_index_remedy.columns) WITH ORDINALITY k (num, ord)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num))
    FROM pg_class c
    WHERE c.oid = key_index_remedy.relation AND NOT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND i.indnkeyatts = cardinality(key_index_remedy.columns)
          AND string_to_array(i.indkey::text, ' ')::smallint[] @> key_index_remedy.columns)
    UNION ALL SELECT '' LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.key_index_remedy(regclass, smallint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_index_remedy(regclass, smallint[]) IS
    'internal: SQL that makes the unique index that a foreign key needs; empty where there is one';

-- Foreign keys that tie protected tables together without the tenant column:
-- through them a tenant can refer to another tenant's row, and ON DELETE or ON
-- UPDATE actions reach across.  The relation counts as protected by the given
-- column, whether it is registered already or not.
CREATE FUNCTION leyser.foreign_key_gaps(relation regclass, tenant_attnum smallint)
    RETURNS TABLE (constraint_name name, gap text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH protected AS (
        SELECT t.relation::oid AS oid, t.tenant_attnum FROM leyser.table_record t
            WHERE t.tenant_attnum IS NOT NULL AND t.relation <> foreign_key_gaps.relation
        UNION ALL
        SELECT foreign_key_gaps.relation::oid, foreign_key_gaps.tenant_attnum
    )
    SELECT c.conname,
           format('foreign key "%s" of "%s" refers to "%s" without the tenant columns',
                  c.conname, c.conrelid::regclass, c.confrelid::regclass),
           leyser.key_index_remedy(c.confrelid, parent.tenant_attnum || c.confkey)
           || format('ALTER TABLE %s ADD FOREIGN KEY (%s) REFERENCES %s (%s)%s;'
                     ' ALTER TABLE %1$s DROP CONSTRAINT %6$I;',
                     c.conrelid::regclass, child_columns.list, c.confrelid::regclass,
                     parent_columns.list,
                     CASE WHEN referencing.relkind = 'r' THEN ' NOT VALID' END, c.conname)
    FROM pg_constraint c
    JOIN protected child ON child.oid = c.conrelid
    JOIN protected parent ON parent.oid = c.confrelid
    JOIN pg_class referencing ON referencing.oid = c.conrelid
    JOIN pg_class referenced ON referenced.oid = c.confrelid
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord) AS list
        FROM unnest(child.tenant_attnum || c.conkey) WITH ORDINALITY k (num, ord)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num) child_columns
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord) AS list
        FROM unnest(parent.tenant_attnum || c.confkey) WITH ORDINALITY k (num, ord)
        JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.num) parent_columns
    WHERE c.contype = 'f' AND c.conparentid = 0
      AND foreign_key_gaps.relation IN (c.conrelid, c.confrelid)
      AND NOT EXISTS (SELECT FROM unnest(c.conkey, c.confkey) k (child_num, parent_num)
                      WHERE k.child_num = child.tenant_attnum
                        AND k.parent_num = parent.tenant_attnum)
    ORDER BY c.conname
$$;
REVOKE ALL ON FUNCTION leyser.foreign_key_gaps(regclass, smallint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.foreign_key_gaps(regclass, smallint) IS
    'internal: foreign keys between protected tables that lack the tenant columns';

-- Whether a policy's condition, as the server prints it, is the one we made:
-- the column, with or without a cast, compared with its getter.
CREATE FUNCTION leyser.is_wanted_condition(printed text, wanted text, registered leyser.table_record) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN wanted IS NULL THEN printed IS NULL
        -- the server adds parentheses, casts and line breaks
        ELSE coalesce(ltrim(regexp_replace(regexp_replace(printed, '[()]|::[a-z ]+(?= = )', '', 'g'), '[[:space:]]+', ' ', 'g'))
            = regexp_replace(format(wanted, leyser.tenant_comparison(registered),
                quote_ident(registered.tenant_column)), '[()]', '', 'g'), false) END
$$;
REVOKE ALL ON FUNCTION leyser.is_wanted_condition(text, text, leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_wanted_condition(text, text, leyser.table_record) IS
    'internal: whether a policy''s condition compares the tenant column with its getter';

-- A table's kind: its own, or of a parent whose children are not registered one by one.
CREATE FUNCTION leyser.kind_of(relation regclass) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE ancestor AS (
        SELECT kind_of.relation::oid AS oid, 0 AS distance
        UNION
        SELECT i.inhparent, a.distance + 1 FROM ancestor a JOIN pg_inherits i ON i.inhrelid = a.oid
    )
    SELECT t.kind FROM ancestor a JOIN leyser.table_record t ON t.relation = a.oid
        WHERE a.distance = 0 OR t.kind IN ('by_rule', 'retained', 'ignored')
        ORDER BY a.distance, t.relation LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.kind_of(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.kind_of(regclass) IS
    'internal: the kind of a table, or the one that it has from a by_rule, retained or ignored parent; NULL where it has none';

-- What is missing at a registered table, as sentences; empty where all is well.
CREATE FUNCTION leyser.table_gaps(relation regclass) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(g.gap ORDER BY g.rank, g.gap), '{}') FROM (
        SELECT 1 AS rank, 'row security is not enabled' AS gap
            FROM leyser.table_record t JOIN pg_class c ON c.oid = t.relation
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
              AND t.enforcement <> 'observe' AND NOT c.relrowsecurity
        UNION ALL
        SELECT 1, 'row security is not forced on the owner'
            FROM leyser.table_record t JOIN pg_class c ON c.oid = t.relation
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
              AND t.enforcement <> 'observe' AND NOT c.relforcerowsecurity
        UNION ALL
        SELECT 1, CASE t.enforcement WHEN 'observe' THEN 'it is observed only: nothing is refused'
                  ELSE format('protection is suspended until %s%s', t.suspended_until,
                              CASE WHEN t.suspended_for_applications THEN ', for applications too' ELSE '' END) END
            FROM leyser.table_record t
            WHERE t.relation = table_gaps.relation
              AND (t.enforcement = 'observe' OR t.suspended_until > clock_timestamp())
        UNION ALL
        SELECT 1, format('policy "%s" is missing or was changed', w.policy)
            FROM leyser.table_record t
            CROSS JOIN leyser.wanted_policies(t.kind) w
            WHERE t.relation = table_gaps.relation AND t.enforcement <> 'observe'
              AND NOT EXISTS (
                SELECT FROM pg_policies p JOIN pg_class c ON c.oid = t.relation AND c.relname = p.tablename
                    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = p.schemaname
                WHERE p.policyname = w.policy AND p.permissive = 'RESTRICTIVE'
                  AND p.cmd = w.command AND p.roles = '{public}'
                  AND leyser.is_wanted_condition(p.qual, w.read_condition, t)
                  AND leyser.is_wanted_condition(p.with_check, w.write_condition, t))
        UNION ALL
        SELECT 1, p.gap FROM leyser.table_record t, leyser.permission_policy_gaps(t.relation) p
            WHERE t.relation = table_gaps.relation AND t.enforcement <> 'observe'
        UNION ALL
        SELECT 1, format('parent "%s" is not protected: whoever reads it sees the rows', i.inhparent::regclass)
            FROM leyser.table_record t JOIN pg_inherits i ON i.inhrelid = t.relation
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
              AND NOT EXISTS (SELECT FROM leyser.table_record o WHERE o.relation = i.inhparent
                              AND o.tenant_attnum IS NOT NULL
                              AND (o.enforcement <> 'observe' OR t.enforcement = 'observe'))
        UNION ALL
        SELECT 1, format('permissive policy "%s" restricts nothing beside "leyser_rows"', p.polname)
            FROM leyser.table_record t JOIN pg_policy p ON p.polrelid = t.relation
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
              AND p.polpermissive AND p.polname <> 'leyser_rows'
              AND EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = t.relation
                          AND o.polpermissive AND o.polname = 'leyser_rows')
        UNION ALL
        SELECT 2, format('column "%s" may be null', a.attname)
            FROM leyser.table_record t JOIN pg_attribute a
                ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
            WHERE t.relation = table_gaps.relation AND t.kind = 'own' AND NOT a.attnotnull
        UNION ALL
        SELECT 2, f.gap
            FROM leyser.table_record t, leyser.foreign_key_gaps(t.relation, t.tenant_attnum) f
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
        UNION ALL
        SELECT 2, format('child "%s" is a foreign table: read directly, it has no row security',
                         i.inhrelid::regclass)
            FROM leyser.table_record t JOIN pg_inherits i ON i.inhparent = t.relation
            JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'f'
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
        UNION ALL
        SELECT 3, format('unique index "%s" does not contain the tenant column: it tells that another tenant''s key exists',
                         i.indexrelid::regclass)
            FROM leyser.telling_key i WHERE i.indrelid = table_gaps.relation
        UNION ALL
        SELECT 3, b.note FROM leyser.table_record t, leyser.bypassing_dependents(t.relation) b
            WHERE t.relation = table_gaps.relation AND t.tenant_attnum IS NOT NULL
        UNION ALL
        SELECT 1, 'trigger "leyser_shared" is missing or disabled'
            FROM leyser.table_record t
            WHERE t.relation = table_gaps.relation AND t.kind = 'shared'
              AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relation
                              AND g.tgname = 'leyser_shared' AND g.tgenabled = 'A')
        UNION ALL
        SELECT 1, 'no kind is declared' WHERE leyser.kind_of(table_gaps.relation) IS NULL
    ) g
$$;
REVOKE ALL ON FUNCTION leyser.table_gaps(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.table_gaps(regclass) IS
    'internal: what is missing at a table of a governed schema';
