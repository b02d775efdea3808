-- The books of backup generations.

-- The one place where a generation's state moves:
--   running → complete, failed      complete → verified, failed      verified → failed
--   complete, verified ⇄ orphan     (a parent turned bad, or was mended)
--   any but running → expired       (the policy) → deleted (seen to be gone)
--   any → deleted                   (gone without the policy's word)
CREATE FUNCTION leyser.move_generation(generation_id bigint, to_state text) RETURNS leyser.generation_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
    from_states text[] := CASE to_state
        WHEN 'complete' THEN '{running,orphan}' WHEN 'verified' THEN '{complete,verified,orphan}'
        WHEN 'failed' THEN '{running,complete,verified,orphan}' WHEN 'orphan' THEN '{complete,verified}'
        WHEN 'expired' THEN '{complete,verified,failed,orphan}'
        WHEN 'deleted' THEN '{running,complete,verified,failed,orphan,expired}' ELSE '{}' END;
BEGIN
    SELECT g.* INTO generation FROM leyser.generation_record g
        WHERE g.generation_id = move_generation.generation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'generation does not exist',
            DETAIL = 'No generation has this id.',
            HINT = 'See view leyser.backup_generation.';
    END IF;
    IF generation.state <> ALL (from_states) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a generation that is %s cannot become %s', generation.state, to_state),
            DETAIL = format('It must be %s.', array_to_string(from_states, ' or ')),
            HINT = 'See view leyser.backup_generation.';
    END IF;
    UPDATE leyser.generation_record g SET state = to_state,
            verified_at = CASE to_state WHEN 'verified' THEN clock_timestamp() ELSE g.verified_at END,
            failed_at = CASE to_state WHEN 'failed' THEN clock_timestamp() ELSE g.failed_at END,
            expired_at = CASE to_state WHEN 'expired' THEN clock_timestamp() ELSE g.expired_at END,
            deleted_at = CASE to_state WHEN 'deleted' THEN clock_timestamp() ELSE g.deleted_at END
        WHERE g.generation_id = move_generation.generation_id RETURNING g.* INTO generation;
    RETURN generation;
END
$$;
REVOKE ALL ON FUNCTION leyser.move_generation(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.move_generation(bigint, text) IS
    'internal: moves a generation to another state, or raises LY008; 42704 for an unknown one';
