-- The attempts of the attack test, and on what they are made.
--
-- Steps are as src/attack_client.c explains them.  {words} are filled in by attack.sql.
-- Context: own, in a transaction with a token of the role's own tenant; none, in one
-- without; script, it begins its transactions itself.  Whatever the steps do is rolled
-- back, save what the session alone sees.

CREATE FUNCTION leyser.attack_read_attempts()
    RETURNS TABLE (attempt text, on_each text, context text, what text, steps text[])
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $attempts$
    VALUES
    ('read.every_row', 'table', 'own', 'All rows, without a condition.',
     ARRAY['value SELECT count(*) FROM (SELECT {tenant} AS tenant FROM {relation}) r WHERE r.tenant <> {own}']),
    ('read.by_tenant', 'table', 'own', 'The rows of the other tenant, by its id.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100) r']),
    ('read.by_place', 'table', 'own', 'Rows by their place in the file (ctid).',
     ARRAY['value SELECT count(*) FROM {relation} WHERE ctid = ANY ({other_places}::tid[]) AND {tenant} = {other}']),
    ('read.join', 'table', 'own', 'Through a join of the table with itself.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM (SELECT FROM {relation} LIMIT 1) a CROSS JOIN {relation} b WHERE b.{tenant} = {other} LIMIT 100) r']),
    ('read.subquery', 'table', 'own', 'Through EXISTS in a subquery.',
     ARRAY['value SELECT count(*) FROM (VALUES (1)) v WHERE EXISTS (SELECT FROM {relation} WHERE {tenant} = {other})']),
    ('read.lateral', 'table', 'own', 'Through a LATERAL join that is given the other id.',
     ARRAY['value SELECT count(*) FROM (VALUES ({other}::{type})) v (id) CROSS JOIN LATERAL (SELECT FROM {relation} r WHERE r.{tenant} = v.id LIMIT 100) r']),
    ('read.set_operation', 'table', 'own', 'Through UNION ALL, EXCEPT and a common table expression.',
     ARRAY['value WITH every AS MATERIALIZED (SELECT {tenant} AS tenant FROM {relation} UNION ALL SELECT {tenant} FROM {relation}) SELECT count(*) FROM (SELECT tenant FROM every EXCEPT SELECT {own}) r WHERE r.tenant IS NOT NULL']),
    ('read.for_update', 'table', 'own', 'By locking the rows.',
     ARRAY['rows SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100 FOR UPDATE']),
    ('read.cursor', 'table', 'own', 'Through a cursor.',
     ARRAY['try DECLARE leyser_attack CURSOR FOR SELECT FROM {relation} WHERE {tenant} = {other}', 'rows FETCH 100 FROM leyser_attack']),
    ('read.copy', 'table', 'own', 'By COPY TO.',
     ARRAY['rows COPY (SELECT {tenant} FROM {relation} WHERE {tenant} = {other} LIMIT 100) TO STDOUT']),
    ('read.leaky_condition', 'table', 'own', 'By a condition that fails on the other tenant''s rows only.',
     ARRAY['leak SELECT count(*) FROM {relation} WHERE 1 / (CASE WHEN {tenant} = {other} THEN 0 ELSE 1 END) = 0']),
    ('read.row_security_off', 'table', 'own', 'With row_security = off.',
     ARRAY['try SET LOCAL row_security = off', 'value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100) r']),
    ('read.parallel', 'table', 'own', 'In parallel workers.',
     ARRAY['try SELECT set_config(name, ''on'', true) FROM pg_settings WHERE name IN (''force_parallel_mode'', ''debug_parallel_query'')', 'try SET LOCAL parallel_leader_participation = off',
           'value SELECT count(*) FROM (SELECT {tenant} AS tenant FROM {relation}) r WHERE r.tenant = {other}']),
    ('read.without_context', 'table', 'none', 'Any row of a tenant, without a token.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} IS NOT NULL LIMIT 100) r']),
    ('read.statistics', 'statistics', 'own', 'What ANALYZE kept of the values of all tenants (pg_stats).',
     ARRAY['value SELECT count(*) FROM pg_stats WHERE schemaname = {schema_text} AND tablename = {name_text}', 'value SELECT count(*) FROM pg_statistic WHERE starelid = {oid}']),
    ('read.explain', 'table', 'own', 'How many rows the planner thinks that the other tenant has.', ARRAY['done EXPLAIN SELECT FROM {relation} WHERE {tenant} = {other}']),
    ('read.explain_analyze', 'table', 'own', 'How many rows EXPLAIN ANALYZE says were filtered away.', ARRAY['done EXPLAIN (ANALYZE) SELECT FROM {relation} WHERE {tenant} IS NOT NULL']),
    ('read.part', 'part', 'own', 'A partition or child, by its own name.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM {object} WHERE {tenant} = {other} LIMIT 100) r']),
    ('read.parent', 'parent', 'own', 'A parent, which shows the table''s rows.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM {object} WHERE {tenant} = {other} LIMIT 100) r']),
    ('read.view', 'view', 'own', 'A view or materialized view that shows the tenant column.',
     ARRAY['value SELECT count(*) FROM (SELECT FROM {object} WHERE {tenant}::text = {other} LIMIT 100) r']),
    ('read.large_object', 'large object', 'own', 'Large objects that the role may read: they know no tenants.',
     ARRAY['need SELECT count(*) FROM pg_largeobject_metadata',
           'value SELECT count(lo_get(m.oid, 0, 1)) FROM pg_largeobject_metadata m WHERE pg_has_role(m.lomowner, ''USAGE'') OR EXISTS (SELECT FROM aclexplode(m.lomacl) x WHERE x.grantee = 0 OR pg_has_role(x.grantee, ''USAGE''))']),
    ('read.leyser_table', 'leyser', 'own', 'leyser''s own tables and views.',
     ARRAY['value SELECT count(*) FROM {object}']),
    ('read.server_file', 'server', 'own', 'Files of the server.', ARRAY['done SELECT pg_read_file(''PG_VERSION'')']),
    ('read.server_program', 'server', 'own', 'A program of the server.', ARRAY['done COPY (SELECT 1) TO PROGRAM ''cat >/dev/null''']),
    ('read.server_import', 'server', 'own', 'A file of the server, as a large object.', ARRAY['done SELECT lo_import(''PG_VERSION'')'])
