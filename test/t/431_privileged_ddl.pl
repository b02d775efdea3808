# DDL that runs expressions over all rows is recorded, whoever does it; code that a
# table's owner attached reads nothing unseen within the server's and leyser's own work.

use strict;
use warnings;

use LeyserTest;
use LeyserPrivileged;
use Test::More;

my $node = new_node('ddl');
make_shop($node);
$node->safe_psql('postgres', q{
	GRANT TEMPORARY ON DATABASE postgres TO keeper;
	SET ROLE keeper;
	CREATE TABLE seen (what text);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION leak(amount int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE NOTICE 'amount %', amount; RETURN amount; END $$;
	CREATE DOMAIN money_amount AS int;
	CREATE TABLE priced (tenant_id int NOT NULL, id int, price money_amount, UNIQUE (tenant_id, id));
	CREATE TABLE child (tenant_id int NOT NULL, id int);
	INSERT INTO priced VALUES (1, 1, 5), (2, 2, 6);
	INSERT INTO child VALUES (1, 1), (2, 2);
	SELECT leyser.protect('priced'), leyser.protect('child');
	ALTER TABLE invoice ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID;
});
accessed($node);

# The attack first: FORCE does not keep the owner from the rows.
my ($got, $sqlstate, $message) = accessed_by($node, 'keeper', 'ALTER TABLE invoice ADD CHECK (leak(amount) > 0)');
like($message, qr/NOTICE:.*amount 7\n/, 'an owner under FORCE sees every row by a CHECK') or diag($message);
is($got, 'ddl invoice keeper ADD CHECK ddl 1', '... and it is recorded');

my @statements = (
	[ 'ALTER TABLE invoice ALTER amount TYPE int USING leak(amount)', 'invoice keeper ALTER COLUMN TYPE' ],
	[ 'ALTER TABLE invoice ADD COLUMN twice int GENERATED ALWAYS AS (leak(id)) STORED', 'invoice keeper ADD COLUMN GENERATED' ],
	[ 'ALTER TABLE invoice ADD COLUMN more int CHECK (leak(id) > 0)', 'invoice keeper ADD CHECK' ],
	[ 'ALTER TABLE invoice VALIDATE CONSTRAINT positive', 'invoice keeper VALIDATE CONSTRAINT' ],
	[ 'CREATE INDEX ON invoice (leak(id))', 'invoice keeper CREATE INDEX (expression)' ],
	[ 'CREATE INDEX ON invoice (id) WHERE leak(id) > 0', 'invoice keeper CREATE INDEX WHERE' ],
	[ 'CREATE STATISTICS st ON (leak(id)) FROM invoice', 'invoice keeper CREATE STATISTICS' ],
	[ 'ALTER DOMAIN money_amount ADD CHECK (leak(VALUE) > 0)', 'priced keeper ALTER DOMAIN' ]);
sub each_is
{
	my ($kind, $wanted, $when) = @_;

	foreach (@statements)
	{
		my ($got, $sqlstate, $message) = accessed_by($node, 'keeper', "BEGIN; $_->[0]; ROLLBACK");
		is("$sqlstate|$got", "$wanted|$kind $_->[1] ddl 1", "$when: $_->[0]") or diag($message);
	}
	return;
}
each_is('ddl', '', 'recorded once, though it is rolled back');

# A superuser's foreign key is checked by the server with a query of its own.
($got, $sqlstate, $message) = accessed_by($node, 'boss', 'ALTER TABLE child ADD FOREIGN KEY (tenant_id, id) REFERENCES priced (tenant_id, id)');
is("$sqlstate|$got", '|ddl child boss ADD FOREIGN KEY superuser 1', 'a foreign key counts once') or diag($message);
($got) = accessed_by($node, 'boss', q{CREATE FUNCTION hidden() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
	SELECT fk.amount INTO n FROM invoice fk LIMIT 1; RETURN n; END $$; CREATE TEMP TABLE t AS SELECT hidden()});
is($got, 'access invoice boss SELECT superuser 1', 'a query that looks like the server\'s own counts');
($got, $sqlstate, $message) = accessed_by($node, 'boss', q{CREATE TABLE bench (tenant_id int NOT NULL, id int); INSERT INTO bench VALUES (1, 1);
	ALTER TABLE bench ADD CHECK (hidden() > 0)});
is("$sqlstate|$got", '|access invoice boss SELECT superuser 1', '... also within an ALTER TABLE of another table') or diag($message);
($got, $sqlstate, $message) = accessed_by($node, 'boss', q{ALTER TABLE bench ADD FOREIGN KEY (tenant_id, id) REFERENCES priced (tenant_id, id), ADD CHECK (hidden() <> 0)});
is("$sqlstate|$got", '|access invoice boss SELECT superuser 1', '... that adds a foreign key, too') or diag($message);
$node->safe_psql('postgres', 'DROP TABLE bench');
($got) = accessed_by($node, 'keeper', q{ALTER TABLE invoice ADD COLUMN plain int; ALTER TABLE invoice ALTER plain SET DEFAULT 4; COMMENT ON TABLE invoice IS 'x';
	CREATE INDEX ON invoice (plain); ALTER TABLE invoice DROP COLUMN plain; ALTER TABLE seen ADD CHECK (leak(1) > 0)});
is($got, '', 'DDL that runs nothing over a protected table\'s rows does not count');

# leyser's own DDL and queries.
($got, $sqlstate, $message) = accessed_by($node, 'postgres', q{SELECT leyser.validate_constraint('invoice', 'positive')});
is("$sqlstate|$got", '|', 'validate_constraint() is leyser\'s own work') or diag($message);
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'constraint.validated'}), '1', '... which has its own event');

