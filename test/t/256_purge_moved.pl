# A purge that was under way when its database was dumped, or its standby promoted:
# what it knew of transactions and of the write-ahead log was said of another server.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('moved', conf => 'autovacuum = off', init => { allows_streaming => 1 });
fill_tenants($node, 50, 'dumped', 'promoted', 'ended', 'other');
my $before = fingerprint($node, 'other');

# 1. A state moves by the table of moves alone.
end_contracts($node, 'dumped', 'promoted', 'ended');
$node->safe_psql('postgres', q{BEGIN; SELECT leyser.queue_purge('dumped', 5000, 0, 'postgres'); COMMIT});
is_refused($node, q{SELECT leyser.move_purge(purge_id, 'erased') FROM leyser.purge_record}, 'LY008', 'a purge that is due does not become erased');
is_refused($node, q{SELECT leyser.move_purge(purge_id, 'scrubbing') FROM leyser.purge_record}, 'LY008', '... nor scrubbing');
$node->safe_psql('postgres', q{CALL leyser.purge('ended')});
is_refused($node, q{SELECT leyser.move_purge(purge_id, s) FROM leyser.purge_record p, unnest('{due,deleting,waiting,scrubbing,held,erased}'::text[]) s
	WHERE p.tenant_id = 'ended'}, 'LY008', 'one that is erased stays erased');

# 2. A dump of a purge that only waits for somebody's word.
is_erased($node, 'dumped', 'the first one has ended');
$node->safe_psql('postgres', q{SELECT leyser.register_external_store('files'); CALL leyser.purge('promoted', wait => false)});
blockers_are($node, 'promoted', '{external store files}', 'a purge waits for the store');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'it is dumped');
my $restored = new_node('restored', conf => 'autovacuum = off', extension => 0);
$restored->safe_psql('postgres', 'DROP EXTENSION IF EXISTS leyser; DROP EXTENSION IF EXISTS pgcrypto');
PostgreSQL::Test::Utils::run_log([ 'pg_restore', '-d', $restored->connstr('postgres'), $dump ]);
is($restored->safe_psql('postgres', q{SELECT leyser.standby_wanted() IS NULL, leyser.promoted_wanted() IS NULL,
	bool_and(scrub_end_lsn IS NULL) FROM leyser.purge_status}), 't|t|t', 'restored, it says nothing of this log');
# its fence lies elsewhere: somebody says that nothing is missing
$restored->safe_psql('postgres', 'SELECT leyser.initialize_keyring()');
$restored->safe_psql('postgres', q{CALL leyser.accept_fence('nothing is missing')});
# the dump was taken before a superuser wrote again, say
$restored->safe_psql('postgres', q{INSERT INTO customer VALUES ('promoted', 1, 'again')});
$restored->safe_psql('postgres', q{SELECT leyser.confirm_external_erasure('promoted', 'files'); CALL leyser.purge('promoted', wait => false)});
is_erased($restored, 'promoted', 'restored, it begins anew, and ends');
cmp_ok(purge_is($restored, 'promoted', 'tables_scrubbed'), '>', 3, '... after all tables were scrubbed there');
is(fingerprint($restored, 'other'), $before, '... and others keep what they have');
$restored->stop;

# 3. A standby that is promoted meanwhile.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
fill_tenants($node, 2000, 'late');
queue_purges($node, '', 'late');
blockers_are($node, 'late', '{external store files}', 'with a standby a purge waits for the store');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
$standby->safe_psql('postgres', q{SELECT leyser.confirm_external_erasure(t, 'files') FROM unnest('{late,promoted}'::text[]) t});
$standby->safe_psql('postgres', q{CALL leyser.purge('late', wait => false)});
is_erased($standby, 'late', 'it ends on the server that was promoted');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_ls_waldir() w, leyser.purge_record p
	WHERE p.tenant_id = 'late' AND w.name ~ '^[0-9A-F]{24}$' AND w.name < pg_walfile_name(p.scrub_end_lsn + 1)}), '0', '... whose write-ahead log it has cleared');
is($standby->safe_psql('postgres', q{SELECT scrub_timeline || ' ' || cleared_timeline FROM leyser.purge_record WHERE tenant_id = 'late'}), '2 2', '... of its own timeline');
ok($standby->poll_query_until('postgres', q{SELECT leyser.promoted_wanted() IS NULL AND count(*) = 0 FROM leyser.purge_record WHERE cleared_timeline <> 2}),
	'purges that had ended before are looked at there, too');
is(fingerprint($standby, 'other'), $before, '... and others keep what they have');

$standby->stop;
done_testing();
