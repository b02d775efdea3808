# Random changes of roles, grants, denials, scopes, times and accounts, made in
# one session: has_permission(), explain_permission(), permissions_of(),
# accounts_with() and had_permission() in another agree with a model of their own
# (test/property/permission_model.sql), and a grant is accepted where it should be.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{LEYSER_PROPERTY_ROUNDS} // 12;
my $steps = 15;
my $seed = $ENV{LEYSER_PROPERTY_SEED} // rand();

my $node = new_node('property');
$node->safe_psql('postgres', slurp_file('test/property/permission_model.sql'));
$node->safe_psql('postgres', q{
	CREATE ROLE gateway LOGIN;
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_permission(p, 'for the test') FROM unnest('{doc.read,doc.write,report}'::text[]) p;
	SELECT leyser.create_tenant('model');
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		SELECT 'model', name, name, 'active' FROM model.account;
	SELECT leyser.make_administrator(account_id, NULL) FROM leyser.account_record WHERE account_name = 'root';
	INSERT INTO model.given SELECT 'root', 'administrator', NULL, NULL, now(), 'infinity', true, NULL;
});

my $changes = open_session($node);
my $answers = open_session($node, user => 'gateway');

note("seed $seed");
$changes->query("SELECT setseed($seed)");
$changes->query(q{BEGIN; SELECT leyser.enter('model', 'root');
	SELECT leyser.create_role(r, '{}') FROM unnest('{r1,r2,r3,r4}'::text[]) r;
	INSERT INTO model.role SELECT unnest('{r1,r2,r3,r4}'::text[]); COMMIT});
for my $round (1 .. $rounds)
{
	my @wrong;
	for (1 .. $steps)
	{
		# in one transaction each
		push @wrong, scalar $changes->query('SELECT * FROM model.step()');
		push @wrong, scalar $changes->query(q{BEGIN; SELECT leyser.enter('model', 'root');
			SELECT 'cascaded without need', g FROM model.follow_cascade() g; COMMIT});
	}
	@wrong = grep { /\S/ } @wrong;
	is("@wrong", '', "round $round: what is granted, and what follows a revoke") or last;
	$answers->query('CALL model.compare()');
	my $difference = $answers->query('SELECT * FROM model.difference');
	is($difference, '', "round $round: all answers agree") or last;
}

# the test itself: it has seen something
is($node->safe_psql('postgres', 'SELECT count(*) FROM model.compared'), $rounds, 'every comparison came to its end');
is($node->safe_psql('postgres', 'SELECT count(*) > 5 * ' . $rounds . ' FROM model.done'), 't', 'changes were tried');
my $accepted = $node->safe_psql('postgres', q{SELECT count(DISTINCT substring(statement FROM '[^(]*')) FROM model.done WHERE sqlstate = '00000'});
cmp_ok($accepted, '>=', 8, 'many kinds of changes were accepted');
my $allowed = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE allowed) BETWEEN 100 AND count(*) - 100 FROM model.seen});
is($allowed, 't', 'answers are yes and no');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT source) FROM model.seen}), '5', 'all five were asked');
note($node->safe_psql('postgres', q{SELECT sqlstate, count(*), count(*) FILTER (WHERE statement LIKE '%true)') FROM model.done GROUP BY 1 ORDER BY 1}));

diag("seed $seed") unless Test::More->builder->is_passing;
$changes->quit;
$answers->quit;
$node->stop;
done_testing();
