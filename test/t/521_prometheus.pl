# Prometheus and its exporter, as the README sets them up, really read metrics() and judge
# the rules.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use LeyserCheck;
use LeyserSchedule qw(make_due);
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $readme = slurp_file(dirname(dirname(dirname(abs_path(__FILE__)))) . '/README.md');
my $folder = PostgreSQL::Test::Utils::tempdir;
my ($exporter_port, $prometheus_port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;

# A block of the README, by the file name in its first line, with what differs here.
sub keep
{
	my ($name, %changes) = @_;
	my ($text) = $readme =~ /^```yaml\n# \Q$name\E\n(.*?)^```$/ms or die "the README has no $name";

	foreach my $from (keys %changes)
	{
		$text =~ s/\Q$from\E/$changes{$from}/ or die "$name does not have $from";
	}
	append_to_file("$folder/$name", $text);
	return "$folder/$name";
}

sub start_program
{
	my ($log, @command) = @_;
	return IPC::Run::start(\@command, '<', \undef, '>&', "$folder/$log.log");
}

sub fetch
{
	my ($port, $path) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port$path");
	return $answer->{success} ? $answer->{content} : '';
}

# Waits until a page says what it should; gives it.
sub wait_for_page
{
	my ($port, $path, $wanted) = @_;
	my $page = '';

	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $deadline)
	{
		$page = fetch($port, $path);
		last if $page =~ $wanted;
		usleep(100_000);
	}
	return $page;
}

my $node = check_node('prometheus');
$node->safe_psql('postgres', q{CREATE ROLE shop_monitor LOGIN; SELECT leyser.grant_usage('shop_monitor', 'monitor')});
make_due($node, 'note clauses', '1 second');  # it was noted by this machine's clock
$node->safe_psql('postgres', 'CALL leyser.tick()');

# The exporter.
my $queries = keep('leyser_queries.yml');
my $labels = $node->safe_psql('postgres', q{SELECT string_agg(DISTINCT k, ' ' ORDER BY k) FROM leyser.metrics(), jsonb_object_keys(labels) k});
is(join(' ', sort map { s/^leyser_//r } grep { !/^(?:name|value)$/ } slurp_file($queries) =~ /^    - (\w+):/mg), $labels, 'the README knows every label');
local $ENV{DATA_SOURCE_NAME} = sprintf 'host=%s port=%s user=shop_monitor dbname=postgres sslmode=disable', $node->host, $node->port;
my $exporter = start_program('exporter', 'prometheus-postgres-exporter', "--extend.query-path=$queries", '--disable-default-metrics',
	'--disable-settings-metrics', '--no-collector.database', '--no-collector.bgwriter', "--web.listen-address=127.0.0.1:$exporter_port");
my $page = wait_for_page($exporter_port, '/metrics', qr/^leyser_value/m);
like($page, qr/^leyser_value\{[^}]*name="leyser_tenants"[^}]*state="active"[^}]*\} 2$/m, 'the exporter tells a figure') or diag($page, slurp_file("$folder/exporter.log"));
is(scalar(() = $page =~ /^leyser_value\{/mg), $node->safe_psql('postgres', 'SELECT count(*) FROM leyser.metrics()'), '... and all of them');
like($page, qr/^pg_exporter_last_scrape_error(?:\{[^}]*\})? 0$/m, '... without an error');

# The rules and the settings.
my ($told, $errors) = ('', '');
my $rules = keep('leyser_rules.yml');
ok(IPC::Run::run([ 'promtool', 'check', 'rules', $rules ], '>', \$told, '2>', \$errors), 'promtool takes the rules') or diag("$told$errors");
like($told, qr/SUCCESS: 11 rules found/, '... each of them');
append_to_file("$folder/prometheus.yml", "global:\n  evaluation_interval: 1s\n");
my $settings = keep('prometheus.yml', '30s' => '1s', '127.0.0.1:9187' => "127.0.0.1:$exporter_port");
ok(IPC::Run::run([ 'promtool', 'check', 'config', $settings ], '>', \$told, '2>', \$errors), '... and the settings') or diag("$told$errors");

# Every figure that a rule speaks of is there, or known.
my %known = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT name FROM leyser.metric_kinds()');
is(join(' ', grep { !$known{$_} } slurp_file($rules) =~ /\b(leyser_[a-z_]+)/g), '', 'no rule speaks of a figure that is not there');

# Prometheus.
my $prometheus = start_program('prometheus', 'prometheus', "--config.file=$settings", "--storage.tsdb.path=$folder/data",
	"--web.listen-address=127.0.0.1:$prometheus_port", '--log.level=warn');

# Without a value that is wanted: what there is now.
sub value_of
{
	my ($expression, $wanted) = @_;
	my $path = '/api/v1/query?query=' . ($expression =~ s/([^A-Za-z0-9_])/sprintf '%%%02X', ord $1/ger);

	$page = wait_for_page($prometheus_port, $path, defined $wanted ? qr/"value":\[[^,]+,"$wanted"\]/ : qr/success/);
	return join ' ', map { $_->{value}[1] } @{ decode_json($page || '{}')->{data}{result} // [] };
}

is(value_of('leyser_tenants{state="active"}', 2), '2', 'Prometheus has the figure under its own name') or diag(slurp_file("$folder/prometheus.log"));
is(value_of('leyser_tenants{state="active",name=~".+"}'), '', '... without the exporter\'s');
is(value_of('leyser_info', 1), '1', '... and those without labels');
is(value_of('leyser_value'), '', '... and none under another');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('3')});
is(value_of('leyser_tenants{state="active"}', 3), '3', 'a tenant more');
is(value_of('leyser_clause_status{clause="2.5",status="broken"}', 0), '0', 'a clause that is kept');
is(value_of('leyser_job_failures{leyser_job="upkeep"}', 0), '0', 'a job');

# A broken promise is an alert.
sub firing
{
	my ($wanted) = @_;
	$page = wait_for_page($prometheus_port, '/api/v1/alerts', $wanted);
	return join ' ', sort map { "$_->{labels}{alertname} " . ($_->{labels}{clause} // '') } grep { $_->{state} eq 'firing' } @{ decode_json($page || '{}')->{data}{alerts} // [] };
}

sub note_clauses
{
	make_due($node, 'note clauses', '1 second');
	$node->safe_psql('postgres', 'CALL leyser.tick()');
	return;
}

unlike(firing(qr/success/), qr/LeyserPromiseBroken/, 'no promise is broken');
$node->safe_psql('postgres', 'CREATE ROLE shadow BYPASSRLS');
note_clauses();
like(firing(qr/"clause":"2.5"/), qr/LeyserPromiseBroken 2\.5/, 'a role past row security: an alert that names the clause');
$node->safe_psql('postgres', 'DROP ROLE shadow');
note_clauses();
is(value_of('leyser_clause_status{clause="2.5",status="broken"}', 0), '0', '... which ends');

# What the exporter may not, it does not get.
$node->safe_psql('postgres', q{SELECT leyser.revoke_usage('shop_monitor', 'monitor')});
unlike(fetch($exporter_port, '/metrics'), qr/^leyser_value/m, 'without the usage there are no figures');

$_->kill_kill foreach $prometheus, $exporter;
$node->stop;
done_testing();
