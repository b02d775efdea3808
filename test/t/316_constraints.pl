# Constraints under row security: validate_constraint() over all tenants, and the SQL of
# key_remedies(), pasted.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('constraints');
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE second LOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE operator LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	GRANT CREATE ON SCHEMA public TO owner, second;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant(t) FROM unnest('{1,2}'::text[]) t;
});
$node->safe_psql('postgres', q{
	CREATE TABLE customer (tenant_id bigint NOT NULL, id int PRIMARY KEY, email text UNIQUE, host text, UNIQUE (tenant_id, id));
	CREATE UNIQUE INDEX customer_host ON customer (lower(host)) WHERE host <> '(none)';
	CREATE UNIQUE INDEX customer_lookup ON customer (host);
	CREATE TABLE purchase (tenant_id bigint NOT NULL, id int PRIMARY KEY, customer int, secret text, amount int,
		CONSTRAINT "of a customer" FOREIGN KEY (customer) REFERENCES customer ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO customer VALUES (1, 1, 'a', 'ha'), (2, 2, 'b', 'hb');
	INSERT INTO purchase VALUES (1, 1, 1, 'secret-one', 5), (2, 2, 2, 'secret-two', 5);
	SELECT leyser.protect('customer');
	SELECT leyser.protect('purchase', accept_gaps => true);
	GRANT ALL ON customer, purchase TO gateway;
	GRANT REFERENCES, SELECT ON customer TO second;
}, extra_params => [ '-U', 'owner' ]);

sub as_role
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# Refused, with a hint, and without any value.
sub is_told
{
	my ($sql, $sqlstate, $pattern, $name, %options) = @_;
	my ($got, $message) = sqlstate_of($node, $sql, user => 'owner', %options);

	is($got, $sqlstate, $name) or diag($message);
	like($message, $pattern, '... and says why');
	like($message, qr/HINT:  \S/, '... and what to do');
	unlike($message, qr/secret|777/, '... and no value');
	return;
}

# A check and a foreign key, over all tenants, by an owner whom row security binds.
as_role('owner', q{ALTER TABLE purchase ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID});
as_role('owner', q{ALTER TABLE purchase ADD CONSTRAINT carried FOREIGN KEY (tenant_id, customer) REFERENCES customer (tenant_id, id) NOT VALID});
is_refused($node, q{ALTER TABLE purchase VALIDATE CONSTRAINT carried}, 'LY007', 'the owner itself cannot validate a foreign key', user => 'owner');
as_role('owner', qq{SELECT leyser.validate_constraint('purchase', '$_')}) for qw(positive carried);
is($node->safe_psql('postgres', q{SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'purchase'::regclass AND convalidated AND conname IN ('positive', 'carried')}),
	'carried positive', 'the owner validates');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'constraint.validated'}), '2', '... which is an event');

