# The event log is chained, per tenant and for the service: whoever changes, removes,
# inserts or reorders events, as a superuser in the tables, is found, and the row is
# named.  Writers of one tenant wait for nobody, and leave one chain.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('chain');
$node->safe_psql('postgres', q{
	CREATE ROLE auditor LOGIN; CREATE ROLE app LOGIN; CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant(t) FROM unnest('{t1,t2,t3}'::text[]) t;
	CALL leyser.tick();
});

# What the auditor is told.  Arguments: those of verify_events().
sub verified
{
	my ($arguments) = @_;

	return $node->safe_psql('postgres', 'SELECT tenant, event_id, problem FROM leyser.verify_events('
		. ($arguments // '') . ') ORDER BY 1, 2, 3', extra_params => [ '-U', 'auditor' ]);
}

# Events of a tenant, one each.
sub act
{
	my ($tenant, $times) = @_;

	for (1 .. $times)
	{
		$node->safe_psql('postgres', "SELECT leyser.suspend_tenant('$tenant'); SELECT leyser.resume_tenant('$tenant')");
	}
	return;
}

is(verified(), '', 'unbroken at first');
act('t1', 3);
act('t2', 2);
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM leyser.event_pending}), 't', 'what is new is pending');
is(verified(), '', 'unbroken, what is new too');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_pending}), '0', '... which is sealed by that');
act('t1', 1);
is(verified("'t1'"), '', 'a tenant by itself');
is(verified(q{since => now() - interval '1 hour', until => now() + interval '1 hour'}), '', 'a time');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT tableoid) FROM leyser.event_record}), '2', 'events lie in their month, save those of before there was one');

# ---- tampering ----

my $id = q{(SELECT min(event_id) FROM leyser.event_record WHERE tenant_id = 't1' AND event = 'tenant.resumed')};
my $named = $node->safe_psql('postgres', "SELECT $id");
my $other = $node->safe_psql('postgres', q{SELECT max(event_id) FROM leyser.event_record WHERE tenant_id = 't1' AND event = 'tenant.suspended'});
my $of_t2 = $node->safe_psql('postgres', q{SELECT max(event_id) FROM leyser.event_record WHERE tenant_id = 't2'});

# Without a time or a name there is no event.
is_refused($node, 'SELECT leyser.insert_event(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)', '22004', 'refused: an event of nothing');
is_refused($node, q{SELECT leyser.insert_event(now(), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)}, '22004', '... without a name');
is_refused($node, 'SELECT leyser.sign_session_token(NULL, NULL, NULL, NULL, NULL)', '22004', '... a token of no session');

# Nobody changes the log by accident.
for my $statement ("UPDATE leyser.event_record SET object = 'x' WHERE event_id = $named",
	"DELETE FROM leyser.event_record WHERE event_id = $named", 'TRUNCATE leyser.event_record',
	(map { my $month = $_; ("UPDATE leyser.$month SET object = 'x'", "DELETE FROM leyser.$month", "TRUNCATE leyser.$month", "DROP TABLE leyser.$month",
			"ALTER TABLE leyser.$month NO INHERIT leyser.event_record", "ALTER TABLE leyser.$month DISABLE TRIGGER ALL",
			"ALTER TABLE leyser.$month RENAME TO other", "ALTER TABLE leyser.$month SET SCHEMA public") }
	  $node->safe_psql('postgres', q{SELECT max(tableoid::regclass::text) FROM leyser.event_record}) =~ /leyser\.(\w+)/))
{
	is_refused($node, $statement, 'LY007', "refused: $statement");
}

