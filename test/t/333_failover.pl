# Servers that take over are no restores: a standby that is promoted, also from a
# shared directory of fences, a crash, a rewind.  One that lost a purge is.

use strict;
use warnings;

use LeyserPurge;
use LeyserRestore;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = purge_node('primary', init => { allows_streaming => 1 }, conf => "log_statement = none\nwal_log_hints = on\n");
fill_tenants($primary, 200, qw(kept first second third));
$primary->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	GRANT SELECT ON item TO app;
});
install_attempt($primary);
my $token = own_token($primary, tenant => '"kept"', exp => time() + 36000);
$primary->backup('base');

# A standby with a keyring directory of its own, without any fence at first.
sub standby
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $keyring = $options{keyring} // copy_keyring($primary, $node->basedir . '/keyring');

	$node->init_from_backup($primary, $options{backup} // 'base', has_streaming => 1);
	$node->append_conf('postgresql.conf', "leyser.keyring_directory = '$keyring'\nrestart_after_crash = on");
	$node->start;
	return $node;
}

my $own = standby('own');
my $shared = standby('shared', keyring => keyring_directory($primary));
my $fence = fence_file($primary);
is((attempt($own, $token, user => 'app'))[0], 'accepted', 'a new standby takes tokens at once');
queue_purges($primary, '', 'first');
is_erased($primary, 'first', 'a tenant is erased');
wait_for_fence(fence_file($own), 'first', '\S+Z \S+Z', 'a standby writes its own fence');
sound_ok($own, 'standby with a fence of its own');
sound_ok($shared, 'standby with the primary\'s');
$own->restart;
sound_ok($own, 'after a restart');
$own->stop('immediate');
$own->start;
ok($own->poll_query_until('postgres', q{SELECT verdict = 'sound' FROM leyser.look_at_fence()}), 'after a crash');
is((attempt($own, $token, user => 'app'))[0], 'accepted', '... tokens are good');

# One that could not write a fence is no restored server, either.
my $closed = copy_keyring($primary, $primary->basedir . '/closed');
chmod 0500, $closed or die $!;
$primary->backup('later');    # the purge has burned the WAL that the first one needs
my $blind = standby('blind', keyring => $closed, backup => 'later');
alerts_are($blind, ['fence missing postgres'], 'a standby that cannot write its fence says so');
fence_is($blind, 'lost|f|f|0', '... and holds nothing');
ok($blind->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')}), '... it receives');
$blind->safe_psql('postgres', 'SELECT verdict FROM leyser.look_at_fence()');
$blind->promote;
fence_is($blind, 'none|f|f|0', '... nor once it is promoted');
is((attempt($blind, $token, user => 'app'))[0], 'accepted', '... tokens are good');
chmod 0700, $closed or die $!;
ok($blind->poll_query_until('postgres', q{SELECT verdict = 'sound' FROM leyser.look_at_fence()}), '... and when it can, it writes one');
$blind->stop;

# ---- behind ----

# The shared one stops to replay; the other one is stopped, to come back behind.
$shared->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$shared->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
queue_purges($primary, '', 'second');
wait_for_fence($fence, 'second', '\S+Z \S+', 'another purge begins');
is($shared->safe_psql('postgres', q{SELECT verdict, held, keys_refused, missing, leyser.tenant_is_active('second'),
	leyser.tenant_is_active('kept') FROM leyser.look_at_fence()}), 'ahead|f|f|1|f|t',
	'a standby that lags behind a fence locks its tenant, and holds nothing');
is((attempt($shared, $token, user => 'app'))[0], 'accepted', '... no token is refused');
$shared->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is_erased($primary, 'second', 'the purge ends');
ok($shared->poll_query_until('postgres', q{SELECT verdict = 'sound' FROM leyser.look_at_fence()}), 'it has caught up');

# ---- failover ----

$primary->safe_psql('postgres', 'CHECKPOINT');    # from which pg_rewind reads
$primary->wait_for_catchup($own, 'replay', $primary->lsn('flush'));
$primary->wait_for_catchup($shared, 'replay', $primary->lsn('flush'));
$primary->stop('immediate');
for my $node ($shared, $own)
{
	my $name = $node->name;

	$node->promote;
	sound_ok($node, "$name: promoted");
	is((attempt($node, $token, user => 'app'))[0], 'accepted', "$name: tokens of before are good");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.restore_record'), '0', "$name: no restore was noticed");
	# once it has taken the fence over from the former primary of this host
	my $owner = ($name eq 'shared' ? $fence : fence_file($node)) =~ s/fence$/owner/r;
	for (1 .. 600)
	{
		last if -e $owner && index(slurp_file($owner), $node->data_dir) >= 0;
		select(undef, undef, undef, 0.1);
	}
	$node->stop('immediate');
	$node->start;
	sound_ok($node, "$name: also after a crash");
}
queue_purges($shared, '', 'third');
is_erased($shared, 'third', 'shared: purges go on');
$shared->stop;
sound_ok($own, 'own: what the other one did is no matter of its fence');

# The former primary comes back as a standby.
$own->safe_psql('postgres', 'CHECKPOINT');
command_ok([ 'pg_rewind', '--target-pgdata', $primary->data_dir, '--source-server', $own->connstr('postgres'), '--config-file',
	$primary->data_dir . '/postgresql.conf' ], 'pg_rewind');
$primary->append_conf('postgresql.conf', 'port = ' . $primary->port . "\nunix_socket_directories = '" . $primary->host . "'\n"
	. "leyser.keyring_directory = '" . keyring_directory($primary) . "'\nprimary_conninfo = '" . $own->connstr . "'\n");
$primary->append_conf('standby.signal', '');
$primary->start;
fence_is($primary, 'ahead|f|f|1', 'rewound, it follows: what its fence knows more is locked, and nothing held');
queue_purges($own, '', 'third');
is_erased($own, 'third', 'own: purges go on');
ok($primary->poll_query_until('postgres', q{SELECT verdict = 'sound' FROM leyser.look_at_fence()}), 'the rewound one has seen it');
$primary->stop;
$own->stop;
retire($_) foreach $primary, $shared;

# ---- a standby that lost a purge ----

my $late = standby('late', keyring => keyring_directory($primary));
is($late->safe_psql('postgres', q{SELECT leyser.tenant_is_active('first'), leyser.tenant_is_active('kept'), leyser.restore_is_held()}),
	'f|t|f', 'an old standby whose primary is gone locks what the fence knows');
$late->promote;
is($late->safe_psql('postgres', 'SELECT leyser.restore_is_held()'), 't', 'promoted, it is a restore');
ok($late->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM leyser.restore_record)}), '... that is written down');
is((attempt($late, $token, user => 'app'))[0], 'LY002', '... keys are retired');

# kill -9 in the replay, of the one who calls, of the worker, of the server.
my $call = IPC::Run::start([ 'psql', '-XAtq', '-d', $late->connstr('postgres'), '-c', 'CALL leyser.replay_purges()' ],
	'>', \my $out, '2>', \my $told);
$late->poll_query_until('postgres', 'SELECT leyser.purge_worker() IS NOT NULL');
kill KILL => $late->safe_psql('postgres', 'SELECT leyser.purge_worker()');
wait_for_server($late);
is($late->safe_psql('postgres', 'SELECT leyser.restore_is_held()'), 't', 'killed in the replay: still held');
$call->finish;
$late->safe_psql('postgres', 'CALL leyser.replay_purges()');
is_erased($late, $_, "$_ is erased again") foreach qw(first second third);
is($late->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_record'), '3', '... each by one purge');
fence_is($late, 'sound|f|f|0', 'released');
$late->stop;

done_testing();
