# A table's owner may call protect_schema() and add_tenant_column(), which act with the
# rights of the extension's owner.  What the owner attached to its tables never does.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('owners_code');
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	CREATE ROLE evil LOGIN; CREATE ROLE op LOGIN;
	SELECT leyser.grant_usage('op', 'operator');
	CREATE SCHEMA app AUTHORIZATION evil; CREATE SCHEMA parts AUTHORIZATION evil;
});

# A superuser who runs it makes its author one.
my $evil = q{
	CREATE FUNCTION app.take() RETURNS void VOLATILE LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
			ALTER ROLE evil SUPERUSER;
		END IF;
	END $$;
	CREATE FUNCTION app.any_text(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM app.take(); RETURN true; END $$;
	CREATE FUNCTION app.any_int(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM app.take(); RETURN $1; END $$;
};
sub as_evil
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'evil' ]);
}
sub is_ordinary
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'evil'}), 'f', $name);
	$node->safe_psql('postgres', 'ALTER ROLE evil NOSUPERUSER');
	return;
}
as_evil($evil);

# A domain's checks run for each row where a column of it is added.
as_evil(q{
	CREATE DOMAIN app.tenant AS varchar(40) COLLATE "C" CHECK (app.any_text(VALUE));
	CREATE TABLE app.customer (id int PRIMARY KEY, tenant_id app.tenant NOT NULL);
	CREATE TABLE app.invoice (id int PRIMARY KEY, customer_id int REFERENCES app.customer);
	INSERT INTO app.customer VALUES (1, 't1');
	INSERT INTO app.invoice VALUES (1, 1);
});
as_evil(q{CALL leyser.add_tenant_column('app.invoice', 'customer_id')});
is_ordinary('the domain of a parent\'s tenant column runs nothing with others\' rights');
is($node->safe_psql('postgres', q{SELECT format_type(a.atttypid, a.atttypmod), l.collname FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation
	WHERE a.attrelid = 'app.invoice'::regclass AND a.attname = 'tenant_id'}), 'character varying(40)|C', '... for the child\'s column has the type below it');
is(as_evil(q{INSERT INTO app.invoice VALUES (2, 1); SELECT string_agg(tenant_id, ' ') FROM app.invoice}), 't1 t1', '... and is filled and kept');
as_evil(q{CALL leyser.add_tenant_column('app.invoice', 'customer_id')});
is($node->safe_psql('postgres', q{SELECT string_agg(state, ' ') FROM leyser.work}), 'done done', '... and the same call again finds nothing to do');

# So do functions of an index where a query of its table is planned: that of a foreign key.
as_evil(q{
	CREATE TABLE parts.customer (id int PRIMARY KEY, tenant_id text NOT NULL);
	CREATE TABLE parts.invoice (id int, customer_id int REFERENCES parts.customer, tenant_id text NOT NULL) PARTITION BY RANGE (id);
	CREATE TABLE parts.invoice_1 PARTITION OF parts.invoice FOR VALUES FROM (0) TO (10);
	CREATE INDEX ON parts.invoice_1 ((id + app.any_int(1)));
	CREATE TABLE parts.line (id int PRIMARY KEY, customer_id int REFERENCES parts.customer, tenant_id text NOT NULL);
	CREATE INDEX ON parts.line ((id + app.any_int(1)));
	INSERT INTO parts.customer VALUES (1, 't1');
	INSERT INTO parts.invoice VALUES (1, 1, 't1');
	INSERT INTO parts.line VALUES (1, 1, 't1');
});
my $keys = q{SELECT conrelid::regclass, pg_get_constraintdef(oid), convalidated FROM pg_constraint
	WHERE contype = 'f' AND conrelid::regclass::text ~ '^parts' ORDER BY 1};
