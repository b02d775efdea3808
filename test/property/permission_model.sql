-- A model of roles and grants, and what they mean, written apart from leyser's own:
-- its own tables, filled by what leyser accepted, and one plain query over them.
-- test/long/permission_property.pl makes random changes and compares all answers.

CREATE SCHEMA model;
CREATE TABLE model.account (name text PRIMARY KEY, active boolean NOT NULL DEFAULT true);
CREATE TABLE model.permission (name text PRIMARY KEY);
CREATE TABLE model.scope (scope text);
CREATE TABLE model.role (name text PRIMARY KEY);
CREATE TABLE model.role_has (role text, permission text, PRIMARY KEY (role, permission));
CREATE TABLE model.role_in (role text, included text, PRIMARY KEY (role, included));
CREATE TABLE model.given (account text, kind text, what text, scope text, starts timestamptz,
                          ends timestamptz, option boolean, by_account text);
CREATE TABLE model.seen (source text, account text, permission text, scope text, allowed boolean);
CREATE TABLE model.compared (at timestamptz);
CREATE TABLE model.done (step serial, actor text, statement text, sqlstate text);

INSERT INTO model.account (name) VALUES ('root'), ('u1'), ('u2'), ('u3'), ('u4');
INSERT INTO model.permission VALUES ('doc.read'), ('doc.write'), ('report'), ('leyser.grants');
-- no scope is above another here but by its labels
INSERT INTO model.scope VALUES (NULL), ('a'), ('a.b'), ('a.b.c'), ('a.bc'), ('a-b'), ('ab'), ('b');

-- ---- what it means ----

CREATE FUNCTION model.above(higher text, lower text) RETURNS boolean LANGUAGE sql AS $$
    SELECT higher IS NULL OR coalesce((string_to_array(lower, '.'))[1:cardinality(string_to_array(higher, '.'))]
                                      = string_to_array(higher, '.'), false)
$$;

CREATE VIEW model.role_gives AS
    WITH RECURSIVE closure AS (
        SELECT name AS role, name AS inner_role FROM model.role
        UNION
        SELECT c.role, i.included FROM closure c JOIN model.role_in i ON i.role = c.inner_role
    )
    SELECT DISTINCT c.role, c.inner_role, h.permission FROM closure c LEFT JOIN model.role_has h ON h.role = c.inner_role;

CREATE VIEW model.given_permission AS
    SELECT g.*, p.name AS permission FROM model.given g JOIN model.permission p
        ON g.kind = 'administrator'
        OR (g.kind IN ('permission', 'deny') AND g.what = p.name)
        OR (g.kind = 'role' AND EXISTS (SELECT FROM model.role_gives r WHERE r.role = g.what AND r.permission = p.name));

CREATE FUNCTION model.truth(at timestamptz)
    RETURNS TABLE (account text, permission text, scope text, allowed boolean) LANGUAGE sql AS $$
    SELECT a.name, p.name, s.scope, a.active
        AND 0 < (SELECT count(*) FROM model.given_permission g WHERE g.account = a.name AND g.permission = p.name
                 AND g.kind <> 'deny' AND model.above(g.scope, s.scope) AND at >= g.starts AND at < g.ends)
        AND 0 = (SELECT count(*) FROM model.given_permission g WHERE g.account = a.name AND g.permission = p.name
                 AND g.kind = 'deny' AND model.above(g.scope, s.scope) AND at >= g.starts AND at < g.ends)
    FROM model.account a CROSS JOIN model.permission p CROSS JOIN model.scope s
$$;

-- Whether leyser should let an account grant a permission.
CREATE FUNCTION model.may_give(giver text, wanted text, in_scope text, until timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM model.given_permission g WHERE g.account = giver AND g.permission = wanted AND g.kind <> 'deny'
                   AND g.option AND model.above(g.scope, in_scope) AND g.starts <= clock_timestamp()
                   AND g.ends > clock_timestamp() AND g.ends >= until)
       AND NOT EXISTS (SELECT FROM model.given g WHERE g.account = giver AND g.what = wanted AND g.kind = 'deny'
                       AND (model.above(g.scope, in_scope) OR model.above(in_scope, g.scope))
                       AND g.ends > clock_timestamp() AND g.starts < until)
$$;

