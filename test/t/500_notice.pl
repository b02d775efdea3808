# Notices: announced in time or with a reason, updated, ended; who may, who reads what,
# and a feed that names nobody.

use strict;
use warnings;
use utf8;

use JSON::PP;
use LeyserMail;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = mail_node('notice');
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN; CREATE ROLE gateway LOGIN; CREATE ROLE auditor LOGIN; CREATE ROLE nobody LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('gateway', 'gateway'), leyser.grant_usage('auditor', 'auditor');
});

# A query of a tenant's.
sub as_tenant
{
	my ($tenant, $sql) = @_;

	return $node->safe_psql('postgres', qq{BEGIN; DO \$\$BEGIN PERFORM leyser.enter('$tenant'); END\$\$; $sql; COMMIT},
		extra_params => [ '-U', 'gateway' ]);
}

# ---- the lead time ----

my $soon = q{now() + interval '13 days 23 hours'};
my $late = q{now() + interval '14 days 1 hour'};
is_refused($node, "SELECT leyser.announce('upgrade', 'low', 's', 'b', $soon)", '22023', 'an upgrade in less than 14 days', user => 'operator');
my ($state, $message) = sqlstate_of($node, "SELECT leyser.announce('maintenance', 'low', 's', 'b', $soon)", user => 'operator');
like($message, qr/lead time.*DETAIL:  It must be 20.* UTC at the earliest.*HINT:  .*short_notice_reason/s, '... says when it could be, and the way out');
is(as_operator($node, "SELECT leyser.announce('upgrade', 'low', 'Version 2', 'New reports.', $late)"), '1', 'an upgrade in more than 14 days');
is(as_operator($node, "SELECT leyser.announce('maintenance', 'low', 'Disk', 'A disk is replaced.', now() + interval '1 hour', now() + interval '2 hours', short_notice_reason => 'it fails')"),
	'2', 'maintenance in an hour, with a reason');
is(as_operator($node, q{SELECT leyser.announce('incident', 'low', 'Slow', 'Pages are slow.')}), '3', 'an incident is now');
is(as_operator($node, q{SELECT notice_id, kind, state, lead_time, short_notice_reason FROM leyser.notice ORDER BY 1}),
	"1|upgrade|announced|14 days|\n2|maintenance|announced|14 days|it fails\n3|incident|current|14 days|", 'states, and the reason');
is($node->safe_psql('postgres', q{SELECT detail ->> 'short_notice_reason' FROM leyser.event WHERE event = 'notice.announced' ORDER BY event_id}),
	"\nit fails\n", 'the reason is in the event log');
as_operator($node, q{SELECT leyser.set_notice_policy(lead_time => '30 days')});
is_refused($node, "SELECT leyser.announce('upgrade', 'low', 's', 'b', $late)", '22023', 'a longer lead time is set', user => 'operator');
is_refused($node, q{SELECT leyser.update_notice(1, 'Version 2', 'Earlier.', starts_at => now() + interval '1 day')}, '22023', 'it cannot be moved to tomorrow either', user => 'operator');
is(as_operator($node, q{SELECT leyser.update_notice(1, 'Version 2', 'Earlier.', starts_at => now() + interval '1 day', short_notice_reason => 'a hole')}), '1', '... without a reason');
is(as_operator($node, q{SELECT short_notice_reason, changes, body FROM leyser.notice WHERE notice_id = 1}), 'a hole|1|Earlier.', '... which is kept, with the last words');
is($node->safe_psql('postgres', q{SELECT lead_time, mail_sender FROM leyser.present_notice_policy()}), '30 days|status@service.example', 'what is left out of the policy stays');

# ---- bad input ----

