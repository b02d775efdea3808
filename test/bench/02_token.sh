#!/bin/bash
# What setting a token costs beside setting any other setting, and what a getter
# costs a row beside an empty C function.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tenant=0b7c2f6e-3f5c-4c62-9d0b-5d9d8a1f4e11

openssl genpkey -algorithm ed25519 -out "$folder/issuer.pem" 2> /dev/null
openssl pkey -in "$folder/issuer.pem" -pubout -out "$folder/public.pem"

sql -o /dev/null -v pem="$(cat "$folder/public.pem")" -v tenant="$tenant" <<- 'EOS'
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
	SELECT leyser.create_tenant('42'), leyser.create_tenant(:'tenant');
	SELECT leyser.add_issuer_key('bench', :'pem', 'https://issuer.example', 'bench');
EOS
hs256=$(sql -c "SELECT leyser.issue_token('42', lifetime => '1 hour')")

# ---- server-side loops, in nanoseconds a call ----

# Times a loop of PERFORM.  Arguments: an expression, how many times.
loop()
{
	sql -U bench_app <<- EOS
		BEGIN;
		DO \$\$
		DECLARE
		    started timestamptz;
		BEGIN
		    PERFORM $1 FROM generate_series(1, 100);
		    started := clock_timestamp();
		    FOR i IN 1 .. $2 LOOP
		        PERFORM $1;
		    END LOOP;
		    PERFORM set_config('app.ns', round(extract(epoch FROM clock_timestamp() - started)
		        * 1e9 / $2)::text, true);
		END \$\$;
		SELECT current_setting('app.ns');
		COMMIT;
	EOS
}

rounds=9
for ((i = 0; i < rounds; i++)); do
	loop "set_config('app.token', '$hs256', true)" 20000 >> "$folder/plain"
	loop "set_config('leyser.token', '$hs256', true)" 20000 >> "$folder/hs256"
done
plain=$(median < "$folder/plain")
again=$(median < "$folder/hs256")
tell "set_config of a setting of one's own, ns" "$plain"
tell "set_config of leyser.token, HS256, seen before, ns" "$again"

# ---- tokens that the connection has not seen before ----

base64url()
{
	openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# Prints a token signed by the issuer.  Arguments: anything that makes it different.
sign()
{
	local signed
	signed=$(printf '{"alg":"EdDSA","kid":"bench"}' | base64url).$(
		printf '{"iss":"https://issuer.example","aud":"bench","tenant":"42","exp":%s,"jti":"%s"}' \
			"$(($(date +%s) + 3600))" "$1" | base64url)
	printf '%s' "$signed" > "$folder/signed"
	openssl pkeyutl -sign -rawin -inkey "$folder/issuer.pem" -in "$folder/signed" \
		-out "$folder/signature"
	printf '%s.%s\n' "$signed" "$(base64url < "$folder/signature")"
}

# Nanoseconds to set each token of a kind once, in a new connection; the first of
# them is set beforehand.  Arguments: the kind.
first_time()
{
	sql -U bench_app <<- EOS
		BEGIN;
		DO \$\$
		DECLARE
		    tokens text[] := array_agg(token ORDER BY n) FROM token WHERE kind = '$1';
		    one text;
		    started timestamptz;
		BEGIN
		    PERFORM set_config('leyser.token', tokens[1], true);
		    started := clock_timestamp();
		    FOREACH one IN ARRAY tokens[2:] LOOP
		        PERFORM set_config('leyser.token', one, true);
		    END LOOP;
		    PERFORM set_config('app.ns', round(extract(epoch FROM clock_timestamp() - started)
		        * 1e9 / (cardinality(tokens) - 1))::text, true);
		END \$\$;
		SELECT current_setting('app.ns');
		COMMIT;
	EOS
}

sql -o /dev/null <<- 'EOS'
	CREATE TABLE token (n serial, kind text, token text);
	GRANT SELECT ON token TO bench_app;
	INSERT INTO token (kind, token) SELECT 'hs256', leyser.issue_token('42', lifetime => n * interval '1 second')
	    FROM generate_series(3600, 8600) n;
EOS
for ((i = 0; i < 200; i++)); do
	sign "$i"
done > "$folder/eddsa"
sql -c "\\copy token (token) FROM '$folder/eddsa'" -c "UPDATE token SET kind = 'eddsa' WHERE kind IS NULL"
for ((i = 0; i < rounds; i++)); do
	first_time hs256 >> "$folder/hs256.first"
	first_time eddsa >> "$folder/eddsa.first"
	loop "set_config('leyser.token', '$(head -n 1 "$folder/eddsa")', true)" 20000 \
		>> "$folder/eddsa.again"
done
tell "... HS256, the first time in a connection, ns" "$(median < "$folder/hs256.first")"
tell "... EdDSA, seen before, ns" "$(median < "$folder/eddsa.again")"
tell "... EdDSA, the first time in a connection, ns" "$(median < "$folder/eddsa.first")"

# Arguments: nanoseconds with a token.
microseconds_more()
{
	awk -v a="$1" -v b="$plain" 'BEGIN { printf "%.2f", (a - b) / 1000 }'
}

judge "in a loop: an HS256 token costs more by, µs" "$(microseconds_more "$again")" "at most" 5
judge "in a loop: one never seen before costs more by, µs" \
	"$(microseconds_more "$(median < "$folder/hs256.first")")" "at most" 5

# ---- the same from a client: a transaction in one round trip ----

for setting in app.token leyser.token; do
	printf '%s\n' '\startpipeline' 'BEGIN;' "SELECT set_config('$setting', :token, true);" 'END;' \
		'\endpipeline' > "$folder/$setting"
done

{
	read -r plain
	read -r token
} < <(take_turns 20 1 "$folder" -U bench_app -D "token=$hs256" -f "$folder/app.token" \
	-f "$folder/leyser.token")
tell "pgbench: a transaction with a setting of one's own, µs" "$plain"
tell "pgbench: a transaction with a token, µs" "$token"
judge "pgbench: an HS256 token costs more by, µs" \
	"$(awk -v a="$token" -v b="$plain" 'BEGIN { printf "%.2f", a - b }')" "at most" 5

# ---- getters, a row ----

# Nanoseconds a row of an expression that is computed for each of 10 million rows.
# Arguments: tenant, expression.
per_row()
{
	sql <<- EOS
		SET max_parallel_workers_per_gather = 0;
		BEGIN;
		SELECT leyser.enter('$1') \g /dev/null
		EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT json)
		    SELECT count($2) FROM generate_series(1, 2000) a, generate_series(1, 5000) b;
	EOS
}

for ((i = 0; i < rounds; i++)); do
	for call in "42 pg_backend_pid()" "42 leyser.tenant_id_int8()" "42 leyser.tenant_id()" \
		"$tenant leyser.tenant_id_uuid()"; do
		per_row "${call% *}" "${call#* }" |
			sed -n 's/.*"Execution Time": \([0-9.]*\).*/\1/p' |
			awk '{ print $1 / 10 }' >> "$folder/row.${call#* }"
	done
done
empty=$(median < "$folder/row.pg_backend_pid()")
tell "a row with pg_backend_pid(), an empty C function, ns" "$empty"
for call in "leyser.tenant_id_int8()" "leyser.tenant_id()" "leyser.tenant_id_uuid()"; do
	judge "$call costs more by, ns a row" \
		"$(median < "$folder/row.$call" | awk -v b="$empty" '{ printf "%.1f", $1 - b }')" "at most" 20
done
finish
