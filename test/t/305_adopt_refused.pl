# What protect_plan(), protect_schema() and add_tenant_column() refuse: with SQLSTATE,
# detail and hint, numbers and no values, and nothing half done without a row in view
# work that says so; once it is mended the same call goes on.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('adopt_refused', conf => q{log_statement = none});

$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1'), leyser.create_tenant('t2');
	CREATE ROLE app_owner; CREATE ROLE other_owner; CREATE ROLE stranger LOGIN; CREATE ROLE op LOGIN;
	SELECT leyser.grant_usage('op', 'operator');
	CREATE SCHEMA app AUTHORIZATION app_owner; CREATE SCHEMA empty;
	GRANT USAGE ON SCHEMA app TO other_owner, stranger;
	SET ROLE app_owner;
	CREATE TABLE app.customer (id int PRIMARY KEY, tenant_id text, name text);
	INSERT INTO app.customer VALUES (1, 't1', 'secret one'), (2, 't2', 'secret two'), (3, 't1', 'secret three');
	CREATE TABLE app.invoice (id int PRIMARY KEY, customer_id int CONSTRAINT invoice_customer REFERENCES app.customer, other_id int);
	INSERT INTO app.invoice VALUES (1, 1), (2, 2);
	GRANT REFERENCES ON ALL TABLES IN SCHEMA app TO other_owner;
});

# One test: a call fails so.  Patterns of detail and hint.
sub fails
{
	my ($call, $sqlstate, $detail, $hint, $name, %options) = @_;
	my ($got, $message) = sqlstate_of($node, $call, %options);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $sqlstate, $name) or diag($message);
	like($message, qr/DETAIL:  .*$detail/, '... the detail says why');
	like($message, qr/HINT:  .*$hint/, '... the hint says what to do');
	unlike($message, qr/secret|t2/, '... no value is told');
	return;
}

sub work_is
{
	my ($expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{SELECT kind, subject, state FROM leyser.work ORDER BY work_id DESC LIMIT 1}), $expected, $name);
	return;
}

# Who, where and what.
fails(q{CALL leyser.add_tenant_column('app.invoice', 'customer_id')}, '42501', 'owner or an operator', 'grant_usage', 'strangers may not', user => 'stranger');
fails(q{CALL leyser.protect_schema('app')}, '42501', 'owner or an operator', 'grant_usage', '... nor here', user => 'stranger');
fails(q{BEGIN; CALL leyser.protect_schema('app')}, '25001', 'commits after each step', 'statement of its own', 'not in a transaction block');
fails(q{BEGIN; CALL leyser.add_tenant_column('app.invoice', 'customer_id')}, '25001', 'commits after each step', 'statement of its own', '... nor this');
fails(q{CALL leyser.protect_schema('leyser')}, '22023', 'none of the system', 'CALL', 'not leyser\'s own schema');
fails(q{CALL leyser.protect_schema('app', lock_wait => '1 hour')}, '22023', '0 to 3 seconds', 'default', 'no long waits for locks');
fails(q{CALL leyser.protect_schema('app', retry_for => NULL)}, '22004', '0 to 86400 seconds', 'default', 'no null time');
fails(q{CALL leyser.add_tenant_column('app.invoice', 'customer_id', batch_size => 0)}, '22023', '1 to 1000000', 'CALL', 'no batches of nothing');
fails(q{CALL leyser.add_tenant_column('app.invoice', NULL)}, '22023', 'foreign key', 'CALL', 'no foreign key given');
is_refused($node, q{CALL leyser.add_tenant_column('app.nothing', 'customer_id')}, '42P01', 'no such table');
fails(q{SELECT * FROM leyser.protect_plan('app.customer', kind => 'shared')}, '22023', 'own and own_and_global', 'declare_table', 'no plan for other kinds');
fails(q{SELECT * FROM leyser.protect_plan('app.customer', 'nothing')}, '42703', 'holds the tenant', 'tenant_column', 'no plan without the column');

