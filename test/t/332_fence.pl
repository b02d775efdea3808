# Fences that are missing, damaged, or cannot be written: what is not known is
# taken for a restore, and a purge waits until its fence says that it has begun.

use strict;
use warnings;

use Fcntl qw(:flock);
use File::Basename;
use IPC::Run;
use LeyserPurge;
use LeyserRestore;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('primary', init => { allows_streaming => 1 }, conf => 'log_statement = none');
fill_tenants($node, 50, qw(kept gone waiting));
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE operator LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('operator', 'operator');
	GRANT SELECT ON item TO app;
});
install_attempt($node);
my $keyring = keyring_directory($node);
my $fence = fence_file($node);
my $token = own_token($node, tenant => '"kept"', exp => time() + 36000);
ok(-e $fence, 'initialize_keyring() makes the fence');
is(sprintf('%04o', (stat $fence)[2] & 07777), '0600', '... for the server alone');
$node->backup('base');

sub outcome
{
	my ($at) = @_;

	return (attempt($at, $token, user => 'app'))[0];
}

# Made in a transaction that is rolled back, it has no row until the next call.
$node->safe_psql('postgres', 'CREATE DATABASE twice');
$node->safe_psql('twice', q{CREATE EXTENSION leyser CASCADE;
	BEGIN; SELECT leyser.initialize_keyring(); ROLLBACK;
	SELECT leyser.initialize_keyring()});
is($node->safe_psql('twice', 'SELECT count(*) FROM leyser.fence_record JOIN leyser.identity USING (database_id)'), '1',
	'... also after a rollback, and recorded');

# ---- a purge waits for its fence ----

# under the writers' lock, so that none of them is at it just then
open my $lock, '+<', "$keyring/.fence.lock" or die $!;
flock $lock, LOCK_EX or die $!;
chmod 0500, $keyring or die $!;
close $lock or die $!;
queue_purges($node, '', 'waiting');
blockers_are($node, 'waiting', '{"fence leyser.fence_directory"}', 'a fence that cannot be written holds a purge back');
is($node->safe_psql('postgres', q{SELECT count(*) FROM item WHERE tenant_id = 'waiting'}), '50', '... before its first row');
like($node->safe_psql('postgres', q{SELECT remedy FROM leyser.purge_blocker}), qr/Let the user that runs the server create files/,
	'... and says what to do');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.purge_report('waiting') WHERE part = 'fence'}), 'not written',
	'... as the report does');
chmod 0700, $keyring or die $!;
is_erased($node, 'waiting', 'then it goes on by itself');
wait_for_fence($fence, 'waiting', '\S+Z \S+Z', '... and the fence says so');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.purge_report('waiting') WHERE part = 'fence'}), 'erased', '... and the report');
is(join(' ', grep { /\.tmp$/ } slurp_dir($keyring)), '', 'no unfinished file is left');

# ---- lost while the server runs: nothing was restored ----

rename $fence, "$fence.away" or die $!;
fence_is($node, 'lost|t|f|0', 'a fence that vanishes holds work');
is(outcome($node), 'accepted', '... no token');
end_contracts($node, 'gone');
is_refused($node, q{CALL leyser.purge('gone')}, 'LY008', '... no purge begins', user => 'operator');
is_refused($node, 'CALL leyser.replay_purges()', 'LY008', '... nor a replay', user => 'operator');
alerts_are($node, ['fence missing postgres'], '... told');
rename "$fence.away", $fence or die $!;
sound_ok($node, 'it is back');

# Damaged: each way is refused as a whole.
my $content = slurp_file($fence);
sub write_fence
{
	my ($text) = @_;

	open my $file, '>', $fence or die $!;
	print $file $text;
	close $file or die $!;
	return;
}
my %damaged = (
	'a byte changed' => $content =~ s/waiting/waitinG/r,
	'cut off' => substr($content, 0, -20),
	'a line taken away' => $content =~ s/^purge .*\n//mr,
	'a line added' => $content . "purge 9 9 0/0 - - kept\n",
	'empty' => '',
	'a zero in it' => $content =~ s/waiting/wait\0ng/r,
	'of another database' => slurp_file($fence) =~ s/^database \S{8}/database 00000000/mr);