$attempts$;
REVOKE ALL ON FUNCTION leyser.attack_read_attempts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_read_attempts() IS 'internal: attempts to read';

CREATE FUNCTION leyser.attack_write_attempts()
    RETURNS TABLE (attempt text, on_each text, context text, what text, steps text[])
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $attempts$
    VALUES
    ('write.insert', 'table', 'own', 'A new row of the other tenant.', ARRAY['rows INSERT INTO {relation} ({tenant}) VALUES ({other})']),
    ('write.on_conflict', 'table', 'own', 'A new row of the other tenant, ON CONFLICT DO NOTHING.', ARRAY['rows INSERT INTO {relation} ({tenant}) VALUES ({other}) ON CONFLICT DO NOTHING']),
    ('write.insert_copy', 'table', 'own', 'A copy of an own row, as one of the other tenant.',
     ARRAY['need SELECT count(*) FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own}',
           'rows INSERT INTO {relation} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own} LIMIT 1']),
    ('write.without_context', 'table', 'none', 'A new row without a token.', ARRAY['rows INSERT INTO {relation} ({tenant}) VALUES ({other})']),
    ('write.copy', 'table', 'own', 'By COPY FROM.', ARRAY['input {other_line}', 'rows COPY {relation} ({tenant}) FROM STDIN (FORMAT csv)']),
    ('write.update', 'table', 'own', 'Changing rows of the other tenant.',
     ARRAY['rows UPDATE {relation} SET {column} = {column} WHERE {tenant} = {other} AND ctid = ANY ({other_places}::tid[])']),
    ('write.update_in_query', 'table', 'own', 'The same, within a query.',
     ARRAY['value WITH changed AS (UPDATE {relation} SET {column} = {column} WHERE {tenant} = {other} AND ctid = ANY ({other_places}::tid[]) RETURNING 1) SELECT count(*) FROM changed']),
    ('write.delete', 'table', 'own', 'Deleting rows of the other tenant.',
     ARRAY['rows DELETE FROM {relation} WHERE {tenant} = {other} AND ctid = ANY ({other_places}::tid[])']),
    ('write.merge_update', 'table', 'own', 'MERGE that updates them.',
     ARRAY['rows MERGE INTO {relation} r USING (SELECT 1) s ON r.{tenant} = {other} AND r.ctid = ANY ({other_places}::tid[]) WHEN MATCHED THEN UPDATE SET {column} = r.{column}']),
    ('write.merge_delete', 'table', 'own', 'MERGE that deletes them.',
     ARRAY['rows MERGE INTO {relation} r USING (SELECT 1) s ON r.{tenant} = {other} AND r.ctid = ANY ({other_places}::tid[]) WHEN MATCHED THEN DELETE']),
    ('write.merge_insert', 'table', 'own', 'MERGE that inserts a row of the other tenant.',
     ARRAY['need SELECT count(*) FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own}',
           'rows MERGE INTO {relation} r USING (SELECT {columns} FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own} LIMIT 1) s ON false WHEN NOT MATCHED THEN INSERT ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})']),
    ('write.part', 'part', 'own', 'Changing rows of the other tenant in a partition or child, by its own name.',
     ARRAY['rows UPDATE {object} SET {tenant} = {tenant} WHERE {tenant} = {other} AND ctid = ANY (ARRAY(SELECT o.ctid FROM {object} o WHERE o.{tenant} = {other} LIMIT 10))',
           'rows DELETE FROM {object} WHERE {tenant} = {other} AND ctid = ANY (ARRAY(SELECT o.ctid FROM {object} o WHERE o.{tenant} = {other} LIMIT 10))']),
    ('write.truncate', 'table', 'own', 'TRUNCATE, which row security does not filter.', ARRAY['done TRUNCATE {relation}']),
    ('write.truncate_part', 'part', 'own', 'TRUNCATE of a partition or child.', ARRAY['done TRUNCATE {object}']),
    ('move.to_other', 'table', 'own', 'Handing an own row to the other tenant.',
     ARRAY['need SELECT count(*) FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own}',
           'rows UPDATE {relation} SET {tenant} = {other} WHERE {tenant} = {own} AND ctid = ANY ({own_places}::tid[])']),
    ('move.to_all', 'table', 'own', 'Making an own row one of nobody, which all might read.',
     ARRAY['need SELECT count(*) FROM {relation} WHERE ctid = ANY ({own_places}::tid[]) AND {tenant} = {own}',
           'rows UPDATE {relation} SET {tenant} = NULL WHERE {tenant} = {own} AND ctid = ANY ({own_places}::tid[])']),
    ('refer.temporary_table', 'table', 'own', 'A foreign key from an own temporary table, which would tell what exists.',
     ARRAY['try CREATE TEMPORARY TABLE leyser_attack (id {type}) ON COMMIT DROP', 'done ALTER TABLE pg_temp.leyser_attack ADD FOREIGN KEY (id) REFERENCES {relation} ({tenant})']),
    ('refer.table', 'table', 'own', 'A foreign key from an own table.', ARRAY['done CREATE TABLE {schema}.leyser_attack (id {type} REFERENCES {relation} ({tenant}))']),
    ('refer.child', 'table', 'own', 'An own table that becomes a child of the table.', ARRAY['done CREATE TABLE {schema}.leyser_attack () INHERITS ({relation})'])
