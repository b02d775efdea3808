# The outbox and an outside worker: who gets mail, what it reads, claims that nobody
# shares, leases that end, answers that are kept, dead letters, and what a purge and a
# dump do with it.

use strict;
use warnings;
use utf8;

use LeyserMail;
use LeyserPurge;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = mail_node('worker');

sub as_mailer
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'mailer' ]);
}

# Whom an announcement was mailed to.
sub told
{
	my ($arguments) = @_;
	my $notice = as_operator($node, "SELECT leyser.announce('incident', $arguments)");

	return $node->safe_psql('postgres', "SELECT string_agg(address, ' ' ORDER BY address) FROM leyser.mail_record WHERE notice_id = $notice");
}

# ---- contacts ----

my @addresses = ('', ' ', 'a', '@b.example', 'a@', 'a@b@c.example', 'a b@c.example', q{a@b.example\\nBcc: c@d.example}, q{a@b.example\\r}, q{a@b.example\\t}, '-a@b.example',
	'a@-b.example', 'a@b-.example', 'a@b..example', '.a@b.example', 'a.@b.example', 'a..b@c.example', 'a@b.example,c@d.example', '<a@b.example>', '"a b"@c.example',
	'あ@b.example', 'a@あ.example', 'a@[127.0.0.1]', 'a@b.example.', ('x' x 65) . '@b.example', 'a@' . ('x' x 64) . '.example', 'a@' . join('.', ('x' x 61) x 4) . '.example');
for my $address (@addresses)
{
	my ($got, $message) = sqlstate_of($node, "SELECT leyser.add_contact('t1', 'extra', E'$address')", user => 'operator');

	is($got, '22023', "no address: " . $address =~ s{[^ -~]}{?}gr);
	like($message, qr/DETAIL:  .*HINT:  /s, '... with detail and hint');
}
is_refused($node, "SELECT leyser.add_contact($_->[0])", $_->[1], "no contact: $_->[0]", user => 'operator') for (
	[ q{'t1', 'extra', NULL}, '22023' ], [ q{'t1', 'friend', 'a@b.example'}, '22023' ], [ q{'t1', NULL, 'a@b.example'}, '22023' ],
	[ q{NULL, 'contract_holder', 'a@b.example'}, '22023' ], [ q{'t1', 'extra', 'a@b.example', 'fr'}, '22023' ], [ q{'t1', 'extra', 'a@b.example', NULL}, '22023' ],
	[ q{'t9', 'extra', 'a@b.example'}, '42704' ]);
is(as_operator($node, q{SELECT count(*) FROM leyser.contact}), '0', 'none of them is there');
my $odd = q{o'brien+$HOME`id`{x}|y@a-b.example};
my $quoted = $odd =~ s/'/''/r;
is(as_operator($node, "SELECT leyser.add_contact('t1', 'contract_holder', '$quoted', 'ja')"), '1', 'an odd address, that is one');
is_refused($node, "SELECT leyser.add_contact('t1', 'contract_holder', upper('$quoted'))", '23505', 'the same again', user => 'operator');
as_operator($node, qq{SELECT leyser.add_contact('t1', 'extra', '$quoted', 'ja')});
as_operator($node, q{SELECT leyser.add_contact('t1', 'extra', 'x1\@t1.example'), leyser.add_contact('t2', 'contract_holder', 'h2@t2.example'),
	leyser.add_contact('t2', 'extra', 'x2@t2.example'), leyser.add_contact('t3', 'contract_holder', 'h3@t3.example'), leyser.add_contact(NULL, 'extra', 'noc@service.example')} =~ s/\\@/@/r);
is($node->safe_psql('postgres', q{SELECT string_agg(sqlstate, ' ') FROM (SELECT 1) one, LATERAL (SELECT count(leyser.add_contact('t3', 'extra', n || '@t3.example'))::text AS sqlstate FROM generate_series(1, 49) n) s}), '49', 'up to 50 contacts');
is_refused($node, q{SELECT leyser.add_contact('t3', 'extra', '50@t3.example')}, '54000', '... and no more', user => 'operator');
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE tenant_id = 't3' AND kind = 'extra'});
is_refused($node, 'SELECT leyser.remove_contact(999)', '42704', 'an unknown contact', user => 'operator');

