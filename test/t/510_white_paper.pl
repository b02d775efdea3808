# The white paper: who reads it, its languages, attestations, clauses that cannot be
# examined, and since when a clause is as it is.

use strict;
use warnings;
use utf8;

use LeyserCheck;
use LeyserSchedule qw(make_due);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = check_node('paper');

sub as_role
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

sub of_clause
{
	my ($clause, $columns) = @_;
	return as_role('auditor', "SELECT $columns FROM leyser.white_paper() WHERE clause = '$clause'");
}

# Who.
my @clauses = ('1.2', map { "2.$_" } 1 .. 19);
foreach my $role (qw(operator auditor))
{
	is(as_role($role, 'SELECT clause FROM leyser.white_paper()'), join("\n", @clauses), "$role reads every clause, in order");
	is(as_role($role, 'SELECT count(*) FROM leyser.attestation'), '0', "$role reads what is attested");
}
foreach my $role (qw(app reader custodian))
{
	is_refused($node, $_, '42501', "$role: $_", user => $role)
	  foreach 'SELECT * FROM leyser.white_paper()', 'SELECT * FROM leyser.attestation', 'SELECT leyser.withdraw_attestation(1)', 'SELECT leyser.note_clauses()',
	  q{SELECT leyser.attest('2.1', 'is certified', 'the body', repeat('0', 64), now() + interval '1 year')};
}
is_refused($node, q{SELECT leyser.attest('2.1', 'is certified', 'the body', repeat('0', 64), now() + interval '1 year')}, '42501', 'auditors attest nothing', user => 'auditor');

# What every row says, in both languages.
is(as_role('auditor', qq{SELECT count(*) FROM leyser.white_paper('$_') w WHERE '' IN (promise, responsible, status, evidence, iso_27017)
	OR num_nulls(clause, promise, responsible, status, evidence, since, iso_27017) > 0}), '0', "nothing is missing: $_") foreach qw(en ja);
is(as_role('auditor', q{SELECT count(*) FROM leyser.white_paper() e JOIN leyser.white_paper('ja') j USING (clause)
	WHERE e.status <> j.status OR e.iso_27017 <> j.iso_27017 OR e.promise = j.promise OR e.evidence = j.evidence OR e.responsible = j.responsible}), '0',
	'the languages differ in words only');
is(as_role('auditor', q{SELECT string_agg(DISTINCT status, ', ' ORDER BY status) FROM leyser.white_paper()
	WHERE status NOT IN ('kept', 'at risk', 'broken', 'declared', 'outside the database') AND status !~ '^attested until \d{4}-\d\d-\d\d$'}), '', 'no other status');
is(as_role('auditor', q{SELECT count(*) FROM leyser.white_paper('ja') WHERE promise !~ '[ぁ-ん]' OR evidence !~ '[ぁ-ん]' OR responsible !~ '[ァ-ヶ一-龠]'}), '0', 'Japanese');
is(as_role('auditor', q{SELECT string_agg(clause, ' ') FROM leyser.white_paper('ja') WHERE evidence ~ 'なし件|件件|[)]件'}), '', 'names are not counted in Japanese');
unlike(as_role('auditor', q{SELECT string_agg(w::text, ' ') FROM leyser.white_paper() w WHERE clause <> '2.1'}), qr/certif/i, 'nothing in it calls itself a certificate');
is($node->safe_psql('postgres', q{SELECT string_agg(key, ', ') FROM (SELECT * FROM leyser.white_paper_phrases() UNION ALL SELECT * FROM leyser.page_phrases()) p WHERE '' IN (en, ja) OR num_nulls(en, ja) > 0
	OR (SELECT count(*) FROM regexp_matches(en, '%(?!%)', 'g')) <> (SELECT count(*) FROM regexp_matches(ja, '%(?!%)', 'g'))}), '', 'each phrase has both languages, with as many blanks');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT key) FROM (SELECT key FROM leyser.white_paper_phrases() UNION ALL SELECT key FROM leyser.page_phrases()) p}), '0', '... and is there once');
