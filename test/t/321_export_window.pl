# An export's window: who opens it, what it shows and to whom, and all that ends it.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('node', init => { allows_streaming => 1 });
$node->safe_psql('postgres', q{
	CREATE ROLE shop_owner;
	CREATE ROLE exporter LOGIN;
	CREATE ROLE other LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE SCHEMA shop AUTHORIZATION shop_owner;
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	SET ROLE shop_owner;
	CREATE TABLE shop.item (tenant_id text NOT NULL, n int);
	CREATE TABLE shop.paper (tenant_id text NOT NULL, n int);
	CREATE TABLE shop.queue (tenant text, n int);
	CREATE TABLE shop.legal (tenant text, n int);
	GRANT ALL ON shop.item TO exporter, other;
	GRANT SELECT ON shop.paper TO exporter;
	GRANT SELECT, INSERT ON shop.item TO app;
	RESET ROLE;
	SELECT leyser.create_tenant(t) FROM unnest('{active,suspended,terminated,held,begun,purged,erased,second,42}'::text[]) t;
	INSERT INTO shop.item SELECT t, i FROM unnest('{active,suspended,terminated,held,begun,purged,erased,second,42}'::text[]) t, generate_series(1, 3) i;
	INSERT INTO shop.paper SELECT tenant_id, n FROM shop.item;
	INSERT INTO shop.queue SELECT tenant_id, n FROM shop.item;
	SELECT leyser.protect('shop.item'), leyser.protect('shop.paper');
	SELECT leyser.create_permission('paper.read', 'read papers');
	SELECT leyser.set_permissions('shop.paper', read_permission => 'paper.read');
	SELECT leyser.declare_table('shop.queue', 'by_rule', 'a queue', purge_condition => 'tenant = $1');
	SELECT leyser.declare_table('shop.legal', 'retained', 'tax law');
	SELECT leyser.grant_usage('exporter', 'exporter'), leyser.grant_usage('other', 'exporter'), leyser.grant_usage('operator', 'operator'),
		leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('app', 'gateway');
	SELECT leyser.suspend_tenant('suspended');
	SELECT leyser.terminate_contract(t, clock_timestamp()) FROM unnest('{terminated,held,begun,purged,erased}'::text[]) t;
	SELECT leyser.hold_purge('held', 'a court', current_date + 30);
});

sub as
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}
my $look = 'BEGIN READ ONLY; SELECT (SELECT string_agg(DISTINCT tenant_id, \',\') FROM shop.item), (SELECT count(*) FROM shop.item), (SELECT count(*) FROM shop.paper), (SELECT count(*) FROM leyser.export_rows(NULL::shop.queue))';

# ---- who ----
is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '42501', "$_ opens none", user => $_) for qw(operator auditor app);
is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', 'a superuser neither: nothing binds it');
is_refused($node, 'SELECT leyser.export_plan(\'active\')', '42501', 'an application sees no plan', user => 'app');
foreach my $role (qw(exporter operator auditor))
{
	like(as($role, q{BEGIN READ ONLY; SELECT relation, copy_command FROM leyser.export_plan('active') ORDER BY step}),
		qr/\Ashop\.item\|\\copy \(SELECT tenant_id, n FROM leyser\.export_rows\(NULL::shop\.item\)\) TO '0001-shop\.item\.copy'\nshop\.paper\|.*\nshop\.queue\|.*\z/,
		"$role sees it");
}
$node->safe_psql('postgres', 'CREATE ROLE bypass BYPASSRLS; CREATE ROLE member IN ROLE exporter LOGIN');
is_refused($node, q{SELECT leyser.grant_usage('bypass', 'exporter')}, '0LP01', 'usage exporter is for roles that row security binds');
is_refused($node, 'GRANT exporter TO app', 'LY007', 'an application does not become an exporter');
is_refused($node, 'ALTER ROLE exporter BYPASSRLS', 'LY007', 'nor an exporter a role that row security does not bind');
foreach my $table (qw(queue legal))
{
	$node->safe_psql('postgres', "GRANT SELECT (n) ON shop.$table TO exporter");
	is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', "a role that can read all of shop.$table exports nothing", user => 'exporter');
	$node->safe_psql('postgres', "REVOKE SELECT (n) ON shop.$table FROM exporter");
}
$node->safe_psql('postgres', 'CREATE TABLE shop.forgotten (n int); GRANT SELECT ON shop.forgotten TO PUBLIC');
is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', '... nor one that can read a table without a kind', user => 'exporter');
like(as('exporter', q{SELECT step, relation, note FROM leyser.export_plan('active') WHERE copy_command IS NULL}),
	qr/\A0\|shop\.forgotten\|no kind is declared: it is not exported\z/, '... which the plan names');
