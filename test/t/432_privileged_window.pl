# Windows: pg_dump and migrations where privileged access is refused; leyser's own jobs
# need none.

use strict;
use warnings;

use LeyserTest;
use LeyserPrivileged;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('window');
make_shop($node);
set_access($node, 'refuse');

my $folder = PostgreSQL::Test::Utils::tempdir;
my @dump = ('pg_dump', '-U', 'boss', '-h', $node->host, '-p', $node->port, '-f', "$folder/dump.sql", 'postgres');
command_fails_like(\@dump, qr/privileged access to protected table "invoice" is refused/, 'pg_dump without a window is refused');
my $window = $node->safe_psql('postgres', q{SELECT leyser.open_privileged_access('boss', 'pg_dump', '1 hour')});
accessed($node);
{
	local $ENV{PGAPPNAME} = 'pg_dump';
	command_ok(\@dump, 'in a window it is not');
}
like(slurp_file("$folder/dump.sql"), qr/COPY public.invoice.*\n1\t1\t1\n/, '... and has the rows');
is(accessed($node, q{relation || ' ' || command || ' ' || role || ' ' || application || ' ' || window_id}),
	"invoice COPY TO boss pg_dump $window 1\nline COPY TO boss pg_dump $window 1", 'each table is recorded once, with the window');
is($node->safe_psql('postgres', q{SELECT DISTINCT detail ->> 'purpose' FROM leyser.event WHERE event = 'privileged.access'}), 'pg_dump', '... and its purpose');
is_refused($node, 'SELECT * FROM invoice', 'LY007', 'the window is for one role', user => 'beyond');
is_refused($node, 'SELECT * FROM invoice', 'LY007', '... and no other superuser');
is(sqlstate_of($node, 'SET ROLE boss; SELECT * FROM invoice', user => 'member'), '', '... which others may take on');

# It is closed at the next statement, also for a transaction that looked through it.
my $session = open_session($node, user => 'boss');
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM invoice');
$node->safe_psql('postgres', "SELECT leyser.close_privileged_access($window)");
is_refused_in($session, 'SELECT count(*) FROM invoice', 'LY007', 'a closed window is closed at once');
$session->query('ROLLBACK');
is_refused($node, "SELECT leyser.close_privileged_access($window)", 'LY008', '... and cannot be closed again');
$node->safe_psql('postgres', q{SELECT leyser.open_privileged_access('boss', 'short', '2 s')});
is(sqlstate_in($session, 'SELECT count(*) FROM invoice'), '', 'another one');
usleep(2_100_000);
is_refused_in($session, 'SELECT count(*) FROM invoice', 'LY007', '... ends with its time');
$session->quit;
is_refused($node, q{BEGIN; SELECT leyser.open_privileged_access('boss', 'x'); ROLLBACK; SELECT * FROM invoice}, 'LY007', 'what is rolled back opens nothing', user => 'boss');

# What is wrong, and who may not.  Up to version 16 no interval is infinite.
my $infinity = $node->safe_psql('postgres', 'SHOW server_version_num') < 170000 ? '22007' : '22023';
is_refused($node, qq{SELECT leyser.open_privileged_access($_->[0])}, $_->[1], "open_privileged_access($_->[0])") foreach
	[ q{'nobody', 'x'}, '42704' ], [ q{'boss', ''}, '22023' ], [ q{'boss', NULL}, '22023' ], [ q{'boss', E'a\nb'}, '22023' ], [ q{'boss', 'x', '2 days'}, '22023' ],
	[ q{'boss', 'x', '-1 s'}, '22023' ], [ q{'boss', 'x', NULL}, '22023' ], [ q{'boss', 'x', 'infinity'}, $infinity ], [ q{'boss', 'x', '300000 years'}, '22023' ], [ q{NULL, 'x'}, '42704' ],
	[ q{4711::oid::regrole, 'x'}, '42704' ];
is_refused($node, "SELECT leyser.close_privileged_access($_)", 'LY008', "close_privileged_access($_)") foreach 'NULL', '-1', '999';
foreach my $user (qw(app auditor keeper beyond))
{
	is_refused($node, "SELECT leyser.open_privileged_access('beyond', 'x')", '42501', "$user opens no window", user => $user);
}
is($node->safe_psql('postgres', q{SELECT string_agg(event || ' ' || (object = 'boss')::text, ',' ORDER BY event_id) FROM leyser.event WHERE event ~ '^privileged.(opened|closed)'}),
	'privileged.opened true,privileged.closed true,privileged.opened true', 'windows are events');
is($node->safe_psql('postgres', q{SELECT string_agg(purpose || ' ' || is_open, ',' ORDER BY window_id) FROM leyser.privileged_window}, extra_params => [ '-U', 'auditor' ]),
	'pg_dump false,short false', 'an auditor sees them');

# leyser's own work goes on, and is no privileged access.
accessed($node);
foreach my $sql (q{SELECT * FROM leyser.check_security()}, q{SELECT * FROM leyser.purge_plan('2')},
	q{CREATE TABLE more (tenant_id int NOT NULL, id int); SELECT leyser.protect('more')},
	q{SELECT leyser.terminate_contract('2', clock_timestamp())}, 'CALL leyser.tick()', q{CALL leyser.purge('2')}, 'CALL leyser.tick()')
{
	my ($sqlstate, $message) = sqlstate_of($node, $sql);
	is($sqlstate, '', "not refused: $sql") or diag($message);
}
is($node->safe_psql('postgres', q{SELECT state FROM leyser.tenant_record WHERE tenant_id = '2'}), 'erased', 'a purge erases');
is(accessed($node), '', '... and none of this is anybody\'s privileged access');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM leyser.event WHERE event = 'tenant.erased' OR event ~ '^purge'}), 't', '... it has events of its own');

done_testing();
