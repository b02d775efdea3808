# Unlogged tables, whose pages do not tell when they were changed: a purge ends while
# others write to them without a pause.

use strict;
use warnings;

use IPC::Run;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', conf => 'autovacuum = off');

fill_tenants($node, 300, qw(a other));
$node->safe_psql('postgres', q{
	CREATE UNLOGGED TABLE cart (tenant_id text NOT NULL, id int, content text, PRIMARY KEY (tenant_id, id)) WITH (fillfactor = 50);
	SELECT leyser.protect('cart');
	INSERT INTO cart SELECT t, g, 'a MARKER of ' || t FROM generate_series(1, 400) g, unnest('{a,other}'::text[]) t;
});

# updates leave the bytes of former versions in their pages, all the time
append_to_file($node->basedir . '/update.sql',
	q{UPDATE cart SET content = 'content ' || random() WHERE tenant_id = 'other' AND id % 4 = :client_id;});
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-M', 'prepared', '-T', '600', '-f', $node->basedir . '/update.sql', $node->connstr('postgres') ],
	'>', '/dev/null', '2>', '/dev/null');

queue_purges($node, '', 'a');
is_erased($node, 'a', 'the purge ends');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ '^UPDATE cart'}), 't', '... while others write');
$load->kill_kill;
is($node->safe_psql('postgres', q{SELECT pages_scrubbed > 0, pages_scrubbed <= pg_relation_size('cart') / current_setting('block_size')::int
	FROM leyser.purge_table WHERE relation = 'cart'::regclass}), 't|t', '... and went through its pages once, not again and again');
is($node->safe_psql('postgres', q{SELECT leyser.residue('cart', 'MARKER of a')}), '0', 'and nothing is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cart WHERE tenant_id = 'other'}), '400', '... but what others have');

$node->stop;
done_testing();
