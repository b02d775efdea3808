# What the install script leaves in the catalogues: reviewed lists, compared as a
# whole.  Whoever changes one of them changes the list here, and so reviews it.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('catalogue', conf => q{log_statement = none});

# One test: a query's rows, as lines.
sub rows_are
{
	my ($sql, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', $sql), join("\n", @$expected), $name);
	return;
}

# What is granted to everybody, and nothing else.
rows_are(q{
	SELECT a.privilege_type || ' ON ' || p.oid::regprocedure
	FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
	WHERE p.pronamespace = 'leyser'::regnamespace AND a.grantee = 0 ORDER BY 1
}, [
	'EXECUTE ON leyser.account_name()',
	'EXECUTE ON leyser.add_tenant_column(regclass,name,name,integer,interval,interval)',
	'EXECUTE ON leyser.connection_status()',
	'EXECUTE ON leyser.context_status()',
	'EXECUTE ON leyser.enter_support(text)',
	'EXECUTE ON leyser.has_permission(text,text)',
	'EXECUTE ON leyser.leave()',
	'EXECUTE ON leyser.observe_rows(bigint,boolean,integer,"any")',
	'EXECUTE ON leyser.own_connection()',
	'EXECUTE ON leyser.protect(regclass,name,text,text,boolean,boolean)',
	'EXECUTE ON leyser.protect_schema(regnamespace,name,interval,interval)',
	'EXECUTE ON leyser.protection_is_suspended(bigint,boolean)',
	'EXECUTE ON leyser.require_permission(text,text)',
	'EXECUTE ON leyser.row_permission(text,text)',
	'EXECUTE ON leyser.scope_problem(text)',
	'EXECUTE ON leyser.session_id()',
	'EXECUTE ON leyser.set_permissions(regclass,text,text,name)',
	'EXECUTE ON leyser.tenant_id()',
	'EXECUTE ON leyser.tenant_id_int8()',
	'EXECUTE ON leyser.tenant_id_problem(text)',
	'EXECUTE ON leyser.tenant_id_uuid()',
	'EXECUTE ON leyser.validate_constraint(regclass,name)'
], 'functions that everybody may call');
rows_are(q{
	SELECT a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a
	WHERE n.nspname = 'leyser' AND a.grantee = 0 ORDER BY 1
}, ['USAGE'], 'everybody\'s right on the schema');
rows_are(q{
	SELECT c.relname, a.grantee::regrole, a.privilege_type
	FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
	WHERE c.relnamespace = 'leyser'::regnamespace AND a.grantee <> c.relowner
}, [], 'nobody has rights on tables, views and sequences');
rows_are(q{
	SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'leyser'::regnamespace AND a.attacl IS NOT NULL
}, [], '... nor on columns');
rows_are(q{
	SELECT t.typname, x.grantee FROM pg_type t, aclexplode(t.typacl) x
	WHERE t.typnamespace = 'leyser'::regnamespace
}, [], '... and types have the first rights');

# Functions that run with more rights than their caller's, or on their behalf.
rows_are(q{
	SELECT p.oid::regprocedure, p.proconfig FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'leyser'::regnamespace AND l.lanname <> 'c'
	  AND NOT coalesce(p.proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'
}, [], 'every function in SQL or PL/pgSQL has a locked search_path');
rows_are(q{
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'leyser'::regnamespace AND p.prosecdef AND l.lanname = 'c'
}, [], 'no definer function is in C');
rows_are(q{
	SELECT DISTINCT s FROM pg_proc p, unnest(p.proconfig) s
	WHERE p.pronamespace = 'leyser'::regnamespace ORDER BY s
}, [ 'jit=off', 'leyser.registry_work=on', 'lock_timeout=3s', 'quote_all_identifiers=off', 'search_path=pg_catalog, pg_temp', 'standard_conforming_strings=on' ],
	'settings of functions');
rows_are(q{
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'leyser'::regnamespace AND l.lanname <> 'c' AND strpos(p.prosrc, chr(92)) > 0
	  AND NOT coalesce(p.proconfig, '{}') @> '{standard_conforming_strings=on}'
}, [], 'what has a backslash reads it as it was written, whatever the client has set');
rows_are(q{
	SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'leyser'::regnamespace AND p.prosecdef
	  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
	ORDER BY 1::text
}, ['leyser.enter_support(text)'],
	'definer functions that everybody may call');

# What policies and defaults call: an index can be used, a parallel plan too.
rows_are(q{
	SELECT p.oid::regprocedure, p.provolatile, p.proparallel FROM pg_proc p
	WHERE p.pronamespace = 'leyser'::regnamespace AND p.proname ~ '^(tenant_id(_int8|_uuid)?|row_permission)$' ORDER BY 1::text
}, [ 'leyser.row_permission(text,text)|s|s', map { "leyser.$_()|s|s" } qw(tenant_id tenant_id_int8 tenant_id_uuid) ],
	'the getters are STABLE and PARALLEL SAFE');

# Everything has a comment, save columns and what a table brings with itself:
# the indexes of its constraints, its row type, the sequence of its identity.
rows_are(q{
	SELECT d.type, d.identity FROM pg_depend e
	CROSS JOIN LATERAL pg_identify_object(e.classid, e.objid, 0) d
	WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
	  AND e.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'leyser')
	  AND e.classid <> 'pg_type'::regclass
	  AND obj_description(e.objid, e.classid::regclass::name) IS NULL
	  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = e.classid AND i.objid = e.objid AND i.deptype = 'i')
	ORDER BY 1, 2
}, [], 'every function, table, view and sequence has a comment');
rows_are(q{
	SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE c.relnamespace = 'leyser'::regnamespace AND obj_description(c.oid, 'pg_class') IS NULL
	  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
}, [], 'every index that is no constraint\'s has a comment');
rows_are(q{
	SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'leyser'::regnamespace AND NOT t.tgisinternal
	  AND obj_description(t.oid, 'pg_trigger') IS NULL
}, [], 'every trigger has a comment');
rows_are(q{SELECT obj_description('leyser'::regnamespace, 'pg_namespace') IS NOT NULL,
	(SELECT obj_description(oid, 'pg_extension') IS NOT NULL FROM pg_extension WHERE extname = 'leyser')},
	['t|t'], 'schema and extension have comments');
