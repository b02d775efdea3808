-- Security checks: what is not governed, or not as it should be.

CREATE FUNCTION leyser.governed_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('governed.no_kind', 'high', 'open', 'A table of a governed schema has no kind.',
     'Nobody has said whose rows it holds: it is separated by nothing, and a purge leaves it out.',
     'CREATE TABLE shop.copy AS SELECT * FROM shop.invoice;', 'SELECT leyser.protect(…); or SELECT leyser.declare_table(…);'),
    ('governed.tenant_column', 'high', 'open', 'A table of a schema that nobody governs has a column like those that hold tenants'' ids.',
     'It looks like a tenant''s table that was forgotten.',
     'CREATE SCHEMA extra; CREATE TABLE extra.note (tenant_id bigint NOT NULL, note text);', 'SELECT leyser.protect(…); or SELECT leyser.govern_schema(…);'),
    ('governed.reachable_schema', 'medium', 'open', 'An application reaches tables of a schema that nobody governs.',
     'What it writes there belongs to nobody, and is read by all.',
     'CREATE SCHEMA extra; CREATE TABLE extra.note (note text); GRANT USAGE ON SCHEMA extra TO app; GRANT SELECT ON extra.note TO app;',
     'SELECT leyser.govern_schema(…);'),
    ('governed.foreign_table', 'medium', 'open', 'An application reaches a foreign table.',
     'Row security does not apply to foreign tables.',
     'CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; CREATE FOREIGN TABLE shop.remote (i int) SERVER there; GRANT SELECT ON shop.remote TO app;',
     'REVOKE ALL ON … FROM …;'),
    ('governed.foreign_child', 'high', 'open', 'A foreign table is a part of a protected table.',
     'Named itself, it has no row security.',
     'CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; SET LOCAL leyser.guards = off; CREATE FOREIGN TABLE shop.old () INHERITS (shop.payment) SERVER there;',
     'ALTER FOREIGN TABLE … NO INHERIT …;'),
    ('governed.part', 'critical', 'open', 'A part of a protected table is not protected.',
     'Partitions and children that are named themselves have the policies they have, not their parent''s.',
     'CREATE TABLE shop.old_payment () INHERITS (shop.payment); DELETE FROM leyser.table_record WHERE relation = ''shop.old_payment''::regclass;', 'SELECT leyser.protect(…);'),
    ('governed.parent', 'critical', 'open', 'A protected table is a part of one that is not protected.',
     'Who reads the parent reads its rows without its policies.',
     'CREATE TABLE shop.anything (tenant_id bigint NOT NULL); SET LOCAL leyser.guards = off; ALTER TABLE shop.invoice INHERIT shop.anything;', 'SELECT leyser.protect(…);'),
    ('governed.nullable', 'medium', 'closed', 'The tenant column of a table of kind own may be null.',
     'A row without a tenant is seen by nobody, and no purge finds it.',
     'CREATE TABLE shop.draft (tenant_id bigint NOT NULL); SELECT leyser.protect(''shop.draft''); ALTER TABLE shop.draft ALTER COLUMN tenant_id DROP NOT NULL;',
     'ALTER TABLE … ALTER COLUMN … SET NOT NULL;'),
    ('governed.default_lost', 'low', 'closed', 'The tenant column has lost the default that leyser gave it.',
     'Applications that leave the column out are refused.',
     'ALTER TABLE shop.invoice ALTER COLUMN tenant_id DROP DEFAULT;', 'ALTER TABLE … ALTER COLUMN … SET DEFAULT leyser.tenant_id…();'),
    ('governed.shared_trigger', 'high', 'open', 'The trigger that keeps a shared table from being written to is missing or switched off.',
     'One tenant could change what all read.',
     'SET LOCAL leyser.guards = off; DROP TRIGGER leyser_shared ON shop.country;', 'SELECT leyser.declare_table(…, ''shared'');'),
    ('governed.retained_reachable', 'high', 'open', 'An application reaches a table of kind retained.',
     'It holds the provider''s own records, of all tenants.',
     'GRANT SELECT ON shop.ledger TO app;', 'REVOKE ALL ON … FROM …;'),
    ('governed.ignored_writable', 'low', 'open', 'An application may write to a table of kind ignored.',
     'What one tenant writes there the others read.',
     'SELECT leyser.declare_table(''shop.ledger'', ''ignored''); GRANT INSERT ON shop.ledger TO app;', 'REVOKE INSERT, UPDATE, DELETE ON … FROM …;'),
    ('governed.not_validated', 'low', 'none', 'A foreign key or check of a protected table was never validated.',
     'Older rows may break it, for example by referring to another tenant''s.',
     'ALTER TABLE shop.invoice ADD CONSTRAINT positive CHECK (amount >= 0) NOT VALID;', 'SELECT leyser.validate_constraint(…);'),
    ('governed.getters_revoked', 'medium', 'closed', 'Somebody whom row security binds may not call the getters that policies call.',
     'Its statements fail on every protected table.',
     'REVOKE EXECUTE ON FUNCTION leyser.tenant_id_int8() FROM PUBLIC;', 'GRANT EXECUTE ON FUNCTION … TO PUBLIC;')
