#!/bin/bash
# What a login costs beside the bare hash, and that its time tells nothing: one
# client tries, by turns, accounts that exist, were taken over with a cheap hash,
# are unknown, or have to wait.  And what taking over costs.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
rounds=100
taken_over=10000
password='one password for all of them'

# Accounts right1, wrong1, locked1 and so on; they share a hash.  Those that are
# taken over share one of cost 4.
sql -o /dev/null -v password="$password" -v rounds="$rounds" <<- 'EOS'
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
	SELECT leyser.create_tenant('42');
	SELECT leyser.create_account(kind || n, '42')
		FROM unnest('{right, wrong, locked}'::text[]) kind, generate_series(1, :rounds) n;
	WITH hash AS MATERIALIZED (SELECT leyser.hash_password(:'password') AS hash)
		UPDATE leyser.account_record SET password = hash FROM hash;
	WITH hash AS MATERIALIZED (SELECT public.crypt(:'password', public.gen_salt('bf', 4)) AS hash)
		SELECT leyser.import_account(kind || n, hash, '42')
		FROM hash, unnest('{first, imported, guessed, mistaken}'::text[]) kind, generate_series(1, :rounds) n;
	INSERT INTO leyser.login_delay SELECT 'account:' || account_id, 5, now(), now() + interval '1 hour'
		FROM leyser.account_record WHERE account_name ~ '^(locked|guessed|mistaken)';
EOS

# Statements whose rows are: kind, start, result, end.
kinds='hash right first wrong imported unknown locked guessed mistaken'
sql -v password="$password" -v rounds="$rounds" -v kinds="$kinds" > "$folder/statements" <<- 'EOS'
	SELECT format('SELECT %L, extract(epoch FROM clock_timestamp()), %s IS NULL, extract(epoch FROM clock_timestamp());',
	              kind, CASE WHEN kind = 'hash' THEN format('public.crypt(%L, public.gen_salt(''bf'', 10))', :'password')
	                         ELSE format('leyser.login(''42'', %L, %L)', kind || n,
	                                     CASE WHEN kind IN ('wrong', 'imported', 'mistaken') THEN 'another one altogether' ELSE :'password' END) END)
	FROM generate_series(1, :rounds) n, string_to_table(:'kinds', ' ') kind
	ORDER BY n, random();
EOS
sql -U bench_app -f "$folder/statements" > "$folder/rows"
for kind in $kinds; do
	case $kind in
		hash | right | first) result=f ;;
		*) result=t ;;
	esac
	[ "$(grep -c "^$kind|.*|$result|" "$folder/rows")" -eq "$rounds" ] ||
		fail "logins of kind $kind went another way"
	declare "$kind=$(awk -F '|' -v kind="$kind" '$1 == kind { printf "%.3f\n", ($4 - $2) * 1000 }' "$folder/rows" | median)"
done
tell "bcrypt of cost 10 alone, ms (median of $rounds)" "${hash:?}"
tell "login: right password, ms" "${right:?}"
tell "login: right password, taken over and so hashed anew, ms" "${first:?}"
tell "login: wrong password, ms" "${wrong:?}"
tell "login: wrong password, hash of cost 4 taken over, ms" "${imported:?}"
tell "login: unknown account, ms" "${unknown:?}"
tell "login: right password, has to wait, ms" "${locked:?}"
tell "login: right password, taken over, has to wait, ms" "${guessed:?}"
tell "login: wrong password, taken over, has to wait, ms" "${mistaken:?}"
for kind in imported unknown locked guessed mistaken; do
	judge "$kind account: median differs from wrong password's by, %" \
		"$(awk -v a="${!kind}" -v b="$wrong" 'BEGIN { d = (a - b) / b * 100; printf "%.1f", d < 0 ? -d : d }')" \
		"at most" 5
done

# Taken over in one statement, by the tenant's administrator.
tell "import_account: $taken_over accounts in one statement, us each" "$(sql -v n="$taken_over" <<- 'EOS'
	BEGIN;
	SELECT leyser.enter('42', 'right1') \g /dev/null
	SELECT clock_timestamp() AS began \gset
	SELECT leyser.import_account('new' || n, '$2b$10$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC')
		FROM generate_series(1, :n) n \g /dev/null
	SELECT round(extract(epoch FROM clock_timestamp() - :'began') * 1e6 / :n);
	COMMIT;
EOS
)"
finish
