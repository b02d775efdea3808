-- What may hold bytes of a tenant besides tables, indexes and the write-ahead log.

-- Files that a crash left behind: of no relation, and not of a transaction that still
-- runs, whose files are as young as it is.
CREATE FUNCTION leyser.orphaned_files() RETURNS TABLE (path text, size bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH here AS (
        SELECT d.oid, d.dattablespace FROM pg_database d WHERE d.datname = current_database()
    ), folder (path, tablespace) AS (
        SELECT 'base/' || h.oid, CASE WHEN h.dattablespace = 1663 THEN 0::oid ELSE 1663::oid END FROM here h
        UNION ALL
        SELECT format('pg_tblspc/%s/%s/%s', t.oid, v, h.oid), CASE WHEN h.dattablespace = t.oid THEN 0::oid ELSE t.oid END
        FROM here h, pg_tablespace t, pg_ls_dir('pg_tblspc/' || t.oid, true, false) v
        WHERE t.spcname NOT IN ('pg_default', 'pg_global')
          AND v ~ format('^PG_%s_', current_setting('server_version_num')::integer / 10000)
    ), file AS MATERIALIZED (
        SELECT f.path || '/' || n AS path, f.tablespace, substring(n FROM '^[0-9]+')::oid AS number
        FROM folder f, pg_ls_dir(f.path, true, false) n WHERE n ~ '^[0-9]+(_(fsm|vm|init))?([.][0-9]+)?$'
    )
    SELECT f.path, s.size FROM file f, pg_stat_file(f.path, true) s
    WHERE s.size > 0
      -- which has whole seconds
      AND s.modification < (SELECT coalesce(date_trunc('second', min(a.xact_start)), 'infinity') FROM pg_stat_activity a
                            WHERE a.backend_xid IS NOT NULL OR a.state = 'disabled')
      AND pg_filenode_relation(f.tablespace, f.number) IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.orphaned_files() FROM PUBLIC;
COMMENT ON FUNCTION leyser.orphaned_files() IS
    'internal: files of this database that belong to no relation, in bytes';

-- The files of statements that run go with them.
CREATE FUNCTION leyser.left_temporary_files() RETURNS TABLE (name text, size bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT f.name, f.size FROM pg_tablespace t, pg_ls_tmpdir(t.oid) f
    WHERE t.spcname <> 'pg_global'
      AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid::text = substring(f.name FROM '^pgsql_tmp([0-9]+)'))
$$;
REVOKE ALL ON FUNCTION leyser.left_temporary_files() FROM PUBLIC;
COMMENT ON FUNCTION leyser.left_temporary_files() IS
    'internal: temporary files whose process is gone';

CREATE FUNCTION leyser.spilled_slots() RETURNS TABLE (slot text, files bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s, count(*) FROM pg_ls_dir('pg_replslot', true, false) s, pg_ls_dir('pg_replslot/' || s, true, false) f
    WHERE right(f, 6) = '.spill' GROUP BY s
$$;
REVOKE ALL ON FUNCTION leyser.spilled_slots() FROM PUBLIC;
COMMENT ON FUNCTION leyser.spilled_slots() IS
    'internal: replication slots that keep changes of large transactions in files';

CREATE FUNCTION leyser.files_outside() RETURNS TABLE (subject text, state text, detail text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'orphaned files', 'found', format('A crash left %s bytes in files of no relation: %s. Look that no prepared transaction made them, stop the server, overwrite and remove them.',
               sum(o.size), string_agg(o.path, ', ' ORDER BY o.path))
        FROM leyser.orphaned_files() o HAVING count(*) > 0
    UNION ALL
    SELECT 'temporary files', 'found', format('Statements that a crash ended left %s bytes: %s. Restarting the server removes them.',
               sum(f.size), string_agg(f.name, ', ' ORDER BY f.name))
        FROM leyser.left_temporary_files() f HAVING count(*) > 0
    UNION ALL
    SELECT 'replication slots', 'found', format('Changes of large transactions lie in pg_replslot: %s. Let their consumers catch up, or drop them.',
               string_agg(s.slot, ', ' ORDER BY s.slot))
        FROM leyser.spilled_slots() s HAVING count(*) > 0
    UNION ALL
    SELECT 'notifications', 'found', 'Payloads of NOTIFY wait in pg_notify for a session that listens and does not end its transaction.'
        WHERE NOT pg_is_in_recovery() AND pg_notification_queue_usage() > 0
    UNION ALL
    SELECT 'texts of statements', 'found', 'pg_stat_tmp/pgss_query_texts.stat may quote values: SELECT pg_stat_statements_reset();'
        FROM pg_stat_file('pg_stat_tmp/pgss_query_texts.stat', true) f WHERE f.size > 0
    UNION ALL
    SELECT 'temporary tables', 'found', format('Sessions hold %s, which may be copies; they and their statistics go when the sessions end: %s.',
               pg_size_pretty(sum(pg_total_relation_size(c.oid))), string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text))
        FROM pg_class c WHERE c.relpersistence = 't' AND c.relkind = 'r' HAVING count(*) > 0
    UNION ALL
    SELECT 'other databases', 'found', format('A database made with this one as its TEMPLATE keeps its own copies; look into %s.',
               string_agg(quote_ident(d.datname), ', ' ORDER BY d.datname))
        FROM pg_database d WHERE d.datname NOT IN (current_database(), 'postgres', 'template0', 'template1') HAVING count(*) > 0
$$;
REVOKE ALL ON FUNCTION leyser.files_outside() FROM PUBLIC;
COMMENT ON FUNCTION leyser.files_outside() IS
    'internal: files besides those of relations that may hold a tenant''s bytes, and what an operator can do about them';

-- What no database can reach is said in the same place as what it did.
CREATE FUNCTION leyser.outside(lost_files integer) RETURNS TABLE (subject text, state text, detail text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.subject, f.state, f.detail FROM leyser.files_outside() f
    UNION ALL
    SELECT o.subject, 'not reached', o.detail FROM (VALUES
        ('freed disk blocks', concat_ws(' ', 'The purge overwrites the files that it replaces. What was removed before it or by others, what VACUUM cut off the ends of tables, and what standbys remove, leaves its blocks to the file system: have it discard free blocks, or encrypt the volume.',
            CASE WHEN lost_files > 0 THEN format('A crash during the purge removed %s files that may not have been overwritten.', lost_files) END)),
        ('volume snapshots', 'Snapshots of the volume keep the files as they were.'),
        ('standbys', 'Each writes over its own old write-ahead log, and removes replaced files as they are; ask it for its report.'),
        ('server logs', 'Lines of the server log may quote statements and their parameters.')
        ) o (subject, detail)
$$;
REVOKE ALL ON FUNCTION leyser.outside(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.outside(integer) IS
    'internal: what lies outside of a purge, of which a crash removed so many files before they were overwritten';

-- Two files of the queue and more, so that those with former payloads are removed.
CREATE FUNCTION leyser.push_notifications() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notify('leyser_purge', lpad(g::text, 7000)) FROM generate_series(1, 80) g
$$;
REVOKE ALL ON FUNCTION leyser.push_notifications() FROM PUBLIC;
COMMENT ON FUNCTION leyser.push_notifications() IS
    'internal: fills the queue of NOTIFY with something else';

CREATE FUNCTION leyser.note_lost_files(files integer) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.purge_record p SET lost_files = p.lost_files + files WHERE p.state NOT IN ('due', 'erased')
$$;
REVOKE ALL ON FUNCTION leyser.note_lost_files(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_lost_files(integer) IS
    'internal: a crash removed so many files of purges that may not have been overwritten';
