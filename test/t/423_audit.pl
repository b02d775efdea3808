# audit() records what statements do to a table's rows: by tenant, with who did it,
# without the values that are redacted, chained like any event.  A tenant's
# administrators read the images, the provider's auditors do not.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('audit');
$node->safe_psql('postgres', q{
	CREATE ROLE auditor LOGIN; CREATE ROLE operator LOGIN; CREATE ROLE gateway LOGIN; CREATE ROLE owner_of_tables;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('operator', 'operator'), leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_tenant(t) FROM unnest('{t1,t2}'::text[]) t;
	SELECT leyser.create_account('ada', 't1');
	CREATE TABLE item (gone int, tenant_id text NOT NULL, id int NOT NULL, "Größe ""x""" text, secret text, at timestamptz DEFAULT '2026-01-02 03:04:05Z', PRIMARY KEY (tenant_id, id));
	ALTER TABLE item DROP COLUMN gone;
	CREATE TABLE part (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
	CREATE TABLE country (code text);
	CREATE VIEW seen AS SELECT tenant_id FROM item;
	CREATE TEMP TABLE passing (n int);
	ALTER TABLE item OWNER TO owner_of_tables;
	SELECT leyser.protect('item'), leyser.protect('part');
	GRANT SELECT, INSERT, UPDATE, DELETE ON item, part, part_1, country TO gateway;
	CALL leyser.tick();
});

sub as_operator
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'operator' ]);
}

# What events say since the last call.
my $seen = 0;
sub images
{
	my $rows = $node->safe_psql('postgres', "SELECT e.event, e.tenant_id, e.object, e.detail ->> 'rows', i.old, i.new FROM leyser.event_record e
		LEFT JOIN LATERAL leyser.audit_images(e.images) i ON true WHERE e.event ~ '^row|truncated' AND e.event_id > $seen ORDER BY e.tenant_id, e.event_id, i.row_number");
	$seen = $node->safe_psql('postgres', 'SELECT max(event_id) FROM leyser.event_record');
	return $rows;
}

# ---- what cannot be ----

for my $case ([ q{'seen'}, '42809' ], [ q{'leyser.tenant_record'}, '42809' ], [ q{'pg_class'}, '42809' ], [ q{'item', '{none}'}, '42703' ],
	[ q{'item', redact => '{gone}'}, '42703' ], [ q{'item', '{id}', '{secret}'}, '22023' ],
	[ q{'item', '{}'}, '22023' ], [ q{'item', '{id,NULL}'}, '22023' ], [ q{'item', redact => '{NULL}'}, '22023' ], [ 'NULL', '22004' ], [ q{'nothing'}, '42P01' ], [ '99999999', '42P01' ])
{
	is_refused($node, "SELECT leyser.audit($$case[0])", $$case[1], "refused: $$case[0]", user => 'operator');
}
is_refused($node, 'CREATE TEMP TABLE mine (n int); SELECT leyser.audit($$mine$$)', '42809', 'a temporary table');
is_refused($node, q{SELECT leyser.audit('item')}, '42501', 'not for everybody', user => 'auditor');
is_refused($node, q{SELECT leyser.unaudit('item')}, 'LY008', 'what is not audited', user => 'operator');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'leyser_audit'}), '0', 'nothing was done');

# ---- rows ----

