# A backup from before a purge is restored: the erased tenant is locked at once, all
# that destroys is held, keys and sessions of before are worth nothing, and
# CALL replay_purges() erases the tenant again and releases the server.

use strict;
use warnings;

use LeyserPurge;
use LeyserRestore;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = purge_node('primary', init => { allows_streaming => 1, has_archiving => 1 }, conf => q{
	log_statement = none
});
my $pair = make_key_pair('EdDSA');
fill_tenants($primary, 300, qw(kept gone));
$primary->safe_psql('postgres', qq{
	CREATE ROLE app LOGIN;
	CREATE ROLE operator LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('operator', 'operator');
	GRANT SELECT ON item TO app;
	SELECT leyser.add_issuer_key('idp', \$\$$pair->{pem}\$\$, 'idp', 'service');
	INSERT INTO item SELECT 'gone', 1000 + g, 1, 'comesback' FROM generate_series(1, 100) g;
	SELECT leyser.create_account('ada', 'kept');
});
install_attempt($primary);
my $own_kept = own_token($primary, tenant => '"kept"', exp => time() + 36000);
my $own_gone = own_token($primary, tenant => '"gone"', exp => time() + 36000);

# Of the issuer, whose keys are no business of a restore.
sub issued
{
	my ($tenant) = @_;

	return issuer_token($pair, '{"alg":"EdDSA","kid":"idp"}',
		payload_of(tenant => "\"$tenant\"", iss => '"idp"', aud => '"service"', exp => time() + 36000));
}

sub rows_seen
{
	my ($node, $token) = @_;

	return $node->safe_psql('postgres', "BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\n"
		. 'SELECT count(*) FROM item; COMMIT', extra_params => [ '-U', 'app' ]);
}

$primary->backup('base');
my $moment = $primary->safe_psql('postgres', q{SELECT pg_create_restore_point('before')});
my $fence = fence_file($primary);

# What happens after the backup: one tenant is erased, another comes and goes.
my $key_before = $primary->safe_psql('postgres', q{SELECT key_id FROM leyser.signing_key});
fill_tenants($primary, 10, 'late one');
queue_purges($primary, '', 'gone', 'late one');
is_erased($primary, 'gone', 'a tenant is erased');
is_erased($primary, 'late one', '... and one that came after the backup');
my $time = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/;
wait_for_fence($fence, 'gone', "$time $time", 'the fence says when it began and when it was over');
wait_for_fence($fence, 'late%20one', "$time $time", '... of both');
sound_ok($primary, 'the primary itself');
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
$primary->stop('immediate');
$primary->start;
sound_ok($primary, 'after a crash');
$primary->stop;
retire($primary);

# ---- restored, at once ----

my $copy = restore($primary, 'base', 'restored');
is($copy->safe_psql('postgres', q{SELECT leyser.tenant_is_active('gone'), leyser.tenant_is_active('kept')}), 'f|t',
	'the erased tenant is locked at once');
is((attempt($copy, issued('gone'), user => 'app'))[0], 'LY004', '... for an issuer\'s token');
is(rows_seen($copy, issued('kept')), '300', 'another tenant works');
is((attempt($copy, $own_kept, user => 'app'))[0], 'LY002', 'a token of before the restore is refused');
is($copy->safe_psql('postgres', 'SELECT leyser.restore_is_held()', extra_params => [ '-U', 'operator' ]), 't', 'work is held');
ok($copy->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM leyser.restore_record)}), 'the restore is written down');
is($copy->safe_psql('postgres', q{SELECT state FROM leyser.signing_key}), 'retired', '... the signing key is retired');
is($copy->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'restore.noticed'}), '1', '... once');
like(slurp_file($copy->logfile), qr/WARNING:  this server was restored to a time before 2 purges began or ended/, '... and told in the log');
alerts_are($copy, [ 'changes lost postgres', 'no signing key postgres', 'restored postgres', 'tenant came back gone',
	'tenant came back late one' ], 'alerts');
is($copy->safe_psql('postgres', q{SELECT alert FROM leyser.guard_alerts() LIMIT 1}, extra_params => [ '-U', 'operator' ]),
	'restored', '... that an operator sees');

# What destroys is refused.
end_contracts($copy, 'kept');
is_refused($copy, q{CALL leyser.purge('kept')}, 'LY008', 'no purge begins', user => 'operator');
is_refused($copy, q{BEGIN; CALL leyser.replay_purges()}, '25001', 'a replay is no part of a transaction', user => 'operator');
is_refused($copy, q{CALL leyser.replay_purges()}, '42501', 'not everybody replays', user => 'app');
is_refused($copy, q{CALL leyser.accept_fence('why not')}, 'LY008', 'a fence that is there is not overruled', user => 'operator');
$copy->restart;
fence_is($copy, 'ahead|t|f|2', 'after a restart it is still held');

