# Copies that live beside the original, with its identity and its directory of fences:
# a server that was restored to try it, a database that was made from a template.
# What they erase is no business of the original.

use strict;
use warnings;

use LeyserPurge;
use LeyserRestore;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $other = qr/keeps the fence/;

sub fence_blocker_ok
{
	my ($node, $database, $name) = @_;

	ok($node->poll_query_until($database, q{SELECT EXISTS (SELECT FROM leyser.purge_status s, unnest(s.blockers) b
		WHERE s.tenant_id = 'trial' AND b ~ 'keeps the fence')}), $name)
	  or diag($node->safe_psql($database, 'SELECT * FROM leyser.purge_status'));
	return;
}

sub original_ok
{
	my ($node, $name) = @_;

	sound_ok($node, $name);
	is($node->safe_psql('postgres', q{SELECT leyser.tenant_is_active('trial'), leyser.restore_is_held(),
		(SELECT string_agg(state, ',') FROM leyser.signing_key)}), 't|f|active', "$name: nothing is locked, held or retired");
	return;
}

my $primary = purge_node('primary', init => { allows_streaming => 1 });
fill_tenants($primary, 50, qw(kept gone trial));
$primary->backup('base');
queue_purges($primary, '', 'gone');
is_erased($primary, 'gone', 'a tenant is erased');
my $fence = fence_file($primary);
my $time = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/;
wait_for_fence($fence, 'gone', "$time $time", 'the fence says so');

# ---- a server ----

my $copy = restore($primary, 'base', 'copy');
is($copy->safe_psql('postgres', q{SELECT leyser.tenant_is_active('gone'), leyser.restore_is_held()}), 'f|t',
	'a copy that is older is held, and its tenant locked');
my (undef, $stderr) = sqlstate_of($copy, 'CALL leyser.replay_purges()');
like($stderr, $other, 'once all is erased again it is told whose the fence is');
is_erased($copy, 'gone', 'it was erased again');
fence_is($copy, 'sound|f|f|0', 'the copy is released');
queue_purges($copy, '', 'trial');
fence_blocker_ok($copy, 'postgres', 'it erases nobody else as long as the original runs');
unlike(slurp_file($fence), qr/trial/, '... and writes nothing into the fence');
my $backups = PostgreSQL::Test::Utils::tempdir();
$copy->append_conf('postgresql.conf', "leyser.backup_directory = '$backups'");
$copy->reload;
ok($copy->poll_query_until('postgres', "SELECT current_setting('leyser.backup_directory') <> ''"), 'the copy is given a backup directory');
is_refused($copy, 'SELECT leyser.take_backup()', '55000', '... and takes no backup into what may be the original\'s');
original_ok($primary, 'the original');
$primary->restart;
original_ok($primary, 'the original after a restart');

# ---- a database ----

$primary->safe_psql('template1', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE datname = 'postgres' AND pid <> pg_backend_pid()});
my $made = 0;
for (1 .. 100)
{
	$made = $primary->psql('template1', 'CREATE DATABASE stage TEMPLATE postgres') == 0;
	last if $made;
	select(undef, undef, undef, 0.1);
}
ok($made, 'a database is made from the original');
queue_purges_in('stage', 'trial');
fence_blocker_ok($primary, 'stage', 'it erases nobody as long as the original is there');
unlike(slurp_file($fence), qr/trial/, '... and writes nothing into the fence');
original_ok($primary, 'the original');
$primary->restart;
original_ok($primary, 'the original after a restart');

sub queue_purges_in
{
	my ($database, $tenant) = @_;

	$primary->safe_psql($database, "SELECT leyser.terminate_contract('$tenant', 'now'::text)");
	$primary->safe_psql($database, "CALL leyser.purge('$tenant', wait => false)");
	return;
}

# ---- whoever is left ----

$primary->stop('immediate');
fence_blocker_ok($copy, 'postgres', 'an original that may start again keeps its fence');
retire($primary);
is_erased($copy, 'trial', 'when the original is no more its copy goes on');
wait_for_fence($fence, 'trial', "$time $time", '... and keeps the fence');
$copy->stop;

done_testing();