# A superuser who goes round the triggers, and what the auditor is told.
sub is_found
{
	my ($statement, $expected, $name) = @_;

	my $off = join('', map { "ALTER TABLE $_ DISABLE TRIGGER ALL;" }
		split(/\n/, $node->safe_psql('postgres', 'SELECT DISTINCT tableoid::regclass FROM leyser.event_record')));
	my $told = $node->safe_psql('postgres', "SET leyser.guards = off; BEGIN; $off $statement \\g /dev/null
		SET LOCAL ROLE auditor; SELECT tenant, event_id, problem FROM leyser.verify_events() ORDER BY 1, 2, 3; ROLLBACK");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($told, $expected, $name);
	return;
}

is_found("UPDATE leyser.event_record SET $_ WHERE event_id = $named", "t1|$named|changed", "changed: $_")
  for "object = 'other'", "session_role = 'nobody'", "caller_role = 'nobody'", "account_id = 7", "client_address = '192.0.2.1'",
  q{detail = '{"a": 1}'}, "at = at + interval '1 microsecond'", "event = 'tenant.other'", "salt = sha256('')", "images = 'x'";
is_found("UPDATE leyser.event_record SET tenant_id = 't3' WHERE event_id = $named", "t3|$named|changed", 'changed: whose it is');
is_found("UPDATE leyser.event_record SET digest = sha256('') WHERE event_id = $named", "t1|$named|changed\nt1|$named|changed", 'changed: digest, so content and chain');
is_found("UPDATE leyser.event_record SET object = 'other', salt = 'salt', digest = sha256('salt') WHERE event_id = $named",
	"t1|$named|changed\nt1|$named|changed", 'changed, with another digest');
is_found("DELETE FROM leyser.event_record WHERE event_id = $named", "t1|$named|removed", 'removed');
is_found("INSERT INTO leyser.event_record (event, tenant_id, salt, digest) VALUES ('tenant.praised', 't1', NULL, sha256(''))",
	join("\n", map { 't1|' . $node->safe_psql('postgres', 'SELECT last_value + 1 FROM leyser.event_record_event_id_seq') . "|$_" } 'erased', 'inserted'), 'inserted');
is_found("INSERT INTO leyser.event_record OVERRIDING SYSTEM VALUE SELECT o.* FROM leyser.event_record o WHERE event_id = $named",
	"t1|$named|inserted", 'inserted: the same once more');
is_found("UPDATE leyser.event_record SET object = NULL, session_role = NULL, detail = NULL, salt = NULL WHERE event_id = $named",
	"t1|$named|erased", 'erased without a reason');
is_found("UPDATE leyser.event_record e SET (at, event, session_role, caller_role, object, detail, salt, digest)
	= (SELECT at, event, session_role, caller_role, object, detail, salt, digest FROM leyser.event_record o
		WHERE o.event_id = CASE e.event_id WHEN $named THEN $other ELSE $named END) WHERE event_id IN ($named, $other)",
	"t1|$named|reordered\nt1|$other|reordered", 'reordered');
is_found("DELETE FROM leyser.event_record WHERE event_id IN ($named, $of_t2)", "t1|$named|removed\nt2|$of_t2|removed", 'more than one');

# Seals: of one chain, and of all.
my $seals = q{SELECT number FROM leyser.event_seal WHERE chain = 't1' ORDER BY number};
cmp_ok(scalar(my @numbers = split(/\n/, $node->safe_psql('postgres', $seals))), '>', 2, 't1 has seals');
like($node->safe_psql('postgres', qq{BEGIN; UPDATE leyser.event_seal SET sealed_at = sealed_at + interval '1 hour' WHERE chain = 't1' AND number = 2;
	SELECT tenant, problem, detail FROM leyser.verify_events(); ROLLBACK}), qr/^t1\|seal changed\|Seal 2 /, 'a seal that was changed is found');
like($node->safe_psql('postgres', qq{BEGIN; DELETE FROM leyser.event_seal WHERE chain = 't1' AND number = 2;
	SELECT tenant, problem, detail FROM leyser.verify_events('t1') WHERE event_id IS NULL; ROLLBACK}), qr/^t1\|seal removed\|There is no seal 2\./, '... and one that was removed');
my $last = $numbers[-1];
is_found("DELETE FROM leyser.event_record WHERE event_id IN (SELECT m.event_id FROM leyser.event_seal s, leyser.seal_members(s.members) m
		WHERE s.chain = 't1' AND s.number = $last); DELETE FROM leyser.event_seal WHERE chain = 't1' AND number = $last",
	'||seals of a run changed', 'a tenant\'s end that was cut off, seal and all, is missing in the service\'s chain');

# What is not sealed yet is watched, too.
$node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t3')});
my $new = $node->safe_psql('postgres', q{SELECT max(event_id) FROM leyser.event_record});
is_found("LOCK TABLE leyser.event_seal IN SHARE ROW EXCLUSIVE MODE; UPDATE leyser.event_record SET event = 'tenant.resumed' WHERE event_id = $new",
	"t3|$new|changed", 'not sealed yet, and changed');
is_found("LOCK TABLE leyser.event_seal IN SHARE ROW EXCLUSIVE MODE; DELETE FROM leyser.event_record WHERE event_id = $new",
	"t3|$new|removed", '... and removed');
