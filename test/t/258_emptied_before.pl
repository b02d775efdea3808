# What was emptied before the purge, and so is in no row any longer: large objects that
# are unlinked, and a materialized view whose statistics remain.

use strict;
use warnings;

use LeyserCanary;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('emptied', conf => 'autovacuum = off');
my $objects = make_markers(40);
my $values = make_markers(20);

sub list_of
{
	return join(',', map { "('$_')" } @{ $_[0] });
}

sub plan_of
{
	my ($relation) = @_;

	return $node->safe_psql('postgres', "SELECT action, note FROM leyser.purge_plan('a') WHERE relation = '$relation'::regclass");
}

learn_known($node->data_dir);
fill_tenants($node, 50, qw(a other));
$node->safe_psql('postgres', q{
	CREATE TABLE document (tenant_id text NOT NULL, file oid, content text);
	CREATE INDEX ON document (tenant_id);
	SELECT leyser.protect('document');
	INSERT INTO document SELECT 'other', lo_from_bytea(0, 'of another'), 'of another';
	INSERT INTO document SELECT 'a', lo_from_bytea(0, m::bytea), NULL FROM (VALUES } . list_of($objects) . q{) v (m);
	INSERT INTO document SELECT 'a', NULL, m FROM (VALUES } . list_of($values) . q{) v (m), generate_series(1, 20);
	CREATE MATERIALIZED VIEW contents AS SELECT content FROM document;
	CREATE INDEX ON contents (upper(content));
	ANALYZE contents;
});
is(plan_of('contents'), 'refresh|it reads tables that are emptied', 'a view that holds rows is refreshed');
like(plan_of('pg_largeobject'), qr/^confirm\|.*\nscrub\|once that is confirmed$/, 'large objects that are there are confirmed');
$node->safe_psql('postgres', q{
	SELECT lo_unlink(file) FROM document WHERE tenant_id = 'a' AND file IS NOT NULL;
	REFRESH MATERIALIZED VIEW contents WITH NO DATA;
	CHECKPOINT;
});
cmp_ok(markers_found($objects, $node->data_dir), '>', 0, 'large objects leave their bytes');
cmp_ok(markers_found($values, $node->data_dir), '>', 0, 'a view leaves its statistics');
is(plan_of('contents'), 'scrub|it holds no rows, but perhaps statistics of former ones', 'a view without rows is scrubbed');
is(plan_of('pg_largeobject'), 'scrub|for large objects that are unlinked already', 'and so are large objects that are unlinked');
queue_purges($node, '', 'a');
is_erased($node, 'a', 'the purge ends without anybody\'s word');
is(markers_found($objects, $node->data_dir), 0, '... and nothing is left of large objects');
is(markers_found($values, $node->data_dir), 0, '... nor of statistics');
is($node->safe_psql('postgres', q{SELECT relispopulated FROM pg_class WHERE relname = 'contents'}), 'f', 'the view stays empty');
is($node->safe_psql('postgres', q{SELECT convert_from(lo_get(file), 'UTF8') FROM document}), 'of another', 'and others\' large objects are as they were');

$node->stop;
done_testing();