# ---- the audience ----

is(told(q{'critical', 's', 'b', affected_tenants => '{t2}'}), "h2\@t2.example h3\@t3.example noc\@service.example $odd x1\@t1.example x2\@t2.example", 'critical: all, and an address once for each tenant');
is(told(q{'high', 's', 'b', affected_tenants => '{t2}'}), "h2\@t2.example noc\@service.example $odd x1\@t1.example x2\@t2.example", 'high: affected contract holders, all extra contacts');
is(told(q{'medium', 's', 'b', affected_tenants => '{t2}'}), 'h2@t2.example noc@service.example x2@t2.example', 'medium: affected ones');
is(told(q{'low', 's', 'b', affected_tenants => '{t2}'}), 'noc@service.example x2@t2.example', 'low: extra contacts of affected ones');
is(told(q{'medium', 's', 'b'}), told(q{'critical', 's', 'b'}), 'where no tenant is named all are affected');
as_operator($node, q{SELECT leyser.set_notice_audience('low', extra_contacts => 'none')});
is(told(q{'low', 's', 'b'}), '', 'an audience is set to nobody');
as_operator($node, q{SELECT leyser.set_notice_audience('low', contract_holders => 'affected')});
is(told(q{'low', 's', 'b', affected_tenants => '{t3}'}), 'h3@t3.example', '... then to some, and the rest stays');

# ---- whoever was told hears what follows ----

# Whom an update or the end of a notice was mailed to.
sub told_then
{
	my ($call) = @_;
	my $number = as_operator($node, "SELECT leyser.$call");
	my ($notice) = $call =~ /([0-9]+)/;

	return $node->safe_psql('postgres', "SELECT string_agg(address, ' ' ORDER BY address) FROM leyser.mail_record WHERE notice_id = $notice AND number = $number");
}
my $all = "h2\@t2.example h3\@t3.example noc\@service.example $odd x1\@t1.example x2\@t2.example";
my $to_t2 = sub { return as_operator($node, "SELECT leyser.announce('incident', '$_[0]', 's', 'b', affected_tenants => '{t2}'" . ($_[1] // '') . ')') };
my $lowered = $to_t2->('critical');
$node->safe_psql('postgres', qq{SELECT leyser.add_contact('t3', 'extra', 'new\@t3.example')});
is(told_then("update_notice($lowered, 's', 'b', severity => 'low')"), $all, 'a lowered severity: whoever was told is told');
$node->safe_psql('postgres', "SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE address = '$quoted' AND kind = 'contract_holder'");
is(told_then("end_notice($lowered, 's', 'b')"), $all, '... also of the end, by whatever kind of contact, and nobody twice');
as_operator($node, "SELECT leyser.add_contact('t1', 'contract_holder', '$quoted', 'ja')");
$lowered = $to_t2->('high');
as_operator($node, q{SELECT leyser.set_notice_audience('high', 'none', 'none')});
is(told_then("end_notice($lowered, 's', 'b')"), "h2\@t2.example new\@t3.example noc\@service.example $odd x1\@t1.example x2\@t2.example", '... though the audience is nobody by now');
as_operator($node, q{SELECT leyser.set_notice_audience('high', 'affected', 'all')});
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE address = 'new@t3.example'});
my $moved = $to_t2->('medium');
is(told_then("update_notice($moved, 's', 'b', affected_tenants => '{t3}')"), 'h2@t2.example h3@t3.example noc@service.example x2@t2.example', 'whom it affects no longer is told so');
is(told(q{'critical', 's', 'b', affected_tenants => '{t2}', published => false}), 'h2@t2.example noc@service.example x2@t2.example', 'what is not published is not mailed to others, whatever the severity');
$moved = $to_t2->('critical', ', published => false');
is(told_then("update_notice($moved, 's', 'b', affected_tenants => '{t3}')"), 'h3@t3.example noc@service.example', '... nor to those who read it no longer');
is(told_then("update_notice($moved, 's', 'b', severity => 'medium', published => true)"), 'h2@t2.example h3@t3.example noc@service.example x2@t2.example', '... until it is published');

$node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t2'), leyser.create_tenant('t4'), leyser.add_contact('t4', 'contract_holder', 'h4@t4.example')});
my $waiting = as_operator($node, q{SELECT leyser.announce('incident', 'critical', 's', 'b', affected_tenants => '{t4}')});
end_contracts($node, 't4');
is(told(q{'critical', 's', 'b'}), "h2\@t2.example h3\@t3.example noc\@service.example $odd x1\@t1.example x2\@t2.example", 'a suspended tenant is told, one whose contract has ended is not');
is_refused($node, q{SELECT leyser.add_contact('t4', 'extra', 'x4@t4.example')}, 'LY008', '... and has no new contacts', user => 'operator');
is_refused($node, q{SELECT leyser.announce('incident', 'low', 's', 'b', affected_tenants => '{t4}')}, '42704', '... and cannot be affected', user => 'operator');

# ---- a claim ----

$node->safe_psql('postgres', q{DELETE FROM leyser.mail_record WHERE tenant_id IS DISTINCT FROM 't4'});
is_refused($node, "SELECT * FROM leyser.claim_mail($_)", '22023', "no claim: $_", user => 'mailer') for '0', '1001', 'NULL', q{1, '0 seconds'}, q{1, '2 days'}, '1, NULL';
my $listener = open_session($node, user => 'mailer');
$listener->query('LISTEN leyser_mail');
as_operator($node, q{SELECT leyser.announce('incident', 'medium', '障害のお知らせ：注文の処理が遅れています。ご迷惑をおかけしております😀', E'調査中です。\r\n.\nFrom here\n続報 ' || repeat('あ', 1000), language => 'ja',
	translations => '{"en": {"subject": "=?UTF-8?Q?trick?= <b>", "body": "We look."}}', affected_tenants => '{t1,t2}')});
$listener->{stdout} = '';
my $heard = $listener->query('SELECT 1');
like($heard, qr/Asynchronous notification "leyser_mail"(?: with payload "")? received/, 'outside workers are woken');
unlike($heard, qr/t1|t2|payload "[^"]/, '... with nothing of tenants');
$listener->quit;

