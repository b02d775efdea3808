# A keyring that is lost, foreign, damaged, incomplete, open to others or in the
# wrong place is told plainly, and nothing is made anew without being asked for.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('keyring', conf => 'log_min_messages = info');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('t1')});
install_attempt($node);
my $keyring = keyring_directory($node);
my ($key_id) = own_key($node);
my $token = own_token($node, exp => time() + 3600);

sub status_of
{
	my ($item) = @_;

	return $node->safe_psql('postgres',
		"SELECT state FROM leyser.keyring_status() WHERE item = '$item'");
}

# The state of things while a keyring is broken: tokens are refused, calls that
# need the keyring too, the status says why, and no file was changed or made.
# Arguments: name, state in keyring_status(), and the hint's pattern.  Options:
# item (the keyring itself), adoptable (initialize_keyring() is no error then).
sub broken
{
	my ($name, $state, $hint, %options) = @_;
	my $before = listing();
	my $position = log_position($node);
	my $item = $options{item} // 'keyring';
	my $session = open_session($node);

	is($session->query_safe("SELECT state FROM leyser.keyring_status() WHERE item = '$item'"), $state,
		"$name: keyring_status() says \"$state\"");
	my ($outcome, $told) = split(/\|/, $session->query_safe("SELECT outcome, told FROM attempt('$token')"), 2);
	is($outcome, 'LY002', "$name: tokens are refused");
	like($told, $hint, "$name: the hint gives the next step");
	unlike($told, qr/\Q$keyring\E|\.key\b/, "$name: clients learn no path");
	my %calls = (issue_token => q{issue_token('t1')}, enter => q{enter('t1')});
	%calls = (%calls, staging => 'stage_signing_key()', 'making it anew' => 'initialize_keyring()')
	  if $item eq 'keyring';
	is_refused_in($session, "SELECT leyser.$calls{$_}", 'LY002', "$name: $_ is refused") for sort keys %calls;
	$session->quit;
	is(listing(), $before, "$name: no file was made");
	like(log_since($node, $position), qr/\Q$keyring\E/, "$name: the server log names the path")
	  unless $options{no_path};
	return;
}

sub listing
{
	# a fence is kept by a worker, in its own time
	return join(' ', sort grep { !/^\.\.?$/ && !/\.fence(\.lock|\.\d+\.tmp)?$/ } slurp_dir($keyring)) if -d $keyring;
	return 'no directory';
}

sub works
{
	my ($name) = @_;

	is((attempt($node, $token))[0], 'accepted', "$name: works again");
	is(status_of('keyring'), 'ok', "$name: keyring_status() says so");
	return;
}

# Puts a text in a file's place, and back.
sub with_content
{
	my ($file, $content, $check) = @_;
	my $before = slurp_file($file);

	overwrite($file, $content);
	$check->();
	overwrite($file, $before);
	return;
}

sub overwrite
{
	my ($file, $content) = @_;

	open(my $out, '>', $file) or die "could not write $file: $!";
	print $out $content;
	close $out or die "could not write $file: $!";
	return;
}

works('at first');
is(sprintf('%04o', (stat "$keyring/$_")[2] & 07777), '0600', "$_ is the server's only")
  for ('keyring', "$key_id.key");

# Lost.
rename $keyring, "$keyring.away" or die $!;
broken('no directory', 'missing', qr/Copy the keyring directory from the primary/);
mkdir $keyring, 0700 or die $!;
broken('empty directory', 'lost', qr/Copy the keyring directory from the primary/);
my ($state, $message) = sqlstate_of($node, 'SELECT leyser.initialize_keyring()');
like($message, qr/bound to the keyring [0-9a-f-]{36}/, 'empty directory: told which keyring is missed');
like($message, qr/abandon_lost => true/, 'empty directory: told how to give it up');
rmdir $keyring or die $!;
rename "$keyring.away", $keyring or die $!;
works('directory back');
rename "$keyring/keyring", "$keyring/keyring.away" or die $!;
broken('identity file gone', 'lost', qr/Copy the keyring directory from the primary/);
is_refused($node, 'SELECT leyser.initialize_keyring(abandon_lost => true)', 'LY002',
	'identity file gone: keys that lie there are not given up');