rows_are(q{
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'leyser'::regnamespace
	  AND obj_description(p.oid, 'pg_proc') !~ '^internal'
	  AND NOT EXISTS (SELECT FROM leyser.usage_rights() u
		WHERE u.object_kind IN ('FUNCTION', 'PROCEDURE') AND u.object::regprocedure = p.oid)
	  AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
	ORDER BY 1::text
}, [ 'leyser.attack_tenant_separation(regrole,regclass)', 'leyser.close_privileged_access(bigint)', 'leyser.grant_usage(regrole,text)',
	'leyser.open_privileged_access(regrole,text,interval)', 'leyser.residue(regclass,bytea)', 'leyser.revoke_usage(regrole,text)', 'leyser.scrub(regclass)' ],
	'what is neither internal nor anybody\'s is for superusers');

# Triggers fire where session_replication_role is replica, too.
rows_are(q{
	SELECT t.tgrelid::regclass, t.tgname, t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'leyser'::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'A'
}, [], 'every trigger fires always');

# In the dump, or consciously out of it.
my %in_dump = map { $_ => 1 } qw(issuer_key tenant_record table_record usage_record schema_record event_record
  event_record_event_id_seq permission_record account_record account_record_account_id_seq password_record
  blocked_password role_record role_record_role_id_seq role_permission role_member grant_record
  grant_record_grant_id_seq permission_change permission_change_change_id_seq contract_policy
  termination_record hold_record external_store external_erasure purge_record purge_record_purge_id_seq
  fence_record backup_policy generation_record generation_record_generation_id_seq system_record wal_archive_record
  wal_archive_history lookup_record adoption_record adoption_record_adoption_id_seq waiver_record
  event_pending event_seal event_checkpoint event_retention attestation_record attestation_record_attestation_id_seq
  notice_policy notice_audience notice_record notice_record_notice_id_seq notice_change notice_text notice_tenant
  contact_record contact_record_contact_id_seq mail_record mail_record_mail_id_seq mail_attempt
  daily_usage_record disclosure_record disclosure_record_disclosure_id_seq);
