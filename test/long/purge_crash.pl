# The server is killed at random moments of purges, some at the end: each time they
# end by themselves, with the same result.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{LEYSER_ROUNDS} // 30;
my $node = purge_node('purge', conf => "autovacuum = off\nfsync = on\nrestart_after_crash = on");

fill_tenants($node, 2000, 'other');
my $other = fingerprint($node, 'other');

for my $round (1 .. $rounds)
{
	my @tenants = map { "t$round$_" } qw(a b);

	fill_tenants($node, 2000, @tenants);
	queue_purges($node, ', batch_size => 200', @tenants);
	usleep(rand 3_000_000);
	my $state = purge_is($node, $tenants[0], q{state || ', ' || tables_scrubbed || ' scrubbed'});

	if ($round % 2)
	{
		my $pid = $node->safe_psql('postgres', 'SELECT leyser.purge_worker()');
		kill 'KILL', $pid if $pid ne '';
		wait_for_server($node);
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	is_erased($node, $_, "round $round ($state): tenant $_ is erased") foreach @tenants;
	is(fingerprint($node, 'other'), $other, '... and the other tenant\'s rows are what they were');
}
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
