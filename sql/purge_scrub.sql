-- What the purge worker does for all purges that are through with deleting
-- (src/purge_scrub.c), and when a purge is over.

CREATE FUNCTION leyser.scrubbing_purges() RETURNS SETOF leyser.purge_record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.* FROM leyser.purge_record p JOIN leyser.tenant_record t ON t.tenant_id = p.tenant_id
    WHERE p.state = 'scrubbing' AND p.deleted_at IS NOT NULL AND t.state = 'terminated'
      AND leyser.is_here(p.scrub_system, p.database_id)
      AND (p.replay OR NOT (SELECT leyser.restore_is_held()))
$$;
REVOKE ALL ON FUNCTION leyser.scrubbing_purges() FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrubbing_purges() IS 'internal: purges that nothing holds back from being scrubbed';

-- What holds a purge back depends on what it does next.
CREATE FUNCTION leyser.blockers_of(purge leyser.purge_record)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF purge.scrub_end_lsn IS NULL THEN
        RETURN QUERY SELECT * FROM leyser.readers(coalesce(purge.statistics_xid, purge.deleted_xid));
        -- all else is scrubbed meanwhile
        IF NOT EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = purge.purge_id
                       AND t.action NOT IN ('keep', 'confirm', 'scrub') AND t.scrubbed_at IS NULL) THEN
            RETURN QUERY SELECT 'confirmation', c.name, 'Nobody has confirmed that it holds nothing of the tenant.',
                                format('SELECT leyser.confirm_external_erasure(%L, %L);', purge.tenant_id, c.name)
                         FROM leyser.missing_confirmations(purge.purge_id) c;
        END IF;
    ELSIF purge.wal_at IS NULL THEN
        RETURN QUERY SELECT * FROM leyser.wal_keepers(purge.scrub_end_lsn);
    ELSE
        RETURN QUERY SELECT * FROM leyser.standbys_behind(purge.scrub_end_lsn);
        RETURN QUERY SELECT 'external store', s, 'Nobody has confirmed that it holds nothing of the tenant.',
                            format('SELECT leyser.confirm_external_erasure(%L, %L);', purge.tenant_id, s)
                     FROM leyser.missing_external_erasures(purge.tenant_id) s;
        RETURN QUERY SELECT 'temporary table', c.name, 'It belongs to a protected table, and nobody but its session can look into it.',
                            'It goes when that session ends.'
                     FROM leyser.temporary_members() c;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.blockers_of(leyser.purge_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.blockers_of(leyser.purge_record) IS
    'internal: what a purge that is through with deleting waits for';

-- What was cleared was the former primary's pg_wal.
CREATE FUNCTION leyser.forget_former_wal() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.purge_record p SET scrub_end_lsn = NULL, wal_at = NULL, scrub_timeline = NULL, cleared_timeline = NULL
    WHERE p.state IN ('waiting', 'scrubbing') AND p.scrub_end_lsn IS NOT NULL
      AND leyser.is_here(p.scrub_system, p.database_id) AND p.cleared_timeline <> leyser.wal_timeline()
$$;
REVOKE ALL ON FUNCTION leyser.forget_former_wal() FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_former_wal() IS
    'internal: after a promotion the write-ahead log is to be cleared again';

-- What a step of the scrub could not do stays listed while it is tried again.
CREATE FUNCTION leyser.find_blockers() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
    listed jsonb;
    tried jsonb;
BEGIN
    PERFORM leyser.forget_former_wal();
    FOR purge IN SELECT p.* FROM leyser.purge_record p JOIN leyser.tenant_record t ON t.tenant_id = p.tenant_id
            WHERE p.state IN ('waiting', 'scrubbing') AND p.deleted_at IS NOT NULL AND t.state = 'terminated'
              AND leyser.is_here(p.scrub_system, p.database_id)
            ORDER BY p.purge_id FOR UPDATE OF p LOOP
        SELECT jsonb_agg(to_jsonb(b)) INTO listed FROM (SELECT * FROM leyser.blockers_of(purge)
            UNION SELECT * FROM leyser.lasting_blockers(purge.purge_id)) b;
        SELECT jsonb_agg(to_jsonb(b)) INTO tried FROM leyser.purge_blocker b
            WHERE b.purge_id = purge.purge_id AND (b.kind = 'write-ahead log' AND listed IS NULL
                OR b.kind = 'index' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(b.subject)));
        PERFORM leyser.move_purge(purge.purge_id, CASE WHEN listed IS NULL THEN 'scrubbing' ELSE 'waiting' END);
        PERFORM leyser.replace_blockers(purge.purge_id, coalesce(listed, '[]') || coalesce(tried, '[]'));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.find_blockers() FROM PUBLIC;
