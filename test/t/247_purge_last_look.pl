# A purge that waits for somebody's word while all else is done: what comes to the
# tenant's rows, tables and registry meanwhile, and what was left to others, is looked
# at before it says "erased".

use strict;
use warnings;

use LeyserCanary;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('look', conf => 'autovacuum = off');
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('operator', 'operator');
	CREATE TABLE queue (tenant text, secret text) PARTITION BY LIST (tenant);
	CREATE TABLE queue_rest PARTITION OF queue DEFAULT;
	CREATE TABLE log (tenant_id text NOT NULL, n int) PARTITION BY RANGE (n);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO (10);
	SELECT leyser.declare_table('queue', 'by_rule', 'a queue', 'tenant = $1');
	SELECT leyser.protect('log');
	SELECT leyser.register_external_store('files');
});

sub confirm
{
	my ($tenant, $name) = @_;

	return $node->safe_psql('postgres', "SELECT leyser.confirm_external_erasure('$tenant', '$name')", extra_params => [ '-U', 'operator' ]);
}

# A purge that waits for the word on the store, and for nothing else.
sub waits_for_files
{
	my ($tenant) = @_;

	fill_tenants($node, 50, $tenant);
	$node->safe_psql('postgres', "INSERT INTO queue VALUES ('$tenant', 'x'); INSERT INTO log VALUES ('$tenant', 5)");
	queue_purges($node, '', $tenant);
	blockers_are($node, $tenant, '{external store files}', "the purge of $tenant waits for the store");
	return;
}

sub nothing_left
{
	my ($tenant) = @_;

	is_erased($node, $tenant, 'it ends');
	is($node->safe_psql('postgres', qq{SELECT (SELECT count(*) FROM queue WHERE tenant = '$tenant'), (SELECT count(*) FROM log WHERE tenant_id = '$tenant')}),
		'0|0', '... nor in the other tables');
	return;
}

# 1. Rows and tables come while it waits.
waits_for_files('rows');
$node->safe_psql('postgres', q{INSERT INTO customer VALUES ('rows', 1, 'again')});
confirm('rows', 'files');
nothing_left('rows');
waits_for_files('rule');
$node->safe_psql('postgres', q{INSERT INTO queue VALUES ('rule', 'again')});
confirm('rule', 'files');
nothing_left('rule');
waits_for_files('part');
$node->safe_psql('postgres', q{
	CREATE TABLE log_2 (tenant_id text NOT NULL, n int);
	INSERT INTO log_2 VALUES ('part', 15);
	ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM (10) TO (20);
	CREATE TABLE queue_part PARTITION OF queue FOR VALUES IN ('part');
});
confirm('part', 'files');
nothing_left('part');
is($node->safe_psql('postgres', q{SELECT string_agg(subject || ' ' || state, ', ' ORDER BY subject COLLATE "C") FROM leyser.purge_report('part') WHERE subject ~ '(log_2|queue_part)'}),
	'public.log_2 clean, public.queue_part clean', '... and the tables that came are scrubbed');

# 2. Nobody takes a table out of its plan.
waits_for_files('open');
is_refused($node, q{SELECT leyser.unprotect('item')}, 'LY008', 'a table that is purged is not unprotected', user => 'operator');
is_refused($node, q{SELECT leyser.unprotect('log')}, 'LY008', '... nor a parent', user => 'operator');
is_refused($node, q{SELECT leyser.unprotect('queue')}, 'LY008', '... nor undeclared', user => 'operator');
is_refused($node, q{SELECT leyser.declare_table('queue', 'ignored')}, 'LY008', '... nor declared something else', user => 'operator');
is_refused($node, q{SELECT leyser.declare_table('queue', 'by_rule', purge_condition => 'secret = $1')}, 'LY008', '... nor its rule changed', user => 'operator');
is_refused($node, q{SELECT leyser.protect('item', 'content')}, 'LY008', '... nor its tenant column', user => 'operator');
$node->safe_psql('postgres', q{SELECT leyser.declare_table('queue', 'by_rule', 'with another reason')}, extra_params => [ '-U', 'operator' ]);
pass('another reason may be given');
# whoever detaches one, or had begun before: the next plan names it
$node->safe_psql('postgres', q{INSERT INTO queue_rest VALUES ('open', 'again'); ALTER TABLE queue DETACH PARTITION queue_rest});
confirm('open', 'files');
wait_for_purge($node, 'open', q{last_error ~ 'queue_rest" stops it.*no longer declared'}, 'a table that was detached stops the purge');
$node->safe_psql('postgres', q{SELECT leyser.declare_table('queue_rest', 'by_rule', 'was detached', 'tenant = $1')}, extra_params => [ '-U', 'operator' ]);
nothing_left('open');
is($node->safe_psql('postgres', q{SELECT count(*) FROM queue_rest WHERE tenant = 'open'}), '0', '... nor in the detached one');
$node->safe_psql('postgres', q{ALTER TABLE queue ATTACH PARTITION queue_rest DEFAULT; SELECT leyser.unprotect('queue_rest')}, extra_params => [ '-U', 'postgres' ]);
# a condition that cannot be run may be replaced
waits_for_files('broken');
$node->safe_psql('postgres', q{ALTER TABLE queue RENAME COLUMN tenant TO customer});
confirm('broken', 'files');
wait_for_purge($node, 'broken', q{last_error ~ 'column "tenant" does not exist'}, 'a condition that cannot be run stops the purge');
$node->safe_psql('postgres', q{SELECT leyser.declare_table('queue', 'by_rule', purge_condition => 'customer = $1')}, extra_params => [ '-U', 'operator' ]);
is_erased($node, 'broken', '... until it is replaced');
$node->safe_psql('postgres', q{ALTER TABLE queue RENAME COLUMN customer TO tenant;
	SELECT leyser.declare_table('queue', 'by_rule', purge_condition => 'tenant = $1')});

