# leyser.mail_command: mails that a real program hands to a real server, which is down,
# slow, refuses some, restarts; a tick that is killed between acceptance and record; a
# program that is missing, hangs or fails; ten thousand mails in little memory.

use strict;
use warnings;
use utf8;

use IPC::Run;
use LeyserCrash qw(kill_postmaster);
use LeyserMail;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = mail_node('command', conf => 'restart_after_crash = on');
my $folder = mail_folder($node);
my $port = smtp_port();
append_to_file("$folder/msmtprc", "defaults\naccount default\nhost 127.0.0.1\nport $port\ntimeout 60\n");
my $msmtp = qq{/usr/bin/msmtp -C '$folder/msmtprc' "\$@"};
my $program = write_program($node, 'sendmail', "exec $msmtp");

# A tick whose jobs have nothing else to do.
tick($node);
my $sent = sub { return as_operator($node, q{SELECT count(*) FROM leyser.mail WHERE state = 'sent'}) };
my $states = sub { return as_operator($node, q{SELECT string_agg(format('%s %s', state, n), ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM leyser.mail GROUP BY 1) s}) };

# ---- the setting ----

is_refused($node, $_->[0], $_->[1], $_->[2]) for (
	[ q{ALTER SYSTEM SET leyser.mail_command = 'sendmail'}, '22023', 'the program is named by its whole path' ],
	[ q{BEGIN; SET leyser.mail_command = '/bin/true'}, '55P02', 'no session names the program' ],
	[ q{ALTER SYSTEM SET leyser.mail_timeout = '1ms'}, '22023', 'a time in which nothing can be sent' ]);

# ---- the server is down, then refuses one of three ----

as_operator($node, q{SELECT leyser.add_contact('t1', 'contract_holder', 'one@t1.example', 'ja'), leyser.add_contact('t2', 'contract_holder', 'refused@t2.example'), leyser.add_contact('t3', 'contract_holder', 'three@t3.example')});
my $body = "調査中です。\n.\nFrom here\n続報をお待ちください。\n";
as_operator($node, qq{SELECT leyser.announce('incident', 'critical', '障害のお知らせ：注文の処理が遅れています。ご迷惑をおかけしております', \$\$$body\$\$, language => 'ja')});
tick($node);
is($states->(), 'waiting 3', 'without a program mail waits');
set_mail_command($node, $program);
tick($node);
mails_are($node, q{state, attempts, next_attempt_at > now(), last_error ~ '^status 75: msmtp: cannot connect'}, [ ('waiting|1|t|t') x 3 ], 'the server is down: it is put off');
is(as_operator($node, q{SELECT detail FROM leyser.job_run WHERE job = 'send mail' ORDER BY run_id DESC LIMIT 1}), 'mails sent: 0, put off: 3, refused: 0', '... which the run tells');
tick($node);
mails_are($node, 'attempts', [ (1) x 3 ], '... and not tried again at once');
start_smtp($node);
make_mail_due($node);
tick($node);
mails_are($node, 'state, attempts', [ 'sent|2', 'dead|2', 'sent|2' ], 'the server is up, and refuses one of three');
mails_are($node, 'last_error', ['status 65: msmtp: recipient address <recipient> not accepted by the server msmtp: server message: 550 5.1.1 <<recipient>>: nobody has this name msmtp: could not send mail (account default from ' . "$folder/msmtprc)"],
	'... whose answer is kept, without the address', q{state = 'dead'});
make_mail_due($node);
tick($node);
my @mails = accepted($node);
is(join(' ', map { "@{ $_->{recipients} }" } @mails), 'one@t1.example three@t3.example', 'the others have it, once');
is($mails[0]{subject}, '障害のお知らせ：注文の処理が遅れています。ご迷惑をおかけしております', 'the subject arrives');
is($mails[0]{body} =~ s/\r\n/\n/gr, $body, '... and the body');
is("$mails[0]{from} $mails[0]{to} $mails[0]{sender}", '請求サービス <status@service.example> one@t1.example status@service.example', '... from whom, to whom');
ok($mails[0]{ascii} && $mails[0]{longest} <= 78 && !@{ $mails[0]{defects} }, '... in ASCII and short lines, without a fault');
is($mails[0]{'message-id'}, '<' . as_operator($node, 'SELECT message_id FROM leyser.mail ORDER BY mail_id LIMIT 1') . '>', '... with its id');
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE address ~ 'refused'});

