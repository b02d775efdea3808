# The runbooks, rehearsed: their statements are run in order, on a server that is really
# lost, restored and replaced by its standby.  Debian's pg_ctlcluster, of which the
# runbooks speak, stands for pg_ctl here.

use strict;
use warnings;

use LeyserDocument;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = document_node();

mkdir $_ or die "could not make $_: $!" foreach "$folder/bin", "$folder/safe";
append_to_file("$folder/bin/pg_ctlcluster", <<'END');
#!/bin/sh
# pg_ctlcluster VERSION NAME ACTION
eval "data=\$DATA_OF_$2"
exec pg_ctl -w -m fast -D "$data" -l "$data.log" "$3" > /dev/null
END
chmod 0755, "$folder/bin/pg_ctlcluster";

local $ENV{PATH} = "$folder/bin:$ENV{PATH}";
local $ENV{PGDATA} = $node->data_dir;
local $ENV{KEYRING} = keyring_directory($node);
local $ENV{BACKUP} = $node->safe_psql('postgres', 'SHOW leyser.backup_directory');
local $ENV{SAFE} = "$folder/safe";
local $ENV{DATA_OF_main} = $node->data_dir;
foreach my $server (qw(standby copy))
{
	$ENV{"DATA_OF_$server"} = "$folder/$server";
	$ENV{"KEYRING_OF_$server"} = "$folder/keyring_of_$server";
	$ENV{"PORT_OF_$server"} = PostgreSQL::Test::Cluster::get_free_port();
}

test_block($_, $folder) foreach document_blocks('doc/runbooks.md');

$node->stop;
done_testing();
