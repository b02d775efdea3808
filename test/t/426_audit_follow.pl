# An audited table stays audited: its owner cannot take the triggers off, partitions and
# children that come later are audited from the start, and a dump carries it all.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('follow');
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN; CREATE ROLE auditor LOGIN; CREATE ROLE owner_of_tables LOGIN;
	SELECT leyser.grant_usage('operator', 'operator'), leyser.grant_usage('auditor', 'auditor');
	SELECT leyser.create_tenant('t1');
	CREATE SCHEMA shop AUTHORIZATION owner_of_tables;
	GRANT USAGE ON SCHEMA shop TO operator;
	CREATE EXTENSION IF NOT EXISTS pgcrypto;
	GRANT CREATE ON DATABASE postgres TO owner_of_tables;
});

sub as_owner
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'owner_of_tables' ]);
}

sub audited
{
	return $node->safe_psql('postgres', q{SELECT string_agg(relation || coalesce(' ' || columns::text, '') || coalesce(' ' || redacted::text, ''), ', ' ORDER BY relation::text COLLATE "C") FROM leyser.audited_table},
		extra_params => [ '-U', 'auditor' ]);
}

# Events of rows since the last call: object and rows.
my $seen = 0;
sub recorded
{
	my $told = $node->safe_psql('postgres', "SELECT string_agg(event || ' ' || object || ' ' || (detail ->> 'rows'), ', ' ORDER BY event_id) FROM leyser.event_record WHERE event ~ '^row' AND event_id > $seen");
	$seen = $node->safe_psql('postgres', 'SELECT max(event_id) FROM leyser.event_record');
	return $told;
}

as_owner(q{
	CREATE TABLE shop.sale (tenant_id text, n int, "Größe ""x"",y\\" text) PARTITION BY LIST (n);
	CREATE TABLE shop.sale_1 PARTITION OF shop.sale FOR VALUES IN (1);
	CREATE TABLE shop.base (tenant_id text, note text);
	CREATE TABLE shop.other (n int);
	CREATE TABLE shop.base_old () INHERITS (shop.base);
});
$node->safe_psql('postgres', q{SELECT leyser.audit('shop.sale', redact => ARRAY[E'Größe "x",y\\\\']), leyser.audit('shop.base', '{note}')}, extra_params => [ '-U', 'operator' ]);
my $redacted = q({"Größe \"x\",y\\\\"});
is(audited(), "shop.base {note} {}, shop.base_old {note} {}, shop.sale $redacted, shop.sale_1 $redacted", 'tables, with those below them');

# ---- later ones ----

as_owner(q{
	CREATE TABLE shop.sale_2 PARTITION OF shop.sale FOR VALUES IN (2) PARTITION BY LIST (tenant_id);
	CREATE TABLE shop.sale_2_t1 PARTITION OF shop.sale_2 FOR VALUES IN ('t1');
	CREATE TABLE shop.sale_3 (LIKE shop.sale);
	CREATE TABLE shop.base_new () INHERITS (shop.base);
	CREATE TABLE shop.base_far () INHERITS (shop.base_new);
	CREATE TABLE shop.base_late (tenant_id text, note text);
	CREATE SCHEMA AUTHORIZATION owner_of_tables CREATE TABLE sale_4 PARTITION OF shop.sale FOR VALUES IN (4);
	DO $$ BEGIN EXECUTE 'CREATE TABLE shop.sale_5 PARTITION OF shop.sale FOR VALUES IN (5)'; END $$;
	CREATE TABLE shop.apart () INHERITS (shop.other);
});
as_owner(q{ALTER TABLE shop.sale ATTACH PARTITION shop.sale_3 FOR VALUES IN (3)});
as_owner(q{ALTER TABLE shop.base_late INHERIT shop.base});
is(audited(), "owner_of_tables.sale_4 $redacted, " . join(', ', map { "shop.$_ {note} {}" } qw(base base_far base_late base_new base_old)) . ', '
	. join(', ', map { "shop.$_ $redacted" } qw(sale sale_1 sale_2 sale_2_t1 sale_3 sale_5)), 'partitions and children that come later are audited alike, and no others');
is($node->safe_psql('postgres', q{SELECT count(*), bool_and(tgenabled = 'A') FROM pg_trigger WHERE tgfoid = 'leyser.audit_statement()'::regprocedure}), '48|t', '... by triggers that always fire');
is($node->safe_psql('postgres', q{SELECT string_agg(object || ' ' || (detail ->> 'follows'), ', ' ORDER BY event_id) FROM leyser.event WHERE event = 'table.audited' AND detail ? 'follows' AND object ~ 'sale_2|late'}),
	'shop.sale_2 shop.sale, shop.sale_2_t1 shop.sale_2, shop.base_late shop.base', '... which is an event');