# One that the server wants to have later holds no other up.
as_operator($node, q{SELECT leyser.add_contact('t1', 'extra', 'later@t1.example')});
my $notice = announce($node, 'Later', 'Later.');
tick($node);
mails_are($node, q{count(*) FILTER (WHERE state = 'sent'), string_agg(state, ' ') FILTER (WHERE last_error ~ 'status 69.*450 4.2.0'), 1 AS mail_id}, ['2|waiting|1'], 'later for one of three', "notice_id = $notice GROUP BY 3");
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE address ~ 'later'});

# ---- the arguments are no shell's, and the body no argument ----

my $odd = q{o'brien$HOME`touch${IFS}x`|y@t2.example};
write_program($node, 'tell', qq{{ for a in "\$@"; do printf '%s\\n' "\$a"; done; env | sort; pwd; cat; } > '$folder/told'});
set_mail_command($node, "$folder/tell");
$node->safe_psql('postgres', q{SELECT leyser.add_contact('t2', 'contract_holder', $a$} . $odd . q{$a$)});
as_operator($node, q{SELECT leyser.announce('incident', 'medium', 'Odd', 'b', affected_tenants => '{t2}')});
tick($node);
like(slurp_file("$folder/told"), qr/^-i\n-f\nstatus\@service\.example\n--\n\Q$odd\E\nLC_ALL=C\nLEYSER_PROGRAM=.*\n(?:OLDPWD=.*\n)?PATH=\/usr\/bin:\/bin\nPWD=\/\n(?:_=.*\n)?\/\nFrom: /, 'arguments as they are, and no environment of the server');
unlike(slurp_file("$folder/told"), qr/\r/, 'a program that is like sendmail reads line feeds');
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE tenant_id = 't2'});

# ---- a program that is missing, hangs or fails; nothing is lost ----

my $before = $sent->();
$notice = announce($node, 'Lost?', 'No.');
my $of_notice = "notice_id = $notice";
set_mail_command($node, "$folder/missing");
tick($node);
mails_are($node, 'state, attempts, last_error', [ "waiting|1|could not run \"$folder/missing\": No such file or directory", 'waiting|0|' ], 'a program that is missing: one try, and the others wait', $of_notice);
append_to_file("$folder/plain", 'no program');
set_mail_command($node, "$folder/plain");
make_mail_due($node);
tick($node);
mails_are($node, q{last_error}, [ "could not run \"$folder/plain\": Permission denied" ], '... that is none', "$of_notice AND last_error ~ 'plain'");
write_program($node, 'hang', 'cat > /dev/null', 'sleep 600');
set_mail_command($node, "$folder/hang", '500ms');
make_mail_due($node);
tick($node);
mails_are($node, q{last_error}, [ "program \"$folder/hang\" did not end in time. It was killed after 500 ms." ], '... that hangs', "$of_notice AND last_error ~ 'hang'");
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick' AND pid <> pg_backend_pid()}), '0', '... and the tick does not');
my ($sleeping) = run_command([ 'sh', '-c', q{pgrep -f '^sleep 600$' -u "$(id -u)" -c || true} ]);
is($sleeping, '0', '... nor what it had started');
for my $way ([ 'exit 1', 'status 1' ], [ 'exit 78', 'status 78' ], [ 'kill -TERM $$', 'status 143' ], [ 'echo "a word" >&2; exit 64', 'status 64: a word' ])
{
	write_program($node, 'fail', $way->[0]);
	set_mail_command($node, "$folder/fail");
	make_mail_due($node);
	$node->safe_psql('postgres', "UPDATE leyser.mail_record SET last_error = NULL WHERE $of_notice");
	tick($node);
	mails_are($node, 'last_error', [ $way->[1] ], "... that fails: $way->[1]", "$of_notice AND last_error IS NOT NULL");
}
is(as_operator($node, q{SELECT string_agg(DISTINCT state, ' ') FROM leyser.mail WHERE } . $of_notice), 'waiting', 'nothing is lost');
like(as_operator($node, q{SELECT detail FROM leyser.backup_alert WHERE alert = 'mail put off'}), qr/^2 mails wait.*status 64: a word$|^1 mails wait/, '... and it is an alert');
# ten in a row are enough, where the server is away
write_program($node, 'away', q{echo x >> '} . $folder . q{/away.log'}, 'exit 75');
set_mail_command($node, "$folder/away");
$node->safe_psql('postgres', q{INSERT INTO leyser.contact_record (tenant_id, kind, address, language, added_by) SELECT 't1', 'extra', 'm' || n || '@t1.example', 'en', 'test' FROM generate_series(1, 30) n});
my $many = announce($node, 'Many', 'Many.');
make_mail_due($node);
tick($node);
is(scalar(split /\n/, slurp_file("$folder/away.log")), 10, 'ten that are put off in a row end a run');
set_mail_command($node, $program);
make_mail_due($node);
tick($node);
is($states->() =~ /waiting/ ? 1 : 0, 0, 'with a program that works all is sent');
is($sent->() - $before, 34, '... each of them');

