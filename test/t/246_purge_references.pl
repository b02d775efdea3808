# References to a tenant's rows, and rules, that somebody makes between the plan of a
# purge and its deletions: nobody else's row is touched, and what stops it is named.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('references', conf => 'autovacuum = off');
$node->safe_psql('postgres', q{
	CREATE TABLE page (tenant_id text NOT NULL, id int UNIQUE, up int, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, up) REFERENCES page);
	CREATE TABLE note (tenant_id text NOT NULL, id int, about int, page int);
	CREATE TABLE copy_of_item (tenant_id text, id int, purchase int, content text);
	SELECT leyser.protect(r, accept_gaps => true) FROM unnest('{page,note}'::regclass[]) r;
	SELECT leyser.declare_table('copy_of_item', 'ignored', 'nothing in it counts');
});

# Plans the purge of a tenant and, before anything else can happen, runs statements;
# then the purge goes its way.
sub purge_after_plan
{
	my ($tenant, $statements) = @_;

	end_contracts($node, $tenant);
	$node->safe_psql('postgres', qq{BEGIN; SELECT leyser.queue_purge('$tenant', 5000, 0, 'postgres'); $statements; COMMIT;});
	$node->safe_psql('postgres', qq{CALL leyser.purge('$tenant', wait => false)});
	return;
}

sub fill
{
	my ($tenant, $first) = @_;

	fill_tenants($node, 50, $tenant);
	$node->safe_psql('postgres', qq{INSERT INTO page SELECT '$tenant', g, nullif(g, $first) - 1 FROM generate_series($first, $first + 9) g});
	return;
}

my $first = 100;
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('other')});
foreach my $action ('CASCADE', 'SET NULL')
{
	my $tenant = lc($action =~ tr/ /_/r);

	# a key that was made since: page is emptied as a circle, purchase by itself
	fill($tenant, $first);
	$node->safe_psql('postgres', "INSERT INTO note VALUES ('other', 1, NULL, $first)");
	purge_after_plan($tenant, qq{
		SET LOCAL leyser.guards = off;
		ALTER TABLE note ADD CONSTRAINT made_since FOREIGN KEY (page) REFERENCES page (id) ON DELETE $action});
	wait_for_purge($node, $tenant, q{last_error ~ 'table "(public\.)?note" stops it.*made_since'}, "$action: a foreign key made since the plan stops the purge");
	is($node->safe_psql('postgres', 'SELECT tenant_id, page FROM note'), "other|$first", '... and the row of another is what it was');
	$node->safe_psql('postgres', 'DELETE FROM note');
	is_erased($node, $tenant, '... until it is gone');

	# a row that was made since
	$first += 100;
	fill("row_$tenant", $first);
	purge_after_plan("row_$tenant", qq{INSERT INTO note VALUES ('other', 1, NULL, $first)});
	wait_for_purge($node, "row_$tenant", q{last_error ~ 'table "(public\.)?note" stops it.*made_since'}, "$action: so does a row");
	is($node->safe_psql('postgres', 'SELECT tenant_id, page FROM note'), "other|$first", '... and it is what it was');
	$node->safe_psql('postgres', 'DELETE FROM note');
	is_erased($node, "row_$tenant", '... until it is gone');

	$node->safe_psql('postgres', 'ALTER TABLE note DROP CONSTRAINT made_since');

	# a table that is emptied by itself, batch by batch
	fill("alone_$tenant", $first += 100);
	$node->safe_psql('postgres', qq{
		ALTER TABLE copy_of_item ADD COLUMN customer int, ADD COLUMN customer_of text;
		INSERT INTO copy_of_item (customer, customer_of) VALUES (1, 'alone_$tenant')});
	purge_after_plan("alone_$tenant", qq{
		ALTER TABLE copy_of_item ADD CONSTRAINT made_since FOREIGN KEY (customer_of, customer) REFERENCES customer ON DELETE $action});
	wait_for_purge($node, "alone_$tenant", q{last_error ~ 'copy_of_item" stops it.*made_since'}, "$action: so does one to a table that is emptied by itself");
	is($node->safe_psql('postgres', 'SELECT customer_of, customer FROM copy_of_item'), "alone_$tenant|1", '... and the row is what it was');
	$node->safe_psql('postgres', 'DELETE FROM copy_of_item');
	is_erased($node, "alone_$tenant", '... until it is gone');
	$node->safe_psql('postgres', 'ALTER TABLE copy_of_item DROP CONSTRAINT made_since, DROP COLUMN customer, DROP COLUMN customer_of');
	$first += 100;
}

