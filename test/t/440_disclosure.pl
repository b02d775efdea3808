# A disclosure: who opens and confirms it, what it shows and to whom, what ends it, and
# what is told of it.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('node', init => { allows_streaming => 1 });
$node->safe_psql('postgres', q{
	CREATE ROLE shop_owner;
	CREATE ROLE reader LOGIN;
	CREATE ROLE other LOGIN;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE duty;
	CREATE ROLE carol LOGIN NOINHERIT IN ROLE duty;
	CREATE ROLE dave LOGIN NOINHERIT IN ROLE duty;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE SCHEMA shop AUTHORIZATION shop_owner;
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	SET ROLE shop_owner;
	CREATE TABLE shop.item (tenant_id text NOT NULL, n int);
	CREATE TABLE shop.paper (tenant_id text NOT NULL, n int);
	CREATE TABLE shop.queue (tenant text, n int);
	GRANT ALL ON shop.item TO reader, other;
	GRANT SELECT ON shop.paper TO reader;
	GRANT SELECT, INSERT ON shop.item TO app;
	RESET ROLE;
	SELECT leyser.create_tenant(t) FROM unnest('{active,suspended,terminated,held,purged,second,untold,42}'::text[]) t;
	INSERT INTO shop.item SELECT t, i FROM unnest('{active,suspended,terminated,held,purged,second,untold,42}'::text[]) t, generate_series(1, 3) i;
	INSERT INTO shop.paper SELECT tenant_id, n FROM shop.item;
	INSERT INTO shop.queue SELECT tenant_id, n FROM shop.item;
	SELECT leyser.protect('shop.item'), leyser.protect('shop.paper');
	SELECT leyser.create_permission('paper.read', 'read papers');
	SELECT leyser.set_permissions('shop.paper', read_permission => 'paper.read');
	SELECT leyser.declare_table('shop.queue', 'by_rule', 'a queue', purge_condition => 'tenant = $1');
	SELECT leyser.grant_usage(r, 'exporter') FROM unnest('{reader,other}'::regrole[]) r;
	SELECT leyser.grant_usage(r, 'operator') FROM unnest('{alice,bob,duty,carol}'::regrole[]) r;
	SELECT leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('app', 'gateway');
	SELECT leyser.suspend_tenant('suspended');
	SELECT leyser.terminate_contract(t, clock_timestamp()) FROM unnest('{terminated,held,purged}'::text[]) t;
	SELECT leyser.hold_purge('held', 'a court', current_date + 30);
});

sub as
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# Alice opens for the reader; arguments besides.
sub opened
{
	my ($tenant, $more, $time) = @_;

	return as('alice', sprintf q{SELECT leyser.open_disclosure('%s', 'order 12 of the court', '%s', 'reader' %s)}, $tenant, $time // '1 hour', $more // '');
}

sub confirmed
{
	my $id = opened(@_);

	as('bob', "SELECT leyser.confirm_disclosure($id)");
	return $id;
}

sub state_of
{
	my ($id) = @_;

	return as('auditor', "SELECT state FROM leyser.disclosure WHERE disclosure_id = $id");
}

my $all = q{SELECT (SELECT string_agg(DISTINCT tenant_id, ',') FROM shop.item), (SELECT count(*) FROM shop.item), (SELECT count(*) FROM shop.paper),
	(SELECT count(*) FROM leyser.export_rows(NULL::shop.queue))};
my $count = 'SELECT count(*) FROM shop.item';

sub look
{
	my ($id, $sql) = @_;

	return "BEGIN; SELECT leyser.enter_disclosure($id); " . ($sql // $count);
}

# ---- who opens ----
my $open = q{SELECT leyser.open_disclosure('active', 'a law', '1 hour', 'reader')};
is_refused($node, $open, '42501', "$_ opens none", user => $_) for qw(auditor app dave);
is_refused($node, $open, '42501', 'a superuser neither, who can be both persons');
is_refused($node, $open, '42501', 'a reader opens none for another', user => 'other');
is_refused($node, q{SELECT leyser.open_disclosure('active', 'a law', '1 hour')}, '0LP01', 'an operator does not read', user => 'alice');
is_refused($node, q{SELECT leyser.open_disclosure('active', 'a law', '1 hour', 'app')}, '0LP01', 'nor the application', user => 'alice');
$node->safe_psql('postgres', 'GRANT SELECT ON shop.queue TO reader');
is_refused($node, $open, '0LP01', 'nor who could read all tenants\' rows of a table', user => 'alice');
$node->safe_psql('postgres', 'REVOKE SELECT ON shop.queue FROM reader');
$node->safe_psql('postgres', 'CREATE ROLE maker CREATEROLE LOGIN; SELECT leyser.grant_usage(\'maker\', \'operator\')');
is_refused($node, $open, '42501', 'nor opens who can make roles', user => 'maker');

# ---- for what ----
is_refused($node, "SELECT leyser.open_disclosure('active', $_, '1 hour', 'reader')", '22023', "not on legal basis $_", user => 'alice')
  for 'NULL', q{''}, q{'  '}, q{E'a\nb'}, q{repeat('x', 1001)};
is_refused($node, "SELECT leyser.open_disclosure('active', 'a law', $_, 'reader')", '22023', "not for $_", user => 'alice')
  for 'NULL', q{'-1 hour'}, q{'8 days'}, q{'0.5 s'}, q{'-178000000 years'}, q{'1 month'};
is_refused($node, "SELECT leyser.open_disclosure('active', 'a law', '1 hour', 'reader', $_)", '22023', "not with $_", user => 'alice')
  for 'tell_tenant => NULL', 'tell_tenant => false', q{tell_tenant => false, untold_reason => ' '}, q{untold_reason => 'x'},
  q{untold_until => now() + interval '1 day'}, q{tell_tenant => false, untold_reason => 'x', untold_until => now() - interval '1 day'};
is_refused($node, q{SELECT leyser.open_disclosure(%s, 'a law', '1 hour', 'reader')} =~ s/%s/$_/r, '42704', "not of tenant $_", user => 'alice') for q{'nobody'}, 'NULL';
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM leyser.disclosure), (SELECT count(*) FROM leyser.disclosure_window)}), '0|0', 'nothing was written');