# ---- a slow server ----

append_to_file("$folder/slow", '');
my $slow = announce($node, 'Slow', 'Slow.');
$node->safe_psql('postgres', qq{DELETE FROM leyser.mail_record WHERE notice_id = $slow AND address <> 'one\@t1.example'});
set_mail_command($node, $program, '2s');
tick($node);
mails_are($node, 'state', ['waiting'], 'a server that is slower than leyser.mail_timeout', "notice_id = $slow");
unlink "$folder/slow";
make_mail_due($node);
tick($node);
mails_are($node, 'state, attempts', ['sent|2'], '... gets it again', "notice_id = $slow");
my @slow = grep { $_->{subject} eq 'Slow' } accepted($node);
is(scalar(@slow), 2, '... though it had accepted it');
is($slow[0]{'message-id'}, $slow[1]{'message-id'}, '... by the same id');

# ---- a server that restarts while mail is sent ----

set_mail_command($node, $program);
my $restarting = announce($node, 'Restarting', 'Restarting.');
my $errors = '';
my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' user=operator', '-c', 'CALL leyser.tick()' ], '<', '/dev/null', '2>', \$errors);
$node->poll_query_until('postgres', "SELECT count(*) > 3 FROM leyser.mail_record WHERE notice_id = $restarting AND state = 'sent'");
stop_smtp();
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM leyser.mail_record WHERE notice_id = $restarting AND last_error IS NOT NULL");
start_smtp($node);
$run->finish;
make_mail_due($node);
tick($node);
my $recipients = as_operator($node, "SELECT count(*) FROM leyser.mail WHERE notice_id = $restarting");
mails_are($node, 'count(*), 1 AS mail_id', ["$recipients|1"], 'the server was restarted: all is sent', "notice_id = $restarting AND state = 'sent' GROUP BY 2");
my %ids;
$ids{ $_->{'message-id'} }++ for grep { $_->{subject} eq 'Restarting' } accepted($node);
is(scalar(keys %ids), $recipients, '... and arrived');

# ---- killed between acceptance and record ----

# The process that runs the ticks.
sub ticking
{
	return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick' AND pid <> pg_backend_pid()});
}

# The processes, of those with the numbers, that run.
sub running
{
	my (@pids) = @_;

	# a zombie runs no longer; who it is that reaps it is not ours to say
	return grep { -e "/proc/$_/stat" && eval { slurp_file("/proc/$_/stat") } =~ /\) [^ZX] / } @pids;
}

