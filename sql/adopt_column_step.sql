-- CALL add_tenant_column(): which step comes next.

-- NOT NULL: where rows without a tenant are left, those that can get one do so in
-- another pass, and the others are told.
CREATE FUNCTION leyser.column_check_step(it leyser.child_column, place jsonb, OUT line text, OUT new_place jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one leyser.adoption_step;
BEGIN
    new_place := place;
    SELECT s.* INTO one FROM leyser.not_null_steps(it.child, it.tenant_column) s LIMIT 1;
    IF NOT FOUND THEN
        new_place := new_place || '{"phase": "index"}';
        RETURN;
    END IF;
    line := one.command;
    PERFORM leyser.adoption_do(one);
EXCEPTION WHEN not_null_violation THEN
    PERFORM leyser.refuse_orphans(it);
    new_place := new_place || '{"phase": "fill"}';
END
$$;
REVOKE ALL ON FUNCTION leyser.column_check_step(leyser.child_column, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.column_check_step(leyser.child_column, jsonb) IS
    'internal: a step towards NOT NULL, or back to filling; 23502 and 23503 for rows that can get no tenant';

-- The foreign key: a parent that got another tenant while the column was filled is
-- followed in a pass of its own; from the successor key on that cannot happen.
CREATE FUNCTION leyser.column_key_step(it leyser.child_column, place jsonb, OUT line text, OUT new_place jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one leyser.adoption_step;
BEGIN
    new_place := place;
    SELECT s.* INTO one FROM leyser.key_steps(it.key_oid, it.child_attnum, it.parent_attnum) s LIMIT 1;
    line := one.command;
    PERFORM leyser.adoption_do(one);
    IF one.action = 'replace_key' THEN
        PERFORM leyser.set_fill_trigger(leyser.child_column_of(it.child, it.key_name, it.tenant_column), false);
    END IF;
EXCEPTION WHEN foreign_key_violation THEN
    IF coalesce((place ->> 'mended')::boolean, false) THEN
        PERFORM leyser.refuse_orphans(it);
        RAISE;
    END IF;
    new_place := new_place || '{"phase": "mend", "mended": true}';
END
$$;
REVOKE ALL ON FUNCTION leyser.column_key_step(leyser.child_column, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.column_key_step(leyser.child_column, jsonb) IS
    'internal: a step towards the foreign key with the tenant column, or to mending; 23503 for rows that no parent has';

-- What a phase has done, or wants done: an index, which the procedure builds, or a command.
CREATE FUNCTION leyser.column_phase(it leyser.child_column, place jsonb, OUT action text, OUT line text,
                                    OUT filled bigint, OUT next_step leyser.adoption_step, OUT new_place jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keeps_tenant boolean := EXISTS (SELECT FROM pg_constraint c WHERE c.oid = it.key_oid AND it.child_attnum = ANY (c.conkey));
BEGIN
    action := 'again';
    filled := 0;
    new_place := place;
    CASE place ->> 'phase'
        WHEN 'column' THEN
            IF NOT keeps_tenant THEN
                PERFORM leyser.make_child_column(it);
            END IF;
            new_place := place || jsonb_build_object('phase', CASE WHEN keeps_tenant THEN 'check' ELSE 'fill' END);
            line := format('"%s" has column "%s"', it.child, it.tenant_column);
        WHEN 'fill', 'mend' THEN
            SELECT f.filled, f.new_place INTO filled, new_place
                FROM leyser.fill_step(it, place, CASE place ->> 'phase' WHEN 'fill' THEN 'check' ELSE 'key' END) f;
            -- a pass that finds nothing but held rows waits for them
            IF filled = 0 AND place ? 'skipped' THEN
                action := CASE WHEN new_place ? 'skipped' THEN 'idle' ELSE 'locked' END;
            END IF;
        WHEN 'check' THEN
            SELECT c.line, c.new_place INTO line, new_place FROM leyser.column_check_step(it, place) c;
        WHEN 'index' THEN
            IF EXISTS (SELECT FROM pg_index i WHERE i.indrelid = it.child AND i.indisvalid AND i.indpred IS NULL
                       AND i.indkey[0] = it.child_attnum) THEN
                new_place := place || '{"phase": "key"}';
            ELSE
                SELECT s.* INTO next_step FROM leyser.index_steps(it.child, it.child_attnum || it.keys, false) s LIMIT 1;
            END IF;
        WHEN 'key' THEN
            IF keeps_tenant THEN
                action := 'done';
                RETURN;
            END IF;
            SELECT s.* INTO next_step FROM leyser.key_steps(it.key_oid, it.child_attnum, it.parent_attnum) s LIMIT 1;
            IF next_step.action NOT IN ('index', 'command') THEN
                next_step := NULL;
                SELECT k.line, k.new_place INTO line, new_place FROM leyser.column_key_step(it, place) k;
            END IF;
    END CASE;
END
$$;
REVOKE ALL ON FUNCTION leyser.column_phase(leyser.child_column, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.column_phase(leyser.child_column, jsonb) IS
    'internal: goes on with a tenant column where it stopped';

CREATE FUNCTION leyser.add_tenant_column_step(work_id bigint)
    RETURNS TABLE (action text, relation regclass, index_name name, columns text[], is_unique boolean,
                   line text, error_code text, message text, detail text, hint text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    work leyser.work_record;
    it leyser.child_column;
    phase record;
    next_step leyser.adoption_step;
    finished bigint;
BEGIN
    SELECT w.* INTO work FROM leyser.work_record w WHERE w.work_id = add_tenant_column_step.work_id;
    relation := (work.position ->> 'child')::oid::regclass;
    it := leyser.child_column_of(relation, (work.arguments ->> 'via')::name, (work.arguments ->> 'tenant_column')::name);
    SELECT * INTO phase FROM leyser.column_phase(it, work.position);
    next_step := phase.next_step;
    finished := work.done + phase.filled;
    action := phase.action;
    line := coalesce(phase.line, next_step.command, format('"%s": %s rows filled', it.child, finished));
    PERFORM leyser.work_step(work.work_id, finished, greatest(work.total, finished), phase.new_place);
    IF action = 'done' THEN
        PERFORM leyser.work_end(work.work_id, 'done', NULL);
        PERFORM leyser.record_event('column.added', NULL, it.child::text, work.arguments || jsonb_build_object('rows', finished));
        line := format('"%s" has tenant column "%s", kept by foreign key "%s"; %s rows were filled',
                       it.child, it.tenant_column, it.key_name, finished);
    ELSIF action = 'locked' THEN
        message := format('rows of "%s" are locked', it.child);
        detail := 'Somebody has changed them and has not committed.';
    ELSIF next_step.action = 'index' THEN
        PERFORM leyser.note_adoption(next_step.target, 'index', next_step.object, NULL);
        action := 'index';
        relation := next_step.target;
        index_name := next_step.object;
        columns := next_step.columns;
        is_unique := next_step.is_unique;
    ELSIF next_step.action IS NOT NULL THEN
        PERFORM leyser.adoption_do(next_step);
    END IF;
    RETURN NEXT;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        action := 'locked';
        line := format('waiting for a lock on "%s" or its parent', relation);
        message := format('could not lock "%s" or its parent in time', relation);
        detail := SQLERRM;
        RETURN NEXT;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS error_code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        action := 'failed';
        PERFORM leyser.work_end(add_tenant_column_step.work_id, 'failed', message);
        RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_tenant_column_step(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_tenant_column_step(bigint) IS
    'internal: does the next step of making a tenant column and says what the procedure has to do: again, idle, index, locked, failed, done';

CREATE PROCEDURE leyser.add_tenant_column(relation regclass, via name, tenant_column name DEFAULT NULL, batch_size integer DEFAULT 10000,
                                          lock_wait interval DEFAULT '200 milliseconds', retry_for interval DEFAULT '10 minutes')
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_adopt_call';
REVOKE ALL ON PROCEDURE leyser.add_tenant_column(regclass, name, name, integer, interval, interval) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.add_tenant_column(regclass, name, name, integer, interval, interval) IS
    'owner of both tables or operator: gives a child table the tenant column of its parent, through a foreign key (its name, or its only column), online: filled in batches of batch_size rows (1 to 1000000), kept by a trigger and by the foreign key, which gets the tenant columns; tenant_column is the parent''s, by default that by which it is protected, or tenant_id; locks as protect_schema(); the same call resumes after whatever stopped it; 0A000 partitioned tables and keys that cannot have it, 22004, 22023, 23502 rows without a parent or whose parent has no tenant, 23503 rows whose parent does not exist, 25001 in a transaction block, 42501, 42702 several foreign keys over the column, 42703 a parent without the column, 42704 no such foreign key, 42804 the column is there with another type, 42830 the keys form a circle, 55P03 locks, or it is running already, LY008 the table has a kind already, and what the table''s own constraints and expressions raise, without values';
