# A purge from the call to the end: who may call it and when, what it tells, that
# no trigger of users fires while foreign keys hold, and that purges share.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', conf => 'autovacuum = off');
my ($stdout, $stderr);

fill_tenants($node, 3000, qw(a b c d other));
my $other = fingerprint($node, 'other');

# Who may call it, and when.
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN; SELECT leyser.grant_usage('operator', 'operator');
	CREATE ROLE auditor LOGIN; SELECT leyser.grant_usage('auditor', 'auditor');
	CREATE ROLE nobody LOGIN;
});
my $call = q{CALL leyser.purge('a')};
is_refused($node, $call, '42501', 'a role without usage may not call it', user => 'nobody');
is_refused($node, $call, '42501', 'nor may an auditor', user => 'auditor');
is_refused($node, $call, 'LY008', 'a tenant with a contract cannot be purged', user => 'operator');
is_refused($node, q{CALL leyser.purge('nobody')}, '42704', 'nor can an unknown one', user => 'operator');
end_contracts($node, 'a');
is_refused($node, "BEGIN; $call", '25001', 'it commits, so it is refused in a transaction block', user => 'operator');
is_refused($node, "DO \$\$ BEGIN $call; EXCEPTION WHEN division_by_zero THEN END \$\$", '25001',
	'... and where an exception is caught', user => 'operator');
is_refused($node, q{CALL leyser.purge(NULL)}, '22004', 'null is no tenant', user => 'operator');
is_refused($node, q{CALL leyser.purge('a', wait => NULL)}, '22004', '... and says nothing about waiting', user => 'operator');
is_refused($node, q{CALL leyser.purge('a', batch_size => 0)}, '22023', 'a batch has rows', user => 'operator');
is_refused($node, q{CALL leyser.purge('a', max_rows_per_second => -1)}, '22023', 'a limit is not negative', user => 'operator');
is_refused($node, q{SELECT leyser.queue_purge('a', 1, 0, 'operator')}, '42501', 'the inner function is nobody\'s', user => 'operator');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_status'), '0', 'a refused call queues nothing');

# What stops the plan is an error of the call.
$node->safe_psql('postgres', q{
	CREATE TABLE unregistered (tenant_id text, item_of int, FOREIGN KEY (tenant_id, item_of) REFERENCES purchase (tenant_id, id));
	INSERT INTO unregistered VALUES ('a', 1);
});
is_refused($node, $call, 'LY008', 'a foreign key from an unregistered table stops it', user => 'operator');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_status'), '0', '... and nothing is queued');
$node->safe_psql('postgres', 'DROP TABLE unregistered');

# Triggers of users, of every kind, beside foreign keys that act.
$node->safe_psql('postgres', q{
	CREATE TABLE history (content text);
	CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.history VALUES (tg_name || ' ' || tg_table_name); RETURN coalesce(NEW, OLD); END $$;
	CREATE FUNCTION remember_all() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.history SELECT 'gone ' || o::text FROM gone o; RETURN NULL; END $$;
	CREATE TABLE part (tenant_id text NOT NULL, id int, purchase int, reminder int, PRIMARY KEY (tenant_id, id),
		FOREIGN KEY (tenant_id, purchase) REFERENCES purchase ON DELETE CASCADE,
		FOREIGN KEY (tenant_id, reminder) REFERENCES part ON DELETE SET NULL (reminder) DEFERRABLE INITIALLY DEFERRED);
	SELECT leyser.protect('part');
	INSERT INTO part SELECT t, g, 1 + g % 100, 1 + (g + 7) % 50 FROM generate_series(1, 50) g, unnest('{a,other}'::text[]) t;
	CREATE TRIGGER t1 BEFORE DELETE ON item FOR EACH ROW EXECUTE FUNCTION remember();
	CREATE TRIGGER t2 AFTER DELETE ON item FOR EACH ROW EXECUTE FUNCTION remember();
	CREATE TRIGGER t3 BEFORE DELETE ON item FOR EACH STATEMENT EXECUTE FUNCTION remember();
	CREATE TRIGGER t4 AFTER DELETE ON item REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION remember_all();
	CREATE TRIGGER t5 AFTER UPDATE OR DELETE ON part FOR EACH ROW EXECUTE FUNCTION remember();
	CREATE CONSTRAINT TRIGGER t6 AFTER DELETE ON customer DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION remember();
	ALTER TABLE item ENABLE ALWAYS TRIGGER t1;
	ALTER TABLE item ENABLE REPLICA TRIGGER t2;
	ALTER TABLE part ENABLE ALWAYS TRIGGER t5;
	ALTER DATABASE postgres SET session_replication_role = replica;
});
my $parts = $node->safe_psql('postgres', q{SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM part p WHERE tenant_id = 'other'});