# ---- who confirms ----
my $id = opened('active');
is_refused($node, look($id), 'LY008', 'one person opens nothing', user => 'reader');
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', 'who opened does not confirm', user => 'alice');
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', "... nor $_", user => $_) for qw(reader auditor app);
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', '... nor a superuser');
is_refused($node, "SET ROLE bob; SELECT leyser.confirm_disclosure($id)", '42501', '... in whatever role');
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', '... nor who can make roles', user => 'maker');
$node->safe_psql('postgres', 'GRANT alice TO bob');
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', '... nor a member of who opened', user => 'bob');
is_refused($node, "SET ROLE alice; SELECT leyser.confirm_disclosure($id)", '42501', '... as that', user => 'bob');
$node->safe_psql('postgres', 'REVOKE alice FROM bob; GRANT bob TO alice');
is_refused($node, "SELECT leyser.confirm_disclosure($id)", '42501', '... nor one of whom it is a member', user => 'bob');
is_refused($node, "SET ROLE bob; SELECT leyser.confirm_disclosure($id)", '42501', '... nor who opened, dressed up', user => 'alice');
$node->safe_psql('postgres', 'REVOKE bob FROM alice');
my $shared = as('carol', q{SET ROLE duty; SELECT leyser.open_disclosure('active', 'a law', '1 hour', 'reader')});
is_refused($node, "SET ROLE duty; SELECT leyser.confirm_disclosure($shared)", '42501', 'two in one role are one', user => 'dave');
is_refused($node, "SELECT leyser.confirm_disclosure($shared)", '42501', '... also without it', user => 'carol');
as('alice', "SELECT leyser.close_disclosure($shared)");
my $connected = opened('active');
is_refused($node, "SET SESSION AUTHORIZATION bob; SELECT leyser.confirm_disclosure($connected)", '42501', '... nor a superuser who is the session\'s role by now');
is_refused($node, "SET SESSION AUTHORIZATION alice; $open", '42501', '... who opens none, either');
$node->safe_psql('postgres', 'CREATE ROLE gone LOGIN; SELECT leyser.grant_usage(\'gone\', \'operator\')');
my $gone = as('gone', $open);
$node->safe_psql('postgres', q{SELECT leyser.revoke_usage('gone', 'operator')});
my ($state, $message) = sqlstate_of($node, "SELECT leyser.confirm_disclosure($gone)", user => 'bob');
is($state, '42501', 'nobody confirms what was opened for another one by who is no operator any more');
like($message, qr/no operator any more.*DETAIL:.*gone.*HINT:.*close_disclosure/s, '... and what to do is told');
$node->safe_psql('postgres', 'DROP ROLE gone');
is_refused($node, "SELECT leyser.confirm_disclosure($gone)", '42501', 'nobody confirms what a dropped role opened', user => 'bob');
$node->safe_psql('postgres', 'CREATE ROLE gone LOGIN; SELECT leyser.grant_usage(\'gone\', \'operator\')');
is_refused($node, "SELECT leyser.confirm_disclosure($gone)", '42501', '... nor that role, made again', user => 'gone');
$node->safe_psql('postgres', 'ALTER ROLE alice RENAME TO alice_was; ALTER ROLE gone RENAME TO alice');
is_refused($node, "SELECT leyser.confirm_disclosure($connected)", '42501', '... nor one that took the name of who opened', user => 'alice');
$node->safe_psql('postgres', 'ALTER ROLE alice RENAME TO gone; ALTER ROLE alice_was RENAME TO alice');
as('alice', "SELECT leyser.close_disclosure($_)") for $connected, $gone;
is_refused($node, "SELECT leyser.confirm_disclosure($_)", 'LY008', "there is no $_ to confirm", user => 'bob') for $shared, 4711, 'NULL';
as('bob', "SELECT leyser.confirm_disclosure($id)");
is_refused($node, "SELECT leyser.confirm_disclosure($id)", 'LY008', 'once', user => 'bob');