rename "$keyring/keyring.away", "$keyring/keyring" or die $!;
works('identity file back');

# Foreign: the keyring of another cluster.
my $stranger = new_node('stranger');
rename $keyring, "$keyring.away" or die $!;
system_or_bail('cp', '-rp', keyring_directory($stranger), $keyring);
broken('another cluster\'s keyring', 'foreign', qr/initialized with\. Copy the keyring directory/);
system_or_bail('rm', '-r', $keyring);
rename "$keyring.away", $keyring or die $!;
$stranger->stop;
works('our keyring back');

# Damaged: each byte of either file, altered by one bit.
for my $name ('keyring', "$key_id.key")
{
	my $text = slurp_file("$keyring/$name");
	my $item = $name eq 'keyring' ? 'keyring' : "signing key $key_id";
	my $survived = 0;
	my $session = open_session($node);

	for my $at (0 .. length($text) - 1)
	{
		my $flipped = $text;
		substr($flipped, $at, 1) ^= "\x01";
		with_content("$keyring/$name", $flipped, sub {
			$survived++ if $session->query_safe("SELECT outcome || ' ' || state
				FROM attempt('$token'), leyser.keyring_status() WHERE item = '$item'") ne 'LY002 damaged';
		});
	}
	$session->quit;
	is($survived, 0, "$name: a flipped bit anywhere is seen as damage");
	with_content("$keyring/$name", '', sub {
		broken("$name emptied", 'damaged', qr/Copy the keyring directory/, item => $item);
	});
	with_content("$keyring/$name", substr($text, 0, -1), sub {
		broken("$name cut off", 'damaged', qr/Copy the keyring directory/, item => $item);
	});
	with_content("$keyring/$name", $text . 'x' x 2000, sub {
		broken("$name too long", 'damaged', qr/Copy the keyring directory/, item => $item);
	});
	works($name);
}

# Incomplete.
rename "$keyring/$key_id.key", "$keyring/away" or die $!;
broken('key file missing', 'incomplete', qr/Copy the keyring directory/, item => "signing key $key_id");
mkdir "$keyring/$key_id.key" or die $!;
broken('a directory in its place', 'unsafe', qr/Copy the keyring directory/,
	item => "signing key $key_id");
rmdir "$keyring/$key_id.key" or die $!;
system_or_bail('mkfifo', '-m', '0600', "$keyring/$key_id.key");
broken('a fifo in its place', 'unsafe', qr/Copy the keyring directory/,
	item => "signing key $key_id");
unlink "$keyring/$key_id.key" or die $!;
rename "$keyring/away", "$keyring/$key_id.key" or die $!;
works('key file back');

# Open to others.
for my $mode (0644, 0640, 0660, 0604, 0700 | 0010)
{
	chmod $mode, "$keyring/$key_id.key" or die $!;
	broken(sprintf('key file of mode %04o', $mode), 'unsafe', qr/Set its mode to 0600/,
		item => "signing key $key_id");
}
chmod 0600, "$keyring/$key_id.key" or die $!;
chmod 0644, "$keyring/keyring" or die $!;
broken('identity file of mode 0644', 'unsafe', qr/Set its mode to 0600/);
chmod 0600, "$keyring/keyring" or die $!;
for my $mode (0770, 0707, 01777)
{
	chmod $mode, $keyring or die $!;
	broken(sprintf('directory of mode %04o', $mode), 'unsafe', qr/chmod go-w/);
}
chmod 0000, $keyring or die $!;
is((attempt($node, $token))[0], 'LY002', 'directory closed to ourselves: refused');
is(status_of('keyring'), 'unreadable', 'directory closed to ourselves: said');
chmod 0700, $keyring or die $!;
symlink '/etc/passwd', "$keyring/link" or die $!;
rename "$keyring/$key_id.key", "$keyring/away" or die $!;
rename "$keyring/link", "$keyring/$key_id.key" or die $!;
broken('a link to a file of somebody else', 'unsafe', qr/./, item => "signing key $key_id");
unlink "$keyring/$key_id.key" or die $!;
rename "$keyring/away", "$keyring/$key_id.key" or die $!;
works('modes right');

# Links as Kubernetes makes them: each file a link through "..data" to a
# directory that changes with each update.
sub lay_out_like_a_mounted_secret
{
	my $real = "$keyring/..2026_01_01";

	mkdir $real, 0700 or die $!;
	for my $name ('keyring', "$key_id.key")
	{
		rename "$keyring/$name", "$real/$name" or die $!;
		symlink "..data/$name", "$keyring/$name" or die $!;
	}
	symlink '..2026_01_01', "$keyring/..data" or die $!;
	return;
}
lay_out_like_a_mounted_secret();
works('a mounted secret');
is_refused($node, 'SELECT leyser.initialize_keyring(); SELECT 1/0', '22012',
	'a mounted secret: it is this database\'s keyring');
system_or_bail('sh', '-c', "cd '$keyring' && rm keyring *.key ..data && mv ..2026_01_01/* . && rmdir ..2026_01_01");
works('plain files again');

# Where it must not lie, and settings that say nothing.
sub restart_with
{
	my ($directory) = @_;

	$node->adjust_conf('postgresql.conf', 'leyser.keyring_directory', "'$directory'");
	$node->restart;
	return;
}
my $inside = $node->data_dir . '/keys';
system_or_bail('cp', '-rp', $keyring, $inside);
restart_with($inside);
broken('inside the data directory', 'unsafe', qr/Move it out of the data directory/, no_path => 1);
symlink $inside, $node->basedir . '/link' or die $!;
restart_with($node->basedir . '/link');
broken('inside the data directory, through a link', 'unsafe', qr/Move it out/, no_path => 1);
system_or_bail('rm', '-r', $inside);
my $tablespace = $node->basedir . '/space';
mkdir $tablespace, 0700 or die $!;
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$tablespace'");
system_or_bail('cp', '-rp', $keyring, "$tablespace/keys");
restart_with("$tablespace/keys");
broken('inside a tablespace', 'unsafe', qr/Move it out/, no_path => 1);
$node->safe_psql('postgres', 'DROP TABLESPACE space');
restart_with('keyring');
broken('a relative path', 'not configured', qr/Set leyser.keyring_directory in postgresql.conf/,
	no_path => 1);
restart_with('');
broken('not configured', 'not configured', qr/Set leyser.keyring_directory in postgresql.conf/,
	no_path => 1);
restart_with($node->basedir . '/../' . (split m{/}, $node->basedir)[-1] . '/keyring');
works('a path with detours');

# What a broken-off call left is told, and read by nobody.
append_to_file("$keyring/.0123456789abcdef.tmp", "leyser signing key 1\n");
chmod 0600, "$keyring/.0123456789abcdef.tmp" or die $!;
works('with an unfinished file');
is($node->safe_psql('postgres', q{SELECT item, remedy FROM leyser.keyring_status() WHERE state = 'unfinished'}),
	'unfinished file .0123456789abcdef.tmp|It may be deleted.', '... which is listed');
unlink "$keyring/.0123456789abcdef.tmp" or die $!;
works('without it again');

# Ordinary roles see neither the path nor the status.
$node->safe_psql('postgres', 'CREATE ROLE nosy LOGIN');
is_refused($node, 'SHOW leyser.keyring_directory', '42501', 'the path is for superusers', user => 'nosy');
is_refused($node, 'SELECT * FROM leyser.keyring_status()', '42501', 'the status is for custodians',
	user => 'nosy');
is_refused($node, "SET leyser.keyring_directory = '/tmp'", '55P02', 'the path is fixed at the start');

$node->stop;
done_testing();
