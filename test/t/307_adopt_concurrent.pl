# While add_tenant_column() fills a column, every row that is written gets its parent's
# tenant: inserted, moved to another parent, held by somebody, or under a parent that
# gets another tenant meanwhile.  Afterwards too.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('adopt_concurrent', conf => q{log_statement = none});

$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1'), leyser.create_tenant('t2');
	CREATE ROLE writer LOGIN;
	CREATE TABLE parent (id int PRIMARY KEY, tenant_id varchar(40) NOT NULL);
	CREATE TABLE child (id int PRIMARY KEY, parent_id int NOT NULL REFERENCES parent, note text);
	INSERT INTO parent VALUES (1, 't1'), (2, 't2'), (3, 't1');
	INSERT INTO child SELECT g, g % 3 + 1 FROM generate_series(1, 30000) g;
	-- who writes children need not see parents
	GRANT SELECT, INSERT, UPDATE, DELETE ON child TO writer;
});

my $wrong = q{SELECT count(*) FROM child c JOIN parent p ON p.id = c.parent_id WHERE c.tenant_id IS DISTINCT FROM p.tenant_id};

# Somebody holds a row: the call fills the others, and waits for this one.
my $holder = open_session($node, user => 'writer');
my $call = open_session($node);
$holder->query(q{BEGIN; UPDATE child SET note = 'held' WHERE id = 1500});
# the column comes after a short lock, for which the holder stands in the way
$call->query_until(qr/started/, qq{\\echo started\nCALL leyser.add_tenant_column('child', 'parent_id', batch_size => 10);\n\\echo ended\n});
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'child'::regclass AND attname = 'tenant_id'}), '0', 'it waits where somebody writes');
is_refused($node, q{SET statement_timeout = '10s'; INSERT INTO child VALUES (40001, 2)}, '', '... and lets others pass', user => 'writer');
my $second = open_session($node, user => 'writer');
$second->query(q{BEGIN});
$holder->query('COMMIT');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_attribute WHERE attrelid = 'child'::regclass AND attname = 'tenant_id'}) or die 'no column';
$second->query(q{UPDATE child SET note = 'held again' WHERE id = 29999});
is($node->safe_psql('postgres', q{INSERT INTO child VALUES (40002, 2) RETURNING tenant_id}, extra_params => [ '-U', 'writer' ]), 't2', 'a new row has its tenant at once');
is($node->safe_psql('postgres', q{UPDATE child SET parent_id = 2 WHERE id = 40002 RETURNING tenant_id}, extra_params => [ '-U', 'writer' ]), 't2', '... and one that moves');
# a batch's rows are free with its end, not with that of the call, which waits for one
$node->poll_query_until('postgres', q{SELECT tenant_id = 't2' FROM child WHERE id = 1}) or die 'nothing is filled';
is_refused($node, q{SET lock_timeout = '2s'; UPDATE child SET note = 'filled' WHERE id = 1}, '', 'a row that is filled is nobody\'s any more', user => 'writer');
my $before_end = $node->safe_psql('postgres', q{SELECT state FROM leyser.work});
is($before_end, 'running', 'the call runs on');
# a parent gets another tenant, and its children are partly filled
$node->safe_psql('postgres', q{UPDATE parent SET tenant_id = 't2' WHERE id = 3}) if $before_end eq 'running';
$second->query('COMMIT');
$call->query('SELECT 1');
is($node->safe_psql('postgres', q{SELECT state, process_id IS NULL FROM leyser.work}), 'done|t', 'it ends');
is($node->safe_psql('postgres', $wrong), '0', 'every row has its parent\'s tenant');
is($node->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE note ~ 'held') FROM child}), '30002|2', '... and what was written');

