# BackupProperty.pm
#
# Random days of backups, failures, verifications, deletions, other systems and other
# policies, judged by a model of their own.  The days lie in a time to come, so that
# what the books write down by the clock is always older; generations get their times
# after they were recorded.

package BackupProperty;

use strict;
use warnings;

use List::Util qw(max min);
use LeyserTest;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(test_backup_property);

my $first = 2208988800;    # 2040-01-01 00:00:00 UTC
my $day = 86400;
my @zones = qw(UTC Asia/Tokyo America/New_York Pacific/Kiritimati Pacific/Pago_Pago Europe/London Australia/Lord_Howe);
my %good = map { $_ => 1 } qw(complete verified);
my @wanted = (qw(complete failed verified orphan mended deleted refused), 'another system', 'clock moved back',
	'expired beyond the floor', 'expired beyond the ceiling', 'expired goes with its parent', 'kept newest that counts',
	'kept newest verified', 'kept one that stays needs it', 'kept beyond the ceiling');
my ($session, %books, %policy, $now, %seen, @history);

# LEYSER_PROPERTY_SEED repeats a run, LEYSER_PROPERTY_ROUNDS sets its length.
# Arguments: the number of rounds, a day or less each.
sub test_backup_property
{
	my $rounds = $ENV{LEYSER_PROPERTY_ROUNDS} // $_[0];
	my $seed = srand($ENV{LEYSER_PROPERTY_SEED} // int(rand(2**31)));
	local $PostgreSQL::Test::Utils::timeout_default = 180 + 10 * $rounds;
	my $node = new_node('backup_property');
	my $wrong = '';

	$session = open_session($node);
	%policy = (generations => 7, max_age => 7 * $day, slack => $day);
	$now = $first + 10 * $day;
	# what is rare is waited for, ten times as long
	foreach my $round (1 .. 10 * $rounds)
	{
		last if $round > $rounds && !grep { !$seen{$_} } @wanted;
		$now += int(rand(1.3 * $day));
		$session->query("SET TimeZone = '$zones[rand @zones]'");
		step() foreach 1 .. 1 + int(rand(5));
		$wrong = difference() || expire();
		last if $wrong;
	}
	is($wrong, '', 'the books agree with the model after each step') or diag("LEYSER_PROPERTY_SEED=$seed\n" . join("\n", @history[ -min(30, scalar @history) .. -1 ]));
	unlike($session->{stderr}, qr/ERROR/, 'no statement failed that should not');
	cmp_ok($seen{$_} // 0, '>', 0, "seen: $_") foreach @wanted;
	$session->quit;
	$node->stop;
	return;
}

# By id: a run is repeated by its seed alone.
sub generations
{
	return map { $books{$_} } sort { $a <=> $b } keys %books;
}

sub ask
{
	my ($sql) = @_;

	push @history, $sql;
	return scalar $session->query($sql);
}

# ---- what happens ----

sub step
{
	my $what = rand();
	my @running = grep { $_->{state} eq 'running' } generations();
	my @there = grep { $_->{state} ne 'deleted' } generations();
	my @spoilt = grep { $_->{state} eq 'failed' && $_->{completed} } @there;
	my $one = @spoilt && rand() < 0.2 ? $spoilt[rand @spoilt] : $there[rand @there];

	return begin() if $what < 0.35 || !@there;
	return complete($running[rand @running]) if $what < 0.65 && @running;
	return fail_running($running[rand @running]) if $what < 0.7 && @running;
	return verify($one, rand() < 0.7) if $what < 0.85;
	return delete_one((grep { $_->{state} eq 'expired' } @there)[0] // $one) if $what < 0.97;
	return change_policy();
}

# A call that the model expects to be refused, or not; true where it worked.
sub call
{
	my ($sql, $refused) = @_;
	my $sqlstate = sqlstate_in($session, $sql);

	push @history, "$sql -- $sqlstate";
	$seen{refused}++ if $refused;
	die "$sql: \"$sqlstate\"\n" . join("\n", @history) if $sqlstate ne ($refused ? 'LY008' : '');
	return !$refused;
}

sub begin
{
	my $other = rand() < 0.07;
	my @parents = grep { $_->{kind} !~ /snapshot|copy/ && $_->{other} == $other } generations();
	my @fit = grep { $good{ $_->{state} } } @parents;
	my $parent = rand() < 0.7 ? (@fit && rand() < 0.85 ? $fit[rand @fit] : $parents[rand @parents]) : undef;
	my $kind = $parent ? (qw(differential incremental))[rand 2] : (qw(full full full full full full snapshot restore_copy))[rand 8];
	my $refused = $parent && !$good{ $parent->{state} };
	my $started = $now - int(rand(0.3 * $day));
	my $id;

	return unless call(sprintf(q{SELECT leyser.begin_backup('random', '/backup', 'JP', '%s', %s%s)}, $kind,
		$parent ? $parent->{id} : 'NULL', $other ? ', 4711' : ''), $refused);
	$id = ask(sprintf q{UPDATE leyser.generation_record SET started_at = to_timestamp(%d)
		WHERE generation_id = (SELECT max(generation_id) FROM leyser.generation_record) RETURNING generation_id}, $started);
	$books{$id} = { id => $id, kind => $kind, parent => $parent ? $parent->{id} : undef, state => 'running', started => $started, other => $other };
	$seen{'another system'} += $other;
	return;
}

sub complete
{
	my ($one) = @_;

	call("SELECT leyser.complete_backup($one->{id}, '0/1', '0/2', 1, NULL)", 0);
	$one->{state} = chain_is_good($one->{parent}) ? 'complete' : 'orphan';
	$one->{completed} = 1;
	$seen{ $one->{state} }++;
	return;
}

sub fail_running
{
	my ($one) = @_;

	call("SELECT leyser.fail_backup($one->{id}, 'at random')", 0);
	spoil($one, 'failed');
	return;
}

sub verify
{
	my ($one, $ok) = @_;
	my $possible = $ok ? $good{ $one->{state} } || $one->{state} eq 'orphan' || $one->{state} eq 'failed' && $one->{completed}
	  : $good{ $one->{state} } || $one->{state} eq 'orphan';

	$possible &&= chain_is_good($one->{parent}) if $ok;
	return unless call("SELECT leyser.verify_backup($one->{id}, " . ($ok ? 'true' : 'false') . ", 'at random')", !$possible);
	return spoil($one, 'failed') unless $ok;
	$one->{state} = 'verified';
	$seen{verified}++;
	# children before their children
	foreach my $child (generations())
	{
		next unless $child->{state} eq 'orphan' && needs($child, $one->{id}) && chain_is_good($child->{parent});
		$child->{state} = 'complete';
		$seen{mended}++;
	}
	return;
}

sub delete_one
{
	my ($one) = @_;

	call("SELECT leyser.confirm_backup_deleted($one->{id})", 0);
	spoil($one, 'deleted');
	return;
}

sub spoil
{
	my ($one, $state) = @_;

	$one->{state} = $state;
	$seen{$state}++;
	foreach my $child (grep { $good{ $_->{state} } && needs($_, $one->{id}) } generations())
	{
		$child->{state} = 'orphan';
		$seen{orphan}++;
	}
	return;
}

sub change_policy
{
	my %new = (generations => 1 + int(rand(9)), slack => int(rand(3)) * $day / 2 + 3600);

	$new{max_age} = ($new{generations} + int(rand(3))) * $day;
	call(sprintf(q{SELECT leyser.set_backup_policy(generations => %d, max_age => '%d seconds', slack => '%d seconds')},
		@new{qw(generations max_age slack)}), 0);
	%policy = %new;
	return;
}

# ---- what the model thinks ----

sub needs
{
	my ($one, $id) = @_;

	while (defined $one->{parent})
	{
		return 1 if $one->{parent} == $id;
		$one = $books{ $one->{parent} };
	}
	return 0;
}

sub chain_is_good
{
	my ($id) = @_;

	for (; defined $id; $id = $books{$id}{parent})
	{
		return 0 unless $good{ $books{$id}{state} };
	}
	return 1;
}

# Newest first; of one second the one recorded last.
sub newest_first
{
	return sort { $b->{started} <=> $a->{started} || $b->{id} <=> $a->{id} } @_;
}

# What goes at a moment, by id.
sub going
{
	my ($at) = @_;
	my $ceiling = $at - $policy{max_age} - $policy{slack};
	my @own = newest_first(grep { !$_->{other} && $_->{state} !~ /^(deleted|expired|running)$/ } generations());
	my @whole = grep { $_->{kind} ne 'restore_copy' && $good{ $_->{state} } && chain_is_good($_->{parent}) } @own;
	my (%days, @counting, %stays, %goes);

	push @counting, $_ foreach grep { !$days{ int($_->{started} / $day) }++ } @whole;
	my $oldest = @counting >= $policy{generations} ? $counting[ $policy{generations} - 1 ]{started} : 0;
	foreach my $one (@own)
	{
		$stays{ $one->{id} } = 'young' if $one->{started} >= $ceiling && $one->{started} >= $oldest;
	}
	my ($verified) = grep { $_->{state} eq 'verified' } @whole;
	$stays{ $verified->{id} } = 'newest verified' if $verified;
	$stays{ $counting[0]{id} } = 'newest that counts' if @counting;
	foreach my $one (generations())
	{
		next unless $one->{state} eq 'running' || $good{ $one->{state} } && ($one->{other} || $stays{ $one->{id} });
		for (my $id = $one->{parent}; defined $id; $id = $books{$id}{parent})
		{
			$stays{$id} //= 'one that stays needs it';
		}
	}
	foreach my $one (@own)
	{
		$goes{ $one->{id} } = 'beyond the ' . ($one->{started} < $ceiling ? 'ceiling' : 'floor') unless $stays{ $one->{id} };
	}
	foreach my $one (@own)
	{
		next if $goes{ $one->{id} } || $good{ $one->{state} };
		$goes{ $one->{id} } = 'goes with its parent'
		  if grep { needs($one, $_) } keys %goes, map { $_->{id} } grep { $_->{state} eq 'expired' } generations();
	}
	foreach my $one (grep { !$goes{ $_->{id} } } @own)
	{
		$seen{"kept $stays{$one->{id}}"}++;
		$seen{'kept beyond the ceiling'}++ if $one->{started} < $ceiling;
	}
	return (\%goes, $counting[0], $verified, $ceiling, @counting);
}

# ---- what is compared ----

sub difference
{
	my $told = ask('SELECT generation_id, state FROM leyser.generation_record ORDER BY 1');
	my $thought = join "\n", map { "$_|$books{$_}{state}" } sort { $a <=> $b } keys %books;

	return $told eq $thought ? '' : "states\n$told\ninstead of\n$thought";
}

# Expires at the model's time, and looks at the invariants besides the model.
sub expire
{
	my ($goes, $newest, $verified, $ceiling, @counting) = going($now);
	my $thought = join "\n", sort { $a <=> $b } keys %$goes;
	my $latest = max(0, map { $_->{started} } generations());
	my $told;

	$told = ask("SELECT generation_id FROM leyser.policy_decision(to_timestamp($now), leyser.this_system()) WHERE place IS NOT NULL ORDER BY place");
	return "counting are\n$told\ninstead of\n" . join("\n", map { $_->{id} } @counting)
	  if $told ne join("\n", map { $_->{id} } @counting);

	# by a clock that stands before what the books know nothing goes, nor by the server's
	if ($thought ne '' && $latest > $first)
	{
		$told = ask(sprintf q{SELECT leyser.expire_backups_at(to_timestamp(%d)) UNION ALL SELECT leyser.expire_backups()}, $latest - 1);
		return "a clock moved back expired $told" if $told ne '';
		$seen{'clock moved back'}++;
	}
	$told = ask("SELECT leyser.expire_backups_at(to_timestamp($now)) AS e ORDER BY e");
	return "expired\n$told\ninstead of\n$thought at $now" if $told ne $thought;
	$seen{"expired $_"}++ foreach values %$goes;
	foreach my $id (split /\n/, $told)
	{
		my $one = $books{$id};
		$one->{state} = 'expired';
		return "the newest good one expired: $id" if $newest && $newest->{id} == $id;
		return "the newest verified one expired: $id" if $verified && $verified->{id} == $id;
		return "another system's expired: $id" if $one->{other};
		return "the floor was broken: $id" if $one->{started} >= $ceiling
		  && grep { $_->{id} == $id } @counting[ 0 .. min($policy{generations}, scalar @counting) - 1 ];
	}
	foreach my $child (grep { defined $_->{parent} && $_->{state} !~ /^(expired|deleted)$/ } generations())
	{
		return "an expired parent of $child->{id}" if $books{ $child->{parent} }{state} eq 'expired';
	}
	$told = ask("SELECT leyser.expire_backups_at(to_timestamp($now))");
	return "again expired $told" if $told ne '';
	return difference();
}

1;
