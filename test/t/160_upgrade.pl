# pg_upgrade, rehearsed into a cluster of the same version: everything is there
# and enforced, and the keyring, which lies elsewhere, is still ours.  Backups of the
# former system are another series, in which erased tenants may still be.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

# It looks for libraries in $libdir alone.
my $installation = make_installation();
my $old = new_node('old', install_path => $installation);
$old->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_tenant('t2');
	SELECT leyser.create_tenant('t3');
	SELECT leyser.suspend_tenant('t3');
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	CREATE TABLE item (gone int, tenant_id text NOT NULL, n int);
	ALTER TABLE item DROP COLUMN gone;
	SELECT leyser.protect('item');
	CREATE TABLE part (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
	SELECT leyser.protect('part');
	CREATE TABLE country (code text);
	SELECT leyser.declare_table('country', 'shared', 'reference data');
	GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO app;
	INSERT INTO item VALUES ('t1', 1), ('t2', 2), ('t2', 3);
	INSERT INTO part VALUES ('t1', 1), ('t2', 1);
	SELECT leyser.activate_signing_key(leyser.stage_signing_key());
});

# A backup as the books know it, of whatever system it is.
sub back_up
{
	my ($node, $label) = @_;

	$node->safe_psql('postgres', qq{SELECT leyser.begin_backup('$label', '/elsewhere', 'JP') AS id \\gset
		SELECT pg_current_wal_insert_lsn() AS lsn \\gset
		SELECT leyser.complete_backup(:id, :'lsn', :'lsn', 1, NULL), leyser.verify_backup(:id, true, NULL)});
	return;
}

# What may still hold a tenant, and whether that is over.
sub horizon
{
	my ($node, $tenant) = @_;

	return $node->safe_psql('postgres', qq{SELECT array_to_string(ARRAY(SELECT l FROM unnest(labels) l ORDER BY 1), ','), gone_at IS NOT NULL FROM leyser.erasure_horizon WHERE tenant_id = '$tenant'});
}

sub erase
{
	my ($node, $tenant) = @_;

	$node->safe_psql('postgres', "SELECT leyser.terminate_contract('$tenant', clock_timestamp())");
	$node->safe_psql('postgres', "CALL leyser.purge('$tenant')");
	return;
}

$old->safe_psql('postgres', qq{SELECT leyser.create_tenant(t) FROM unnest('{gone,later}'::text[]) t;
	INSERT INTO item VALUES ('gone', 1), ('later', 1)});
back_up($old, 'before');
erase($old, 'gone');
back_up($old, 'after');
is(horizon($old, 'gone'), 'before|f', 'a backup of before holds an erased tenant');
my $token = own_token($old, exp => time() + 3600);
my $suspended = own_token($old, tenant => '"t3"', exp => time() + 3600);
my @facts = (
	'SELECT * FROM leyser.identity', 'SELECT * FROM leyser.signing_key ORDER BY 1',
	'SELECT * FROM leyser.tenant ORDER BY 1', 'SELECT * FROM leyser.granted_usage ORDER BY role::text',
	'SELECT * FROM leyser.table_record ORDER BY relation::text', 'SELECT * FROM leyser.event ORDER BY 1',
	'SELECT relation, kind, gaps FROM leyser.governed_table ORDER BY relation::text',
	'SELECT tablename, policyname, permissive, qual, with_check FROM pg_policies ORDER BY 1, 2',
	q{SELECT p.oid::regprocedure, a.grantee, a.privilege_type
		FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		WHERE p.pronamespace = 'leyser'::regnamespace ORDER BY p.oid::regprocedure::text, 2},
	q{SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'leyser')});
my %before = map { $_ => $old->safe_psql('postgres', $_) } @facts;
$old->stop;

my $new = new_node('new', start => 0, install_path => $installation);
$new->adjust_conf('postgresql.conf', 'leyser.keyring_directory', "'" . keyring_directory($old) . "'");
my $folder = PostgreSQL::Test::Utils::tempdir();
my $bindir = "$installation/bin";
my $output;
my $upgraded = do
{
	# where pg_upgrade writes its scripts
	my $here = Cwd::getcwd();
	chdir $folder or die $!;
	my $result = IPC::Run::run(
		[
			'pg_upgrade', '--no-sync', '--old-bindir', $bindir, '--new-bindir', $bindir,
			'--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
			'--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port
		],
		'>', \$output, '2>&1');
	chdir $here or die $!;
	$result;
};
ok($upgraded, 'pg_upgrade works') or diag($output);

