-- Attestations: what a database cannot know, by somebody's word, with an end.

CREATE FUNCTION leyser.check_attestation_text(argument text, value text, longest integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(value, '') !~ '[^[:space:]]' OR length(value) > longest OR leyser.has_control_characters(translate(value, chr(10), '')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('invalid %s of an attestation', argument),
            DETAIL = format('It is blank, has more than %s characters, or has control characters.', longest),
            HINT = 'Say what is so, and who says it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_attestation_text(text, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_attestation_text(text, text, integer) IS 'internal: 22023 for a text that an attestation cannot have';

CREATE FUNCTION leyser.check_attestation(clause text, document_sha256 text, valid_until timestamptz) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leyser.white_paper_clauses() c WHERE c.clause = check_attestation.clause) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'unknown clause',
            DETAIL = format('Clauses are %s.', (SELECT string_agg(c.clause, ', ' ORDER BY c.number) FROM leyser.white_paper_clauses() c)),
            HINT = 'SELECT clause, promise FROM leyser.white_paper();';
    END IF;
    IF (check_attestation.document_sha256 ~ '^[0-9A-Fa-f]{64}$') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid digest of a document',
            DETAIL = 'It is not 64 hexadecimal digits.',
            HINT = 'Give what sha256sum prints for the document.';
    END IF;
    IF (valid_until > clock_timestamp() AND valid_until <= clock_timestamp() + interval '1100 days') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'an attestation ends within three years',
            DETAIL = 'Its end must be ahead, and at most 1100 days away.',
            HINT = 'Give the day until which the document holds.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_attestation(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_attestation(text, text, timestamptz) IS
    'internal: 42704 for an unknown clause, 22023 for a digest or an end that cannot be';

CREATE FUNCTION leyser.attest(clause text, statement text, attested_by text, document_sha256 text, valid_until timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    made bigint;
BEGIN
    PERFORM leyser.check_attestation(attest.clause, attest.document_sha256, attest.valid_until);
    PERFORM leyser.check_attestation_text('statement', attest.statement, 2000);
    PERFORM leyser.check_attestation_text('attested_by', attest.attested_by, 200);
    INSERT INTO leyser.attestation_record (clause, statement, attested_by, document_sha256, valid_until, recorded_by)
        VALUES (attest.clause, attest.statement, attest.attested_by, decode(attest.document_sha256, 'hex'), attest.valid_until, leyser.caller()::text)
        RETURNING attestation_id INTO made;
    PERFORM leyser.record_event('attestation.recorded', NULL, attest.clause, jsonb_build_object('attestation_id', made, 'statement', attest.statement,
        'attested_by', attest.attested_by, 'document_sha256', lower(attest.document_sha256), 'valid_until', attest.valid_until));
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION leyser.attest(text, text, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attest(text, text, text, text, timestamptz) IS
    'operator: writes down what a database cannot know about a clause of the white paper: the statement, who attests it, the SHA-256 of the document that says so (64 hexadecimal digits), and until when it holds (within three years); returns its number; 42704 for an unknown clause, 22023 for a text, digest or end that cannot be';

CREATE FUNCTION leyser.withdraw_attestation(attestation_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    clause text;
BEGIN
    UPDATE leyser.attestation_record a SET withdrawn_at = clock_timestamp()
        WHERE a.attestation_id = withdraw_attestation.attestation_id AND a.withdrawn_at IS NULL AND a.valid_until > clock_timestamp()
        RETURNING a.clause INTO clause;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no such attestation that holds',
            DETAIL = 'It has ended, was withdrawn, or was never made.',
            HINT = 'See view leyser.attestation.';
    END IF;
    PERFORM leyser.record_event('attestation.withdrawn', NULL, clause, jsonb_build_object('attestation_id', withdraw_attestation.attestation_id));
END
$$;
REVOKE ALL ON FUNCTION leyser.withdraw_attestation(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.withdraw_attestation(bigint) IS
    'operator: ends an attestation before its time; its row stays; LY008 where there is none that holds';

CREATE VIEW leyser.attestation AS
    SELECT a.attestation_id, a.clause, a.statement, a.attested_by, pg_catalog.encode(a.document_sha256, 'hex') AS document_sha256,
           a.recorded_by, a.recorded_at, a.valid_until, a.withdrawn_at,
           a.withdrawn_at IS NULL AND a.valid_until > pg_catalog.clock_timestamp() AS is_valid
    FROM leyser.attestation_record a;
COMMENT ON VIEW leyser.attestation IS
    'what was attested about the clauses of the white paper: by whom, resting on which document, until when (operator, auditor)';