# ---- what it shows ----
is(as('reader', look($id, $all)), "\nactive|3|3|3", 'one tenant\'s rows, whatever permissions they need');
is_refused($node, $count, 'LY001', 'nothing outside of it', user => 'reader');
is_refused($node, look($id), '42501', "... nor for $_", user => $_) for qw(other alice bob auditor app postgres);
is_refused($node, look($_), '42501', "... nor number $_", user => 'reader') for 4711, 'NULL';
is_refused($node, look($id, q{INSERT INTO shop.item VALUES ('active', 9)}), '25006', 'nothing is written', user => 'reader');
is_refused($node, look($id, q{SET TRANSACTION READ WRITE; INSERT INTO shop.item VALUES ('active', 9)}), '25001', '... by no trick', user => 'reader');
is_refused($node, "BEGIN; SAVEPOINT a; SELECT leyser.enter_disclosure($id); ROLLBACK TO a; $count", 'LY001', 'a savepoint takes the context back', user => 'reader');
is_refused($node, "INSERT INTO shop.item SELECT 'active', 9 FROM leyser.enter_disclosure($id)", '25006', '... nor the statement that enters', user => 'reader');
is_refused($node, look($id, "SELECT leyser.enter_disclosure(%s)" =~ s/%s/$id/r . '; SELECT leyser.open_disclosure(\'42\', \'a law\', \'1 hour\')'), '25006', '... nor another one opened', user => 'reader');
is($node->safe_psql('postgres', q{SELECT count(*) FROM shop.item WHERE n = 9}), '0', 'nothing was');
my $token = as('app', q{SELECT leyser.issue_token('42')});
is_refused($node, look($id, qq{SELECT set_config('leyser.token', '$token', true)}), 'LY009', 'no other tenant in one transaction', user => 'reader');
is(as('reader', look($id, q{SELECT current_setting('leyser.token')})), "\n(set)", 'the token does not show');
my $parallel = 'BEGIN; SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;
	SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_leader_participation = off; SELECT leyser.enter_disclosure(%s); SELECT count(*), min(tenant_id) FROM shop.item';
is(as('reader', $parallel =~ s/%s/$id/r), "\n3|active", 'parallel workers see the same');

# ---- what is recorded ----
my ($statements) = as('auditor', "SELECT statements FROM leyser.disclosure WHERE disclosure_id = $id");
is(as('reader', look($id, "$count; $count; DO \$\$ BEGIN FOR i IN 1..5 LOOP PERFORM count(*) FROM shop.item; END LOOP; END \$\$; ROLLBACK")), "\n3\n3", 'three statements');
is(as('auditor', "SELECT statements - $statements FROM leyser.disclosure WHERE disclosure_id = $id"), '3', '... are counted, though rolled back');
is(as('auditor', "SELECT string_agg(event, ' ' ORDER BY event_id) FROM (SELECT * FROM leyser.event WHERE object = '$id' AND event ~ '^disclosure' AND tenant_id = 'active' ORDER BY event_id LIMIT 5) e"),
	'disclosure.opened disclosure.confirmed disclosure.entered disclosure.read disclosure.entered', 'it is recorded among the tenant\'s events');
is(as('auditor', "SELECT state, legal_basis, to_role, opened_by, confirmed_by, told_at IS NOT NULL FROM leyser.disclosure WHERE disclosure_id = $id"),
	'open|order 12 of the court|reader|alice|bob|t', '... and in view disclosure');

