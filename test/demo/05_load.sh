#!/bin/bash
# pgbench's own TPC-B, ten branches at once, each transaction with its token.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo
echo "== 6. pgbench's own transactions, ten branches at once, a token in each"
sum="SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
before=$(psql -XAtc "$sum")
scripts=()
for bid in 1 2 3 4 5 6 7 8 9 10; do
	token=$(psql -XAt -U bank_gateway -c "SELECT leyser.issue_token('$bid')")
	cat > "$folder/$bid.sql" <<- SQL
		\set aid random(($bid - 1) * 100000 + 1, $bid * 100000)
		\set tid random(($bid - 1) * 10 + 1, $bid * 10)
		\set delta random(-5000, 5000)
		\startpipeline
		BEGIN;
		SELECT set_config('leyser.token', '$token', true);
		UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
		SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
		UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
		UPDATE pgbench_branches SET bbalance = bbalance + :delta;
		INSERT INTO pgbench_history (tid, aid, delta, mtime) VALUES (:tid, :aid, :delta, CURRENT_TIMESTAMP);
		END;
		\endpipeline
	SQL
	scripts+=(-f "$folder/$bid.sql")
done
pgbench -n -U bank_app -M prepared -c 4 -T 5 "${scripts[@]}" postgres 2> /dev/null |
	grep -E "^(number of transactions actually|number of failed|tps)"
echo "   One UPDATE there has no WHERE at all.  Each branch's balance is still the sum of"
echo "   its own history, as a superuser counts it:"
psql -X -q -c "
	SELECT count(*) AS branches,
	       count(*) FILTER (WHERE bbalance = coalesce(h.delta, 0)) AS balances_right
	FROM pgbench_branches b
	LEFT JOIN (SELECT bid, sum(delta) AS delta FROM pgbench_history GROUP BY bid) h USING (bid)"
after=$(psql -XAtc "$sum")
wrong=$(psql -XAtc "
	SELECT count(*) FROM pgbench_branches b
	LEFT JOIN (SELECT bid, sum(delta) AS delta FROM pgbench_history GROUP BY bid) h USING (bid)
	WHERE b.bbalance <> coalesce(h.delta, 0)")
strays=$(psql -XAtc "SELECT count(*) FROM pgbench_history h JOIN pgbench_accounts a USING (aid) WHERE a.bid <> h.bid")
[ "$wrong" = 0 ] && [ "$strays" = 0 ] && [ "$before" = "$after" ] || {
	echo "balances are wrong: $wrong branches, $strays strays, $before before, $after after" >&2
	exit 1
}
