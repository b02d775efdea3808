# What the owner of a database sets for it neither stops nor changes a purge.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('settings', conf => 'autovacuum = off');
$node->safe_psql('postgres', q{
	CREATE ROLE owner_of_database LOGIN;
	CREATE ROLE nobody_else;
	GRANT nobody_else TO owner_of_database;
	ALTER DATABASE postgres OWNER TO owner_of_database;
});

# our own sessions have settings of their own
$ENV{PGOPTIONS} = '-c role=none -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off'
  . ' -c default_transaction_isolation=read\\ committed -c idle_in_transaction_session_timeout=0'
  . ' -c standard_conforming_strings=on -c search_path=public -c row_security=on';

foreach my $setting (q{role = 'nobody_else'}, q{statement_timeout = '1ms'}, q{lock_timeout = '1ms'},
	q{default_transaction_read_only = on}, q{default_transaction_isolation = 'serializable'},
	q{idle_in_transaction_session_timeout = '1ms'}, q{search_path = 'nowhere'}, q{transform_null_equals = on},
	q{standard_conforming_strings = off}, q{row_security = off}, q{enable_tidscan = off},
	q{work_mem = '64kB'})
{
	my ($name) = split / /, $setting;
	my $tenant = $name =~ tr/./_/r;

	fill_tenants($node, 50, $tenant, "beside_$tenant");
	my $before = fingerprint($node, "beside_$tenant");
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET $setting", extra_params => [ '-U', 'owner_of_database' ]);
	queue_purges($node, '', $tenant);
	is_erased($node, $tenant, "a purge ends under $setting");
	is(fingerprint($node, "beside_$tenant"), $before, '... and others keep what they have');
	$node->safe_psql('postgres', "ALTER DATABASE postgres RESET $name", extra_params => [ '-U', 'owner_of_database' ]);
}

$node->stop;
done_testing();