is_found("LOCK TABLE leyser.event_seal IN SHARE ROW EXCLUSIVE MODE; UPDATE leyser.event_pending SET at = at - interval '6 minutes'",
	"t3|$new|unsealed", 'what nobody seals is told after five minutes');
is(verified(), '', 'all that was undone again: unbroken');

# ---- digests that are stored outside ----

my $digest = $node->safe_psql('postgres', 'SELECT leyser.event_digest()', extra_params => [ '-U', 'auditor' ]);
like($digest, qr/^\d+:[0-9a-f]{64}$/, 'the digest is one line');
act('t2', 1);
is(verified("digest => '$digest'"), '', 'the log goes on from it');
my ($number, $link) = split(/:/, $digest);
is(verified("digest => '" . ($number + 100) . ":$link'"), '||ends before the digest', 'a digest of later: the end is missing');
is(verified("digest => '" . ($number - 1) . ":$link'"), '||other than the digest', 'another digest');
is_refused($node, q{SELECT * FROM leyser.verify_events(digest => 'none')}, '22023', 'what is none', user => 'auditor');
is_refused($node, q{SELECT * FROM leyser.verify_events('nobody')}, '42704', 'an unknown tenant', user => 'auditor');
is_refused($node, $_, '42501', "not for everybody: $_", user => 'app') for 'SELECT leyser.event_digest()', 'SELECT * FROM leyser.verify_events()';

# Written anew from some point on, consistently: only what is stored outside tells.
$node->safe_psql('postgres', qq{SET leyser.guards = off; DELETE FROM leyser.event_seal WHERE run >= $number;
	DO \$\$ BEGIN
		EXECUTE (SELECT string_agg(format('ALTER TABLE %s DISABLE TRIGGER ALL', r), ';') FROM (SELECT DISTINCT tableoid::regclass FROM leyser.event_record) t (r));
		DELETE FROM leyser.event_record e WHERE NOT EXISTS (SELECT FROM leyser.event_seal s, leyser.seal_members(s.members) m WHERE m.event_id = e.event_id);
		EXECUTE (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_removal', r), ';') FROM (SELECT DISTINCT tableoid::regclass FROM leyser.event_record) t (r));
	END \$\$});
is(verified(), '', 'an end that was cut off whole leaves a chain that is unbroken');
is(verified("digest => '$digest'"), '||ends before the digest', '... and ends before the digest');
act('t2', 1);
is(verified("digest => '$digest'"), '||other than the digest', '... or is another one');

# ---- writers at once ----

# A transaction that stays open is sealed when it ends, and keeps nobody waiting.
my $open = open_session($node);
$open->query_safe(q{BEGIN; SELECT leyser.suspend_tenant('t2')});
my $before = $node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_seal WHERE chain = 't1'});
act('t1', 2);
is(verified(), '', 'beside an open transaction: unbroken');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_seal WHERE chain = 't1'}), '>', $before, '... and sealed');
$open->query_safe('COMMIT');
is(verified(), '', '... and when it has ended');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_pending}), '0', '... it is sealed, too');

# Many writers of one tenant and the service, with rollbacks between.
$node->safe_psql('postgres', q{CREATE FUNCTION public.act(text) RETURNS void LANGUAGE sql AS $$
	SELECT leyser.record_event('test.acted', $1, NULL, jsonb_build_object('n', random())) $$});
my $script = "$PostgreSQL::Test::Utils::tmp_check/act.sql";
append_to_file($script, <<'EOS');
\set n random(1, 4)
BEGIN;
SELECT public.act('t1');
\if :n = 1
SELECT public.act(NULL);
ROLLBACK;
\else
SELECT public.act(NULL);
COMMIT;
\endif
EOS
my $sealer = open_session($node);
$node->pgbench('--client=6 --transactions=60 --no-vacuum', 0, [qr{processed: 360/360}], [qr{^$}], 'six writers of one tenant', { '017_act' => slurp_file($script) });
is(verified(), '', '... leave unbroken chains');
is($node->safe_psql('postgres', q{SELECT count(*) = (SELECT sum(events) FROM leyser.event_seal WHERE chain = 't1'), count(*) > 200
	FROM leyser.event_record WHERE tenant_id = 't1'}), 't|t', '... one, of all that was committed');
$sealer->quit;
$open->quit;

$node->stop;
done_testing();
