# What a deleted account leaves behind: its id in the history, and no name, address,
# password or secret in any table or view of leyser's, nor its name in the server log.

use strict;
use warnings;

use LeyserTest;
use Test::More;

my $node = new_node('deleted', conf => "log_statement = none\nlog_min_error_statement = panic\nlisten_addresses = '127.0.0.1'");
my $client = '203.0.113.77';      # hers, as the application tells it
my $password = 'seven swans over Sendai';
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE support LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('gateway', 'gateway'),
		leyser.grant_usage('auditor', 'auditor'), leyser.create_tenant('t1'), leyser.create_account('ada', 't1'),
		leyser.create_permission('item.read', 'see items');
});

# As an account, over a socket, or from the address 127.0.0.1.
sub act
{
	my ($account, $sql, %options) = @_;

	return $node->safe_psql('postgres', "BEGIN; SELECT leyser.enter('t1', '$account') \\g /dev/null\n$sql; COMMIT",
		over($options{address}, 'gateway'));
}

sub over
{
	my ($address, $role) = @_;

	return $address ? (connstr => "host=$address port=" . $node->port . " dbname=postgres user=$role")
	  : (extra_params => [ '-U', $role ]);
}

# Every table and view of leyser's in which a text stands, in whatever column.
sub places_of
{
	my ($text) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT coalesce(string_agg(c.relname, ' ' ORDER BY c.relname COLLATE "C"), 'nowhere')
		FROM pg_class c, LATERAL (SELECT query_to_xml(format('SELECT count(*) AS n FROM leyser.%I r WHERE strpos(r::text, %L) > 0',
			c.relname, '$text'), false, true, '')) x (found)
		WHERE c.relnamespace = 'leyser'::regnamespace AND (c.relkind = 'r' OR c.relname = 'event')
		  AND (xpath('//n/text()', found))[1]::text <> '0'});
}

# She does whatever an account can do, is an administrator for a while, and acts from
# her own address.  Her account is renamed, too: no name of hers may stay.
my $secret = act('ada', q{SELECT leyser.invite_account('Wilhelmina')});
$node->safe_psql('postgres', "SELECT leyser.accept_invitation('t1', 'wilhelmina', '$secret', '$password')", over('127.0.0.1', 'app'));
for my $given ('a wrong password', $password)
{
	$node->safe_psql('postgres', "SELECT pg_sleep(1.1); SELECT leyser.login('t1', 'Wilhelmina', '$given', client_address => '$client')",
		over('127.0.0.1', 'app'));
}
$node->safe_psql('postgres', q{SELECT leyser.issue_token('t1', 'WILHELMINA')}, over('127.0.0.1', 'gateway'));
act('ada', q{SELECT leyser.grant_administrator('Wilhelmina')});
act('Wilhelmina', q{SELECT leyser.create_role('clerk'), leyser.create_account('bob'), leyser.grant_role('bob', 'clerk'),
	leyser.grant_permission('bob', 'item.read'), leyser.grant_support_access('support', '1 hour', 'a question')},
	address => '127.0.0.1');
act('ada', q{SELECT leyser.grant_permission('Wilhelmina', 'item.read', 'jp')});
act('ada', q{SELECT leyser.disable_account('Wilhelmina'); SELECT leyser.enable_account('Wilhelmina'); SELECT leyser.revoke_sessions('Wilhelmina')});
act('ada', q{SELECT leyser.rename_account('Wilhelmina', 'Wilhelmine'); SELECT leyser.reset_password('wilhelmine')});
my $id = $node->safe_psql('postgres', q{SELECT account_id FROM leyser.account_record WHERE account_name = 'Wilhelmine'});