# Rows of other tenants that break them.
$node->safe_psql('postgres', q{
	ALTER TABLE purchase DROP CONSTRAINT positive, DROP CONSTRAINT carried, DROP CONSTRAINT "of a customer";
	INSERT INTO purchase VALUES (1, 10, 777, 'secret', -777), (2, 11, 777, 'secret', -777), (2, 12, NULL, 'secret', NULL);
	ALTER TABLE purchase ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID;
	ALTER TABLE purchase ADD CONSTRAINT carried FOREIGN KEY (tenant_id, customer) REFERENCES customer (tenant_id, id) NOT VALID;
});
is_told(q{SELECT leyser.validate_constraint('purchase', 'positive')}, '23514', qr/"positive" of "public.purchase" is violated.*2 rows of 2 tenants/s, 'a check that rows break');
is_told(q{SELECT leyser.validate_constraint('purchase', 'carried')}, '23503', qr/"carried".*2 rows of 2 tenants/s, 'a foreign key that rows break');
is_told(q{SELECT leyser.validate_constraint('purchase', 'carried')}, '23503', qr/2 rows of 2 tenants/, '... also for an operator, who sees no row', user => 'operator');
is($node->safe_psql('postgres', q{SELECT bool_or(convalidated) FROM pg_constraint WHERE conname IN ('carried', 'positive')}), 'f', '... and stays what it was');
$node->safe_psql('postgres', q{UPDATE pg_constraint SET convalidated = true WHERE conname = 'carried'});
is_told(q{SELECT leyser.validate_constraint('purchase', 'carried')}, '23503', qr/2 rows of 2 tenants/, '... and one that is only marked valid');
as_role('owner', q{CREATE FUNCTION loud(int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'value %', $1; END$$;
	ALTER TABLE purchase ADD CONSTRAINT loud CHECK (loud(amount)) NOT VALID});
is_told(q{SELECT leyser.validate_constraint('purchase', 'loud')}, '55000', qr/SQLSTATE P0001/, 'what an expression raises is not told');
as_role('owner', q{ALTER TABLE purchase DROP CONSTRAINT loud;
	CREATE FUNCTION climb(int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
		IF current_user <> 'owner' THEN RAISE EXCEPTION 'as %', current_user USING ERRCODE = '23514'; END IF; RETURN true; END$$;
	ALTER TABLE purchase ADD CONSTRAINT climb CHECK (climb(amount)) NOT VALID});
as_role('operator', q{SELECT leyser.validate_constraint('purchase', 'climb')});
pass('an expression runs as the owner of the table, whoever calls');

# A table that refers to one of another owner.
as_role('second', q{CREATE TABLE visit (tenant_id bigint NOT NULL, customer int, secret text);
	INSERT INTO visit VALUES (1, 1, 'x'), (2, 2, 'x'); SELECT leyser.protect('visit');
	ALTER TABLE visit ADD CONSTRAINT carried FOREIGN KEY (tenant_id, customer) REFERENCES customer (tenant_id, id) NOT VALID});
as_role('second', q{SELECT leyser.validate_constraint('visit', 'carried')});
is($node->safe_psql('postgres', q{SELECT convalidated FROM pg_constraint WHERE conrelid = 'visit'::regclass AND contype = 'f'}), 't', 'a key to a table of another owner is validated');
$node->safe_psql('postgres', q{UPDATE pg_constraint SET convalidated = false WHERE conrelid = 'visit'::regclass;
	SET session_replication_role = replica; INSERT INTO visit VALUES (2, 1, 'secret')});
is_told(q{SELECT leyser.validate_constraint('visit', 'carried')}, '23503', qr/Some rows of some tenants/, '... or found broken', user => 'second');
$node->safe_psql('postgres', q{UPDATE pg_constraint SET convalidated = true WHERE conrelid = 'visit'::regclass});
is_told(q{SELECT leyser.validate_constraint('visit', 'carried')}, '55000', qr/does not see all rows/, '... which cannot be looked at again once it is marked', user => 'second');

# Bad input.
is_told(q{SELECT leyser.validate_constraint('purchase', 'none')}, '42704', qr/"none"/, 'no such constraint');
is_told(q{SELECT leyser.validate_constraint('purchase', 'purchase_pkey')}, '42809', qr/purchase_pkey/, 'a key');
is_told(q{SELECT leyser.validate_constraint(NULL, 'x')}, '42P01', qr/does not exist/, 'no table');
is_told(q{SELECT leyser.validate_constraint('purchase', 'positive')}, '42501', qr/permission denied/, 'neither owner nor operator', user => 'app');
is_told(q{BEGIN; SELECT leyser.enter('1'); SELECT leyser.validate_constraint('purchase', 'positive')}, 'LY007', qr/while a context is set/, 'in a context', user => 'postgres');
my $held = open_session($node, user => 'owner');
$held->query_safe('BEGIN; LOCK TABLE purchase IN SHARE UPDATE EXCLUSIVE MODE');
is_told(q{SELECT leyser.validate_constraint('purchase', 'positive')}, '55P03', qr/3 seconds/, 'a table that is locked');
$held->quit;

# Remedies, pasted: the key as it was, and a row that refers to another tenant's.
$node->safe_psql('postgres', q{
	SET leyser.guards = off;
	DELETE FROM purchase WHERE id > 2; DELETE FROM visit WHERE customer = 1 AND tenant_id = 2;
	ALTER TABLE purchase DROP CONSTRAINT positive, DROP CONSTRAINT carried, DROP CONSTRAINT climb,
		ADD CONSTRAINT "of a customer" FOREIGN KEY (customer) REFERENCES customer ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;
	INSERT INTO purchase VALUES (2, 3, 1, 'secret', 1);
	SELECT leyser.create_lookup('tenant_of_host', 'customer', '{host}');
});
my $remedies = q{SELECT step, key_of, key_name, crossing_rows, remedy IS NULL FROM leyser.key_remedies()};
is(as_role('operator', $remedies), "1|purchase|of a customer|1|f\n2|customer|customer_email_key||f\n2|customer|customer_host||f\n2|customer|customer_pkey||t\n2|purchase|purchase_pkey||f",
	'what does not carry the tenant column, with the rows that refer to another tenant');
is_refused($node, $remedies, '42501', 'not for an application', user => 'app');
# what an interrupted build left is no index to refer to
is($node->safe_psql('postgres', q{BEGIN; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'customer_tenant_id_id_key'::regclass \g /dev/null
	SELECT remedy ~ '^CREATE UNIQUE INDEX CONCURRENTLY ON public.customer \(tenant_id, id\); ALTER' FROM leyser.key_remedies() WHERE step = 1}), 't', 'an unfinished index is made again');

sub paste
{
	my $sql = as_role('operator', q{SELECT remedy FROM leyser.key_remedies() WHERE remedy IS NOT NULL ORDER BY step});
	my ($out, $err);

	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1, extra_params => [ '-U', 'owner' ]);
	return $err;
}
like(paste(), qr/ERROR:.*"of a customer_tenant" of "public.purchase" is violated\nDETAIL:  1 rows of 1 tenants/s, 'rows that refer to another tenant stop it');
is(as_role('operator', q{SELECT count(*) FROM leyser.key_remedies() WHERE step = 1}), '1', '... and the old key is there');
$node->safe_psql('postgres', q{DELETE FROM purchase WHERE id = 3; ALTER TABLE purchase DROP CONSTRAINT "of a customer_tenant"});
unlike(paste(), qr/ERROR/, 'once they are mended, the SQL works as it is');
unlike(paste(), qr/ERROR/, '... and so does what is left after that');
is(as_role('operator', $remedies), '', 'nothing is left');
is($node->safe_psql('postgres', q{SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid = 'purchase'::regclass AND contype = 'f'}),
	'FOREIGN KEY (tenant_id, customer) REFERENCES customer(tenant_id, id) ON UPDATE CASCADE ON DELETE SET NULL (customer) DEFERRABLE INITIALLY DEFERRED|t', 'the foreign key does what it did');
is($node->safe_psql('postgres', q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('p', 'u') AND conrelid IN ('customer'::regclass, 'purchase'::regclass) ORDER BY 1}),
	"PRIMARY KEY (tenant_id, id)\nPRIMARY KEY (tenant_id, id)\nUNIQUE (tenant_id, email)\nUNIQUE (tenant_id, id)", '... the keys carry the tenant');
