-- CALL add_tenant_column(): a child table gets the tenant column of its parent.
--
-- The order keeps every row right that is written meanwhile: a column that may be null,
-- and in the same transaction the trigger that fills it (src/tenant_column.c); then the
-- rows that were there before, batch by batch; NOT NULL; an index; and the foreign key
-- with the tenant columns, which takes the place of the one without.

CREATE FUNCTION leyser.fill_tenant() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_fill_tenant';
REVOKE ALL ON FUNCTION leyser.fill_tenant() FROM PUBLIC;
COMMENT ON FUNCTION leyser.fill_tenant() IS
    'internal trigger: the tenant column of a child table follows its parent''s';

-- What add_tenant_column() works on.
CREATE TYPE leyser.child_column AS (
    child regclass,
    parent regclass,
    key_oid oid,
    key_name name,
    keys smallint[],            -- the foreign key's columns, without the tenant's
    parent_keys smallint[],
    tenant_column name,         -- of both
    parent_attnum smallint,
    child_attnum smallint       -- NULL: not made yet
);
COMMENT ON TYPE leyser.child_column IS 'internal: a child table, its parent, and the foreign key between them';

-- The foreign key that is meant: by its name, or by its only column.
CREATE FUNCTION leyser.child_key(relation regclass, via name, tenant_column name) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_keys oid[];
BEGIN
    SELECT array_agg(c.oid) INTO found_keys FROM pg_constraint c
        WHERE c.conrelid = relation AND c.contype = 'f' AND c.conname = via;
    IF found_keys IS NULL THEN
        SELECT array_agg(c.oid) INTO found_keys FROM pg_constraint c
            JOIN pg_attribute a ON a.attrelid = relation AND a.attname = via
            LEFT JOIN pg_attribute t ON t.attrelid = relation AND t.attname = tenant_column
            WHERE c.conrelid = relation AND c.contype = 'f' AND c.conname !~ '^leyser_key_'
              AND array_remove(c.conkey, t.attnum) = ARRAY[a.attnum];
    END IF;
    IF found_keys IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('"%s" has no foreign key "%s"', relation, via),
            DETAIL = coalesce('Its foreign keys are ' || (SELECT string_agg(quote_ident(c.conname), ', ' ORDER BY c.conname)
                FROM pg_constraint c WHERE c.conrelid = relation AND c.contype = 'f') || '.', 'It has none.'),
            HINT = 'Give the name of a foreign key, or of its only column; ALTER TABLE … ADD FOREIGN KEY … NOT VALID makes one.';
    END IF;
    IF cardinality(found_keys) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'ambiguous_column',
            MESSAGE = format('"%s" has %s foreign keys over column "%s"', relation, cardinality(found_keys), via),
            DETAIL = (SELECT string_agg(c.conname || ' to ' || c.confrelid::regclass::text, ', ' ORDER BY c.conname)
                FROM pg_constraint c WHERE c.oid = ANY (found_keys)),
            HINT = 'Give the name of the one that leads to the tenant.';
    END IF;
    RETURN found_keys[1];