-- NULL where the model makes no prediction (a role without permissions).
CREATE FUNCTION model.may_give_role(giver text, wanted text, in_scope text, until timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT bool_and(model.may_give(giver, r.permission, in_scope, until)) FROM model.role_gives r
    WHERE r.role = wanted AND r.permission IS NOT NULL
$$;

-- ---- random changes ----

CREATE FUNCTION model.any_of(choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT choices[1 + floor(random() * cardinality(choices))::int]
$$;
CREATE FUNCTION model.any_scope() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT scope FROM model.scope ORDER BY random() LIMIT 1
$$;
CREATE FUNCTION model.any_start() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random() < 0.7 THEN now() ELSE clock_timestamp() + random() * interval '2 seconds' END
$$;
CREATE FUNCTION model.any_end() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random() < 0.6 THEN 'infinity' ELSE clock_timestamp() + interval '0.1 s' + random() * interval '5 seconds' END
$$;

-- What leyser accepted.  Removals with cascade: see model.follow_cascade().
CREATE PROCEDURE model.apply(act text, x text, y text, z text, starts timestamptz, ends timestamptz, flag boolean, actor text)
    LANGUAGE plpgsql AS $$
BEGIN
    CASE act
        WHEN 'grant_permission' THEN INSERT INTO model.given VALUES (x, 'permission', y, z, starts, ends, flag, actor);
        WHEN 'grant_role' THEN INSERT INTO model.given VALUES (x, 'role', y, z, starts, ends, flag, actor);
        WHEN 'deny_permission' THEN INSERT INTO model.given VALUES (x, 'deny', y, z, starts, ends, false, actor);
        WHEN 'grant_administrator' THEN INSERT INTO model.given VALUES (x, 'administrator', NULL, NULL, now(), 'infinity', true, actor);
        WHEN 'revoke_permission', 'revoke_role', 'lift_denial', 'revoke_administrator' THEN
            DELETE FROM model.given g WHERE g.account = x AND g.what IS NOT DISTINCT FROM y AND g.scope IS NOT DISTINCT FROM z
                AND g.kind = CASE act WHEN 'lift_denial' THEN 'deny' ELSE split_part(act, '_', 2) END
                AND (x = actor OR g.by_account = actor OR EXISTS (SELECT FROM model.truth(clock_timestamp()) t
                     WHERE t.account = actor AND t.permission = 'leyser.grants' AND t.scope IS NOT DISTINCT FROM z AND t.allowed));
        WHEN 'create_role' THEN INSERT INTO model.role VALUES (x); INSERT INTO model.role_has VALUES (x, y);
        WHEN 'add_permission' THEN INSERT INTO model.role_has VALUES (x, y) ON CONFLICT DO NOTHING;
        WHEN 'drop_permission' THEN DELETE FROM model.role_has h WHERE h.role = x AND h.permission = y;
        WHEN 'add_role' THEN INSERT INTO model.role_in VALUES (x, y) ON CONFLICT DO NOTHING;
        WHEN 'take_out_role' THEN DELETE FROM model.role_in i WHERE i.role = x AND i.included = y;
        WHEN 'drop_role' THEN
            DELETE FROM model.given g WHERE g.kind = 'role' AND g.what = x;
            DELETE FROM model.role_in i WHERE x IN (i.role, i.included);
            DELETE FROM model.role_has h WHERE h.role = x;
            DELETE FROM model.role r WHERE r.name = x;
        WHEN 'state' THEN UPDATE model.account a SET active = flag WHERE a.name = x;
    END CASE;
END
$$;

-- Grants that leyser cascaded leave the model too, but only such as their grantor
-- could not make now.  Returns what went wrongly.
CREATE FUNCTION model.follow_cascade() RETURNS SETOF model.given LANGUAGE plpgsql AS $$
DECLARE
    gone model.given;
BEGIN
    FOR gone IN DELETE FROM model.given g WHERE NOT EXISTS (SELECT FROM leyser.granted l
            WHERE l.account_name = g.account AND l.kind = g.kind
              AND (coalesce(l.role_name, l.permission), l.scope, l.valid_until, l.with_grant_option, l.granted_by)
                  IS NOT DISTINCT FROM (g.what, g.scope, g.ends, g.option, g.by_account)) RETURNING g.* LOOP
        IF (gone.kind = 'permission' AND model.may_give(gone.by_account, gone.what, gone.scope, gone.ends))
           OR (gone.kind = 'role' AND model.may_give_role(gone.by_account, gone.what, gone.scope, gone.ends)) THEN
            RETURN NEXT gone;
        END IF;
    END LOOP;
END
$$;

-- Whether leyser should accept a grant; NULL where the model does not predict.
CREATE FUNCTION model.expected(act text, actor text, x text, y text, z text, ends timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE act WHEN 'grant_permission' THEN actor <> x AND model.may_give(actor, y, z, ends)
        WHEN 'grant_role' THEN actor <> x AND model.may_give_role(actor, y, z, ends) END
$$;

CREATE FUNCTION model.statement_of(act text, x text, y text, z text, starts timestamptz, ends timestamptz, flag boolean) RETURNS text LANGUAGE sql AS $$
    SELECT CASE act
        WHEN 'grant_permission' THEN format('SELECT leyser.%I(%L, %L, %L, %L, %L, %L)', act, x, y, z, starts, ends, flag)
        WHEN 'grant_role' THEN format('SELECT leyser.%I(%L, %L, %L, %L, %L, %L)', act, x, y, z, starts, ends, flag)
        WHEN 'deny_permission' THEN format('SELECT leyser.%I(%L, %L, %L, %L, %L)', act, x, y, z, starts, ends)
        WHEN 'lift_denial' THEN format('SELECT leyser.%I(%L, %L, %L)', act, x, y, z)
        WHEN 'revoke_permission' THEN format('SELECT leyser.%I(%L, %L, %L, %L)', act, x, y, z, flag)
        WHEN 'revoke_role' THEN format('SELECT leyser.%I(%L, %L, %L, %L)', act, x, y, z, flag)
        WHEN 'grant_administrator' THEN format('SELECT leyser.%I(%L)', act, x)
        WHEN 'revoke_administrator' THEN format('SELECT leyser.%I(%L, %L)', act, x, flag)
        WHEN 'create_role' THEN format('SELECT leyser.%I(%L, ARRAY[%L])', act, x, y)
        WHEN 'add_permission' THEN format('SELECT leyser.alter_role(%L, add_permissions => ARRAY[%L])', x, y)
        WHEN 'drop_permission' THEN format('SELECT leyser.alter_role(%L, drop_permissions => ARRAY[%L])', x, y)
        WHEN 'add_role' THEN format('SELECT leyser.alter_role(%L, add_roles => ARRAY[%L])', x, y)
        WHEN 'take_out_role' THEN format('SELECT leyser.alter_role(%L, drop_roles => ARRAY[%L])', x, y)
        WHEN 'drop_role' THEN format('SELECT leyser.drop_role(%L, %L)', x, flag)
        WHEN 'state' THEN format('UPDATE leyser.account_record SET state = %L WHERE tenant_id = ''model'' AND account_name = %L',
                                 CASE WHEN flag THEN 'active' ELSE 'disabled' END, x)
    END
$$;

-- One random change by a random account.  Returns what is wrong with leyser's answer.
CREATE FUNCTION model.step() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    actor text := model.any_of('{root,root,root,u1,u2,u3,u4}');
    act text := model.any_of('{grant_permission,grant_permission,grant_permission,grant_role,grant_role,deny_permission,lift_denial,revoke_permission,revoke_permission,revoke_role,grant_administrator,revoke_administrator,create_role,add_permission,drop_permission,add_role,take_out_role,drop_role,state,state}');
    x text := model.any_of('{u1,u2,u3,u4}');
    y text := model.any_of('{doc.read,doc.write,report,leyser.grants}');
    z text := model.any_scope();
    starts timestamptz := model.any_start();
    ends timestamptz := model.any_end();
    flag boolean := random() < 0.5;
    state text := '00000';
    expected boolean;
    statement text;
BEGIN
    IF act LIKE '%\_role' AND act NOT LIKE 'gr%' AND act NOT LIKE 'rev%' OR act IN ('add_permission', 'drop_permission') THEN
        x := model.any_of('{r1,r2,r3,r4}');
    END IF;
    IF act IN ('grant_role', 'revoke_role', 'add_role', 'take_out_role') THEN
        y := model.any_of('{r1,r2,r3,r4}');
    ELSIF act IN ('revoke_administrator', 'grant_administrator') THEN
        y := NULL;
        z := NULL;
    ELSIF act LIKE 'revoke%' OR act = 'lift_denial' THEN
        -- mostly something that is there
        SELECT g.account, g.what, g.scope INTO x, y, z FROM model.given g
            WHERE g.kind = CASE act WHEN 'lift_denial' THEN 'deny' ELSE split_part(act, '_', 2) END ORDER BY random() LIMIT 1;
    END IF;
    IF x IS NULL OR (y IS NULL AND act NOT LIKE '%administrator') THEN
        RETURN;
    END IF;
    IF starts >= ends THEN
        starts := now();
    END IF;
    statement := model.statement_of(act, x, y, z, starts, ends, flag);
    expected := model.expected(act, actor, x, y, z, ends);
    IF NOT (SELECT a.active FROM model.account a WHERE a.name = actor) THEN
        RETURN;
    END IF;
    IF act <> 'state' THEN
        PERFORM leyser.enter('model', actor);
    END IF;
    BEGIN
        EXECUTE statement;
        CALL model.apply(act, x, y, z, starts, ends, flag, actor);
    EXCEPTION WHEN OTHERS THEN
        state := SQLSTATE;
        IF state NOT IN ('42501', '0LP01', 'LY008', '42710', '42704', '2BP01') THEN
            RETURN NEXT format('%s by %s: %s %s', statement, actor, SQLSTATE, SQLERRM);
        END IF;
    END;
    INSERT INTO model.done (actor, statement, sqlstate) VALUES (actor, statement, state);
    -- a time may have come in between
    IF expected <> (state = '00000') AND expected = model.expected(act, actor, x, y, z, ends) THEN
        RETURN NEXT format('%s by %s: %s, expected %s', statement, actor, state, expected);
    END IF;
END
$$;

-- ---- all answers ----

-- Asks leyser in every way, as each account; the truth may change in between, then
-- it asks again.  Leaves differences in model.difference.
CREATE TABLE model.difference (source text, account text, permission text, scope text, leyser boolean, truth boolean);
CREATE PROCEDURE model.compare() LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz;
    one record;
BEGIN
    LOOP
        DELETE FROM model.seen;
        since := clock_timestamp();
        COMMIT;
        FOR one IN SELECT name FROM model.account WHERE active LOOP
            PERFORM leyser.enter('model', one.name);
            INSERT INTO model.seen SELECT 'has_permission', one.name, p.name, s.scope, leyser.has_permission(p.name, s.scope)
                FROM model.permission p, model.scope s;
            COMMIT;
        END LOOP;
        PERFORM leyser.enter('model', 'root');
        INSERT INTO model.seen SELECT 'explain_permission', a.name, p.name, s.scope,
                (SELECT bool_or(e.allowed) FROM leyser.explain_permission(a.name, p.name, s.scope) e)
            FROM model.account a, model.permission p, model.scope s;
        INSERT INTO model.seen SELECT 'permissions_of', a.name, p.name, s.scope,
                EXISTS (SELECT FROM leyser.permissions_of(a.name) o WHERE o.permission = p.name AND model.above(o.scope, s.scope)
                        AND NOT EXISTS (SELECT FROM unnest(o.except_scopes) e (scope) WHERE model.above(e.scope, s.scope)))
            FROM model.account a, model.permission p, model.scope s;
        INSERT INTO model.seen SELECT 'accounts_with', a.name, p.name, s.scope, a.name IN (SELECT w.account_name FROM leyser.accounts_with(p.name, s.scope) w)
            FROM model.account a, model.permission p, model.scope s;
        INSERT INTO model.seen SELECT 'had_permission', a.name, p.name, s.scope, leyser.had_permission(a.name, p.name, s.scope, since)
            FROM model.account a, model.permission p, model.scope s;
        EXIT WHEN NOT EXISTS (SELECT FROM model.given g WHERE g.starts BETWEEN since AND clock_timestamp() OR g.ends BETWEEN since AND clock_timestamp());
        COMMIT;
    END LOOP;
    INSERT INTO model.difference SELECT s.source, s.account, s.permission, s.scope, s.allowed, t.allowed
        FROM model.seen s JOIN model.truth(since) t USING (account, permission)
        WHERE s.scope IS NOT DISTINCT FROM t.scope AND s.allowed IS DISTINCT FROM t.allowed;
    INSERT INTO model.compared VALUES (clock_timestamp());
    COMMIT;
END
$$;

GRANT USAGE ON SCHEMA model TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA model TO PUBLIC;
