# suspend_protection(): a recorded gap that the clock ends, and whom it does not let in.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('suspend', conf => "cron.database_name = 'template1'");
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE migrator LOGIN;
	CREATE ROLE keeper;
	GRANT keeper TO migrator;
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('app', 'gateway'), leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant('1'), leyser.create_tenant('2');
	CREATE TABLE invoice (id int PRIMARY KEY, tenant_id int NOT NULL, amount int);
	CREATE TABLE note (id int PRIMARY KEY, tenant_id text, line text) PARTITION BY RANGE (id);
	CREATE TABLE note_1 PARTITION OF note FOR VALUES FROM (0) TO (100);
	CREATE TABLE observed (tenant_id int NOT NULL);
	CREATE TABLE plain (id int);
	INSERT INTO invoice SELECT g, 1 + g % 2, g FROM generate_series(1, 20) g;
	INSERT INTO note VALUES (1, '1', 'one'), (2, '2', 'two'), (3, NULL, 'all');
	ALTER TABLE invoice OWNER TO keeper;
	ALTER TABLE note OWNER TO keeper;
	ALTER TABLE note_1 OWNER TO keeper;
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
	SELECT leyser.protect('invoice'), leyser.protect('note', kind => 'own_and_global'), leyser.protect('observed', enforcement => 'observe');
});
my $before = $node->safe_psql('postgres', q{SELECT string_agg(concat(polname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), ';' ORDER BY polrelid, polname) FROM pg_policy});

sub suspend
{
	my ($relation, $valid_for, $for_applications) = @_;

	return $node->safe_psql('postgres', "SELECT leyser.suspend_protection('$relation', 'a migration', '$valid_for', $for_applications)", extra_params => [ '-U', 'operator' ]);
}

# Bad input; who may.
my %refused = (
	"'invoice', '', '1 hour'" => '22023', "'invoice', NULL, '1 hour'" => '22023', "'invoice', 'why', '0'" => '22023', "'invoice', 'why', '-1 hour'" => '22023',
	"'invoice', 'why', NULL" => '22023', "'invoice', 'why', '8 days'" => '22023', "'invoice', 'why', '290000 years'" => '22023', "'invoice', 'why', '-290000 years'" => '22023', "'plain', 'why', '1 hour'" => 'LY008', "'observed', 'why', '1 hour'" => 'LY008',
	"'note_1', 'why', '1 hour'" => 'LY008', "NULL, 'why', '1 hour'" => '42P01', "'pg_class', 'why', '1 hour'" => '42809');
is_refused($node, "SELECT leyser.suspend_protection($_)", $refused{$_}, "suspend_protection($_)", user => 'operator') foreach sort keys %refused;
is_refused($node, q{SELECT leyser.suspend_protection('invoice', 'why', '1 hour')}, '42501', "$_ cannot suspend", user => $_) foreach qw(app migrator);
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'table.suspended'}), '0', 'nothing was done');

# Roles without a usage, outside of a context, see and change all.
suspend('invoice', '1 hour', 'false');
is($node->safe_psql('postgres', 'UPDATE invoice SET amount = amount + 1; SELECT count(*) FROM invoice', extra_params => [ '-U', 'migrator' ]), '20', 'a migration touches all rows');
is_refused($node, 'SELECT * FROM invoice', 'LY001', 'an application without a context does not', user => 'app');
is($node->safe_psql('postgres', q{SELECT enforcement, suspended_until > clock_timestamp() + interval '59 minutes', suspended_reason, gaps[1] ~ '^protection is suspended until', cardinality(gaps)
	FROM leyser.governed_table WHERE relation = 'invoice'::regclass}), 'suspended|t|a migration|t|2', 'the view tells it');
is($node->safe_psql('postgres', q{SELECT object, caller_role, detail ->> 'reason', detail ->> 'for_applications' FROM leyser.event WHERE event = 'table.suspended'}),
	'public.invoice|operator|a migration|false', '... and an event');