END
$$;
REVOKE ALL ON FUNCTION leyser.child_key(regclass, name, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.child_key(regclass, name, name) IS
    'internal: the foreign key of a table by its name or only column; 42704 where there is none, 42702 where there are several';

CREATE FUNCTION leyser.child_column_of(relation regclass, via name, tenant_column name) RETURNS leyser.child_column
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    it leyser.child_column;
    key pg_constraint;
BEGIN
    it.tenant_column := coalesce(tenant_column, 'tenant_id');
    SELECT c.* INTO key FROM pg_constraint c WHERE c.oid = leyser.child_key(relation, via, it.tenant_column);
    it.tenant_column := coalesce((SELECT t.tenant_column FROM leyser.table_record t WHERE t.relation = key.confrelid), it.tenant_column);
    it.child := relation;
    it.parent := key.confrelid;
    it.key_oid := key.oid;
    it.key_name := key.conname;
    it.parent_attnum := (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = it.parent AND a.attname = it.tenant_column AND NOT a.attisdropped);
    it.child_attnum := (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = it.child AND a.attname = it.tenant_column AND NOT a.attisdropped);
    SELECT array_agg(k.child_num ORDER BY k.ord), array_agg(k.parent_num ORDER BY k.ord) INTO it.keys, it.parent_keys
        FROM unnest(key.conkey, key.confkey) WITH ORDINALITY k (child_num, parent_num, ord)
        WHERE k.child_num IS DISTINCT FROM it.child_attnum;
    RETURN it;
END
$$;
REVOKE ALL ON FUNCTION leyser.child_column_of(regclass, name, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.child_column_of(regclass, name, name) IS
    'internal: what add_tenant_column() works on, as the catalogues say it now';

-- A parent without the column: it gets its own first, unless the way leads back here.
CREATE FUNCTION leyser.refuse_parent(it leyser.child_column) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    circle text;
    next_key text;
BEGIN
    WITH RECURSIVE way AS (
        SELECT it.parent::oid AS oid, ARRAY[it.child::oid, it.parent::oid] AS path, it.parent = it.child AS closed
        UNION ALL
        SELECT c.confrelid, w.path || c.confrelid, c.confrelid = it.child
        FROM way w JOIN pg_constraint c ON c.conrelid = w.oid AND c.contype = 'f' AND c.conparentid = 0
        WHERE NOT w.closed AND (c.confrelid = it.child OR NOT c.confrelid = ANY (w.path)) AND cardinality(w.path) < 8
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = w.oid AND a.attname = it.tenant_column)
    ) SELECT (SELECT string_agg(p::regclass::text, ' → ' ORDER BY o) FROM unnest(w.path) WITH ORDINALITY u (p, o)) INTO circle
        FROM way w WHERE w.closed AND NOT EXISTS (
            SELECT FROM way o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attname = it.tenant_column AND o.oid <> it.child)
        ORDER BY cardinality(w.path) LIMIT 1;
    IF circle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_foreign_key',
            MESSAGE = format('foreign key "%s" of "%s" leads back to itself', it.key_name, it.child),
            DETAIL = format('None of these has a column "%s": %s.', it.tenant_column, circle),
            HINT = 'Give one of them the column by other means, or go through a foreign key that leads to a table with a tenant.';
    END IF;
    SELECT quote_literal(c.conname) INTO next_key FROM pg_constraint c
        WHERE c.conrelid = it.parent AND c.contype = 'f' AND c.confrelid <> it.parent ORDER BY c.conname LIMIT 1;
    RAISE EXCEPTION USING ERRCODE = 'undefined_column',
        MESSAGE = format('parent "%s" has no column "%s"', it.parent, it.tenant_column),
        DETAIL = format('"%s" gets its tenant from there, through foreign key "%s".', it.child, it.key_name),
        HINT = CASE WHEN next_key IS NULL THEN format('ALTER TABLE %s ADD COLUMN %I …; fill it first.', it.parent, it.tenant_column)
            ELSE format('Begin with the parent: CALL leyser.add_tenant_column(%L, %s);', it.parent, next_key) END;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_parent(leyser.child_column) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_parent(leyser.child_column) IS
    'internal: 42830 for a parent without a tenant column that leads back to the child, 42703 for another';

-- What add_tenant_column() cannot do.
CREATE FUNCTION leyser.check_child(it leyser.child_column) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
    key pg_constraint;
    theirs text;
    ours text;
    present leyser.table_record;
BEGIN
    SELECT c.* INTO key FROM pg_constraint c WHERE c.oid = it.key_oid;
    problem := CASE
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = it.child AND c.relkind = 'p')
            OR EXISTS (SELECT FROM pg_inherits i WHERE it.child IN (i.inhrelid, i.inhparent))
            THEN 'It is partitioned, or has or is an inheritance child.'
        WHEN EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = it.child AND r.ev_type IN ('2', '3'))
            THEN 'It has rules that change what INSERT and UPDATE do.'
        WHEN key.confmatchtype = 'f' AND cardinality(it.keys) > 1 THEN format('Foreign key "%s" is MATCH FULL over several columns.', it.key_name)
        WHEN key.confupdtype IN ('n', 'd') THEN format('Foreign key "%s" sets columns ON UPDATE.', it.key_name)
        WHEN EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = it.child AND c.contype = 'f' AND c.confrelid <> it.parent AND c.conkey = it.keys)
            THEN 'Another foreign key has the same columns.'
        WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = it.child AND a.attnum = it.child_attnum AND (a.attgenerated <> '' OR a.attidentity <> ''))
            THEN format('Its column "%s" is generated.', it.tenant_column)
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('"%s" cannot get its tenant column this way', it.child),
            DETAIL = problem,
            HINT = 'Add and fill the column yourself; protect_plan() says what is left to do.';
    END IF;
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = it.child;
    IF present.relation IS NOT NULL AND it.child_attnum = ANY (key.conkey) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is governed as %s', it.child, present.kind),
            DETAIL = 'A table gets its tenant column before it has a kind.',
            HINT = format('SELECT leyser.unprotect(%L);', it.child);
    END IF;
    IF NOT pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = it.child),
                       (SELECT c.relowner FROM pg_class c WHERE c.oid = it.parent), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('the owner of "%s" is not that of "%s"', it.child, it.parent),
            DETAIL = 'The column is filled from the parent with the rights of the child''s owner.',
            HINT = format('ALTER TABLE %s OWNER TO …, or make its owner a member of the parent''s owner.', it.child);
    END IF;
    SELECT format_type(a.atttypid, a.atttypmod) INTO theirs FROM pg_attribute a WHERE a.attrelid = it.parent AND a.attnum = it.parent_attnum;
    SELECT format_type(a.atttypid, a.atttypmod) INTO ours FROM pg_attribute a WHERE a.attrelid = it.child AND a.attnum = it.child_attnum;
    IF ours <> theirs AND ours <> leyser.plain_type(it.parent, it.parent_attnum, false) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" has another type than the parent''s', it.tenant_column, it.child),
            DETAIL = format('It is %s; that of "%s" is %s.', ours, it.parent, theirs),
            HINT = 'Drop or rename it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_child(leyser.child_column) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_child(leyser.child_column) IS
    'internal: raises where add_tenant_column() cannot give a table its column';