$node->safe_psql('postgres', 'DROP TABLE shop.forgotten');
$node->safe_psql('postgres', q{
	CREATE SCHEMA reports; GRANT USAGE ON SCHEMA reports TO exporter;
	CREATE VIEW reports.items AS SELECT * FROM shop.item;
	CREATE VIEW reports.upon WITH (security_invoker) AS SELECT * FROM reports.items;
	CREATE VIEW reports.own WITH (security_invoker) AS SELECT * FROM shop.item;
	CREATE MATERIALIZED VIEW reports.kept AS SELECT * FROM shop.item;
	CREATE ROLE reporter; GRANT SELECT ON shop.item, reports.items TO reporter; GRANT CREATE, USAGE ON SCHEMA reports TO reporter;
	SET ROLE reporter; CREATE VIEW reports.above AS SELECT * FROM reports.items; RESET ROLE;
	SELECT leyser.govern_schema('reports'); CREATE TABLE reports.loose (n int)});
foreach my $relation (qw(items kept above loose))
{
	$node->safe_psql('postgres', "GRANT SELECT ON reports.$relation TO exporter");
	is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', "... nor one that can read reports.$relation", user => 'exporter');
	$node->safe_psql('postgres', "REVOKE SELECT ON reports.$relation FROM exporter");
}
$node->safe_psql('postgres', 'GRANT SELECT ON reports.own TO exporter');
is_refused($node, q{BEGIN; SELECT leyser.open_export('active', '1 hour'); ROLLBACK}, '', '... while a view that asks with its reader\'s rights is none', user => 'exporter');
$node->safe_psql('postgres', q{SELECT leyser.ungovern_schema('reports'); DROP SCHEMA reports CASCADE; DROP OWNED BY reporter; DROP ROLE reporter});

# ---- how long ----
is_refused($node, "SELECT leyser.open_export('active', $_)", '22023', "not for $_", user => 'exporter')
  for 'NULL', q{'-1 hour'}, q{'8 days'}, q{'0.5 s'}, q{'-178000000 years'};
is_refused($node, q{SELECT leyser.open_export('active', '1 hour', E'a\nb')}, '22023', 'a reason is one line', user => 'exporter');
is_refused($node, q{SELECT leyser.open_export('nobody', '1 hour')}, '42704', 'an unknown tenant', user => 'exporter');
is_refused($node, q{SELECT leyser.export_plan('nobody')}, '42704', '... has no plan', user => 'exporter');

# ---- what ----
as('exporter', q{SELECT leyser.open_export('active', '1 hour', 'moves')});
is(as('exporter', $look), 'active|3|3|3', 'one tenant\'s rows, whatever permissions they need');
is(as('exporter', 'BEGIN READ ONLY; SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0; SET force_parallel_mode = on; SELECT count(*), min(tenant_id) FROM shop.item'), '3|active', '... in parallel plans, too')
  if $node->pg_version < 16;
