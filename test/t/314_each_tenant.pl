# CALL for_each_tenant(): a statement in each tenant's context, a transaction each.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('each_tenant', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE mover LOGIN;
	CREATE ROLE other LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE bypasser LOGIN BYPASSRLS;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	GRANT CREATE ON SCHEMA public TO owner;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('mover', 'gateway');
	SELECT leyser.grant_usage('other', 'gateway');
	SELECT leyser.grant_usage('operator', 'operator');
	GRANT EXECUTE ON PROCEDURE leyser.for_each_tenant TO bypasser;
	SELECT leyser.create_tenant(to_char(g, 'FM"t"00')) FROM generate_series(1, 20) g;
	SELECT leyser.suspend_tenant('t20');
});
$node->safe_psql('postgres', q{
	CREATE TABLE item (tenant_id text NOT NULL, n int NOT NULL DEFAULT 0, secret text, UNIQUE (tenant_id, secret));
	INSERT INTO item SELECT to_char(g, 'FM"t"00'), 0, 'secret of ' || g FROM generate_series(1, 20) g;
	CREATE TABLE seen (tenant_id text NOT NULL, at xid8 DEFAULT pg_current_xact_id(), rows int, who text DEFAULT current_user);
	SELECT leyser.protect('item');
	SELECT leyser.protect('seen');
	GRANT SELECT, INSERT, UPDATE ON item, seen TO mover, other, bypasser;
}, extra_params => [ '-U', 'owner' ]);

# Gives SQLSTATE and messages of a call.
sub call
{
	my ($arguments, %options) = @_;

	return sqlstate_of($node, "CALL leyser.for_each_tenant($arguments)", user => 'mover', %options);
}

sub rows
{
	return $node->safe_psql('postgres', shift);
}

my ($code, $said) = call(q{'INSERT INTO seen (rows) SELECT count(*) FROM item; UPDATE item SET n = n + 1'});
is($code, '', 'a statement for each tenant') or diag($said);
like($said, qr/done for 19 tenants, failed for 0, left out 1 that are suspended/, '... says what was done, and who was left out');
is(rows(q{SELECT count(*), count(DISTINCT tenant_id), count(DISTINCT at), min(rows), max(rows), min(who) FROM seen}), '19|19|19|1|1|mover',
	'... each in its context, in a transaction of its own, as the caller');
is(rows(q{SELECT n, count(*), min(tenant_id) FROM item GROUP BY n ORDER BY n}), "0|1|t20\n1|19|t01", '... once');
is(rows(q{SELECT kind, state, done, total, started_by FROM leyser.work}), 'for_each_tenant|done|19|19|mover', '... with its progress');
is(rows(q{SELECT count(*) FILTER (WHERE event = 'each_tenant.entered' AND session_role = 'mover'), count(DISTINCT tenant_id),
	count(*) FILTER (WHERE event IN ('each_tenant.began', 'each_tenant.ended')) FROM leyser.event WHERE event ~ '^each_tenant'}), '19|19|2', '... and its events');
is(rows(q{SELECT count(*) FROM leyser.event WHERE detail::text ~ 'UPDATE item'}) . rows(q{SELECT count(*) FROM leyser.work_record WHERE arguments::text ~ 'UPDATE item'}),
	'00', '... which do not keep the statement');

# The same again is another work.
call(q{'INSERT INTO seen (rows) SELECT count(*) FROM item; UPDATE item SET n = n + 1', tenants => '{t03,t05}'});
is(rows(q{SELECT string_agg(tenant_id, ' ' ORDER BY tenant_id) FROM item WHERE n = 2}), 't03 t05', 'only the tenants that were asked for');