is($node->safe_psql('postgres', q{WITH source AS (SELECT p.prosrc FROM pg_proc p WHERE p.pronamespace = 'leyser'::regnamespace),
	used AS (SELECT m[1] AS key FROM source, regexp_matches(prosrc, 'leyser\.tell\((?:look\.language|language|examine_clauses\.language), ''([^'']+)''', 'g') m)
	SELECT count(*) > 30, string_agg(key, ', ') FILTER (WHERE key NOT IN (SELECT key FROM leyser.white_paper_phrases() UNION ALL SELECT key FROM leyser.page_phrases())
		AND key NOT IN ('a ', 'outer ')) FROM used}), 't|', '... whoever uses it');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT a.alert, ', ') FROM leyser.clause_alerts() a WHERE 'a ' || a.alert NOT IN (SELECT key FROM leyser.white_paper_phrases())}),
	'', '... and each alert that a clause knows');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT replace(m[1], '''''', ''''), ', ') FROM pg_proc p, regexp_matches(p.prosrc, '(?:SELECT|THEN|ELSE) ''([a-z](?:[a-z ]|'''')*[a-z])''', 'g') m
	WHERE p.pronamespace = 'leyser'::regnamespace AND p.proname IN ('heartbeat_alerts', 'schedule_alerts', 'archive_gaps', 'archive_alerts', 'logrotate_problems', 'server_log_problems',
		'event_alerts', 'mail_alerts', 'floor_alerts', 'generation_alerts', 'backup_alerts', 'horizon_alerts', 'guard_alerts')
	AND m[1] <> 'lost' AND replace(m[1], '''''', '''') NOT IN (SELECT a.alert FROM leyser.clause_alerts() a)}), '', 'each alert speaks of a clause');
is($node->safe_psql('postgres', q{SELECT string_agg(pattern, ', ') FROM leyser.clause_checks() c WHERE NOT EXISTS (SELECT FROM leyser.check_rule r
	WHERE r.check_id = c.pattern OR right(c.pattern, 1) = '.' AND starts_with(r.check_id, c.pattern))}), '', 'each rule that a clause knows is there');
# The rules of the security check, in Japanese.
is($node->safe_psql('postgres', q{SELECT string_agg(coalesce(r.check_id, j.check_id), ', ') FROM leyser.list_rules() r FULL JOIN leyser.check_texts_ja() j ON j.check_id = r.check_id
	WHERE r.check_id IS NULL OR j.what IS NULL OR j.what !~ '[ぁ-ん]' OR j.what ~ '。'}), '', 'each rule has a Japanese text, and each text a rule');
is($node->safe_psql('postgres', q{SELECT count(*) > 100, count(*) - count(DISTINCT check_id), count(*) - count(DISTINCT what) FROM leyser.check_texts_ja()}), 't|0|0', '... one, and its own');

is_refused($node, "SELECT * FROM leyser.white_paper($_)", '22023', "language $_", user => 'auditor') foreach q{'de'}, q{''}, 'NULL', q{'EN'};

# Attestations that cannot be.
my $attest = q{SELECT leyser.attest(%s, %s, %s, %s, %s)};
my @good = (q{'2.1'}, q{'The service is certified.'}, q{'The body'}, q{repeat('Ab', 32)}, q{now() + interval '1 year'});
foreach my $case ([ 0, q{'2.20'}, '42704' ], [ 0, q{''}, '42704' ], [ 0, 'NULL', '42704' ], [ 1, q{''}, '22023' ], [ 1, q{E' \n'}, '22023' ], [ 1, 'NULL', '22023' ],
	[ 1, q{repeat('x', 2001)}, '22023' ], [ 1, q{E'a\x1bb'}, '22023' ], [ 2, q{' '}, '22023' ], [ 2, 'NULL', '22023' ], [ 2, q{repeat('x', 201)}, '22023' ],
	[ 3, q{repeat('a', 63)}, '22023' ], [ 3, q{repeat('a', 65)}, '22023' ], [ 3, q{repeat('g', 64)}, '22023' ], [ 3, 'NULL', '22023' ], [ 3, q{repeat('a', 64) || E'\n'}, '22023' ],
	[ 4, 'now()', '22023' ], [ 4, q{now() - interval '1 day'}, '22023' ], [ 4, q{'infinity'}, '22023' ], [ 4, q{'-infinity'}, '22023' ], [ 4, 'NULL', '22023' ], [ 4, q{now() + interval '4 years'}, '22023' ])
{
	my ($place, $value, $sqlstate) = @$case;
	my @arguments = @good;

	$arguments[$place] = $value;
	is_refused($node, sprintf($attest, @arguments), $sqlstate, "argument $place: $value", user => 'operator');
}
is(as_role('operator', 'SELECT count(*) FROM leyser.attestation'), '0', 'nothing was written');

# One that holds, and its end.
my $made = as_role('operator', sprintf $attest, @good);
like(of_clause('2.1', 'status, evidence'), qr/^attested until \d{4}-\d\d-\d\d\|Attested by The body on \S+, until \S+: The service is certified\. \(document SHA-256 (ab){32}\)/, 'attested');
is(as_role('auditor', 'SELECT clause, statement, attested_by, document_sha256, recorded_by, is_valid FROM leyser.attestation'),
	'2.1|The service is certified.|The body|' . 'ab' x 32 . '|operator|t', '... as view attestation tells');
is(as_role('auditor', q{SELECT object, caller_role, detail ->> 'attested_by' FROM leyser.event WHERE event = 'attestation.recorded'}), '2.1|operator|The body', '... and an event');
as_role('operator', "SELECT leyser.withdraw_attestation($made)");
like(of_clause('2.1', 'status, evidence'), qr/^outside the database\|The attestation by The body ended on/, 'withdrawn');
is_refused($node, "SELECT leyser.withdraw_attestation($_)", 'LY008', "withdrawing $_", user => 'operator') foreach $made, 77, 'NULL';
as_role('operator', sprintf $attest, q{'2.1'}, q{'日本語の"証明" <b>'}, q{'O''Brien'}, $good[3], q{now() + interval '2 seconds'});
like(of_clause('2.1', q{status, strpos(evidence, '日本語の"証明" <b>') > 0}), qr/^attested until .*\|t$/, 'attested for two seconds');
usleep(2_200_000);
like(of_clause('2.1', 'status, evidence'), qr/^outside the database\|.*O'Brien ended on/, '... and not after them');
is(as_role('auditor', 'SELECT string_agg(is_valid::text, q) FROM leyser.attestation, (VALUES (chr(32))) v (q)'), 'false false', '... the rows stay');

# Whoever pastes a remedy needs to fill it in, and gets what attest() says.
is_refused($node, of_clause('2.1', 'remedy'), '22007', 'the remedy is a call', user => 'operator');

# What fails is told, and takes nothing else along.
my $judge = $node->safe_psql('postgres', q{SELECT pg_get_functiondef('leyser.judge_2_4(leyser.clause_look)'::regprocedure)});
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION leyser.judge_2_4(look leyser.clause_look) RETURNS SETOF leyser.clause_point
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT 'kept', (1 / (random() * 0)::int)::text, NULL::timestamptz, NULL $$});
is(of_clause('2.4', 'status, evidence'), 'broken|It could not be examined: SQLSTATE 22012.', 'a clause that cannot be examined');
is(as_role('auditor', q{SELECT count(*) FROM leyser.white_paper() WHERE evidence ~ '22012'}), '1', '... and no other');
$node->safe_psql('postgres', $judge);
my $rules = $node->safe_psql('postgres', q{SELECT pg_get_functiondef('leyser.token_findings()'::regprocedure)});
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION leyser.token_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT '', '', '', (1 / (random() * 0)::int)::text $$});
is(as_role('auditor', q{SELECT string_agg(clause, ' ') FROM leyser.white_paper() WHERE status = 'broken' AND evidence ~ '22012'}), '2.9', 'a family of rules that fails');
$node->safe_psql('postgres', $rules);
my $alerts = $node->safe_psql('postgres', q{SELECT pg_get_functiondef('leyser.list_alerts(boolean)'::regprocedure)});
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION leyser.list_alerts(details boolean DEFAULT true) RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT '', '', NULL::timestamptz, '', (1 / (random() * 0)::int)::text $$});
is(as_role('auditor', q{SELECT string_agg(clause, ' ') FROM leyser.white_paper() WHERE status = 'broken' AND evidence ~ '22012'}),
	$node->safe_psql('postgres', q{SELECT string_agg(clause, ' ') FROM (SELECT c.clause FROM leyser.white_paper_clauses() c
		WHERE c.clause IN (SELECT a.clause FROM leyser.clause_alerts() a) ORDER BY c.number) c}), 'alerts that fail');
$node->safe_psql('postgres', $alerts);
is(as_role('auditor', q{SELECT string_agg(clause, ' ') FROM leyser.white_paper() WHERE evidence ~ 'SQLSTATE'}), '', 'all can be examined again');

# Since when, as the heartbeat saw it; a change is an event.
sub note_clauses
{
	make_due($node, 'note clauses', '1 second');
	as_role('operator', 'CALL leyser.tick()');
	return;
}

note_clauses();
my $since = of_clause('2.5', 'since');
usleep(1_100_000);
note_clauses();
is(of_clause('2.5', 'status, since'), "kept|$since", 'since when it is kept');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'white_paper.changed' AND object = '2.5'}), '0', '... without an event');
$node->safe_psql('postgres', 'CREATE ROLE shadow BYPASSRLS');
is(of_clause('2.5', "status, since > '$since'"), 'broken|t', 'broken since it was looked at');
note_clauses();
my $broken = of_clause('2.5', 'since');
usleep(1_100_000);
is(of_clause('2.5', 'status, since'), "broken|$broken", '... and once it is noted, since then');
is($node->safe_psql('postgres', q{SELECT detail ->> 'former', detail ->> 'status', detail ->> 'evidence' ~ 'role shadow' FROM leyser.event
	WHERE event = 'white_paper.changed' AND object = '2.5'}), 'kept|broken|t', '... an event tells of the change');
$node->safe_psql('postgres', 'DROP ROLE shadow');
note_clauses();
is(of_clause('2.5', "status, since > '$broken'"), 'kept|t', 'kept anew');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET last_tick_at = '2020-01-02 03:04:05Z'});
is(of_clause('2.13', q{status, since AT TIME ZONE 'UTC'}), 'at risk|2020-01-02 03:04:05', 'since the cause, where that is known');

# Read-only, and to nobody's harm: a caller's operators and functions are not called.
as_role('operator', 'CALL leyser.tick()');
is(as_role('auditor', 'BEGIN READ ONLY; SELECT count(*) FROM leyser.white_paper(); COMMIT'), '20', 'in a read-only transaction');
is(as_role('auditor', q{SET search_path = pg_temp; CREATE FUNCTION pg_temp.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'taken over' $$;
	SELECT count(*) FROM leyser.white_paper() WHERE evidence ~ 'taken over'}), '0', 'a caller\'s functions');
is(as_role('auditor', q{SET timezone = 'Asia/Tokyo'; SET datestyle = 'German, DMY'; SET intervalstyle = 'postgres_verbose';
	SELECT count(*) FROM leyser.white_paper() WHERE evidence ~ '\d\.\d\d\.\d{4}|@ 6'}), '0', '... nor its settings');
my $statuses = q{SELECT string_agg(status, ', ') FROM leyser.white_paper()};
is(as_role('auditor', "SET $_; $statuses"), as_role('auditor', $statuses), "... nor $_")
  foreach 'quote_all_identifiers = on', 'row_security = off', 'standard_conforming_strings = off', 'transform_null_equals = on', 'array_nulls = off', 'default_transaction_isolation = serializable';

$node->stop;
done_testing();