# The tenant's administrator reads it.
my $invitation = $node->safe_psql('postgres', q{SELECT leyser.invite_account('ann', 'active', administrator => true)});
$node->safe_psql('postgres', qq{SELECT leyser.accept_invitation('active', 'ann', '$invitation', 'a long enough password')}, extra_params => [ '-U', 'app' ]);
like(as('app', q{BEGIN; SELECT leyser.enter('active', 'ann'); SELECT event, detail ->> 'legal_basis' FROM leyser.tenant_event WHERE event = 'disclosure.opened' ORDER BY event_id LIMIT 1}),
	qr/disclosure\.opened\|order 12 of the court/, 'its administrator is told');

# ---- what ends it ----
my $session = open_session($node, user => 'reader');
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT leyser.enter_disclosure($id)");
is($session->query_safe($count), '3', 'a transaction reads');
is_refused($node, "SELECT leyser.close_disclosure($id)", 'LY008', 'which others cannot close', user => 'other');
as('bob', "SELECT leyser.close_disclosure($id)");
is_refused_in($session, $count, 'LY005', '... until an operator closes it');
$session->query('ROLLBACK');
is_refused_in($session, "SELECT leyser.enter_disclosure($id)", 'LY003', '... for good');
is_refused($node, "SELECT leyser.close_disclosure($id)", 'LY008', '... once', user => 'bob');
is(state_of($id), 'closed', '... which shows');

$id = confirmed('active', '', '2 s');
$session->query("BEGIN; SELECT leyser.enter_disclosure($id)");
$node->poll_query_until('postgres', "SELECT state = 'ended' FROM leyser.disclosure WHERE disclosure_id = $id");
is_refused_in($session, $count, 'LY003', 'a short one ends by itself');
$session->query('ROLLBACK');
is_refused_in($session, "SELECT leyser.enter_disclosure($id)", 'LY003', '... and is entered no more');

$id = opened('active');
as('reader', "SELECT leyser.close_disclosure($id)");
is_refused($node, "SELECT leyser.confirm_disclosure($id)", 'LY008', 'what its reader closed is not confirmed', user => 'bob');
$id = opened('active');
$node->safe_psql('postgres', "UPDATE leyser.disclosure_record SET opened_at = opened_at - interval '8 days' WHERE disclosure_id = $id");
is_refused($node, "SELECT leyser.confirm_disclosure($id)", 'LY008', 'what waited for a week neither', user => 'bob');
is(state_of($id), 'ended', '... which shows');

$id = confirmed('active');
$node->safe_psql('postgres', q{SELECT leyser.revoke_usage('reader', 'exporter')});
$node->safe_psql('postgres', q{SELECT leyser.grant_usage('reader', 'exporter')});
is_refused($node, look($id), 'LY003', 'with the usage goes what was open', user => 'reader');
$id = confirmed('active');
$session->query("BEGIN; SELECT leyser.enter_disclosure($id)");
$node->safe_psql('postgres', q{SELECT leyser.suspend_protection('shop.item', 'an incident', '1 hour')});
is_refused_in($session, 'SELECT count(*) FROM shop.paper', 'LY005', 'with a table\'s protection, too');
$session->query('ROLLBACK');
$node->safe_psql('postgres', q{SELECT leyser.protect('shop.item', enforcement => 'enforce')});

# ---- which tenants ----
foreach my $tenant (qw(suspended terminated held))
{
	my $one = confirmed($tenant);
	is(as('reader', look($one, $all)), "\n$tenant|3|3|3", "a tenant that is $tenant can be disclosed");
	is(as('reader', $parallel =~ s/%s/$one/r), "\n3|$tenant", '... to parallel workers');
	is_refused($node, "SELECT leyser.enter('$tenant')", 'LY004', '... and stays locked out for others', user => 'app');
	$session->query_safe("BEGIN; SELECT leyser.enter_disclosure($one)");
	is($session->query_safe($count), '3', '... is read');
	as('alice', "SELECT leyser.close_disclosure($one)");
	isnt(sqlstate_in($session, $count), '', '... until it is closed');
	$session->query('ROLLBACK');
}
$id = confirmed('purged');
$session->query_safe("BEGIN; SELECT leyser.enter_disclosure($id)");
is($session->query_safe($count), '3', 'what is to be purged is read');
$node->safe_psql('postgres', q{CALL leyser.purge('purged', wait => false)});
isnt(sqlstate_in($session, $count), '', '... until its purge is called for');
$session->query('ROLLBACK');
is_refused($node, q{SELECT leyser.open_disclosure('purged', 'a law', '1 hour', 'reader')}, 'LY008', 'nothing is disclosed then', user => 'alice');
$node->safe_psql('postgres', q{CALL leyser.purge('purged')});
is_refused($node, q{SELECT leyser.open_disclosure('purged', 'a law', '1 hour', 'reader')}, 'LY008', '... nor after it', user => 'alice');
is($node->safe_psql('postgres', q{SELECT d.tenant_id, d.legal_basis IS NULL, d.opened_by, d.closed_by, (SELECT count(*) FROM leyser.disclosure_window w WHERE w.tenant_id = 'purged')
	FROM leyser.disclosure d WHERE d.tenant_id = 'purged'}), 'purged|t|alice|purge|0', 'a purge leaves that there was a disclosure, and not why');

