# The rules of the security check, and attempts of the attack test, in doc/rules.md are those of the catalogue.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('reference');
my $document = slurp_file(dirname(dirname(dirname(abs_path(__FILE__)))) . '/doc/rules.md');
my $rules = $node->safe_psql('postgres', q{SELECT format('| `%s` | %s | %s | %s %s | `%s` |', check_id, severity, fails, what, why, example)
	FROM leyser.check_rule ORDER BY check_id COLLATE "C"});

my ($section) = $document =~ /^## Rules of the security check\n(.*?)^## /ms;
is(join("\n", grep { /^\| `/ } split /\n/, $section), $rules, 'the rules, line by line');

my $attempts = $node->safe_psql('postgres', q{SELECT format('| `%s` | %s | %s |', attempt, on_each, what) FROM leyser.attack_attempt ORDER BY attempt COLLATE "C"});
($section) = $document =~ /^## Attempts of the attack test\n(.*)\z/ms;
is(join("\n", grep { /^\| `/ } split /\n/, $section), $attempts, 'the attempts, line by line');

$node->stop;
done_testing();