my $claimed = as_mailer(q{SELECT count(*), count(DISTINCT claim), bool_and(sender = 'status@service.example'), bool_and(message ~ ('Message-ID: <' || message_id || '>')), max(attempt) FROM leyser.claim_mail()});
is($claimed, '5|5|t|t|1', 'a worker claims what waits');
mails_are($node, 'state', ['cancelled'], 'what waited for the ended contract is cancelled', q{tenant_id = 't4'});
is(as_mailer('SELECT count(*) FROM leyser.claim_mail()'), '0', 'nothing is claimed twice');
mails_are($node, 'DISTINCT state, attempts, next_attempt_at > now() + interval \'4 minutes\', 1 AS mail_id', ['claimed|1|t|1'], '... for the time of the lease', q{tenant_id IS DISTINCT FROM 't4'});

# What it reads: to a parser that is not ours.
make_mail_due($node);
my $file = $node->basedir . '/message';
my $reader = q{
import email, email.policy, sys
sys.stdout.reconfigure(encoding='utf-8')
raw = open(sys.argv[1], 'rb').read()
m = email.message_from_bytes(raw, policy=email.policy.default)
body = m.get_content().replace('\r\n', '\n')
print(m['subject'], m['from'].addresses[0].display_name, m['from'].addresses[0].addr_spec, m['to'].addresses[0].addr_spec, m['content-language'],
	len(m.defects), raw.isascii(), max(map(len, raw.split(b'\r\n'))) <= 78, b'\n' not in raw.replace(b'\r\n', b''), body.startswith(sys.argv[2]), len(body), m['date'].datetime.utcoffset(), sep='|')
};
# One test: the message of a recipient, as a parser reads it.
sub reads
{
	my ($address, $beginning, $expected, $name) = @_;

	unlink $file;
	$node->safe_psql('postgres', q{SET client_encoding = UTF8; COPY (SELECT message FROM leyser.claim_mail() WHERE recipient = '} . $address =~ s/'/''/gr . q{') TO STDOUT},
		extra_params => [ '-U', 'mailer', '-o', "$file.copy" ]);
	# COPY's text format writes line ends as \r and \n
	my $text = slurp_file("$file.copy");
	chomp $text;
	$text =~ s/\\r\\n/\r\n/g;
	append_to_file($file, $text);
	utf8::encode($beginning);
	my ($out) = run_command([ '/usr/bin/python3', '-c', $reader, $file, $beginning ]);
	utf8::decode($out);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($out, $expected, $name);
	make_mail_due($node);
	return;
}
reads($odd, "調査中です。\n.\nFrom here\n続報 あ", "障害のお知らせ：注文の処理が遅れています。ご迷惑をおかけしております😀|請求サービス|status\@service.example|$odd|ja|0|True|True|True|True|1023|0:00:00",
	'a Japanese mail: ASCII, short lines, and the words as they were');
reads('h2@t2.example', 'We look.', '=?UTF-8?Q?trick?= <b>|請求サービス|status@service.example|h2@t2.example|en|0|True|True|True|True|9|0:00:00', 'an English one: what looks like encoding is text');

# ---- what became of it ----

my $due = q{SELECT claim FROM leyser.claim_mail(1)};
my $first = as_mailer($due);
my $mail = $node->safe_psql('postgres', "SELECT mail_id FROM leyser.mail_attempt WHERE claim = '$first'");
my $message_id = as_operator($node, "SELECT message_id FROM leyser.mail WHERE mail_id = $mail");
my $recipient = $node->safe_psql('postgres', "SELECT address FROM leyser.mail_record WHERE mail_id = $mail") =~ s/'/''/gr;
is(as_mailer("SELECT leyser.fail_mail('$first', E'450 4.2.0\\nnot now, <$recipient>')"), 't', 'it is put off');
is(as_mailer("SELECT leyser.fail_mail('$first', 'again')"), 'f', '... once');
is(as_operator($node, "SELECT state, attempts, next_attempt_at > now() + interval '30 seconds', last_error !~ E'\\n' FROM leyser.mail WHERE mail_id = $mail"), 'waiting|4|t|t', '... until later');
is(as_operator($node, q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'mail put off'}), '1', '... which is an alert');
$node->safe_psql('postgres', "UPDATE leyser.mail_record SET next_attempt_at = now() - interval '1 day' WHERE mail_id = $mail");
is(as_operator($node, q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'mail not sent'}), '1', 'nobody sends what is due: another');
my $second = as_mailer($due);
is(as_mailer("SELECT leyser.complete_mail('$second', '250 ok')"), 't', 'it is sent');
is(as_operator($node, "SELECT state, message_id, last_error, ended_at IS NOT NULL FROM leyser.mail WHERE mail_id = $mail"), "sent|$message_id||t", '... and recorded, with the same id');
is(as_mailer("SELECT leyser.fail_mail('$second', 'no', true)"), 'f', 'what was recorded is not unsaid');
is(as_operator($node, "SELECT state FROM leyser.mail WHERE mail_id = $mail"), 'sent', '... it stays sent');
is(as_operator($node, "SELECT string_agg(outcome || coalesce(' ' || detail, ''), ', ' ORDER BY claimed_at) FROM leyser.mail_delivery WHERE mail_id = $mail AND outcome <> 'unknown' AND claim IN ('$first', '$second')"),
	'deferred 450 4.2.0 not now, <<recipient>>, sent 250 ok', 'the log has each attempt, and not the address');
make_mail_due($node);
is(as_mailer("SELECT count(*) FROM leyser.claim_mail(100) WHERE mail_id = $mail"), '0', 'it is never claimed again');
is_refused($node, $_, '42704', 'a claim that nobody has', user => 'mailer') for 'SELECT leyser.complete_mail(gen_random_uuid())', q{SELECT leyser.fail_mail(NULL, 'x')}, 'SELECT leyser.complete_mail(NULL)';

# A server may spell the address as it likes, and show what it likes.
my $spelt = as_operator($node, q{SELECT leyser.add_contact(NULL, 'extra', 'Taro.Yamada+1@T1.Example')});
as_operator($node, q{SELECT leyser.announce('incident', 'medium', 'Spelt', 'b', affected_tenants => '{t1}')});
$node->safe_psql('postgres', "DELETE FROM leyser.mail_record WHERE notice_id = (SELECT max(notice_id) FROM leyser.notice_record) AND contact_id <> $spelt");
$node->safe_psql('postgres', "UPDATE leyser.mail_record SET next_attempt_at = now() + interval '1 hour' WHERE state = 'waiting' AND contact_id <> $spelt");
as_mailer(q{SELECT leyser.fail_mail(claim, E'550 <Taro.Yamada+1@t1.example> TARO.YAMADA+1@T1.EXAMPLE \x1b[2Jno\u0085\u2028one') FROM leyser.claim_mail(1)});
mails_are($node, 'last_error', ['550 <<recipient>> <recipient>  [2Jno  one'], 'an address in another case is none for the log, nor what moves a terminal\'s cursor', "contact_id = $spelt AND last_error IS NOT NULL");
as_operator($node, "SELECT leyser.remove_contact($spelt)");

# A lease ends: another worker claims; who comes late is believed when it was sent.
make_mail_due($node);
my $slow = as_mailer($due);
is(as_operator($node, "SELECT outcome FROM leyser.mail_delivery WHERE claim = '$slow'"), 'claimed', 'a slow worker');
make_mail_due($node);
my $others = as_mailer(q{SELECT string_agg(claim::text, ' ') FROM leyser.claim_mail(100)});
$node->safe_psql('postgres', "UPDATE leyser.mail_attempt SET lease_until = now() WHERE claim = '$slow'");
is(as_operator($node, "SELECT outcome FROM leyser.mail_delivery WHERE claim = '$slow'"), 'unknown', '... whose lease has ended');
is($node->safe_psql('postgres', "SELECT count(*) FROM leyser.mail_attempt a JOIN leyser.mail_record m USING (mail_id) WHERE a.claim = '$slow' AND m.claim <> a.claim"), '1', '... and another has its mail');
is(as_mailer("SELECT leyser.fail_mail('$slow', 'timeout', true)"), 't', 'what it failed with is noted');
is($node->safe_psql('postgres', "SELECT m.state FROM leyser.mail_attempt a JOIN leyser.mail_record m USING (mail_id) WHERE a.claim = '$slow'"), 'waiting', '... and changes nothing for the other');
my $late = $node->safe_psql('postgres', "SELECT m.claim FROM leyser.mail_attempt a JOIN leyser.mail_record m USING (mail_id) WHERE a.claim = '$slow'");
make_mail_due($node);
as_mailer('SELECT count(*) FROM leyser.claim_mail(100)');
is(as_mailer("SELECT leyser.complete_mail('$late')"), 't', 'a late one that was sent');
is($node->safe_psql('postgres', "SELECT m.state FROM leyser.mail_attempt a JOIN leyser.mail_record m USING (mail_id) WHERE a.claim = '$slow'"), 'sent', '... counts');

# Dead letters.
make_mail_due($node);
my $refused = as_mailer($due);
is(as_mailer("SELECT leyser.fail_mail('$refused', '550 no such user', true)"), 't', 'a refusal for good');
mails_are($node, 'last_error', ['550 no such user'], '... is a dead letter', q{state = 'dead'});
is(as_operator($node, q{SELECT detail FROM leyser.backup_alert WHERE alert = 'dead letters'}), '1 mails were given up, the last with: 550 no such user', '... an alert');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'mail.given_up'}), '1', '... and an event');
make_mail_due($node);
as_mailer(q{SELECT count(leyser.fail_mail(claim, 'later')) FROM leyser.claim_mail(100)});
is(as_operator($node, q{SELECT leyser.retry_mail()}), '1', 'they are tried again when somebody says so');
is_refused($node, 'SELECT leyser.retry_mail(1)', 'LY008', '... but for what is none', user => 'operator');
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET attempts = 9, give_up_at = now() - interval '1 minute' WHERE state = 'waiting'});
make_mail_due($node);
as_mailer(q{SELECT count(leyser.fail_mail(claim, 'later')) FROM leyser.claim_mail(100)});
mails_are($node, 'DISTINCT attempts, last_error, 1 AS mail_id', ['10|later|1'], 'what was put off for three days is given up', q{state = 'dead'});
is(as_operator($node, q{SELECT count(*) FROM leyser.mail WHERE state = 'waiting'}), '0', '... all of it');
as_operator($node, 'SELECT leyser.retry_mail()');
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET attempts = 10, give_up_at = now() - interval '1 minute' WHERE state = 'waiting'});
is(as_mailer('SELECT count(*) FROM leyser.claim_mail(100)'), '0', 'what kills whoever claims it is given up, too');
my $contact = as_operator($node, q{SELECT contact_id FROM leyser.mail WHERE state = 'dead' LIMIT 1});
as_operator($node, "SELECT leyser.remove_contact($contact)");
mails_are($node, 'DISTINCT state, 1 AS mail_id', ['cancelled|1'], 'a contact that is removed takes its dead letters along', "contact_id = $contact AND state <> 'sent'");

