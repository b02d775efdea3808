#!/bin/bash
# The import of pgBackRest's catalogue of 1,000 generations: when all are new, when
# nothing has changed, and when all but the newest are gone.

. "$(dirname "$0")/figures.sh"

# A full backup a day, six incremental ones after it.
sql <<- 'EOS'
	CREATE TABLE catalogue AS
	SELECT jsonb_build_array(jsonb_build_object('name', 'main',
		'archive', jsonb '[{"database": {"id": 1, "repo-key": 1}, "id": "15-1", "min": "000000010000000000000001", "max": "0000000100000000000000FF"}]',
		'repo', jsonb '[{"key": 1, "status": {"code": 0, "message": "ok"}}]',
		'db', jsonb_build_array(jsonb_build_object('id', 1, 'repo-key', 1, 'system-id', c.system_identifier)),
		'backup', (SELECT jsonb_agg(jsonb_build_object(
			'label', 'B' || g, 'type', CASE g % 7 WHEN 0 THEN 'full' ELSE 'incr' END,
			'prior', CASE WHEN g % 7 > 0 THEN 'B' || g - 1 END, 'error', false,
			'database', jsonb '{"id": 1, "repo-key": 1}',
			'archive', jsonb '{"start": "000000010000000000000002", "stop": "000000010000000000000002"}',
			'info', jsonb '{"repository": {"delta": 1000}}',
			'lsn', jsonb_build_object('start', pg_lsn '0/2000028' + g * 4096, 'stop', pg_lsn '0/2000028' + g * 4096 + 256),
			'timestamp', jsonb_build_object('start', 1700000000 + g * 3600, 'stop', 1700000005 + g * 3600))) FROM generate_series(0, 999) g))) AS content,
		false AS is_last
	FROM pg_control_system() c;
	INSERT INTO catalogue SELECT jsonb_set(content, '{0,backup}', jsonb_build_array(content #> '{0,backup,994}')), true FROM catalogue;
EOS

# Prints the milliseconds that an import takes.  Arguments: which catalogue, what it is to say.
took()
{
	local answer
	answer=$(sql <<- EOS
		SELECT clock_timestamp() AS began \gset
		SELECT (SELECT i.recorded || ' ' || i.deleted FROM leyser.import_backups('pgbackrest', c.content) i) AS said
			FROM catalogue c WHERE c.is_last = $1 \gset
		SELECT round(extract(epoch FROM clock_timestamp() - :'began') * 1000), :'said'
	EOS
	)
	[ "${answer#*|}" = "$2" ] || fail "the import said: $answer"
	echo "${answer%|*}"
}

judge "import of 1,000 generations, all new, ms" "$(took false '1000 0')" "at most" 1000
judge "import of 1,000 generations, nothing new, ms" "$(took false '0 0')" "at most" 1000
finish