# An owner's trigger runs within the server's cascade, with the owner's rights and no
# row security: what it reads is seen.
$node->safe_psql('postgres', q{
	SET ROLE keeper;
	CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO seen SELECT string_agg(amount::text, ',') FROM invoice; RETURN OLD; END $$;
	CREATE TRIGGER spy BEFORE DELETE ON line FOR EACH ROW EXECUTE FUNCTION spy();
});
($got, $sqlstate, $message) = accessed_by($node, 'app', q{BEGIN; SELECT leyser.enter('1'); DELETE FROM invoice WHERE id = 3; COMMIT});
is("$sqlstate|$got", '|access invoice keeper SELECT owner 1', 'what an owner\'s trigger reads within a cascade is recorded') or diag($message);
$node->safe_psql('postgres', 'SET ROLE keeper; DROP TRIGGER spy ON line');

# A function of an index, which leyser's own count runs as it plans.
$node->safe_psql('postgres', q{
	SET ROLE keeper;
	CREATE FUNCTION peek(id int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM FROM public.line LIMIT 1; RETURN id; END $$;
	CREATE TABLE bait (tenant_id int NOT NULL, id int);
	INSERT INTO bait VALUES (1, 1), (2, 2);
	SELECT leyser.protect('bait');
	ALTER TABLE bait ADD CONSTRAINT peeks CHECK (peek(id) > 0) NOT VALID;
});
($got, $sqlstate, $message) = accessed_by($node, 'postgres', q{SELECT leyser.validate_constraint('bait', 'peeks')});
like($got, qr/^access line keeper SELECT owner \d+$/, 'what an owner\'s function reads within leyser\'s own work is recorded') or diag("$sqlstate $message");

# Refused: migrations need a window.
set_access($node, 'refuse');
each_is('refused', 'LY007', 'refused');
my $window = $node->safe_psql('postgres', q{SELECT leyser.open_privileged_access('keeper', 'migration')});
each_is('ddl', '', 'in a window');
is($node->safe_psql('postgres', qq{SELECT count(*) > 0 AND bool_and(window_id = $window) FROM leyser.privileged_access WHERE event = 'privileged.ddl' AND at > (SELECT opened_at FROM leyser.privileged_window)}),
	't', '... with its number');

done_testing();