my %out_of_dump = (
	each_tenant_record => 'what another server has begun goes on there',
	identity => 'a restored database is another audience',
	signing_key => 'secrets stay in their keyring',
	proxy_keys => 'always empty',
	proxy_tenants => 'always empty',
	proxy_tables => 'always empty',
	proxy_sessions => 'always empty',
	(map { ("proxy_accounts_$_" => 'always empty') } 0 .. 15),
	session_record => 'sessions end with the database they were in',
	revoked_session => 'as the sessions do',
	export_record => 'windows end, too: they are for a role of another cluster',
	disclosure_window => 'as exports do: none comes back open',
	privileged_window_record => 'as these do',
	privileged_window_record_window_id_seq => 'of that table',
	replication_noted => 'who connected to another server',
	support_record => 'support access ends, too: it may have been revoked since, or be for a role of another cluster',
	support_record_support_id_seq => 'of that table',
	invitation_record => 'invitations end, too',
	grant_lock => 'what is in it does not matter',
	restore_record => 'of another database',
	restore_record_restore_id_seq => 'of that table',
	login_delay => 'failed logins of another database',
	familiar_address => 'where people were, for the sake of login_delay',
	purge_table => 'a restored database plans its purges anew',
	purge_blocker => 'what another server waited for',
	tick_record => 'the heartbeat of another server',
	job_record => 'due times are reckoned anew',
	job_run_record => 'what another server did',
	job_run_record_run_id_seq => 'of that table',
	job_problem => 'what another server could not do',
	cron_job_record => 'another server\'s pg_cron',
	finding_record => 'what is found is found anew',
	clause_record => 'how clauses are is seen anew',
	verification_record => 'what another server has verified',
	version_record => 'what ran on another server',
	role_usage_record => 'counted anew from the seals',
	role_usage_mark => 'counted anew from the seals',
	work_record => 'what another server has begun',
	work_record_work_id_seq => 'of that table');
rows_are(q{SELECT relname FROM pg_class WHERE relnamespace = 'leyser'::regnamespace
	AND relkind IN ('r', 'p', 'S', 'm') ORDER BY relname COLLATE "C"}, [ sort keys %in_dump, keys %out_of_dump ],
	'every table and sequence is in one of the two lists');
rows_are(q{SELECT c.relname FROM pg_extension e, unnest(e.extconfig) o JOIN pg_class c ON c.oid = o
	WHERE e.extname = 'leyser' ORDER BY c.relname COLLATE "C"}, [ sort keys %in_dump ], 'what a dump carries');
rows_are(q{SELECT DISTINCT c FROM pg_extension e, unnest(e.extcondition) c WHERE e.extname = 'leyser' ORDER BY c},
	[ '', q{WHERE permission NOT IN ('leyser.accounts', 'leyser.grants')} ],
	'... it carries whole, save the permissions that the script makes');
rows_are(q{SELECT (SELECT count(*) FROM leyser.issuer_key), (SELECT count(*) FROM leyser.tenant_record),
	(SELECT count(*) FROM leyser.table_record), (SELECT count(*) FROM leyser.usage_record)},
	['0|0|0|0'], 'the script leaves no seed rows, which a restore would meet again');

# What a purge does to leyser's own tables, or consciously does not.
my @emptied = qw(account_record contact_record daily_usage_record disclosure_record disclosure_window each_tenant_record event_record export_record familiar_address grant_lock grant_record hold_record
  invitation_record issuer_key login_delay mail_attempt mail_record notice_tenant password_record permission_change revoked_session role_member role_permission role_record session_record
  support_record tenant_record termination_record);
my %not_emptied = (
	event_pending => 'hashes of what stays',
	event_seal => 'hashes of what stays',
	event_checkpoint => 'hashes of what stays',
	event_retention => 'of the provider',
	notice_policy => 'of the provider',
	notice_audience => 'of the provider',
	notice_record => 'of the provider: names no tenant',
	notice_change => 'of the provider',
	notice_text => 'the provider\'s words to all',
	privileged_window_record => 'of the provider',
	replication_noted => 'of the whole database',
	contract_policy => 'of the provider',
	backup_policy => 'of the provider',
	generation_record => 'of the whole database',
	system_record => 'of the whole database',
	wal_archive_history => 'of the whole database',
	wal_archive_record => 'of the whole database',
	fence_record => 'of the whole database',
	restore_record => 'of the whole database',
	external_store => 'of the provider',
	external_erasure => 'who confirmed what: a part of the report',
	purge_record => 'the report',
	purge_table => 'the report',
	purge_blocker => 'emptied when the purge ends',
	tick_record => 'of the database',
	job_record => 'of the database',
	job_run_record => 'of the database: names no tenant',
	job_problem => 'a tenant\'s row goes when its purge is queued',
	cron_job_record => 'of the database',
	finding_record => 'of the database: names no tenant',
	clause_record => 'of the database: names no tenant',
	verification_record => 'of the database: names no tenant',
	version_record => 'of the database',
	role_usage_record => 'of the provider\'s roles',
	role_usage_mark => 'of the database',
	attestation_record => 'of the provider',
	waiver_record => 'of the provider',
	work_record => 'of the database; of tenants it names ids at most, as tombstones do',
	identity => 'of the database',
	signing_key => 'of the database',
	table_record => 'of the schema',
	lookup_record => 'of the schema',
	adoption_record => 'of the schema',
	usage_record => 'of the provider',
	schema_record => 'of the schema',
	permission_record => 'for all tenants alike',
	blocked_password => 'for all tenants alike');
