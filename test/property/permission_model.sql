-- A model of roles and grants, and what they mean, written apart from leyser's own:
-- its own tables, filled by what leyser accepted, and one plain query over them.
-- PermissionProperty.pm makes random changes and compares all answers.

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
CREATE TABLE model.compared (at timestamptz, allowed bigint, refused bigint);
CREATE TABLE model.done (step serial, actor text, statement text, sqlstate text, followed int);

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

-- Whether leyser should let an account grant a permission.  In plpgsql, which keeps
-- the plans: they take longer than the answers.
CREATE FUNCTION model.may_give(giver text, wanted text, in_scope text, until timestamptz, at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT FROM model.given_permission g WHERE g.account = giver AND g.permission = wanted AND g.kind <> 'deny'
                   AND g.option AND model.above(g.scope, in_scope) AND g.starts <= at AND g.ends > at AND g.ends >= until)
       AND NOT EXISTS (SELECT FROM model.given g WHERE g.account = giver AND g.what = wanted AND g.kind = 'deny'
                       AND (model.above(g.scope, in_scope) OR model.above(in_scope, g.scope))
                       AND g.ends > at AND g.starts < until);
END
$$;

-- A role without permissions takes the role itself, or one that includes it.
CREATE FUNCTION model.may_give_role(giver text, wanted text, in_scope text, until timestamptz, at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN wanted IN (SELECT r.name FROM model.role r) AND coalesce(
        (SELECT bool_and(model.may_give(giver, r.permission, in_scope, until, at)) FROM model.role_gives r
         WHERE r.role = wanted AND r.permission IS NOT NULL),
        EXISTS (SELECT FROM model.given g WHERE g.account = giver AND g.option AND model.above(g.scope, in_scope)
                AND g.starts <= at AND g.ends > at AND g.ends >= until
                AND (g.kind = 'administrator' OR g.kind = 'role' AND EXISTS
                     (SELECT FROM model.role_gives r WHERE r.role = g.what AND r.inner_role = wanted))));
END
$$;

-- Whether the grantor of a grant could make it.
CREATE FUNCTION model.could_make(one model.given, at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN one.by_account IS NULL OR CASE one.kind
        WHEN 'permission' THEN model.may_give(one.by_account, one.what, one.scope, one.ends, at)
        WHEN 'role' THEN model.may_give_role(one.by_account, one.what, one.scope, one.ends, at)
        WHEN 'administrator' THEN EXISTS (SELECT FROM model.given g WHERE g.account = one.by_account AND g.kind = 'administrator')
        ELSE true END;
END
$$;

-- The grants that leyser keeps.  When an administrator became one is not compared:
-- no argument says it.
CREATE VIEW model.stored AS
    SELECT a.account_name AS account, g.kind, coalesce(r.role_name, g.permission) AS what, g.scope,
           CASE g.kind WHEN 'administrator' THEN '-infinity' ELSE g.valid_from END AS starts,
           g.valid_until AS ends, g.with_grant_option AS option, b.account_name AS by_account
    FROM leyser.grant_record g JOIN leyser.account_record a USING (account_id)
    LEFT JOIN leyser.role_record r USING (role_id)
    LEFT JOIN leyser.account_record b ON b.account_id = g.granted_by
    WHERE a.tenant_id = 'model';

-- ---- random changes ----

-- A tenant with the model's accounts and roles, of which the first is its administrator.
CREATE PROCEDURE model.begin() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.create_permission(p.name, 'for the test') FROM model.permission p WHERE p.name NOT LIKE 'leyser.%';
    PERFORM leyser.create_tenant('model');
    INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
        SELECT 'model', a.name, a.name, 'active' FROM model.account a;
    PERFORM leyser.make_administrator(a.account_id, NULL) FROM leyser.account_record a WHERE a.account_name = 'root';
    INSERT INTO model.given VALUES ('root', 'administrator', NULL, NULL, '-infinity', 'infinity', true, NULL);
    PERFORM leyser.enter('model', 'root');
    INSERT INTO model.role VALUES ('r1'), ('r2'), ('r3'), ('r4');
    PERFORM leyser.create_role(r.name, '{}') FROM model.role r;
END
$$;

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
    SELECT CASE WHEN random() < 0.6 THEN 'infinity' ELSE clock_timestamp() + interval '0.1 s' + random() * interval '3 seconds' END
$$;

-- A grant that adds nothing to another of the same grantor is not kept.
CREATE PROCEDURE model.give(wanted model.given) LANGUAGE sql AS $$
    INSERT INTO model.given SELECT wanted.* WHERE NOT EXISTS (SELECT FROM model.given g
        WHERE (g.account, g.kind, g.what, g.scope, g.by_account)
              IS NOT DISTINCT FROM (wanted.account, wanted.kind, wanted.what, wanted.scope, wanted.by_account)
          AND g.starts <= wanted.starts AND g.ends >= wanted.ends AND (g.option OR NOT wanted.option))
$$;

-- Who may not take away all grants of this kind takes his own, and those he made.
CREATE PROCEDURE model.take(gone_kind text, x text, y text, z text, actor text, at timestamptz) LANGUAGE sql AS $$
    DELETE FROM model.given g WHERE g.account = x AND g.kind = gone_kind
        AND (g.what, g.scope) IS NOT DISTINCT FROM (y, z)
        AND (x = actor OR g.by_account = actor OR gone_kind IN ('administrator', 'deny')
             OR EXISTS (SELECT FROM model.truth(at) t WHERE t.account = actor AND t.permission = 'leyser.grants'
                        AND t.scope IS NOT DISTINCT FROM z AND t.allowed))
$$;

-- What leyser accepted.  Grants that cascade: see model.follow_cascade(), and for
-- what a dropped role contained, which cascades look at, model.forget_role().
CREATE PROCEDURE model.apply(act text, x text, y text, z text, starts timestamptz, ends timestamptz, flag boolean, actor text, at timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    CASE act
        WHEN 'grant_permission' THEN CALL model.give(ROW(x, 'permission', y, z, starts, ends, flag, actor));
        WHEN 'grant_role' THEN CALL model.give(ROW(x, 'role', y, z, starts, ends, flag, actor));
        WHEN 'deny_permission' THEN CALL model.give(ROW(x, 'deny', y, z, starts, ends, false, actor));
        WHEN 'grant_administrator' THEN
            IF NOT EXISTS (SELECT FROM model.given g WHERE g.account = x AND g.kind = 'administrator') THEN
                CALL model.give(ROW(x, 'administrator', NULL, NULL, '-infinity', 'infinity', true, actor));
            END IF;
        WHEN 'revoke_permission' THEN CALL model.take('permission', x, y, z, actor, at);
        WHEN 'revoke_role' THEN CALL model.take('role', x, y, z, actor, at);
        WHEN 'lift_denial' THEN CALL model.take('deny', x, y, z, actor, at);
        WHEN 'revoke_administrator' THEN CALL model.take('administrator', x, NULL, NULL, actor, at);
        WHEN 'create_role' THEN INSERT INTO model.role VALUES (x); INSERT INTO model.role_has VALUES (x, y);
        WHEN 'add_permission' THEN INSERT INTO model.role_has VALUES (x, y) ON CONFLICT DO NOTHING;
        WHEN 'drop_permission' THEN DELETE FROM model.role_has h WHERE h.role = x AND h.permission = y;
        WHEN 'add_role' THEN INSERT INTO model.role_in VALUES (x, y) ON CONFLICT DO NOTHING;
        WHEN 'take_out_role' THEN DELETE FROM model.role_in i WHERE i.role = x AND i.included = y;
        WHEN 'drop_role' THEN DELETE FROM model.given g WHERE g.kind = 'role' AND g.what = x;
        WHEN 'state' THEN UPDATE model.account a SET active = flag WHERE a.name = x;
    END CASE;
END
$$;

CREATE PROCEDURE model.forget_role(x text) LANGUAGE sql AS $$
    DELETE FROM model.role_in i WHERE x IN (i.role, i.included);
    DELETE FROM model.role_has h WHERE h.role = x;
    DELETE FROM model.role r WHERE r.name = x;
$$;

-- Which grants cascade is bounded from both sides: only such as their grantors could
-- make before and cannot any longer, and all of those.  Between are only grants of
-- accounts that hold something from nobody but each other.  The model follows;
-- returns what went wrongly.
CREATE FUNCTION model.follow_cascade(cascades boolean, before model.given[], at timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    gone CONSTANT model.given[] := ARRAY(SELECT g FROM model.given g EXCEPT SELECT ROW(s.*)::model.given FROM model.stored s);
BEGIN
    DELETE FROM model.given g WHERE g = ANY (gone);
    RETURN QUERY SELECT format('gone without a cascade: %s', g::text) FROM unnest(gone) g WHERE NOT cascades;
    RETURN QUERY SELECT format('cascaded without need: %s', g::text) FROM unnest(gone) g
        WHERE cascades AND (model.could_make(g, at) OR g <> ALL (before));
    RETURN QUERY SELECT format('not cascaded: %s', g::text) FROM model.given g
        WHERE cascades AND g = ANY (before) AND NOT model.could_make(g, at);
    RETURN QUERY SELECT format('not granted: %s', s::text) FROM model.stored s
        WHERE ROW(s.*)::model.given <> ALL (ARRAY(SELECT g FROM model.given g));
END
$$;

-- Whether leyser should accept a grant; NULL where the model does not predict.
CREATE FUNCTION model.expected(act text, actor text, x text, y text, z text, ends timestamptz, at timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE act WHEN 'grant_permission' THEN actor <> x AND model.may_give(actor, y, z, ends, at)
        WHEN 'grant_role' THEN actor <> x AND model.may_give_role(actor, y, z, ends, at) END
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

-- Whether nothing started or ended meanwhile: leyser and the model look at the clock
-- at moments of their own, which are one only then.
CREATE FUNCTION model.no_time_came(since timestamptz, also timestamptz[] DEFAULT '{}') RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT NOT EXISTS (SELECT FROM unnest(also || ARRAY(SELECT unnest(ARRAY[g.starts, g.ends]) FROM model.given g)) t (moment)
                       WHERE t.moment BETWEEN since AND clock_timestamp())
$$;

-- Makes a change in leyser and in the model.  Returns what is wrong with leyser's
-- answer.  A change during which a time came is undone: it cannot be judged.
CREATE FUNCTION model.change(act text, actor text, x text, y text, z text, starts timestamptz, ends timestamptz, flag boolean)
    RETURNS SETOF text LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    since CONSTANT timestamptz := clock_timestamp();
    state text := '00000';
    moments timestamptz[];
    cascades boolean;
    kept bigint;
    before model.given[];
    wrong text[];
    expected boolean;
    statement text;
BEGIN
    statement := model.statement_of(act, x, y, z, starts, ends, flag);
    IF NOT (SELECT a.active FROM model.account a WHERE a.name = actor) OR ends <= since THEN
        RETURN;
    END IF;
    -- and those of what is taken away
    moments := ARRAY[starts, ends] || ARRAY(SELECT unnest(ARRAY[g.starts, g.ends]) FROM model.given g);
    expected := model.expected(act, actor, x, y, z, ends, since);
    cascades := act = 'drop_role' OR (act LIKE 'revoke%' AND flag);
    before := ARRAY(SELECT g FROM model.given g WHERE cascades AND model.could_make(g, since));
    IF act <> 'state' THEN
        PERFORM leyser.enter('model', actor);
    END IF;
    BEGIN
        EXECUTE statement;
        CALL model.apply(act, x, y, z, starts, ends, flag, actor, since);
        kept := (SELECT count(*) FROM model.given);
        wrong := ARRAY(SELECT model.follow_cascade(cascades, before, since));
        IF act = 'drop_role' THEN
            CALL model.forget_role(x);
        END IF;
        IF NOT model.no_time_came(since, moments) THEN
            RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'a time came';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        state := SQLSTATE;
        wrong := CASE WHEN state NOT IN ('42501', '0LP01', 'LY008', '42710', '42704', '2BP01') THEN ARRAY[SQLERRM] END;
    END;
    INSERT INTO model.done (actor, statement, sqlstate, followed) VALUES (actor, statement, state, kept - (SELECT count(*) FROM model.given));
    IF expected <> (state = '00000') THEN
        wrong := wrong || format('expected %s', expected);
    END IF;
    RETURN QUERY SELECT format('%s by %s: %s %s', statement, actor, state, w) FROM unnest(wrong) w
        WHERE model.no_time_came(since, moments);
END
$$;

-- One random change by a random account.  Returns what is wrong with leyser's answer.
CREATE FUNCTION model.step() RETURNS SETOF text LANGUAGE plpgsql AS $$
<<change>>
DECLARE
    actor text := model.any_of('{root,root,root,u1,u2,u3,u4}');
    act text := model.any_of('{grant_permission,grant_permission,grant_permission,grant_role,grant_role,deny_permission,lift_denial,revoke_permission,revoke_permission,revoke_role,grant_administrator,revoke_administrator,create_role,add_permission,drop_permission,add_role,take_out_role,drop_role,state,state}');
    x text := model.any_of('{u1,u2,u3,u4}');
    y text := model.any_of('{doc.read,doc.write,report,leyser.grants}');
    z text := model.any_scope();
    starts timestamptz := model.any_start();
    ends timestamptz := model.any_end();
    flag boolean := random() < 0.5;
    holding model.given[];
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
        -- something that is there, mostly with grants made on the strength of it
        SELECT g.account, g.what, g.scope INTO x, y, z FROM model.given g
            WHERE g.kind = CASE act WHEN 'lift_denial' THEN 'deny' ELSE split_part(act, '_', 2) END
            ORDER BY random() < 0.7 AND EXISTS (SELECT FROM model.given d WHERE d.by_account = g.account) DESC, random() LIMIT 1;
    END IF;
    holding := ARRAY(SELECT g FROM model.given g WHERE g.kind = substr(act, 7) AND g.option AND g.account <> x AND g.ends > clock_timestamp());
    IF act IN ('grant_permission', 'grant_role') AND holding <> '{}' AND random() < 0.6 THEN
        -- by somebody who may hold it: grants stand on each other
        SELECT g.account, g.what, CASE WHEN random() < 0.5 THEN g.scope ELSE coalesce(g.scope, z) END, least(change.ends, g.ends)
            INTO actor, y, z, ends FROM unnest(holding) g ORDER BY random() LIMIT 1;
    END IF;
    IF x IS NULL OR (y IS NULL AND act NOT LIKE '%administrator') THEN
        RETURN;
    END IF;
    IF starts >= ends THEN
        starts := now();
    END IF;
    RETURN QUERY SELECT c FROM model.change(act, actor, x, y, z, starts, ends, flag) c;
END
$$;

-- Grants and denials that end together, whatever chance chose before.
CREATE PROCEDURE model.end_soon(ends timestamptz DEFAULT clock_timestamp() + interval '2 s') LANGUAGE plpgsql AS $$
DECLARE
    x text;
BEGIN
    PERFORM leyser.enter('model', 'root');
    FOR x IN SELECT a.name FROM model.account a WHERE a.name <> 'root' LOOP
        PERFORM leyser.grant_permission(x, 'doc.read', 'a', now(), ends);
        PERFORM leyser.grant_permission(x, 'doc.write', 'a', now(), ends);
        PERFORM leyser.deny_permission(x, 'doc.write', 'a.b', now(), ends);
        CALL model.give(ROW(x, 'permission', 'doc.read', 'a', now(), ends, false, 'root'));
        CALL model.give(ROW(x, 'permission', 'doc.write', 'a', now(), ends, false, 'root'));
        CALL model.give(ROW(x, 'deny', 'doc.write', 'a.b', now(), ends, false, 'root'));
    END LOOP;
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
        EXIT WHEN model.no_time_came(since);
        COMMIT;
    END LOOP;
    INSERT INTO model.difference SELECT s.source, s.account, s.permission, s.scope, s.allowed, t.allowed
        FROM model.seen s JOIN model.truth(since) t USING (account, permission)
        WHERE s.scope IS NOT DISTINCT FROM t.scope AND s.allowed IS DISTINCT FROM t.allowed;
    INSERT INTO model.compared SELECT clock_timestamp(), count(*) FILTER (WHERE s.allowed), count(*) FILTER (WHERE NOT s.allowed) FROM model.seen s;
    COMMIT;
END
$$;

GRANT USAGE ON SCHEMA model TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA model TO PUBLIC;
