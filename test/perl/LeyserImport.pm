# LeyserImport.pm
#
# pgBackRest and Barman, really run in temporary folders, and what the books of
# backup generations hold.

package LeyserImport;

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(books generations changes_nothing pgbackrest_files pgbackrest barman_files barman
  catalogue_of pgbackrest_catalogue);

# All that an import may change, each row with its place and age.
sub books
{
	my ($node) = @_;

	return $node->safe_psql('postgres', q{
		SELECT g.ctid, g.xmin, g.* FROM leyser.generation_record g ORDER BY generation_id;
		SELECT w.ctid, w.xmin, w.* FROM leyser.wal_archive_record w ORDER BY tool, source, system_identifier;
		SELECT count(*) FROM leyser.event;
	});
}

# One test: the statement, or code, leaves the books as they are, whatever it says.
sub changes_nothing
{
	my ($node, $what, $name) = @_;
	my $before = books($node);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ref $what ? $what->() : $node->psql('postgres', $what, on_error_stop => 0, stderr => \my $stderr);
	is(books($node), $before, $name);
	return;
}

# "kind state" of each generation, in the order of their beginning.
sub generations
{
	my ($node, $condition) = @_;

	return $node->safe_psql('postgres', "SELECT kind, state FROM leyser.generation_record
		WHERE $condition ORDER BY started_at, generation_id");
}

# An import's catalogue, as a literal.
sub catalogue_of
{
	my ($json) = @_;

	$json =~ s/'/''/g;
	return "'$json'";
}

# ---- pgBackRest ----

# Makes a folder with two repositories, a configuration of stanza "main" for a data
# directory and a script that uses it; gives the script.
sub pgbackrest_files
{
	my ($node, $folder) = @_;
	my ($data, $host, $port) = ($node->data_dir, $node->host, $node->port);

	mkdir "$folder/$_" for qw(repo1 repo2 log lock spool);
	append_to_file("$folder/pgbackrest.conf", <<"END");
[global]
repo1-path=$folder/repo1
repo1-retention-full=9
repo2-path=$folder/repo2
repo2-retention-full=9
log-path=$folder/log
lock-path=$folder/lock
spool-path=$folder/spool
log-level-file=off
compress-level=1
start-fast=y
[main]
pg1-path=$data
pg1-port=$port
pg1-socket-path=$host
pg1-database=postgres
END
	append_to_file("$folder/pgbackrest", qq{#!/bin/sh\nexec /usr/bin/pgbackrest "--config=$folder/pgbackrest.conf" "\$@"\n});
	chmod 0755, "$folder/pgbackrest";
	return "$folder/pgbackrest";
}

# Runs it for stanza "main"; dies where it fails; gives what it prints.
sub pgbackrest
{
	my ($script, @arguments) = @_;
	my ($stdout, $stderr) = run_command([ $script, '--stanza=main', @arguments ]);

	die "pgbackrest @arguments: $stdout $stderr" if $? != 0;
	return $stdout;
}

# A catalogue as pgBackRest prints it, of backups that were never taken: a list of
# hashes with label, start (seconds), type, prior, error, lsn.
sub pgbackrest_catalogue
{
	my ($system, @backups) = @_;
	my @entries = map {
		my $stop = $_->{start} + 5;
		my $end = $_->{lsn} + 16;
		my $prior = defined $_->{prior} ? qq("$_->{prior}") : 'null';
		my $error = $_->{error} ? 'true' : 'false';
		my $lsn = sprintf('"start":"0/%X","stop":"0/%X"', $_->{lsn}, $end);
		qq({"archive":{"start":"000000010000000000000002","stop":"000000010000000000000002"},"database":{"id":1,"repo-key":1},)
		  . qq("error":$error,"info":{"delta":1,"repository":{"delta":1,"size":1},"size":1},"label":"$_->{label}","lsn":{$lsn},)
		  . qq("prior":$prior,"reference":null,"timestamp":{"start":$_->{start},"stop":$stop},"type":"$_->{type}"})
	} @backups;
	my $list = join(',', @entries);

	return qq([{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"00000001000000000000000A","min":"000000010000000000000001"}],)
	  . qq("backup":[$list],"cipher":"none","db":[{"id":1,"repo-key":1,"system-id":$system,"version":"15"}],"name":"main",)
	  . q("repo":[{"cipher":"none","key":1,"status":{"code":0,"message":"ok"}}],"status":{"code":0,"message":"ok"}}]);
}

# ---- Barman ----

# Makes a folder with the configuration of server "main", whose WAL the node's
# archive_command brings; Barman runs as whoever we are.
sub barman_files
{
	my ($node, $folder, $programs) = @_;
	my $user = getpwuid($<);
	my $connection = 'host=' . $node->host . ' port=' . $node->port . " user=$user";

	mkdir "$folder/home";
	unlink "$folder/barman.conf";
	append_to_file("$folder/barman.conf", <<"END");
[barman]
barman_user = $user
barman_home = $folder/home
barman_lock_directory = $folder/home
log_file = $folder/barman.log
[main]
description = main
conninfo = $connection dbname=postgres
streaming_conninfo = $connection
backup_method = postgres
archiver = on
immediate_checkpoint = true
path_prefix = $programs
END
	return "$folder/barman.conf";
}

# Runs it; gives what it prints, and in list context whether it ended well, too.
sub barman
{
	my ($configuration, @arguments) = @_;
	my ($stdout, $stderr) = run_command([ 'barman', '-c', $configuration, @arguments ]);
	my $ok = $? == 0;

	note("barman @arguments: $stdout $stderr") unless $ok;
	return wantarray ? ($stdout, $ok) : $stdout;
}

1;
