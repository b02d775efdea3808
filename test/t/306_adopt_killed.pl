# add_tenant_column() and protect_schema() are killed, cancelled and terminated at random
# moments while rows are written: the same calls go on, and come to the end to which
# they come undisturbed.

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('adopt_killed', conf => "fsync = on\nrestart_after_crash = on\nlog_statement = none");
my $seed = $ENV{LEYSER_SEED} // time;
my $folder = PostgreSQL::Test::Utils::tempdir();

srand $seed;
note("LEYSER_SEED=$seed");

my $calls = q{
	CALL leyser.add_tenant_column('app.invoice', 'customer_id', batch_size => 500);
	CALL leyser.add_tenant_column('app.line', 'line_invoice', batch_size => 500);
	CALL leyser.protect_schema('app');
};

sub make_schema
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	create_extension($node, $database);
	$node->safe_psql($database, q{
		SELECT leyser.create_tenant('t' || g) FROM generate_series(0, 4) g;
		CREATE SCHEMA app;
		CREATE TABLE app.customer (id int PRIMARY KEY, tenant_id text, name text);
		CREATE TABLE app.invoice (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer ON DELETE CASCADE, pad text, touched int DEFAULT 0);
		CREATE TABLE app.line (id int PRIMARY KEY, invoice_id int NOT NULL, other_id int REFERENCES app.invoice ON DELETE SET NULL, touched int DEFAULT 0);
		ALTER TABLE app.line ADD CONSTRAINT line_invoice FOREIGN KEY (invoice_id) REFERENCES app.invoice ON DELETE CASCADE;
		INSERT INTO app.customer SELECT g, 't' || g % 5, 'name' FROM generate_series(1, 200) g;
		-- more than is scanned while others wait
		INSERT INTO app.invoice SELECT g, g % 200 + 1, repeat('x', 800) FROM generate_series(1, 12000) g;
		INSERT INTO app.line SELECT g, g % 12000 + 1, CASE WHEN g % 3 = 0 THEN g % 12000 + 1 END FROM generate_series(1, 20000) g;
		CREATE FUNCTION app.count_touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END$$;
		CREATE TRIGGER count_touch BEFORE UPDATE ON app.invoice FOR EACH ROW EXECUTE FUNCTION app.count_touch();
		CREATE TRIGGER count_touch BEFORE UPDATE ON app.line FOR EACH ROW EXECUTE FUNCTION app.count_touch();
		ANALYZE;
	});
	return;
}

# Structure and rows, without what the writer added.
sub end_of
{
	my ($database) = @_;
	my $dump = "$folder/$database.sql";

	system_or_bail('pg_dump', '--schema-only', '--schema=app', '-d', $node->connstr($database), '-f', $dump);
	return join "\n", (grep { !/^\\(un)?restrict / } split /\n/, slurp_file($dump)),
	  $node->safe_psql($database, q{
		SELECT count(*), md5(string_agg(i::text, ',' ORDER BY id)) FROM app.invoice i WHERE id <= 12000;
		SELECT count(*), md5(string_agg(i::text, ',' ORDER BY id)) FROM app.line i WHERE id <= 20000;
		SELECT relation, kind, tenant_column, enforcement, gaps FROM leyser.governed_table ORDER BY relation::text;
		SELECT relation, change, object, former FROM leyser.adoption_record ORDER BY 1, 2, 3;
	});
}

make_schema('whole');
$node->safe_psql('whole', $calls);
my $whole = end_of('whole');
like($whole, qr/kept|zz_leyser_tenant/, 'undisturbed it comes to its end');
is($node->safe_psql('whole', 'SELECT sum(touched) FROM app.invoice'), '0', '... without users\' triggers');

# Starts the calls; whoever ends them, the errors are in a file.
sub start_calls
{
	my ($database) = @_;
	my %run = (errors => "$folder/errors");

	unlink $run{errors};
	$run{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-c', 'SET application_name = adopting',
			map { ('-c', $_) } grep { /\S/ } split /\n/, $calls ],
		'>', '/dev/null', '2>', $run{errors});
	return \%run;
}

# Writes as applications do that know nothing of the column.
my $writing = q{
	INSERT INTO app.invoice (id, customer_id) SELECT 20000 + coalesce(max(id) - 20000, 0) + 1, 7 FROM app.invoice WHERE id >= 20000;
	INSERT INTO app.line (id, invoice_id) SELECT 30000 + coalesce(max(id) - 30000, 0) + 1, 8 FROM app.line WHERE id >= 30000;
};

my @ways = (
	[ 'kill -9' => sub { kill 'KILL', $_[0] } ],
	[ 'cancelled' => sub { kill 'INT', $_[0] } ],
	[ 'terminated' => sub { kill 'TERM', $_[0] } ]);

for my $round (1 .. 3)
{
	my $database = "round_$round";
	my ($ended, $disturbed) = (0, 0);
	my %seen;

	make_schema($database);
	while (!$ended && $disturbed < 60)
	{
		my $run = start_calls($database);
		my $way = $ways[ rand @ways ];
		my $calling = q{SELECT pid FROM pg_stat_activity WHERE application_name = 'adopting' AND state = 'active' ORDER BY backend_start DESC LIMIT 1};
		my $pid = '';

		# later each time, so that it is disturbed, and ends
		for (1 .. 100)
		{
			last if ($pid = $node->safe_psql($database, $calling)) ne '';
			usleep(5_000);
		}
		$node->psql($database, $writing, on_error_die => 0);
		usleep(rand(20_000 * (1 + $disturbed)));
		if ($pid ne '' && $pid eq $node->safe_psql($database, $calling))
		{
			$way->[1]->($pid);
			$disturbed++;
			$seen{ $way->[0] }++;
		}
		eval { $run->{run}->finish; };
		wait_for_server($node) if $way->[0] eq 'kill -9';
		my $errors = slurp_file($run->{errors});
		my @errors = grep { /ERROR/ && !/canceling statement due to user request/ } split /\n/, $errors;
		is("@errors", '', "round $round: stopped by nothing else") if @errors;
		$ended = $node->safe_psql($database, q{SELECT count(*) FROM leyser.work WHERE kind = 'protect_schema' AND state = 'done'});
		is($node->safe_psql($database, q{SELECT count(*) FROM leyser.work WHERE state = 'running'}), '0', "round $round: no work runs that nobody does")
		  if !$ended && $disturbed < 4;
	}
	ok($ended, "round $round: it ends; disturbed: " . join ', ', map { "$seen{$_} $_" } sort keys %seen);
	cmp_ok($disturbed, '>=', 2, '... after having been disturbed');
	is(end_of($database), $whole, '... where it ends undisturbed');
	is($node->safe_psql($database, q{SELECT count(*) FROM app.invoice i JOIN app.customer c ON c.id = i.customer_id WHERE i.tenant_id IS DISTINCT FROM c.tenant_id}), '0',
		'... with the tenant of each row, also of those that came meanwhile');
	is($node->safe_psql($database, q{SELECT count(*) FROM app.line l JOIN app.invoice i ON i.id = l.invoice_id WHERE l.tenant_id IS DISTINCT FROM i.tenant_id}), '0', '... grandchildren, too');
	is($node->safe_psql($database, q{SELECT count(*) FROM pg_index WHERE NOT indisvalid}), '0', '... and no index is left unfinished');
}

$node->stop;
done_testing();
