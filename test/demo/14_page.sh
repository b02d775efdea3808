#!/bin/bash
# The white paper is written to a file, which stays.
set -eu

echo
echo "== 26. The white paper, as it is now"
echo
psql -X -q -P pager=off -U bank_auditor -c "SELECT status, count(*) AS clauses, string_agg(clause, ' ') AS which FROM (
	SELECT clause, split_part(status, ' until', 1) AS status FROM leyser.white_paper()) w GROUP BY status ORDER BY 2 DESC, 1"
echo "   bank_auditor=> SELECT leyser.white_paper_html();"
page=$(mktemp /tmp/leyser-white-paper-XXXXXX.html)
psql -X -At -U bank_auditor -o "$page" -c "SELECT leyser.white_paper_html()"
chmod 644 "$page"
echo "   It is there to be opened in a browser, and stays: $page"
