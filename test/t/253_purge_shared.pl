# What purges share is done once, and what a purge promises about its pace holds:
# at most so many rows a commit, and rows or pages a second.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = purge_node('shared', conf => 'autovacuum = off');

$node->safe_psql('postgres', q{
	CREATE EXTENSION pageinspect;
	-- rows of a tenant that lie together, in a table where most are others'
	CREATE TABLE dense (tenant_id text NOT NULL, id int);
	CREATE INDEX ON dense (tenant_id);
	SELECT leyser.protect('dense');
});
fill_tenants($node, 1000, qw(single pair1 pair2 paced other));
$node->safe_psql('postgres', q{
	INSERT INTO dense SELECT 'other', g FROM generate_series(1, 20000) g;
	INSERT INTO dense SELECT 'paced', g FROM generate_series(1, 2000) g;
	INSERT INTO dense SELECT 'other', g FROM generate_series(1, 20000) g;
});
my $other = fingerprint($node, 'other');
my $reader = open_session($node);
my $pid = $reader->query('SELECT pg_backend_pid()');

# How often tables of users were vacuumed so far.
sub vacuums
{
	return $node->safe_psql('postgres', q{SELECT pg_stat_force_next_flush(); SELECT pg_sleep(0.1);
		SELECT sum(vacuum_count) FROM pg_stat_user_tables WHERE schemaname = 'public'}) =~ s/\A\s+//r;
}

# Purges that all end their deletion, and then begin to scrub at the same moment.
sub purge_at_once
{
	my (@tenants) = @_;
	my $before = vacuums();

	$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customer');
	queue_purges($node, '', @tenants);
	blockers_are($node, $_, "{transaction $pid}", "$_: rows are deleted") foreach @tenants;
	$reader->query('COMMIT');
	is_erased($node, $_, "$_: is erased") foreach @tenants;
	return vacuums() - $before;
}

# ---- one scrub ----

my $single = purge_at_once('single');
cmp_ok($single, '>', 3, 'a purge vacuums the tables that it touched');
is(purge_at_once('pair1', 'pair2'), $single, 'two at once vacuum them no more often');
is($node->safe_psql('postgres', q{
	SELECT count(*) FILTER (WHERE a.scrubbed_since = b.scrubbed_since AND a.pages_scrubbed = b.pages_scrubbed AND a.indexes_rebuilt = b.indexes_rebuilt)
			= count(*), sum(a.indexes_rebuilt) >= 4, sum(a.pages_scrubbed) > 0
	FROM leyser.purge_table a JOIN leyser.purge_record p USING (purge_id)
	JOIN leyser.purge_table b ON b.relation = a.relation JOIN leyser.purge_record q ON q.purge_id = b.purge_id
	WHERE p.tenant_id = 'pair1' AND q.tenant_id = 'pair2' AND a.relation_name ~ '^public'}), 't|t|t',
	'... and each table was scrubbed, and its indexes rebuilt, once for both');

# ---- the pace ----