for my $bad (
	[ q{'party', 'low', 's', 'b'}, 'kind' ], [ q{NULL, 'low', 's', 'b'}, 'no kind' ], [ q{'incident', 'huge', 's', 'b'}, 'severity' ],
	[ q{'incident', NULL, 's', 'b'}, 'no severity' ], [ q{'incident', 'low', NULL, 'b'}, 'no subject' ], [ q{'incident', 'low', ' ', 'b'}, 'blank subject' ],
	[ q{'incident', 'low', E's\nBcc: x@x.example', 'b'}, 'line feed in the subject' ], [ q{'incident', 'low', E's\rBcc: x', 'b'}, 'carriage return in the subject' ],
	[ q{'incident', 'low', E's\u0085', 'b'}, 'a C1 control in the subject' ], [ q{'incident', 'low', E's\u2028Bcc: x', 'b'}, 'a line separator in the subject' ], [ q{'incident', 'low', repeat('x', 201), 'b'}, 'long subject' ],
	[ q{'incident', 'low', 's', NULL}, 'no body' ], [ q{'incident', 'low', 's', E' \n'}, 'blank body' ],
	[ q{'incident', 'low', 's', repeat('x', 1048577)}, 'body above 1 MB' ], [ q{'incident', 'low', 's', repeat('あ', 349526)}, '... in bytes' ],
	[ q{'incident', 'low', 's', E'\x07'}, 'control characters in the body' ],
	[ q{'upgrade', 'low', 's', 'b'}, 'no start' ], [ q{'upgrade', 'low', 's', 'b', now() - interval '1 day'}, 'a past date' ],
	[ q{'upgrade', 'low', 's', 'b', now() - interval '1 day', short_notice_reason => 'r'}, 'a past date with a reason' ],
	[ q{'incident', 'low', 's', 'b', '4713-01-01 00:00Z BC'}, 'before the common era' ], [ q{'incident', 'low', 's', 'b', '0001-12-31 23:59:59Z BC'}, '... until its first year' ],
	[ q{'upgrade', 'low', 's', 'b', '294276-12-31'}, 'the end of time' ], [ q{'upgrade', 'low', 's', 'b', '10000-01-01 00:00Z'}, 'a year of five digits' ],
	[ q{'incident', 'low', 's', 'b', ends_at => '10000-01-01 00:00Z'}, 'an end in such a year' ],
	[ q{'incident', 'low', 's', 'b', published => false}, 'kept from others than all' ], [ q{'incident', 'low', 's', 'b', affected_tenants => NULL, published => false}, '... in other words' ],
	[ q{'upgrade', 'low', 's', 'b', 'infinity'}, 'never' ], [ q{'incident', 'low', 's', 'b', now() + interval '1 hour'}, 'an incident to come' ],
	[ q{'incident', 'low', 's', 'b', now() - interval '1 hour', now() - interval '2 hours'}, 'an end before the start' ],
	[ q{'incident', 'low', 's', 'b', ends_at => 'infinity'}, 'no end ever' ],
	[ q{'incident', 'low', 's', 'b', language => 'fr'}, 'language' ], [ q{'incident', 'low', 's', 'b', language => NULL}, 'no language' ],
	[ q{'incident', 'low', 's', 'b', translations => '{"fr": {"subject": "s", "body": "b"}}'}, 'a translation\'s language' ],
	[ q{'incident', 'low', 's', 'b', translations => '{"en": {"subject": "s", "body": "b"}}'}, 'a translation into the same language' ],
	[ q{'incident', 'low', 's', 'b', translations => '{"ja": {"subject": "s"}}'}, 'a translation without a body' ],
	[ q{'incident', 'low', 's', 'b', translations => '{"ja": {"subject": "a\nb", "body": "b"}}'}, 'a translation\'s subject of two lines' ],
	[ q{'incident', 'low', 's', 'b', translations => '{"ja": {"subject": 1, "body": "b"}}'}, 'a translation that is a number' ],
	[ q{'incident', 'low', 's', 'b', translations => '[1]'}, 'translations that are a list' ], [ q{'incident', 'low', 's', 'b', translations => NULL}, 'null translations' ],
	[ q{'incident', 'low', 's', 'b', affected_tenants => '{t1,t9}'}, 'an unknown tenant', '42704' ],
	[ q{'incident', 'low', 's', 'b', affected_tenants => '{t1,NULL}'}, 'a tenant that is null', '42704' ])
{
	my ($arguments, $name, $sqlstate) = @$bad;
	my ($got, $told) = sqlstate_of($node, "SELECT leyser.announce($arguments)", user => 'operator');

	is($got, $sqlstate // '22023', "refused: $name");
	like($told, qr/DETAIL:  .*HINT:  /s, '... with detail and hint');
}
is_refused($node, q{SELECT leyser.update_notice(99, 's', 'b')}, '42704', 'an unknown notice', user => 'operator');
is_refused($node, q{SELECT leyser.update_notice(NULL, 's', 'b')}, '42704', 'none', user => 'operator');
is_refused($node, q{SELECT leyser.update_notice(3, 's', 'b', severity => 'huge')}, '22023', 'an update of unknown severity', user => 'operator');
is_refused($node, q{SELECT leyser.end_notice(3, 's', 'b', now() + interval '1 hour')}, '22023', 'an end to come', user => 'operator');
is_refused($node, q{SELECT leyser.end_notice(3, 's', 'b', now() - interval '1 day')}, '22023', 'an end before the beginning', user => 'operator');
is_refused($node, q{SELECT leyser.end_notice(2, 's', 'b', now() - interval '1 day')}, '22023', 'an end of maintenance before it was announced', user => 'operator');
is_refused($node, "SELECT leyser.end_notice($_, 's', 'b', '4713-01-01 00:00Z BC')", '22023', "an end before the common era ($_)", user => 'operator') for 2, 3;
is_refused($node, "SELECT leyser.update_notice(3, 's', 'b', $_)", '22023', "an update to no time of a calendar: $_", user => 'operator')
  for q{starts_at => '0001-12-31 23:59:59Z BC'}, q{ends_at => '10000-01-01 00:00Z'}, q{ends_at => '294276-12-31'};
is_refused($node, q{SELECT leyser.set_notice_policy(lead_time => '-1 days')}, '22023', 'a negative lead time', user => 'operator');
is_refused($node, q{SELECT leyser.set_notice_policy(lead_time => '1 month')}, '22023', 'a lead time of months', user => 'operator');
is_refused($node, q{SELECT leyser.set_notice_policy(mail_sender => E'a@b.example\nBcc: c@d.example')}, '22023', 'a sender of two lines', user => 'operator');
is_refused($node, "SELECT leyser.set_notice_policy(service_name => E'a${_}Bcc: c\@d.example')", '22023', "a name of two lines ($_)", user => 'operator') for '\n', '\u2028', '\u2029';
is_refused($node, q{SELECT leyser.set_notice_audience('huge', 'all')}, '22023', 'an audience of no severity', user => 'operator');
is_refused($node, q{SELECT leyser.set_notice_audience('low', 'some')}, '22023', 'an audience that is none', user => 'operator');
is(as_operator($node, 'SELECT count(*) FROM leyser.notice'), '3', 'nothing of this was announced');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.notice_tenant'), '0', '... nor half of it');

# ---- updates and the end ----

is(as_operator($node, q{SELECT leyser.update_notice(3, 'Slow', 'We have found it.', severity => 'high', ends_at => now() + interval '1 hour')}), '1', 'an update');
is(as_operator($node, q{SELECT leyser.end_notice(3, 'Fast again', 'It was a disk.')}), '2', 'the end');
is(as_operator($node, q{SELECT state, severity, subject, ended_at <= now() FROM leyser.notice WHERE notice_id = 3}), 'ended|high|Fast again|t', '... is what the notice says');
is_refused($node, q{SELECT leyser.update_notice(3, 's', 'b')}, 'LY008', 'no update after the end', user => 'operator');
is_refused($node, q{SELECT leyser.end_notice(3, 's', 'b')}, 'LY008', 'no second end', user => 'operator');
is(as_operator($node, q{SELECT leyser.end_notice(2, 'Called off', 'The disk is well.'); SELECT state FROM leyser.notice WHERE notice_id = 2}), "1\ncalled off", 'an end before the start');
is(as_operator($node, q{SELECT string_agg(concat_ws(' ', change, severity, subject), ', ' ORDER BY number) FROM leyser.notice_update WHERE notice_id = 3}),
	'announced low Slow, updated high Slow, ended high Fast again', 'all that was said stays');
$node->safe_psql('postgres', q{UPDATE leyser.notice_record SET starts_at = now() - interval '3 hours', ends_at = now() - interval '2 hours' WHERE notice_id = 1});
is(as_operator($node, q{SELECT state FROM leyser.notice WHERE notice_id = 1; SELECT subject FROM leyser.backup_alert WHERE alert = 'notice overdue'}),
	"overdue\nnotice 1", 'a planned end that is past is an alert');
as_operator($node, q{SELECT leyser.end_notice(1, 'Done', 'Done.')});
is(as_operator($node, q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'notice overdue'}), '0', '... until somebody says that it has ended');

