# HostilePool.pm
#
# Runs test/pool/hostile_pool.py against a node of its own and judges what it says.

package HostilePool;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(test_hostile_pool);

my $script = dirname(dirname(abs_path(__FILE__))) . '/pool/hostile_pool.py';
my @ways = ('pooler', 'resetting-pooler', 'driver');

# Three ways to share connections, each with so many transactions.
# Argument: the number of transactions.
sub test_hostile_pool
{
	my ($transactions) = @_;
	my $node = new_node('pool', conf => "deadlock_timeout = 100ms\nmax_prepared_transactions = 2\n");
	my $connection = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres user=' .
		getpwuid($<);
	my ($output, $errors);
	local $ENV{PYTHONDONTWRITEBYTECODE} = 1;

	my $kept_apart = IPC::Run::run(
		[
			'/usr/bin/python3', $script, $connection, PostgreSQL::Test::Utils::tempdir_short(),
			'--transactions', $transactions, '--seed', time
		], '>', \$output, '2>', \$errors);
	note($output);
	ok($kept_apart, 'tenants stay apart') or diag($output, $errors);
	foreach my $way (@ways)
	{
		my ($figures) = $output =~ /^== \Q$way\E\n(.*?)(?:^==|\z)/ms;

		judge_figures($way, $figures // '', $transactions);
	}
	unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|terminated by signal/,
		'the server survives');
	$node->stop;
	return;
}

# The figures of a run in which nothing happened would look clean, too.
sub judge_figures
{
	my ($way, $figures, $transactions) = @_;
	my ($done) = $figures =~ /^transactions: (\d+)$/m;
	my ($attacks) = $figures =~ /^attacks: (\d+)$/m;
	my ($rows) = $figures =~ /^rows judged: (\d+)$/m;

	is($done, $transactions, "$way: every transaction was done");
	like($figures, qr/^foreign rows: 0$/m, "$way: no row of another tenant");
	cmp_ok($attacks // 0, '>=', $transactions / 10, "$way: clients were hostile");
	cmp_ok($rows // 0, '>=', $transactions, "$way: results were judged");
	foreach my $sqlstate ('LY001', 'LY002', 'LY007', 'LY009', '42501')
	{
		like($figures, qr/^refused, hostile:.* $sqlstate \d/m, "$way: attacks met $sqlstate");
	}
	return;
}

1;