# Kills the tick's process, or the whole server, while the program, and what that has
# started, have not come back from a server that has accepted.
sub kill_between
{
	my ($subject, $how) = @_;
	unlink "$folder/done";
	write_program($node, 'stay', "$msmtp || exit", 'sleep 600 &', qq{echo "\$\$ \$!" > '$folder/done.new'}, "mv '$folder/done.new' '$folder/done'", 'wait');
	set_mail_command($node, "$folder/stay");
	my $id = announce($node, $subject, 'Once more.');
	$node->safe_psql('postgres', qq{DELETE FROM leyser.mail_record WHERE notice_id = $id AND address <> 'one\@t1.example'});
	my $tick = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' user=operator', '-c', 'CALL leyser.tick()' ], '<', '/dev/null', '2>', \my $told);
	for (1 .. 600)
	{
		last if -e "$folder/done";
		usleep(100_000);
	}
	my @left = split / /, slurp_file("$folder/done") =~ s/\n//r;
	is(scalar(running(@left)), 2, "$subject: the server has accepted it");
	$how->();
	eval { $tick->finish };
	mails_are($node, 'state, attempts', ['claimed|1'], '... nothing is recorded, nothing lost', "notice_id = $id");
	set_mail_command($node, $program);
	tick($node);
	mails_are($node, 'state, attempts', ['claimed|1'], '... it is not sent before its claim has ended', "notice_id = $id");
	make_mail_due($node);
	tick($node);
	mails_are($node, 'state, attempts', ['sent|2'], '... then it is sent', "notice_id = $id");
	for (1 .. 100) { last unless running(@left); usleep(100_000) }
	is(scalar(running(@left)), 0, '... and nothing is left of the first attempt');
	make_mail_due($node);
	tick($node);
	my @arrived = grep { $_->{subject} eq $subject } accepted($node);
	is(scalar(@arrived), 2, '... once more, and never again after that was recorded');
	is($arrived[0]{'message-id'}, $arrived[1]{'message-id'}, '... by the same id');
	is(as_operator($node, "SELECT count(*) FROM leyser.mail_delivery WHERE notice_id = $id AND outcome = 'sent'"), '1', '... with one delivery in the log');
	return;
}
kill_between('kill -9 of the process', sub { kill 'KILL', ticking(); wait_for_server($node) });
kill_between('a crash of the server', sub { $node->stop('immediate'); $node->start });
kill_between('kill -9 of the server', sub { kill_postmaster($node); $node->start });
kill_between('kill -9 of both', sub {
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	kill 'KILL', $postmaster, ticking();
	kill_postmaster($node);
	$node->start;
});
kill_between('a cancelled call', sub { $node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . ticking() . ')') });
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.job_run WHERE job = 'send mail' AND state = 'interrupted'}), '5', 'the job knows that it was interrupted');

# ---- no snapshot while a program runs ----

write_program($node, 'wait', "cat > /dev/null", "touch '$folder/waits'", "while [ -e '$folder/waits' ]; do sleep 0.1; done");
set_mail_command($node, "$folder/wait");
announce($node, 'Waits', 'Waits.');
$run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' user=operator', '-c', q{CALL leyser.tick('1 second')} ], '<', '/dev/null', '2>', \$errors);
for (1 .. 600) { last if -e "$folder/waits"; usleep(100_000) }
is($node->safe_psql('postgres', q{SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick' AND pid <> pg_backend_pid()}), 't',
	'VACUUM need not wait for a mail server');
is(sqlstate_of($node, q{SET lock_timeout = '3s'; SELECT leyser.announce('incident', 'low', 'Meanwhile', 'b')}, user => 'operator'), '', '... nor who announces something');
usleep(1_000_000);
unlink "$folder/waits";
$run->finish;
set_mail_command($node, $program);
$node->safe_psql('postgres', 'DELETE FROM leyser.mail_attempt; DELETE FROM leyser.mail_record');

# ---- a copy beside its original ----

my $arrived = sub {
	my ($subject) = @_;

	return scalar(grep { $_->{subject} eq $subject } accepted($node));
};
my $in_copy = sub { return $node->safe_psql('copied', $_[0], extra_params => [ '-U', 'operator' ]) };
my $to_t3 = sub { return qq{SELECT leyser.announce('incident', 'medium', '$_[0]', 'b', affected_tenants => '{t3}')} };
as_operator($node, $to_t3->('Copied'));
as_operator($node, $to_t3->('Put off'));
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET next_attempt_at = clock_timestamp() + interval '1 hour' WHERE mail_id = (SELECT max(mail_id) FROM leyser.mail_record)});
$node->safe_psql('postgres', 'CREATE DATABASE copied');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/copied.dump', '-h', $node->host, '-p', $node->port, 'postgres' ], 'a dump, while mail waits');
$node->command_ok([ 'pg_restore', '-e', '-d', 'copied', '-h', $node->host, '-p', $node->port, $node->basedir . '/copied.dump' ], '... becomes a copy');
is($node->safe_psql('copied', 'SELECT leyser.restore_is_held()'), 'f', '... which is no restored server');
# with its own keyring, too
for my $keyring ('no keyring', 'a keyring')
{
	$node->safe_psql('copied', 'SELECT leyser.initialize_keyring()') if $keyring eq 'a keyring';
	$in_copy->('CALL leyser.tick()');
	is($arrived->('Copied'), 0, "$keyring: a tick of the copy sends nothing");
	is($in_copy->(q{SELECT string_agg(state, ' ') FROM leyser.mail}), 'dead dead', '... and sets aside what waits, also what was put off');
}
is($in_copy->(q{SELECT detail FROM leyser.backup_alert WHERE alert = 'dead letters'}),
	'2 mails were given up, the last with: This database is a copy of the one that queued the mail and sends it. leyser.retry_mail() takes it over.', '... which an alert tells');