recorded();
as_owner(q{INSERT INTO shop.sale_2_t1 VALUES ('t1', 2); INSERT INTO shop.sale_3 VALUES ('t1', 3); INSERT INTO shop.sale VALUES ('t1', 1), ('t1', 2); UPDATE shop.base_far SET note = 'x'; INSERT INTO shop.base_far VALUES ('t1', 'a');
	SET search_path = public; UPDATE shop.sale_2 SET n = 2; DELETE FROM owner_of_tables.sale_4; DELETE FROM shop.sale_3});
is(recorded(), 'row.inserted shop.sale_2_t1 1, row.inserted shop.sale_3 1, row.inserted shop.sale 2, row.inserted shop.base_far 1, row.updated shop.sale_2 2, row.deleted shop.sale_3 1',
	'what names a partition or child is recorded');
as_owner(q{ALTER TABLE shop.sale DETACH PARTITION shop.sale_3});
as_owner(q{INSERT INTO shop.sale_3 VALUES ('t1', 3)});
is(recorded(), 'row.inserted shop.sale_3 1', 'so is what is detached');
is($node->safe_psql('postgres', q{BEGIN; CREATE TABLE shop.sale_6 PARTITION OF shop.sale FOR VALUES IN (6); ROLLBACK; SELECT count(*) FROM leyser.event WHERE object = 'shop.sale_6'}), '0', 'what is rolled back did not come');

# ---- nobody takes the triggers off ----

for my $user (qw(owner_of_tables postgres))
{
	is_refused($node, $_, 'LY007', "$user: $_", user => $user)
	  for 'DROP TRIGGER leyser_audit_update ON shop.sale', 'DROP TRIGGER IF EXISTS leyser_audit_update ON shop.sale_1', 'ALTER TABLE shop.sale DISABLE TRIGGER ALL', 'ALTER TABLE shop.sale_1 DISABLE TRIGGER USER',
	  'ALTER TABLE shop.sale_2_t1 DISABLE TRIGGER leyser_audit_insert', 'ALTER TABLE shop.base ENABLE TRIGGER leyser_audit_insert', 'ALTER TABLE shop.base ENABLE REPLICA TRIGGER leyser_audit_insert',
	  'ALTER TABLE shop.base ENABLE TRIGGER ALL', 'ALTER TABLE shop.base ADD COLUMN more int, DISABLE TRIGGER ALL', 'ALTER TRIGGER leyser_audit_insert ON shop.base RENAME TO gone',
	  'ALTER TRIGGER leyser_audit_insert ON shop.base DEPENDS ON EXTENSION pgcrypto',
	  'CREATE OR REPLACE TRIGGER leyser_audit_truncate AFTER TRUNCATE ON shop.base EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	  q{DO $$ BEGIN EXECUTE 'ALTER TABLE shop.base DISABLE TRIGGER ALL'; END $$};
}

# ---- nor writes through a parent that has none ----

as_owner(q{CREATE TABLE shop.above (tenant_id text, note text); CREATE TABLE shop.root (LIKE shop.sale) PARTITION BY LIST (n);
	CREATE TABLE shop.root_9 PARTITION OF shop.root FOR VALUES IN (9); CREATE TABLE shop.apart_9 (LIKE shop.sale); CREATE TABLE shop.below () INHERITS (shop.above)});
$node->safe_psql('postgres', q{SELECT leyser.audit('shop.apart_9')}, extra_params => [ '-U', 'operator' ]);
is_refused($node, $_, 'LY007', $_, user => 'owner_of_tables')
  for 'ALTER TABLE shop.base INHERIT shop.above', 'ALTER TABLE shop.base_old INHERIT shop.above', 'ALTER TABLE shop.root ATTACH PARTITION shop.apart_9 FOR VALUES IN (8)',
  'CREATE TABLE shop.both () INHERITS (shop.above, shop.base)';
is_refused($node, "SELECT leyser.audit('$_')", '55000', "$_ by itself", user => 'operator') for 'shop.root_9', 'shop.below';
$node->safe_psql('postgres', q{SELECT leyser.unaudit('shop.apart_9')}, extra_params => [ '-U', 'operator' ]);
as_owner(q{ALTER TABLE shop.base_late NO INHERIT shop.base; ALTER TABLE shop.base_late INHERIT shop.base; DROP TABLE shop.above CASCADE; DROP TABLE shop.root; DROP TABLE shop.apart_9});

