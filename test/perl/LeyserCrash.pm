# LeyserCrash.pm
#
# Kills at any moment of the administration's work, and what must hold after.

package LeyserCrash;

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use Exporter qw(import);
our @EXPORT = qw(crash_node kill_backends kill_server);
our @EXPORT_OK = qw(kill_postmaster);

# One step of each loop.  A tenant is made together with a row that names it, in
# one transaction: both are there or neither.
my %steps = (
	create_tenant => q{BEGIN;
		INSERT INTO made SELECT leyser.create_tenant();
		COMMIT;},
	protect => q{SELECT leyser.protect('item');
		SELECT leyser.unprotect('item');},
	rotation => q{SELECT leyser.stage_signing_key() AS key_id \gset
		SELECT leyser.activate_signing_key(:'key_id');
		SELECT leyser.retire_signing_key(key_id) FROM leyser.signing_key WHERE state = 'verifying' LIMIT 1;});

# A node whose data survives crashes (fsync is on), with all that the loops need.
sub crash_node
{
	my ($name) = @_;
	my $node = new_node($name, conf => "fsync = on\nrestart_after_crash = on\ncheckpoint_timeout = 30s");

	$node->safe_psql('postgres', q{
		SELECT leyser.create_tenant('t1');
		CREATE TABLE made (tenant_id text);
		CREATE TABLE item (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
		CREATE TABLE item_1 PARTITION OF item FOR VALUES IN (1);
		CREATE TABLE item_2 PARTITION OF item FOR VALUES IN (2);
	});
	install_attempt($node);
	return $node;
}

# Starts a psql that repeats a step until its server goes away.  Files on both
# sides: nobody pumps pipes while it works.
sub start_loop
{
	my ($node, $step) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my %loop = (step => $step, errors => "$folder/errors");

	append_to_file("$folder/script", "$steps{$step}\n" x 1000);
	$loop{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-f', "$folder/script"
		],
		'>', '/dev/null', '2>', $loop{errors});
	return \%loop;
}

sub finish_loop
{
	my ($loop) = @_;

	eval { $loop->{run}->finish; };
	# nothing but the kill may have stopped it
	my @errors = grep {
		!/terminat|server closed|connection to server|connection .* lost|recovery mode|starting up|shutting down/
	} grep { /ERROR|FATAL|PANIC/ } split(/\n/, slurp_file($loop->{errors}));
	is("@errors", '', "$loop->{step}: stopped by nothing but the kill");
	return;
}

# One of the loops' backends, as soon as one is at work.
sub busy_backend
{
	my ($node) = @_;

	for (1 .. 600)
	{
		my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query ~ 'leyser|INSERT'
			ORDER BY random() LIMIT 1});

		return $pid if $pid ne '';
		usleep(50_000);
	}
	die 'no backend is at work';
}

# Kills one of the loops' backends; the server restarts by itself.
sub kill_backends
{
	my ($node, $rounds) = @_;

	for my $round (1 .. $rounds)
	{
		my @loops = map { start_loop($node, $_) } sort keys %steps;

		usleep(60_000 + rand 120_000);
		kill 'KILL', busy_backend($node) or die "could not kill a backend: $!";
		finish_loop($_) for @loops;
		wait_for_server($node);
		all_or_nothing($node, "backend killed, round $round");
	}
	return;
}

# Takes the whole server down, without a checkpoint.
sub kill_server
{
	my ($node, $how) = @_;
	my @loops = map { start_loop($node, $_) } sort keys %steps;

	usleep(60_000 + rand 240_000);
	$how eq 'kill9' ? kill_postmaster($node) : $node->stop('immediate');
	finish_loop($_) for @loops;
	$node->start;
	all_or_nothing($node, "server down ($how)");
	return;
}

# kill -9.  A postmaster counts until it is reaped, its children until they notice;
# until then, no other server starts in their data directory.
sub kill_postmaster
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children;

	$node->kill9;
	do
	{
		usleep(20_000);
		@children = grep { process_works_in($_, $node->data_dir) }
		  map { m{/proc/(\d+)$} } glob '/proc/[0-9]*';
	} while (@children || kill 0, $postmaster);
	return;
}

sub process_works_in
{
	my ($pid, $folder) = @_;
	my $working = readlink "/proc/$pid/cwd";

	return defined $working && $working eq $folder;
}

# Each a query that gives 0 where all is whole.
my %whole = (
	'each tenant has its row, its event, and the other way round' => q{
		SELECT count(*) FROM (SELECT tenant_id FROM made UNION ALL SELECT 't1') m
		FULL JOIN leyser.tenant t USING (tenant_id)
		FULL JOIN (SELECT tenant_id FROM leyser.event WHERE event = 'tenant.created') e USING (tenant_id)
		WHERE m.tenant_id IS NULL OR t.tenant_id IS NULL OR e.tenant_id IS NULL},
	'tables are protected with all their partitions, or not at all' => q{
		SELECT count(*) FROM pg_class c LEFT JOIN leyser.table_record t ON t.relation = c.oid
		WHERE c.relname IN ('item', 'item_1', 'item_2') AND (
			c.relrowsecurity <> (t.relation IS NOT NULL) OR c.relforcerowsecurity <> (t.relation IS NOT NULL)
			OR (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) <> CASE WHEN t.relation IS NULL THEN 0 ELSE 2 END
			OR (SELECT count(*) FROM leyser.table_record) NOT IN (0, 3))},
	'the protection\'s last event says what is' => q{
		SELECT count(*) FROM (SELECT event FROM leyser.event WHERE object = 'item'
			OR object = 'public.item' ORDER BY event_id DESC LIMIT 1) e
		WHERE (event = 'table.protected') <> EXISTS (SELECT FROM leyser.table_record)},
	'one key signs' => q{SELECT count(*) - 1 FROM leyser.signing_key WHERE state = 'active'},
	'the keyring is well' => q{SELECT count(*) FROM leyser.keyring_status()
		WHERE state NOT IN ('ok', 'active', 'staged', 'verifying', 'retired', 'not registered', 'unfinished')},
	'each key\'s events are those of its state' => q{
		SELECT count(*) FROM leyser.signing_key k WHERE k.created_at > (SELECT min(at) FROM leyser.event)
			AND (k.state = 'retired') <> EXISTS (SELECT FROM leyser.event e
				WHERE e.object = k.key_id AND e.event = 'signing_key.retired')});

sub all_or_nothing
{
	my ($node, $name) = @_;

	is($node->safe_psql('postgres', $whole{$_}), '0', "$name: $_") for sort keys %whole;
	is((attempt($node, own_token($node)))[0], 'accepted', "$name: tokens are accepted");
	for my $step (sort keys %steps)
	{
		my ($sqlstate, $message) = sqlstate_of($node, $steps{$step});
		is($sqlstate, '', "$name: the next $step works") or diag($message);
	}
	return;
}

1;
