# Whatever a name is made of, it is text on the page: tags, quotes, references, Unicode,
# and characters that no XML may have.

use strict;
use warnings;
use utf8;

use LeyserCheck;
use LeyserPage;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('names');

# Each place has a name of its own, so that the page tells which ones it shows.
my $hostile = q{<script>alert(1)</script>"'&amp;<b onclick=x>]]>--><!--é漢🦀} . "\x{202E}";
my %name = map { $_ => "$_$hostile" } qw(tenant held label region statement attested basis store table role notice);
my %literal = map { my $name = $name{$_} =~ s/'/''/gr; ($_ => "'$name'") } keys %name;
my %identifier = map { my $name = substr($name{$_}, 0, 26) =~ s/"/""/gr; ($_ => qq{"$name"}) } qw(table role);

seed_books($node);
$node->safe_psql('postgres', qq{
	CREATE TABLE shop.$identifier{table} (tenant_id bigint NOT NULL, id bigint, PRIMARY KEY (tenant_id, id));
	CREATE ROLE $identifier{role} LOGIN BYPASSRLS;
	SELECT leyser.grant_usage('books', 'backup');
	SELECT leyser.create_tenant($literal{tenant}), leyser.create_tenant($literal{held});
	SELECT leyser.terminate_contract(t, now()) FROM unnest(ARRAY[$literal{tenant}, $literal{held}]) t;
	SELECT leyser.hold_purge($literal{held}, $literal{basis}, current_date + 9);
	SELECT leyser.register_external_store($literal{store});
	SELECT leyser.attest('2.2', $literal{statement}, $literal{attested}, repeat('ab', 32), now() + interval '1 year');
	SELECT leyser.set_backup_policy(regions => ARRAY['JP', $literal{region}]);
	SELECT leyser.begin_backup($literal{label}, '/b', $literal{region});
});
# Those that no function lets in.
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET label = label || E'\x01\x08\x0b\x1b\x7f' || chr(155) || chr(65534) || chr(65535) WHERE region ~ 'region'});
$node->safe_psql('postgres', "CALL leyser.purge($literal{tenant}, wait => false)");
$node->poll_query_until('postgres', q{SELECT blockers::text ~ 'store<' FROM leyser.purge_status WHERE tenant_id ~ '^tenant'}) or die 'the purge does not wait';

my $nothing = q{count(//*[local-name()="script" or local-name()="b"] | //@onclick | //comment())};
foreach my $language (qw(en ja))
{
	my ($without, $with) = map { page_of($node, "'$language', $_") } qw(false true);

	is_well_formed($without, "$language, without names");
	is_well_formed($with, "$language, with names");
	foreach my $page ($without, $with)
	{
		is(xpath($page, $nothing), 0, "$language: no element, attribute or comment comes of a name");
		unlike($page, qr/[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\x{fffe}\x{ffff}]/, "$language: nothing that no XML may have");
	}
	my $text = xpath($with, 'string(/)');
	foreach my $place (qw(tenant held label region statement attested basis store))
	{
		ok(index($text, $name{$place}) >= 0, "$language: the page has the name of: $place, as it is");
	}
	ok(index($text, substr $name{$_}, 0, 26) >= 0, "$language: ... of: $_") foreach qw(role);
	my $published = xpath($without, 'string(/)');
	ok(index($published, "$_<script>") >= 0, "$language: published: $_") foreach qw(region statement attested);
	ok(index($published, "$_<script>") < 0, "$language: ... and not: $_") foreach qw(tenant held label basis store table role);
	like($text, qr/\x{202E}\x{FFFD}{8}/, "$language: what no XML may have is told");

	# Where names stand in attributes, too.
	is(browse($with, 360, q{return page.querySelectorAll('script, b, [onclick]').length + ' ' + page.querySelectorAll('article').length;}), '0 20',
		"$language: a browser reads it alike");
}

# Should something slip through, nothing runs.
my $page = page_of($node, '');
my $slipped = $page =~ s{</main>}{<script>parent.document.title = document.title = "ran"</script><img src="x" onerror="document.title = 'ran'"/></main>}r;
isnt($slipped, $page, 'a script is put into the page');
is(browse($slipped, 360, q{return document.title + page.title;}), 'Security white paper', '... and does not run');
is(browse($slipped =~ s{<meta http-equiv[^>]*>}{}r, 360, q{return document.title + page.title;}), 'ranran', '... but for the policy that the page has');

$node->stop;
done_testing();