# Foreign keys.
fails(q{CALL leyser.add_tenant_column('app.customer', 'id')}, '42704', 'It has none', 'ADD FOREIGN KEY', 'no foreign key at all');
fails(q{CALL leyser.add_tenant_column('app.invoice', 'id')}, '42704', 'invoice_customer', 'name of a foreign key', 'no foreign key over this column');
$node->safe_psql('postgres', q{SET ROLE app_owner;
	CREATE TABLE app.a (id int PRIMARY KEY, b_id int);
	CREATE TABLE app.b (id int PRIMARY KEY, a_id int REFERENCES app.a);
	ALTER TABLE app.a ADD CONSTRAINT a_b FOREIGN KEY (b_id) REFERENCES app.b;
	CREATE TABLE app.tree (id int PRIMARY KEY, up int REFERENCES app.tree);
	CREATE TABLE app.grandchild (id int PRIMARY KEY, invoice_id int NOT NULL REFERENCES app.invoice);
	CREATE TABLE app.two (id int REFERENCES app.customer, CONSTRAINT two_b FOREIGN KEY (id) REFERENCES app.b);
	CREATE TABLE app.parts (id int, customer_id int REFERENCES app.customer) PARTITION BY LIST (id);
	CREATE TABLE app.numbered (id int, customer_id int REFERENCES app.customer, tenant_id bigint);
	CREATE TABLE app.sets (id int, customer_id int REFERENCES app.customer ON UPDATE SET NULL);
	CREATE TABLE app.known (id int, customer_id int REFERENCES app.customer);
	CREATE TABLE app.strange (id int, customer_id int REFERENCES app.customer);
	RESET ROLE; ALTER TABLE app.strange OWNER TO other_owner; SELECT leyser.declare_table('app.known', 'ignored', 'test')});
fails(q{CALL leyser.add_tenant_column('app.a', 'a_b')}, '42830', 'app.a → app.b → app.a', 'leads to a table with a tenant', 'a circle of foreign keys');
fails(q{CALL leyser.add_tenant_column('app.tree', 'up')}, '42830', 'app.tree → app.tree', 'leads to a table with a tenant', '... of one');
fails(q{CALL leyser.add_tenant_column('app.grandchild', 'invoice_id')}, '42703', 'gets its tenant from there', q{Begin with the parent: CALL leyser.add_tenant_column\('app.invoice', 'invoice_customer'\)}, 'a parent without the column');
fails(q{CALL leyser.add_tenant_column('app.two', 'id')}, '42702', 'two_b to app.b', 'leads to the tenant', 'two foreign keys over the column');
fails(q{CALL leyser.add_tenant_column('app.parts', 'customer_id')}, '0A000', 'partitioned', 'yourself', 'a partitioned table');
fails(q{CALL leyser.add_tenant_column('app.sets', 'customer_id')}, '0A000', 'ON UPDATE', 'yourself', 'a key that would set the tenant');
fails(q{CALL leyser.add_tenant_column('app.numbered', 'customer_id')}, '42804', 'bigint', 'Drop or rename', 'a column of another type');
fails(q{CALL leyser.add_tenant_column('app.known', 'customer_id')}, 'LY008', 'before it has a kind', 'unprotect', 'a table with a kind');
fails(q{CALL leyser.add_tenant_column('app.strange', 'customer_id')}, '42501', 'child\'s owner', 'OWNER TO', 'a table of another owner');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.work'), '0', 'none of them began a work');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.adoption_record'), '0', '... or changed a table');
$node->safe_psql('postgres', 'DROP TABLE app.a, app.b, app.tree, app.two, app.parts, app.numbered, app.sets, app.known, app.strange CASCADE');

# Rows that have no tenant: told at the beginning, and nothing is done.
$node->safe_psql('postgres', q{INSERT INTO app.invoice VALUES (3, NULL), (4, NULL)});
my $call = q{CALL leyser.add_tenant_column('app.invoice', 'customer_id')};
fails($call, '23502', 'foreign key is null: 2; .*does not exist: 0; .*no tenant: 0', 'goes on', 'rows without a parent');
$node->safe_psql('postgres', q{DELETE FROM app.invoice WHERE id > 2; UPDATE app.customer SET tenant_id = NULL WHERE id = 2});
fails($call, '23502', 'foreign key is null: 0; .*does not exist: 0; .*no tenant: 1', 'goes on', 'rows whose parent has no tenant');
$node->safe_psql('postgres', q{UPDATE app.customer SET tenant_id = 't2' WHERE id = 2; ALTER TABLE app.invoice DROP CONSTRAINT invoice_customer;
	INSERT INTO app.invoice VALUES (5, 99); ALTER TABLE app.invoice ADD CONSTRAINT invoice_customer FOREIGN KEY (customer_id) REFERENCES app.customer NOT VALID});
fails($call, '23503', 'foreign key is null: 0; .*does not exist: 1; .*no tenant: 0', 'goes on', 'orphans');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.invoice'::regclass AND attname = 'tenant_id'}), '0', '... nothing is done');
$node->safe_psql('postgres', q{DELETE FROM app.invoice WHERE id = 5});

