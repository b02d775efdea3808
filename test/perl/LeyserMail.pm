# LeyserMail.pm
#
# Nodes with tenants, contacts and a sender; a mail server, and what it has accepted.

package LeyserMail;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use JSON::PP;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(mail_node mail_folder write_program set_mail_command smtp_port start_smtp stop_smtp accepted
  announce mails_are make_mail_due);

my $server_program = dirname(dirname(abs_path(__FILE__))) . '/mail/server.py';
my $port;
my $server;

# A node with an operator, a mailer, tenants t1 to t3 and a sender.  Options: as new_node.
sub mail_node
{
	my ($name, %options) = @_;
	my $node = schedule_node($name, %options);

	mkdir mail_folder($node), 0700 or die;
	$node->safe_psql('postgres', q{
		CREATE ROLE mailer LOGIN;
		SELECT leyser.grant_usage('mailer', 'mailer');
		SELECT leyser.create_tenant('t' || n) FROM generate_series(1, 3) n;
	});
	as_operator($node, q{SELECT leyser.set_notice_policy(mail_sender => 'status@service.example', service_name => '請求サービス')});
	return $node;
}

sub mail_folder
{
	my ($node) = @_;

	return $node->basedir . '/mail';
}

# A program of lines for sh; gives its path.
sub write_program
{
	my ($node, $name, @lines) = @_;
	my $path = mail_folder($node) . "/$name";

	open my $file, '>', "$path.new" or die;
	print $file join("\n", '#!/bin/sh', @lines), "\n";
	close $file;
	chmod 0755, "$path.new" or die;
	rename "$path.new", $path or die;
	return $path;
}

# Reloads with leyser.mail_command and leyser.mail_timeout, and waits until it counts.
sub set_mail_command
{
	my ($node, $command, $timeout) = @_;

	$timeout //= '30s';
	$node->safe_psql('postgres', "ALTER SYSTEM SET leyser.mail_command = '$command'");
	$node->safe_psql('postgres', "ALTER SYSTEM SET leyser.mail_timeout = '$timeout'");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		"SELECT current_setting('leyser.mail_command') = '$command' AND current_setting('leyser.mail_timeout') = '$timeout'");
	return;
}

sub smtp_port
{
	$port //= PostgreSQL::Test::Cluster::get_free_port();
	return $port;
}

sub start_smtp
{
	my ($node) = @_;
	my ($in, $out, $errors) = ('', '', '');

	$server = IPC::Run::start([ '/usr/bin/python3', $server_program, smtp_port(), mail_folder($node) ],
		'<', \$in, '>', \$out, '2>', \$errors, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$server->pump until $out =~ /ready/ or !$server->pumpable;
	die "the mail server does not start: $errors" unless $out =~ /ready/;
	# it is ended by its name, not by the time
	$server->{TIMERS} = [];
	return;
}

sub stop_smtp
{
	$server->kill_kill(grace => 2) if $server;
	undef $server;
	return;
}

END { my $status = $?; eval { stop_smtp() }; $? = $status; }

# What the server has accepted, in order.
sub accepted
{
	my ($node) = @_;
	my $file = mail_folder($node) . '/accepted';

	return () unless -e $file;
	return map { decode_json($_) } split(/\n/, slurp_file($file));
}

# Announces an incident to all; gives its notice_id.
sub announce
{
	my ($node, $subject, $body) = @_;

	return as_operator($node, q{SELECT leyser.announce('incident', 'critical', $subject$} . $subject . q{$subject$, $body$} . $body . q{$body$)});
}

# One test: the mails, in order.
sub mails_are
{
	my ($node, $columns, $expected, $name, $condition) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(as_operator($node, "SELECT $columns FROM leyser.mail WHERE " . ($condition // 'true') . ' ORDER BY mail_id'),
		join("\n", @$expected), $name);
	return;
}

# As if delays and leases were over.
sub make_mail_due
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET next_attempt_at = clock_timestamp() WHERE state = 'waiting'});
	return;
}

1;
