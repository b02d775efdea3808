# A hold against a purge that is at work: nothing is deleted once hold_purge() has
# returned, not by a server that was killed and started again either; released, the
# purge goes on to its end.  An external store keeps it open until it is confirmed.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('node');
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant('t1', 'First'), leyser.create_tenant('t2');
	CREATE TABLE item (tenant_id text NOT NULL, n int, note text);
	INSERT INTO item SELECT 't' || 1 + i % 2, i, md5(i::text) FROM generate_series(1, 40000) i;
	CREATE INDEX ON item (tenant_id);
	SELECT leyser.protect('item');
	SELECT leyser.register_external_store('bucket');
});

sub as_operator
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'operator' ]);
}

sub rows_of
{
	my ($tenant) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM item WHERE tenant_id = '$tenant'");
}

# Waits until the purge is in one of these states.
sub wait_for_state
{
	my ($states) = @_;

	$node->poll_query_until('postgres', "SELECT state IN ($states) FROM leyser.purge_status")
	  or die 'the purge is ' . $node->safe_psql('postgres', 'SELECT state, last_error, blockers FROM leyser.purge_status');
	return;
}

# Waits until some, and not all, is deleted.
sub wait_for_batch
{
	my ($below) = @_;

	$node->poll_query_until('postgres', "SELECT count(*) < $below FROM item WHERE tenant_id = 't1'") or die;
	return;
}

my $others = $node->safe_psql('postgres', q{SELECT count(*), sum(hashtextextended(i::text, 0)::numeric) FROM item i WHERE tenant_id = 't2'});

# Held before it began.
as_operator(q{SELECT leyser.terminate_contract('t1', now())});
as_operator(q{SELECT leyser.hold_purge('t1', 'audit', '2999-12-31')});
is_refused($node, q{CALL leyser.purge('t1')}, 'LY008', 'a held tenant is not purged', user => 'operator');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_record'), '0', '... nor is its purge queued');
as_operator(q{SELECT leyser.release_hold('t1')});

# Held at work: 5 batches a second.
as_operator(q{CALL leyser.purge('t1', batch_size => 500, max_rows_per_second => 2500, wait => false)});
for my $round (1 .. 3)
{
	wait_for_batch(rows_of('t1'));
	as_operator("SELECT leyser.hold_purge('t1', 'audit $round', '2999-12-31')");
	my $left = rows_of('t1');
	cmp_ok($left, '>', 0, "hold $round: in the middle of its work");
	if ($round == 3)
	{
		$node->stop('immediate');
		$node->start;
	}
	sleep 1.5;
	is(rows_of('t1'), $left, "hold $round: nothing is deleted any more");
	is($node->safe_psql('postgres', q{SELECT t.state, p.state FROM leyser.tenant t JOIN leyser.purge_status p USING (tenant_id)}),
		'held|held', "hold $round: tenant and purge say so");
	as_operator(q{SELECT leyser.release_hold('t1')});
	is($node->safe_psql('postgres', q{SELECT state <> 'held' FROM leyser.purge_status}), 't', "hold $round: released");
}

# It goes on by itself, up to what the database cannot know.
wait_for_state(q{'waiting'});
$node->poll_query_until('postgres', q{SELECT blockers::text ~ 'bucket' FROM leyser.purge_status}) or die;
is(rows_of('t1'), '0', 'released: all rows go');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.tenant WHERE tenant_id = 't1'}), 'terminated', '... but it is not called erased');
as_operator(q{SELECT leyser.hold_purge('t1', 'audit of the bucket', '2999-12-31')});
is_refused($node, q{SELECT leyser.confirm_external_erasure('t1', 'bucket')}, 'LY008', 'held: the store must keep its share, too',
	user => 'operator');
as_operator(q{SELECT leyser.release_hold('t1')});
as_operator(q{SELECT leyser.confirm_external_erasure('t1', 'bucket')});
wait_for_state(q{'erased'});
is($node->safe_psql('postgres', q{SELECT tenant_id, name IS NULL, state FROM leyser.tenant WHERE tenant_id = 't1'}), 't1|t|erased',
	'confirmed: erased, and a tombstone');
is($node->safe_psql('postgres', q{SELECT count(*), sum(hashtextextended(i::text, 0)::numeric) FROM item i WHERE tenant_id = 't2'}), $others,
	'the other tenant has its rows');
is_refused($node, q{SELECT leyser.hold_purge('t1', 'late', '2999-12-31')}, 'LY008', 'too late to hold', user => 'operator');
is_refused($node, q{SELECT leyser.release_hold('t1')}, 'LY008', '... or to release', user => 'operator');
is_refused($node, q{SELECT leyser.terminate_contract('t1', now())}, 'LY008', '... or to end', user => 'operator');
is_refused($node, q{SELECT leyser.cancel_termination('t1')}, 'LY008', '... or to go on', user => 'operator');

$node->stop;
done_testing();