# A new key is good at once, for those who may enter.
$copy->safe_psql('postgres', 'SELECT leyser.activate_signing_key(leyser.stage_signing_key())');
is((attempt($copy, $own_kept, user => 'app'))[0], 'LY002', 'the former key stays refused');
my ($key_id, $secret) = do
{
	my $id = $copy->safe_psql('postgres', q{SELECT key_id FROM leyser.signing_key WHERE state = 'active'});
	my ($hex) = slurp_file(keyring_directory($primary) . "/$id.key") =~ /^secret ([0-9a-f]{64})$/m;
	($id, pack('H*', $hex));
};
sub fresh
{
	my ($tenant) = @_;

	return hs256_token(qq({"alg":"HS256","typ":"JWT","kid":"$key_id"}), payload_of(tenant => "\"$tenant\"",
		aud => '"' . database_id($copy) . '"', exp => time() + 3600), $secret);
}
is((attempt($copy, fresh('gone'), user => 'app'))[0], 'LY004', 'a new token does not open the erased tenant');

# ---- erased again ----

isnt(files_with($copy->data_dir, 'comesback'), 0, 'the restored files hold its rows');

# A hold that is placed by then stands, however often the replay is called.
$copy->safe_psql('postgres', q{SELECT leyser.register_external_store('elsewhere')}, extra_params => [ '-U', 'operator' ]);
is_refused($copy, q{SET statement_timeout = '2s'; CALL leyser.replay_purges()}, '57014', 'the replay waits for a store', user => 'operator');
$copy->safe_psql('postgres', q{SELECT leyser.hold_purge('gone', 'court', '2999-12-31')}, extra_params => [ '-U', 'operator' ]);
is_refused($copy, q{CALL leyser.replay_purges()}, 'LY008', 'a purge that is held since is not replayed', user => 'operator');
is($copy->safe_psql('postgres', q{SELECT state, legal_basis FROM leyser.contract WHERE tenant_id = 'gone'}), 'held|court', '... and stays held');
$copy->safe_psql('postgres', q{SELECT leyser.release_hold('gone'); SELECT leyser.drop_external_store('elsewhere')}, extra_params => [ '-U', 'operator' ]);

$copy->safe_psql('postgres', 'CALL leyser.replay_purges()', extra_params => [ '-U', 'operator' ]);
is_erased($copy, 'gone', 'the tenant is erased again');
is(files_with($copy->data_dir, 'comesback'), 0, '... and no file holds a byte of it');
is($copy->safe_psql('postgres', q{SELECT state FROM leyser.tenant WHERE tenant_id = 'late one'}), 'erased',
	'one that the backup did not know has its tombstone');
is($copy->safe_psql('postgres', q{SELECT replay FROM leyser.purge_record WHERE tenant_id = 'gone'}), 't', 'the purge is a replay');
sound_ok($copy, 'released');
is($copy->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'restore.released'}), '1', '... and recorded');
$copy->restart;
sound_ok($copy, '... also after a restart');
is($copy->safe_psql('postgres', q{SELECT count(*) FROM leyser.restore_record}), '1', 'no second restore was noticed');
$copy->safe_psql('postgres', q{CALL leyser.purge('kept')}, extra_params => [ '-U', 'operator' ]);
is_erased($copy, 'kept', 'purges go on');
$copy->safe_psql('postgres', 'CALL leyser.replay_purges()', extra_params => [ '-U', 'operator' ]);
pass('a replay where there is nothing to replay does nothing');
$copy->stop;
retire($copy);

# ---- to a point in time, while it can only be read ----

my $paused = restore($primary, 'base', 'paused', has_restoring => 1, standby => 0,
	conf => "recovery_target_name = 'before'\nrecovery_target_action = 'pause'\n");
is($paused->safe_psql('postgres', q{SELECT pg_is_in_recovery(), leyser.tenant_is_active('gone'), leyser.restore_is_held()}),
	't|f|t', 'in recovery: locked already, and held');
is((attempt($paused, issued('gone'), user => 'app'))[0], 'LY004', '... for an issuer\'s token');
is((attempt($paused, $own_gone, user => 'app'))[0], 'LY002', '... tokens of before are refused');
is((attempt($paused, $own_kept, user => 'app'))[0], 'LY002', '... all of them');
is_refused($paused, 'CALL leyser.replay_purges()', '25006', '... nothing can be erased there');
$paused->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok($paused->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), 'it is opened');
is($paused->safe_psql('postgres', q{SELECT leyser.tenant_is_active('gone'), leyser.restore_is_held()}), 'f|t', '... and still locked and held');
$paused->safe_psql('postgres', 'CALL leyser.replay_purges()', extra_params => [ '-U', 'operator' ]);
is_erased($paused, 'gone', '... until it is erased again');
alerts_are($paused, ['no signing key postgres'], '... a new key is still missing');
$paused->safe_psql('postgres', 'SELECT leyser.activate_signing_key(leyser.stage_signing_key())');
sound_ok($paused, '... and released');
$paused->stop;

done_testing();