$node->psql('postgres', $call, stdout => \$stdout, stderr => \$stderr, extra_params => [ '-U', 'operator' ]);
like($stderr, qr/NOTICE:  erased: \d+ rows of \d+ tables\n?$/, 'the call tells, at last, that the tenant is erased');
unlike($stderr, qr/ERROR|WARNING/, '... and nothing else happened');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET session_replication_role');
is_erased($node, 'a', 'it is');
is($node->safe_psql('postgres', q{SELECT count(*) FROM part WHERE tenant_id = 'a'}), '0', 'rows that refer to each other are gone');
is($node->safe_psql('postgres', 'SELECT count(*) FROM history'), '0', 'no trigger of users fired');
is($node->safe_psql('postgres', q{SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM part p WHERE tenant_id = 'other'}),
	$parts, 'other tenants\' rows are what they were');
$node->safe_psql('postgres', q{DELETE FROM item WHERE tenant_id = 'b' AND id = 1});
isnt($node->safe_psql('postgres', 'SELECT count(*) FROM history'), '0', 'triggers fire for everybody else');
$node->safe_psql('postgres', 'DROP FUNCTION remember, remember_all CASCADE');

# The tombstone, and what is told about it.
is($node->safe_psql('postgres', q{SELECT state, name IS NULL, region IS NULL FROM leyser.tenant WHERE tenant_id = 'a'}),
	'erased|t|t', 'the tombstone has no name');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE tenant_id = 'a' AND event <> 'purge.erased'
	AND (object IS NOT NULL OR detail IS NOT NULL OR caller_role IS NOT NULL)}), '0', 'events before the end have no content');
is_refused($node, $call, 'LY008', 'an erased tenant cannot be purged again', user => 'operator');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.purge_report('a') WHERE part = 'table' AND subject = 'public.item'}, extra_params => [ '-U', 'auditor' ]),
	'clean', 'an auditor reads the report');
is($node->safe_psql('postgres', q{SELECT count(*) > 2 FROM leyser.purge_report('a') WHERE part = 'outside the database'}), 't',
	'... which names what lies outside');
is_refused($node, q{SELECT * FROM leyser.purge_report('other')}, '42704', '... and there is none without a purge');

# Two purges take turns and share the scrub; batches are small, so progress shows.
queue_purges($node, ', batch_size => 100, max_rows_per_second => 1000', qw(b c));
wait_for_purge($node, 'b', q{state = 'deleting' AND rows_deleted BETWEEN 100 AND 2900}, 'purges show how far they are');
wait_for_purge($node, 'c', q{rows_deleted > 0 AND (SELECT state FROM leyser.purge_status WHERE tenant_id = 'b') = 'deleting'},
	'... and take turns');
like($node->safe_psql('postgres', q{SELECT query FROM pg_stat_activity WHERE backend_type = 'leyser purge worker' AND datname = 'postgres' AND query ~ 'purge'}),
	qr/^purge \d+: deleting from public\.\w+, \d+ of \d+ rows$/m, 'pg_stat_activity shows it');
($stdout, $stderr) = ('', '');
$node->psql('postgres', q{CALL leyser.purge('b')}, stdout => \$stdout, stderr => \$stderr, extra_params => [ '-U', 'operator' ]);
like($stderr, qr/NOTICE:  the purge of tenant "b" is already under way/, 'a second call finds the first one\'s purge');
like($stderr, qr/NOTICE:  erased/, '... goes on without its limit, and tells its end');
is_erased($node, 'b', 'the one is erased');
is_erased($node, 'c', 'so is the other');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_status'), '3', 'no purge was there twice');

# A limit holds: 3000 items and more at 1500 rows a second.
queue_purges($node, ', batch_size => 5000, max_rows_per_second => 1500', 'd');
is_erased($node, 'd', 'a throttled purge ends');
is($node->safe_psql('postgres', q{SELECT deleted_at - started_at BETWEEN interval '1 second' AND interval '10 seconds'
	FROM leyser.purge_status WHERE tenant_id = 'd'}), 't', '... not faster than its limit');
is(fingerprint($node, 'other'), $other, 'the other tenant\'s rows are what they were');

# The worker ends when nothing is left to do.
ok($node->poll_query_until('postgres', 'SELECT leyser.purge_worker() IS NULL'), 'the worker ends');

$node->stop;
done_testing();