# ---- who reads what ----

as_operator($node, q{SELECT leyser.announce('incident', 'high', 'For t2', 'Only t2.', affected_tenants => '{t2}', published => false)});
as_operator($node, q{SELECT leyser.announce('incident', 'high', 'Told to all', 'It affects t1.', affected_tenants => '{t1,t1}')});
my $read = q{SELECT subject, affected FROM leyser.tenant_notice WHERE notice_id > 3 ORDER BY notice_id};
is(as_tenant('t1', $read), 'Told to all|t', 'a tenant reads what affects it');
is(as_tenant('t2', $read), "For t2|t\nTold to all|f", '... and what is published');
is(as_tenant('t3', $read), 'Told to all|f', '... and nothing that is others\' alone');
is_refused($node, 'SELECT * FROM leyser.tenant_notice', 'LY001', 'no context, no notices', user => 'app');
$node->safe_psql('postgres', q{CREATE FUNCTION public.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
	$$BEGIN RAISE NOTICE 'leak %', $1; RETURN true; END$$; GRANT EXECUTE ON FUNCTION public.tell(text) TO PUBLIC});
my ($ignored, $leak) = sqlstate_of($node, q{BEGIN; SELECT leyser.enter('t3'); SELECT count(*) FROM leyser.tenant_notice WHERE public.tell(subject)}, user => 'gateway');
unlike($leak, qr/leak For t2/, 'a function that tells what it sees sees no others\'');
like($leak, qr/leak Told to all/, '... though it is called');
is_refused($node, 'SELECT * FROM leyser.notice_record', '42501', 'the table is nobody\'s', user => 'app');

