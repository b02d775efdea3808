#!/bin/bash
# check_security() over 1,000 protected tables and 5,000 policies, each table with keys,
# an index and rights; and what each family of rules takes.

. "$(dirname "$0")/figures.sh"

sql -o /dev/null <<- 'EOS'
	SET client_min_messages = error;
	CREATE ROLE keeper;
	CREATE ROLE app LOGIN;
	SELECT leyser.grant_usage('app', 'application');
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO app;
	SET leyser.guards = off;
	SELECT format('CREATE TABLE shop.t%s (tenant_id bigint NOT NULL, id uuid, parent uuid, amount numeric, PRIMARY KEY (tenant_id, id)'
		', FOREIGN KEY (tenant_id, parent) REFERENCES shop.t%1$s (tenant_id, id)); CREATE INDEX ON shop.t%1$s (tenant_id, parent)'
		'; ALTER TABLE shop.t%1$s OWNER TO keeper; GRANT SELECT, INSERT, UPDATE, DELETE ON shop.t%1$s TO app', g)
	FROM generate_series(1, 1000) g
	\gexec
	SELECT leyser.protect(format('shop.t%s', g)::regclass) FROM generate_series(1, 1000) g;
	SELECT format('CREATE POLICY narrower%s ON shop.t%s AS RESTRICTIVE USING (amount > %1$s)', p, g)
	FROM generate_series(1, 1000) g, generate_series(1, 3) p
	\gexec
	VACUUM ANALYZE;
EOS

# Milliseconds of five calls in one session, one a line; the first is left out.
calls()
{
	{
		printf '\\timing on\n'
		yes "SELECT count(*) FROM leyser.check_security(${1:-});" | head -n 6
	} | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 5
}

tell "tables, policies" "$(sql -c "SELECT (SELECT count(*) FROM leyser.table_record), count(*) FROM pg_policy")"
judge "check_security(), ms (median of 5)" "$(calls | median)" "at most" 2000
for family in $(sql -c 'SELECT DISTINCT family FROM leyser.check_rule ORDER BY 1'); do
	tell "family $family, ms" "$(calls "'$family'" | median)"
done
finish
