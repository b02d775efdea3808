# PermissionProperty.pm
#
# Random changes of roles, grants, denials, scopes, times and accounts, judged by
# a model of their own (test/property/permission_model.sql).

package PermissionProperty;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(test_permission_property);

my $model = dirname(dirname(abs_path(__FILE__))) . '/property/permission_model.sql';
my $steps = 20;

# A grant, another on the strength of it, and its end with all that depends on it;
# and a grant that would outlive what it stands on.  Chance seldom makes these.
my @chain = map { "SELECT * FROM model.change($_)" } (
	q{'state', 'root', 'u1', '', NULL, now(), 'infinity', true},
	q{'grant_permission', 'root', 'u1', 'report', 'b', now(), 'infinity', true},
	q{'grant_permission', 'u1', 'u2', 'report', 'b', now(), 'infinity', false},
	q{'revoke_permission', 'root', 'u1', 'report', 'b', now(), 'infinity', true},
	q{'grant_permission', 'root', 'u1', 'report', 'ab', now(), now() + interval '1 hour', true},
	q{'grant_permission', 'u1', 'u2', 'report', 'ab', now(), 'infinity', false});

# Changes in one session, in one transaction each; after every few of them another
# session asks for all answers.  LEYSER_PROPERTY_SEED repeats the choices of a run,
# though not its times; LEYSER_PROPERTY_ROUNDS sets its length.
# Argument: the number of rounds.
sub test_permission_property
{
	my $rounds = $ENV{LEYSER_PROPERTY_ROUNDS} // $_[0];
	my $seed = $ENV{LEYSER_PROPERTY_SEED} // rand();
	# a session's time runs from its start on
	local $PostgreSQL::Test::Utils::timeout_default = 180 + 10 * $rounds;
	my $node = node_with_model();
	my $changes = open_session($node);
	my $answers = open_session($node, user => 'gateway');

	$changes->query("SELECT setseed($seed)");
	foreach my $round (1 .. $rounds)
	{
		my @changes = (('SELECT * FROM model.step()') x $steps, @chain);
		my $wrong = join "\n", grep { /\S/ } map { scalar $changes->query($_) } @changes;

		is($wrong, '', "round $round: what is granted, and what follows a revoke") or last;
		all_answers_agree($answers, "round $round") or last;
	}
	$changes->query('CALL model.end_soon()');
	all_answers_agree($answers, 'until times end');
	$changes->query('SELECT pg_sleep(2)');
	all_answers_agree($answers, 'after they ended');
	unlike($changes->{stderr} . $answers->{stderr}, qr/ERROR/, 'the model itself has no errors');
	$changes->quit;
	$answers->quit;
	judge_run($node, $rounds);
	diag("LEYSER_PROPERTY_SEED=$seed") unless Test::More->builder->is_passing;
	$node->stop;
	return;
}

sub all_answers_agree
{
	my ($answers, $when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$answers->query('CALL model.compare()');
	return is(scalar $answers->query('SELECT * FROM model.difference'), '', "$when: all answers agree");
}

# No statistics, so costs are guessed high: jit would take longer than all the rest.
sub node_with_model
{
	my $node = new_node('property', conf => "jit = off\n");

	$node->safe_psql('postgres', slurp_file($model));
	$node->safe_psql('postgres', q{
		CREATE ROLE gateway LOGIN;
		SELECT leyser.grant_usage('gateway', 'gateway');
		CALL model.begin();
	});
	return $node;
}

# A run in which nothing happened would look clean, too.
sub judge_run
{
	my ($node, $rounds) = @_;
	my $ask = sub { $node->safe_psql('postgres', shift) };

	is($ask->('SELECT count(*) FROM model.compared'), $rounds + 2, 'every comparison came to its end');
	cmp_ok($ask->('SELECT count(*) FROM model.done'), '>', 5 * $rounds, 'changes were tried');
	cmp_ok($ask->(q{SELECT count(DISTINCT substring(statement FROM '[^(]*')) FROM model.done WHERE sqlstate = '00000'}),
		'>=', 8, 'many kinds of changes were accepted');
	cmp_ok($ask->('SELECT count(*) FROM model.done WHERE followed > 0 AND sqlstate = $$00000$$'), '>', 0, 'grants cascaded')
		if $rounds > 50;
	cmp_ok($ask->(q{SELECT count(*) FROM model.given WHERE ends < (SELECT max(at) FROM model.compared)}),
		'>', 0, 'grants ended');
	cmp_ok($ask->(q{SELECT count(*) FROM model.done WHERE sqlstate = 'ZZ001'}),
		'<', $rounds * $steps / 4, 'few changes met a time');
	is($ask->('SELECT sum(allowed) > 100 AND sum(refused) > 100 FROM model.compared'),
		't', 'answers are yes and no');
	is($ask->('SELECT count(DISTINCT source) FROM model.seen'), '5', 'all five were asked');
	note($ask->('SELECT sqlstate, count(*) FROM model.done GROUP BY 1 ORDER BY 1'));
	return;
}

1;