for my $how (sort keys %damaged)
{
	write_fence($damaged{$how});
	fence_is($node, 'lost|t|f|0', "damaged, $how: work is held");
}
write_fence($content);
chmod 0666, $fence;
fence_is($node, 'lost|t|f|0', 'a fence that others may write is not believed');
chmod 0600, $fence;
sound_ok($node, 'as it was');
$node->safe_psql('postgres', q{CALL leyser.purge('gone')}, extra_params => [ '-U', 'operator' ]);
wait_for_fence($fence, 'gone', '\S+Z \S+Z', 'purges go on');

# A damaged one at the start: perhaps a restore.
$node->stop;
write_fence($damaged{'cut off'});
$node->start;
fence_is($node, 'lost|t|t|0', 'damaged before the start: own tokens are refused, too');
is(outcome($node), 'LY002', '... told as such');
write_fence($content);
fence_is($node, 'sound|f|f|0', 'an older fence of the same database is written on');
is(outcome($node), 'accepted', '... and tokens are good again: nothing was ended');
$node->stop;

# ---- a host without a fence ----

my $elsewhere = copy_keyring($node, $node->basedir . '/keyring2');
my $copy = restore($node, 'base', 'elsewhere', keyring => $elsewhere);
fence_is($copy, 'lost|t|t|0', 'a host without a fence: assumed to be restored');
is(outcome($copy), 'LY002', '... own tokens are refused');
like(slurp_file($copy->logfile), qr/there is no fence of this database on this host/, '... told in the log');
is_refused($copy, 'CALL leyser.replay_purges()', 'LY008', '... what to erase again is not known', user => 'operator');
is_refused($copy, q{CALL leyser.accept_fence('  ')}, '22023', '... nobody goes on without a reason', user => 'operator');
is_refused($copy, 'CALL leyser.accept_fence(NULL)', '22023', '... nor with none', user => 'operator');
is_refused($copy, q{CALL leyser.accept_fence('x')}, '42501', '... nor just anybody', user => 'app');
is_refused($copy, q{BEGIN; CALL leyser.accept_fence('x')}, '25001', '... nor in a transaction', user => 'operator');
$copy->safe_psql('postgres', 'SELECT leyser.stage_signing_key()');
$copy->safe_psql('postgres', q{CALL leyser.accept_fence('a copy for tests; no tenant has gone since')}, extra_params => [ '-U', 'operator' ]);
fence_is($copy, 'sound|f|f|0', 'accepted: it goes on');
is($copy->safe_psql('postgres', q{SELECT detail ->> 'reason' FROM leyser.event WHERE event = 'fence.accepted'}),
	'a copy for tests; no tenant has gone since', '... recorded');
is(outcome($copy), 'LY002', '... without the keys of before');
ok(-e fence_file($copy, $elsewhere), '... with a fence of its own');
is_refused($copy, q{CALL leyser.accept_fence('again')}, 'LY008', 'there is nothing to accept then', user => 'operator');
$copy->restart;
fence_is($copy, 'sound|f|f|0', 'also after a restart');
$copy->stop;

# The fence comes after all: then it is compared.
$elsewhere = copy_keyring($node, $node->basedir . '/keyring3');
$copy = restore($node, 'base', 'later', keyring => $elsewhere);
fence_is($copy, 'lost|t|t|0', 'without a fence once more');
system_or_bail('cp', '-p', $fence, $elsewhere);
fence_is($copy, 'ahead|t|t|1', 'the fence is copied: the restore is seen');
$copy->safe_psql('postgres', 'CALL leyser.replay_purges()', extra_params => [ '-U', 'operator' ]);
is_erased($copy, 'waiting', '... and the tenant erased again');
fence_is($copy, 'sound|f|f|0', '... released');
$copy->stop;