# Afterwards.
is_refused($node, q{INSERT INTO child (id, parent_id, tenant_id) VALUES (50000, 1, 't2')}, '23503', 'another tenant than the parent\'s is refused', user => 'writer');
is($node->safe_psql('postgres', q{INSERT INTO child (id, parent_id) VALUES (50000, 1) RETURNING tenant_id}, extra_params => [ '-U', 'writer' ]), 't1', 'who names none gets the parent\'s');
is($node->safe_psql('postgres', q{UPDATE child SET parent_id = 2 WHERE id = 50000 RETURNING tenant_id}, extra_params => [ '-U', 'writer' ]), 't2', '... also where the row moves');
is_refused($node, q{UPDATE child SET tenant_id = 't1' WHERE id = 50000}, '23503', '... but not where only the tenant does', user => 'writer');
is_refused($node, q{UPDATE parent SET tenant_id = 't1' WHERE id = 2}, '23503', 'a parent with children keeps its tenant');
$node->safe_psql('postgres', q{ALTER TABLE child RENAME COLUMN tenant_id TO owner_id; ALTER TABLE child RENAME COLUMN parent_id TO up; ALTER TABLE parent RENAME COLUMN tenant_id TO tenant;
	ALTER TABLE child RENAME CONSTRAINT child_parent_id_fkey TO renamed});
is($node->safe_psql('postgres', q{INSERT INTO child (id, up) VALUES (50001, 2) RETURNING owner_id}, extra_params => [ '-U', 'writer' ]), 't2', 'columns and keys may get other names');
$node->safe_psql('postgres', 'ALTER TABLE child DROP CONSTRAINT renamed');
is_refused($node, q{INSERT INTO child (id, up) VALUES (50002, 2)}, '55000', 'without the foreign key the trigger says so', user => 'writer');

# A dump carries it all.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->safe_psql('postgres', q{ALTER TABLE child ADD CONSTRAINT again FOREIGN KEY (owner_id, up) REFERENCES parent (tenant, id)});
system_or_bail('pg_dump', '-d', $node->connstr('postgres'), '-f', $dump);
$node->safe_psql('postgres', 'CREATE DATABASE restored');
system_or_bail('psql', '-XAtq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-c', 'SET leyser.guards = off', '-f', $dump);
is($node->safe_psql('restored', q{INSERT INTO child (id, up) VALUES (50003, 1) RETURNING owner_id}), 't1', 'it works in a restored database');
is($node->safe_psql('restored', 'SELECT count(*) > 0, (SELECT count(*) FROM leyser.work) FROM leyser.adoption_record'), 't|0', '... which knows what was changed, and of no works');

# In a context, once both are protected: a parent of another tenant is no parent, so an
# error does not tell which keys others have.
$node->safe_psql('postgres', q{
	DELETE FROM child WHERE id > 1; UPDATE child SET up = 1, owner_id = 't1'; INSERT INTO parent VALUES (9, 't1');
	CREATE ROLE app LOGIN; SELECT leyser.grant_usage('app', 'gateway');
	SELECT leyser.protect('parent', 'tenant', accept_gaps => true); SELECT leyser.protect('child', 'owner_id', accept_gaps => true);
	GRANT SELECT, INSERT, UPDATE ON child TO app;
});
sub in_t1
{
	my ($sql) = @_;
	my ($state, $message) = sqlstate_of($node, qq{BEGIN; SET LOCAL lock_timeout = '2s'; SELECT leyser.enter('t1'); $sql; COMMIT}, user => 'app');

	return $state . ' ' . ($message =~ s/\n.*//sr) =~ s/.*ERROR:  //r;
}
my $held = open_session($node);
$held->query(q{BEGIN; SELECT FROM parent WHERE id = 2 FOR UPDATE});
like(in_t1('UPDATE child SET up = 777 WHERE id = 1'), qr/^23503/, 'a row moves to no parent');
is(in_t1('UPDATE child SET up = 2 WHERE id = 1'), in_t1('UPDATE child SET up = 777 WHERE id = 1'), '... and another tenant\'s is none, without a wait');
is(in_t1('INSERT INTO child (id, up, owner_id) VALUES (6, 2, NULL)'), in_t1('INSERT INTO child (id, up, owner_id) VALUES (6, 777, NULL)'), '... nor for a new row');
is(in_t1('INSERT INTO child (id, up, owner_id) VALUES (6, 9, NULL); UPDATE child SET up = 9 WHERE id = 1'), ' ', '... where one of its own is');
is($node->safe_psql('postgres', q{SELECT string_agg(id || owner_id || up, ' ' ORDER BY id) FROM child}), '1t19 6t19', '... and is followed');

$_->quit for $holder, $second, $call, $held;
$node->stop;
done_testing();