$rules$;
REVOKE ALL ON FUNCTION leyser.governed_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.governed_rules() IS 'internal: rules of the security check, family governed';

-- Tables of applications that are in no registry, and have no kind from a parent;
-- parts are left to their root.
CREATE FUNCTION leyser.check_undeclared()
    RETURNS TABLE (relation oid, name text, schema oid, schema_name name, is_governed boolean, tenant_column name, is_not_null boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid, c.oid::regclass::text, n.oid, n.nspname, n.is_governed, a.attname, coalesce(a.attnotnull, false)
    FROM pg_class c JOIN leyser.check_schema n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT o.attname, o.attnotnull FROM pg_attribute o JOIN (SELECT DISTINCT t.tenant_column FROM leyser.check_table t) k ON k.tenant_column = o.attname
        WHERE o.attrelid = c.oid AND o.attnum > 0 AND NOT o.attisdropped AND o.atttypid IN ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        ORDER BY o.attnum LIMIT 1) a ON true
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = c.oid)
      AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
$$;
REVOKE ALL ON FUNCTION leyser.check_undeclared() FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_undeclared() IS
    'internal: tables without a kind, and a column of theirs that is called like a tenant column and may be one';

CREATE FUNCTION leyser.governed_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH undeclared AS MATERIALIZED (
        SELECT * FROM leyser.check_undeclared()
    ), access AS MATERIALIZED (
        SELECT x.relation, x.privilege, leyser.role_word(x.grantee) AS grantee, x.is_owner
        FROM leyser.check_access() x JOIN leyser.check_actor a ON a.actor = x.actor AND a.is_application
        WHERE x.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    )
    SELECT 'governed.no_kind', 'table ' || u.name, 'It has no kind.',
           CASE WHEN u.is_not_null THEN format('SELECT leyser.protect(%L, %L);', u.name, u.tenant_column)
                ELSE format('SELECT leyser.declare_table(%L, ''shared'', ''to be looked at''); -- or another kind: by_rule, retained, ignored', u.name) END
    FROM undeclared u WHERE u.is_governed
    UNION ALL
    SELECT 'governed.tenant_column', 'table ' || u.name, format('It has a column "%s", and nobody governs its schema.', u.tenant_column),
           CASE WHEN u.is_not_null THEN format('SELECT leyser.protect(%L, %L);', u.name, u.tenant_column) ELSE format('SELECT leyser.govern_schema(%L);', u.schema_name) END
    FROM undeclared u WHERE NOT u.is_governed AND u.tenant_column IS NOT NULL
    UNION ALL
    SELECT 'governed.reachable_schema', 'schema ' || u.schema_name, format('Reached are %s.', string_agg(DISTINCT u.name, ', ')), format('SELECT leyser.govern_schema(%L);', quote_ident(u.schema_name))
    FROM undeclared u WHERE NOT u.is_governed AND EXISTS (SELECT FROM access a WHERE a.relation = u.relation) GROUP BY u.schema_name
    UNION ALL
    SELECT 'governed.foreign_table', 'foreign table ' || c.oid::regclass, format('%s may use it.', string_agg(DISTINCT a.grantee, ', ')),
           format('REVOKE ALL ON %s FROM %s;', c.oid::regclass, string_agg(DISTINCT a.grantee, ', '))
    FROM access a JOIN pg_class c ON c.oid = a.relation AND c.relkind = 'f' AND NOT a.is_owner GROUP BY c.oid
    UNION ALL
    SELECT 'governed.retained_reachable', 'table ' || t.relation, format('%s may use it.', string_agg(DISTINCT a.grantee, ', ')),
           format('REVOKE ALL ON %s FROM %s;', t.relation, string_agg(DISTINCT a.grantee, ', '))
    FROM access a JOIN leyser.table_record t ON t.relation = a.relation AND t.kind = 'retained' AND NOT a.is_owner GROUP BY t.relation
    UNION ALL
    SELECT 'governed.ignored_writable', 'table ' || t.relation, format('%s may write to it.', string_agg(DISTINCT a.grantee, ', ')),
           format('REVOKE INSERT, UPDATE, DELETE ON %s FROM %s;', t.relation, string_agg(DISTINCT a.grantee, ', '))
    FROM access a JOIN leyser.table_record t ON t.relation = a.relation AND t.kind = 'ignored' AND NOT a.is_owner
    WHERE a.privilege <> 'SELECT' GROUP BY t.relation
    UNION ALL
    SELECT 'governed.getters_revoked', 'function ' || p.oid::regprocedure, 'Not everybody may call it.', format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC;', p.oid::regprocedure)
    FROM pg_proc p WHERE p.pronamespace = 'leyser'::regnamespace AND p.proname IN ('tenant_id', 'tenant_id_int8', 'tenant_id_uuid', 'row_permission', 'has_permission')
      AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0)
