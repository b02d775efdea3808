# LeyserRestore.pm
#
# Servers that are restored from a backup, and what their fences say.

package LeyserRestore;

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(restore retire bring_back fence_file copy_keyring fence_is alerts_are wait_for_fence files_with sound_ok);

# A node made from a backup.  Options: keyring (a directory; otherwise that of the node
# it was taken from), start => 0, and what init_from_backup() takes.
sub restore
{
	my ($from, $backup, $name, %options) = @_;
	my $keyring = delete $options{keyring} // keyring_directory($from);
	my $conf = delete $options{conf} // '';
	my $start = delete $options{start} // 1;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($from, $backup, %options);
	$node->append_conf('postgresql.conf', "leyser.keyring_directory = '$keyring'\narchive_mode = off\n$conf");
	$node->start if $start;
	return $node;
}

# A stopped node is to be no more: what is restored takes its place.
sub retire
{
	my ($node) = @_;

	rename $node->data_dir, $node->data_dir . '.former' or die "could not rename a data directory: $!";
	return;
}

# … and is to be, after all.
sub bring_back
{
	my ($node) = @_;

	rename $node->data_dir . '.former', $node->data_dir or die "could not rename a data directory: $!";
	return;
}

# The path of a database's fence.
sub fence_file
{
	my ($node, $keyring) = @_;
	my $id = $node->safe_psql('postgres', 'SELECT database_id FROM leyser.identity');

	return ($keyring // keyring_directory($node)) . "/$id.fence";
}

# Another directory with the same keys, and no fence.
sub copy_keyring
{
	my ($node, $to) = @_;

	system_or_bail('cp', '-rp', keyring_directory($node), $to);
	unlink glob("$to/*.fence"), glob("$to/*.owner");
	return $to;
}

# What one look says: verdict, whether work is held, own tokens refused, and how many
# purges the tables do not know.
sub fence_is
{
	my ($node, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', 'SELECT verdict, held, keys_refused, missing FROM leyser.look_at_fence()'),
		$expected, $name);
	return;
}

# The alerts: "alert subject", in order.
sub alerts_are
{
	my ($node, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{SELECT alert || ' ' || subject FROM leyser.guard_alerts() ORDER BY 1}),
		join("\n", sort @$expected), $name)
	  or diag($node->safe_psql('postgres', 'SELECT * FROM leyser.guard_alerts()'));
	return;
}

# Waits until the fence says this of a tenant: a pattern of its line's times.
sub wait_for_fence
{
	my ($file, $tenant, $times, $name) = @_;
	my $found = 0;

	for (1 .. 600)
	{
		$found = -e $file && slurp_file($file) =~ /^purge \d+ \d+ \S+ $times \Q$tenant\E$/m;
		last if $found;
		select(undef, undef, undef, 0.1);
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($found, $name) or diag(-e $file ? slurp_file($file) : 'there is no fence');
	return;
}

# How many files below a folder hold a text.
sub files_with
{
	my ($folder, $text) = @_;
	my @files = split /\n/, `grep -rlaF -- '$text' '$folder'`;

	return scalar @files;
}

# Nothing is held, locked or refused, and there is no alert.
sub sound_ok
{
	my ($node, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fence_is($node, 'sound|f|f|0', $name);
	alerts_are($node, [], "$name: no alert");
	return;
}

1;