as_operator(q{SELECT leyser.audit('item', redact => '{secret}')});
is($node->safe_psql('postgres', 'SELECT * FROM leyser.audited_table', extra_params => [ '-U', 'auditor' ]), 'item||{secret}', 'view audited_table');
images();
my $as_ada = "BEGIN; SELECT leyser.enter('t1', 'ada') \\g /dev/null\n";
sub act
{
	my ($sql, $end) = @_;

	$node->safe_psql('postgres', "$as_ada $sql; " . ($end // 'COMMIT'), extra_params => [ '-U', 'gateway' ]);
	return;
}
act(q{INSERT INTO item VALUES ('t1', 1, E'a"\n\\\\ü', 'hidden'), ('t1', 2, NULL, NULL)});
is(images(), join("\n", q{row.inserted|t1|public.item|2||{"at": "2026-01-02 03:04:05+00", "id": "1", "secret": {"redacted": true}, "tenant_id": "t1", "Größe \"x\"": "a\"\n\\\\ü"}},
	q{row.inserted|t1|public.item|2||{"at": "2026-01-02 03:04:05+00", "id": "2", "secret": null, "tenant_id": "t1", "Größe \"x\"": null}}), 'inserted rows, without what is redacted');
my $ada = $node->safe_psql('postgres', q{SELECT account_id FROM leyser.account_record});
is($node->safe_psql('postgres', q{SELECT session_role, caller_role, account_id FROM leyser.event_record WHERE event = 'row.inserted'}), "gateway|gateway|$ada", 'who did it');
act(q{SET LOCAL timezone = 'Asia/Tokyo'; SET LOCAL datestyle = 'German'; UPDATE item SET "Größe ""x""" = 'b', secret = 'other' WHERE id = 1});
is(images(), q(row.updated|t1|public.item|1|{"id": "1", "secret": {"redacted": true}, "tenant_id": "t1", "Größe \"x\"": "a\"\n\\\\ü"}|{"secret": {"redacted": true}, "Größe \"x\"": "b"}),
	'an updated row: its key and what changed, before and after, whatever the session\'s settings are');
act(q{DELETE FROM item WHERE id = 2});
like(images(), qr/^row\.deleted\|t1\|public\.item\|1\|\{.*"id": "2".*\}\|$/, 'a deleted row');
act(q{DELETE FROM item WHERE id = 77});
is(images(), '', 'no row, no event');
act(q{DELETE FROM item}, 'ROLLBACK');
is(images(), '', 'what is rolled back did not happen');
$node->safe_psql('postgres', q{INSERT INTO item VALUES ('t2', 1, 'x', 'y'), ('t1', 5, 'x', 'y'), ('t2', 2, 'x', 'y')});
is(images() =~ s/\|\{[^\n]*//gr, "row.inserted|t1|public.item|1|\nrow.inserted|t2|public.item|2|\nrow.inserted|t2|public.item|2|", 'a statement over tenants: an event for each');
$node->safe_psql('postgres', q{COPY item (tenant_id, id) FROM PROGRAM 'printf "t2\t9\n"'; MERGE INTO item USING (VALUES ('t2', 9)) v (t, i) ON item.tenant_id = v.t AND item.id = v.i
	WHEN MATCHED THEN UPDATE SET id = 10; SET session_replication_role = replica; DELETE FROM item WHERE id = 10});
is(images() =~ s/\|\{[^\n]*//gr, "row.inserted|t2|public.item|1|\nrow.updated|t2|public.item|1\nrow.deleted|t2|public.item|1", 'COPY, MERGE, and a replication role');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record WHERE images IS NOT NULL AND position('hidden'::bytea IN images) > 0}), '0', 'no redacted value is anywhere');

# Each event is a line of the server log, too: who, what, how many, and no row.
my $from = -s $node->logfile;
act(q{SET LOCAL timezone = 'Asia/Tokyo'; UPDATE item SET id = id WHERE id <= 5});
my @lines = slurp_file($node->logfile, $from) =~ /leyser event: (\{"event": "row\.[^\n]*)/g;
is(scalar(@lines), 1, 'a line of the server log for each event');
like($lines[0], qr/^\{"event": "row\.updated", "at": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "tenant_id": "t1", "session_role": "gateway", "caller_role": "gateway", "account_id": $ada, "object": "public\.item", "detail": \{"rows": \d+\}\}$/,
	'... says who, what and how many');
is($node->safe_psql('postgres', qq{SELECT (\$l\$$lines[0]\$l\$::jsonb ->> 'at')::timestamptz = at FROM leyser.event_record WHERE event = 'row.updated' ORDER BY event_id DESC LIMIT 1}), 't', '... and when');
images();

# A row that moves from one tenant to another: each is told what it had, or has.
$node->safe_psql('postgres', q{UPDATE item SET tenant_id = 't2', id = 4 WHERE tenant_id = 't1' AND id = 5});
is(images() =~ s/"at": "[^"]*", |, "secret": \{[^}]*\}//gr, join("\n", q(row.updated|t1|public.item|1|{"id": "5", "tenant_id": "t1", "Größe \"x\"": "x"}|),
	q(row.updated|t2|public.item|1||{"id": "4", "tenant_id": "t2", "Größe \"x\"": "x"})), 'a row that moves to another tenant');
$node->safe_psql('postgres', q{UPDATE item SET tenant_id = 't1', id = 5 WHERE tenant_id = 't2' AND id = 4});

# Values of every length around those of which the images tell otherwise.
images();
$node->safe_psql('postgres', q{INSERT INTO item (tenant_id, id, "Größe ""x""") SELECT 't2', 1000 + n, repeat('y', n) FROM unnest('{0,1,249,250,251,252,253,254,255,256,70000}'::int[]) n});
is($node->safe_psql('postgres', qq{SELECT string_agg(length(i.new ->> 'Größe "x"') || '', ',' ORDER BY i.row_number) FROM leyser.event_record e, LATERAL leyser.audit_images(e.images) i
	WHERE e.event_id > $seen}), '0,1,249,250,251,252,253,254,255,256,70000', 'values of any length');
$node->safe_psql('postgres', q{DELETE FROM item WHERE id >= 1000});
images();

# One that jsonb cannot hold does not keep a tenant's administrators from all else.
$node->safe_psql('postgres', q{INSERT INTO item (tenant_id, id, "Größe ""x""", secret, at) VALUES ('t2', 1000, repeat('y', 270000000), NULL, NULL)});
is(images(), q(row.inserted|t2|public.item|1||{"at": null, "id": "1000", "secret": null, "tenant_id": "t2", "Größe \"x\"": {"bytes": 270000000}}), 'a very long value tells its length');
$node->safe_psql('postgres', q{DELETE FROM item WHERE id >= 1000});
images();

# A new column is audited, a new name of a redacted one hides all.
$node->safe_psql('postgres', q{ALTER TABLE item ADD COLUMN more text DEFAULT 'm'; ALTER TABLE item DROP COLUMN at});
act(q{UPDATE item SET more = 'n' WHERE id = 1});
like(images(), qr/\|\{"more": "n"\}$/, 'a new column is audited');
$node->safe_psql('postgres', q{ALTER TABLE item RENAME secret TO concealed});
act(q{UPDATE item SET concealed = 'not seen' WHERE id = 1});
unlike(images(), qr/not seen|"n"/, 'where a redacted column has another name, nothing is shown');
as_operator(q{SELECT leyser.audit('item', '{id,concealed}', '{concealed}')});
images();
act(q{UPDATE item SET concealed = 'more', more = 'o' WHERE id = 1});
is(images(), q(row.updated|t1|public.item|1|{"id": "1", "concealed": {"redacted": true}}|{"concealed": {"redacted": true}}), 'only some columns');

# Partitions by themselves; TRUNCATE; a table without tenants.
as_operator(q{SELECT leyser.audit('part'), leyser.audit('country')});
images();
$node->safe_psql('postgres', q{INSERT INTO part VALUES ('t1', 1); INSERT INTO part_1 VALUES ('t2', 1); INSERT INTO country VALUES ('JP'); TRUNCATE country});
is(images() =~ s/\|\{[^\n]*//gr, "row.inserted|t1|public.part|1|\nrow.inserted|t2|public.part_1|1|\nrow.inserted||public.country|1|\ntable.truncated||public.country|||", 'partitions, shared tables, TRUNCATE');

# Rows that a trigger takes away while they move to another partition: the others are not
# taken for what became of them.
$node->safe_psql('postgres', q{
	CREATE TABLE moved (tenant_id text NOT NULL, id int, v text, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
	CREATE TABLE moved_1 PARTITION OF moved FOR VALUES FROM (0) TO (100);
	CREATE TABLE moved_2 PARTITION OF moved FOR VALUES FROM (100) TO (200);
	CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.v <> 'lost' THEN NEW END; END $$;
	CREATE TRIGGER lose BEFORE INSERT ON moved_2 FOR EACH ROW EXECUTE FUNCTION lose();
	SELECT leyser.protect('moved'), leyser.audit('moved');
	INSERT INTO moved VALUES ('t1', 1, 'a'), ('t1', 2, 'lost'), ('t1', 3, 'b')});
images();
$node->safe_psql('postgres', 'UPDATE moved SET id = id + 100');
is(images(), join("\n", (map { qq(row.updated|t1|public.moved|5|{"v": "$$_[1]", "id": "$$_[0]", "tenant_id": "t1"}|) } [ 1, 'a' ], [ 2, 'lost' ], [ 3, 'b' ]),
	map { qq(row.updated|t1|public.moved|5||{"v": "$$_[1]", "id": "$$_[0]", "tenant_id": "t1"}) } [ 101, 'a' ], [ 103, 'b' ]), 'rows that are lost while they move do not mix up the others');
$node->safe_psql('postgres', 'DELETE FROM moved; INSERT INTO moved VALUES ($$t1$$, 1, $$a$$)');
images();
$node->safe_psql('postgres', 'UPDATE moved SET id = id + 100');
is(images(), q(row.updated|t1|public.moved|1|{"id": "1", "tenant_id": "t1"}|{"id": "101"}), 'a row that only moves is a pair');
$node->safe_psql('postgres', q{SELECT leyser.unaudit('moved')});

# Many rows: an event for each piece, all rows in them.
$node->safe_psql('postgres', q{INSERT INTO item (tenant_id, id, concealed) SELECT 't2', g, 'x' FROM generate_series(100, 60099) g});
is($node->safe_psql('postgres', qq{SELECT count(*) > 1, sum((detail ->> 'rows')::int), (SELECT count(DISTINCT i.new ->> 'id') FROM leyser.event_record n,
	LATERAL leyser.audit_images(n.images) i WHERE n.event_id > $seen) FROM leyser.event_record WHERE event = 'row.inserted' AND event_id > $seen}), 't|60000|60000', 'many rows in pieces');
is($node->safe_psql('postgres', 'SELECT * FROM leyser.verify_events()', extra_params => [ '-U', 'auditor' ]), '', 'all are chained');
my $of = $node->safe_psql('postgres', q{SELECT max(event_id) FROM leyser.event_record WHERE images IS NOT NULL});
is($node->safe_psql('postgres', qq{SET leyser.guards = off; BEGIN;
	DO \$\$ BEGIN EXECUTE (SELECT string_agg(format('ALTER TABLE %s DISABLE TRIGGER ALL', r), ';') FROM (SELECT DISTINCT tableoid::regclass FROM leyser.event_record) t (r)); END \$\$;
	UPDATE leyser.event_record SET images = overlay(images placing 'Z' from 200) WHERE event_id = $of;
	SELECT tenant, event_id, problem FROM leyser.verify_events(); ROLLBACK}), "t2|$of|changed", '... and whoever changes an image is found');

# ---- who reads them ----

is($node->safe_psql('postgres', "$as_ada SELECT count(*) > 3, bool_and(event !~ 'x'), max(new ->> 'id') FROM leyser.tenant_event WHERE event ~ '^row'; COMMIT",
	extra_params => [ '-U', 'gateway' ]) =~ s/^\n//r, 't|t|5', 'an administrator reads the images of its own tenant');
$node->safe_psql('postgres', q{SELECT leyser.create_account('bob', 't2'), leyser.create_account('carol', 't1')});
is($node->safe_psql('postgres', q{BEGIN; SELECT leyser.enter('t1', 'carol') \g /dev/null
	SELECT count(*) FROM leyser.tenant_event; COMMIT}, extra_params => [ '-U', 'gateway' ]), '0', '... another account none');
is_refused($node, 'SELECT * FROM leyser.tenant_event', 'LY001', '... nobody without a context', user => 'gateway');
is_refused($node, $_, '42501', "... nor an auditor: $_", user => 'auditor') for 'SELECT * FROM leyser.tenant_event', 'SELECT images FROM leyser.event_record';
is($node->safe_psql('postgres', q{SELECT count(*) FROM information_schema.columns WHERE table_schema = 'leyser' AND table_name = 'event' AND column_name = 'images'}), '0',
	'... whose view has no images');

# ---- the end ----

as_operator(q{SELECT leyser.unaudit('item'), leyser.unaudit('part'), leyser.unaudit('country')});
images();
act(q{UPDATE item SET more = 'p'});
is(images(), '', 'what is no longer audited is not recorded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'leyser_audit'}), '0', '... and has no trigger');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record WHERE images IS NOT NULL}), '>', 5, '... but what was recorded stays');

# A purge takes the images with it.
as_operator(q{SELECT leyser.terminate_contract('t2', clock_timestamp())});
as_operator(q{CALL leyser.purge('t2')});
is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE images IS NOT NULL), count(*) FILTER (WHERE event = 'row.inserted') > 3 FROM leyser.event_record WHERE tenant_id = 't2'}), '0|t', 'a purge erases images');
is($node->safe_psql('postgres', 'SELECT * FROM leyser.verify_events()', extra_params => [ '-U', 'auditor' ]), '', '... and the chain is unbroken');

$node->stop;
done_testing();