my @calls = (q{leyser.announce('incident', 'low', 's', 'b')}, q{leyser.update_notice(4, 's', 'b')}, q{leyser.end_notice(4, 's', 'b')},
	q{leyser.set_notice_policy()}, q{leyser.set_notice_audience('low')}, q{leyser.add_contact('t1', 'extra', 'a@b.example')}, q{leyser.remove_contact(1)},
	q{leyser.retry_mail()}, q{leyser.notice_feed()}, q{leyser.claim_mail()}, q{leyser.complete_mail(gen_random_uuid())}, q{leyser.fail_mail(gen_random_uuid(), 'e')});
for my $role (qw(app gateway auditor nobody))
{
	is_refused($node, "SELECT $_", '42501', "$role: $_", user => $role) for @calls;
}
is_refused($node, "SELECT leyser.$_", '42501', "operator: $_", user => 'operator') for q{claim_mail()}, q{complete_mail(gen_random_uuid())}, q{fail_mail(gen_random_uuid(), 'e')};
is_refused($node, "SELECT $_", '42501', "mailer: $_", user => 'mailer') for @calls[ 0 .. 7 ];
is_refused($node, "SELECT * FROM leyser.$_", '42501', "mailer: $_", user => 'mailer') for qw(contact notice mail mail_delivery tenant_notice);
is_refused($node, "SELECT * FROM leyser.$_", '42501', "app: $_", user => 'app') for qw(contact notice notice_update mail mail_delivery);
is(sqlstate_of($node, 'SELECT * FROM leyser.notice, leyser.notice_update, leyser.mail, leyser.mail_delivery', user => 'auditor'), '', 'an auditor reads notices and mail');
is_refused($node, 'SELECT * FROM leyser.contact', '42501', '... but no addresses', user => 'auditor');

is_refused($node, "SELECT leyser.grant_usage('$_->[0]', '$_->[1]')", '0LP01', "$_->[0] cannot have usage $_->[1], too") for [ 'app', 'mailer' ], [ 'gateway', 'mailer' ], [ 'mailer', 'application' ];
is_refused($node, 'GRANT mailer TO app', 'LY007', '... nor become the other');

# ---- the feed ----

as_operator($node, q{SELECT leyser.announce('incident', 'low', 'A <b> & "c"', E'One.\u2028Two ]]> <x/>.',
	translations => '{"ja": {"subject": "障害のお知らせ", "body": "調査中です。\uFFFE"}}')});
my $json = as_operator($node, 'SELECT leyser.notice_feed()');
my $feed = JSON::PP->new->decode($json);
is($feed->{version}, 'https://jsonfeed.org/version/1.1', 'a JSON feed');
is(join('|', map { $_->{title} } @{ $feed->{items} }[ 0, 1 ]), 'A <b> & "c"|Told to all', '... the newest first');
is($feed->{items}[0]{content_text}, "One.\nTwo ]]> <x/>.", '... with the words');
unlike($json, qr/For t2|affected|\bt1\b(?!\.)/, '... of published notices, and it names no tenant');
is(as_operator($node, 'SELECT leyser.notice_feed()'), $json, 'the same feed twice');
is(scalar @{ JSON::PP->new->decode(as_operator($node, q{SELECT leyser.notice_feed('json', 'en', 2)}))->{items} }, 2, 'no more entries than asked for');
my $atom = as_operator($node, q{SELECT leyser.notice_feed('atom', 'ja')});
is(as_operator($node, q{SELECT leyser.notice_feed('atom', 'ja')}), $atom, 'the same Atom feed twice');
my $file = $node->basedir . '/feed';
append_to_file($file, $atom);
my ($titles) = run_command([ '/usr/bin/python3', '-c', q{
import sys, xml.etree.ElementTree as tree
sys.stdout.reconfigure(encoding='utf-8')
atom = '{http://www.w3.org/2005/Atom}'
feed = tree.parse(sys.argv[1]).getroot()
entry = feed.find(atom + 'entry')
print('|'.join([feed.tag == atom + 'feed' and feed.find(atom + 'title').text] + [entry.find(atom + n).text for n in ('title', 'content')]), len(feed.findall(atom + 'entry')))
}, $file ]);
utf8::decode($titles);
is($titles, "請求サービス|障害のお知らせ|調査中です。\x{FFFD} " . scalar(@{ $feed->{items} }), 'an XML parser reads the Atom feed, in Japanese where there is some');
like(as_operator($node, q{SELECT leyser.notice_feed('atom')}), qr/<title>A &lt;b&gt; &amp; &quot;c&quot;<\/title>/, 'what looks like markup is text');
is_refused($node, "SELECT leyser.notice_feed($_)", '22023', "no feed ($_)", user => 'operator') for q{'rss'}, q{NULL}, q{'json', 'fr'}, q{'json', 'en', 0}, q{'json', 'en', 1001};
is(sqlstate_of($node, 'SELECT leyser.notice_feed()', user => 'mailer'), '', 'who sends mail may export the feed');