tick($node);
is($arrived->('Copied'), 1, 'the original sends it');
is($states->(), 'sent 1, waiting 1', '... and keeps what was put off');
$in_copy->($to_t3->('Of the copy'));
$in_copy->('CALL leyser.tick()');
is($arrived->('Of the copy'), 1, 'what the copy has queued it sends');
is($in_copy->(q{SELECT leyser.retry_mail(max(mail_id)) FROM leyser.mail WHERE state = 'dead'}), '1', 'the copy takes over a mail');
$in_copy->('CALL leyser.tick()');
is($arrived->('Put off') . $arrived->('Copied'), '11', '... and sends it, and no other');
is($in_copy->(q{SELECT string_agg(state, ' ' ORDER BY mail_id) FROM leyser.mail}), 'dead sent sent', '... which is recorded there');
$node->safe_psql('postgres', 'DROP DATABASE copied');
$node->safe_psql('postgres', 'DELETE FROM leyser.mail_attempt; DELETE FROM leyser.mail_record');

# ---- a body of 1 MB, through a pipe ----

as_operator($node, q{SELECT leyser.announce('incident', 'medium', 'Large', repeat('あいうえお' || chr(10), 65536), affected_tenants => '{t3}')});
tick($node);
my ($large) = grep { $_->{subject} eq 'Large' } accepted($node);
is(length($large->{body} =~ s/\r//gr), 6 * 65536, 'a body of 1 MB arrives whole');
write_program($node, 'deaf', 'exit 0');
set_mail_command($node, "$folder/deaf");
as_operator($node, q{SELECT leyser.announce('incident', 'medium', 'Deaf', repeat('あいうえお' || chr(10), 65536), affected_tenants => '{t3}')});
tick($node);
is($states->(), 'sent 2', 'a program that does not read it all is believed');
stop_smtp();

# ---- ten thousand ----

$node->safe_psql('postgres', q{
	DELETE FROM leyser.contact_record;
	INSERT INTO leyser.tenant_record (tenant_id) SELECT 'many' || n FROM generate_series(1, 10000) n;
	INSERT INTO leyser.contact_record (tenant_id, kind, address, language, added_by) SELECT 'many' || n, 'contract_holder', 'n' || n || '@many.example', 'en', 'test' FROM generate_series(1, 10000) n;
	ANALYZE leyser.contact_record, leyser.tenant_record;
});
# says how much memory the process that started it has of its own
write_program($node, 'measure', 'read -r pages < /proc/$PPID/statm', qq{echo "\$pages" >> '$folder/measured'});
set_mail_command($node, "$folder/measure");
as_operator($node, q{SELECT leyser.announce('incident', 'critical', 'To all', repeat('All of you. ', 2000))});
as_operator($node, q{CALL leyser.tick('10 minutes')});
is($states->(), 'sent 10002', 'ten thousand mails are sent');
my @measured = map { [ split ' ' ] } split(/\n/, slurp_file("$folder/measured"));
is(scalar(@measured), 10000, '... each once');
my $page = 4096;
my @own = map { ($_->[1] - $_->[2]) * $page } @measured;
my ($early) = sort { $b <=> $a } @own[ 0 .. 99 ];
my ($all) = sort { $b <=> $a } @own;
cmp_ok($all - $early, '<', 4 * 1024 * 1024, '... and the last one takes no more memory than the first hundred');
note(sprintf 'own memory: %d bytes in the first 100 mails, %d at most', $early, $all);

$node->stop;
done_testing();