# A lock that is not free: nobody waits behind the call for long, and it gives up.
my $holder = open_session($node);
$holder->query('BEGIN; SELECT count(*) FROM app.invoice');
fails(q{CALL leyser.add_tenant_column('app.invoice', 'customer_id', lock_wait => '20 milliseconds', retry_for => '300 milliseconds')}, '55P03', 'lock timeout', 'goes on from here', 'a lock that is not free');
work_is('add_tenant_column|app.invoice|failed', '... the work says so');
$holder->query('COMMIT');
is_refused($node, $call, '', 'the same call goes on');
work_is('add_tenant_column|app.invoice|done', '... to the end');
is($node->safe_psql('postgres', 'SELECT id, tenant_id FROM app.invoice ORDER BY id'), "1|t1\n2|t2", '... every row has its tenant');

# Stopped in the middle, taken back, and begun again: from the beginning.
$node->safe_psql('postgres', q{SET ROLE app_owner;
	CREATE TABLE app.receipt (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer);
	INSERT INTO app.receipt VALUES (1, 1), (2, 2);
	CREATE TABLE app.in_the_way (id int)});
my $index = $node->safe_psql('postgres', q{SELECT leyser.index_name_for('app.receipt', '{3,2}', false)});
$node->safe_psql('postgres', qq{SET ROLE app_owner; CREATE INDEX "$index" ON app.in_the_way (id)});
my $again = q{CALL leyser.add_tenant_column('app.receipt', 'customer_id')};
is_refused($node, $again, '42P07', 'an index of the same name is in the way');
$node->safe_psql('postgres', q{DROP TABLE app.in_the_way; ALTER TABLE app.receipt DROP COLUMN tenant_id;
	DROP TRIGGER zz_leyser_tenant ON app.receipt});
is_refused($node, $again, '', 'the same call where its column is gone');
is($node->safe_psql('postgres', q{SELECT string_agg(id || tenant_id, ' ' ORDER BY id) FROM app.receipt}), '1t1 2t2', '... fills it again');
work_is('add_tenant_column|app.receipt|done', '... to the end');
$node->safe_psql('postgres', q{DROP TABLE app.receipt});

# Rows that cannot be changed: neither the server's word of them nor the owner's code's.
$node->safe_psql('postgres', q{SET ROLE app_owner;
	CREATE TABLE app.checked (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer, note text);
	CREATE TABLE app.once (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer, note text, tenant_id text, UNIQUE (tenant_id, note));
	CREATE TABLE app.loud (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer, note text);
	INSERT INTO app.checked VALUES (1, 1, 'secret'); INSERT INTO app.loud VALUES (1, 1, 'secret'); INSERT INTO app.once VALUES (1, 1, 'secret'), (2, 1, 'secret');
	CREATE FUNCTION app.shout(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'it is %', $1; END$$;
	ALTER TABLE app.checked ADD CONSTRAINT quiet CHECK (note <> 'secret') NOT VALID;
	ALTER TABLE app.loud ADD CHECK (app.shout(note)) NOT VALID});
fails(q{CALL leyser.add_tenant_column('app.checked', 'customer_id')}, '23514', 'constraint "quiet"', 'Mend these rows', 'rows that break a check');
fails(q{CALL leyser.add_tenant_column('app.once', 'customer_id')}, '23505', 'constraint "once_tenant_id_note_key"', 'Mend these rows', '... or a key');
fails(q{CALL leyser.add_tenant_column('app.loud', 'customer_id')}, 'P0001', 'An expression', 'Mend these rows', '... or that the owner\'s code tells');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.work_record WHERE last_error ~ 'secret'}), '0', '... nor in the books');
$node->safe_psql('postgres', q{DELETE FROM app.once WHERE id = 2});
is_refused($node, q{CALL leyser.add_tenant_column('app.once', 'customer_id')}, '', 'mended, the same call goes on');
$node->safe_psql('postgres', q{DROP TABLE app.checked, app.once, app.loud});

# Long names, of which many begin alike, or have few letters for their bytes.
my @long = ('customer_relationship_management_contact_post', 'customer_relationship_management_contact_mail', '顧客管理連絡先明細情報第一二三四五六七八九十');
$node->safe_psql('postgres', qq{SET ROLE app_owner; CREATE TABLE app."$_" (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES app.customer)}) for @long;
is_refused($node, qq{CALL leyser.add_tenant_column('app."$_"', 'customer_id')}, '', "a long name: $_") for @long;
$node->safe_psql('postgres', qq{SET ROLE app_owner; CREATE TABLE app.leaf (id int PRIMARY KEY, up int NOT NULL REFERENCES app."$long[2]")});
is_refused($node, q{CALL leyser.add_tenant_column('app.leaf', 'up')}, '', '... and a second index of it');
$node->safe_psql('postgres', qq{DROP TABLE app.leaf, app."$long[0]", app."$long[1]", app."$long[2]"});