# 3. What somebody else empties is scrubbed when that is said: large objects, with
# statistics of theirs, and a view that fails whenever it is refreshed.
learn_known($node->data_dir);
my $markers = make_markers(40);
my $place = join(',', map { "('$_')" } @$markers);
fill_tenants($node, 50, 'large');
$node->safe_psql('postgres', qq{
	CREATE TABLE document (tenant_id text NOT NULL, file oid, content text);
	CREATE INDEX ON document (tenant_id);
	SELECT leyser.protect('document');
	INSERT INTO document SELECT 'large', lo_from_bytea(0, m::bytea), m FROM (VALUES $place) v (m), generate_series(1, 3);
	CREATE TABLE switch (broken boolean);
	INSERT INTO switch VALUES (false);
	CREATE FUNCTION pass(x text) RETURNS text LANGUAGE plpgsql VOLATILE AS \$\$
	BEGIN
		IF (SELECT broken FROM public.switch) THEN RAISE 'it is broken'; END IF;
		RETURN x;
	END \$\$;
	CREATE MATERIALIZED VIEW contents AS SELECT pass(content) AS content, tenant_id FROM document
		UNION ALL SELECT pass('always'), NULL;
	CREATE INDEX ON contents (content);
	UPDATE switch SET broken = true;
	ANALYZE;
	CHECKPOINT;
}, extra_params => [ '-v', 'VERBOSITY=terse' ]);
queue_purges($node, '', 'large');
is_refused($node, q{SELECT leyser.confirm_external_erasure('large', 'materialized view public.contents')}, '42704', 'nobody knows yet that the view fails', user => 'operator');
blockers_are($node, 'large', '{confirmation large objects of public.document,confirmation materialized view public.contents}',
	'large objects and a view that fails are waited for, by their names');
like($node->safe_psql('postgres', q{SELECT detail FROM leyser.purge_report('large') WHERE subject ~ 'view' AND part = 'table'}), qr/its REFRESH fails: SQLSTATE P0001/, '... with the reason');
cmp_ok(markers_found($markers, $node->data_dir), '>', 0, 'their bytes are there');
$node->safe_psql('postgres', q{SELECT lo_unlink(oid) FROM pg_largeobject_metadata; UPDATE switch SET broken = false; REFRESH MATERIALIZED VIEW contents; CHECKPOINT});
confirm('large', 'large objects of public.document');
confirm('large', 'materialized view public.contents');
blockers_are($node, 'large', '{external store files}', '... then for the store alone');
confirm('large', 'files');
is_erased($node, 'large', 'the purge ends');
is(markers_found($markers, $node->data_dir), 0, 'and nothing is left of large objects, view and statistics');

# 4. The report of a purge that has ended stays what it was.
$node->safe_psql('postgres', q{SELECT leyser.drop_external_store('files')}, extra_params => [ '-U', 'operator' ]);
like($node->safe_psql('postgres', q{SELECT string_agg(part || ' ' || subject || ' ' || state || ' ' || detail, E'\n' ORDER BY subject) FROM leyser.purge_report('large') WHERE part IN ('external store', 'confirmation')}),
	qr/\Aexternal store files confirmed by operator at \d{4}-.*Z\nconfirmation large objects of public.document confirmed by operator at \d{4}.*Z\nconfirmation materialized view public.contents confirmed by operator at \d{4}.*Z\z/,
	'who confirmed what, and when, is told, also of a store that is dropped since');
$node->safe_psql('postgres', q{SELECT leyser.register_external_store('later')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_report('large') WHERE subject = 'later'}), '0', '... and no store that came later');
$node->safe_psql('postgres', q{SELECT leyser.drop_external_store('later')});

# 5. A temporary child of a protected table is its session's alone.
fill_tenants($node, 50, 'temporary');
my $session = open_session($node);
$session->query('CREATE TEMP TABLE mine () INHERITS (item)');
is($node->safe_psql('postgres', q{SELECT action FROM leyser.purge_plan('temporary') WHERE relation::text ~ 'mine$'}), 'keep', 'a temporary child is named');
queue_purges($node, '', 'temporary');
wait_for_purge($node, 'temporary', q{blockers::text ~ 'temporary table pg_temp_\d+\.mine'}, 'a purge waits for it');
$session->quit;
is_erased($node, 'temporary', '... until its session ends');

$node->stop;
done_testing();
