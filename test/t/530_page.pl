# The page of the white paper: who gets it, in which languages, what is in it with and
# without names, and that its figures are those of the views.

use strict;
use warnings;
use utf8;

use LeyserCheck;
use LeyserPage;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('page');

sub ask
{
	my ($sql) = @_;
	my $answer = $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'auditor' ]);

	utf8::decode($answer) unless utf8::is_utf8($answer);
	return $answer;
}

# Who, and in what.
foreach my $role (qw(operator auditor))
{
	is($node->safe_psql('postgres', q{SELECT left(leyser.white_paper_html(), 15)}, extra_params => [ '-U', $role ]), '<!DOCTYPE html>', "$role gets the page");
}
foreach my $role (qw(app reader custodian))
{
	is_refused($node, $_, '42501', "$role: $_", user => $role)
	  foreach 'SELECT leyser.white_paper_html()', q{SELECT leyser.xml_text('x')}, q{SELECT leyser.look_around('en', true)};
}
is_refused($node, "SELECT leyser.white_paper_html($_)", '22023', "language $_", user => 'auditor') foreach q{'de'}, q{''}, 'NULL', q{'EN'}, q{'<script>'};
like(ask(q{BEGIN READ ONLY; SELECT leyser.white_paper_html(); COMMIT}), qr{</html>$}, 'in a read-only transaction');

# A database of which nothing is known yet.
my $empty = page_of($node, '');
is_well_formed($empty, 'nothing to tell yet');
like($empty, qr/The books know of no backup yet\./, '... no backup');
unlike($empty, qr/<table id="(?:purges|horizons|generations)"|class="days"/, '... and no empty lists');

# One about which there is something to tell.
seed_books($node);
$node->safe_psql('postgres', q{CREATE ROLE shadow_role BYPASSRLS; ALTER ROLE app RESET statement_timeout; ALTER ROLE app RESET idle_in_transaction_session_timeout});
$node->safe_psql('postgres', q{SELECT leyser.waive_check(check_id, object, 'known', now() + interval '9 days') FROM leyser.check_security() WHERE check_id = 'server.idle_timeout'},
	extra_params => [ '-U', 'operator' ]);
$node->safe_psql('postgres', 'CALL leyser.tick()', extra_params => [ '-U', 'operator' ]);
my %pages = map { my $language = $_; map { ("$language $_" => page_of($node, "'$language', $_")) } qw(false true) } qw(en ja);
is_well_formed($pages{$_}, $_) foreach sort keys %pages;