COMMENT ON FUNCTION leyser.find_blockers() IS
    'internal: names what holds purges back, and lets those go on that nothing holds back';

CREATE FUNCTION leyser.scrub_waits(purge_id bigint, listed jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF listed IS NOT NULL THEN
        PERFORM leyser.move_purge(scrub_waits.purge_id, 'waiting');
        PERFORM leyser.replace_blockers(scrub_waits.purge_id, listed);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.scrub_waits(bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrub_waits(bigint, jsonb) IS
    'internal: a purge that is through with deleting waits for these, if there are any';

-- One without a limit waits for the worker, too, while that scrubs for others.
CREATE FUNCTION leyser.scrub_pace() RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_or(p.max_rows_per_second = 0) THEN 0 ELSE max(p.max_rows_per_second) END
    FROM leyser.open_purges() o JOIN leyser.purge_record p ON p.purge_id = o.purge_id
    WHERE p.state <> 'waiting'
$$;
REVOKE ALL ON FUNCTION leyser.scrub_pace() FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrub_pace() IS
    'internal: how many pages a second a scrub may look at: the highest limit of the purges that nothing holds back, 0 where one has none';

-- The phases are those of src/purge_scrub.c.
CREATE FUNCTION leyser.next_scrub()
    RETURNS TABLE (phase bigint, relation oid, deleted_before xid, since pg_lsn, indexes boolean, refresh boolean, pace integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH purge AS MATERIALIZED (SELECT p.* FROM leyser.scrubbing_purges() p),
    part AS MATERIALIZED (
        SELECT t.*, p.statistics_at, p.wal_at, p.deleted_xid FROM leyser.purge_table t JOIN purge p ON p.purge_id = t.purge_id
        WHERE t.action NOT IN ('keep', 'confirm')
    ), state AS (
        SELECT p.*, NOT EXISTS (SELECT FROM part t WHERE t.purge_id = p.purge_id AND t.scrubbed_at IS NULL) AS scrubbed,
               NOT EXISTS (SELECT FROM part t WHERE t.purge_id = p.purge_id AND t.verified_at IS NULL) AS verified
        FROM purge p
    ), next (phase, purge_id, step, relation) AS (
        SELECT 1, t.purge_id, t.step, t.relation FROM part t WHERE t.scrubbed_at IS NULL
            AND NOT (t.action = 'scrub' AND EXISTS (SELECT FROM leyser.missing_confirmations(t.purge_id) c WHERE c.relation = t.relation))
        UNION ALL
        SELECT 2, s.purge_id, 0, 0 FROM state s WHERE s.scrubbed AND s.statistics_at IS NULL
        UNION ALL
        SELECT 3, t.purge_id, t.step, t.relation FROM part t JOIN state s ON s.purge_id = t.purge_id
            WHERE s.scrubbed AND s.statistics_at IS NOT NULL AND t.verified_at IS NULL
        UNION ALL
        SELECT CASE WHEN s.wal_at IS NULL THEN 4 ELSE 5 END, s.purge_id, 0, 0 FROM state s
            WHERE s.scrubbed AND s.statistics_at IS NOT NULL AND s.verified
    ), first AS (SELECT n.phase, n.relation FROM next n ORDER BY n.phase, n.purge_id, n.step LIMIT 1)
    SELECT f.phase, f.relation,
           ((SELECT max(p.deleted_xid)::text::numeric + 1 FROM purge p)::text::xid8)::xid,
           CASE f.phase
               WHEN 3 THEN (SELECT max(t.scrubbed_since) FROM part t WHERE t.relation = f.relation)
               WHEN 4 THEN (SELECT max(p.scrub_end_lsn) FROM purge p
                            HAVING NOT bool_or(p.wal_at IS NULL AND p.scrub_end_lsn IS NULL))
               WHEN 5 THEN (SELECT max(p.scrub_end_lsn) FROM purge p) END,
           -- those of the system's catalogues hold numbers alone
           f.relation >= 16384 AND EXISTS (SELECT FROM part t WHERE t.relation = f.relation AND t.scrubbed_at IS NULL AND t.scrubbed_since IS NULL),
           EXISTS (SELECT FROM part t WHERE t.relation = f.relation AND t.action = 'refresh' AND t.scrubbed_at IS NULL AND t.scrubbed_since IS NULL),
           leyser.scrub_pace()
    FROM first f
$$;
REVOKE ALL ON FUNCTION leyser.next_scrub() FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_scrub() IS
    'internal: what comes next: 1 a table, 2 statistics, 3 a look at a table, 4 the write-ahead log, 5 the end';

CREATE FUNCTION leyser.note_scrubbed(relation oid, lsn pg_lsn, done boolean, zeroed bigint, indexes integer, note text)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    holders jsonb;
BEGIN
    UPDATE leyser.purge_table t
        SET pages_scrubbed = t.pages_scrubbed + note_scrubbed.zeroed,
            indexes_rebuilt = t.indexes_rebuilt + note_scrubbed.indexes,
            note = coalesce(note_scrubbed.note, t.note),
            scrubbed_since = CASE WHEN note_scrubbed.done THEN note_scrubbed.lsn ELSE t.scrubbed_since END,
            scrubbed_at = CASE WHEN note_scrubbed.done THEN clock_timestamp() END
        FROM leyser.scrubbing_purges() p
        WHERE t.purge_id = p.purge_id AND t.relation = note_scrubbed.relation AND t.scrubbed_at IS NULL;
    UPDATE leyser.purge_record p SET last_error = NULL FROM leyser.scrubbing_purges() s
        WHERE p.purge_id = s.purge_id AND p.last_error IS NOT NULL;
    IF note_scrubbed.done THEN
        PERFORM leyser.replace_blockers(s.purge_id, NULL) FROM leyser.scrubbing_purges() s;
    ELSE
        SELECT jsonb_agg(to_jsonb(h)) INTO holders FROM leyser.page_holders(note_scrubbed.relation) h;
        PERFORM leyser.scrub_waits(s.purge_id, holders) FROM leyser.scrubbing_purges() s;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_scrubbed(oid, pg_lsn, boolean, bigint, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_scrubbed(oid, pg_lsn, boolean, bigint, integer, text) IS
    'internal: a table was scrubbed, from this place of the write-ahead log on; done where no row version is left over';

CREATE FUNCTION leyser.note_failed_index(relation oid, index oid, sqlstate text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.scrub_waits(s.purge_id, jsonb_build_array(jsonb_build_object('kind', 'index',
        'subject', index::regclass::text, 'detail', format('It cannot be rebuilt: SQLSTATE %s', sqlstate),
        'remedy', format('See the server log, and change what makes it fail, or DROP INDEX %s; it is tried again by itself.',
                         index::regclass::text))))
    FROM leyser.scrubbing_purges() s
    WHERE EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = s.purge_id AND t.relation = note_failed_index.relation)
$$;
REVOKE ALL ON FUNCTION leyser.note_failed_index(oid, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_failed_index(oid, oid, text) IS
    'internal: an index of a table cannot be rebuilt as it is';

CREATE FUNCTION leyser.statistics_relations() RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT t.relation FROM leyser.scrubbing_purges() p
    JOIN leyser.purge_table t ON t.purge_id = p.purge_id
    JOIN pg_class c ON c.oid = t.relation
    WHERE p.statistics_at IS NULL AND t.action NOT IN ('keep', 'confirm')
$$;
REVOKE ALL ON FUNCTION leyser.statistics_relations() FROM PUBLIC;
COMMENT ON FUNCTION leyser.statistics_relations() IS 'internal: the tables whose statistics are to be renewed';

-- Where it was not done, somebody still sees the statistics that were deleted.
CREATE FUNCTION leyser.note_statistics(relation oid, lsn pg_lsn, done boolean, zeroed bigint, indexes integer, note text)
    RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.purge_record p
    SET statistics_at = CASE WHEN note_statistics.done THEN clock_timestamp() END, last_error = NULL,
        statistics_xid = CASE WHEN NOT note_statistics.done THEN pg_current_xact_id() END
    FROM leyser.scrubbing_purges() s
    WHERE p.purge_id = s.purge_id AND s.statistics_at IS NULL
      AND NOT EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = p.purge_id
                      AND t.action NOT IN ('keep', 'confirm') AND t.scrubbed_at IS NULL)
$$;
REVOKE ALL ON FUNCTION leyser.note_statistics(oid, pg_lsn, boolean, bigint, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_statistics(oid, pg_lsn, boolean, bigint, integer, text) IS
    'internal: statistics know nothing of the tenants any longer';

-- Rows of the tenant, which a role above row security may have written: all begins
-- anew.  Bytes outside of rows: the table is scrubbed again.
CREATE FUNCTION leyser.note_verified(relation oid, lsn pg_lsn, done boolean, zeroed bigint, indexes integer, note text)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    part record;
    gone boolean := NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = note_verified.relation);
BEGIN
    FOR part IN SELECT t.purge_id, t.step, t.condition, p.tenant_id FROM leyser.scrubbing_purges() p
            JOIN leyser.purge_table t ON t.purge_id = p.purge_id
            WHERE t.relation = note_verified.relation AND t.verified_at IS NULL AND t.scrubbed_at IS NOT NULL LOOP
        IF NOT gone AND part.condition IS NOT NULL
           AND leyser.count_purge_rows(note_verified.relation, part.condition, part.tenant_id) > 0 THEN
            PERFORM leyser.move_purge(part.purge_id, 'due');
        ELSE
            UPDATE leyser.purge_table t
                SET verified_at = CASE WHEN note_verified.done THEN clock_timestamp() END,
                    scrubbed_at = CASE WHEN note_verified.done THEN t.scrubbed_at END
                WHERE t.purge_id = part.purge_id AND t.step = part.step;
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_verified(oid, pg_lsn, boolean, bigint, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_verified(oid, pg_lsn, boolean, bigint, integer, text) IS
    'internal: what a look at a table after its scrub found';

CREATE FUNCTION leyser.wal_blocker(note text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_array(jsonb_build_object('kind', 'write-ahead log', 'subject', 'pg_wal', 'detail', note,
        'remedy', 'It is tried again by itself.'))
$$;
REVOKE ALL ON FUNCTION leyser.wal_blocker(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wal_blocker(text) IS 'internal: what a burn of the write-ahead log did not reach, as a blocker';

CREATE FUNCTION leyser.note_wal(relation oid, lsn pg_lsn, done boolean, zeroed bigint, indexes integer, note text)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
BEGIN
    FOR purge IN SELECT p.* FROM leyser.scrubbing_purges() p
            WHERE p.wal_at IS NULL AND p.statistics_at IS NOT NULL
              AND NOT EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = p.purge_id
                              AND t.action NOT IN ('keep', 'confirm') AND (t.scrubbed_at IS NULL OR t.verified_at IS NULL)) LOOP
        UPDATE leyser.purge_record p
            SET scrub_end_lsn = coalesce(p.scrub_end_lsn, note_wal.lsn), last_error = NULL,
                scrub_timeline = CASE WHEN p.scrub_end_lsn IS NULL THEN leyser.wal_timeline() ELSE p.scrub_timeline END,
                cleared_timeline = leyser.wal_timeline(),
                wal_at = CASE WHEN note_wal.done THEN clock_timestamp() END
            WHERE p.purge_id = purge.purge_id;
        PERFORM leyser.replace_blockers(purge.purge_id, NULL);
        IF NOT note_wal.done THEN
            PERFORM leyser.scrub_waits(purge.purge_id, leyser.wal_blocker(coalesce(note_wal.note, 'old segments are still there')));
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_wal(oid, pg_lsn, boolean, bigint, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_wal(oid, pg_lsn, boolean, bigint, integer, text) IS
    'internal: from where on the write-ahead log holds nothing of the tenants, and whether older segments are gone';

CREATE FUNCTION leyser.note_standbys(relation oid, lsn pg_lsn, done boolean, zeroed bigint, indexes integer, note text)
    RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.scrub_waits(s.purge_id, leyser.wal_blocker(note_standbys.note))
    FROM leyser.scrubbing_purges() s WHERE s.wal_at IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.note_standbys(oid, pg_lsn, boolean, bigint, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_standbys(oid, pg_lsn, boolean, bigint, integer, text) IS
    'internal: a standby did not follow while its write-ahead log was to be cleared';

-- ---- views that cannot be refreshed ----

-- It is tried once: whatever its query does would be done again and again.
CREATE FUNCTION leyser.note_refresh_failed(relation oid, sqlstate text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    part leyser.purge_table;
BEGIN
    FOR part IN UPDATE leyser.purge_table t SET action = 'scrub'
            FROM leyser.scrubbing_purges() p
            WHERE t.purge_id = p.purge_id AND t.relation = note_refresh_failed.relation AND t.action = 'refresh'
            RETURNING t.* LOOP
        INSERT INTO leyser.purge_table (purge_id, step, relation, relation_name, action, note)
            SELECT part.purge_id, max(t.step) + 1, part.relation, 'materialized view ' || part.relation_name, 'confirm',
                   format('its REFRESH fails: SQLSTATE %s; refresh it yourself, then leyser.confirm_external_erasure() closes it',
                          note_refresh_failed.sqlstate)
            FROM leyser.purge_table t WHERE t.purge_id = part.purge_id
            HAVING NOT coalesce(bool_or(t.action = 'confirm' AND t.relation = part.relation), false);
        DELETE FROM leyser.external_erasure x USING leyser.purge_record p
            WHERE p.purge_id = part.purge_id AND x.tenant_id = p.tenant_id AND x.name = 'materialized view ' || part.relation_name;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_refresh_failed(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_refresh_failed(oid, text) IS
    'internal: a materialized view is to be refreshed by somebody else, who confirms it';

-- ---- the end ----

-- Whoever is above row security may have written since the tables were looked at, or
-- have attached one.
CREATE FUNCTION leyser.is_found_again(purge leyser.purge_record) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    targets leyser.purge_target[] := leyser.lock_purge_targets(purge.tenant_id);
    target leyser.purge_target;
BEGIN
    IF EXISTS (SELECT FROM leyser.lost_tables(purge.purge_id, targets)) THEN
        RETURN true;
    END IF;
    FOREACH target IN ARRAY targets LOOP
        CONTINUE WHEN target.condition IS NULL OR target.relkind <> 'r';
        IF NOT EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = purge.purge_id
                       AND t.relation = target.relation AND t.condition = target.condition)
           OR target.kind = 'by_rule' AND leyser.refused_condition(target.relation, target.condition) IS NOT NULL
           OR leyser.count_purge_rows(target.relation, target.condition, purge.tenant_id) > 0 THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
REVOKE ALL ON FUNCTION leyser.is_found_again(leyser.purge_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_found_again(leyser.purge_record) IS
    'internal: whether there are rows of the tenant, or tables that its purge has not planned';

-- With the last look, for nothing may come between the two.
CREATE FUNCTION leyser.finish_purges() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
BEGIN
    FOR purge IN SELECT p.* FROM leyser.scrubbing_purges() p WHERE p.wal_at IS NOT NULL ORDER BY p.purge_id LOOP
        CONTINUE WHEN EXISTS (SELECT FROM leyser.blockers_of(purge));
        IF leyser.is_found_again(purge) THEN
            PERFORM leyser.move_purge(purge.purge_id, 'due');
            CONTINUE;
        END IF;
        PERFORM leyser.push_notifications();
        PERFORM leyser.move_tenant(purge.tenant_id, '{terminated}', 'erased');
        PERFORM leyser.move_purge(purge.purge_id, 'erased');
        PERFORM leyser.replace_blockers(purge.purge_id, NULL);
        UPDATE leyser.purge_record p SET erased_at = clock_timestamp(), last_error = NULL
            WHERE p.purge_id = purge.purge_id;
        PERFORM leyser.record_event('purge.erased', purge.tenant_id, NULL,
            (SELECT jsonb_build_object('purge_id', purge.purge_id, 'rows', coalesce(sum(t.rows_deleted), 0),
                                       'scrub_end_lsn', purge.scrub_end_lsn)
             FROM leyser.purge_table t WHERE t.purge_id = purge.purge_id));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.finish_purges() FROM PUBLIC;
COMMENT ON FUNCTION leyser.finish_purges() IS
    'internal: purges that have nothing left to do end, after a last look: their tenants are erased';

-- ---- write-ahead log of others ----

-- A purge of another system speaks of places in another log.
CREATE FUNCTION leyser.standby_wanted() RETURNS pg_lsn
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(p.scrub_end_lsn) FROM leyser.purge_record p
    WHERE p.scrub_end_lsn IS NOT NULL AND leyser.is_here(p.scrub_system, p.database_id)
$$;
REVOKE ALL ON FUNCTION leyser.standby_wanted() FROM PUBLIC;
COMMENT ON FUNCTION leyser.standby_wanted() IS
    'internal: before which place the pg_wal of a standby is to hold nothing; NULL where nothing was scrubbed';

CREATE FUNCTION leyser.promoted_wanted() RETURNS pg_lsn
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(p.scrub_end_lsn) FROM leyser.purge_record p
    WHERE p.state = 'erased' AND leyser.is_here(p.scrub_system, p.database_id) AND p.cleared_timeline <> leyser.wal_timeline()
$$;
REVOKE ALL ON FUNCTION leyser.promoted_wanted() FROM PUBLIC;
COMMENT ON FUNCTION leyser.promoted_wanted() IS
    'internal: before which place the pg_wal of a server is to hold nothing that was promoted after a purge; NULL where it was not';

CREATE FUNCTION leyser.note_promoted(lsn pg_lsn) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.purge_record p SET cleared_timeline = leyser.wal_timeline()
    WHERE p.state = 'erased' AND p.scrub_end_lsn <= note_promoted.lsn AND leyser.is_here(p.scrub_system, p.database_id)
$$;
REVOKE ALL ON FUNCTION leyser.note_promoted(pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_promoted(pg_lsn) IS
    'internal: the pg_wal of a server that was promoted holds nothing older';
