# What the disk keeps of files that are removed: nothing but zeros of those that a
# purge replaces, everything of those that others do.

use strict;
use warnings;

use LeyserCut;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', conf => 'autovacuum = off');

fill_tenants($node, 3000, qw(a b other));
$node->safe_psql('postgres', q{
	CREATE TABLE part (tenant_id text NOT NULL, id int, content text) PARTITION BY LIST (tenant_id);
	CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
	CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
	CREATE TABLE part_other PARTITION OF part DEFAULT;
	ALTER TABLE part_a ALTER content SET STORAGE EXTERNAL;
	CREATE INDEX ON part (tenant_id);
	CREATE INDEX part_content ON part (md5(content), id);
	SELECT leyser.protect('part');
	INSERT INTO part SELECT t, g, 'MARKER' || repeat(' of ' || t, 2000) FROM generate_series(1, 100) g, unnest('{a,b,other}'::text[]) t;
	CREATE INDEX item_content ON item (content);
	CREATE MATERIALIZED VIEW summary AS SELECT tenant_id, id, content FROM part;
});
$node->stop;
my $copies = start_with_copies($node);

# The files of a relation, its TOAST and their indexes.
sub files_of
{
	my $relations = join(',', map { "'$_'::regclass" } @_);

	return split /\n/, $node->safe_psql('postgres', qq{
		WITH r AS (SELECT c.oid, c.reltoastrelid FROM pg_class c WHERE c.oid IN ($relations)),
			t AS (SELECT oid FROM r UNION SELECT reltoastrelid FROM r)
		SELECT pg_relation_filenode(c.oid) FROM pg_class c
		WHERE c.oid IN (SELECT oid FROM t) OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM t))});
}

# As others do it.
my @files = files_of(qw(part_b summary));
$node->safe_psql('postgres', $_) foreach 'TRUNCATE part_b', 'REFRESH MATERIALIZED VIEW summary', 'REINDEX TABLE item', 'CHECKPOINT';
my $found = copies_of($copies, 'MARKER', @files);
cmp_ok($found->{copies}, '>=', 5, 'TRUNCATE and REFRESH give files back');
cmp_ok($found->{markers}, '>', 100, '... with all that was in them');
cmp_ok(copies_of($copies, 'item 100')->{markers}, '>', 0, 'REINDEX, too');

# As a purge does it.
forget_copies($copies);
@files = files_of(qw(part_a summary item_content item_purchase customer_pkey));
queue_purges($node, '', 'a');
is_erased($node, 'a', 'a tenant is purged');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.purge_report('a') WHERE subject = 'public.part_a'}), 'clean', '... with its partition');
$node->safe_psql('postgres', 'CHECKPOINT');
$found = copies_of($copies, 'MARKER', @files);
cmp_ok($found->{copies}, '>=', 8, 'it gives files back: of partitions, materialized views, indexes');
is($found->{written}, 0, '... which hold nothing but zeros');
is(copies_of($copies, 'MARKER')->{markers}, 0, 'no marker in any other file that was given back');
is(copies_of($copies, 'item 100')->{markers}, 0, '... nor what was in indexes');
my ($empty) = grep { !-s } glob "$copies/*";
is($empty, undef, 'no copy is empty');

$node->stop;
done_testing();
