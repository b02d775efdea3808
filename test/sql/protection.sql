-- protect() and unprotect(): what they put up, what follows a table, what they
-- leave as it was.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_operator;
CREATE ROLE regress_leyser_other;
CREATE ROLE regress_leyser_app LOGIN;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_shop TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_leyser_owner IN SCHEMA regress_leyser_shop GRANT ALL ON TABLES TO regress_leyser_app;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('pro-a'), leyser.create_tenant('pro-b'), leyser.create_tenant('71'), leyser.create_tenant('72'),
    leyser.create_tenant('00000000-0000-4000-8000-0000000000aa'), leyser.create_tenant('00000000-0000-4000-8000-0000000000bb');
SELECT leyser.issue_token('pro-a') AS a, leyser.issue_token('pro-b') AS b, leyser.issue_token('71') AS number,
    leyser.issue_token('00000000-0000-4000-8000-0000000000aa') AS uuid \gset

-- What a table looks like: row security, forced, default, policies.
CREATE FUNCTION regress_leyser_shop.look(relation regclass) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT format('row security %s, forced %s', relrowsecurity, relforcerowsecurity) FROM pg_class WHERE oid = relation
    UNION ALL
    (SELECT format('default of %s: %s', attname, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
        JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE adrelid = relation ORDER BY attnum)
    UNION ALL
    (SELECT format('%s %s %s: USING %s CHECK %s', polname, CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END,
            polcmd, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM pg_policy WHERE polrelid = relation ORDER BY polname)
$$;
GRANT EXECUTE ON FUNCTION regress_leyser_shop.look(regclass) TO PUBLIC;

SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;

-- Every type that can hold a tenant id.
CREATE DOMAIN tenant AS text CHECK (VALUE <> '');
CREATE DOMAIN tenant_number AS smallint;
CREATE DOMAIN tenant_twice AS tenant;
CREATE TABLE as_text (tenant_id text NOT NULL);
CREATE TABLE as_varchar (tenant_id varchar(50) NOT NULL);
CREATE TABLE as_collated (tenant_id text COLLATE "POSIX" NOT NULL);
CREATE TABLE as_uuid (tenant_id uuid NOT NULL);
CREATE TABLE as_smallint (tenant_id smallint NOT NULL);
CREATE TABLE as_integer (tenant_id integer NOT NULL);
CREATE TABLE as_bigint (tenant_id bigint NOT NULL);
CREATE TABLE as_domain (tenant_id tenant_twice NOT NULL);
CREATE TABLE as_number_domain (tenant_id tenant_number NOT NULL);
INSERT INTO as_text VALUES ('pro-a'), ('pro-b');
INSERT INTO as_varchar VALUES ('pro-a'), ('pro-b');
INSERT INTO as_domain VALUES ('pro-a'), ('pro-b');
INSERT INTO as_collated VALUES ('pro-a'), ('pro-b');
INSERT INTO as_smallint VALUES (71), (72);
INSERT INTO as_integer VALUES (71), (72);
INSERT INTO as_bigint VALUES (71), (72);
INSERT INTO as_number_domain VALUES (71), (72);
INSERT INTO as_uuid VALUES ('00000000-0000-4000-8000-0000000000aa'), ('00000000-0000-4000-8000-0000000000bb');
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT oid FROM pg_class WHERE relname LIKE 'as\_%' LOOP
        PERFORM leyser.protect(one);
    END LOOP;
END $$;
SELECT tablename, qual FROM pg_policies WHERE policyname = 'leyser_tenant' AND tablename LIKE 'as\_%' ORDER BY 1;
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
INSERT INTO as_text DEFAULT VALUES;
INSERT INTO as_varchar DEFAULT VALUES;
INSERT INTO as_domain DEFAULT VALUES;
SELECT tenant_id, count(*) FROM as_text GROUP BY 1;
SELECT tenant_id, count(*) FROM as_varchar GROUP BY 1;
SELECT tenant_id, count(*) FROM as_domain GROUP BY 1;
SELECT tenant_id, count(*) FROM as_collated GROUP BY 1;
CALL trial.attempt('SELECT * FROM as_uuid');
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'number';
SET LOCAL search_path = regress_leyser_shop;
INSERT INTO as_smallint DEFAULT VALUES;
INSERT INTO as_integer DEFAULT VALUES;
INSERT INTO as_bigint DEFAULT VALUES;
INSERT INTO as_number_domain DEFAULT VALUES;
SELECT tenant_id, count(*) FROM as_smallint GROUP BY 1;
SELECT tenant_id, count(*) FROM as_integer GROUP BY 1;
SELECT tenant_id, count(*) FROM as_bigint GROUP BY 1;
SELECT tenant_id, count(*) FROM as_number_domain GROUP BY 1;
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'uuid';
SET LOCAL search_path = regress_leyser_shop;
INSERT INTO as_uuid DEFAULT VALUES;
SELECT tenant_id, count(*) FROM as_uuid GROUP BY 1;
COMMIT;

-- Kind own_and_global: rows without a tenant are everybody's to read.
\c - :superuser
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;
CREATE TABLE term (tenant_id text, term text);
INSERT INTO term VALUES (NULL, 'global'), ('pro-a', 'a'), ('pro-b', 'b');
SELECT leyser.protect('term', kind => 'own_and_global');
SELECT * FROM look('term');
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
SELECT * FROM term ORDER BY 2;
INSERT INTO term (term) VALUES ('mine') RETURNING *;
UPDATE term SET term = upper(term) RETURNING *;
DELETE FROM term WHERE term <> 'A' RETURNING *;
CALL trial.attempt('INSERT INTO term VALUES (NULL, ''forged'')');
CALL trial.attempt('INSERT INTO term VALUES (''pro-b'', ''forged'')');
CALL trial.attempt('UPDATE term SET tenant_id = NULL');
CALL trial.attempt('UPDATE term SET tenant_id = ''pro-b''');
SELECT * FROM term ORDER BY 2 FOR UPDATE;
SELECT * FROM term ORDER BY 2;
COMMIT;
SELECT * FROM regress_leyser_shop.term;

-- Somebody's permissive policy widens nothing; ours is not put beside it.
\c - :superuser
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;
CREATE TABLE document (tenant_id text NOT NULL, secret boolean, title text);
INSERT INTO document VALUES ('pro-a', false, 'a'), ('pro-a', true, 'a secret'), ('pro-b', false, 'b'), ('pro-b', true, 'b secret');
CREATE POLICY everything ON document USING (true);
CREATE POLICY open_ones ON document FOR SELECT USING (NOT secret);
SELECT leyser.protect('document');
SELECT * FROM look('document');
DROP POLICY everything ON document;
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT * FROM regress_leyser_shop.document;
CALL trial.attempt('INSERT INTO regress_leyser_shop.document VALUES (''pro-a'', false, ''new'')');
COMMIT;
\c - :superuser
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;
CREATE POLICY everything ON document USING (true) WITH CHECK (true);
CREATE POLICY no_secrets ON document AS RESTRICTIVE USING (NOT secret);
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT * FROM regress_leyser_shop.document;
COMMIT;

-- A second call keeps what is set; an argument changes it.
\c - :superuser
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;
CREATE TABLE twice (owner_id text, owner text NOT NULL DEFAULT 'nobody');
SELECT leyser.protect('twice', 'owner_id', 'own_and_global', set_default => false);
SELECT * FROM look('twice');
SELECT leyser.protect('twice');
SELECT * FROM look('twice');
SELECT leyser.protect('twice', set_default => true);
SELECT * FROM look('twice');
-- the owner only tightens; an operator may choose another column
CALL trial.attempt($$SELECT leyser.protect('twice', 'owner')$$);
CALL trial.attempt($$SELECT leyser.protect('twice', accept_gaps => true)$$);
SELECT leyser.protect('twice', kind => 'own_and_global');
RESET ROLE;
SELECT leyser.protect('twice', 'owner', 'own');
SET ROLE regress_leyser_owner;
CALL trial.attempt($$SELECT leyser.protect('twice', kind => 'own_and_global')$$);
SELECT * FROM look('twice');
RESET ROLE;
SELECT relation, kind, tenant_column, enforcement, gaps FROM leyser.governed_table WHERE relation = 'twice'::regclass;
SELECT leyser.unprotect('twice');
SELECT * FROM look('twice');

-- unprotect() restores what was, for each state that protect() can find.
SET ROLE regress_leyser_owner;
CREATE TABLE was_plain (tenant_id text NOT NULL);
CREATE TABLE was_enabled (tenant_id text NOT NULL DEFAULT 'x' || 'y');
ALTER TABLE was_enabled ENABLE ROW LEVEL SECURITY;
CREATE TABLE was_forced (tenant_id text NOT NULL DEFAULT current_user);
ALTER TABLE was_forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_policy ON was_forced FOR SELECT TO regress_leyser_app USING (tenant_id = 'x');
CREATE POLICY own_restriction ON was_forced AS RESTRICTIVE USING (tenant_id <> 'y');
CREATE TABLE was_forced_only (tenant_id text NOT NULL);
ALTER TABLE was_forced_only FORCE ROW LEVEL SECURITY;
CREATE TEMP TABLE looked AS SELECT r.relation, l FROM unnest('{was_plain,was_enabled,was_forced,was_forced_only}'::regclass[]) r (relation), look(r.relation) l;
SELECT leyser.protect('was_plain'), leyser.protect('was_enabled'), leyser.protect('was_forced'), leyser.protect('was_forced_only');
SELECT r.relation, l FROM unnest('{was_plain,was_enabled,was_forced,was_forced_only}'::regclass[]) r (relation), look(r.relation) l;
SELECT leyser.protect('was_plain');
RESET ROLE;
SELECT leyser.protect('was_forced', kind => 'own_and_global');
SET ROLE regress_leyser_owner;
SELECT leyser.protect('was_plain', set_default => false);
SELECT leyser.protect('was_enabled', set_default => false);
SELECT r.relation, l FROM unnest('{was_plain,was_enabled}'::regclass[]) r (relation), look(r.relation) l WHERE l ~ 'default';
CALL trial.attempt('SELECT leyser.unprotect(''was_plain'')');
SET ROLE regress_leyser_operator;
SELECT leyser.unprotect('was_plain'), leyser.unprotect('was_enabled'), leyser.unprotect('was_forced'), leyser.unprotect('was_forced_only');
SET ROLE regress_leyser_owner;
SELECT r.relation, l FROM unnest('{was_plain,was_enabled,was_forced,was_forced_only}'::regclass[]) r (relation), look(r.relation) l
    EXCEPT SELECT * FROM looked;
SELECT * FROM looked EXCEPT
    SELECT r.relation, l FROM unnest('{was_plain,was_enabled,was_forced,was_forced_only}'::regclass[]) r (relation), look(r.relation) l;
-- a default that was our getter before is put back, too
CREATE TABLE was_alike (LIKE as_text INCLUDING DEFAULTS);
SELECT leyser.protect('was_alike');
SET ROLE regress_leyser_operator;
SELECT leyser.unprotect('was_alike');
SET ROLE regress_leyser_owner;
SELECT * FROM look('was_alike');
-- a default that was set since then stays
SELECT leyser.protect('was_enabled');
ALTER TABLE was_enabled ALTER COLUMN tenant_id SET DEFAULT 'mine';
RESET ROLE;
SELECT leyser.unprotect('was_enabled');
SELECT * FROM look('was_enabled');

-- Who may: the owner tightens, an operator too; only an operator lifts.
SET ROLE regress_leyser_other;
CALL trial.attempt('SELECT leyser.protect(''regress_leyser_shop.was_plain'')');
CALL trial.attempt('SELECT leyser.unprotect(''regress_leyser_shop.as_text'')');
SET ROLE regress_leyser_operator;
SELECT leyser.protect('was_plain');
SELECT count(*) FROM leyser.governed_table WHERE relation = 'was_plain'::regclass AND kind = 'own';
CALL trial.attempt('SELECT * FROM regress_leyser_shop.was_plain');

-- The default: set_default; not for generated and identity columns.
SET ROLE regress_leyser_owner;
CREATE TABLE with_identity (tenant_id int GENERATED BY DEFAULT AS IDENTITY);
CREATE TABLE with_generated (home text NOT NULL, tenant_id text NOT NULL GENERATED ALWAYS AS ('pro-' || home) STORED);
CREATE TABLE without_default (tenant_id text NOT NULL);
SELECT leyser.protect('with_identity'), leyser.protect('with_generated'), leyser.protect('without_default', set_default => false);
SELECT * FROM look('with_identity');
SELECT * FROM look('with_generated');
SELECT * FROM look('without_default');
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
INSERT INTO with_generated VALUES ('a') RETURNING *;
CALL trial.attempt('INSERT INTO with_generated VALUES (''b'')');
CALL trial.attempt('INSERT INTO without_default DEFAULT VALUES');
INSERT INTO without_default VALUES ('pro-a') RETURNING *;
COMMIT;
\c - :superuser
SET search_path = regress_leyser_shop;
SELECT leyser.unprotect('with_identity'), leyser.unprotect('with_generated'), leyser.unprotect('without_default');
SELECT * FROM look('with_identity');
SELECT * FROM look('with_generated');

-- Partitions and children: those there are, new ones, attached and detached.
SET ROLE regress_leyser_owner;
CREATE TABLE log (tenant_id text NOT NULL, at int) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO (2);
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (2) TO (3) PARTITION BY LIST (tenant_id);
CREATE TABLE log_2_a PARTITION OF log_2 FOR VALUES IN ('pro-a');
CREATE TABLE event (tenant_id text NOT NULL);
CREATE TABLE event_old () INHERITS (event);
SELECT leyser.protect('log'), leyser.protect('event');
CREATE TABLE log_2_b PARTITION OF log_2 FOR VALUES IN ('pro-b');
CREATE TABLE log_3 (tenant_id text NOT NULL, at int);
INSERT INTO log_3 VALUES ('pro-a', 3), ('pro-b', 3);
ALTER TABLE log ATTACH PARTITION log_3 FOR VALUES FROM (3) TO (4);
CREATE TABLE event_older () INHERITS (event_old);
CREATE TABLE event_side (tenant_id text NOT NULL);
ALTER TABLE event_side INHERIT event;
-- a column in another place
CREATE TABLE log_4 (dropped int, at int, tenant_id text NOT NULL);
ALTER TABLE log_4 DROP COLUMN dropped;
INSERT INTO log_4 VALUES (4, 'pro-a'), (4, 'pro-b');
ALTER TABLE log ATTACH PARTITION log_4 FOR VALUES FROM (4) TO (5);
RESET ROLE;
SELECT relation, kind, tenant_column, parent, gaps FROM leyser.governed_table WHERE relation::text ~ '^(log|event)' ORDER BY relation::text;
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
SELECT * FROM log ORDER BY at;
SELECT * FROM log_3;
SELECT * FROM log_4;
INSERT INTO log_2_a (at) VALUES (2) RETURNING *;
INSERT INTO log_4 (at) VALUES (4) RETURNING *;
CALL trial.attempt('INSERT INTO log_2_b VALUES (''pro-b'', 2)');
CALL trial.attempt('INSERT INTO event_older VALUES (''pro-b'')');
COMMIT;
CALL trial.attempt('SELECT * FROM regress_leyser_shop.log_2_b');
CALL trial.attempt('SELECT * FROM regress_leyser_shop.event_side');
\c - :superuser
SET search_path = regress_leyser_shop;
-- a part of the family cannot be protected or lifted by itself
CALL trial.attempt('SELECT leyser.unprotect(''log_3'')');
CALL trial.attempt('SELECT leyser.unprotect(''event_old'')');
-- detached, a table stays protected, and can then be lifted by itself
SET ROLE regress_leyser_owner;
ALTER TABLE log DETACH PARTITION log_3;
ALTER TABLE event_side NO INHERIT event;
RESET ROLE;
SELECT relation, kind, parent, gaps FROM leyser.governed_table WHERE relation IN ('log_3'::regclass, 'event_side'::regclass) ORDER BY 1;
SELECT * FROM look('log_3');
SELECT leyser.unprotect('log_3');
SELECT * FROM look('log_3');
-- dropped, it is forgotten
SET ROLE regress_leyser_owner;
DROP TABLE log_4;
RESET ROLE;
SELECT relation FROM leyser.governed_table WHERE kind IS NOT NULL AND relation::text ~ '^log' ORDER BY relation::text;
-- lifted, all of it is
SELECT leyser.unprotect('log');
SELECT count(*) FROM leyser.governed_table WHERE kind IS NOT NULL AND relation::text ~ '^log';
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relnamespace = 'regress_leyser_shop'::regnamespace AND relname ~ '^log' ORDER BY 1;
SELECT count(*) FROM pg_policies WHERE tablename ~ '^log';
SELECT count(*) FROM pg_attrdef WHERE adrelid::regclass::text ~ '^log';
-- a partition whose root is not protected
CALL trial.attempt('SELECT leyser.protect(''log_1'')');

-- Names change, columns come: protection stays.
SET ROLE regress_leyser_owner;
CREATE TABLE moving (tenant_id text NOT NULL);
INSERT INTO moving VALUES ('pro-a'), ('pro-b');
SELECT leyser.protect('moving');
ALTER TABLE moving ADD COLUMN more text DEFAULT 'more';
ALTER TABLE moving RENAME COLUMN tenant_id TO mandant;
ALTER TABLE moving RENAME TO "Moved to";
RESET ROLE;
CREATE SCHEMA "regress_leyser else" AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA "regress_leyser else" TO PUBLIC;
ALTER TABLE "Moved to" SET SCHEMA "regress_leyser else";
ALTER SCHEMA "regress_leyser else" RENAME TO "regress_leyser ""there""";
SELECT relation, tenant_column, gaps FROM leyser.governed_table WHERE relation::text ~ 'Moved';
SELECT leyser.protect('"regress_leyser ""there"""."Moved to"');
\c - regress_leyser_app
CALL trial.attempt('SELECT * FROM "regress_leyser ""there"""."Moved to"');
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT * FROM "regress_leyser ""there"""."Moved to";
INSERT INTO "regress_leyser ""there"""."Moved to" DEFAULT VALUES RETURNING *;
ROLLBACK;
\c - :superuser
-- the tenant column cannot go while the policies need it
CALL trial.attempt('ALTER TABLE "regress_leyser ""there"""."Moved to" DROP COLUMN mandant');
CALL trial.attempt('ALTER TABLE "regress_leyser ""there"""."Moved to" DROP COLUMN mandant CASCADE');
CALL trial.attempt('ALTER TABLE "regress_leyser ""there"""."Moved to" ALTER COLUMN mandant TYPE varchar(3)');
CALL trial.attempt('ALTER TABLE "regress_leyser ""there"""."Moved to" ALTER COLUMN mandant DROP NOT NULL');
SELECT gaps FROM leyser.governed_table WHERE relation::text ~ 'Moved';
SELECT leyser.unprotect('"regress_leyser ""there"""."Moved to"');

-- declare_table(): what the other tables are.
SET search_path = regress_leyser_shop;
SET ROLE regress_leyser_owner;
CREATE TABLE country (code text);
CREATE TABLE queue (payload jsonb);
CREATE TABLE bill (tenant text);
CREATE TABLE scratch (i int);
INSERT INTO country VALUES ('JP');
CALL trial.attempt('SELECT leyser.declare_table(''country'', ''shared'', ''mine'')');
SET ROLE regress_leyser_operator;
SELECT leyser.declare_table('country', 'shared', 'codes of ISO 3166');
SELECT leyser.declare_table('queue', 'by_rule', 'jobs', $$payload->>'tenant' = $1$$);
SELECT leyser.declare_table('bill', 'retained', 'tax law: ten years');
SELECT leyser.declare_table('scratch', 'ignored', 'no data of tenants');
SELECT leyser.declare_table('scratch', 'ignored');
SELECT relation, kind, tenant_column, enforcement, reason, purge_condition, gaps FROM leyser.governed_table
    WHERE kind IN ('shared', 'by_rule', 'retained', 'ignored') ORDER BY 1;
SELECT relation, kind, gaps FROM leyser.governed_table WHERE kind IS NULL AND relation::text LIKE 'log_1';
CALL trial.attempt('SELECT leyser.declare_table(''country'', ''own'', ''x'')');
CALL trial.attempt('SELECT leyser.declare_table(''country'', NULL, ''x'')');
CALL trial.attempt('SELECT leyser.declare_table(''log_1'', ''ignored'')');
CALL trial.attempt('SELECT leyser.declare_table(''log_1'', ''ignored'', '''')');
CALL trial.attempt('SELECT leyser.declare_table(''queue'', ''ignored'', ''x'', ''tenant = $1'')');
CALL trial.attempt('SELECT leyser.declare_table(''bill'', ''by_rule'', ''x'')');
CALL trial.attempt('SELECT leyser.declare_table(''as_text'', ''ignored'', ''x'')');
CALL trial.attempt('SELECT leyser.protect(''bill'', ''tenant'')');
CALL trial.attempt('SELECT leyser.unprotect(''log_1'')');
-- read by all, written by nobody in a context
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
SELECT * FROM country;
CALL trial.attempt('INSERT INTO country VALUES (''XX'')');
CALL trial.attempt('UPDATE country SET code = code');
CALL trial.attempt('DELETE FROM country');
CALL trial.attempt('TRUNCATE country');
COMMIT;
-- nor without one, for that is hostile SQL's first try; the owner writes
CALL trial.attempt('INSERT INTO regress_leyser_shop.country VALUES (''DE'')');
\c - :superuser
SET ROLE regress_leyser_owner;
INSERT INTO regress_leyser_shop.country VALUES ('DE');
\c - :superuser
SET search_path = regress_leyser_shop;
SELECT leyser.unprotect('country');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'country'::regclass;

-- Children of a shared table are shared, those that come later too; by name as well.
SET ROLE regress_leyser_owner;
CREATE TABLE rate (code text, year int) PARTITION BY LIST (year);
CREATE TABLE rate_2025 PARTITION OF rate FOR VALUES IN (2025);
SET ROLE regress_leyser_operator;
SELECT leyser.declare_table('rate', 'shared', 'rates of exchange');
SET ROLE regress_leyser_owner;
CREATE TABLE rate_2026 PARTITION OF rate FOR VALUES IN (2026);
CREATE TABLE rate_2027 (code text, year int);
ALTER TABLE rate ATTACH PARTITION rate_2027 FOR VALUES IN (2027);
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;
CALL trial.attempt('INSERT INTO rate VALUES (''X'', 2025)');
CALL trial.attempt('INSERT INTO rate_2025 VALUES (''X'', 2025)');
CALL trial.attempt('INSERT INTO rate_2026 VALUES (''X'', 2026)');
CALL trial.attempt('INSERT INTO rate_2027 VALUES (''X'', 2027)');
SELECT leyser.leave();
CALL trial.attempt('INSERT INTO rate_2027 VALUES (''X'', 2027)');
COMMIT;
CALL trial.attempt('INSERT INTO regress_leyser_shop.rate_2027 VALUES (''JPY'', 2027)');
\c - :superuser
SET ROLE regress_leyser_owner;
INSERT INTO regress_leyser_shop.rate_2027 VALUES ('JPY', 2027);
\c - :superuser
SET search_path = regress_leyser_shop;
SELECT relation, kind, parent FROM leyser.governed_table WHERE relation::text ~ '^rate' ORDER BY relation::text;
CALL trial.attempt('SELECT leyser.unprotect(''rate_2026'')');
SELECT leyser.declare_table('rate', 'ignored');
SELECT relation, kind, parent FROM leyser.governed_table WHERE relation::text ~ '^rate' ORDER BY relation::text;
SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text ~ '^rate';

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_shop, "regress_leyser ""there""" CASCADE;
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator'), leyser.revoke_usage('regress_leyser_app', 'application');
SELECT count(*) FROM leyser.governed_table WHERE relation::text LIKE 'regress_leyser%';
DROP ROLE regress_leyser_owner, regress_leyser_operator, regress_leyser_other, regress_leyser_app;