# Keys of every make: what they compare is checked for a batch at once, or, where that
# could be another comparison than theirs, by the server's triggers.
$node->safe_psql('postgres', q{
	CREATE SCHEMA "odd ""schema";
	CREATE DOMAIN short AS text CHECK (length(VALUE) < 100);
	CREATE TYPE mood AS ENUM ('1', '2');
	CREATE COLLATION others (provider = icu, locale = 'und');
});
my ($parents, $children) = (q{"odd ""schema"."Par'ent"}, q{"odd ""schema"."Child ♥"});
my $made = 0;
foreach my $key (['int', 'bigint'], ['text', 'varchar(9)'], ['short', 'short'], ['mood', 'mood'], ['int[]', 'int[]'], ['text', 'text COLLATE others'])
{
	my ($referred, $referring) = @$key;
	my $tenant = 'key' . ++$made;
	my $value = $referred eq 'int[]' ? '{1}' : '1';
	my ($kind, $part) = $made % 2 ? ('', '') : ('PARTITION BY HASH (whose)', "CREATE TABLE part PARTITION OF $children FOR VALUES WITH (MODULUS 1, REMAINDER 0)");

	$node->safe_psql('postgres', qq{
		SELECT leyser.create_tenant('$tenant');
		CREATE TABLE $parents ("Tenant id" text NOT NULL, "id""" $referred NOT NULL, more text, PRIMARY KEY ("id""", "Tenant id"));
		CREATE TABLE $children (whose text NOT NULL, "Ref" $referring) $kind;
		$part;
		SELECT leyser.protect(\$\$$parents\$\$, 'Tenant id', accept_gaps => true);
		SELECT leyser.declare_table(\$\$$children\$\$, 'ignored', 'nothing in it counts');
		INSERT INTO $parents VALUES ('$tenant', '$value'), ('other', '$value');
		INSERT INTO $children VALUES ('other', '$value'), ('other', NULL)});
	purge_after_plan($tenant, qq{
		ALTER TABLE $children ADD CONSTRAINT "made ""since" FOREIGN KEY (whose, "Ref") REFERENCES $parents ("Tenant id", "id""");
		INSERT INTO $children VALUES ('$tenant', '$value')});
	wait_for_purge($node, $tenant, q{last_error ~ 'stops it.*made "+since'}, "a key of $referring to $referred stops the purge");
	is($node->safe_psql('postgres', qq{SELECT string_agg("Tenant id", ',' ORDER BY "Tenant id" COLLATE "C") FROM $parents}), "$tenant,other", '... and nothing is gone');
	$node->safe_psql('postgres', qq{DELETE FROM $children WHERE whose = '$tenant'});
	is_erased($node, $tenant, '... until the row is gone');
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM $parents p JOIN $children c ON c.whose = p."Tenant id"}), '2', '... and those of another are there');
	$node->safe_psql('postgres', "DROP TABLE $children, $parents");
}

# Keys that begin alike are others; a trigger that calls the function of a foreign
# key's, as old dumps have them, is a user's trigger.
foreach my $type ('char(4)', 'bpchar', 'bit(4)', 'bit varying')
{
	my $tenant = 'alike' . ++$made;

	$node->safe_psql('postgres', qq{
		SELECT leyser.create_tenant('$tenant');
		CREATE TABLE coin (tenant_id text NOT NULL, code $type PRIMARY KEY);
		CREATE TABLE purse (code $type REFERENCES coin);
		SELECT leyser.protect('coin', accept_gaps => true);
		SELECT leyser.declare_table('purse', 'ignored', 'nothing in it counts');
		CREATE CONSTRAINT TRIGGER by_hand AFTER DELETE ON coin FROM purse FOR EACH ROW
			EXECUTE FUNCTION "RI_FKey_noaction_del"('by_hand', 'purse', 'coin', 'UNSPECIFIED', 'code', 'code');
		INSERT INTO coin VALUES ('$tenant', '1010'), ('other', '1011');
		INSERT INTO purse VALUES ('1011')});
	queue_purges($node, '', $tenant);
	is_erased($node, $tenant, "a key of $type that begins like one of another is not that one");
	is($node->safe_psql('postgres', 'SELECT c.tenant_id, c.code FROM coin c JOIN purse USING (code)'), 'other|1011', '... which stays');
	$node->safe_psql('postgres', 'DROP TABLE purse, coin');
}

# A row that somebody has not committed yet is waited for; then it stops the purge, and
# nobody is waited for any longer.
fill('waits', $first);
$node->safe_psql('postgres', 'SET leyser.guards = off; ALTER TABLE note ADD FOREIGN KEY (page) REFERENCES page (id)');
my $writer = open_session($node);
$writer->query("BEGIN; INSERT INTO note VALUES ('other', 1, NULL, $first)");
queue_purges($node, '', 'waits');
wait_for_purge($node, 'waits', q{state = 'waiting' AND blockers[1] ~ 'has locked public.note'}, 'who has inserted a row that refers to one that goes is waited for');
$writer->query('COMMIT');
$writer->quit;
wait_for_purge($node, 'waits', q{last_error ~ 'table "(public\.)?note" stops it' AND blockers = '{}'}, '... until it is there, and stops the purge');
is($node->safe_psql('postgres', 'SELECT tenant_id, page FROM note'), "other|$first", '... and it is what it was');
$node->safe_psql('postgres', 'DELETE FROM note');
is_erased($node, 'waits', '... until it is gone');

# A rule keeps the rows, or a copy of them.
foreach my $rule ('INSTEAD NOTHING', 'ALSO INSERT INTO copy_of_item VALUES (OLD.*)')
{
	my $tenant = lc((split / /, $rule)[0]);

	fill($tenant, $first += 100);
	purge_after_plan($tenant, "CREATE RULE made_since AS ON DELETE TO item DO $rule");
	wait_for_purge($node, $tenant, q{last_error ~ 'item" stops it.*made_since'}, "a rule DO $rule that was made since the plan stops the purge");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM copy_of_item'), '0', '... before it does anything');
	$node->safe_psql('postgres', 'DROP RULE made_since ON item');
	is_erased($node, $tenant, '... until it is gone');
}

$node->stop;
done_testing();
