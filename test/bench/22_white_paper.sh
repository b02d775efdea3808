#!/bin/bash
# white_paper(), its page and metrics() over 10,000 tenants, of which 500 are erased, 1,000,000
# accounts, 1,000 backup generations, 200,000 events and 100 protected tables; and what
# each clause takes.

. "$(dirname "$0")/figures.sh"

sql -o /dev/null <<- 'EOS'
	SET client_min_messages = error;
	CREATE ROLE keeper;
	CREATE ROLE app LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE monitor LOGIN;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('monitor', 'monitor');
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO app;
	SET leyser.guards = off;
	SELECT format('CREATE TABLE shop.t%s (tenant_id text NOT NULL, id uuid, amount numeric, PRIMARY KEY (tenant_id, id))'
		'; ALTER TABLE shop.t%1$s OWNER TO keeper; GRANT SELECT, INSERT, UPDATE, DELETE ON shop.t%1$s TO app', g)
	FROM generate_series(1, 100) g
	\gexec
	SELECT leyser.protect(format('shop.t%s', g)::regclass) FROM generate_series(1, 100) g;
	INSERT INTO leyser.tenant_record (tenant_id, name, region, state, ends_at)
		SELECT 'tenant ' || g, 'Customer ' || g, 'JP', CASE WHEN g <= 500 THEN 'erased' WHEN g <= 520 THEN 'held' ELSE 'active' END,
			CASE WHEN g <= 520 THEN now() - interval '40 days' END
		FROM generate_series(1, 10000) g;
	INSERT INTO leyser.hold_record SELECT 'tenant ' || g, 'a law', current_date + 90, 'operator' FROM generate_series(501, 520) g;
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		SELECT 'tenant ' || 521 + g % 9480, 'account ' || g, 'account ' || g, 'active' FROM generate_series(1, 1000000) g;
	INSERT INTO leyser.contact_record (tenant_id, kind, address, language, added_by)
		SELECT 'tenant ' || g, 'contract_holder', 'c' || g || '@example.com', 'ja', 'operator' FROM generate_series(521, 10000) g;
	CALL leyser.tick();
	SELECT leyser.begin_backup('first', '/backups', 'JP');
	-- a thousand days, of which the policy keeps the last week
	INSERT INTO leyser.generation_record (state, kind, tool, label, region, location, system_identifier, timeline, start_lsn, stop_lsn,
			started_at, completed_at, verified_at, expired_at, deleted_at, bytes, recorded_by, recorded_at)
		SELECT CASE WHEN g <= 7 THEN 'verified' ELSE 'deleted' END, 'full', 'manual', 'daily ' || g, 'JP', '/backups', leyser.this_system(), 1,
			'0/1000000', '0/1000001', t, t + interval '1 hour', t + interval '2 hours', CASE WHEN g > 7 THEN t + interval '8 days' END,
			CASE WHEN g > 7 THEN t + interval '8 days' END, 1000000000, 'backup', t
		FROM generate_series(1, 1000) g CROSS JOIN LATERAL (SELECT now() - g * interval '1 day' AS t) d;
	INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, queued_at, started_at, deleted_at, scrub_end_lsn, erased_at,
			scrub_system, scrub_timeline)
		SELECT 'tenant ' || g, 'erased', 5000, 0, 'operator', t, t, t, pg_lsn('0/1000000') + g * 16, t, leyser.this_system(), 1
		FROM generate_series(1, 500) g CROSS JOIN LATERAL (SELECT now() - (g % 40) * interval '1 day' AS t) d;
	SELECT leyser.insert_event(clock_timestamp(), 'row.updated', 'tenant ' || 521 + g % 9480, 'app', 'app', NULL, NULL, 'shop.t1', '{"rows": 1}')
		FROM generate_series(1, 200000) g;
	SELECT leyser.seal_events();
	VACUUM ANALYZE;
	UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job IN ('verify events', 'note clauses');
	CALL leyser.tick('1 hour');
EOS

# Milliseconds of five calls in one session, one a line; the first is left out.
calls()
{
	{
		printf '\\timing on\n'
		yes "SELECT count(*) FROM $2;" | head -n 6
	} | sql -U "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 5
}

tell "tenants, accounts, generations, events" "$(sql -c "SELECT (SELECT count(*) FROM leyser.tenant_record), (SELECT count(*) FROM leyser.account_record),
	(SELECT count(*) FROM leyser.generation_record), (SELECT count(*) FROM leyser.event_record)")"
judge "white_paper(), ms (median of 5)" "$(calls auditor 'leyser.white_paper()' | median)" "at most" 1000
judge "white_paper('ja'), ms" "$(calls auditor "leyser.white_paper('ja')" | median)" "at most" 1000
for page in "'en'" "'ja'" "'en', true"; do
	judge "white_paper_html($page), ms" "$(calls auditor "leyser.white_paper_html($page)" | median)" "at most" 2000
	judge "... bytes" "$(sql -U auditor -c "SELECT octet_length(leyser.white_paper_html($page))")" "at most" 1000000
done
judge "metrics(), ms" "$(calls monitor 'leyser.metrics()' | median)" "at most" 200
tell "what of it is the security check, ms" "$(calls postgres 'leyser.look_at_findings()' | median)"
tell "what of it are alerts, ms" "$(calls postgres 'leyser.look_at_alerts()' | median)"
for clause in $(sql -c 'SELECT clause FROM leyser.white_paper_clauses() ORDER BY number'); do
	tell "clause $clause by itself, ms" "$(calls postgres "leyser.judge_${clause/./_}(ROW('en', true, '{}', '{}')::leyser.clause_look)" | median)"
done
for group in service events erasure backups schedule checks mail; do
	tell "group $group of metrics(), ms" "$(calls postgres "leyser.measure_$group()" | median)"
done
tell "samples of metrics()" "$(sql -U monitor -c 'SELECT count(*) FROM leyser.metrics()')"
finish