# Errors are collected; the same call goes on with those that failed.
my $failing = q{$$UPDATE item SET n = 10 / (CASE WHEN tenant_id IN ('t04', 't06') AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mended') THEN 0 ELSE 1 END)$$};
($code, $said) = call(qq{$failing, label => 'ten'});
is($code, '38000', 'a tenant that fails is an error at the end');
like($said, qr/WARNING:  22012: the statement failed for tenant "t04": division by zero.*"t06"/s, '... told with its SQLSTATE at once');
like($said, qr/done for 17 tenants, failed for 2.*HINT:  CALL it again/s, '... and summed up');
is(rows(q{SELECT count(*) FROM item WHERE n = 10}), '17', '... and does not stop the others');
is(rows(q{SELECT string_agg(tenant_id || ' ' || error_code, ', ' ORDER BY tenant_id) FROM leyser.each_tenant WHERE label = 'ten' AND state = 'failed'}),
	't04 22012, t06 22012', '... and is collected');
is(rows(q{SELECT subject, state, done, total FROM leyser.work WHERE subject = 'ten'}), 'ten|failed|17|19', '... and the work is not done');
$node->safe_psql('postgres', q{CREATE ROLE mended; UPDATE item SET n = 11 WHERE n = 10});
($code, $said) = call(qq{$failing, label => 'ten'});
is($code, '', 'the same call again') or diag($said);
is(rows(q{SELECT n, count(*) FROM item WHERE n > 9 GROUP BY n ORDER BY n}), "10|2\n11|17", '... does only what is not done');

# A violation's values go to the caller alone.
($code, $said) = call(q{$$INSERT INTO item (secret) SELECT secret FROM item$$, tenants => '{t01,t02}', on_error => 'stop'});
is($code, '38000', 'on_error => stop');
like($said, qr/23505: the statement failed for tenant "t01": duplicate key/, '... the caller is told');
unlike($said, qr/"t02"/, '... and nothing is done after it');
is(rows(q{SELECT tenant_id, error_code, error_relation, error_constraint FROM leyser.each_tenant WHERE state = 'failed'}),
	't01|23505|public.item|item_tenant_id_secret_key', 'the books name the constraint');
is(rows(q{SELECT count(*) FROM leyser.event e WHERE e::text ~ 'secret of'}) . rows(q{SELECT count(*) FROM leyser.work_record w WHERE w::text ~ 'secret of'})
	. rows(q{SELECT count(*) FROM leyser.each_tenant_record w WHERE w::text ~ 'secret of'}), '000', '... and never a value');

# Constraints that are deferred, and what is left in the session.
$node->safe_psql('postgres', q{
	ALTER TABLE item ADD CONSTRAINT once UNIQUE (tenant_id, n) DEFERRABLE INITIALLY DEFERRED;
}, extra_params => [ '-U', 'owner' ]);
($code, $said) = call(q{$$INSERT INTO item (n, secret) SELECT n, NULL FROM item$$, tenants => '{t01}'});
is($code, '38000', 'a deferred constraint counts, too');
like($said, qr/23505: the statement failed for tenant "t01"/, '... for its tenant');
is(rows(q{SELECT count(*) FROM item WHERE tenant_id = 't01'}), '1', '... which is as it was');
my $session = open_session($node, user => 'mover');
is_refused_in($session, q{CALL leyser.for_each_tenant($$SELECT set_config('search_path', 'nowhere', false), leyser.leave()$$, tenants => '{t01}')}, '', 'settings');
is($session->query_safe(q{SELECT current_setting('search_path')}), '"$user", public', '... end with their tenant');
is_refused_in($session, q{SELECT count(*) FROM item}, 'LY001', '... and so does the context');
is_refused_in($session, q{CALL leyser.for_each_tenant($$SELECT leyser.enter('t02')$$, tenants => '{t01}')}, '38000', 'no other tenant can be entered');
is_refused_in($session, q{CALL leyser.for_each_tenant($$SELECT leyser.leave(); SELECT count(*) FROM item$$, tenants => '{t01}', on_error => 'stop', label => 'left')}, '38000', 'without its context nothing is seen');
is($session->query_safe(q{SELECT error_code FROM leyser.each_tenant WHERE label = 'left'}), 'LY001', '... as ever');
$session->quit;

# Who may call, and as whom the statement runs.
my $nothing = q{'SELECT 1'};
is_refused($node, "CALL leyser.for_each_tenant($nothing)", '42501', "$_ may not call", user => $_) for qw(app owner operator);
is((call($nothing, user => 'postgres'))[0], '42501', 'a superuser would meet all rows');
is((call($nothing, user => 'bypasser'))[0], '42501', '... and so would a role with BYPASSRLS');
is((call(q{'UPDATE pg_class SET relname = relname'}))[0], '38000', 'the statement has the rights of who calls');
is((call(q{'SELECT * FROM leyser.work_record'}))[0], '38000', '... not those of leyser');
is(rows(q{SET ROLE mover; SELECT count(*) > 0 FROM leyser.each_tenant}) . rows(q{SET ROLE other; SELECT count(*) FROM leyser.each_tenant}), 't0', 'a gateway sees its own calls');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM leyser.each_tenant}, extra_params => [ '-U', 'operator' ]), 't', '... an operator sees all');
is_refused($node, q{SELECT * FROM leyser.each_tenant}, '42501', '... an application none', user => 'app');

