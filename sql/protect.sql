-- protect() and unprotect(), and how later children follow.
--
-- The registry row is written after protection was put up and deleted before it
-- is taken down: the guard compares tables that are registered before and after
-- a statement, so it needs to know nothing of these functions.

CREATE FUNCTION leyser.protect(relation regclass, tenant_column name DEFAULT NULL,
                               kind text DEFAULT NULL, enforcement text DEFAULT NULL,
                               set_default boolean DEFAULT NULL,
                               accept_gaps boolean DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_call_as';
REVOKE ALL ON FUNCTION leyser.protect(regclass, name, text, text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect(regclass, name, text, text, boolean, boolean) IS
    'owner of the table or operator: forced row security by the tenant column (default tenant_id), kind own (default) or own_and_global, enforcement enforce (default) or observe (all is let through, and counted in view context_gap; moves on to enforce, never back), for the table and all its partitions and children, today''s and later ones; arguments left out keep what is set; 42501, 42703 no such column, 42710 a policy has a name that leyser uses, 42804 its type cannot hold a tenant id, 42809 no table, 55000 something must be made first (the hint says what), 55P03 it is locked, 22P02 values that cannot be tenant ids, LY008 it is declared otherwise, or enforced and to be observed';

-- What protect() does, for the role that called it.
CREATE FUNCTION leyser.protect_as(acting regrole, relation regclass, tenant_column name, kind text,
                                  enforcement text, set_default boolean, accept_gaps boolean)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    present leyser.table_record;
    new_column name;
    new_kind text;
    new_enforcement text;
    one record;
BEGIN
    PERFORM leyser.check_governable(protect_as.relation);
    PERFORM leyser.check_owner(acting, protect_as.relation);
    -- what another call is changing right now is kept or changed, not overlooked
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', protect_as.relation);
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = protect_as.relation;
    new_kind := coalesce(protect_as.kind, CASE WHEN present.tenant_attnum IS NOT NULL THEN present.kind END, 'own');
    new_column := coalesce(protect_as.tenant_column,
        (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = present.relation
            AND a.attnum = present.tenant_attnum), 'tenant_id');
    new_enforcement := coalesce(protect_as.enforcement, CASE WHEN present.tenant_attnum IS NOT NULL THEN present.enforcement END, 'enforce');
    IF new_kind NOT IN ('own', 'own_and_global') OR protect_as.enforcement NOT IN ('observe', 'enforce') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid kind or enforcement',
            DETAIL = 'Kinds are own and own_and_global; enforcement is observe or enforce.',
            HINT = 'For other kinds call leyser.declare_table().';
    END IF;
    IF present.relation IS NOT NULL AND present.tenant_attnum IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is declared %s', protect_as.relation, present.kind),
            DETAIL = 'A table has one kind.',
            HINT = format('SELECT leyser.unprotect(%L);', protect_as.relation);
    END IF;
    IF new_enforcement = 'observe' AND present.enforcement <> 'observe' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is enforced', protect_as.relation),
            DETAIL = 'A table that is protected is not merely observed again.',
            HINT = format('An operator can let through for a time: SELECT leyser.suspend_protection(%L, ''why'', ''1 hour'');', protect_as.relation);
    END IF;
    IF new_column <> present.tenant_column THEN
        PERFORM leyser.refuse_open_purge(protect_as.relation);
    END IF;
    -- an owner only tightens
    IF present.tenant_attnum IS NOT NULL AND NOT leyser.role_has_usage(acting, 'operator')
            AND (new_column <> present.tenant_column
                 OR new_kind = 'own_and_global' AND present.kind = 'own'
                 OR protect_as.accept_gaps AND NOT present.accept_gaps) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied to loosen the protection of "%s"', protect_as.relation),
            DETAIL = 'Another tenant column, kind own_and_global in place of own, and accept_gaps are an operator''s to decide.',
            HINT = 'A superuser can call leyser.grant_usage(role, ''operator'').';
    END IF;
    FOR one IN SELECT i.inhrelid::regclass AS member, i.inhparent::regclass AS parent
            FROM leyser.family_of(protect_as.relation) f JOIN pg_inherits i ON i.inhrelid = f.member
            WHERE NOT EXISTS (SELECT FROM leyser.family_of(protect_as.relation) o WHERE o.member = i.inhparent)
              AND NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = i.inhparent
                              AND t.tenant_attnum IS NOT NULL
                              AND (t.enforcement <> 'observe' OR new_enforcement = 'observe'))
            ORDER BY i.inhrelid, i.inhseqno LOOP
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('"%s" is a part of "%s"', one.member, one.parent),
            DETAIL = 'Whoever reads the parent would see its rows. Partitions and children are protected with their root, today''s and later ones.',
            -- where each of two parents waits for the other, the child steps aside
            HINT = CASE WHEN one.member <> protect_as.relation THEN
                    format('ALTER TABLE %1$s NO INHERIT %2$s; protect both, then ALTER TABLE %1$s INHERIT %2$s;', one.member, one.parent)
                ELSE format('SELECT leyser.protect(%L);', coalesce(pg_partition_root(protect_as.relation), one.parent)) END;
    END LOOP;
    PERFORM leyser.getter_for(protect_as.relation, new_column);
    IF new_enforcement <> 'observe' THEN
        PERFORM leyser.check_protectable(protect_as.relation, new_column, new_kind,
            coalesce(protect_as.accept_gaps, present.accept_gaps, false));
    END IF;
    IF present.enforcement = 'observe' AND new_enforcement = 'enforce' THEN
        PERFORM leyser.warn_of_gaps(protect_as.relation);
    END IF;
    FOR one IN SELECT f.member, f.parent FROM leyser.family_of(protect_as.relation) f ORDER BY f.parent NULLS FIRST LOOP
        PERFORM leyser.protect_one(one.member, coalesce(one.parent, present.parent), new_column, new_kind,
            coalesce(protect_as.set_default, present.set_default, true),
            coalesce(protect_as.accept_gaps, present.accept_gaps, false), protect_as.enforcement);
    END LOOP;
    -- children that came while we waited for locks
    PERFORM leyser.follow_tables();
    PERFORM leyser.tell_bypassing(protect_as.relation);
    PERFORM leyser.record_event('table.protected', NULL, protect_as.relation::text,
        jsonb_build_object('kind', new_kind, 'tenant_column', new_column)
        || CASE new_enforcement WHEN 'observe' THEN '{"enforcement": "observe"}' ELSE '{}' END::jsonb);
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(protect_as.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_as(regrole, regclass, name, text, text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_as(regrole, regclass, name, text, text, boolean, boolean) IS
    'internal: protect() for the role that called it';

CREATE FUNCTION leyser.check_owner(acting regrole, relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (pg_has_role(acting, (SELECT c.relowner FROM pg_class c WHERE c.oid = relation), 'USAGE')
            OR leyser.role_has_usage(acting, 'operator')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for table "%s"', relation),
            DETAIL = 'Only its owner or an operator can protect it.',
            HINT = 'A superuser can call leyser.grant_usage(role, ''operator'').';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_owner(regrole, regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_owner(regrole, regclass) IS
    'internal: raises where a role neither owns a table nor is an operator';

-- Takes protection off one table and puts back what protect() found.
CREATE FUNCTION leyser.unprotect_one(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    was leyser.table_record;
BEGIN
    DELETE FROM leyser.table_record t WHERE t.relation = unprotect_one.relation RETURNING t.* INTO was;
    IF was.tenant_attnum IS NULL THEN
        RETURN;
    END IF;
    PERFORM leyser.follow_lookups(unprotect_one.relation);
    IF was.enforcement = 'observe' THEN
        PERFORM leyser.forget_plans(was.relation);
        RETURN;
    END IF;
    PERFORM leyser.drop_policies(unprotect_one.relation);
    IF NOT was.had_forced_row_security THEN
        EXECUTE format('ALTER TABLE ONLY %s NO FORCE ROW LEVEL SECURITY', unprotect_one.relation);
    END IF;
    IF NOT was.had_row_security THEN
        EXECUTE format('ALTER TABLE ONLY %s DISABLE ROW LEVEL SECURITY', unprotect_one.relation);
    END IF;
    PERFORM leyser.restore_default(was);
END
$$;
REVOKE ALL ON FUNCTION leyser.unprotect_one(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unprotect_one(regclass) IS
    'internal: takes protection off one table and its registry row away';

CREATE FUNCTION leyser.unprotect(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    present leyser.table_record;
    one record;
BEGIN
    PERFORM leyser.check_governable(unprotect.relation);
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', unprotect.relation);
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = unprotect.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not governed', unprotect.relation),
            DETAIL = 'It has no kind in the registry.',
            HINT = 'See view leyser.governed_table.';
    END IF;
    IF EXISTS (SELECT FROM pg_inherits i JOIN leyser.table_record t ON t.relation = i.inhparent
               WHERE i.inhrelid = unprotect.relation AND t.kind IN ('own', 'own_and_global', 'shared')) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is governed with its parent', unprotect.relation),
            DETAIL = 'Partitions and children follow their parent.',
            HINT = format('SELECT leyser.unprotect(%L);', present.parent);
    END IF;
    PERFORM leyser.refuse_open_purge(unprotect.relation);
    PERFORM leyser.undeclare(unprotect.relation);
    -- what another protected parent hands on stays protected
    FOR one IN WITH RECURSIVE family AS (SELECT f.member FROM leyser.family_of(unprotect.relation) f),
            kept AS (
                SELECT i.inhrelid FROM pg_inherits i JOIN leyser.table_record t ON t.relation = i.inhparent
                WHERE t.tenant_attnum IS NOT NULL AND i.inhrelid IN (SELECT f.member FROM family f)
                  AND i.inhparent NOT IN (SELECT f.member FROM family f)
                UNION SELECT i.inhrelid FROM kept JOIN pg_inherits i ON i.inhparent = kept.inhrelid)
            SELECT f.member FROM family f WHERE f.member NOT IN (SELECT k.inhrelid FROM kept k) LOOP
        PERFORM leyser.unprotect_one(one.member);
    END LOOP;
    UPDATE leyser.table_record t SET parent = (
            SELECT i.inhparent FROM pg_inherits i JOIN leyser.table_record p ON p.relation = i.inhparent
            WHERE i.inhrelid = t.relation LIMIT 1)
        WHERE t.parent IS NOT NULL AND NOT EXISTS (SELECT FROM leyser.table_record p WHERE p.relation = t.parent);
    PERFORM leyser.follow_tables();
    PERFORM leyser.end_exports(NULL, 'table');
    PERFORM leyser.record_event('table.unprotected', NULL, unprotect.relation::text,
        jsonb_build_object('kind', present.kind));
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(unprotect.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.unprotect(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unprotect(regclass) IS
    'operator: takes a table, its partitions and children out of the registry and puts back the row security and default that protect() found; LY008 where it is not governed, or only with its parent, or is being purged; 42P01 or 42809 where it is no table, 55P03 where it is locked';

-- All or nothing: DROP EXTENSION is refused while one table is left.
CREATE FUNCTION leyser.unprotect_all() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    before CONSTANT bigint := (SELECT count(*) FROM leyser.table_record t);
    one regclass;
BEGIN
    LOOP
        SELECT t.relation INTO one FROM leyser.table_record t
            -- children go with their parents
            WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN leyser.table_record p ON p.relation = i.inhparent
                              WHERE i.inhrelid = t.relation AND p.kind IN ('own', 'own_and_global', 'shared'))
            ORDER BY t.relation::text COLLATE "C" LIMIT 1;
        EXIT WHEN NOT FOUND;
        PERFORM leyser.unprotect(one);
    END LOOP;
    RETURN before;
END
$$;
REVOKE ALL ON FUNCTION leyser.unprotect_all() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unprotect_all() IS
    'operator: unprotect() of every table that has a kind, partitions and children included, in one transaction; returns how many tables there were; LY008 where a table is being purged, 55P03 where one is locked: then nothing has changed';

-- CREATE TABLE … INHERITS (protected, unprotected): whoever reads the other parent
-- would see the child's rows.
CREATE FUNCTION leyser.check_other_parents(child regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other regclass;
BEGIN
    SELECT i.inhparent INTO other FROM pg_inherits i WHERE i.inhrelid = child
        AND NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = i.inhparent
                        AND t.tenant_attnum IS NOT NULL AND t.enforcement <> 'observe') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY007',
            MESSAGE = format('protected table "%s" cannot be a child of "%s"', child, other),
            DETAIL = 'Whoever reads the parent would see every tenant''s rows.',
            HINT = format('Protect the parent first: SELECT leyser.protect(%L);', other);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_other_parents(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_other_parents(regclass) IS
    'internal: LY007 where a child that becomes protected has a parent that is not';

CREATE FUNCTION leyser.follow_tables() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    gone regclass;
    child record;
BEGIN
    FOR gone IN DELETE FROM leyser.table_record t
            WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation)
            RETURNING t.relation LOOP
        PERFORM leyser.record_event('table.dropped', NULL, gone::oid::text, NULL);
    END LOOP;
    DELETE FROM leyser.usage_record u WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = u.role);
    UPDATE leyser.table_record t SET tenant_column = a.attname FROM pg_attribute a
        WHERE a.attrelid = t.relation AND a.attnum = t.tenant_attnum
          AND a.attname <> t.tenant_column;
    UPDATE leyser.table_record t SET scope_column = a.attname FROM pg_attribute a
        WHERE a.attrelid = t.relation AND a.attnum = t.scope_attnum
          AND a.attname <> t.scope_column;
    PERFORM leyser.follow_lookups();
    LOOP
        SELECT i.inhrelid::regclass AS relation, t.relation AS parent, t.kind, t.set_default,
               t.accept_gaps, t.reason, t.enforcement, a.attname INTO child
            FROM leyser.table_record t
            JOIN pg_inherits i ON i.inhparent = t.relation
            JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
            LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
            WHERE t.kind IN ('own', 'own_and_global', 'shared')
              AND NOT EXISTS (SELECT FROM leyser.table_record k WHERE k.relation = i.inhrelid
                              AND (k.tenant_attnum IS NOT NULL AND k.enforcement <> 'observe'
                                   OR t.tenant_attnum IS NULL OR t.enforcement = 'observe'))
            ORDER BY i.inhrelid LIMIT 1;
        EXIT WHEN NOT FOUND;
        IF child.kind <> 'shared' AND child.enforcement <> 'observe' AND current_setting('leyser.guards')::boolean THEN
            PERFORM leyser.check_other_parents(child.relation);
            PERFORM leyser.check_protectable(child.relation, child.attname, child.kind, child.accept_gaps);
        END IF;
        IF child.kind = 'shared' THEN
            INSERT INTO leyser.table_record (relation, kind, parent, reason)
                VALUES (child.relation, child.kind, child.parent, child.reason);
            PERFORM leyser.set_shared(child.relation, true);
        ELSE
            PERFORM leyser.protect_one(child.relation, child.parent, child.attname, child.kind,
                                       child.set_default, child.accept_gaps, child.enforcement);
        END IF;
        PERFORM leyser.record_event('table.followed', NULL, child.relation::text,
            jsonb_build_object('kind', child.kind, 'tenant_column', child.attname, 'parent', child.parent::text));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.follow_tables() FROM PUBLIC;
COMMENT ON FUNCTION leyser.follow_tables() IS
    'internal, called after DDL: forgets dropped tables, notes renamed columns and lets new partitions and children follow their parents';
