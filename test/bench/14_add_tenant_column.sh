#!/bin/bash
# The tenant column of a child table with many rows, against one plain UPDATE of a like
# table in batches of the same size, by an index, with a commit each: what somebody does
# who fills the column by hand, without a thought for who writes meanwhile.  LEYSER_ROWS
# (10 million) says how many rows.

. "$(dirname "$0")/figures.sh"

rows=${LEYSER_ROWS:-10000000}
batch=10000

sql <<- EOS
	CREATE TABLE parent (id bigint PRIMARY KEY, tenant_id bigint NOT NULL);
	INSERT INTO parent SELECT g, g % 100 FROM generate_series(1, $rows / 100) g;
	CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint NOT NULL REFERENCES parent, amount numeric, note text);
	INSERT INTO child SELECT g, (g::bigint * 7919) % ($rows / 100) + 1, g, 'a row of some length' FROM generate_series(1, $rows) g;
	CREATE TABLE plain (LIKE child INCLUDING ALL);
	ALTER TABLE plain ADD FOREIGN KEY (parent_id) REFERENCES parent;
	INSERT INTO plain SELECT * FROM child;
	ALTER TABLE plain ADD COLUMN tenant_id bigint;
	VACUUM (ANALYZE) parent, child, plain;
	CHECKPOINT;
	CREATE PROCEDURE fill_plain() LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR low IN 1 .. $rows BY $batch LOOP
			UPDATE plain c SET tenant_id = p.tenant_id FROM parent p
				WHERE p.id = c.parent_id AND c.id BETWEEN low AND low + $batch - 1;
			COMMIT;
		END LOOP;
	END \$\$;
EOS

# Prints the seconds that a call takes.
took()
{
	local began=$EPOCHREALTIME
	sql -c 'SET client_min_messages = error' -c "$1" > /dev/null || fail "$1 failed"
	awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", b - a }'
}

ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f\n", a / b }'
}

plain=$(took 'CALL fill_plain()')
sql -c 'CHECKPOINT'
whole=$(took "CALL leyser.add_tenant_column('child', 'parent_id', batch_size => $batch)")
# from the first batch to the constraint that ends the filling
filled=$(sql -c "SELECT round(extract(epoch FROM n.changed_at - c.changed_at), 1) FROM leyser.adoption_record c, leyser.adoption_record n
	WHERE c.change = 'trigger' AND n.change = 'not_null'")
[ "$(sql -c 'SELECT count(*) FROM child c JOIN parent p ON p.id = c.parent_id AND p.tenant_id = c.tenant_id')" = "$rows" ] ||
	fail "not all rows have their tenant"
tell "a plain UPDATE in batches of $batch rows, of $rows, s" "$plain"
tell "add_tenant_column: rows filled and NOT NULL, s" "$filled"
tell "... with its indexes and foreign key, s" "$whole"
tell "speed of the filling, of that of the plain UPDATE" "$(ratio "$plain" "$filled")"
judge "speed of the whole call, of that of the plain UPDATE" "$(ratio "$plain" "$whole")" "at least" 0.7
finish