recorded();
$node->safe_psql('postgres', q{SET session_replication_role = replica; INSERT INTO shop.sale_1 VALUES ('t1', 1)});
is(recorded(), 'row.inserted shop.sale_1 1', 'a replication role has its rows recorded, too');
as_owner(q{CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER own AFTER INSERT ON shop.base FOR EACH STATEMENT EXECUTE FUNCTION shop.nothing();
	ALTER TABLE shop.base DISABLE TRIGGER own; ALTER TABLE shop.base ENABLE TRIGGER own; ALTER TRIGGER own ON shop.base RENAME TO mine; DROP TRIGGER mine ON shop.base;
	ALTER TABLE shop.base ADD COLUMN more int; ALTER TABLE shop.other DISABLE TRIGGER ALL});
ok(1, 'the owner\'s own triggers are the owner\'s');
my $log = -s $node->logfile;
$node->safe_psql('postgres', 'SET leyser.guards = off; BEGIN; ALTER TABLE shop.base DISABLE TRIGGER ALL; ROLLBACK');
like(slurp_file($node->logfile, $log), qr/not refused, for leyser.guards is off: table is audited/, 'without guards the server log tells');

# ---- a dump ----

my $before = audited();
my $dump = "$PostgreSQL::Test::Utils::tmp_check/follow.sql";
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-o', '/dev/null', '-f', $dump ], '... is restored under the guards');
is($node->safe_psql('restored', q{SELECT string_agg(relation || coalesce(' ' || columns::text, '') || coalesce(' ' || redacted::text, ''), ', ' ORDER BY relation::text COLLATE "C") FROM leyser.audited_table}), $before,
	'what is audited is in it');
is($node->safe_psql('restored', q{SELECT bool_and(tgenabled = 'A') FROM pg_trigger WHERE tgfoid = 'leyser.audit_statement()'::regprocedure}), 't', '... and always');
is($node->safe_psql('restored', q{SELECT max(event_id) AS last FROM leyser.event_record \gset
	CREATE TABLE shop.sale_7 PARTITION OF shop.sale FOR VALUES IN (7); INSERT INTO shop.sale_7 VALUES ('t1', 7);
	SELECT event, object FROM leyser.event_record WHERE event_id > :last ORDER BY event_id}), "table.audited|shop.sale_7\nrow.inserted|shop.sale_7", '... later partitions, too');

# ---- the end ----

$node->safe_psql('postgres', q{SELECT leyser.unaudit('shop.sale'), leyser.unaudit('shop.base')}, extra_params => [ '-U', 'operator' ]);
is(audited(), "shop.sale_3 $redacted", 'all end together, save what was detached');
as_owner('CREATE TABLE shop.sale_8 PARTITION OF shop.sale FOR VALUES IN (8); DROP TABLE shop.sale_3');
is(audited(), '', 'what comes then is not audited');

# ---- tables that are dropped ----

# The names of tables whose audit ended with them, since an event.
sub dropped
{
	my ($since) = @_;
	return $node->safe_psql('postgres', qq{SELECT string_agg(object, ', ' ORDER BY object) FROM leyser.event_record
		WHERE event = 'table.unaudited' AND detail @> '{"dropped": true}' AND event_id > $since});
}

is(dropped(0), 'shop.sale_3', 'the end of an audited table is an event');
as_owner(q{
	CREATE TABLE shop."Old ""Stock""" (n int);
	CREATE TABLE shop.lot (n int) PARTITION BY LIST (n);
	CREATE TABLE shop.lot_1 PARTITION OF shop.lot FOR VALUES IN (1);
	CREATE TYPE shop.pair AS (a int, b int);
	CREATE TABLE shop.pairs OF shop.pair;
	CREATE TABLE shop.plain (n int);
});
$node->safe_psql('postgres', q{SELECT leyser.audit('shop.lot'), leyser.audit('shop.pairs'), leyser.audit('shop."Old ""Stock"""')}, extra_params => [ '-U', 'operator' ]);
my $since = $node->safe_psql('postgres', 'SELECT max(event_id) FROM leyser.event_record');
as_owner(q{BEGIN; DROP TABLE shop.lot; ROLLBACK; DROP TABLE shop.plain; DROP TABLE IF EXISTS shop.nothing});
is(dropped($since), '', 'not where it is rolled back, or was none');
as_owner('DROP TYPE shop.pair CASCADE');
is(dropped($since), 'shop.pairs', 'it may go with its type');
$node->safe_psql('postgres', 'SET leyser.guards = off; DROP SCHEMA shop CASCADE');
is(dropped($since), 'shop."Old ""Stock""", shop.lot, shop.lot_1, shop.pairs', '... and with its schema, without guards, too: partitions by name');
is($node->safe_psql('postgres', 'SELECT * FROM leyser.verify_events()'), '', 'the log is whole');

$node->stop;
done_testing();
