# Accounts in issuers' tokens, which know names and no ids: a token means the account
# that had the name when it was made.  Clocks may differ for issuers, and for nobody else.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use Test::More;

my $node = new_node('issuer_account');
my $pair = make_key_pair('EdDSA');
$node->safe_psql('postgres', qq{
	CREATE ROLE app LOGIN;
	CREATE ROLE support LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_account('Ada', 't1');
	SELECT leyser.add_issuer_key('idp', \$\$$pair->{pem}\$\$, 'https://idp.example', 'service');
});
install_attempt($node);

# A token of the issuer's, in order unless the claims say otherwise.
sub issued
{
	my (%claims) = @_;

	return issuer_token($pair, '{"alg":"EdDSA","kid":"idp"}',
		payload_of(tenant => '"t1"', iss => '"https://idp.example"', aud => '"service"', %claims));
}

sub outcome_is
{
	my ($token, $outcome, $name) = @_;
	my ($got, $told) = attempt($node, $token, user => 'app');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $outcome, $name) or diag($told);
	return;
}

# As the tenant's administrator.
sub act
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "BEGIN; SELECT leyser.enter('t1', 'Ada'); $sql; COMMIT");
}

sub now { return $node->safe_psql('postgres', 'SELECT extract(epoch FROM clock_timestamp())'); }

# Names are compared exactly: issuers tell subjects apart by case.
outcome_is(issued(sub => '"Ada"', iat => int(now())), 'accepted', 'the name as it is stored');
outcome_is(issued(sub => '"ADA"'), 'LY005', 'in another case: somebody else');
outcome_is(issued(sub => '"nobody"'), 'LY005', 'an unknown name');
outcome_is(issued(sub => '"Ada"', account_id => 4711), 'accepted', 'what an issuer calls account_id is its own');

# To the second: a token is refused that was made before the account had its name.
act(q{SELECT leyser.create_account('eve')});
my $named = $node->safe_psql('postgres',
	q{SELECT extract(epoch FROM date_trunc('second', named_at))::bigint FROM leyser.account_record WHERE account_name = 'eve'});
outcome_is(issued(sub => '"eve"', iat => $named), 'accepted', 'made in the second of the name');
outcome_is(issued(sub => '"eve"', iat => $named - 1), 'LY005', 'made a second before');
outcome_is(issued(sub => '"eve"', iat => "$named.0"), 'accepted', 'made in that second, with a fraction');
outcome_is(issued(sub => '"eve"'), 'accepted', 'without a time, as before');
my $former = issued(sub => '"eve"', iat => $named, exp => time() + 3600);
outcome_is($former, 'accepted', 'of the first eve');

# Deleted and made again; renamed, and the name given away.
sleep 1 while now() < $named + 1;
act(q{SELECT leyser.delete_account('eve'); SELECT leyser.create_account('eve'); SELECT leyser.create_account('bob')});
outcome_is($former, 'LY005', 'a token of the first eve is none of the second');
outcome_is(issued(sub => '"eve"', iat => int(now())), 'accepted', 'a new one is');
my $of_bob = issued(sub => '"bob"', iat => int(now()), exp => time() + 3600);
my $moment = int(now());
sleep 1 while now() < $moment + 1;
act(q{SELECT leyser.rename_account('bob', 'rob'); SELECT leyser.rename_account('eve', 'bob')});
outcome_is($of_bob, 'LY005', 'a token of the former bob is none of who took the name');
outcome_is(issued(sub => '"rob"', iat => $moment), 'LY005', 'nor of a name that he did not have then');
my $of_rob = issued(sub => '"rob"', iat => int(now()));
outcome_is($of_rob, 'accepted', 'one for his new name is good');
$moment = int(now());
sleep 1 while now() < $moment + 1;
act(q{SELECT leyser.rename_account('rob', 'rob')});
outcome_is($of_rob, 'accepted', 'a renaming to the same name changes nothing');

# In a transaction that goes on while the name changes hands.
my $open = open_session($node, user => 'app');
my $in_force = issued(sub => '"rob"', exp => time() + 3600);
$open->query_safe("BEGIN; SELECT set_config('leyser.token', '$in_force', true)");
is($open->query_safe('SELECT leyser.account_name()'), 'rob', 'in force');
act(q{SELECT leyser.delete_account('rob'); SELECT leyser.create_account('rob')});
is_refused_in($open, 'SELECT leyser.account_name()', 'LY005', 'the name went to somebody else');
$open->query_safe('ROLLBACK');
is($node->safe_psql('postgres', q{SET leyser.context_scope = 'session'; SELECT set_config('leyser.token', '} . $in_force
	. q{', false) \g /dev/null
	SELECT leyser.account_name()}), 'rob', 'without a time it is good for the one who has the name now');

# In parallel workers: what the leader's context says is what counts.
act(q{SELECT leyser.create_account('tim')});
$node->safe_psql('postgres', q{
	CREATE TABLE item (tenant_id text NOT NULL, n int);
	INSERT INTO item SELECT 't1', i FROM generate_series(1, 1000) i;
	SELECT leyser.protect('item');
	GRANT SELECT ON item TO app});
my $tim = issued(sub => '"tim"', iat => int(now()));
is($node->safe_psql('postgres', "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET parallel_leader_participation = off; BEGIN; SELECT set_config('leyser.token', '$tim', true) \\g /dev/null
	SELECT count(*), count(DISTINCT leyser.account_name()) FROM item; COMMIT",
	extra_params => [ '-U', 'app' ]), '1000|1', 'an account of an issuer in parallel workers');

# An issuer's clock may be behind; ours is our own.
outcome_is(issued(exp => int(now()) - 10), 'accepted', 'expired within the leeway: an issuer\'s');
outcome_is(issued(exp => int(now()) - 60), 'LY003', 'expired beyond it');
outcome_is(own_token($node, exp => int(now()) - 1), 'LY003', 'expired a second ago: our own');
outcome_is(own_token($node, exp => int(now()) + 10, nbf => int(now()) + 10), 'accepted', 'nbf: within the leeway');

$node->stop;
done_testing();