# A superuser SETs ROLE and calls; the table's owner is hostile.
$node->safe_psql('postgres', q{
	CREATE TABLE loot (who text);
	GRANT INSERT ON loot TO PUBLIC;
	CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			RESET ROLE; RESET SESSION AUTHORIZATION; SET ROLE postgres;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		INSERT INTO loot VALUES (current_user);
		RETURN NEW;
	END $$;
	CREATE TABLE bait (tenant_id text NOT NULL, n int);
	SELECT leyser.protect('bait');
	GRANT INSERT ON bait TO mover;
	CREATE TRIGGER now AFTER INSERT ON bait FOR EACH ROW EXECUTE FUNCTION climb();
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION climb();
	CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		SET CONSTRAINTS ALL DEFERRED;
		RETURN NEW;
	END $$;
}, extra_params => [ '-U', 'owner' ]);
my $as_superuser = q{SET ROLE mover; CALL leyser.for_each_tenant('INSERT INTO bait VALUES (DEFAULT, 1)', tenants => '{t01,t02}')};
is_refused($node, $as_superuser, '', 'a superuser that became a gateway');
is(rows('SELECT who, count(*) FROM loot GROUP BY who'), 'mover|4', '... whose rights no trigger gets, now or deferred');
$node->safe_psql('postgres', q{CREATE TRIGGER a BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION defer()}, extra_params => [ '-U', 'owner' ]);
is_refused($node, $as_superuser, '38000', '... nor one that defers itself');
is(rows('SELECT who, count(*) FROM loot GROUP BY who'), 'mover|4', '... which fails instead');
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		CREATE TEMP TABLE pg_proc (x text);
		RETURN NEW;
	END $$}, extra_params => [ '-U', 'owner' ]);
is_refused($node, $as_superuser, '38000', '... nor does one leave a temporary table in its session');

# Bad input.
sub is_bad
{
	my ($arguments, $sqlstate, $name) = @_;
	my ($got, $message) = call($arguments);

	is($got, $sqlstate, $name) or diag($message);
	like($message, qr/DETAIL:  \S.*HINT:  \S/s, '... with a detail and a hint');
	return;
}
is_bad("'$_'", '0A000', "statement \"$_\"") for 'COMMIT', 'BEGIN; UPDATE item SET n = 1; COMMIT', 'SELECT 1; ROLLBACK', 'SAVEPOINT a',
	'START TRANSACTION', 'COPY item FROM STDIN', 'VACUUM item', q{PREPARE TRANSACTION ''x''};
