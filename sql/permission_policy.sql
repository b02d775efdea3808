-- Permissions for tables: restrictive policies besides the tenant's, so that
-- nobody's permissive policy, view or function widens them.

CREATE FUNCTION leyser.permission_condition(permission text, scope_column name) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('leyser.row_permission(%L, %s)', permission,
                  coalesce(quote_ident(scope_column), 'NULL'))
    WHERE permission IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.permission_condition(text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permission_condition(text, name) IS
    'internal: the condition by which a policy asks for a permission; NULL without one';

-- UPDATE and DELETE that read the row need the permission to read besides: the
-- server adds the policies for SELECT.
CREATE FUNCTION leyser.wanted_permission_policies(read_permission text, write_permission text,
                                                  scope_column name)
    RETURNS TABLE (policy name, command text, read_condition text, write_condition text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT w.policy, w.command,
           CASE WHEN w.reads THEN leyser.permission_condition(w.permission, scope_column) END,
           CASE WHEN w.writes THEN leyser.permission_condition(w.permission, scope_column) END
    FROM (VALUES
        ('leyser_permission_read'::name, 'SELECT', read_permission, true, false),
        ('leyser_permission_insert', 'INSERT', write_permission, false, true),
        ('leyser_permission_update', 'UPDATE', write_permission, true, true),
        ('leyser_permission_delete', 'DELETE', write_permission, true, false)
    ) w (policy, command, permission, reads, writes)
    WHERE w.permission IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.wanted_permission_policies(text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wanted_permission_policies(text, text, name) IS
    'internal: the restrictive policies that ask for permissions';

CREATE FUNCTION leyser.create_permission_policies(relation regclass, read_permission text,
                                                  write_permission text, scope_column name)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT w.* FROM leyser.wanted_permission_policies(read_permission,
            write_permission, scope_column) w LOOP
        EXECUTE format('CREATE POLICY %I ON %s AS RESTRICTIVE FOR %s TO PUBLIC', wanted.policy,
                       relation, wanted.command)
            || coalesce(' USING (' || wanted.read_condition || ')', '')
            || coalesce(' WITH CHECK (' || wanted.write_condition || ')', '');
        EXECUTE format('COMMENT ON POLICY %I ON %s IS ''leyser: what the context''''s account may''',
                       wanted.policy, relation);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.create_permission_policies(regclass, text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_permission_policies(regclass, text, text, name) IS
    'internal: puts the policies that ask for permissions up on one table';

-- Which of a table's permission policies are missing, or are not the ones we made.
CREATE FUNCTION leyser.permission_policy_gaps(relation regclass) RETURNS TABLE (gap text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('policy "%s" is missing or was changed', w.policy)
    FROM leyser.table_record t
    CROSS JOIN leyser.wanted_permission_policies(t.read_permission, t.write_permission,
                                                 t.scope_column) w
    WHERE t.relation = permission_policy_gaps.relation AND NOT EXISTS (
        SELECT FROM pg_policy p
        WHERE p.polrelid = t.relation AND p.polname = w.policy AND NOT p.polpermissive
          AND p.polroles = '{0}'
          AND p.polcmd = CASE w.command WHEN 'SELECT' THEN 'r' WHEN 'INSERT' THEN 'a'
                         WHEN 'UPDATE' THEN 'w' ELSE 'd' END::"char"
          AND regexp_replace(pg_get_expr(p.polqual, p.polrelid), '[()]|::text', '', 'g')
              IS NOT DISTINCT FROM regexp_replace(w.read_condition, '[()]', '', 'g')
          AND regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), '[()]|::text', '', 'g')
              IS NOT DISTINCT FROM regexp_replace(w.write_condition, '[()]', '', 'g'))
$$;
REVOKE ALL ON FUNCTION leyser.permission_policy_gaps(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permission_policy_gaps(regclass) IS
    'internal: which of a table''s policies for permissions are missing or were changed';

CREATE FUNCTION leyser.check_scope_column(relation regclass, scope_column name) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type regtype := (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = relation
        AND a.attname = scope_column AND a.attnum > 0 AND NOT a.attisdropped);
    base regtype;
BEGIN
    IF type IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of "%s" does not exist', scope_column, relation),
            DETAIL = 'The scope column says where a row belongs, as a dotted path.',
            HINT = 'Leave scope_column out to ask for the permission everywhere.';
    END IF;
    WITH RECURSIVE types AS (
        SELECT type::oid AS oid
        UNION ALL
        SELECT t.typbasetype FROM types JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
    )
    SELECT t.oid INTO base FROM types JOIN pg_type t USING (oid) WHERE t.typtype <> 'd';
    IF base NOT IN ('text'::regtype, 'varchar'::regtype) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" cannot hold a scope', scope_column, relation),
            DETAIL = format('Its type is %s.', type),
            HINT = 'Use text, varchar or a domain over one of them, for example in a generated column.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_scope_column(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_scope_column(regclass, name) IS
    'internal: raises where a column cannot hold scopes';

-- Raises where a table takes no permissions, or its parent decides.
CREATE FUNCTION leyser.check_permissible(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = check_permissible.relation
                   AND t.tenant_attnum IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not protected', relation),
            DETAIL = 'Permissions are given inside a tenant; first the tenants must be separated.',
            HINT = format('SELECT leyser.protect(%L);', relation);
    END IF;
    SELECT i.inhparent INTO parent FROM pg_inherits i
        JOIN leyser.table_record t ON t.relation = i.inhparent AND t.tenant_attnum IS NOT NULL
        WHERE i.inhrelid = check_permissible.relation LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is governed with its parent', relation),
            DETAIL = 'Partitions and children follow their parent.',
            HINT = format('SELECT leyser.set_permissions(%L, …);', parent);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_permissible(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_permissible(regclass) IS
    'internal: raises where permissions cannot be set for a table';

-- What an owner may not do: take a condition away or put another in its place.
CREATE FUNCTION leyser.check_permissions_kept(acting regrole, present leyser.table_record, read_permission text,
                                              write_permission text, scope_column name)
    RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leyser.role_has_usage(acting, 'operator')
            OR (present.read_permission IS NULL OR present.read_permission = read_permission)
            AND (present.write_permission IS NULL OR present.write_permission = write_permission)
            AND (present.read_permission IS NULL AND present.write_permission IS NULL
                 OR present.scope_column IS NOT DISTINCT FROM scope_column) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('permission denied for table "%s"', present.relation),
        DETAIL = 'Its owner can add permissions; only an operator can change or remove them.',
        HINT = 'A superuser can call leyser.grant_usage(role, ''operator'').';
END
$$;
REVOKE ALL ON FUNCTION leyser.check_permissions_kept(regrole, leyser.table_record, text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_permissions_kept(regrole, leyser.table_record, text, text, name) IS
    'internal: raises where somebody who is no operator would change or remove permissions of a table';

-- Registers the permissions of a table and all its partitions and children, and
-- puts their policies up.
CREATE FUNCTION leyser.store_permissions(present leyser.table_record, read_permission text,
                                         write_permission text, scope_column name)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    member leyser.table_record;
BEGIN
    FOR member IN SELECT t.* FROM leyser.family_of(present.relation) f
            JOIN leyser.table_record t ON t.relation = f.member ORDER BY f.parent NULLS FIRST LOOP
        UPDATE leyser.table_record t SET read_permission = store_permissions.read_permission,
                write_permission = store_permissions.write_permission,
                scope_column = store_permissions.scope_column
            WHERE t.relation = member.relation;
        PERFORM leyser.protect_one(member.relation, member.parent, member.tenant_column,
            member.kind, member.set_default, member.accept_gaps);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.store_permissions(leyser.table_record, text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.store_permissions(leyser.table_record, text, text, name) IS
    'internal: registers a table''s permissions and puts up the policies that ask for them';

CREATE FUNCTION leyser.set_permissions(relation regclass, read_permission text DEFAULT NULL,
                                       write_permission text DEFAULT NULL,
                                       scope_column name DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_call_as';
REVOKE ALL ON FUNCTION leyser.set_permissions(regclass, text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_permissions(regclass, text, text, name) IS
    'owner of the table or operator: which permission reading (SELECT) and writing (INSERT, UPDATE, DELETE) needs, in the scope that scope_column holds (without one: everywhere), for a protected table and its partitions and children; arguments left out keep what is set, an empty text removes (operator); 42501, 42703, 42704 unknown permission, 42804 a column that cannot hold scopes, 55P03 it is locked, LY008 it is not protected or follows its parent';

-- What set_permissions() does, for the role that called it.
CREATE FUNCTION leyser.set_permissions_as(acting regrole, relation regclass, read_permission text,
                                          write_permission text, scope_column name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    present leyser.table_record;
    new_read text;
    new_write text;
    new_scope name;
BEGIN
    PERFORM leyser.check_governable(set_permissions_as.relation);
    PERFORM leyser.check_owner(acting, set_permissions_as.relation);
    PERFORM leyser.check_permissible(set_permissions_as.relation);
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = set_permissions_as.relation;
    new_read := nullif(coalesce(set_permissions_as.read_permission, present.read_permission), '');
    new_write := nullif(coalesce(set_permissions_as.write_permission, present.write_permission), '');
    new_scope := nullif(coalesce(set_permissions_as.scope_column, present.scope_column), '');
    PERFORM leyser.hold_permission(p.permission) FROM unnest(ARRAY[new_read, new_write]) p (permission)
        WHERE p.permission IS NOT NULL;
    IF new_scope IS NOT NULL THEN
        PERFORM leyser.check_scope_column(set_permissions_as.relation, new_scope);
    END IF;
    IF coalesce(new_read, new_write) IS NULL AND set_permissions_as.scope_column <> '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a permission is missing',
            DETAIL = 'A scope column says where a permission is asked for.',
            HINT = 'Give read_permission, write_permission or both.';
    END IF;
    IF coalesce(new_read, new_write) IS NULL THEN
        new_scope := NULL;
    END IF;
    PERFORM leyser.check_permissions_kept(acting, present, new_read, new_write, new_scope);
    BEGIN
        PERFORM leyser.store_permissions(present, new_read, new_write, new_scope);
    EXCEPTION WHEN lock_not_available THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
            MESSAGE = format('could not lock "%s" within 3 seconds', set_permissions_as.relation),
            DETAIL = 'A transaction holds a lock on it; while set_permissions() waits, all later statements would wait behind it.',
            HINT = 'Call it again; pg_blocking_pids() and pg_stat_activity show who holds the lock.';
    END;
    PERFORM leyser.record_event('table.permissions_set', NULL, set_permissions_as.relation::text,
        jsonb_build_object('read_permission', new_read, 'write_permission', new_write,
                           'scope_column', new_scope));
END
$$;
REVOKE ALL ON FUNCTION leyser.set_permissions_as(regrole, regclass, text, text, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_permissions_as(regrole, regclass, text, text, name) IS
    'internal: set_permissions() for the role that called it';