# ---- what the tenant is not told ----
my $day = q{(now() + interval '1 day')};
$id = confirmed('untold', qq{, tell_tenant => false, untold_reason => 'article 9', untold_until => $day});
is(as('reader', look($id)), "\n3", 'where the law forbids to tell the tenant, it is read');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE tenant_id = 'untold' AND event ~ 'disclosure'}), '0', '... the tenant\'s events have nothing of it');
is(as('auditor', "SELECT string_agg(event, ' ' ORDER BY event_id) FROM leyser.event WHERE object = '$id' AND tenant_id IS NULL"),
	'disclosure.opened disclosure.confirmed disclosure.entered disclosure.read', '... those of the service have all');
is(as('auditor', q{SELECT count(*) FROM leyser.event WHERE tenant_id IS NULL AND detail::text ~ 'untold"'}), '0', '... and do not name it');
$node->safe_psql('postgres', 'CALL leyser.tick()');
is(as('auditor', "SELECT told_at IS NULL, untold_reason, statements FROM leyser.disclosure WHERE disclosure_id = $id"), 't|article 9|1', '... until that day');
$node->safe_psql('postgres', "UPDATE leyser.disclosure_record SET untold_until = now() WHERE disclosure_id = $id");
$node->safe_psql('postgres', 'CALL leyser.tick()');
is($node->safe_psql('postgres', q{SELECT event, detail ->> 'legal_basis', detail ->> 'statements' FROM leyser.event WHERE tenant_id = 'untold' AND event ~ 'disclosure'}),
	'disclosure.told|order 12 of the court|1', '... when it is told');
is_refused($node, "SELECT leyser.tell_disclosure($id)", 'LY008', '... once', user => 'alice');
is(as('reader', look($id)), "\n3", '... and later statements');
is(as('auditor', "SELECT statements FROM leyser.disclosure WHERE disclosure_id = $id"), '2', '... count with the former');
$id = opened('untold', q{, tell_tenant => false, untold_reason => 'article 9'});
$node->safe_psql('postgres', 'CALL leyser.tick()');
as('bob', "SELECT leyser.tell_disclosure($id)");
is(as('auditor', "SELECT told_at IS NOT NULL FROM leyser.disclosure WHERE disclosure_id = $id"), 't', 'an operator tells of one without a day');

# ---- copies ----
$id = confirmed('second');
my $waits = opened('second');
# a dump fails that meets an index which a purge is renewing
$node->safe_psql('postgres', q{CALL leyser.purge('terminated')});
# what the standby needs stays until it has it; before, it would have held up the purge
$node->append_conf('postgresql.conf', "wal_keep_size = '1GB'");
$node->reload;
$node->poll_query_until('postgres', q{SHOW wal_keep_size}, '1GB') or die;
my $backup = $node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', look($id), extra_params => [ '-U', 'reader' ]), "\n3", 'a standby shows it, too');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', "SET leyser.guards = off;\n\\i $dump");
is($node->safe_psql('restored', "SELECT string_agg(state, ' ' ORDER BY disclosure_id), min(opened_by) FROM leyser.disclosure WHERE disclosure_id IN ($id, $waits)"), 'ended ended|alice',
	'... carries that there were disclosures, and opens none');
is_refused($node, look($id), '42501', '... to their reader', user => 'reader', database => 'restored');
is_refused($node, "SELECT leyser.confirm_disclosure($waits)", 'LY008', '... nor by a second person', user => 'bob', database => 'restored');
as('alice', "SELECT leyser.close_disclosure($id)");
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is_refused($standby, look($id), 'LY003', 'closed on the primary, it is so on the standby', user => 'reader');
$standby->stop;

$node->safe_psql('postgres', 'SELECT leyser.end_restored_access()');
is(state_of($waits), 'closed', 'a restore that is noticed ends what came back');

$session->quit;
$node->stop;
done_testing();
