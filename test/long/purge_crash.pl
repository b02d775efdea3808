# The server is killed at random moments of purges, in all of their phases: each time
# they end by themselves, with the same result, and no byte of their tenants is left.

use strict;
use warnings;

use LeyserCanary;
use LeyserCrash qw(kill_postmaster);
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = $ENV{LEYSER_ROUNDS} // 30;
my $node = purge_node('purge', conf => "autovacuum = off\nfsync = on\nrestart_after_crash = on");

fill_tenants($node, 2000, 'other');
my $other = fingerprint($node, 'other');
learn_known($node->data_dir);

# Rows with markers, which an index holds, too.
sub fill_markers
{
	my ($tenant, $file) = @_;
	my $markers = make_markers(300);

	write_markers($file, $tenant => $markers);
	$node->safe_psql('postgres', qq{
		CREATE TEMP TABLE marker (tenant_id text, id int, m text);
		COPY marker FROM '$file';
		INSERT INTO item SELECT tenant_id, 10000 + id, 1 + id % 100, m FROM marker;
		ANALYZE item});
	unlink $file or die "could not remove $file: $!";
	return $markers;
}

# In which phase the purges are, as the worker and the tables say.
sub phase
{
	my ($tenant) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT CASE WHEN p.state = 'erased' THEN 'ended'
			WHEN p.deleted_at IS NULL THEN CASE WHEN p.pass = 0 THEN 'queued' ELSE 'deleting' END
			WHEN p.wal_at IS NOT NULL THEN 'at the end'
			WHEN p.statistics_at IS NULL THEN CASE WHEN s.scrubbed = 0 THEN 'before the scrub'
				WHEN s.scrubbed < s.tables THEN 'scrubbing' ELSE 'statistics' END
			WHEN s.verified < s.tables THEN 'looking' ELSE 'write-ahead log' END
		FROM leyser.purge_record p, LATERAL (
			SELECT count(*) AS tables, count(t.scrubbed_at) AS scrubbed, count(t.verified_at) AS verified
			FROM leyser.purge_table t WHERE t.purge_id = p.purge_id AND t.action NOT IN ('keep', 'confirm')) s
		WHERE p.tenant_id = '$tenant'});
}

# The worker alone, which takes all sessions with it; the server's first process, whose
# children do not notice at once; all of them together.
my @kills = (
	sub {
		my $pid = $node->safe_psql('postgres', 'SELECT leyser.purge_worker()');

		kill 'KILL', $pid if $pid ne '';
		wait_for_server($node);
	},
	sub {
		kill_postmaster($node);
		$node->start;
	},
	sub {
		$node->stop('immediate');
		$node->start;
	});

$node->safe_psql('postgres', 'CREATE INDEX item_content ON item (content)');
my %phases;
# how long a purge takes here, so that the kills fall into all of it
fill_tenants($node, 2000, qw(measured1 measured2));
queue_purges($node, ', batch_size => 200', qw(measured1 measured2));
my $began = time;
is_erased($node, $_, "$_: a purge that nobody kills") foreach qw(measured1 measured2);
my $duration = time - $began;

for my $round (1 .. $rounds)
{
	my @tenants = map { "t$round$_" } qw(a b);

	fill_tenants($node, 2000, @tenants);
	my $markers = fill_markers($tenants[0], $node->basedir . '/markers');
	queue_purges($node, ', batch_size => 200', @tenants);
	usleep(1_000_000 * $duration * ($round - rand) / $rounds);
	my $phase = phase($tenants[0]);
	$phases{$phase}++;

	$kills[$round % @kills]->();
	is_erased($node, $_, "round $round ($phase): tenant $_ is erased") foreach @tenants;
	is(fingerprint($node, 'other'), $other, '... and the other tenant\'s rows are what they were');
	is_deeply(marker_places($markers, $node->data_dir), {}, '... and no marker is left in any file');
}
note(join(', ', map { "$_: $phases{$_}" } sort keys %phases));
cmp_ok(scalar(grep { $_ ne 'ended' && $_ ne 'queued' } keys %phases), '>=', $rounds < 30 ? 1 : 3, 'kills fell into different phases: ' . join(', ', sort keys %phases));
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_status WHERE state <> 'erased'}), '0', 'no purge is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE NOT indisvalid}), '0', 'no index is left half built');
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
is($node->safe_psql('postgres', q{SELECT count(bt_index_parent_check(i.indexrelid, true)) > 0 FROM pg_index i
	JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
	WHERE a.amname = 'btree' AND c.relpersistence <> 't'}), 't', 'indexes are sound');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class c, verify_heapam(c.oid) WHERE c.relkind IN ('r', 't', 'm')}),
	'0', 'tables are sound');
$node->stop;
done_testing();
