# The canary: random markers in everything that a table can hold, searched in the
# raw files of the whole data directory, on the primary and on a standby.
#
# Three tenants lie interleaved in all tables.  One is deleted as everybody does
# it, with DELETE and VACUUM: thousands of its markers stay, so the search finds
# what there is.  Another one is purged, and of both there is nothing left; the
# third one's rows are the same, byte for byte, and the server's own checks of
# tables and indexes find no fault.

use strict;
use warnings;

use LeyserCanary;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $test_folder = "$ENV{PWD}/test";
my $primary = new_node('primary', init => { allows_streaming => 1 }, conf => q{
	allow_in_place_tablespaces = on
	max_wal_size = 256MB
	log_statement = none
});

$primary->safe_psql('postgres', q{CREATE TABLESPACE second LOCATION ''});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my @folders = ($primary->data_dir, $standby->data_dir);

sub caught_up
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	return;
}

sub checkpoints
{
	$primary->safe_psql('postgres', 'CHECKPOINT');
	caught_up();
	$standby->safe_psql('postgres', 'CHECKPOINT');
	return;
}

# Runs a file of test/canary.
sub run_file
{
	my ($file, @variables) = @_;

	$primary->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', (map { ('-v', $_) } @variables),
		'-d', $primary->connstr('postgres'), '-f', "$test_folder/canary/$file" ], $file);
	return;
}

# Everything that a tenant has, as one digest.
sub content_of
{
	my ($tenant) = @_;
	my $tables = $primary->safe_psql('postgres', q{
		SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		AND (relkind IN ('r', 'm') OR relkind = 'p' AND NOT relispartition) ORDER BY c.relname});

	return join("\n", map { $primary->safe_psql('postgres',
		"SELECT '$_', count(*), md5(string_agg(md5(t::text), ',' ORDER BY t::text)) FROM ONLY $_ t WHERE tenant_id = '$tenant'") }
		split /\n/, $tables);
}

# The events so far: ids and digests.
sub digests
{
	return $primary->safe_psql('postgres', q{SELECT event_id, digest FROM leyser.event_record
		WHERE event_id <= (SELECT max(event_id) FROM leyser.event_record WHERE event LIKE 'support.%') ORDER BY event_id});
}

# ---- rows ----

my %markers = (canary => make_markers(2000), control => make_markers(500), other => make_markers(2000, 'a' .. 'z'));
my $file = $primary->basedir . '/markers';
write_markers($file, %markers);
learn_known(@folders);
run_file('tables.sql', 'tablespace=second');
run_file('rows.sql', "markers=$file");
run_file('people.sql', "markers=$file");
$primary->safe_psql('postgres', q{
	CREATE INDEX ON long_value (tenant_id);
	SELECT leyser.protect(c.oid) FROM pg_class c
	WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
	  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid);
});
checkpoints();
cmp_ok(markers_found($markers{canary}, $_), '>', 1_000_000, "they are found in $_") foreach @folders;

# ---- as everybody does it ----

run_file('delete.sql', 'tenant=control');
$primary->safe_psql('postgres', $_) foreach 'VACUUM', 'ANALYZE', 'VACUUM';
checkpoints();
foreach my $folder (@folders)
{
	my $places = marker_places($markers{control}, "$folder/base", "$folder/pg_tblspc");
	my $sum = 0;

	$sum += $_ foreach values %$places;
	cmp_ok(scalar(keys %$places), '>', 15, 'DELETE and VACUUM leave them in many files besides WAL');
	cmp_ok($sum, '>', 20_000, '... and many of them');
}

# ---- the purge ----

my $content = content_of('other');
my $digests = digests();
cmp_ok($digests =~ tr/\n//, '>', 400, 'there are events');
$primary->safe_psql('postgres', q{SELECT leyser.terminate_contract('canary', 'now'::text)});
$primary->safe_psql('postgres', q{CALL leyser.purge('canary')}, timeout => 180);
is($primary->safe_psql('postgres', q{SELECT state FROM leyser.purge_status WHERE tenant_id = 'canary'}), 'erased', 'the purge ends');
caught_up();
ok($standby->poll_query_until('postgres',
	q{SELECT leyser.standby_scrubbed() = (SELECT scrub_end_lsn FROM leyser.purge_status WHERE tenant_id = 'canary')}),
	'... on the standby, too');
$standby->safe_psql('postgres', 'CHECKPOINT');
foreach my $tenant (qw(canary control))
{
	foreach my $folder (@folders)
	{
		my $places = marker_places($markers{$tenant}, $folder);

		is_deeply($places, {}, "no marker of $tenant in $folder");
	}
}

# ---- everything else ----

is(digests(), $digests, 'the events that were there have the digests that they had');
is($primary->safe_psql('postgres', q{
	SELECT tenant_id, count(*) > 100, bool_or(salt IS NOT NULL), bool_or(num_nonnulls(session_role, caller_role, client_address, account_id, object, detail) > 0)
	FROM leyser.event_record WHERE tenant_id IN ('canary', 'other') AND event <> 'purge.erased' GROUP BY 1 ORDER BY 1}), "canary|t|f|f\nother|t|t|t",
	'... those of the tenant without salt and content, those of others with both');
is($primary->safe_psql('postgres', q{
	SELECT (SELECT count(*) FROM leyser.account_record WHERE tenant_id = 'canary') + (SELECT count(*) FROM leyser.role_record WHERE tenant_id = 'canary')
		+ (SELECT count(*) FROM leyser.session_record WHERE tenant_id = 'canary') + (SELECT count(*) FROM leyser.permission_change WHERE tenant_id = 'canary')
		+ (SELECT count(*) FROM leyser.support_record WHERE tenant_id = 'canary') + (SELECT count(*) FROM leyser.issuer_key WHERE tenant_id = 'canary'),
		(SELECT count(*) FROM leyser.account_record WHERE tenant_id = 'other') > 100, (SELECT count(*) FROM leyser.grant_record) > 30}), '0|t|t',
	'its people are gone, others\' are there');
is(content_of('other'), $content, 'the other tenant has what it had');
$primary->safe_psql('postgres', 'CREATE EXTENSION amcheck; CHECKPOINT');
caught_up();
my $faults = q{
	SELECT c.oid::regclass, v.msg FROM pg_class c, verify_heapam(c.oid) v
	WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'};
is($_->safe_psql('postgres', $faults), '', 'verify_heapam() finds no fault in any table') foreach $primary, $standby;
$primary->command_ok([ 'pg_amcheck', '--heapallindexed', '--parent-check', '-d', 'postgres' ],
	'pg_amcheck finds none in tables and indexes');
$standby->command_ok([ 'pg_amcheck', '--heapallindexed', '-d', 'postgres' ], '... nor on the standby');
is($primary->safe_psql('postgres', q{
	SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indislive AND indisready)}), '0', 'all indexes are valid');
is($primary->safe_psql('postgres', q{
	SELECT count(DISTINCT starelid) > 10 FROM pg_statistic s JOIN pg_class c ON c.oid = starelid
	WHERE c.relnamespace = 'public'::regnamespace}), 't', 'statistics are there again');
is($primary->safe_psql('postgres', q{
	SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT count(*) FROM kept k WHERE tenant_id = 'other' AND EXISTS (SELECT FROM kept i WHERE i.t = k.t)}),
	$primary->safe_psql('postgres', q{SELECT count(*) FROM kept WHERE tenant_id = 'other'}), 'indexes find the rows');

done_testing();