$new->start;
is($new->safe_psql('postgres', $_), $before{$_}, "as it was: $_") for @facts;

# In force at once, with tokens from before: the database is the same audience.
my $count = "BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\n";
is($new->safe_psql('postgres', "$count SELECT count(*) FROM item; COMMIT", extra_params => [ '-U', 'app' ]),
	'1', 'a tenant sees its row');
is($new->safe_psql('postgres', "$count SELECT count(*) FROM part_1; COMMIT", extra_params => [ '-U', 'app' ]),
	'1', '... also in a partition that is named');
is_refused($new, 'SELECT * FROM item', 'LY001', 'no context, no rows', user => 'app');
is_refused($new, "BEGIN; SELECT set_config('leyser.token', '$token', true); INSERT INTO item VALUES ('t2', 1)",
	'42501', 'no row of another tenant is written', user => 'app');
is_refused($new, "BEGIN; SELECT set_config('leyser.token', '$token', true); INSERT INTO country VALUES ('JP')",
	'LY007', 'shared tables are not written in a context', user => 'app');
is_refused($new, "SELECT set_config('leyser.token', '$suspended', true)", 'LY004',
	'a suspended tenant stays out', user => 'app');
is_refused($new, 'ALTER TABLE item DISABLE ROW LEVEL SECURITY', 'LY007', 'guards stand');
is_refused($new, 'DROP EXTENSION leyser CASCADE', 'LY007', 'the extension is not dropped');
$new->safe_psql('postgres', 'CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2)');
is($new->safe_psql('postgres', q{SELECT kind FROM leyser.governed_table WHERE relation = 'part_2'::regclass}),
	'own', 'a new partition is protected');
$new->safe_psql('postgres', q{SELECT leyser.activate_signing_key(leyser.stage_signing_key());
	SELECT leyser.create_tenant('t4'); SELECT leyser.unprotect('item')});
pass('the administration goes on');

# The books: no restore was noticed, the former series stays what it was.
isnt($new->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()'),
	$new->safe_psql('postgres', 'SELECT DISTINCT system_identifier FROM leyser.generation_record'), 'it is another system');
is($new->safe_psql('postgres', 'SELECT leyser.restore_is_held()'), 'f', 'an upgrade is no restore');
is(horizon($new, 'gone'), 'before|f', 'the horizon of an erasure is what it was');
is($new->safe_psql('postgres', 'SELECT count(*) FROM leyser.expire_backups()'), '0', 'the policy leaves the former series alone');
is($new->safe_psql('postgres', q{SELECT string_agg(format('%s %s %s', label, countable, reason), ', ' ORDER BY started_at) FROM leyser.backup_generation}),
	'before f another system, after f another system', '... and counts none of it');
is($new->safe_psql('postgres', q{SELECT string_agg(alert, ', ') FROM leyser.backup_alerts()}), '', '... which is no alert on the first day');
back_up($new, 'upgraded');
is($new->safe_psql('postgres', q{SELECT string_agg(label, ', ') FROM leyser.backup_generation WHERE countable}), 'upgraded', 'a new series begins');
is(horizon($new, 'gone'), 'before|f', '... which is clean of what was erased before');
erase($new, 'later');
back_up($new, 'last');
is(horizon($new, 'later'), 'after,before,upgraded|f', 'what is erased now is in both series');
is(horizon($new, 'gone'), 'before|f', '... and changes nothing about who went before');
$new->safe_psql('postgres', q{SELECT leyser.confirm_backup_deleted(generation_id) FROM leyser.generation_record WHERE label IN ('before', 'after')});
is(horizon($new, 'gone'), '|t', 'the former series is gone, and so is the tenant');
is(horizon($new, 'later'), 'upgraded|f', '... the other is still in the new one');
$new->safe_psql('postgres', q{SELECT leyser.confirm_backup_deleted(generation_id) FROM leyser.generation_record WHERE label = 'upgraded'});
is(horizon($new, 'later'), '|t', '... until that is gone, too');

$new->stop;
done_testing();
