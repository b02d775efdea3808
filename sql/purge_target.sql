-- What a purge may touch: every relation that holds rows of tenants, and the
-- condition by which it is emptied.
--
-- A condition is SQL over the relation's columns in which $1 is the tenant id, a
-- text.  It runs with the rights of the relation's owner, in a restricted
-- operation, with standard_conforming_strings on: what an owner attached to a
-- table, and what an operator wrote as purge_condition, never runs with ours.
-- It stands in parentheses, with a line break before the last one, for it may
-- end in a comment: WHERE (condition
-- )

CREATE FUNCTION leyser.condition_relations(relation regclass, condition text) RETURNS regclass[]
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_condition_relations';
REVOKE ALL ON FUNCTION leyser.condition_relations(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.condition_relations(regclass, text) IS
    'internal: the relations in a condition''s subqueries; 22023 for a condition that is not one expression, or that calls what neither the table''s owner nor a superuser made';

-- A condition runs with the rights of the table's owner: of the one for whom it was
-- declared, where it is more than operators may declare.
CREATE FUNCTION leyser.refused_condition(relation regclass, condition text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    told text;
BEGIN
    PERFORM leyser.condition_relations(refused_condition.relation, refused_condition.condition);
    IF leyser.condition_is_plain(refused_condition.condition) OR EXISTS (
            SELECT FROM leyser.table_record t
            JOIN pg_roles r ON r.rolname = t.condition_owner
            JOIN pg_class c ON c.oid = refused_condition.relation AND c.relowner = r.oid
            WHERE t.purge_condition = refused_condition.condition) THEN
        RETURN NULL;
    END IF;
    RETURN 'It was declared for another owner of the table';
EXCEPTION WHEN invalid_parameter_value OR syntax_error_or_access_rule_violation THEN
    GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
    RETURN CASE SQLSTATE WHEN '22023' THEN rtrim(told, '.') ELSE SQLERRM END;
END
$$;
REVOKE ALL ON FUNCTION leyser.refused_condition(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refused_condition(regclass, text) IS
    'internal: why a by-rule table''s condition must not be run, or NULL';

CREATE FUNCTION leyser.query_as_owner(relation regclass, query text, tenant_id text) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_query_as_owner';
REVOKE ALL ON FUNCTION leyser.query_as_owner(regclass, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.query_as_owner(regclass, text, text) IS
    'internal: the one value of a query of a table, run with the rights of its owner; $1 is the tenant id';

-- A leaf partition, a table, a table of leyser; without a condition it is kept.
CREATE TYPE leyser.purge_target AS (
    relation oid,
    relation_name text,
    relkind "char",
    kind text,                  -- as in table_record; leyser: one of our own tables; NULL: not declared
    condition text,
    assignments text,           -- not deleted: UPDATE … SET assignments
    tenant_attnum smallint,
    reason text
);
COMMENT ON TYPE leyser.purge_target IS 'a relation that a purge deals with';

-- A row of purge_plan() and purge_table.
CREATE TYPE leyser.purge_step AS (
    relation oid,               -- 0: none in this database
    relation_name text,
    action text,                -- stop, delete, delete together, truncate, erase, refresh, scrub, confirm, keep
    condition text,
    assignments text,
    together integer,           -- those of one number are deleted in one transaction
    rows bigint,
    bytes bigint,               -- of the whole relation with TOAST and indexes: what is scrubbed
    note text,
    constraint_name name,       -- of a stop
    hint text                   -- of a stop: what makes it go away
);
COMMENT ON TYPE leyser.purge_step IS 'a step of a purge''s plan';

-- The comparison of a tenant column with the tenant id; NULL where the column's
-- type cannot hold this id.
CREATE FUNCTION leyser.tenant_condition(relation regclass, tenant_column name, tenant_id text)
    RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE leyser.getter_for(relation, tenant_column)
        WHEN 'leyser.tenant_id()' THEN format('%I OPERATOR(pg_catalog.=) $1', tenant_column)
        WHEN 'leyser.tenant_id_uuid()' THEN
            CASE WHEN tenant_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                 THEN format('%I OPERATOR(pg_catalog.=) $1::pg_catalog.uuid', tenant_column) END
        WHEN 'leyser.tenant_id_int8()' THEN
            CASE WHEN tenant_id ~ '^(0|-?[1-9][0-9]{0,18})$' THEN
                CASE WHEN tenant_id::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
                     THEN format('%I OPERATOR(pg_catalog.=) $1::pg_catalog.int8', tenant_column) END END
    END
$$;
REVOKE ALL ON FUNCTION leyser.tenant_condition(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tenant_condition(regclass, name, text) IS
    'internal: the condition by which a protected table''s rows of a tenant are found';

-- What leyser itself keeps of a tenant.  Erasable content goes, what it was chained
-- into stays; the tombstone keeps id, state and dates.
CREATE FUNCTION leyser.own_purge_targets() RETURNS SETOF leyser.purge_target
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.relation::oid, o.relation::text, 'r'::"char", 'leyser', o.condition, o.assignments, NULL::smallint, NULL::text
    FROM (VALUES
        ('leyser.login_delay'::regclass, 'split_part(subject, ''@'', 1) IN (SELECT ''account:'' || a.account_id FROM leyser.account_record a WHERE a.tenant_id = $1)', NULL),
        ('leyser.revoked_session', 'session_id IN (SELECT s.session_id FROM leyser.session_record s WHERE s.tenant_id = $1 UNION ALL SELECT u.session_id FROM leyser.support_record u WHERE u.tenant_id = $1 UNION ALL SELECT w.session_id FROM leyser.disclosure_window w WHERE w.tenant_id = $1)', NULL),
        ('leyser.session_record', 'tenant_id = $1', NULL),
        ('leyser.each_tenant_record', 'tenant_id = $1', NULL),
        ('leyser.support_record', 'tenant_id = $1', NULL),
        ('leyser.export_record', 'tenant_id = $1', NULL),
        ('leyser.disclosure_window', 'tenant_id = $1', NULL),
        -- that there was one, when and by whom is the provider's to answer for
        ('leyser.disclosure_record', 'tenant_id = $1 AND num_nonnulls(legal_basis, untold_reason) > 0', 'legal_basis = NULL, untold_reason = NULL'),
        ('leyser.familiar_address', 'account_id IN (SELECT a.account_id FROM leyser.account_record a WHERE a.tenant_id = $1)', NULL),
        ('leyser.grant_lock', 'tenant_id = $1', NULL),
        ('leyser.daily_usage_record', 'tenant_id = $1', NULL),
        ('leyser.invitation_record', 'account_id IN (SELECT a.account_id FROM leyser.account_record a WHERE a.tenant_id = $1)', NULL),
        ('leyser.password_record', 'account_id IN (SELECT a.account_id FROM leyser.account_record a WHERE a.tenant_id = $1)', NULL),
        ('leyser.grant_record', 'account_id IN (SELECT a.account_id FROM leyser.account_record a WHERE a.tenant_id = $1)', NULL),
        ('leyser.role_permission', 'role_id IN (SELECT r.role_id FROM leyser.role_record r WHERE r.tenant_id = $1)', NULL),
        ('leyser.role_member', 'role_id IN (SELECT r.role_id FROM leyser.role_record r WHERE r.tenant_id = $1)', NULL),
        ('leyser.permission_change', 'tenant_id = $1', NULL),
        ('leyser.role_record', 'tenant_id = $1', NULL),
        ('leyser.account_record', 'tenant_id = $1', NULL),
        ('leyser.issuer_key', 'tenant_id = $1', NULL),
        ('leyser.mail_attempt', 'tenant_id = $1', NULL),
        ('leyser.mail_record', 'tenant_id = $1', NULL),
        ('leyser.contact_record', 'tenant_id = $1', NULL),
        ('leyser.notice_tenant', 'tenant_id = $1', NULL),
        -- none while a purge runs, but the bytes of former ones
        ('leyser.hold_record', 'tenant_id = $1', NULL),
        ('leyser.termination_record', 'tenant_id = $1 AND reason IS NOT NULL', 'reason = NULL'),
        ('leyser.tenant_record', 'tenant_id = $1 AND (name IS NOT NULL OR region IS NOT NULL)', 'name = NULL, region = NULL')
    ) o (relation, condition, assignments)
    UNION ALL
    -- who confirmed an erasure is told by its report
    SELECT e.relation, e.relation::regclass::text, 'r', 'leyser',
           'tenant_id = $1 AND event <> ''external_erasure.confirmed'' AND num_nonnulls(session_role, caller_role, client_address, account_id, object, detail, salt, images) > 0',
           'session_role = NULL, caller_role = NULL, client_address = NULL, account_id = NULL, object = NULL, detail = NULL, salt = NULL, images = NULL', NULL, NULL
    FROM (SELECT 'leyser.event_record'::regclass::oid UNION ALL
          SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = 'leyser.event_record'::regclass) e (relation)
$$;
REVOKE ALL ON FUNCTION leyser.own_purge_targets() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_purge_targets() IS
    'internal: what leyser''s own tables hold of a tenant';

-- Every member of a governed family goes by its own record, or else by that of its
-- nearest ancestor; tables of governed schemas that were never declared are named.
CREATE FUNCTION leyser.purge_targets(tenant_id text) RETURNS SETOF leyser.purge_target
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE family (member, record, depth) AS (
        SELECT t.relation::oid, t.relation::oid, 0 FROM leyser.table_record t
        UNION ALL
        SELECT i.inhrelid, f.record, f.depth + 1 FROM family f JOIN pg_inherits i ON i.inhparent = f.member
    ), nearest AS (
        SELECT DISTINCT ON (f.member) f.member, f.record FROM family f ORDER BY f.member, f.depth, f.record
    ), governed AS (
        SELECT c.oid, c.relkind, a.attnum, t.* FROM nearest n
        JOIN leyser.table_record t ON t.relation = n.record
        -- nobody else can look into a session's temporary table
        JOIN pg_class c ON c.oid = n.member AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
    )
    SELECT g.oid, g.oid::regclass::text, g.relkind, g.kind,
           CASE WHEN g.relkind = 'f' THEN NULL
                WHEN g.tenant_attnum IS NOT NULL THEN leyser.tenant_condition(g.oid, g.tenant_column, purge_targets.tenant_id)
                WHEN g.kind = 'by_rule' THEN g.purge_condition END,
           NULL::text, g.attnum, g.reason
    FROM governed g
    UNION ALL
    SELECT c.oid, c.oid::regclass::text, c.relkind, NULL, NULL, NULL, NULL, NULL
    FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
      AND c.relnamespace IN (SELECT o.relnamespace FROM governed g JOIN pg_class o ON o.oid = g.oid)
      AND c.oid NOT IN (SELECT g.oid FROM governed g)
    UNION ALL
    SELECT o.* FROM leyser.own_purge_targets() o
$$;
REVOKE ALL ON FUNCTION leyser.purge_targets(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_targets(text) IS
    'internal: all relations that a purge empties, keeps or names';

CREATE FUNCTION leyser.temporary_members() RETURNS TABLE (relation oid, name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE family (member) AS (
        SELECT t.relation::oid FROM leyser.table_record t WHERE t.kind IN ('own', 'own_and_global', 'by_rule')
        UNION SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.member
    )
    SELECT c.oid, c.oid::regclass::text FROM family f
    JOIN pg_class c ON c.oid = f.member AND c.relkind IN ('r', 'p') AND c.relpersistence = 't'
    ORDER BY c.oid::regclass::text COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.temporary_members() FROM PUBLIC;
COMMENT ON FUNCTION leyser.temporary_members() IS
    'internal: temporary children of tables with rows of tenants, which nobody but their sessions can read';

CREATE FUNCTION leyser.count_purge_rows(relation regclass, condition text, tenant_id text) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT leyser.query_as_owner(relation, format(E'SELECT count(*) FROM ONLY %s WHERE (%s\n)', relation, condition),
                                 tenant_id)::bigint
$$;
REVOKE ALL ON FUNCTION leyser.count_purge_rows(regclass, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_purge_rows(regclass, text, text) IS
    'internal: how many rows of a table a condition finds for a tenant';
