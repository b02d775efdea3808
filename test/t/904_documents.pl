# What the documents point to is there: files, headings, tests, rules of the security
# check.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use utf8;

my $root = dirname(dirname(dirname(abs_path(__FILE__))));
my @documents = map { s{^\Q$root\E/}{}r } glob("$root/*.md $root/doc/*.md");
my %folders = (tap => [ 't', 'pl' ], regress => [ 'sql', 'sql' ], isolation => [ 'specs', 'spec' ], long => [ 'long', 'pl' ]);

# A document's text without its code blocks.
sub prose
{
	my ($document) = @_;
	my $text = slurp_file("$root/$document");

	utf8::decode($text) or die "$document is not UTF-8";
	return $text =~ s/^```.*?^```$//gmsr;
}

# The anchors of a document's headings, as GitHub makes them: the second one of a name has a number.
sub anchors
{
	my ($document) = @_;
	my (%anchors, %times);

	foreach my $heading (prose($document) =~ /^#+ (.+)$/mg)
	{
		my $anchor = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr);
		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ tr/ /-/;
		my $times = $times{$anchor}++;
		$anchors{ $times == 0 ? $anchor : "$anchor-$times" } = 1;
	}
	return \%anchors;
}

sub no_link_is_dead
{
	my ($document) = @_;
	my @dead;

	foreach my $link (prose($document) =~ /\]\(([^)]+)\)/g)
	{
		next if $link =~ /^https?:/;
		my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $path eq '' ? $document : dirname($document) . "/$path";
		$target =~ s{^\./|[^/]+/\.\./}{}g;
		push @dead, $link unless -e "$root/$target" && (!defined $anchor || anchors($target)->{$anchor});
	}
	is(join(' ', @dead), '', "$document: each link leads somewhere");
	return;
}

sub tests_are_there
{
	my ($document) = @_;
	my @missing = grep { my ($kind, $name) = split m{/}; !-e "$root/test/$folders{$kind}[0]/$name.$folders{$kind}[1]" }
	  prose($document) =~ m{`(?:test/run )?((?:tap|regress|isolation|long)/\w+)`}g;

	is(join(' ', @missing), '', "$document: each test that it names is there");
	return;
}

# Another test compares these with the catalogue.
my %rules = map { $_ => 1 } prose('doc/rules.md') =~ /^\| `(\w+\.\w+)` \| (?:critical|high|medium|low) \|/mg;
my $families = join '|', sort keys %{ { map { /^(\w+)/ => 1 } keys %rules } };
cmp_ok(scalar(keys %rules), '>', 70, 'there are rules');

sub rules_are_there
{
	my ($document) = @_;
	my @missing = grep { !$rules{$_} } prose($document) =~ /`((?:$families)\.[a-z_]+)`/g;

	is(join(' ', @missing), '', "$document: each rule that it names is there");
	return;
}

# The README is long: its table of contents has every section.
sub contents_are_whole
{
	my ($document) = @_;
	my %linked = map { $_ => 1 } prose($document) =~ /\]\(#([^)]+)\)/g;
	my ($title) = prose($document) =~ /^# (.+)$/m;

	is(join(' ', grep { !$linked{$_} } sort keys %{ anchors($document) }), lc $title, "$document: the table of contents is whole");
	return;
}

contents_are_whole('README.md');
foreach my $document (@documents)
{
	no_link_is_dead($document);
	tests_are_there($document);
}
rules_are_there('doc/threat-model.md');
done_testing();