# ---- no purge since: events tell ----

$node->start;
ok($node->poll_query_until('postgres', q{SELECT verdict = 'sound' FROM leyser.look_at_fence()}), 'the primary again');
$node->backup('second');
my $events = $node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('kept') \g /dev/null
	SELECT max(event_id) FROM leyser.event_record});
$node->restart;
for (1 .. 600)
{
	last if slurp_file($fence) =~ /^mark \S+ $events \d+$/m;
	select(undef, undef, undef, 0.1);
}
like(slurp_file($fence), qr/^mark \S+ $events \d+$/m, 'the fence tells how far events are');
$node->stop;
retire($node);
$copy = restore($node, 'second', 'second');
ok($copy->poll_query_until('postgres', 'SELECT EXISTS (SELECT FROM leyser.restore_record)'), 'a restore without purges is seen, too');
fence_is($copy, 'ahead|t|f|0', '... and held');
is(outcome($copy), 'LY002', '... keys are retired');
$copy->safe_psql('postgres', 'CALL leyser.replay_purges()', extra_params => [ '-U', 'operator' ]);
fence_is($copy, 'sound|f|f|0', '... until it is released');
$copy->stop;
retire($copy);
bring_back($node);

# ---- a dump ----

$node->start;
my $folder = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", '-d', $node->connstr('postgres') ], 'a dump');
fill_tenants($node, 5, 'dumped');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump2", '-d', $node->connstr('postgres') ], 'a dump with one more tenant');
queue_purges($node, '', 'dumped');
is_erased($node, 'dumped', '... that is erased then');
wait_for_fence($fence, 'dumped', '\S+Z \S+Z', '... as the fence says');
for my $dump (qw(dump dump2))
{
	$node->safe_psql('postgres', "CREATE DATABASE $dump TEMPLATE template0");
	$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr($dump), "$folder/$dump" ], "$dump is restored");
}
is($node->safe_psql('dump', 'SELECT held, missing FROM leyser.look_at_fence()'), 't|1',
	'the fence of the database that it came from holds for it');
is($node->safe_psql('dump2', q{SELECT leyser.tenant_is_active('dumped'), leyser.tenant_is_active('kept'), held
	FROM leyser.look_at_fence()}), 'f|f|t', '... the erased tenant is locked');
$node->safe_psql('dump2', 'SELECT leyser.initialize_keyring()');
$node->safe_psql('dump2', 'CALL leyser.replay_purges()');
is($node->safe_psql('dump2', q{SELECT held, missing, (SELECT count(*) FROM item WHERE tenant_id = 'dumped') FROM leyser.look_at_fence()}),
	'f|0|0', '... and erased again');

# ---- who holds what others may open holds nobody up ----

is(sprintf('%04o', (stat "$keyring/.fence.lock")[2] & 07777), '0600', 'writers take turns by a file that nobody else may open');
my $held = '';
my $holder = IPC::Run::start([ 'flock', '-F', '-x', $keyring, 'sh', '-c', 'echo held; exec sleep 600' ], '>', \$held);
$holder->pump until $held =~ /held/;
my @left = map { "$keyring/.$_.tmp" } basename($fence) . '.4711', basename($fence) . '.4712';
append_to_file($_, 'half') foreach @left;
utime time() - 3600, time() - 3600, $left[0] or die $!;
fill_tenants($node, 5, 'held_up');
queue_purges($node, '', 'held_up');
is_erased($node, 'held_up', 'a purge goes on');
wait_for_fence($fence, 'held_up', '\S+Z \S+Z', 'a lock of the directory itself, as any reader can have it, holds no fence up');
is(join(' ', grep { /\.tmp$/ } slurp_dir($keyring)), basename($left[1]),
	'what a killed server was writing is removed; what somebody may be writing is not');
$holder->signal('TERM');
$holder->finish;
$node->stop;

done_testing();