rows_are(q{SELECT relname FROM pg_class WHERE relnamespace = 'leyser'::regnamespace AND relkind = 'r' AND relname !~ '^proxy_'
	ORDER BY relname COLLATE "C"}, [ sort @emptied, keys %not_emptied ], 'a purge knows every table of leyser');
rows_are(q{SELECT c.relname FROM leyser.own_purge_targets() t JOIN pg_class c ON c.oid = t.relation
	ORDER BY c.relname COLLATE "C"}, \@emptied, '... and empties these');
$node->safe_psql('postgres', q{DO $$
	DECLARE
		target leyser.purge_target;
	BEGIN
		FOR target IN SELECT * FROM leyser.own_purge_targets() WHERE assignments IS NOT NULL LOOP
			EXECUTE format(E'EXPLAIN UPDATE ONLY %s SET %s WHERE (%s\n)', target.relation_name, target.assignments,
				replace(target.condition, '$1', '''x'''));
		END LOOP;
	END $$});
pass('... or erases columns that they have');

# The library's symbols: PostgreSQL 15 exports what is not static.
my $library = $node->safe_psql('postgres', q{SELECT DISTINCT probin FROM pg_proc
	WHERE pronamespace = 'leyser'::regnamespace AND probin IS NOT NULL});
is($library, '$libdir/leyser', 'functions name the library by its place');
my $file = "$ENV{TESTDIR}/leyser.so";
my ($symbols) = run_command([ 'nm', '-D', '--defined-only', $file ]);
my @foreign = grep { !/^(leyser_\w+|pg_finfo_leyser_\w+|_PG_init|Pg_magic_func|_init|_fini)$/ }
  map { (split ' ')[-1] } split(/\n/, $symbols);
is("@foreign", '', 'every exported symbol carries the prefix');
like($symbols, qr/ T _PG_init$/m, '... and there are symbols');

# The script: plain CREATE, so that nothing that lies there is taken over.
my $version = $node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'leyser'});
my $script = slurp_file("$ENV{TESTDIR}/leyser--$version.sql");
$script =~ s/--[^\n]*//g;
unlike($script, qr/\bOR\s+REPLACE\b/i, 'no OR REPLACE in the script');
unlike($script, qr/^\s*CREATE\s[^\n']*\bIF\s+NOT\s+EXISTS\b/im, 'no IF NOT EXISTS in the script, save in SQL for others to paste');
unlike($script, qr/\@VERSION\@/, 'no placeholder left in the script');
my @created = $script =~ /^CREATE FUNCTION (\S+?)\(/mg;
my @revoked = $script =~ /^REVOKE ALL ON FUNCTION (\S+?)\(.*?\) FROM PUBLIC;/mg;
my %open = map { ("leyser.$_" => 1) } qw(tenant_id tenant_id_int8 tenant_id_uuid has_permission row_permission);
is("@revoked", join(' ', grep { !$open{$_} } @created),
	'each CREATE FUNCTION is followed by its REVOKE, save those that policies call');
my @loose = grep { !/^CREATE (TRIGGER|(UNIQUE )?INDEX)/ } $script =~ /^(CREATE \w+ (?!leyser\.)\w+ .*)/mg;
is("@loose", '', 'every name is qualified');

# The extension goes as it came.
$node->safe_psql('postgres', 'DROP EXTENSION leyser');
rows_are(q{SELECT count(*) FROM pg_class WHERE relname ~ 'leyser'
	UNION ALL SELECT count(*) FROM pg_proc WHERE prosrc ~ '^leyser_' OR pronamespace::regnamespace::text = 'leyser'},
	[ '0', '0' ], 'DROP EXTENSION leaves nothing');
$node->safe_psql('postgres', 'CREATE EXTENSION leyser CASCADE');
pass('CREATE EXTENSION works again');

$node->stop;
done_testing();