# Figures.
foreach my $name (sort keys %pages)
{
	my $figures = figures_of($pages{$name});
	my %wanted = (
		(map { split /\|/ } split /\n/, ask(q{SELECT 'clauses ' || split_part(status, ' until', 1), count(*) FROM leyser.white_paper() GROUP BY 1})),
		'generations countable' => ask(q{SELECT count(*) FILTER (WHERE countable) FROM leyser.backup_generation}),
		'generations present' => ask(q{SELECT count(*) FROM leyser.backup_generation WHERE state <> 'deleted'}),
		'days missed' => ask(q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'missed day'}),
		'newest' => ask(q{SELECT to_char(max(started_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM leyser.backup_generation WHERE completed_at IS NOT NULL}),
		'verified last' => ask(q{SELECT to_char(max(verified_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM leyser.backup_generation}),
		'tenants erased' => ask(q{SELECT count(*) FROM leyser.tenant WHERE state = 'erased'}),
		'tenants held' => ask(q{SELECT count(*) FROM leyser.tenant WHERE state = 'held'}),
		'purges open' => ask(q{SELECT count(*) FROM leyser.purge_status WHERE state <> 'erased'}),
		'erased in backups' => ask(q{SELECT count(*) FROM leyser.erasure_horizon WHERE gone_at IS NULL}),
		'erased overdue' => ask(q{SELECT count(*) FROM leyser.erasure_horizon WHERE gone_at IS NULL AND due_at < now()}),
		'erased gone' => ask(q{SELECT count(*) FROM leyser.erasure_horizon WHERE gone_at IS NOT NULL}),
		(map { my $severity = $_;
			("findings $severity" => ask("SELECT count(*) FROM leyser.check_security() WHERE severity = '$severity'"),
			 "accepted $severity" => ask("SELECT count(*) FROM leyser.check_waiver w JOIN leyser.check_rule r USING (check_id) WHERE w.is_valid AND r.severity = '$severity'")) }
			qw(critical high medium low)));

	$wanted{'generations countable'} .= ($name =~ /^en/ ? ' of ' : ' / ') . '7';
	if ($name =~ /false/)
	{
		%wanted = (%wanted, map { split /\|/ } split /\n/, ask(q{SELECT 'purges ' || state, count(*) FROM leyser.purge_status WHERE state <> 'erased' GROUP BY 1}));
	}
	is_deeply($figures, \%wanted, "$name: figures are those of the views") or diag(explain($figures));
}
my $figures = figures_of($pages{'en false'});
ok($figures->{$_} > 0, "... and there is something: $_") foreach 'days missed', 'generations present', 'tenants erased', 'tenants held', 'purges waiting', 'erased in backups',
	'findings high', 'findings low', 'accepted low', 'clauses broken', 'clauses attested', 'clauses kept';

# The drawing, day by day.
my $day = q{SELECT string_agg(to_char(day, 'MM-DD'), ' ' ORDER BY day) FROM };
is(join(' ', $pages{'en false'} =~ m{<g class="missed".*?<text[^>]*>([\d-]+)</text>}g), ask($day . q{(SELECT subject::date FROM leyser.backup_alert WHERE alert = 'missed day') a (day)}), 'days that were missed');
is(join(' ', $pages{'en false'} =~ m{<g class="verified".*?<text[^>]*>([\d-]+)</text>}g), ask($day . q{leyser.backup_generation WHERE state = 'verified'}), '... verified');
is(join(' ', $pages{'en false'} =~ m{<g class="complete".*?<text[^>]*>([\d-]+)</text>}g), ask($day . q{leyser.backup_generation WHERE state = 'complete'}), '... complete');
is(xpath($pages{'en false'}, q{count(//*[local-name()="table"][@id="generations"]//*[local-name()="tbody"]/*)}), $figures->{'generations present'}, 'a row for each generation');

# Clauses are those of white_paper().
foreach my $language (qw(en ja))
{
	my $clauses = clauses_of($pages{"$language true"});
	my @rows = map { [ split /\x1f/, $_, -1 ] } split /\x1e/,
	  ask(qq{SELECT string_agg(concat_ws(E'\\x1f', clause, promise, evidence, responsible, coalesce(remedy, ''), iso_27017, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')), E'\\x1e') FROM leyser.white_paper('$language')});
	my @words = $language eq 'en' ? qw(Evidence Responsible Remedy) : qw(根拠 責任主体 対処);

	is(scalar keys %$clauses, 20, "$language: all clauses");
	foreach my $row (@rows)
	{
		my ($number, $promise, $evidence, $responsible, $remedy, $control) = @$row;
		my $told = $clauses->{$number};
		is_deeply([ $told->{promise}, $told->{ $words[0] }, $told->{ $words[1] }, $told->{ $words[2] } // '', $told->{'ISO/IEC 27017'} ],
			[ $promise, $evidence, $responsible, $remedy, $control ], "$language: clause $number");
	}
}
is(clauses_of($pages{'en false'})->{'2.1'}{status} =~ s/\d{4}-\d\d-\d\d$/DAY/r, 'Attested until DAY', 'the day on which an attestation ends');

# The security check's rules are told in the page's language.
foreach my $name (sort keys %pages)
{
	my ($language) = split / /, $name;
	my $rules = q{SELECT w.what FROM leyser.told_rules('%s') w JOIN leyser.check_rule r USING (check_id) WHERE %s};
	my @open = split /\n/, $node->safe_psql('postgres', sprintf $rules, $language, q{check_id IN (SELECT check_id FROM leyser.check_security())});
	my @other = split /\n/, $node->safe_psql('postgres', sprintf $rules, $language eq 'en' ? 'ja' : 'en', 'true');
	my $page = unescape($pages{$name});

	utf8::is_utf8($_) || utf8::decode($_) foreach @open, @other;
	cmp_ok(scalar @open, '>', 1, "$name: there are findings");
	is(join("\n", grep { index($page, $_) < 0 } @open), '', "$name: ... which are told in the page's language");
	is(join("\n", grep { index($page, $_) >= 0 } @other), '', "$name: ... and no rule is in the other one");
}

like($pages{'en true'}, qr/Fewer generations than promised: 6 of 7\./, 'what an alert is about');
like($pages{'ja true'}, qr{世代数の不足: 6 / 7。}, '... in Japanese');

# Without names.
foreach my $language (qw(en ja))
{
	my ($without, $with) = @pages{ "$language false", "$language true" };
	foreach my $name ('shadow_role', 'night 7', 'order of a court', 'release_hold', 'shop.ledger', 'store files', '<td>3</td>')
	{
		my $quoted = quotemeta $name;
		unlike($without, qr/$quoted/, "$language: published without $name");
		like($with, qr/$quoted/, "$language: ... which the other edition has");
	}
	like($without, $language eq 'en' ? qr/\d \(names left out\)/ : qr/\d件\(名称は省略\)/, "$language: how many there are is told");
	like($without, qr/The body/, "$language: who attested is told");
}

# Other settings of the session change nothing.
my $settings = q{SET timezone = 'Asia/Tokyo'; SET datestyle = 'German, DMY'; SET intervalstyle = 'postgres_verbose'; SET standard_conforming_strings = off; SET escape_string_warning = off; };
my ($normal, $other) = map { [ split /\n/, s/\d\d:\d\d(?::\d\d)?(?:Z| UTC)?//gr ] } ask(q{SELECT leyser.white_paper_html('en', true)}), ask($settings . q{SELECT leyser.white_paper_html('en', true)});
is_deeply($other, $normal, 'settings of the session');

# Ten thousand tenants, of each kind that a list could name, with long names.
$node->safe_psql('postgres', q{
	INSERT INTO leyser.tenant_record (tenant_id, region, state, ends_at)
		SELECT 'many ' || g || repeat('x', 100), 'US', (ARRAY['active', 'held', 'erased', 'terminated'])[1 + g % 4], CASE WHEN g % 4 > 0 THEN now() - interval '2 days' END
		FROM generate_series(1, 10000) g;
	INSERT INTO leyser.hold_record SELECT tenant_id, 'a law', current_date + 90, 'operator' FROM leyser.tenant_record WHERE state = 'held' AND tenant_id ~ '^many';
	INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, queued_at, started_at, deleted_at, scrub_end_lsn, erased_at, scrub_system, scrub_timeline)
		SELECT t.tenant_id, CASE t.state WHEN 'erased' THEN 'erased' ELSE 'waiting' END, 5000, 0, 'operator', w.at, w.at, w.at, CASE t.state WHEN 'erased' THEN pg_lsn('0/1000000') END,
			CASE t.state WHEN 'erased' THEN w.at END, leyser.this_system(), 1
		FROM leyser.tenant_record t CROSS JOIN LATERAL (SELECT now() - interval '1 day' AS at) w WHERE t.state IN ('erased', 'terminated') AND t.tenant_id ~ '^many';
	ANALYZE leyser.tenant_record, leyser.purge_record, leyser.hold_record});
foreach my $arguments (q{'en', false}, q{'ja', false}, q{'en', true}, q{'ja', true})
{
	my $page = page_of($node, $arguments);

	cmp_ok(ask("SELECT octet_length(leyser.white_paper_html($arguments))"), '<', 1_000_000, "$arguments: ten thousand tenants stay below 1 MB");
	is_well_formed($page, $arguments);
	is(join(' ', @{ figures_of($page) }{ 'tenants held', 'tenants erased', 'purges open' }), '2501 2501 2501', "$arguments: ... and all are counted");
}

$node->stop;
done_testing();