is((call(q{$$DO 'BEGIN UPDATE item SET n = 99; COMMIT; END'$$, tenants => '{t01}', label => 'do'}))[0], '38000', 'a COMMIT within a block');
is(rows(q{SELECT error_code FROM leyser.each_tenant WHERE label = 'do'}) . rows('SELECT count(*) FROM item WHERE n = 99'), '2D0000', '... is refused, too');
is((call(q{'UPDATE item SET'}))[0], '42601', 'no SQL');
is_bad(q{''}, '22023', 'an empty statement');
is_bad('NULL', '22004', 'no statement');
is_bad("$nothing, on_error => 'ignore'", '22023', 'a wrong on_error');
is_bad("$nothing, on_error => NULL", '22004', 'no on_error');
is_bad("$nothing, label => ''", '22023', 'an empty label');
is_bad("$nothing, tenants => '{t01,t20}'", 'LY004', 'a tenant that is suspended');
is_bad("$nothing, tenants => '{t01,nobody}'", 'LY004', 'a tenant that is unknown');
is_bad("$nothing, tenants => '{t01,NULL}'", '22023', 'a tenant that is null');
is_refused($node, "BEGIN; CALL leyser.for_each_tenant($nothing)", '25001', 'in a transaction block', user => 'mover');
is_refused($node, "DO \$\$BEGIN CALL leyser.for_each_tenant('SELECT 1', label => 'block', tenants => '{t01}'); END\$\$", '', 'from a block that may commit it works', user => 'mover');
is((call(q{$$CALL leyser.for_each_tenant('SELECT 1')$$, tenants => '{t01}'}))[0], '38000', 'not within itself');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.work_record WHERE state = 'running'}), '0', 'nothing seems to run');

# A tenant that is created meanwhile has its turn, one that is locked out has not.
rows('DELETE FROM seen');
my $slow = q{$$INSERT INTO seen (rows) SELECT 1 FROM pg_sleep(0.5)$$, label => 'slow'};
sub start_call
{
	my ($out, $err) = ('', '');
	my $process = IPC::Run::start([ 'psql', '-X', '-q', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . ' user=mover',
		'-c', "CALL leyser.for_each_tenant($slow)" ], '>', \$out, '2>', \$err);
	$node->poll_query_until('postgres', q{SELECT count(*) >= 3 FROM seen}) or die 'it does not begin';
	return $process;
}
my $process = start_call();
is((call($slow))[0], '55P03', 'the same call beside it is refused');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('a new one'); SELECT leyser.suspend_tenant('t19')});
$process->finish;
is(rows(q{SELECT count(*), count(DISTINCT tenant_id), count(*) FILTER (WHERE tenant_id = 'a new one'), count(*) FILTER (WHERE tenant_id = 't19') FROM seen}),
	'19|19|1|0', 'a tenant that is created meanwhile has its turn, one that is suspended has not');

# Cancelled, and killed: the same call goes on, and nothing is done twice.
rows('DELETE FROM seen');
$process = start_call();
my $pid = $node->safe_psql('postgres', q{SELECT process_id FROM leyser.work WHERE subject = 'slow' AND state = 'running'});
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$process->finish;
is(rows(q{SELECT state, done < total, done = (SELECT count(*) FROM seen) FROM leyser.work WHERE subject = 'slow' ORDER BY work_id DESC LIMIT 1}),
	'interrupted|t|t', 'a cancelled call is interrupted');
my $rounds = 0;
while ($rounds++ < 3)
{
	my $before = rows('SELECT count(*) FROM seen');
	my ($out, $err) = ('', '');

	$process = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres') . ' user=mover', '-c', "CALL leyser.for_each_tenant($slow)" ], '>', \$out, '2>', \$err);
	$node->poll_query_until('postgres', "SELECT count(*) > $before FROM seen") or die 'it does not go on';
	$pid = $node->safe_psql('postgres', q{SELECT process_id FROM leyser.work WHERE subject = 'slow' AND state = 'running'});
	kill 'KILL', $pid;
	$process->finish;
	wait_for_server($node);
	is(rows(q{SELECT count(*) = count(DISTINCT tenant_id), count(*) < 19 FROM seen}), 't|t', 'killed');
}
is((call($slow))[0], '', 'the same call again goes on');
is(rows(q{SELECT count(*), count(DISTINCT tenant_id) FROM seen}), '19|19', '... to the end, and no tenant was done twice');

# What is noted of a tenant goes with it.
is(rows(q{SELECT count(*) > 0 FROM leyser.each_tenant_record WHERE tenant_id = 't05'}), 't', 'the books know a tenant');
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('t05', now()); CALL leyser.purge('t05')});
is(rows(q{SELECT state, (SELECT count(*) FROM leyser.each_tenant_record WHERE tenant_id = 't05') FROM leyser.tenant WHERE tenant_id = 't05'}), 'erased|0', '... until it is purged');

$node->stop;
done_testing();