# ---- two workers ----

$node->safe_psql('postgres', q{DELETE FROM leyser.mail_attempt; DELETE FROM leyser.mail_record});
$node->safe_psql('postgres', q{
	INSERT INTO leyser.contact_record (tenant_id, kind, address, language, added_by) SELECT 't3', 'extra', 'n' || n || '@t3.example', 'en', 'test' FROM generate_series(1, 500) n});
announce($node, 'To many', 'Many.');
my $total = $node->safe_psql('postgres', 'SELECT count(*) FROM leyser.mail_record');
my @workers = map { open_session($node, user => 'mailer') } 1 .. 2;
$workers[0]->query('BEGIN');
my $one = $workers[0]->query('SELECT mail_id FROM leyser.claim_mail(100)');
my $two = $workers[1]->query('SELECT mail_id FROM leyser.claim_mail(100)');
is(scalar(split /\n/, $one), 100, 'a worker that has not committed');
is(scalar(split /\n/, $two), 100, '... keeps no other waiting');
my %seen;
$seen{$_}++ for split(/\n/, "$one\n$two");
is(scalar keys %seen, 200, '... and they share no mail');
$workers[0]->query('ROLLBACK');
$_->quit for @workers;
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET next_attempt_at = now(), claim = NULL});
my $script = $node->basedir . '/drain.sql';
append_to_file($script, "SELECT leyser.complete_mail(claim) FROM leyser.claim_mail(7);\n");
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '40', '-f', $script, '-h', $node->host, '-p', $node->port, '-U', 'mailer', 'postgres' ], 'four workers drain it');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT mail_id), max(attempts), (SELECT count(*) FROM leyser.mail_attempt WHERE outcome = 'sent') FROM leyser.mail_record WHERE state = 'sent'}),
	"$total|$total|2|$total", 'each mail once');