$attempts$;
REVOKE ALL ON FUNCTION leyser.attack_write_attempts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_write_attempts() IS 'internal: attempts to write, to move rows, and to refer to them';

CREATE FUNCTION leyser.attack_widen_attempts()
    RETURNS TABLE (attempt text, on_each text, context text, what text, steps text[])
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $attempts$
    VALUES
    ('widen.set_role', 'role', 'own', 'SET ROLE to whatever the role is a member of.',
     ARRAY['prepare SET LOCAL ROLE {object}', 'value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100) r']),
    ('widen.session_authorization', 'server', 'own', 'SET SESSION AUTHORIZATION to the superuser.', ARRAY['done SET SESSION AUTHORIZATION {superuser}']),
    ('widen.superuser', 'server', 'own', 'SET ROLE to the superuser.', ARRAY['done SET LOCAL ROLE {superuser}']),
    ('widen.disable', 'table', 'own', 'ALTER TABLE … DISABLE ROW LEVEL SECURITY.', ARRAY['done ALTER TABLE {relation} DISABLE ROW LEVEL SECURITY']),
    ('widen.no_force', 'table', 'own', 'ALTER TABLE … NO FORCE ROW LEVEL SECURITY.', ARRAY['done ALTER TABLE {relation} NO FORCE ROW LEVEL SECURITY']),
    ('widen.own', 'table', 'own', 'Becoming the owner of the table.', ARRAY['done ALTER TABLE {relation} OWNER TO {role}']),
    ('widen.create_policy', 'table', 'own', 'A policy that lets every row through.', ARRAY['done CREATE POLICY leyser_attack ON {relation} USING (true)']),
    ('widen.alter_policy', 'table', 'own', 'Changing the tenant''s policy.', ARRAY['done ALTER POLICY leyser_tenant ON {relation} USING (true)']),
    ('widen.drop_policy', 'table', 'own', 'Dropping the tenant''s policy.', ARRAY['done DROP POLICY leyser_tenant ON {relation}']),
    ('widen.grant', 'table', 'own', 'Granting a right on the table to everybody.',
     ARRAY['try GRANT TRIGGER ON {relation} TO PUBLIC',
           'value SELECT count(*) FROM pg_class c CROSS JOIN aclexplode(c.relacl) x WHERE c.oid = {oid} AND x.grantee = 0 AND x.privilege_type = ''TRIGGER''']),
    ('widen.view', 'table', 'own', 'A view of the table.', ARRAY['done CREATE VIEW {schema}.leyser_attack AS SELECT FROM {relation}']),
    ('widen.materialized_view', 'table', 'own', 'A materialized view of the table, which would keep rows.', ARRAY['done CREATE MATERIALIZED VIEW {schema}.leyser_attack AS SELECT FROM {relation}']),
    ('widen.copy_of_table', 'table', 'own', 'A table made of its rows.', ARRAY['done CREATE TABLE {schema}.leyser_attack AS SELECT FROM {relation}']),
    ('widen.function', 'table', 'own', 'A SECURITY DEFINER function.',
     ARRAY['done CREATE FUNCTION {schema}.leyser_attack() RETURNS bigint LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT count(*) FROM {relation}; END']),
    ('widen.trigger', 'table', 'own', 'A trigger on the table, which would see what others write.',
     ARRAY['done CREATE TRIGGER leyser_attack BEFORE UPDATE ON {relation} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()']),
    ('widen.rule', 'table', 'own', 'A rule on the table, which would run with the rights of its owner.', ARRAY['done CREATE RULE leyser_attack AS ON UPDATE TO {relation} DO ALSO NOTHING']),
    ('widen.index', 'table', 'own', 'An index whose expression would meet every row.', ARRAY['done CREATE INDEX leyser_attack ON {relation} ((1 / 1))']),
    ('widen.publication', 'table', 'own', 'A publication, which knows no row security.', ARRAY['done CREATE PUBLICATION leyser_attack FOR TABLE {relation}']),
    ('widen.drop', 'table', 'own', 'Dropping the table.', ARRAY['done DROP TABLE {relation} CASCADE']),
    ('widen.bypassrls', 'role itself', 'own', 'BYPASSRLS for the role itself.', ARRAY['done ALTER ROLE {role} BYPASSRLS']),
    ('widen.role_setting', 'role itself', 'own', 'A setting with which every later session of the role would begin.', ARRAY['done ALTER ROLE {role} SET search_path = pg_temp']),
    ('widen.password', 'role itself', 'own', 'Another password for all clients of the role.', ARRAY['done ALTER ROLE {role} PASSWORD NULL']),
    ('widen.create_role', 'role itself', 'own', 'A role of one''s own.', ARRAY['done CREATE ROLE leyser_attack']),
    ('widen.setting', 'setting', 'own', 'A setting that is for superusers.', ARRAY['done SET LOCAL {object}']),
    ('widen.unprotect', 'table', 'own', 'leyser.unprotect().', ARRAY['done SELECT leyser.unprotect({oid})']),
    ('widen.suspend', 'table', 'own', 'leyser.suspend_protection().', ARRAY['done SELECT leyser.suspend_protection({oid}, ''attack'', ''1 minute'')']),
    ('widen.declare', 'table', 'own', 'leyser.declare_table(), as a table that leyser leaves alone.', ARRAY['done SELECT leyser.declare_table({oid}, ''ignored'', ''attack'')']),
    ('widen.observe', 'table', 'own', 'leyser.protect(), with less than there is.', ARRAY['done SELECT leyser.protect({oid}, {tenant_text}, ''own'', ''observe'')']),
    ('widen.usage', 'role itself', 'own', 'leyser.grant_usage() to oneself.', ARRAY['done SELECT leyser.grant_usage({role_text}, ''operator'')'])