# ---- published later ----

my $kept = as_operator($node, q{SELECT leyser.announce('incident', 'high', 'For t1', 'Only t1.', affected_tenants => '{t1}', published => false)});
my $words = "SELECT string_agg(body, ' ' ORDER BY number) FROM leyser.tenant_notice WHERE notice_id = $kept";
as_operator($node, "SELECT leyser.update_notice($kept, 'For t1', 'Still.')");
($state, $message) = sqlstate_of($node, "SELECT leyser.update_notice($kept, 'For t1', 'Whom?', affected_tenants => '{}')", user => 'operator');
is($state, '22023', 'what is kept from others cannot affect all');
like($message, qr/DETAIL:  .*HINT:  .*published => true/s, '... and the way out is told');
is(as_tenant('t3', $words), '', 'what is left out of an update publishes nothing');
is(as_operator($node, "SELECT leyser.update_notice($kept, 'For all', 'All may know.', published => true)"), '2', 'it is published later');
is(as_tenant('t3', $words), 'Only t1. Still. All may know.', '... with all that was said');
like(as_operator($node, 'SELECT leyser.notice_feed()'), qr/All may know/, '... in the feed, too');
is_refused($node, "SELECT leyser.update_notice($kept, 's', 'b', published => false)", '22023', 'what was published is not taken back', user => 'operator');
as_operator($node, "SELECT leyser.update_notice($kept, 'For all', 'More.')");
is(as_operator($node, "SELECT published FROM leyser.notice WHERE notice_id = $kept"), 't', '... nor by what is left out');

$kept = as_operator($node, q{SELECT leyser.announce('incident', 'high', 'For t1', 'Only t1.', affected_tenants => '{t1}', published => false)});
$words = "SELECT string_agg(concat_ws(' ', body, affected), ', ' ORDER BY number) FROM leyser.tenant_notice WHERE notice_id = $kept";
as_operator($node, "SELECT leyser.update_notice($kept, 'For all', 'It is all of you.', affected_tenants => '{}', published => true)");
is(as_tenant('t3', $words), 'Only t1. t, It is all of you. t', 'published, it may affect all');

# ---- the calendar's ends ----

my $first = as_operator($node, q{SELECT leyser.announce('incident', 'low', 'Long ago', 'b', '0001-01-01 00:00Z', '9999-12-31 23:59:59.999999Z')});
my $last = as_operator($node, q{SELECT leyser.announce('upgrade', 'low', 'Far off', 'b', '9999-12-31 23:59:59.999999Z')});
my %told = map { ($_->{title} => $_->{_leyser}) } @{ JSON::PP->new->decode(as_operator($node, 'SELECT leyser.notice_feed()'))->{items} };
is("$told{'Long ago'}{starts_at} $told{'Long ago'}{ends_at} $told{'Far off'}{starts_at}", '0001-01-01T00:00:00Z 9999-12-31T23:59:59Z 9999-12-31T23:59:59Z', 'four digits hold each year');
is(as_operator($node, "SELECT leyser.end_notice($_, 'Over', 'b')"), '1', '... and it ends') for $first, $last;

# ---- events ----

is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT event, ' ' ORDER BY event) FROM leyser.event WHERE event ~ '^notice'}),
	'notice.announced notice.ended notice.policy_set notice.updated', 'all of it is in the event log');
is($node->safe_psql('postgres', q{SELECT DISTINCT caller_role FROM leyser.event WHERE event ~ '^notice'}), 'operator', '... with who did it');

$node->stop;
done_testing();
