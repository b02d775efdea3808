# What endangers events is an alert: a server log that is overwritten, readable by
# everybody, never rotated or silent, and events that nobody seals.

use strict;
use warnings;

use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = schedule_node('alert');
$node->safe_psql('postgres', 'CALL leyser.tick()');

sub alerts
{
	return as_operator($node, q{SELECT string_agg(alert || ' ' || subject, ', ' ORDER BY alert) FROM leyser.backup_alert WHERE alert ~ '^(server log|events)'});
}

is(alerts(), '', 'a log that something else collects is no alert');
$node->append_conf('postgresql.conf', "logging_collector = on\nlog_filename = 'postgresql-%Y-%m-%d.log'\nlog_file_mode = 0600");
$node->restart;
$node->safe_psql('postgres', 'CALL leyser.tick()');
is(alerts(), '', 'a log by day, for its owner, is none');

# Each setting by itself, its remedy pasted.
for my $case ([ "log_filename = 'postgresql-%a.log'\nlog_truncate_on_rotation = on", 'server log overwritten log_filename' ],
	[ 'log_file_mode = 0644', 'server log readable log_file_mode' ], [ "log_rotation_age = 0\nlog_rotation_size = 0", 'server log not rotated log_rotation_age' ],
	[ 'log_min_messages = fatal', 'server log silent log_min_messages' ])
{
	my ($settings, $expected) = @$case;

	$node->append_conf('postgresql.conf', $settings);
	$node->reload;
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM leyser.server_log_problems()}) or die;
	is(alerts(), $expected, $expected);
	my $remedy = as_operator($node, q{SELECT remedy FROM leyser.backup_alert WHERE alert ~ '^server log'});
	$node->safe_psql('postgres', $_) for $remedy =~ /(ALTER SYSTEM [^;]*;|SELECT [^;]*;)/g;
	$node->append_conf('postgresql.conf', 'log_min_messages = warning') if $remedy =~ /RESET/;
	$node->reload;
	$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM leyser.server_log_problems()}) or die;
	is(alerts(), '', '... until its remedy is pasted');
}
like(as_operator($node, q{SELECT count(*) FROM leyser.backup_alert WHERE alert ~ '^server log overwritten'}), qr/^0$/, 'none is left');

# A name that comes once a year or never is not overwritten within the retention.
is($node->safe_psql('postgres', "SELECT leyser.log_is_overwritten('$$_[0]')"), $$_[1], "$$_[0]") for ['postgresql.log', 't'], ['pg-%a.log', 't'],
  ['pg-%d.log', 't'], ['pg-%H.log', 't'], ['pg-%m-%d.log', 'f'], ['pg-%Y-%m-%d.log', 'f'], ['pg-%s.log', 'f'], ['pg-%j.log', 'f'];

# What logrotate takes away before six months are over.
my $debian = "/var/log/postgresql/*.log {\n weekly\n rotate %s\n copytruncate\n missingok\n}\n";
is($node->safe_psql('postgres', "SELECT leyser.logrotate_days(\$f\$$$_[0]\$f\$)"), $$_[1], "logrotate: $$_[1] days") for [ sprintf($debian, 10), 70 ], [ sprintf($debian, 27), 189 ],
  [ "/x.log {\n\tdaily # not monthly\n\trotate 400\n\tmaxage 60\n}", 60 ], [ "monthly\nrotate 7\n", 210 ], [ "# rotate 1\nrotate 2\nweekly\nx {\ndaily\nrotate 300\n}", 2 ], [ '', 1000000 ];
is($node->safe_psql('postgres', sprintf("SELECT alert, subject, detail FROM leyser.logrotate_problems('/etc/logrotate.d/x', \$f\$$debian\$f\$)", 10)),
	'server log kept too short|/etc/logrotate.d/x|logrotate keeps the server log for 70 days; it is to be there for six months.', 'ten weeks, as Debian has it, are too short');
is($node->safe_psql('postgres', sprintf("SELECT count(*) FROM leyser.logrotate_problems('x', \$f\$$debian\$f\$)", 27)), '0', '... as the remedy says they are not');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.logrotate_problems('x', NULL)}), '0', '... and where there is no such file nothing is known');

# Events that nobody seals, though the heart beats.
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('late'); UPDATE leyser.event_pending SET at = at - interval '6 minutes'});
is(alerts(), 'events not sealed postgres', 'events that are not sealed');
tick($node);
is(alerts(), '', '... until a tick seals them');

$node->stop;
done_testing();