CREATE FUNCTION leyser.child_join(it leyser.child_column) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('p.%I = c.%I', q.attname, a.attname), ' AND ' ORDER BY k.ord)
    FROM unnest(it.keys, it.parent_keys) WITH ORDINALITY k (child_num, parent_num, ord)
    JOIN pg_attribute a ON a.attrelid = it.child AND a.attnum = k.child_num
    JOIN pg_attribute q ON q.attrelid = it.parent AND q.attnum = k.parent_num
$$;
REVOKE ALL ON FUNCTION leyser.child_join(leyser.child_column) FROM PUBLIC;
COMMENT ON FUNCTION leyser.child_join(leyser.child_column) IS
    'internal: the condition that joins child c and parent p';

-- Rows that can get no tenant, told by their numbers; nothing where there are none.
CREATE FUNCTION leyser.refuse_orphans(it leyser.child_column) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    frame text := format('SELECT count(*) FROM ONLY %s c LEFT JOIN ONLY %s p ON %s WHERE ', it.child, it.parent, leyser.child_join(it));
    is_null text := (SELECT string_agg(format('c.%I IS NULL', a.attname), ' OR ') FROM pg_attribute a
        WHERE a.attrelid = it.child AND a.attnum = ANY (it.keys));
    tenant text := (SELECT format('p.%I', a.attname) FROM pg_attribute a WHERE a.attrelid = it.parent AND a.attnum = it.parent_attnum);
    without_key bigint;
    without_parent bigint;
    without_tenant bigint;