# ---- what has no sender, and what a restore brought back ----

announce($node, 'Without', 'Sender.');
$node->safe_psql('postgres', 'UPDATE leyser.notice_policy SET mail_sender = NULL');
is_refused($node, 'SELECT * FROM leyser.claim_mail()', 'LY008', 'nothing is sent without a sender', user => 'mailer');
$node->safe_psql('postgres', q{UPDATE leyser.notice_policy SET mail_sender = 'status@service.example'});

# ---- a dump, and a purge ----

my $before = $node->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE state = 'waiting'), md5(string_agg(message_id, ',' ORDER BY mail_id)) FROM leyser.mail_record});
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', '-h', $node->host, '-p', $node->port, 'postgres' ], 'it is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-e', '-d', 'restored', '-h', $node->host, '-p', $node->port, $node->basedir . '/dump' ], '... and restored');
is($node->safe_psql('restored', q{SELECT count(*), count(*) FILTER (WHERE state = 'waiting'), md5(string_agg(message_id, ',' ORDER BY mail_id)) FROM leyser.mail_record}), $before,
	'... with the outbox and what was sent');
# A mail is sent by the database that has queued it, not by a copy, too.
my $waits = as_operator($node, q{SELECT count(*) FROM leyser.mail WHERE state = 'waiting'});
cmp_ok($waits, '>', 0, 'mails wait');
is($node->safe_psql('restored', 'SELECT count(*) FROM leyser.claim_mail(1000)', extra_params => [ '-U', 'mailer' ]), '0', 'a worker of the copy claims none of them');
is($node->safe_psql('restored', q{SELECT count(*), bool_and(last_error ~ 'copy of the one that queued' AND attempts = 0) FROM leyser.mail WHERE state = 'dead'}, extra_params => [ '-U', 'operator' ]),
	"$waits|t", '... they are dead letters there, which tell why');
