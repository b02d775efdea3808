# References between the tables of two owners: the keys of the one are looked up by the
# other, a part at a time, however many there are.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('owners', conf => "autovacuum = off\nmax_wal_size = 4GB");
$node->safe_psql('postgres', q{
	CREATE ROLE one;
	CREATE ROLE two;
	SELECT leyser.create_tenant('large');
	CREATE TABLE parent (tenant_id text NOT NULL, id text PRIMARY KEY);
	CREATE TABLE child (parent text REFERENCES parent);
	ALTER TABLE parent OWNER TO one;
	ALTER TABLE child OWNER TO two;
	GRANT REFERENCES ON parent TO two;
	SELECT leyser.protect('parent');
	-- 290 MB in all, more than a value can have
	INSERT INTO parent SELECT 'large', g || repeat('x', 2600) FROM generate_series(1, 112000) g;
	INSERT INTO child SELECT id FROM parent WHERE id ~ '^(1|50000|112000)x';
	INSERT INTO child VALUES (NULL);
});
is($node->safe_psql('postgres', q{SELECT rows FROM leyser.purge_plan('large') WHERE relation = 'child'::regclass AND action = 'stop'}),
	'3', 'all references are counted');
$node->safe_psql('postgres', 'DELETE FROM child WHERE parent IS NOT NULL');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_plan('large') WHERE action = 'stop'}), '0', '... and none where there is none');

$node->stop;
done_testing();