my ($batch, $limit) = (100, 500);
my @looks;
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customer');
queue_purges($node, ", batch_size => $batch, max_rows_per_second => $limit", 'paced');
for (1 .. 3000)
{
	# the statement began before it saw what it counts, and ended after it
	my ($from, $rows, $deleted, $to) = split(/\|/, $node->safe_psql('postgres', q{
		SELECT extract(epoch FROM statement_timestamp()), s.rows_deleted, s.deleted_at IS NOT NULL, extract(epoch FROM clock_timestamp())
		FROM leyser.purge_status s WHERE s.tenant_id = 'paced'}));
	push @looks, { from => $from, to => $to, rows => $rows };
	last if $deleted eq 't';
	usleep(20_000);
}
cmp_ok(scalar(@looks), '>', 20, 'a purge was watched');
my $fastest = 0;
foreach my $i (0 .. $#looks)
{
	foreach my $j ($i + 1 .. $#looks)
	{
		my $over = $looks[$j]{rows} - $looks[$i]{rows} - $limit * ($looks[$j]{to} - $looks[$i]{from});
		$fastest = $over if $over > $fastest;
	}
}
cmp_ok($fastest, '<=', $batch, '... that never was more than a batch ahead of its limit');
blockers_are($node, 'paced', "{transaction $pid}", 'its rows are deleted');
is($node->safe_psql('postgres', qq{
	SELECT r.relation::text, max(n.rows) <= $batch FROM unnest('{item,purchase,customer,dense}'::regclass[]) r (relation),
		LATERAL (SELECT count(*) AS rows FROM generate_series(0, pg_relation_size(r.relation) / 8192 - 1) b,
			heap_page_items(get_raw_page(r.relation::text, b::int)) i WHERE i.t_xmax <> 0 AND i.t_infomask & 2048 = 0
			AND age(i.t_xmax::text::xid) <= age((SELECT min(d.deleted_xid) FROM leyser.purge_record d WHERE d.tenant_id = 'paced')::xid) + 100000
			GROUP BY i.t_xmax::text) n
	GROUP BY 1 ORDER BY 1}), "customer|t\ndense|t\nitem|t\npurchase|t", 'no commit had more rows than a batch');
$reader->query('COMMIT');
$reader->quit;
is_erased($node, 'paced', 'paced: is erased');

# ---- the pace of the scrub ----

# A row of a tenant on each of many pages.
$node->safe_psql('postgres', q{
	CREATE TABLE broad (tenant_id text NOT NULL, id int, content text);
	ALTER TABLE broad ALTER content SET STORAGE PLAIN;
	CREATE INDEX ON broad (tenant_id);
	SELECT leyser.protect('broad');
	SELECT leyser.create_tenant(t) FROM unnest('{slow,quick}'::text[]) t;
	INSERT INTO broad SELECT t, g, repeat('x', n) FROM generate_series(1, 300) g, (VALUES (1, 'other', 7000), (2, 'slow', 100)) v (o, t, n) ORDER BY g, o;
});
$other = fingerprint($node, 'other');

# How many pages the worker is ahead of a limit, between any two looks at one pass.
sub furthest_ahead
{
	my ($limit, @seen) = @_;
	my $ahead = 0;

	foreach my $i (0 .. $#seen)
	{
		foreach my $j ($i + 1 .. $#seen)
		{
			next if $seen[$i]{pass} ne $seen[$j]{pass};
			my $over = $seen[$j]{block} - $seen[$i]{block} - $limit * ($seen[$j]{to} - $seen[$i]{from});
			$ahead = $over if $over > $ahead;
		}
	}
	return $ahead;
}

my $pace = 200;
my (%paces, %pages, @seen);
queue_purges($node, ", max_rows_per_second => $pace", 'slow');
my $looker = open_session($node);
for (1 .. 30000)
{
	my ($from, $state, $told, $allowed, $to) = split(/\|/, $looker->query(q{
		SELECT extract(epoch FROM statement_timestamp()), s.state, coalesce(a.query, ''), leyser.scrub_pace(), extract(epoch FROM clock_timestamp())
		FROM leyser.purge_status s LEFT JOIN pg_stat_activity a ON a.pid = leyser.purge_worker() WHERE s.tenant_id = 'slow'}));
	last if $state eq 'erased';
	$paces{$allowed} = 1 if $state eq 'scrubbing';
	push @seen, { pass => $1, block => $2, from => $from, to => $to } if $told =~ /^(\w+ public\.broad): block (\d+) of \d+$/;
	usleep(20_000);
}
$looker->quit;
is_erased($node, 'slow', 'a purge with a limit ends');
is(join(' ', keys %paces), $pace, '... its scrub goes by that limit');
$pages{ $_->{pass} }{ $_->{block} } = 1 foreach @seen;
cmp_ok(scalar(keys %{ $pages{$_} // {} }), '>', 5, "$_: it tells how far it is") foreach 'scrubbing public.broad', 'verifying public.broad';
cmp_ok(furthest_ahead($pace, @seen), '<=', $pace / 10, '... and no pass was more than a moment ahead of the limit');
is($node->safe_psql('postgres', qq{
	SELECT pages_scrubbed >= 300, 3 * pages_scrubbed <= $pace * extract(epoch FROM p.erased_at - p.deleted_at)
	FROM leyser.purge_table t JOIN leyser.purge_record p USING (purge_id) WHERE p.tenant_id = 'slow' AND relation = 'broad'::regclass}),
	't|t', '... VACUUM, zeroing and looking together took the time that they have to');

# One without a limit is not held up by the limits of others.
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('slower'); INSERT INTO broad SELECT 'slower', g, 'x' FROM generate_series(1, 5) g});
queue_purges($node, ', max_rows_per_second => 50', 'slower');
wait_for_purge($node, 'slower', q{state = 'scrubbing'}, 'a purge with a low limit is scrubbing');
is($node->safe_psql('postgres', 'SELECT leyser.scrub_pace()'), '50', '... slowly');
queue_purges($node, ', max_rows_per_second => 80', 'quick');
is($node->safe_psql('postgres', 'SELECT leyser.scrub_pace()'), '80', 'of two limits the higher one counts');
$node->safe_psql('postgres', q{CALL leyser.purge('quick', wait => false)});
is($node->safe_psql('postgres', 'SELECT leyser.scrub_pace()'), '0', '... and none where one purge has none');
is_erased($node, $_, "$_: is erased") foreach 'slower', 'quick';
is(fingerprint($node, 'other'), $other, 'the other tenant\'s rows are what they were');

$node->stop;
done_testing();