is(places_of('Wilhelmina'), 'nowhere', 'a former name is nowhere at once');
is(places_of('Wilhelmine'), 'account_record event', 'her name: in her account, and the view of events resolves it');
is(places_of('wilhelmine'), 'account_record', '... and as it is compared');
is(places_of($client), 'event event_record familiar_address login_delay session_record', 'her address, before');
like(places_of('127.0.0.1'), qr/event_record/, 'where she acted from, before');
my $events = $node->safe_psql('postgres', 'SELECT count(*), string_agg(digest::text, $$ $$ ORDER BY event_id) FROM leyser.event_record');
act('bob', 'SELECT 1', address => '127.0.0.1');
my $of_bob = $node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE account_name = 'bob' AND client_address IS NOT NULL});
cmp_ok($of_bob, '>', 0, 'others act from there, too');

# Nobody takes anything out of the log while she is there.
my $erase = "UPDATE leyser.event_record SET client_address = NULL, detail = detail - 'client_address', salt = NULL";
is_refused($node, "$erase WHERE account_id = $id", 'LY007', 'an address of an account that is there');
is_refused($node, "SET session_replication_role = replica; $erase WHERE account_id = $id", 'LY007', '... as a replica, too');

act('ada', q{SELECT leyser.delete_account('Wilhelmine')});
for my $needle ('Wilhelmin', 'wilhelmin', 'WILHELMIN', $secret, $password)
{
	is(places_of($needle), 'nowhere', "deleted: no '$needle'");
}
# delays by address are the server's own defence, and are forgotten after a day
is(places_of($client), 'login_delay', 'deleted: her address is in no event and no session');
is($node->safe_psql('postgres', "SELECT count(*) FROM leyser.event_record
	WHERE client_address IS NOT NULL AND (account_id = $id OR (account_id IS NULL AND object = '$id'))"), '0',
	'... nor where she acted from');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE account_name = 'bob' AND client_address IS NOT NULL}),
	$of_bob, 'addresses of others stay');
my ($count, $digests) = split(/\|/, $events);
like($node->safe_psql('postgres', 'SELECT string_agg(digest::text, $$ $$ ORDER BY event_id) FROM leyser.event_record'),
	qr/^\Q$digests\E/, 'no event and no digest went');
is($node->safe_psql('postgres', "SELECT count(*) FROM leyser.event_record WHERE salt IS NULL
	AND leyser.event_person(account_id, event, object) IS DISTINCT FROM $id"), '0', 'only her events lost their salt');

# The history tells of her by her id.
is($node->safe_psql('postgres', "SELECT DISTINCT account_name FROM leyser.event WHERE account_id = $id"), "account $id",
	'who acted, as the auditor reads it');
is(act('ada', "SELECT string_agg(DISTINCT account_name, ',') FROM leyser.account_event WHERE account_id = '$id'"), "account $id",
	'whom it was about, as the tenant reads it');
is(act('ada', q{SELECT by_account FROM leyser.account_event WHERE event = 'account.created' AND by_account IS NOT NULL}),
	"account $id", 'who did it');
is(act('ada', 'SELECT granted_by FROM leyser.support_access'), "account $id", 'who let the provider look');

# What a deletion erases can be erased, and nothing else, by nobody.
$node->safe_psql('postgres', qq{INSERT INTO leyser.event_record (event, tenant_id, account_id, salt, digest)
	VALUES ('role.created', 't1', $id, 'salt', 'digest')});
for my $change ("SET event = 'other' WHERE account_id = $id", "SET salt = NULL WHERE account_id = $id",
	"SET object = NULL, salt = NULL WHERE account_id = $id", "SET detail = NULL, salt = NULL WHERE object = '$id'",
	"SET digest = '' WHERE account_id = $id", "SET account_id = NULL WHERE account_id = $id",
	"SET client_address = NULL, salt = NULL WHERE account_id IS DISTINCT FROM $id AND client_address IS NOT NULL")
{
	is_refused($node, "UPDATE leyser.event_record $change", 'LY007', "refused: $change");
}

# The server log: ids, and of addresses what it always had.
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/wilhelmin/i, 'her name is not in the server log');
like($log, qr/leyser event: .*"account_id": $id\b/, '... her id is');

$node->stop;
done_testing();
