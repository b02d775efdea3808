# LeyserCheck.pm
#
# For the tests of check_security(): a small application that is protected well, on which
# each rule's documented example fires and nothing else does.

package LeyserCheck;

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(check_node say_of_clock rules_of findings_of paste fires_and_is_mended does_not_fire);

# Settings and doors of a server on which nothing is found.
my $settings = q{
log_statement = none
wal_level = logical
max_prepared_transactions = 5
unix_socket_permissions = 0700
log_connections = on
log_timezone = UTC
};

my $application = q{
	CREATE ROLE keeper NOLOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE custodian LOGIN;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('operator', 'operator'),
		leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('custodian', 'key_custodian');
	ALTER ROLE app SET statement_timeout = '30s';
	ALTER ROLE app SET idle_in_transaction_session_timeout = '60s';
	SELECT leyser.create_permission('payment.read', 'to see payments');
	SELECT leyser.create_tenant('1'), leyser.create_tenant('2');
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO app, reader;
	SET ROLE keeper;
	CREATE TABLE shop.invoice (
		tenant_id bigint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, number text, amount numeric,
		PRIMARY KEY (tenant_id, id));
	CREATE TABLE shop.line (
		tenant_id bigint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, invoice_id bigint NOT NULL, item text,
		PRIMARY KEY (tenant_id, id),
		FOREIGN KEY (tenant_id, invoice_id) REFERENCES shop.invoice (tenant_id, id));
	CREATE INDEX ON shop.line (tenant_id, invoice_id);
	CREATE TABLE shop.payment (tenant_id bigint NOT NULL, id uuid DEFAULT gen_random_uuid(), amount numeric, PRIMARY KEY (tenant_id, id));
	CREATE TABLE shop.country (code text PRIMARY KEY);
	CREATE TABLE shop.ledger (id int PRIMARY KEY);
	RESET ROLE;
	SELECT leyser.protect('shop.invoice'), leyser.protect('shop.line'), leyser.protect('shop.payment');
	SELECT leyser.set_permissions('shop.payment', read_permission => 'payment.read');
	SELECT leyser.declare_table('shop.country', 'shared', 'the same for all'),
		leyser.declare_table('shop.ledger', 'retained', 'the provider''s own books');
	GRANT SELECT, INSERT, UPDATE, DELETE ON shop.invoice, shop.line, shop.payment TO app;
	GRANT USAGE ON ALL SEQUENCES IN SCHEMA shop TO app;
	GRANT SELECT ON shop.country TO app;
	GRANT SELECT ON shop.invoice TO reader;
	CALL leyser.tick();
};

# The rules are tested, not this machine's clock: in this database, the kernel says so.
sub say_of_clock
{
	my ($node, $is_synchronized, $database) = @_;

	$node->safe_psql($database // 'postgres', "CREATE OR REPLACE FUNCTION leyser.kernel_clock(OUT state text, OUT is_synchronized boolean,
		OUT estimated_error double precision, OUT maximal_error double precision)
		LANGUAGE sql VOLATILE AS 'SELECT ''told by a test'', $is_synchronized, 0.0::float8, 0.0::float8'");
	return;
}

# Options as of new_node().
sub check_node
{
	my ($name, %options) = @_;
	my $node = new_node($name, %options, conf => $settings . ($options{conf} // ''));

	$node->safe_psql('postgres', $application);
	say_of_clock($node, 'true');
	return $node;
}

# The rules, by their ids: family, severity, fails, example, remedy.
sub rules_of
{
	my ($node) = @_;
	my $rows = $node->safe_psql('postgres',
		q{SELECT string_agg(concat_ws(E'\x1f', check_id, family, severity, fails, example, remedy), E'\x1e' ORDER BY check_id) FROM leyser.check_rule});

	return { map { my ($id, @rest) = split /\x1f/; my %rule; @rule{qw(family severity fails example remedy)} = @rest; ($id => \%rule) } split /\x1e/, $rows };
}

sub findings_of
{
	my ($node, $id) = @_;
	my ($family) = split /\./, $id;

	return $node->safe_psql('postgres', "SELECT object FROM leyser.check_security('$family') WHERE check_id = '$id' ORDER BY 1");
}

# Statements, as somebody pastes them into psql.
sub paste
{
	my ($node, $sql) = @_;
	my ($stdout, $stderr);
	my $code = $node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);

	diag("$sql\n$stderr") if $code != 0;
	return $code == 0;
}

# In one transaction, which is rolled back: the example, what is found, the remedies,
# with the guards up again, and what is found then.
sub fires_in_transaction
{
	my ($node, $id, $rule) = @_;
	my $found = "FROM leyser.check_security('$rule->{family}') WHERE check_id = '$id'";
	my ($stdout, $stderr);

	$node->psql('postgres', qq{SET client_min_messages = error;
		BEGIN;
		\\o /dev/null
		$rule->{example}
		SET LOCAL leyser.guards = on;
		\\o
		SELECT 'fires ' || count(*) $found;
		\\o /dev/null
		SELECT remedy $found
		\\gexec
		\\o
		SELECT 'then ' || count(*) $found;
		ROLLBACK}, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	like($stdout, qr/^fires [1-9]/m, "$id: its example makes it fire") or diag($stderr);
	like($stdout, qr/^then 0$/m, "$id: ... and its remedy, pasted, ends it") or diag("$stdout$stderr");
	return;
}

# What cannot be done in a transaction is done, and undone by the given statements.
sub fires_for_good
{
	my ($node, $id, $rule, $undo) = @_;

	paste($node, $rule->{example});
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM leyser.check_security('$rule->{family}') WHERE check_id = '$id'");
	my $remedies = $node->safe_psql('postgres', "SELECT remedy FROM leyser.check_security('$rule->{family}') WHERE check_id = '$id'");
	isnt($remedies, '', "$id: its example makes it fire");
	ok(paste($node, $remedies), "$id: ... and its remedy can be pasted");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM leyser.check_security('$rule->{family}') WHERE check_id = '$id'")
	  or diag(findings_of($node, $id));
	is(findings_of($node, $id), '', "$id: ... and ends it");
	paste($node, $undo) if defined $undo;
	return;
}

sub fires_and_is_mended
{
	my ($node, $id, $rule, $undo) = @_;
	my $for_good = defined $undo || "$rule->{example} $rule->{remedy}" =~ /CONCURRENTLY|ALTER SYSTEM|PREPARED|SUBSCRIPTION|_slot/;

	return $for_good ? fires_for_good($node, $id, $rule, $undo) : fires_in_transaction($node, $id, $rule);
}

# A case that looks alike, and is well.
sub does_not_fire
{
	my ($node, $id, $sql) = @_;
	my ($family) = split /\./, $id;
	my ($stdout, $stderr);

	$node->psql('postgres', qq{SET client_min_messages = error;
		BEGIN;
		\\o /dev/null
		$sql;
		\\o
		SELECT 'found ' || count(*) FROM leyser.check_security('$family') WHERE check_id = '$id';
		ROLLBACK}, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	is($stdout, 'found 0', "$id: not without cause") or diag($stderr);
	return;
}

1;