is($node->safe_psql('postgres', q{SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL'; SELECT count(*) FROM leyser.governed_table, unnest(gaps) g WHERE g ~ 'missing or was changed'}), '0',
	'the policies are known as ours, whatever the session\'s time zone');
is_refused($node, q{SET ROLE keeper; DROP POLICY leyser_tenant ON invoice}, 'LY007', 'the guards stay', user => 'migrator');
is_refused($node, q{SET ROLE keeper; ALTER TABLE invoice DISABLE ROW LEVEL SECURITY}, 'LY007', '... all of them', user => 'migrator');

# Nor one that SET ROLE made of a superuser, also behind a function of the table's owner.
$node->safe_psql('postgres', q{
	CREATE ROLE pool LOGIN SUPERUSER;
	CREATE FUNCTION all_invoices() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.invoice';
	ALTER FUNCTION all_invoices() OWNER TO keeper;
});
is($node->safe_psql('postgres', 'SELECT all_invoices()', extra_params => [ '-U', 'migrator' ]), '20', 'a function of the owner is let through for whom the table is');
is_refused($node, "$_ SELECT all_invoices()", 'LY001', '... and not for an application' . ($_ && ' that SET ROLE made'), user => $_ ? 'pool' : 'app') for '', 'SET ROLE app;';

# A context is a context, also one that was left: hostile SQL would leave its own first.
suspend('invoice', '1 hour', 'true');
is($node->safe_psql('postgres', 'SELECT count(*) FROM invoice', extra_params => [ '-U', 'app' ]), '20', 'with for_applications they see all, too');
is($node->safe_psql('postgres', q{BEGIN; SELECT leyser.enter('1') \g /dev/null
	SELECT count(*), min(tenant_id), max(tenant_id) FROM invoice}, extra_params => [ '-U', 'app' ]), '10|1|1', '... in a context its tenant\'s');
is_refused($node, q{BEGIN; SELECT leyser.enter('1'); SELECT leyser.leave(); SELECT count(*) FROM invoice}, 'LY001', '... and none once it was left', user => 'app');
is_refused($node, q{BEGIN; SELECT leyser.enter('1'); INSERT INTO invoice VALUES (50, 2, 1)}, '42501', '... and no row for another tenant', user => 'app');
is($node->safe_psql('postgres', 'SELECT leyser.protection_is_suspended(9999999999, true), leyser.protection_is_suspended(1, true)', extra_params => [ '-U', 'app' ]), 't|f',
	'what policies ask anybody may ask');

# No window of an export is opened beside it, nor beside a table that is observed.
$node->safe_psql('postgres', q{CREATE ROLE porter LOGIN; SELECT leyser.grant_usage('porter', 'exporter');
	SELECT leyser.declare_table('plain', 'ignored', 'a test')});
foreach my $relation (qw(invoice observed))
{
	$node->safe_psql('postgres', "GRANT SELECT ON $relation TO porter");
	is_refused($node, q{SELECT leyser.open_export('1', '1 hour', 'hand-over')}, '0LP01', "no export for who may read $relation", user => 'porter');
	$node->safe_psql('postgres', "REVOKE SELECT ON $relation FROM porter");
}

# protect() ends it, also the owner's: that tightens.
$node->safe_psql('postgres', q{SET ROLE keeper; SELECT leyser.protect('invoice', enforcement => 'enforce')}, extra_params => [ '-U', 'migrator' ]);
is_refused($node, 'SELECT * FROM invoice', 'LY001', 'it is ended early', user => 'migrator');
is($node->safe_psql('postgres', q{SELECT string_agg(concat(polname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), ';' ORDER BY polrelid, polname) FROM pg_policy}),
	$before, '... and leaves the policies as they were');

# The clock ends it, nobody else: in sessions that are open, and in plans that are kept.
my $session = open_session($node, user => 'migrator');
$session->query(q{SET plan_cache_mode = force_generic_plan; PREPARE all_notes AS SELECT count(*) FROM note});
suspend('note', '4 seconds', 'false');
is($session->query('EXECUTE all_notes'), '3', 'a family is suspended');
is($session->query('SELECT count(*) FROM note_1'), '3', '... each part of it');
$node->safe_psql('postgres', q{CREATE TABLE note_2 PARTITION OF note FOR VALUES FROM (100) TO (200); ALTER TABLE note_2 OWNER TO keeper; INSERT INTO note VALUES (100, '1', 'new'); SELECT pg_sleep_until(suspended_until)
	FROM leyser.table_record WHERE relation = 'note'::regclass});
is_refused_in($session, 'EXECUTE all_notes', 'LY001', 'it is over, without a statement of anybody');
is_refused($node, "SELECT * FROM $_", 'LY001', "... in $_", user => 'migrator') foreach qw(note note_1);
is_refused($node, 'SET ROLE keeper; SELECT * FROM note_2', 'LY001', '... in a part that came in between', user => 'migrator');
$session->quit;
is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws('|', enforcement, suspended_until, suspended_reason, gaps::text ~ 'suspended|changed'), ' ') FROM leyser.governed_table WHERE relation::text ~ '^note'}),
	'enforce|f enforce|f enforce|f', '... and the view says so');
my $token = $node->safe_psql('postgres', q{SELECT leyser.issue_token('1')}, extra_params => [ '-U', 'app' ]);
my $plan = $node->safe_psql('postgres', qq{BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null
	SET LOCAL ROLE keeper; EXPLAIN (COSTS OFF) SELECT * FROM note_1});
like($plan, qr/tenant_id = leyser.tenant_id\(\)/, 'a new plan compares with the getter');
unlike($plan, qr/suspended/, '... and asks no clock');

# The scheduler, where there is one, tidies up.
$node->safe_psql('postgres', 'CALL leyser.tick()');
is($node->safe_psql('postgres', q{SELECT string_agg(enforcement, ' ') FROM leyser.table_record WHERE relation::text ~ '^note'}), 'enforce enforce enforce', 'tick() writes it down');
is($node->safe_psql('postgres', q{SELECT object FROM leyser.event WHERE event = 'table.suspension_ended'}), 'public.note', '... and an event');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_policy WHERE pg_get_expr(polqual, polrelid) ~ 'suspended'}), '0', '... and the policies are as they were');

$node->stop;
done_testing();