is($node->safe_psql('postgres', q{SELECT pg_get_indexdef('customer_host_tenant'::regclass)}),
	q{CREATE UNIQUE INDEX customer_host_tenant ON public.customer USING btree (tenant_id, lower(host)) WHERE (host <> '(none)'::text)}, '... and so does an index of an expression');
is($node->safe_psql('postgres', q{SELECT gaps FROM leyser.governed_table WHERE relation = 'purchase'::regclass}), '{}', 'no gap is left');
is(as_role('app', q{SELECT tenant_of_host('hb')}), '2', 'and the look-up has its index');

# Names that would make other SQL of it.
as_role('owner', q{
	CREATE TABLE "odd ADD FOREIGN KEY x" (tenant_id bigint NOT NULL, id int PRIMARY KEY, up int,
		CONSTRAINT "; CREATE TABLE taken_1 (); --" FOREIGN KEY (up) REFERENCES "odd ADD FOREIGN KEY x" ON UPDATE SET NULL);
	CREATE UNIQUE INDEX " public.plain USING b (x); CREATE TABLE taken_2 (); --" ON "odd ADD FOREIGN KEY x" (up);
	CREATE TABLE plain (tenant_id bigint NOT NULL, x int, "(" int);
	CREATE UNIQUE INDEX " public.plain USING btree (x); CREATE TABLE taken_3 ();--" ON plain (x, "(");
	SELECT leyser.protect('"odd ADD FOREIGN KEY x"', accept_gaps => true);
	SELECT leyser.protect('plain');
});
unlike(paste(), qr/ERROR/, 'names with SQL in them are names');
unlike(paste(), qr/ERROR/, '... in what is left after that, too');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '^taken_.$'}), '0', '... and nothing in them runs');
is(as_role('operator', $remedies), '', '... and nothing is left');
is($node->safe_psql('postgres', q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '"odd ADD FOREIGN KEY x"'::regclass AND contype = 'f'}),
	'FOREIGN KEY (tenant_id, up) REFERENCES "odd ADD FOREIGN KEY x"(tenant_id, id) ON UPDATE SET NULL', '... the key is as strict as it was');

$node->stop;
done_testing();
