# How a table's owner can hold up a purge: by rights that it took from itself, and by
# code that fails with errors of the server's.  Each is named, and what the owner's code
# says is told to nobody.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('held_up', conf => 'autovacuum = off');
$node->safe_psql('postgres', q{
	CREATE ROLE owner_of_tables LOGIN;
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('operator', 'operator');
	CREATE SCHEMA app AUTHORIZATION owner_of_tables;
});

sub as_owner
{
	return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'owner_of_tables' ]);
}

sub stops
{
	my ($tenant) = @_;

	return $node->safe_psql('postgres', qq{SELECT note || ' => ' || hint FROM leyser.make_purge_plan('$tenant') WHERE action = 'stop'});
}

fill_tenants($node, 100, qw(rights raise other));
as_owner(q{
	CREATE TABLE app.note (tenant_id text NOT NULL, id int, secret text, PRIMARY KEY (tenant_id, id));
	INSERT INTO app.note SELECT t, g, 'secret of ' || t FROM generate_series(1, 50) g, unnest('{rights,raise,other}'::text[]) t;
	SELECT leyser.protect('app.note');
});

# 1. Rights.
as_owner(q{REVOKE SELECT ON app.note FROM owner_of_tables});
end_contracts($node, 'rights');
is(stops('rights'), '"owner_of_tables", who owns "app.note", has no right to read and delete its rows => GRANT SELECT, DELETE ON app.note TO owner_of_tables;',
	'an owner without rights stops the plan');
is_refused($node, q{CALL leyser.purge('rights')}, 'LY008', '... and the purge', user => 'operator');
as_owner(q{GRANT SELECT ON app.note TO owner_of_tables; REVOKE DELETE ON app.note FROM owner_of_tables; REVOKE ALL ON SCHEMA app FROM owner_of_tables});
is(stops('rights'), '"owner_of_tables", who owns "app.note", has no right to use its schema and read and delete its rows => '
	. 'GRANT USAGE ON SCHEMA app TO owner_of_tables; GRANT SELECT, DELETE ON app.note TO owner_of_tables;', 'so do all of them');
as_owner(q{GRANT ALL ON SCHEMA app TO owner_of_tables; GRANT ALL ON app.note TO owner_of_tables});
is(stops('rights'), '', 'nothing stops it once they are given');
# in the middle: whoever writes already is waited for, so that there is time
my $writer = open_session($node);
$writer->query('BEGIN; SELECT pg_current_xact_id() \g /dev/null');
$node->safe_psql('postgres', q{CALL leyser.purge('rights', wait => false)}, extra_params => [ '-U', 'operator' ]);
wait_for_purge($node, 'rights', q{state = 'waiting'}, 'a purge waits');
as_owner(q{REVOKE DELETE ON app.note FROM owner_of_tables});
$writer->query('COMMIT');
wait_for_purge($node, 'rights', q{last_error ~ 'app.note" stops it.*"owner_of_tables", who owns "app.note", has no right to read and delete'}, 'rights that go meanwhile are named');
as_owner(q{GRANT DELETE ON app.note TO owner_of_tables});
is_erased($node, 'rights', '... and it goes on when they are back');

# 2. An index whose function says, with an SQLSTATE of the server's, what it was given.
as_owner(q{
	CREATE FUNCTION app.told(secret text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF session_user <> 'owner_of_tables' THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'it was given: ' || secret;
		END IF;
		RETURN secret;
	END $$;
	CREATE INDEX telling ON app.note (app.told(secret));
});
queue_purges($node, '', 'raise');
blockers_are($node, 'raise', '{index app.telling}', 'an index that fails is named');
like($node->safe_psql('postgres', q{SELECT last_error FROM leyser.purge_status WHERE tenant_id = 'raise'}), qr/an index could not be rebuilt/, '... as the reason');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_status s WHERE to_jsonb(s)::text ~ 'it was given'}), '0', '... but not what its function says');
is($node->safe_psql('postgres', q{SELECT leyser.residue(r, 'it was given') FROM unnest('{leyser.purge_record,leyser.purge_blocker}'::regclass[]) r}), "0\n0",
	'... nor is it kept');
as_owner('DROP INDEX app.telling');
is_erased($node, 'raise', 'without it the purge ends');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT tenant_id, ' ') FROM app.note}), 'other', 'and what others have stays');

$node->stop;
done_testing();
