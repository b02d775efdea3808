# Archiving that was turned off takes nothing back: what lies in the archive holds the
# erased tenant as before.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('archived', init => { allows_streaming => 1, has_archiving => 1 });
my $horizon = q{SELECT wal_archives, gone_at IS NULL FROM leyser.erasure_horizon WHERE tenant_id = 'gone'};

fill_tenants($node, 100, 'gone');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
ok($node->poll_query_until('postgres', 'SELECT archived_count > 0 FROM pg_stat_archiver'), 'the tenant is in the archive');
queue_purges($node, '', 'gone');
is_erased($node, 'gone', 'a tenant is erased');
$node->safe_psql('postgres', q{SELECT leyser.complete_backup(leyser.begin_backup('after', 'a disk', 'JP'),
	pg_current_wal_lsn(), pg_current_wal_lsn(), 1, NULL)});
is($node->safe_psql('postgres', $horizon), '{"of which nothing is known"}|t', 'nobody told of the archive');
$node->append_conf('postgresql.conf', 'archive_mode = off');
$node->restart;
is($node->safe_psql('postgres', $horizon), '{"of which nothing is known"}|t', 'nor when the server archives no longer');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.horizon_alerts() WHERE alert = 'archive unknown'}), '1', '... and an alert says so');
$node->safe_psql('postgres', q{SELECT leyser.record_wal_archive('the folder', NULL)});
is($node->safe_psql('postgres', $horizon), '{}|f', 'until somebody says that it is empty');

done_testing();