$$;
REVOKE ALL ON FUNCTION leyser.governed_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.governed_findings() IS 'internal: what family governed finds about tables and who reaches them';

CREATE FUNCTION leyser.governed_part_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'governed.foreign_child', 'foreign table ' || c.oid::regclass, format('It is a part of %s.', p.name),
           CASE WHEN c.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s;', p.name, c.oid::regclass)
                ELSE format('ALTER FOREIGN TABLE %s NO INHERIT %s;', c.oid::regclass, p.name) END
    FROM pg_inherits i JOIN leyser.check_table p ON p.relation = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'f'
    UNION ALL
    SELECT 'governed.part', 'table ' || c.oid::regclass, format('It is a part of %s, and is not protected.', p.name), format('SELECT leyser.protect(%L);', p.name)
    FROM pg_inherits i JOIN leyser.check_table p ON p.relation = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p')
    WHERE NOT EXISTS (SELECT FROM leyser.check_table t WHERE t.relation = c.oid)
    UNION ALL
    SELECT 'governed.parent', 'table ' || i.inhparent::regclass, format('It is not protected, and has the rows of %s.', string_agg(t.name, ', ')),
           CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.inhparent AND a.attname = min(t.tenant_column::text) AND a.attnotnull)
                THEN format('SELECT leyser.protect(%L, %L);', i.inhparent::regclass, min(t.tenant_column::text))
                ELSE string_agg(format('ALTER TABLE %s NO INHERIT %s;', t.name, i.inhparent::regclass), ' ') END
    FROM pg_inherits i JOIN leyser.check_table t ON t.relation = i.inhrelid
    WHERE NOT EXISTS (SELECT FROM leyser.check_table p WHERE p.relation = i.inhparent AND (p.enforcement <> 'observe' OR t.enforcement = 'observe'))
    GROUP BY i.inhparent
    UNION ALL
    SELECT 'governed.nullable', 'table ' || t.name, format('Column "%s" may be null.', a.attname), format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', t.name, a.attname)
    FROM leyser.check_table t JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum WHERE t.kind = 'own' AND NOT a.attnotnull
    UNION ALL
    SELECT 'governed.default_lost', 'table ' || t.name, format('Column "%s" has no default.', a.attname),
           format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s;', t.name, a.attname, leyser.getter_for(t.relation, a.attname))
    FROM leyser.check_table t JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
    WHERE t.set_default AND t.enforcement <> 'observe' AND NOT a.atthasdef
    UNION ALL
    SELECT 'governed.shared_trigger', 'table ' || t.relation, 'Trigger "leyser_shared" is missing or disabled.', format('SELECT leyser.declare_table(%L, ''shared'');', t.relation)
    FROM leyser.table_record t
    WHERE t.kind = 'shared' AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relation AND g.tgname = 'leyser_shared' AND g.tgenabled = 'A')
    UNION ALL
    SELECT 'governed.not_validated', format('constraint %I on %s', k.conname, t.name), 'It was never validated.', format('SELECT leyser.validate_constraint(%L, %L);', t.name, k.conname)
    FROM leyser.check_table t JOIN pg_constraint k ON k.conrelid = t.relation AND NOT k.convalidated AND k.conparentid = 0 AND k.contype IN ('f', 'c')
$$;
REVOKE ALL ON FUNCTION leyser.governed_part_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.governed_part_findings() IS 'internal: what family governed finds about parts, columns and constraints';
