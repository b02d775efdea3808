-- The attack test: what a role really can do to reach another tenant's rows of a table.
--
-- attack_attempt.sql lists the attempts.  Each runs in a worker that is connected as the
-- role (src/attack_client.c), in transactions that are rolled back.

CREATE FUNCTION leyser.attack_as(role regrole, steps text[],
        OUT outcome text, OUT step integer, OUT sqlstate text, OUT routine text, OUT value bigint)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_attack_as';
REVOKE ALL ON FUNCTION leyser.attack_as(regrole, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_as(regrole, text[]) IS
    'internal: runs the steps of an attempt in a worker that is connected as the role: outcome held, hole, unready or no answer; the step that decided; SQLSTATE of the first error and the function of the server that raised it; how much a hole let through; 53000 no place for a worker';

CREATE FUNCTION leyser.attack_token(kind text, tenant_id text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_attack_token';
REVOKE ALL ON FUNCTION leyser.attack_token(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_token(text, text) IS
    'internal: a token of a tenant that nobody may accept: expired, of other database, or parallel worker, the form in which it is handed to one';

-- ---- two tenants, and rows of theirs ----

-- Ids from the table, by its index; tenants that are not active cannot be tried.
CREATE FUNCTION leyser.attack_tenants(relation regclass, tenant_column name) RETURNS text[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found text[] := '{}';
    id text;
BEGIN
    EXECUTE format('SELECT %I::text FROM %s WHERE %1$I IS NOT NULL ORDER BY %1$I LIMIT 1', tenant_column, relation) INTO id;
    WHILE id IS NOT NULL AND cardinality(found) < 2 LOOP
        IF EXISTS (SELECT FROM leyser.tenant_record t WHERE t.tenant_id = id AND t.state = 'active') THEN
            found := found || id;
        END IF;
        EXECUTE format('SELECT %I::text FROM %s WHERE %1$I > %3$L ORDER BY %1$I LIMIT 1', tenant_column, relation, id) INTO id;
    END LOOP;
    RETURN found;
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_tenants(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_tenants(regclass, name) IS
    'internal: up to two active tenants that have rows in a table';

CREATE FUNCTION leyser.attack_places(relation regclass, tenant_column name, id text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    places text;
BEGIN
    EXECUTE format('SELECT array_agg(r.ctid)::text FROM (SELECT ctid FROM %s WHERE %I = %L LIMIT 10) r', relation, tenant_column, id) INTO places;
    RETURN places;
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_places(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_places(regclass, name, text) IS
    'internal: where the first rows of a tenant lie in a table, as an array of ctid';

-- An administrator has every permission, so none hides what the tenant's policy lets through.
CREATE FUNCTION leyser.attack_account(tenant_id text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.account_name FROM leyser.account_record a
    WHERE a.tenant_id = attack_account.tenant_id AND a.state = 'active'
    ORDER BY leyser.is_administrator(a.account_id) DESC, a.account_id LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.attack_account(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_account(text) IS
    'internal: an active account of a tenant, an administrator where there is one, or NULL';

-- In a worker of its own: the locks of this reading are gone before the attempts begin.
CREATE FUNCTION leyser.attack_facts(arguments jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
    tenants text[];
BEGIN
    SELECT a.attrelid::regclass AS relation, a.attname AS tenant_column INTO target
        FROM leyser.table_record t JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
        WHERE t.relation = (arguments ->> 'relation')::oid;
    tenants := leyser.attack_tenants(target.relation, target.tenant_column);
    RETURN jsonb_build_object(
        'own', tenants[1], 'other', tenants[2],
        'own_places', leyser.attack_places(target.relation, target.tenant_column, tenants[1]),
        'other_places', leyser.attack_places(target.relation, target.tenant_column, tenants[2]),
        'is_analyzed', EXISTS (SELECT FROM pg_statistic s WHERE s.starelid = target.relation))::text;
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_facts(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_facts(jsonb) IS
    'internal: the two tenants of an attack on the table whose oid is "relation", and where rows of theirs lie';

-- ---- the scripts ----

-- What stands for {name} in the attempts' statements.
CREATE FUNCTION leyser.attack_words(relation regclass, role regrole, facts jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'relation', format('%I.%I', n.nspname, c.relname), 'schema', quote_ident(n.nspname), 'name', quote_ident(c.relname),
        'schema_text', quote_literal(n.nspname), 'name_text', quote_literal(c.relname), 'name_word', quote_literal(quote_ident(c.relname)),
        'oid', c.oid, 'role', quote_ident(r.rolname), 'role_text', quote_literal(quote_ident(r.rolname)), 'tenant_text', quote_literal(a.attname), 'superuser', quote_ident((SELECT s.rolname FROM pg_roles s WHERE s.oid = 10)),
        'tenant', quote_ident(a.attname), 'type', format_type(a.atttypid, a.atttypmod),
        'own', quote_literal(facts ->> 'own'), 'other', quote_literal(facts ->> 'other'),
        'other_line', '"' || replace(facts ->> 'other', '"', '""') || '"',
        'own_places', quote_literal(facts ->> 'own_places'), 'other_places', quote_literal(facts ->> 'other_places'),
        -- a column that the role may update; the tenant's where there is no other
        'column', quote_ident(coalesce((SELECT u.attname FROM pg_attribute u WHERE u.attrelid = c.oid AND u.attnum > 0 AND NOT u.attisdropped
                AND u.attgenerated = '' AND u.attidentity = '' AND u.attnum <> t.tenant_attnum AND has_column_privilege(r.oid, c.oid, u.attnum, 'UPDATE')
            ORDER BY u.attnum LIMIT 1), a.attname)),
        'columns', k.names, 'values', k.copied)
    FROM leyser.table_record t JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
    JOIN pg_roles r ON r.oid = attack_words.role
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(u.attname), ', ' ORDER BY u.attnum) AS names,
               string_agg(CASE WHEN u.attnum = t.tenant_attnum THEN quote_literal(facts ->> 'other') ELSE quote_ident(u.attname) END, ', ' ORDER BY u.attnum) AS copied
        FROM pg_attribute u WHERE u.attrelid = c.oid AND u.attnum > 0 AND NOT u.attisdropped AND u.attgenerated = ''
    ) k
    WHERE t.relation = attack_words.relation
$$;
REVOKE ALL ON FUNCTION leyser.attack_words(regclass, regrole, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_words(regclass, regrole, jsonb) IS
    'internal: names and literals, quoted, for the statements of an attack';

CREATE FUNCTION leyser.attack_tokens(own text, other text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    own_token text := leyser.issue_token(own, leyser.attack_account(own), '10 minutes');
    other_token text := leyser.issue_token(other, leyser.attack_account(other), '10 minutes');
    header text := split_part(other_token, '.', 1);
    payload text := split_part(other_token, '.', 2);
    signature text := split_part(other_token, '.', 3);
    plain text;
BEGIN
    plain := rtrim(translate(encode(convert_to('{"alg":"none","typ":"JWT"}', 'UTF8'), 'base64'), E'+/\n', '-_'), '=');
    RETURN jsonb_build_object(
        'own_token', quote_literal(own_token), 'other_token', quote_literal(other_token),
        'no_signature', quote_literal(header || '.' || payload || '.'), 'no_algorithm', quote_literal(plain || '.' || payload || '.'),
        -- what the other one says, under the signature of one's own
        'other_signature', quote_literal(header || '.' || payload || '.' || split_part(own_token, '.', 3)),
        'changed_signature', quote_literal(header || '.' || payload || '.' || translate(left(signature, 1), 'Aa', 'aA') || CASE WHEN left(signature, 1) IN ('A', 'a') THEN '' ELSE 'A' END || substr(signature, 2)),
        'expired', quote_literal(leyser.attack_token('expired', other)),
        'other_database', quote_literal(leyser.attack_token('other database', other)),
        'parallel_worker', quote_literal(leyser.attack_token('parallel worker', other)),
        'startup', other_token);
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_tokens(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_tokens(text, text) IS
    'internal: tokens of two tenants for ten minutes, recorded as any that is issued, and forged ones';

-- The words are filled in all at once, so that what stands in one is not read again.
CREATE FUNCTION leyser.attack_fill(template text, words jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one record;
BEGIN
    template := replace(template, '%', '%%');
    FOR one IN SELECT w.key, w.ordinality AS place FROM jsonb_each_text(words) WITH ORDINALITY w LOOP
        template := replace(template, '{' || one.key || '}', '%' || one.place || '$s');
    END LOOP;
    RETURN format(template, VARIADIC (SELECT array_agg(w.value ORDER BY w.ordinality) FROM jsonb_each_text(words) WITH ORDINALITY w));
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_fill(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_fill(text, jsonb) IS 'internal: puts words in the place of {their names}';

-- A role that row security does not bind is refused a token, and needs none.
CREATE FUNCTION leyser.attack_script(context text, is_unbound boolean, steps text[], words jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(leyser.attack_fill(s.step, words) ORDER BY s.ordinality)
    FROM unnest(CASE CASE WHEN is_unbound AND context = 'own' THEN 'none' ELSE context END
        WHEN 'own' THEN '{prepare BEGIN,"prepare SELECT set_config(''leyser.token'', {own_token}, true)"}'
        WHEN 'none' THEN '{prepare BEGIN}'
        ELSE '{}'::text[] END || steps) WITH ORDINALITY s (step, ordinality)
$$;
REVOKE ALL ON FUNCTION leyser.attack_script(text, boolean, text[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_script(text, boolean, text[], jsonb) IS
    'internal: the steps of an attempt, after those that begin a transaction, with a token of its own tenant or with none';

-- ---- judging ----

-- An error that no protection raises says nothing about protection.
CREATE FUNCTION leyser.attack_is_refusal(sqlstate text, routine text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT starts_with(sqlstate, 'LY') OR sqlstate IN ('42501', '26000', '34000', '42602', '42P16')
    OR sqlstate = '0A000' AND routine = 'DoCopy'
$$;
REVOKE ALL ON FUNCTION leyser.attack_is_refusal(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_is_refusal(text, text) IS
    'internal: whether an error is one with which an attempt is refused';

CREATE FUNCTION leyser.attack_judgement(outcome text, sqlstate text, routine text, value bigint, OUT held boolean, OUT detail text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN outcome = 'hole' THEN false
                WHEN outcome = 'held' AND (sqlstate IS NULL OR leyser.attack_is_refusal(sqlstate, routine)) THEN true END,
           CASE WHEN outcome = 'hole' AND left(sqlstate, 2) = '23' THEN 'Row security let it through; a constraint stopped it.'
                WHEN outcome = 'hole' AND value > 0 THEN format('It worked, and met %s.', value)
                WHEN outcome = 'hole' THEN 'It worked.'
                WHEN outcome = 'no answer' THEN 'Not tried: the worker ended without an answer; the server log says why.'
                WHEN outcome = 'unready' AND sqlstate IS NULL THEN 'Not tried: there is nothing to try it on.'
                WHEN outcome = 'unready' THEN 'Not tried: its preparation failed.'
                WHEN sqlstate IS NULL THEN 'Nothing of another tenant was met.'
                WHEN sqlstate IN ('55P03', '57014') THEN 'Not tried: a lock was not free, or it took too long.'
                WHEN NOT leyser.attack_is_refusal(sqlstate, routine) THEN 'Not tried: it failed for a reason that is no protection.'
                WHEN sqlstate = 'LY001' THEN 'There is no context.'
                WHEN sqlstate = 'LY002' THEN 'The token was refused.'
                WHEN sqlstate = 'LY003' THEN 'The token has expired.'
                WHEN sqlstate = 'LY007' THEN 'A guard refused it.'
                WHEN sqlstate = 'LY009' THEN 'The transaction works for another tenant, or the connection is not clean.'
                WHEN routine = 'check_enable_rls' THEN 'Row security would have to filter rows.'
                WHEN routine = 'ExecWithCheckOptions' THEN 'Row security refused the row.'
                WHEN sqlstate = '42501' THEN 'The role has no right to it.'
                ELSE 'It was refused.' END
$$;
REVOKE ALL ON FUNCTION leyser.attack_judgement(text, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_judgement(text, text, text, bigint) IS
    'internal: what the answer of leyser.attack_as() means: held, or not, or NULL: not tried';

CREATE FUNCTION leyser.check_attack(application_role regrole, relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text := coalesce((SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = application_role), application_role::text);
BEGIN
    IF application_role IS NULL OR relation IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = format('%s must not be null', CASE WHEN application_role IS NULL THEN 'application_role' ELSE 'relation' END),
            DETAIL = 'An attack is made as a role, on a table.',
            HINT = 'SELECT * FROM leyser.attack_tenant_separation(''role'', ''table'');';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = application_role) OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = relation) THEN
        RAISE EXCEPTION USING ERRCODE = CASE WHEN EXISTS (SELECT FROM pg_roles r WHERE r.oid = application_role) THEN 'undefined_table' ELSE 'undefined_object' END,
            MESSAGE = format('unknown %s', CASE WHEN EXISTS (SELECT FROM pg_roles r WHERE r.oid = application_role) THEN 'table' ELSE 'role' END),
            DETAIL = 'None has this number.',
            HINT = 'Give it by its name.';
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.usage_record u WHERE u.role = application_role AND u.usage IN ('application', 'gateway')) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('role %s is no application', named),
            DETAIL = 'The attack shows what a role with usage "application" or "gateway" can do.',
            HINT = format('SELECT leyser.grant_usage(%L, ''application''); or give another role.', named);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = application_role AND r.rolcanlogin AND has_database_privilege(r.oid, current_database(), 'CONNECT')) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('role %s cannot log in to this database', named),
            DETAIL = 'Each attempt is a session of the role.',
            HINT = format('ALTER ROLE %s LOGIN; and GRANT CONNECT ON DATABASE %I TO %1$s; for the time of the attack.', named, current_database());
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = check_attack.relation AND t.tenant_attnum IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not protected', relation),
            DETAIL = 'Its rows belong to no tenants that could be kept apart.',
            HINT = 'SELECT leyser.protect(…) first; view leyser.governed_table lists the tables that are.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_attack(regrole, regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_attack(regrole, regclass) IS
    'internal: 22004, 42704, 42P01, LY008 where a role cannot attack a table';

CREATE FUNCTION leyser.attack_tenant_separation(application_role regrole, relation regclass)
    RETURNS TABLE (attempt text, object text, held boolean, sqlstate text, detail text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    facts jsonb;
    words jsonb;
    one record;
    came record;
    unbound boolean := (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.oid = application_role);
    held_count integer := 0;
    untried_count integer := 0;
    holes text[] := '{}';
BEGIN
    PERFORM leyser.check_attack(application_role, attack_tenant_separation.relation);
    facts := leyser.run_in_database(current_database(), 'SELECT leyser.attack_facts($1)', jsonb_build_object('relation', attack_tenant_separation.relation::oid));
    IF facts ->> 'other' IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('no two tenants have rows in "%s"', attack_tenant_separation.relation),
            DETAIL = 'Without another tenant''s rows nothing could be reached, and every attempt would seem to be held.',
            HINT = 'Give two active tenants a row each, for example in a copy of the database.';
    END IF;
    words := leyser.attack_words(attack_tenant_separation.relation, application_role, facts) || leyser.attack_tokens(facts ->> 'own', facts ->> 'other');
    FOR one IN
        SELECT a.attempt, a.object, leyser.attack_script(a.context, unbound, a.steps, words || jsonb_build_object('object', a.named)) AS script
        FROM leyser.attack_attempts(application_role, attack_tenant_separation.relation, (facts ->> 'is_analyzed')::boolean) a ORDER BY a.attempt, a.object LOOP
        SELECT j.held, r.sqlstate, j.detail INTO came
            FROM leyser.attack_as(application_role, one.script) r, leyser.attack_judgement(r.outcome, r.sqlstate, r.routine, r.value) j;
        attempt := one.attempt;
        object := one.object;
        held := came.held;
        sqlstate := came.sqlstate;
        detail := came.detail;
        held_count := held_count + coalesce(held, false)::integer;
        untried_count := untried_count + (held IS NULL)::integer;
        IF NOT held THEN
            holes := holes || format('%s: %s', attempt, object);
        END IF;
        RETURN NEXT;
    END LOOP;
    PERFORM leyser.record_lasting_event(CASE WHEN holes = '{}' THEN 'attack.held' ELSE 'attack.hole_found' END, NULL, attack_tenant_separation.relation::text,
        jsonb_build_object('role', application_role, 'held', held_count, 'not_tried', untried_count, 'holes', holes));
END
$$;
REVOKE ALL ON FUNCTION leyser.attack_tenant_separation(regrole, regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_tenant_separation(regrole, regclass) IS
    'superuser: tries, in sessions of an application or gateway role, to reach another tenant''s rows of a protected table; each attempt (view attack_attempt) is rolled back; one row each: the object, whether it was held (NULL: not tried), the SQLSTATE that refused it, what that means; no values of rows; recorded as event attack.held or attack.hole_found; 22004, 42704, 42P01; LY008 the role is no application or cannot log in, the table is not protected, or no two active tenants have rows in it; 53000 no place for a background worker; 25006 on a standby';