$attempts$;
REVOKE ALL ON FUNCTION leyser.attack_widen_attempts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_widen_attempts() IS 'internal: attempts to take a protection away, or to get more rights';

CREATE FUNCTION leyser.attack_context_attempts()
    RETURNS TABLE (attempt text, on_each text, context text, what text, steps text[])
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $attempts$
    VALUES
    ('forge.garbage', 'token', 'none', 'What is no token at all.', ARRAY['done SELECT set_config(''leyser.token'', ''garbage'', true)']),
    ('forge.tenant_id', 'token', 'none', 'The other tenant''s bare id.', ARRAY['done SELECT set_config(''leyser.token'', {other}, true)']),
    ('forge.no_signature', 'token', 'none', 'A token of the other tenant without its signature.', ARRAY['done SELECT set_config(''leyser.token'', {no_signature}, true)']),
    ('forge.no_algorithm', 'token', 'none', 'The same, with "alg": "none".', ARRAY['done SELECT set_config(''leyser.token'', {no_algorithm}, true)']),
    ('forge.changed_signature', 'token', 'none', 'A signature that was changed.', ARRAY['done SELECT set_config(''leyser.token'', {changed_signature}, true)']),
    ('forge.changed_tenant', 'token', 'none', 'The other tenant under the signature of an own token.', ARRAY['done SELECT set_config(''leyser.token'', {other_signature}, true)']),
    ('forge.other_database', 'token', 'none', 'A well-signed token of another database.', ARRAY['done SELECT set_config(''leyser.token'', {other_database}, true)']),
    ('forge.expired', 'token', 'none', 'A well-signed token that has expired.', ARRAY['done SELECT set_config(''leyser.token'', {expired}, true)']),
    ('forge.parallel_worker', 'token', 'none', 'What a parallel worker is given, which is not signed.', ARRAY['done SELECT set_config(''leyser.token'', {parallel_worker}, true)']),
    ('forge.by_set', 'token', 'none', 'A forged one by SET.', ARRAY['done SET LOCAL leyser.token = {other_signature}']),
    ('forge.startup_packet', 'token', 'script', 'A token in the options of the connection (PGOPTIONS).',
     ARRAY['startup leyser.token={startup}', 'prepare BEGIN', 'value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100) r']),
    ('forge.role_setting', 'token', 'none', 'A token as a setting of the role, for whoever connects next.', ARRAY['done ALTER ROLE {role} SET leyser.token = {other_token}']),
    ('forge.setting', 'token', 'none', 'A setting of one''s own that looks like leyser''s.', ARRAY['done SET LOCAL leyser.tenant_id = {other}']),
    ('switch.second_token', 'token', 'own', 'A token of the other tenant in the same transaction.', ARRAY['done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('switch.leave', 'token', 'own', 'The same after leyser.leave().', ARRAY['try SELECT leyser.leave()', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('switch.reset', 'token', 'own', 'The same after RESET.', ARRAY['try RESET leyser.token', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('switch.savepoint', 'token', 'own', 'The same after a savepoint.', ARRAY['prepare SAVEPOINT leyser_attack', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('switch.rolled_back', 'token', 'none', 'The same after the first token was rolled back to a savepoint.',
     ARRAY['prepare SAVEPOINT leyser_attack', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'prepare ROLLBACK TO leyser_attack', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('switch.block', 'token', 'none', 'Both tokens in one DO block, the first in a part that fails.',
     ARRAY['done DO $do$ BEGIN BEGIN PERFORM set_config(''leyser.token'', {own_token}, true); RAISE EXCEPTION USING ERRCODE = ''P0001''; EXCEPTION WHEN raise_exception THEN NULL; END; PERFORM set_config(''leyser.token'', {other_token}, true); END $do$']),
    ('switch.enter', 'token', 'own', 'leyser.enter() for the other tenant.', ARRAY['done SELECT leyser.enter({other})']),
    ('switch.issue_token', 'token', 'own', 'leyser.issue_token() for the other tenant.', ARRAY['done SELECT leyser.issue_token({other})']),
    ('switch.enter_unasked', 'application', 'none', 'leyser.enter() by a role that is no gateway.', ARRAY['done SELECT leyser.enter({other})']),
    ('switch.support', 'token', 'none', 'leyser.enter_support() without having been let in.', ARRAY['done SELECT leyser.enter_support({other})']),
    ('steal.session_token', 'connection', 'script', 'A token that the former client set for its session.',
     ARRAY['prepare BEGIN', 'try SELECT set_config(''leyser.token'', {other_token}, false)', 'try COMMIT', 'prepare BEGIN',
           'value SELECT count(*) FROM (SELECT FROM {relation} WHERE {tenant} = {other} LIMIT 100) r']),
    ('steal.prepared_plan', 'connection', 'script', 'A statement that the former client''s driver prepared, executed without a token.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {other_token}, false)', 'try SELECT set_config(name, ''on'', true) FROM pg_settings WHERE name IN (''force_parallel_mode'', ''debug_parallel_query'')',
           'keep SELECT count(*) FROM {relation} WHERE {tenant} = {other}', 'prepare COMMIT', 'prepare BEGIN', 'try SET LOCAL parallel_leader_participation = off',
           'try SELECT set_config(name, ''on'', true) FROM pg_settings WHERE name IN (''force_parallel_mode'', ''debug_parallel_query'')', 'again it']),
    ('steal.prepared_plan_own', 'connection', 'script', 'The same, with a token of one''s own.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {other_token}, true)', 'keep SELECT count(*) FROM {relation} WHERE {tenant} = {other}', 'prepare COMMIT',
           'prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'again it']),
    ('steal.temporary_table', 'connection', 'script', 'A temporary table of the same name, for the next client to write into.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'try CREATE TEMPORARY TABLE {name} (leyser_attack integer)', 'try COMMIT',
           'prepare BEGIN', 'try SET LOCAL search_path = {schema}', 'try SELECT set_config(''leyser.token'', {other_token}, true)', 'value SELECT to_regclass({name_word})::oid <> {oid}']),
    ('steal.temporary_function', 'connection', 'own', 'A function in the session, for the next client to call.',
     ARRAY['done CREATE FUNCTION pg_temp.leyser_attack() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; END']),
    ('steal.cursor', 'connection', 'script', 'A cursor that the former client left open.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {other_token}, true)', 'try DECLARE leyser_attack CURSOR WITH HOLD FOR SELECT FROM {relation}', 'try COMMIT',
           'prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'rows FETCH 100 FROM leyser_attack']),
    ('steal.prepare', 'connection', 'own', 'A prepared statement under a name that the next client''s driver uses.', ARRAY['done PREPARE leyser_attack AS SELECT 1']),
    ('steal.listen', 'connection', 'own', 'Notifications that the next client would get.', ARRAY['done LISTEN leyser_attack']),
    ('steal.search_path', 'connection', 'script', 'Another search_path for the next client.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'try SELECT set_config(''search_path'', ''pg_temp'', false)', 'try COMMIT',
           'prepare BEGIN', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('steal.row_security', 'connection', 'script', 'row_security = off for the next client.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'try SELECT set_config(''row_security'', ''off'', false)', 'try COMMIT',
           'prepare BEGIN', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('steal.reading_rules', 'connection', 'script', 'Another way to read the next client''s quotes.',
     ARRAY['prepare BEGIN', 'prepare SELECT set_config(''leyser.token'', {own_token}, true)', 'try SELECT set_config(''standard_conforming_strings'', ''off'', false)', 'try COMMIT',
           'prepare BEGIN', 'done SELECT set_config(''leyser.token'', {other_token}, true)']),
    ('steal.session_setting', 'connection', 'own', 'SET for the session while a token is set.', ARRAY['done SET search_path = pg_temp'])
$attempts$;
REVOKE ALL ON FUNCTION leyser.attack_context_attempts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_context_attempts() IS 'internal: attempts to forge a token, to switch the context, and to use what a connection''s former client left';

CREATE FUNCTION leyser.list_attempts()
    RETURNS TABLE (attempt text, on_each text, context text, what text, steps text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.attack_read_attempts()
    UNION ALL SELECT * FROM leyser.attack_write_attempts()
    UNION ALL SELECT * FROM leyser.attack_widen_attempts()
    UNION ALL SELECT * FROM leyser.attack_context_attempts()
$$;
REVOKE ALL ON FUNCTION leyser.list_attempts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_attempts() IS 'internal: the rows of view attack_attempt';

CREATE VIEW leyser.attack_attempt AS
    SELECT a.attempt, pg_catalog.split_part(a.attempt, '.', 1) AS family, a.on_each, a.context, a.what, a.steps FROM leyser.list_attempts() a;
COMMENT ON VIEW leyser.attack_attempt IS
    'the attempts of attack_tenant_separation(): name, family, on what each is made, with which context (own: a token of its own tenant; none; script: as its steps say), what it tries, and its steps (operator, auditor)';

-- ---- on what ----

-- The objects of each sort: for people, and as SQL.
CREATE FUNCTION leyser.attack_objects(role regrole, relation regclass, is_analyzed boolean) RETURNS TABLE (on_each text, object text, named text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE above AS (
        SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = attack_objects.relation
        UNION SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.inhparent
    ), dependent AS (
        SELECT w.ev_class AS oid FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = attack_objects.relation AND w.ev_class <> attack_objects.relation
        UNION SELECT w.ev_class FROM dependent v JOIN pg_depend d ON d.refobjid = v.oid AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> v.oid
    ), tenant_column AS (
        SELECT a.attname FROM leyser.table_record t JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum WHERE t.relation = attack_objects.relation
    )
    SELECT o.on_each, o.object, NULL FROM (VALUES ('table', attack_objects.relation::text), ('token', 'leyser.token'), ('connection', 'connection'), ('server', 'server'),
        ('role itself', attack_objects.role::text), ('large object', 'large objects')) o (on_each, object)
    UNION ALL SELECT 'statistics', attack_objects.relation::text, NULL WHERE is_analyzed
    UNION ALL SELECT 'application', attack_objects.role::text, NULL
        WHERE NOT EXISTS (SELECT FROM leyser.usage_record u WHERE u.role = attack_objects.role AND u.usage = 'gateway')
    UNION ALL SELECT 'part', m.member::text, format('%I.%I', n.nspname, c.relname) FROM leyser.family_of(attack_objects.relation) m
        JOIN pg_class c ON c.oid = m.member AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace WHERE m.member <> attack_objects.relation
    UNION ALL SELECT 'parent', c.oid::regclass::text, format('%I.%I', n.nspname, c.relname) FROM above a JOIN pg_class c ON c.oid = a.inhparent JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL SELECT 'view', c.oid::regclass::text, format('%I.%I', n.nspname, c.relname)
        FROM dependent d JOIN pg_class c ON c.oid = d.oid AND c.relkind IN ('v', 'm') JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE EXISTS (SELECT FROM pg_attribute a, tenant_column t WHERE a.attrelid = c.oid AND a.attname = t.attname AND a.attnum > 0)
    UNION ALL SELECT 'role', r.rolname, quote_ident(r.rolname) FROM pg_roles r WHERE r.oid <> attack_objects.role AND NOT pg_has_role(attack_objects.role, 10, 'MEMBER') AND pg_has_role(attack_objects.role, r.oid, 'MEMBER')
    UNION ALL SELECT 'setting', split_part(s.setting, ' ', 1), s.setting FROM unnest('{leyser.guards = off,leyser.context_switch = allow,leyser.context_scope = session,leyser.on_missing_context = hide,
        leyser.max_token_lifetime = 31622400,leyser.clock_leeway = 600,leyser.registry_work = on,session_replication_role = replica,allow_system_table_mods = on}'::text[]) s (setting)
    UNION ALL SELECT 'leyser', c.oid::regclass::text, format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'leyser' AND c.relkind = 'r' AND NOT starts_with(c.relname, 'proxy_')
$$;
REVOKE ALL ON FUNCTION leyser.attack_objects(regrole, regclass, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_objects(regrole, regclass, boolean) IS
    'internal: on what the attempts of an attack are made';

CREATE FUNCTION leyser.attack_attempts(role regrole, relation regclass, is_analyzed boolean)
    RETURNS TABLE (attempt text, object text, context text, steps text[], named text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attempt, o.object, a.context, a.steps, o.named
    FROM leyser.list_attempts() a JOIN leyser.attack_objects(role, relation, is_analyzed) o ON o.on_each = a.on_each
$$;
REVOKE ALL ON FUNCTION leyser.attack_attempts(regrole, regclass, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attack_attempts(regrole, regclass, boolean) IS
    'internal: the attempts of an attack, one for each object';
