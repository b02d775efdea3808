-- Protection: row security that nobody's policy widens.

-- True while a suspension lets the caller past the tenant's policy.  A plan that is
-- made after its end has nothing left of it.
CREATE FUNCTION leyser.suspension_support(internal) RETURNS internal
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'leyser_suspension_support';
REVOKE ALL ON FUNCTION leyser.suspension_support(internal) FROM PUBLIC;
COMMENT ON FUNCTION leyser.suspension_support(internal) IS
    'internal: tells the planner that a suspension that has ended is none';

CREATE FUNCTION leyser.protection_is_suspended(until_second bigint, for_applications boolean) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED SUPPORT leyser.suspension_support
    AS 'MODULE_PATHNAME', 'leyser_protection_is_suspended';
REVOKE ALL ON FUNCTION leyser.protection_is_suspended(bigint, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protection_is_suspended(bigint, boolean) IS
    'internal: for policies of suspended tables: whether it is before that second since 1970, no context is or was set in the transaction, and the role has no usage application or gateway, or for_applications';

-- The comparison that a table's policies make.  In a suspended table the getter, which
-- raises without a context, is not to be called before its time, by the planner either.
CREATE FUNCTION leyser.tenant_comparison(registered leyser.table_record) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN registered.enforcement <> 'suspended' THEN c.comparison
                ELSE format('CASE WHEN leyser.protection_is_suspended(''%s''::bigint, %s) THEN true ELSE %s END',
                            extract(epoch FROM registered.suspended_until)::bigint,
                            CASE WHEN registered.suspended_for_applications THEN 'true' ELSE 'false' END,
                            c.comparison) END
    FROM (SELECT format('%I = %s', registered.tenant_column,
                        leyser.getter_for(registered.relation, registered.tenant_column)) AS comparison) c
$$;
REVOKE ALL ON FUNCTION leyser.tenant_comparison(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tenant_comparison(leyser.table_record) IS
    'internal: the condition by which a table''s policies compare the tenant column with its getter';

-- The restrictive policies of a kind.  %1$s is the tenant column compared with
-- its getter (or past it, while suspended), %2$s the tenant column.
CREATE FUNCTION leyser.wanted_policies(kind text)
    RETURNS TABLE (policy name, command text, read_condition text, write_condition text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT w.policy, w.command, w.read_condition, w.write_condition
    FROM (VALUES
        ('own', 'leyser_tenant'::name, 'ALL', '%1$s', '%1$s'),
        ('own_and_global', 'leyser_tenant_read', 'SELECT', '%1$s OR %2$s IS NULL', NULL),
        ('own_and_global', 'leyser_tenant_insert', 'INSERT', NULL, '%1$s'),
        ('own_and_global', 'leyser_tenant_update', 'UPDATE', '%1$s', '%1$s'),
        ('own_and_global', 'leyser_tenant_delete', 'DELETE', '%1$s', NULL)
    ) w (kind, policy, command, read_condition, write_condition)
    WHERE w.kind = wanted_policies.kind
$$;
REVOKE ALL ON FUNCTION leyser.wanted_policies(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wanted_policies(text) IS
    'internal: the restrictive policies that a kind of table has';

-- The getter that fits a column, or an error where no getter does.
CREATE FUNCTION leyser.getter_for(relation regclass, tenant_column name) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
    base oid;
    getter text;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = tenant_column
          AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of "%s" does not exist', tenant_column, relation),
            DETAIL = 'A protected table has a column that holds the tenant''s id.',
            HINT = 'Give tenant_column => ''…'', or add the column.';
    END IF;
    WITH RECURSIVE types AS (
        SELECT attribute.atttypid AS oid
        UNION ALL
        SELECT t.typbasetype FROM types JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
    )
    SELECT t.oid INTO base FROM types JOIN pg_type t USING (oid) WHERE t.typtype <> 'd';
    getter := CASE
        WHEN base IN ('text'::regtype, 'varchar'::regtype) THEN 'leyser.tenant_id()'
        WHEN base = 'uuid'::regtype THEN 'leyser.tenant_id_uuid()'
        WHEN base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'leyser.tenant_id_int8()'
    END;
    IF getter IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" cannot hold a tenant id', tenant_column, relation),
            DETAIL = format('Its type is %s.', format_type(attribute.atttypid, attribute.atttypmod)),
            HINT = 'Use text, varchar, uuid, smallint, integer or bigint, or a domain over one of them.';
    END IF;
    IF EXISTS (SELECT FROM pg_collation l WHERE l.oid = attribute.attcollation
               AND NOT l.collisdeterministic) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" cannot hold a tenant id', tenant_column, relation),
            DETAIL = 'Its collation is not deterministic: two tenant ids could be equal.',
            HINT = 'Give the column a deterministic collation, such as "C".';
    END IF;
    RETURN getter;
END
$$;
REVOKE ALL ON FUNCTION leyser.getter_for(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.getter_for(regclass, name) IS
    'internal: the getter that fits the type of a tenant column';

CREATE FUNCTION leyser.run_as_owner(relation regclass, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_run_as_owner';
REVOKE ALL ON FUNCTION leyser.run_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_as_owner(regclass, text) IS
    'internal: DDL of a table, run with the rights of its owner, for parsing it may run the owner''s code';

CREATE FUNCTION leyser.count_as_owner(relation regclass, query text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_count_as_owner';
REVOKE ALL ON FUNCTION leyser.count_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_as_owner(regclass, text) IS
    'internal: a query of a table, run with the rights of its owner, for planning it may run the owner''s code';

-- Raises where a text column holds what cannot be tenant ids: rows that nobody
-- would ever see.  One probe of the index for each tenant; small tables are scanned.
CREATE FUNCTION leyser.check_tenant_values(relation regclass, tenant_column name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong bigint;
BEGIN
    wrong := leyser.count_as_owner(relation, format(
        'WITH RECURSIVE ids(id) AS ('
        '  (SELECT %1$I::text COLLATE %3$s FROM ONLY %2$s WHERE %1$I IS NOT NULL ORDER BY %1$I LIMIT 1)'
        '  UNION ALL SELECT (SELECT t.%1$I::text COLLATE %3$s FROM ONLY %2$s t WHERE t.%1$I > ids.id'
        '                    ORDER BY t.%1$I LIMIT 1) FROM ids WHERE ids.id IS NOT NULL)'
        ' SELECT count(*) FROM ids WHERE leyser.tenant_id_problem(ids.id) IS NOT NULL',
        tenant_column, relation,
        (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_attribute a
         JOIN pg_collation l ON l.oid = a.attcollation
         JOIN pg_namespace n ON n.oid = l.collnamespace
         WHERE a.attrelid = relation AND a.attname = tenant_column)));
    IF wrong > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_text_representation',
            MESSAGE = format('"%s" has values in column "%s" that cannot be tenant ids',
                             relation, tenant_column),
            DETAIL = format('%s different values are empty, too long, or numbers or uuids not in canonical form.', wrong),
            HINT = format('SELECT DISTINCT %1$I, leyser.tenant_id_problem(%1$I) FROM %2$s WHERE leyser.tenant_id_problem(%1$I) IS NOT NULL;',
                          tenant_column, relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_tenant_values(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_tenant_values(regclass, name) IS
    'internal: raises where a text column holds values that cannot be tenant ids';

-- Raises where protect() would have to wait or to scan, or would leave a hole.
CREATE FUNCTION leyser.check_protectable(relation regclass, tenant_column name, kind text,
                                         accept_gaps boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    large CONSTANT bigint := 8 * 1024 * 1024; -- bytes that may be scanned
    one record;
    gap record;
    owned_by regrole;
BEGIN
    SELECT u.role INTO owned_by FROM leyser.usage_record u
        JOIN pg_roles r ON r.oid = u.role AND NOT r.rolsuper
        JOIN leyser.family_of(relation) f ON true
        JOIN pg_class c ON c.oid = f.member AND pg_has_role(u.role, c.relowner, 'MEMBER')
        WHERE u.usage IN ('application', 'gateway') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('"%s" belongs to an application', relation),
            DETAIL = format('Role "%s", which has usage application or gateway, is or can become its owner, who can lift the protection.', owned_by),
            HINT = format('ALTER TABLE %s OWNER TO …; (a role that applications do not use)', relation);
    END IF;
    FOR one IN
        SELECT f.member, a.attnum, a.attnotnull, a.atttypid::regtype AS type,
               pg_relation_size(f.member) AS bytes,
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.member AND i.indisvalid
                       AND i.indkey[0] = a.attnum AND i.indpred IS NULL) AS has_index
        FROM leyser.family_of(relation) f
        JOIN pg_attribute a ON a.attrelid = f.member AND a.attname = tenant_column
    LOOP
        IF kind = 'own' AND NOT one.attnotnull THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('column "%s" of "%s" may be null', tenant_column, one.member),
                DETAIL = 'A row without a tenant would be seen by nobody.',
                HINT = format('ALTER TABLE %1$s ADD CONSTRAINT tenant_not_null CHECK (%2$I IS NOT NULL) NOT VALID;'
                    ' ALTER TABLE %1$s VALIDATE CONSTRAINT tenant_not_null;'
                    ' ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL;'
                    ' ALTER TABLE %1$s DROP CONSTRAINT tenant_not_null; or kind => ''own_and_global''.',
                    one.member, tenant_column);
        END IF;
        IF one.bytes > large AND NOT one.has_index THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('"%s" has no index on column "%s"', one.member, tenant_column),
                DETAIL = format('The table has %s; each tenant''s query would scan all of it.',
                                pg_size_pretty(one.bytes)),
                HINT = format('CREATE INDEX CONCURRENTLY ON %s (%I);', one.member, tenant_column);
        END IF;
    END LOOP;
    FOR gap IN SELECT f.gap, f.remedy FROM pg_attribute a,
                   leyser.foreign_key_gaps(relation, a.attnum) f
               WHERE a.attrelid = relation AND a.attname = tenant_column LOOP
        IF NOT accept_gaps THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('"%s" has a foreign key without the tenant columns', relation),
                DETAIL = format('The %s: a tenant could refer to another tenant''s row.', gap.gap),
                HINT = format('Put this in its place: %s Or accept it with accept_gaps => true.', gap.remedy);
        END IF;
        RAISE WARNING USING MESSAGE = gap.gap, HINT = gap.remedy;
    END LOOP;
    PERFORM leyser.check_tenant_values(f.member, tenant_column)
        FROM leyser.family_of(relation) f
        JOIN pg_class c ON c.oid = f.member AND c.relkind = 'r'
        WHERE leyser.getter_for(relation, tenant_column) = 'leyser.tenant_id()';
END
$$;
REVOKE ALL ON FUNCTION leyser.check_protectable(regclass, name, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_protectable(regclass, name, text, boolean) IS
    'internal: raises where a table cannot be protected at once';

-- Takes our policies off one table.
CREATE FUNCTION leyser.drop_policies(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy name;
BEGIN
    FOR policy IN SELECT p.polname FROM pg_policy p WHERE p.polrelid = relation
            AND (p.polname ~ '^leyser_(tenant|permission)' OR p.polname = 'leyser_rows') ORDER BY 1 LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy, relation);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_policies(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_policies(regclass) IS
    'internal: takes leyser''s policies off one table';

-- Puts back the default that protect() found on the tenant column.
CREATE FUNCTION leyser.restore_default(was leyser.table_record) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    attribute name;
    present_default text;
BEGIN
    SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) INTO attribute, present_default
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = was.relation AND a.attnum = was.tenant_attnum;
    -- a default that somebody set since then is theirs
    IF was.set_default AND present_default ~ '^\(?leyser\.tenant_id' THEN
        PERFORM leyser.run_as_owner(was.relation,
            format('ALTER TABLE ONLY %s ALTER COLUMN %I %s', was.relation, attribute,
                coalesce('SET DEFAULT ' || was.had_default, 'DROP DEFAULT')));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.restore_default(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.restore_default(leyser.table_record) IS
    'internal: puts back the default that protect() found';

-- The policies and the default of one table, as its registry row wants them.
CREATE FUNCTION leyser.create_policies(wanted leyser.table_record) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    comparison text := leyser.tenant_comparison(wanted);
    one record;
BEGIN
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
                   wanted.relation);
    FOR one IN SELECT w.* FROM leyser.wanted_policies(wanted.kind) w LOOP
        EXECUTE format('CREATE POLICY %I ON %s AS RESTRICTIVE FOR %s TO PUBLIC', one.policy,
                       wanted.relation, one.command)
            || coalesce(' USING (' || format(one.read_condition, comparison,
                quote_ident(wanted.tenant_column)) || ')', '')
            || coalesce(' WITH CHECK (' || format(one.write_condition, comparison) || ')', '');
        EXECUTE format('COMMENT ON POLICY %I ON %s IS ''leyser: rows of the context''''s tenant''',
                       one.policy, wanted.relation);
    END LOOP;
    PERFORM leyser.create_permission_policies(wanted.relation, wanted.read_permission,
        wanted.write_permission, wanted.scope_column);
    -- Beside a permissive policy of the table's own, ours would widen it.
    IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = wanted.relation
                   AND p.polpermissive) THEN
        EXECUTE format('CREATE POLICY leyser_rows ON %s USING (true)', wanted.relation);
        EXECUTE format('COMMENT ON POLICY leyser_rows ON %s IS ''leyser: all rows, within the restrictive policies''',
                       wanted.relation);
    END IF;
    IF wanted.set_default THEN
        EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', wanted.relation,
                       wanted.tenant_column, leyser.getter_for(wanted.relation, wanted.tenant_column));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.create_policies(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_policies(leyser.table_record) IS
    'internal: puts row security, policies and the default up on one table';

-- How a table is to be enforced: as it is asked for, else as it was, else as its
-- parent.  A part of an observed family that is enforced stays so.
CREATE FUNCTION leyser.choose_enforcement(wanted leyser.table_record, present leyser.table_record,
                                          enforcement text) RETURNS leyser.table_record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    model leyser.table_record := present;
BEGIN
    IF present.tenant_attnum IS NULL THEN
        SELECT t.* INTO model FROM leyser.table_record t WHERE t.relation = wanted.parent;
    END IF;
    wanted.enforcement := coalesce(choose_enforcement.enforcement, model.enforcement, 'enforce');
    IF wanted.enforcement = 'observe' AND present.tenant_attnum IS NOT NULL THEN
        wanted.enforcement := present.enforcement;
    END IF;
    IF wanted.enforcement = 'suspended' AND model.suspended_until > clock_timestamp() THEN
        wanted.suspended_until := model.suspended_until;
        wanted.suspended_reason := model.suspended_reason;
        wanted.suspended_for_applications := model.suspended_for_applications;
    ELSIF wanted.enforcement = 'suspended' THEN
        wanted.enforcement := 'enforce';
    END IF;
    wanted.suspended_for_applications := coalesce(wanted.suspended_for_applications, false);
    wanted.enforcement_since := CASE WHEN wanted.enforcement = present.enforcement
        THEN present.enforcement_since ELSE clock_timestamp() END;
    RETURN wanted;
END
$$;
REVOKE ALL ON FUNCTION leyser.choose_enforcement(leyser.table_record, leyser.table_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.choose_enforcement(leyser.table_record, leyser.table_record, text) IS
    'internal: fills in how the table of a registry row is to be enforced';

-- What protect() finds at a table, to be put back by unprotect().
CREATE FUNCTION leyser.note_before(wanted leyser.table_record, present leyser.table_record) RETURNS leyser.table_record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    is_generated boolean;
BEGIN
    SELECT c.relrowsecurity, c.relforcerowsecurity, pg_get_expr(d.adbin, d.adrelid),
           a.attidentity <> '' OR a.attgenerated <> ''
        INTO wanted.had_row_security, wanted.had_forced_row_security, wanted.had_default, is_generated
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.tenant_column
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.oid = wanted.relation;
    wanted.set_default := wanted.set_default AND NOT is_generated;
    -- a new partition or child was born with the default that we gave its parent
    IF wanted.parent IS NOT NULL AND wanted.had_default ~ '^\(?leyser\.tenant_id' THEN
        wanted.had_default := (SELECT t.had_default FROM leyser.table_record t
            WHERE t.relation = wanted.parent AND t.set_default);
    END IF;
    -- an observed table is as others left it
    IF present.tenant_attnum IS NOT NULL AND present.enforcement <> 'observe' THEN
        wanted.had_row_security := present.had_row_security;
        wanted.had_forced_row_security := present.had_forced_row_security;
    END IF;
    RETURN wanted;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_before(leyser.table_record, leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_before(leyser.table_record, leyser.table_record) IS
    'internal: fills in what a table had before it was protected';

-- Those of an earlier protection carry our comment.
CREATE FUNCTION leyser.refuse_foreign_policies(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    theirs name := (SELECT p.polname FROM pg_policy p
        WHERE p.polrelid = refuse_foreign_policies.relation
          AND (p.polname ~ '^leyser_(tenant|permission)' OR p.polname = 'leyser_rows')
          AND coalesce(obj_description(p.oid, 'pg_policy'), '') !~ '^leyser: ' LIMIT 1);
BEGIN
    IF theirs IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('policy "%s" of "%s" has a name that leyser uses', theirs, refuse_foreign_policies.relation),
            DETAIL = 'leyser would replace it.',
            HINT = format('ALTER POLICY %I ON %s RENAME TO …;', theirs, refuse_foreign_policies.relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_foreign_policies(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_foreign_policies(regclass) IS
    'internal: 42710 where a table has a policy of a name that leyser uses';

-- Puts protection up on one table and registers it.  One that is observed is only
-- registered: src/observe.c looks at the plans that read and write it.
CREATE FUNCTION leyser.protect_one(relation regclass, parent regclass, tenant_column name,
                                   kind text, set_default boolean, accept_gaps boolean,
                                   enforcement text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present leyser.table_record;
    permissions leyser.table_record;
    wanted leyser.table_record;
BEGIN
    PERFORM leyser.getter_for(protect_one.relation, protect_one.tenant_column);
    DELETE FROM leyser.table_record t WHERE t.relation = protect_one.relation
        RETURNING t.* INTO present;
    -- the column or set_default may be others by now
    PERFORM leyser.restore_default(present);
    IF present.tenant_attnum IS NULL OR present.enforcement = 'observe' THEN
        PERFORM leyser.refuse_foreign_policies(protect_one.relation);
    END IF;
    -- partitions and children ask for what their parent asks for
    SELECT t.* INTO permissions FROM leyser.table_record t WHERE t.relation = protect_one.parent;
    IF present.tenant_attnum IS NOT NULL THEN
        permissions := present;
    END IF;
    wanted.relation := protect_one.relation;
    wanted.kind := protect_one.kind;
    wanted.tenant_column := protect_one.tenant_column;
    wanted.parent := protect_one.parent;
    wanted.accept_gaps := protect_one.accept_gaps;
    wanted.set_default := protect_one.set_default;
    wanted.governed_since := coalesce(present.governed_since, clock_timestamp());
    wanted.read_permission := permissions.read_permission;
    wanted.write_permission := permissions.write_permission;
    wanted.scope_column := permissions.scope_column;
    wanted := leyser.note_before(wanted, present);
    wanted := leyser.choose_enforcement(wanted, present, protect_one.enforcement);
    PERFORM leyser.drop_policies(protect_one.relation);
    IF wanted.enforcement = 'observe' THEN
        PERFORM leyser.forget_plans(protect_one.relation);
    ELSE
        PERFORM leyser.create_policies(wanted);
    END IF;
    INSERT INTO leyser.table_record SELECT (wanted).*;
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_one(regclass, regclass, name, text, boolean, boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_one(regclass, regclass, name, text, boolean, boolean, text) IS
    'internal: protects and registers one table, without its children';