my $before = $node->safe_psql('postgres', $keys);
as_evil(q{CALL leyser.protect_schema('parts')});
is_ordinary('an index of a partition runs nothing with others\' rights while a schema is protected');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.governed_table WHERE relation::text ~ '^parts' AND kind = 'own' AND enforcement = 'enforce'}), '4', '... which is protected');
$node->safe_psql('postgres', 'SELECT leyser.unprotect_all()', extra_params => [ '-U', 'op' ]);
$node->safe_psql('postgres', 'SELECT leyser.undo_adoption()', extra_params => [ '-U', 'op' ]);
is_ordinary('... nor when that is taken back');
is($node->safe_psql('postgres', $keys), $before, '... and the foreign keys are as they were');

# What no longer fits is told, and the way back stays whole.
as_evil(q{CALL leyser.protect_schema('parts')});
$node->safe_psql('postgres', 'SELECT leyser.unprotect_all()', extra_params => [ '-U', 'op' ]);
$node->safe_psql('postgres', q{SET session_replication_role = replica; INSERT INTO parts.line VALUES (2, 2, 't1')});
$node->safe_psql('postgres', 'ALTER ROLE evil NOSUPERUSER'); # that INSERT was a superuser's
my ($state, $message) = sqlstate_of($node, 'SELECT leyser.undo_adoption()', user => 'op');
is($state, '23503', 'a row that fits the former key no longer');
like($message, qr/rows of "parts.line" do not fit the foreign key.*HINT:  Mend/s, '... is told');
unlike($message, qr/Key \(/, '... without its values');
as_evil('DELETE FROM parts.line WHERE id = 2');
$node->safe_psql('postgres', 'SELECT leyser.undo_adoption()', extra_params => [ '-U', 'op' ]);
is($node->safe_psql('postgres', $keys), $before, '... until it is mended');

# Tables of another owner, which foreign keys lead to or come from, are not its to change.
$node->safe_psql('postgres', q{
	SELECT leyser.unprotect_all();
	CREATE ROLE other LOGIN; CREATE SCHEMA two; GRANT CREATE, USAGE ON SCHEMA two TO evil, other;
	SET ROLE other; CREATE TABLE two.parent (id int PRIMARY KEY, tenant_id text NOT NULL); GRANT REFERENCES (id) ON two.parent TO evil;
	SELECT leyser.protect('two.parent');
	SET ROLE evil; CREATE TABLE two.child (id int PRIMARY KEY, tenant_id text NOT NULL, up int REFERENCES two.parent (id));
});
my $indexes = q{SELECT count(*) FROM pg_index WHERE indrelid = 'two.parent'::regclass};
is_refused($node, q{CALL leyser.protect_schema('two')}, '42501', 'no index for a parent of another owner', user => 'evil');
is($node->safe_psql('postgres', $indexes), '1', '... is made');
$node->safe_psql('postgres', q{SET ROLE other; CREATE UNIQUE INDEX ON two.parent (tenant_id, id)});
is_refused($node, q{CALL leyser.protect_schema('two')}, '42501', '... and no key to a column that it may not refer to', user => 'evil');
$node->safe_psql('postgres', q{SET ROLE other; GRANT REFERENCES ON two.parent TO evil});
is_refused($node, q{CALL leyser.protect_schema('two')}, '', '... until it may', user => 'evil');
$node->safe_psql('postgres', q{
	SET ROLE evil; CREATE TABLE two.late (id int PRIMARY KEY, tenant_id text NOT NULL); GRANT REFERENCES, SELECT ON two.late TO other;
	SET ROLE other; CREATE TABLE two.theirs (id int PRIMARY KEY, tenant_id text NOT NULL, up int REFERENCES two.late);
	SELECT leyser.protect('two.theirs')});
is_refused($node, q{CALL leyser.protect_schema('two')}, '42501', 'no other key for a child of another owner', user => 'evil');
is($node->safe_psql('postgres', q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'two.theirs'::regclass AND contype = 'f'}),
	'FOREIGN KEY (up) REFERENCES two.late(id)', '... which keeps its own');
is_refused($node, q{CALL leyser.protect_schema('two')}, '', 'an operator may', user => 'op');

$node->stop;
done_testing();
