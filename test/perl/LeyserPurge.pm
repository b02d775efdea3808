# LeyserPurge.pm
#
# Tenants whose contracts have ended, and purges that are watched from outside.

package LeyserPurge;

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use Exporter qw(import);
our @EXPORT = qw(purge_node fill_tenants end_contracts queue_purges purge_is
  wait_for_purge blockers_are wait_for_worker is_erased fingerprint);

# A node with three tables of tenants: an order belongs to a customer, an item to
# an order, and items are known by nothing but their order in an index.
sub purge_node
{
	my ($name, %options) = @_;
	my $node = new_node($name, %options);

	$node->safe_psql('postgres', q{
		CREATE TABLE customer (tenant_id text NOT NULL, id int, name text, PRIMARY KEY (tenant_id, id));
		CREATE TABLE purchase (tenant_id text NOT NULL, id int, customer int NOT NULL, PRIMARY KEY (tenant_id, id),
			FOREIGN KEY (tenant_id, customer) REFERENCES customer);
		CREATE TABLE item (tenant_id text NOT NULL, id int, purchase int NOT NULL, content text,
			FOREIGN KEY (tenant_id, purchase) REFERENCES purchase);
		CREATE INDEX purchase_customer ON purchase (tenant_id, customer);
		CREATE INDEX item_purchase ON item (tenant_id, purchase);
		SELECT leyser.protect(r) FROM unnest('{customer,purchase,item}'::regclass[]) r;
	});
	return $node;
}

# Makes tenants with so many items each.
sub fill_tenants
{
	my ($node, $items, @tenants) = @_;
	my $list = join(',', map { "'$_'" } @tenants);

	$node->safe_psql('postgres', qq{
		SELECT leyser.create_tenant(t) FROM unnest(ARRAY[$list]) t;
		INSERT INTO customer SELECT t, g, 'customer of ' || t FROM generate_series(1, 20) g, unnest(ARRAY[$list]) t;
		INSERT INTO purchase SELECT t, g, 1 + g % 20 FROM generate_series(1, 100) g, unnest(ARRAY[$list]) t;
		INSERT INTO item SELECT t, g, 1 + g % 100, 'item ' || g || ' of ' || t
			FROM generate_series(1, $items) g, unnest(ARRAY[$list]) t;
	});
	return;
}

sub end_contracts
{
	my ($node, @tenants) = @_;

	$node->safe_psql('postgres', "SELECT leyser.terminate_contract('$_', 'now'::text)") foreach @tenants;
	return;
}

# Ends contracts and queues purges, without waiting.  Options: further arguments.
sub queue_purges
{
	my ($node, $arguments, @tenants) = @_;

	end_contracts($node, @tenants);
	$node->safe_psql('postgres', "CALL leyser.purge('$_', wait => false$arguments)") foreach @tenants;
	return;
}

# What a column of a tenant's purge says.
sub purge_is
{
	my ($node, $tenant, $column) = @_;

	return $node->safe_psql('postgres',
		"SELECT $column FROM leyser.purge_status WHERE tenant_id = '$tenant' ORDER BY purge_id DESC LIMIT 1");
}

# Waits until a condition over purge_status holds for a tenant's purge.
sub wait_for_purge
{
	my ($node, $tenant, $condition, $name) = @_;
	my $met = $node->poll_query_until('postgres',
		"SELECT coalesce(bool_or($condition), false) FROM leyser.purge_status WHERE tenant_id = '$tenant'");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($met, $name) or diag($node->safe_psql('postgres', 'SELECT * FROM leyser.purge_status'));
	return;
}

# Waits until a purge waits for exactly these: "kind subject", in order.
sub blockers_are
{
	my ($node, $tenant, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_purge($node, $tenant, qq{ARRAY(SELECT split_part(b, ':', 1) FROM unnest(blockers) b)
		IS NOT DISTINCT FROM '$expected' AND state = 'waiting'}, $name);
	return;
}

# The pid of the worker, once there is one that is not this one.
sub wait_for_worker
{
	my ($node, $former) = @_;
	my $pid = '';

	for (1 .. 600)
	{
		$pid = $node->safe_psql('postgres', 'SELECT leyser.purge_worker()');
		last if $pid ne '' && $pid ne ($former // '');
		usleep(100_000);
	}
	return $pid;
}

# The tenant is erased, no row of it is left in any table, and nobody waits.
sub is_erased
{
	my ($node, $tenant, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_purge($node, $tenant, q{state = 'erased' AND erased_at IS NOT NULL AND scrub_end_lsn IS NOT NULL
		AND blockers = '{}' AND last_error IS NULL AND tables = tables_scrubbed}, $name);
	is($node->safe_psql('postgres', qq{
		SELECT (SELECT count(*) FROM customer WHERE tenant_id = '$tenant'),
			(SELECT count(*) FROM purchase WHERE tenant_id = '$tenant'),
			(SELECT count(*) FROM item WHERE tenant_id = '$tenant'),
			(SELECT state FROM leyser.tenant WHERE tenant_id = '$tenant')}), '0|0|0|erased', '... and no row is left');
	return;
}

# Whether rows of a tenant are what they were.
sub fingerprint
{
	my ($node, $tenant) = @_;

	return $node->safe_psql('postgres', join(' UNION ALL ', map {
		"SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY id)), '') FROM $_ t WHERE tenant_id = '$tenant'"
	} qw(customer purchase item)));
}

1;
