# Other tenants work while a tenant is purged: nobody meets an error or a deadlock,
# with autovacuum at work, too, and what they booked is what they find.

use strict;
use warnings;

use IPC::Run;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('load', conf => q{
	autovacuum_naptime = 1
	autovacuum_vacuum_threshold = 50
	autovacuum_vacuum_scale_factor = 0.01
	autovacuum_vacuum_cost_delay = 0
	log_autovacuum_min_duration = 0
	deadlock_timeout = 100ms
	log_statement = none
	log_lock_waits = on
	log_line_prefix = '%m [%p] %u@%d '
});

# Money that moves between a tenant's accounts, with a booking of each half.
$node->safe_psql('postgres', q{
	CREATE TABLE wallet (tenant_id text NOT NULL, id int, amount bigint NOT NULL DEFAULT 0, note text, PRIMARY KEY (tenant_id, id));
	CREATE TABLE booking (tenant_id text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, wallet int NOT NULL, amount bigint NOT NULL,
		content text, tags text[], PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, wallet) REFERENCES wallet);
	CREATE TABLE visit (tenant_id text NOT NULL, id uuid DEFAULT gen_random_uuid(), content text);
	CREATE INDEX ON booking (tenant_id, wallet);
	CREATE INDEX ON booking USING gin (tags);
	CREATE INDEX ON visit (tenant_id);
	SELECT leyser.protect(r) FROM unnest('{wallet,booking,visit}'::regclass[]) r;
	SELECT leyser.create_tenant(t) FROM unnest('{gone1,gone2,load1,load2,load3}'::text[]) t;
	INSERT INTO wallet SELECT t, g, 0, repeat('x', 80) FROM generate_series(1, 100) g, unnest('{gone1,gone2,load1,load2,load3}'::text[]) t;
	INSERT INTO booking (tenant_id, wallet, amount, content, tags) SELECT t, 1 + g % 100, 0, md5(g::text), ARRAY[t, (g % 50)::text]
		FROM generate_series(1, 8000) g, unnest('{gone1,gone2,load1,load2,load3}'::text[]) t;
	INSERT INTO visit (tenant_id, content) SELECT t, repeat(md5(g::text), 30) FROM generate_series(1, 2000) g, unnest('{gone1,gone2,load1,load2,load3}'::text[]) t;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE app LOGIN;
	SELECT leyser.grant_usage('gateway', 'gateway'), leyser.grant_usage('app', 'application');
	GRANT SELECT, INSERT, UPDATE, DELETE ON wallet, booking, visit TO gateway, app;
	CREATE TABLE token (n int PRIMARY KEY, token text);
	INSERT INTO token SELECT n, leyser.issue_token('load' || n, lifetime => '1 hour') FROM generate_series(1, 3) n;
	GRANT SELECT ON token TO app;
});

# pgbench's scripts; a transaction locks wallets in the order of their numbers.
my %scripts = (
	transfer => q{
		\set t random(1, 3)
		\set a random(1, 50)
		\set b random(51, 100)
		\set m random(-1000, 1000)
		\set n 0 - :m
		BEGIN;
		SELECT leyser.enter('load' || :t);
		UPDATE wallet SET amount = amount + :n WHERE id = :a;
		UPDATE wallet SET amount = amount + :m WHERE id = :b;
		INSERT INTO booking (tenant_id, wallet, amount, content, tags) VALUES
			('load' || :t, :a, :n, md5(random()::text), ARRAY[(random() * 50)::int::text]), ('load' || :t, :b, :m, md5(random()::text), ARRAY[(random() * 50)::int::text]);
		COMMIT;},
	visit => q{
		\set t random(1, 3)
		BEGIN;
		SELECT set_config('leyser.token', token, true) FROM token WHERE n = :t;
		INSERT INTO visit (tenant_id, content) VALUES ('load' || :t, repeat(md5(random()::text), 30));
		DELETE FROM visit WHERE id IN (SELECT id FROM visit LIMIT 1 FOR UPDATE SKIP LOCKED);
		SELECT sum(amount) FROM wallet;
		SELECT count(*) FROM booking WHERE wallet = 7;
		SELECT count(*) FROM booking WHERE tags && ARRAY['7'];
		COMMIT;});