is_refused($node, $look, 'LY001', 'another exporter sees nothing', user => 'other');
is_refused($node, $look, 'LY001', '... nor a member of the role', user => 'member');
is_refused($node, 'SELECT count(*) FROM shop.item', '25006', 'a transaction that can write does not read', user => 'exporter');
is_refused($node, q{INSERT INTO shop.item VALUES ('active', 9)}, '25006', '... nor write', user => 'exporter');
is_refused($node, q{BEGIN READ ONLY; DELETE FROM shop.item}, '25006', '... also not where it says so', user => 'exporter');
is_refused($node, 'SELECT * FROM leyser.export_rows(NULL::shop.legal)', '42809', 'retained tables are the provider\'s', user => 'exporter');
is_refused($node, 'SELECT * FROM leyser.export_rows(NULL::text)', '42809', '... and a text is no table', user => 'exporter');
is_refused($node, q{SELECT leyser.open_export('42', '1 hour')}, 'LY008', 'one tenant at a time', user => 'exporter');
is_refused($node, q{SELECT leyser.close_export('exporter')}, '42501', 'nobody closes another\'s', user => 'other');
is($node->safe_psql('postgres', q{SELECT event, object, detail ->> 'reason' FROM leyser.event WHERE tenant_id = 'active' AND event ~ 'export' ORDER BY event_id LIMIT 3}),
	"export.opened|exporter|moves\nexport.entered|exporter|\nexport.read|shop.queue|", 'it is recorded, also what a read-only transaction read');
is(as('auditor', 'SELECT to_role, tenant_id, reason, is_open FROM leyser.export_window'), 'exporter|active|moves|t', 'an auditor sees the window');

# A window and a token in one transaction would be two tenants.
my $token = as('app', q{SELECT leyser.issue_token('42')});
is_refused($node, qq{BEGIN READ ONLY; SELECT count(*) FROM shop.item; SELECT set_config('leyser.token', '$token', true)}, 'LY009', 'no token after it', user => 'exporter');

# ---- what ends it ----
my $session = open_session($node, user => 'exporter');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
is($session->query_safe('SELECT count(*) FROM shop.item'), '3', 'a transaction reads');
as('operator', q{SELECT leyser.close_export('exporter')});
is_refused_in($session, 'SELECT count(*) FROM shop.item', 'LY003', '... until an operator closes the window');
$session->query('ROLLBACK');
is_refused_in($session, 'SELECT count(*) FROM leyser.export_rows(NULL::shop.queue)', 'LY003', '... by either way');
is_refused($node, 'SELECT leyser.close_export()', 'LY008', '... once', user => 'exporter');
as('exporter', q{SELECT leyser.open_export('active', '1.5 s')});
$session->query('BEGIN READ ONLY');
is($session->query_safe('SELECT count(*) FROM shop.item'), '3', 'one that is short');
$node->poll_query_until('postgres', q{SELECT NOT is_open FROM leyser.export_window WHERE to_role = 'exporter'::regrole});
is_refused_in($session, 'SELECT count(*) FROM shop.item', 'LY003', '... ends by itself');
$session->query('ROLLBACK');
as('exporter', q{SELECT leyser.open_export('active', '1 hour')});
$node->safe_psql('postgres', q{SELECT leyser.revoke_usage('exporter', 'exporter')});
is_refused($node, 'SELECT * FROM leyser.export_rows(NULL::shop.queue)', '42501', 'with the usage goes the window', user => 'exporter');
is_refused_in($session, 'SELECT count(*) FROM shop.item', 'LY003', '... also for tables');
$node->safe_psql('postgres', q{SELECT leyser.grant_usage('exporter', 'exporter')});

# a table that is protected no longer would show everybody's rows
as('exporter', q{SELECT leyser.open_export('active', '1 hour')});
$node->safe_psql('postgres', q{SELECT leyser.protect('shop.item', set_default => false)});
is(as('exporter', $look), 'active|3|3|3', 'a table that is protected anew leaves the window open');
$node->safe_psql('postgres', q{SELECT leyser.unprotect('shop.paper')});
is_refused_in($session, 'BEGIN READ ONLY; SELECT count(*) FROM shop.item', 'LY003', '... one that is taken out closes it');
$session->query('ROLLBACK');
is($node->safe_psql('postgres', q{SELECT detail ->> 'cause' FROM leyser.event WHERE event = 'export.closed' ORDER BY event_id DESC LIMIT 1}), 'table', '... which is recorded');
is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', '... and none is opened beside it', user => 'exporter');
$node->safe_psql('postgres', q{SELECT leyser.protect('shop.paper'); SELECT leyser.set_permissions('shop.paper', read_permission => 'paper.read')});