# protect_schema: rows without a tenant, rows that refer to another tenant's.
$node->safe_psql('postgres', q{SET ROLE app_owner; UPDATE app.customer SET tenant_id = NULL WHERE id = 3});
fails(q{CALL leyser.protect_schema('app')}, '23502', 'null in 1 rows', 'own_and_global', 'rows without a tenant');
work_is('protect_schema|app|failed', '... the work says so');
$node->safe_psql('postgres', q{SET ROLE app_owner; UPDATE app.customer SET tenant_id = 't1' WHERE id = 3;
	CREATE TABLE app.note (id int PRIMARY KEY, tenant_id text, customer_id int REFERENCES app.customer);
	INSERT INTO app.note VALUES (1, 't1', 1), (2, 't1', 2)});
fails(q{CALL leyser.protect_schema('app')}, '23503', 'Rows: 1\.', 'Mend these rows', 'rows that refer to another tenant\'s');
$node->safe_psql('postgres', q{UPDATE app.note SET customer_id = 3 WHERE id = 2});
my ($state, $message) = sqlstate_of($node, q{CALL leyser.protect_schema('app')}, user => 'op');
is($state, '', 'an operator goes on') or diag($message);
like($message, qr/WARNING: .*1 tables of schema "app" have no kind/, '... and is told what has no kind');
like($message, qr/app\.grandchild/, '... by name');
is($node->safe_psql('postgres', q{SELECT string_agg(relation::text, ' ' ORDER BY relation::text) FROM leyser.governed_table WHERE kind = 'own'}), 'app.customer app.invoice app.note', 'all are protected');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.protect_plan('app.note')}), '0', 'nothing is left in the plan');
is_refused($node, q{CALL leyser.protect_schema('empty')}, '', 'a schema without tables is protected at once');

# One at a time.
my $lock = open_session($node);
$lock->query(q{BEGIN; LOCK TABLE app.invoice IN ACCESS SHARE MODE});
my $first = open_session($node);
$first->query_until(qr/started/, qq{\\echo started\nCALL leyser.add_tenant_column('app.grandchild', 'invoice_id');\n\\echo ended\n});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM leyser.work WHERE subject = 'app.grandchild' AND state = 'running'}) or die 'it does not run';
fails(q{CALL leyser.add_tenant_column('app.grandchild', 'invoice_id')}, '55P03', 'Process', 'leyser.work', 'a second call while one runs');
$lock->query('COMMIT');
$first->query('SELECT 1');
work_is('add_tenant_column|app.grandchild|done', 'the first one ends');
$_->quit for $holder, $lock, $first;

# The way back takes nobody's constraints with a column.
$node->safe_psql('postgres', q{SELECT leyser.unprotect_all();
	ALTER TABLE app.invoice DROP CONSTRAINT invoice_pkey CASCADE, ADD CONSTRAINT invoice_id UNIQUE (tenant_id, id), ADD CONSTRAINT "of t" CHECK (tenant_id <> 'none')});
is_refused($node, q{ALTER TABLE app.grandchild DROP CONSTRAINT grandchild_invoice_id_fkey}, '', 'a key is dropped');
fails(q{SELECT leyser.undo_adoption()}, '2BP01', 'lost with it: invoice_id, "of t"', 'in their place', 'constraints that need the column', user => 'op');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_constraint WHERE conrelid = 'app.invoice'::regclass AND conname IN ('invoice_id', 'of t')}), '2', '... stay');
$node->safe_psql('postgres', q{ALTER TABLE app.invoice DROP CONSTRAINT "of t", DROP CONSTRAINT invoice_id, ADD PRIMARY KEY (id)});
is_refused($node, q{SELECT leyser.undo_adoption()}, '', '... until there are others', user => 'op');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.invoice'::regclass AND attname = 'tenant_id'}), '0', '... and the column is gone');

# Auditors see the plan and the works.
$node->safe_psql('postgres', q{CREATE ROLE auditor LOGIN; SELECT leyser.grant_usage('auditor', 'auditor')});
is($node->safe_psql('postgres', 'SELECT count(*) > 3, bool_and(done <= total) FROM leyser.work', extra_params => [ '-U', 'auditor' ]), 't|t', 'auditors read the works');
is_refused($node, 'SELECT * FROM leyser.work', '42501', 'strangers do not', user => 'stranger');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT event, ' ') FROM leyser.event WHERE event IN ('column.added', 'schema.protected')}), 'column.added schema.protected', 'both are in the event log');

$node->stop;
done_testing();