# Starts a load; it goes on until it is told to end.
sub start_load
{
	my ($script, $role) = @_;
	my %load = (file => $node->basedir . "/$script", name => $script);

	append_to_file($load{file}, $scripts{$script} . "\n");
	$load{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'prepared', '-c', '2', '-T', '900', '-f', $load{file}, '-U', $role, $node->connstr('postgres') ],
		'>', "$load{file}.out", '2>', "$load{file}.errors");
	return \%load;
}

# Ends the load.
sub end_load
{
	my ($load) = @_;

	$load->{run}->signal('TERM');
	eval { $load->{run}->finish };
	is(slurp_file("$load->{file}.errors"), '', "$load->{name}: nobody met an error");
	return;
}

sub bookings
{
	return $node->safe_psql('postgres', q{SELECT count(*) FROM booking WHERE tenant_id LIKE 'load%'});
}

my $position = log_position($node);
my @loads = (start_load('transfer', 'gateway'), start_load('visit', 'app'));
ok($node->poll_query_until('postgres', q{SELECT count(*) > 3 * 8000 + 200 FROM booking WHERE tenant_id LIKE 'load%'}), 'other tenants are at work');

# What the worker says that it does, looked at again and again: one purge that takes
# its time, then one that does not.
my %told;
my $looker = open_session($node);
my $before = bookings();
foreach my $tenant (qw(gone1 gone2))
{
	queue_purges($node, $tenant eq 'gone1' ? ', batch_size => 200, max_rows_per_second => 2000' : '', $tenant);
	for (1 .. 30000)
	{
		my ($state, $line) = split(/\|/, $looker->query(qq{SELECT p.state, coalesce(a.query, '')
			FROM leyser.purge_status p LEFT JOIN pg_stat_activity a ON a.pid = leyser.purge_worker()
			WHERE p.tenant_id = '$tenant'}));

		usleep(5000);
		$told{$1} = 1 if ($line // '') =~ /^(?|purge \d+: (deleting) from public\.\w+, \d+ of \d+ rows$|(REINDEX) .*public)/;
		last if $state eq 'erased';
	}
	is(purge_is($node, $tenant, q{state || coalesce(last_error, '')}), 'erased', "$tenant is erased");
}
$looker->quit;
ok($told{deleting}, 'pg_stat_activity told of deleting, table by table');
ok($told{REINDEX}, '... and of indexes');
cmp_ok(bookings(), '>', $before + 200, 'the others went on meanwhile');
$node->wait_for_log(qr/automatic vacuum of table "postgres\.public\.(wallet|booking|visit)"/, $position);
my $log = log_since($node, $position);
end_load($_) foreach @loads; # which ends their connections like a crash
is(join("\n", $log =~ /.*deadlock detected.*/g), '', 'there was no deadlock');
is(join("\n", $log =~ /.*(?:gateway|app)\@postgres (?:ERROR|FATAL).*/g), '', '... nor an error of theirs');
is(join("\n", $log =~ /.* \@postgres ERROR: +(?!canceling autovacuum task).*/g), '', '... nor one of the purge');

# ---- what they have ----

is($node->safe_psql('postgres', q{SELECT tenant_id, sum(amount) FROM wallet GROUP BY 1 ORDER BY 1}), "load1|0\nload2|0\nload3|0",
	'no money was lost or made');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM wallet w LEFT JOIN (SELECT tenant_id, wallet, sum(amount) AS booked FROM booking GROUP BY 1, 2) b
		ON b.tenant_id = w.tenant_id AND b.wallet = w.id
	WHERE w.amount <> coalesce(b.booked, 0)}), '0', 'wallets are the sums of their bookings');
is($node->safe_psql('postgres', q{SELECT tenant_id, count(*) FROM visit GROUP BY 1 ORDER BY 1}) =~ s/\d+$//gmr, "load1|\nload2|\nload3|",
	'the others\' visits are there, and nobody else\'s');
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
$node->command_ok([ 'pg_amcheck', '--heapallindexed', '--parent-check', '-d', 'postgres' ], 'tables and indexes are sound');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indislive AND indisready)'), '0', '... and all are valid');
is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT count(*) FROM booking b WHERE tags && ARRAY['7'] AND content IS NOT NULL}),
	$node->safe_psql('postgres', q{SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM booking WHERE tags && ARRAY['7']}),
	'... which find what there is');

$node->stop;
done_testing();