is(as_operator($node, q{SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead') FROM leyser.mail}), "$waits|0", '... and wait in the original');
is($node->safe_psql('restored', q{SELECT leyser.initialize_keyring(); INSERT INTO leyser.mail_record (notice_id, number, language, contact_id, address, message_id, database_id, give_up_at)
	SELECT notice_id, number, language, contact_id, address, 'x', database_id, give_up_at FROM leyser.mail_record LIMIT 1 RETURNING mail_id > (SELECT max(mail_id) FROM leyser.mail_record)}), "\nt", '... and its numbers go on');

my $of = sub { return $node->safe_psql('postgres', qq{SELECT (SELECT count(*) FROM leyser.contact_record WHERE tenant_id $_[0]), (SELECT count(*) FROM leyser.mail_record WHERE tenant_id $_[0]),
	(SELECT count(*) FROM leyser.mail_attempt WHERE tenant_id $_[0])}) };
as_operator($node, q{SELECT leyser.announce('incident', 'critical', 'Named', 'b', affected_tenants => '{t1,t3}')});
like($of->(q{= 't3'}), qr/^501\|150[0-9]\|/, 'a tenant\'s contacts, mails and attempts');
my $rest = $of->(q{IS DISTINCT FROM 't3'});
end_contracts($node, 't3');
$node->safe_psql('postgres', q{CALL leyser.purge('t3')}, extra_params => [ '-U', 'operator' ]);
is($of->(q{= 't3'}), '0|0|0', '... are gone with it');
is($of->(q{IS DISTINCT FROM 't3'}), $rest, '... and nobody else\'s');
is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE tenant_id = 't3'), bool_or(tenant_id = 't1') FROM leyser.notice_tenant}), '0|t', '... and no notice names it');
is($node->safe_psql('postgres', q{CREATE EXTENSION IF NOT EXISTS pgcrypto; SELECT sum(leyser.residue(r, convert_to('@t3.example', 'UTF8')))
	FROM unnest('{leyser.contact_record,leyser.mail_record,leyser.mail_attempt,leyser.notice_tenant}'::regclass[]) r}), '0', '... not even in the bytes');
is(as_operator($node, q{SELECT count(*) FROM leyser.backup_alert WHERE alert ~ 'purge'}), '0', 'no purge is held up');

# What was sent half a year ago is removed; dead letters stay.
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET ended_at = now() - interval '187 days' WHERE state = 'sent'; UPDATE leyser.mail_record SET state = 'dead', ended_at = now() - interval '187 days' WHERE state = 'waiting'});
make_due($node, 'upkeep', '1 minute') if as_operator($node, 'CALL leyser.tick(); SELECT 1');
tick($node);
is(as_operator($node, q{SELECT string_agg(DISTINCT state, ' ') FROM leyser.mail WHERE state IN ('sent', 'dead')}), 'dead', 'upkeep removes what was sent half a year ago, not dead letters');

$node->stop;
done_testing();