BEGIN
    IF leyser.count_as_owner(it.child, frame || tenant || ' IS NULL') = 0 THEN
        RETURN;
    END IF;
    without_key := leyser.count_as_owner(it.child, frame || is_null);
    without_parent := leyser.count_as_owner(it.child, frame || format('p.ctid IS NULL AND NOT (%s)', is_null));
    without_tenant := leyser.count_as_owner(it.child, frame || format('p.ctid IS NOT NULL AND %s IS NULL', tenant));
    RAISE EXCEPTION USING ERRCODE = CASE WHEN without_parent > 0 THEN 'foreign_key_violation' ELSE 'not_null_violation' END,
        MESSAGE = format('"%s" has rows that have no tenant through foreign key "%s"', it.child, it.key_name),
        DETAIL = format('Rows whose foreign key is null: %s; whose parent does not exist: %s; whose parent in "%s" has no tenant: %s.',
                        without_key, without_parent, it.parent, without_tenant),
        HINT = 'Mend or delete these rows, and the same CALL goes on.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_orphans(leyser.child_column) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_orphans(leyser.child_column) IS
    'internal: 23503 or 23502 for a table with rows that have no parent, or one without a tenant, with their numbers';

CREATE FUNCTION leyser.add_tenant_column_begin(acting regrole, relation regclass, via name, tenant_column name, batch_size integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    it leyser.child_column;
    work bigint;
    place jsonb;
BEGIN
    PERFORM leyser.check_governable(add_tenant_column_begin.relation);
    PERFORM leyser.check_owner(acting, add_tenant_column_begin.relation);
    IF via IS NULL OR coalesce(batch_size, 0) NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid via or batch_size',
            DETAIL = 'via is a foreign key, or its only column; batch_size is 1 to 1000000 rows.',
            HINT = 'CALL leyser.add_tenant_column(''child'', via => ''parent_id'');';
    END IF;
    it := leyser.child_column_of(add_tenant_column_begin.relation, via, add_tenant_column_begin.tenant_column);
    IF it.parent_attnum IS NULL OR it.parent = it.child THEN
        PERFORM leyser.refuse_parent(it);
    END IF;
    PERFORM leyser.check_owner(acting, it.parent);
    PERFORM leyser.getter_for(it.parent, it.tenant_column);
    PERFORM leyser.check_child(it);
    work := leyser.work_begin('add_tenant_column', it.child::text,
        jsonb_build_object('via', it.key_name, 'tenant_column', it.tenant_column));
    SELECT w.position INTO place FROM leyser.work_record w WHERE w.work_id = work;
    -- what was done may have been taken back since, or the table be another one
    IF (place ->> 'child')::oid <> it.child OR it.child_attnum IS NULL OR NOT EXISTS (
            SELECT FROM pg_trigger g WHERE g.tgrelid = it.child AND g.tgname = 'zz_leyser_tenant') THEN
        place := NULL;
    END IF;
    IF place IS NULL AND it.child_attnum IS NULL AND (EXISTS (
            SELECT FROM pg_constraint c WHERE c.oid = it.key_oid AND NOT c.convalidated) OR EXISTS (
            SELECT FROM pg_attribute a WHERE NOT a.attnotnull AND (a.attrelid = it.parent AND a.attnum = it.parent_attnum
                OR a.attrelid = it.child AND a.attnum = ANY (it.keys)))) THEN
        PERFORM leyser.refuse_orphans(it);
    END IF;
    PERFORM leyser.work_step(work, coalesce((SELECT w.done FROM leyser.work_record w WHERE w.work_id = work), 0),
        (SELECT CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END FROM pg_class c WHERE c.oid = it.child),
        coalesce(place, '{"phase": "column"}') || jsonb_build_object('child', it.child::oid::bigint,
            'batch_size', batch_size, 'window', greatest(batch_size / 100, 1)));
    RETURN work;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_tenant_column_begin(regrole, regclass, name, name, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_tenant_column_begin(regrole, regclass, name, name, integer) IS
    'internal: begins, or takes up, the making of a tenant column for the role that called it';

-- The trigger: while the column is filled for every update, afterwards for its columns'.
CREATE FUNCTION leyser.set_fill_trigger(it leyser.child_column, filling boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text := leyser.column_list(it.child, it.child_attnum || it.keys);
    arguments text;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = it.child AND g.tgname = 'zz_leyser_tenant') THEN
        EXECUTE format('DROP TRIGGER zz_leyser_tenant ON %s', it.child);
    END IF;
    IF filling THEN
        arguments := quote_literal(it.tenant_column) || ', ' || (SELECT string_agg(quote_literal(a.attname), ', ' ORDER BY k.ord)
            FROM unnest(it.child_attnum || it.keys) WITH ORDINALITY k (num, ord)
            JOIN pg_attribute a ON a.attrelid = it.child AND a.attnum = k.num);
    END IF;
    EXECUTE format('CREATE TRIGGER zz_leyser_tenant BEFORE INSERT OR UPDATE %s ON %s FOR EACH ROW EXECUTE FUNCTION leyser.fill_tenant(%s)',
        CASE WHEN filling THEN '' ELSE 'OF ' || names END, it.child, coalesce(arguments, ''));
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER zz_leyser_tenant', it.child);
    EXECUTE format('COMMENT ON TRIGGER zz_leyser_tenant ON %s IS ''leyser: the tenant column follows the parent''''s''', it.child);
    PERFORM leyser.note_adoption(it.child, 'trigger', 'zz_leyser_tenant', NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.set_fill_trigger(leyser.child_column, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_fill_trigger(leyser.child_column, boolean) IS
    'internal: puts up the trigger that keeps a tenant column right';

-- A domain's checks are its owner's code, and ADD COLUMN would rewrite the table for
-- them; the foreign key lets nothing in that is not in the parent.
CREATE FUNCTION leyser.plain_type(relation regclass, attnum smallint, with_collation boolean) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE types AS (
        SELECT a.atttypid AS oid, a.atttypmod AS typmod, a.attcollation AS collation
            FROM pg_attribute a WHERE a.attrelid = plain_type.relation AND a.attnum = plain_type.attnum
        UNION ALL
        SELECT t.typbasetype, t.typtypmod, y.collation FROM types y JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
    )
    SELECT format_type(y.oid, y.typmod)
        || CASE WHEN plain_type.with_collation AND y.collation <> t.typcollation THEN format(' COLLATE %I.%I', n.nspname, l.collname) ELSE '' END
    FROM types y JOIN pg_type t ON t.oid = y.oid AND t.typtype <> 'd'
    LEFT JOIN pg_collation l ON l.oid = y.collation LEFT JOIN pg_namespace n ON n.oid = l.collnamespace
$$;
REVOKE ALL ON FUNCTION leyser.plain_type(regclass, smallint, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plain_type(regclass, smallint, boolean) IS
    'internal: the type of a column, or the one below its domain, in SQL';

-- Column and trigger, in one transaction: no row comes in between.
CREATE FUNCTION leyser.make_child_column(it leyser.child_column) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', it.child);
    IF it.child_attnum IS NULL THEN
        PERFORM leyser.run_as_owner(it.child, format('ALTER TABLE ONLY %s ADD COLUMN %I %s', it.child, it.tenant_column,
            leyser.plain_type(it.parent, it.parent_attnum, true)));
        PERFORM leyser.note_adoption(it.child, 'column', it.tenant_column, NULL);
        it.child_attnum := (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = it.child AND a.attname = it.tenant_column);
    END IF;
    PERFORM leyser.set_fill_trigger(it, true);
END
$$;
REVOKE ALL ON FUNCTION leyser.make_child_column(leyser.child_column) FROM PUBLIC;
COMMENT ON FUNCTION leyser.make_child_column(leyser.child_column) IS
    'internal: adds a tenant column that may be null, and the trigger that fills it';

-- A batch: the rows of some blocks that have no tenant yet or, to mend, not the
-- parent's.  Rows that somebody holds are left for another pass.
CREATE FUNCTION leyser.fill_batch(it leyser.child_column, first bigint, blocks bigint, mend boolean,
                                  OUT filled bigint, OUT skipped boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    range text := format('c.ctid >= ''(%s,0)''::tid AND c.ctid < ''(%s,0)''::tid AND c.%I IS %s', first, least(first + blocks, 4294967294),
        it.tenant_column, CASE WHEN mend THEN format('DISTINCT FROM p.%I', it.tenant_column) ELSE 'NULL' END);
    change text := format('UPDATE ONLY %s c SET %2$I = p.%2$I FROM ONLY %3$s p', it.child, it.tenant_column, it.parent);
    condition text := format('%s AND p.%I IS NOT NULL', leyser.child_join(it), it.tenant_column);
BEGIN
    skipped := false;
    filled := leyser.update_as_owner(it.child, format('%s WHERE %s AND %s', change, condition, range));
EXCEPTION WHEN lock_not_available THEN
    skipped := true;
    filled := leyser.update_as_owner(it.child, format('%1$s, (SELECT c.ctid FROM ONLY %2$s c, ONLY %3$s p WHERE %4$s AND %5$s FOR NO KEY UPDATE OF c SKIP LOCKED) l'
        ' WHERE %4$s AND c.ctid = l.ctid', change, it.child, it.parent, condition, range));
END
$$;
REVOKE ALL ON FUNCTION leyser.fill_batch(leyser.child_column, bigint, bigint, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fill_batch(leyser.child_column, bigint, bigint, boolean) IS
    'internal: fills the tenant column in some blocks; says how many rows, and whether locked ones were left out';

-- The place after a batch: further on, or a new pass, or the next phase.
CREATE FUNCTION leyser.fill_step(it leyser.child_column, place jsonb, next_phase text, OUT filled bigint, OUT new_place jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    blocks bigint := (place ->> 'window')::bigint;
    first bigint := coalesce((place ->> 'block')::bigint, 0);
    -- rows that come later have their tenant from the trigger
    last bigint := coalesce((place ->> 'blocks')::bigint, pg_relation_size(it.child) / current_setting('block_size')::bigint);
    wanted bigint := (place ->> 'batch_size')::bigint;
    batch record;
    broken text;
BEGIN
    IF first >= last THEN
        filled := 0;
        new_place := place - 'block' - 'blocks' - 'skipped';
        IF NOT coalesce((place ->> 'skipped')::boolean, false) THEN
            new_place := new_place || jsonb_build_object('phase', next_phase);
        END IF;
        RETURN;
    END IF;
    BEGIN
        SELECT * INTO batch FROM leyser.fill_batch(it, first, blocks, place ->> 'phase' = 'mend');
    EXCEPTION WHEN integrity_constraint_violation OR data_exception OR plpgsql_error THEN
        -- what the server and the owner's code say of a row may hold its values
        GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
        RAISE EXCEPTION USING ERRCODE = SQLSTATE,
            MESSAGE = format('rows of "%s" cannot get their tenant', it.child),
            DETAIL = CASE WHEN broken <> '' THEN format('They would break constraint "%s".', broken)
                     ELSE 'An expression of the table failed for one.' END,
            HINT = 'Mend these rows, also those that are older than a constraint, and the same CALL goes on.';
    END;
    filled := batch.filled;
    new_place := place || jsonb_build_object('block', first + blocks, 'blocks', last,
        'filled', coalesce((place ->> 'filled')::bigint, 0) + filled,
        'window', CASE WHEN filled > wanted THEN greatest(blocks / 2, 1)
                       WHEN filled < wanted / 2 THEN least(blocks * 2, 16384) ELSE blocks END)
        || CASE WHEN batch.skipped THEN '{"skipped": true}'::jsonb ELSE '{}' END;
END
$$;
REVOKE ALL ON FUNCTION leyser.fill_step(leyser.child_column, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fill_step(leyser.child_column, jsonb, text) IS
    'internal: one batch of a pass over a table, and where the next one begins';