as('exporter', q{SELECT leyser.open_export('active', '1 hour')});
$node->safe_psql('postgres', q{SELECT leyser.suspend_protection('shop.item', 'an incident', '1 hour')});
is_refused($node, 'BEGIN READ ONLY; SELECT count(*) FROM shop.paper', 'LY003', 'a suspension of protection closes it, too', user => 'exporter');
is_refused($node, q{SELECT leyser.open_export('active', '1 hour')}, '0LP01', '... and none is opened meanwhile', user => 'exporter');
$node->safe_psql('postgres', q{SELECT leyser.protect('shop.item', enforcement => 'enforce')});

# ---- which tenants ----
foreach my $tenant (qw(suspended terminated held))
{
	as('exporter', "SELECT leyser.open_export('$tenant', '1 hour')");
	is(as('exporter', $look), "$tenant|3|3|3", "a tenant that is $tenant can be handed over");
	is_refused($node, "SELECT leyser.enter('$tenant')", 'LY004', '... and stays locked out for others', user => 'app');
	as('exporter', 'SELECT leyser.close_export()');
}
as('exporter', q{SELECT leyser.open_export('purged', '1 hour')});
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
is($session->query_safe('SELECT count(*) FROM shop.item'), '3', 'what is to be purged is read');
$node->safe_psql('postgres', q{CALL leyser.purge('purged', wait => false)});
is_refused_in($session, 'SELECT count(*) FROM shop.item', 'LY003', '... until its purge is called for');
$session->query('ROLLBACK');
is_refused($node, q{SELECT leyser.open_export('purged', '1 hour')}, 'LY008', 'nothing is exported during a purge', user => 'exporter');
is_refused($node, q{SELECT leyser.export_plan('purged')}, 'LY008', '... nor planned', user => 'exporter');
$node->safe_psql('postgres', q{CALL leyser.purge('erased')});
is_refused($node, q{SELECT leyser.open_export('erased', '1 hour')}, 'LY008', '... nor after it', user => 'exporter');
$node->safe_psql('postgres', q{INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, started_at)
	VALUES ('begun', 'held', 1, 0, 'x', now())});
is_refused($node, q{SELECT leyser.open_export('begun', '1 hour')}, 'LY008', '... nor what a purge left before it was held', user => 'exporter');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.export_record WHERE tenant_id = 'erased'}), '0', 'a purge leaves no window of its tenant');

# ---- a second person ----
$node->append_conf('postgresql.conf', 'leyser.second_person = on');
$node->reload;
$node->poll_query_until('postgres', q{SHOW leyser.second_person}, 'on');
as('exporter', q{SELECT leyser.open_export('second', '1 hour')});
is_refused($node, $look, 'LY001', 'where two persons are wanted, one opens nothing', user => 'exporter');
is_refused($node, q{SELECT leyser.confirm_export('exporter')}, '42501', '... and does not confirm it', user => 'exporter');
is_refused($node, 'GRANT operator TO exporter', 'LY007', '... nor dresses up as the other');
as('operator', q{SELECT leyser.confirm_export('exporter')});
is(as('exporter', $look), 'second|3|3|3', '... who does');
is_refused($node, q{SELECT leyser.confirm_export('exporter')}, 'LY008', '... once', user => 'operator');

# ---- a standby ----
my $backup = $node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', $look =~ s/, \(SELECT count\(\*\) FROM leyser.*/)/r =~ s/\)\)/)/r, extra_params => [ '-U', 'exporter' ]), 'second|3|3', 'a standby shows it, too');
as('exporter', 'SELECT leyser.close_export()');
is($node->safe_psql('postgres', q{SELECT string_agg(event, ', ' ORDER BY event_id)
	FROM leyser.event WHERE event ~ '^export' AND tenant_id = 'second'}),
	'export.opened, export.confirmed, export.entered, export.read, export.closed', 'what opens and ends a window is recorded');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is_refused($standby, 'BEGIN READ ONLY; SELECT count(*) FROM shop.item', 'LY003', '... until it is closed on the primary', user => 'exporter');
$standby->stop;

$session->quit;
$node->stop;
done_testing();
