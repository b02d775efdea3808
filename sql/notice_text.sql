-- The words of a notice: what can stand in a header, in a mail and in a feed.

CREATE FUNCTION leyser.check_notice_text(subject text, body text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN subject IS NULL OR btrim(subject) = '' THEN 'It is missing.'
        WHEN length(subject) > 200 THEN 'It has more than 200 characters.'
        WHEN leyser.has_control_characters(subject) THEN 'It has line breaks or other control characters.' END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid subject', DETAIL = problem, HINT = 'Give one line of up to 200 characters.';
    END IF;
    problem := CASE
        WHEN body IS NULL OR btrim(body, chr(10) || chr(9) || ' ') = '' THEN 'It is missing.'
        WHEN octet_length(body) > 1048576 THEN 'It has more than 1 MB.'
        WHEN leyser.has_control_characters(translate(body, chr(10) || chr(9), '')) THEN
            'It has control characters other than line breaks and tabs.' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid body', DETAIL = problem, HINT = 'Give plain text of up to 1 MB; for more, give the address of a page.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_notice_text(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_notice_text(text, text) IS
    'internal: 22023 for a subject of several lines, or a body that is too long';

CREATE FUNCTION leyser.check_translations(translations jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    translation record;
BEGIN
    IF (jsonb_typeof(translations) = 'object') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid translations', DETAIL = 'They are no object with a member for each language.',
            HINT = 'For example {"ja": {"subject": "…", "body": "…"}}.';
    END IF;
    FOR translation IN SELECT t.key, t.value FROM jsonb_each(translations) t LOOP
        PERFORM leyser.check_language(translation.key);
        IF jsonb_typeof(translation.value) <> 'object' OR (jsonb_typeof(translation.value -> 'subject') = 'string') IS NOT TRUE
           OR (jsonb_typeof(translation.value -> 'body') = 'string') IS NOT TRUE
           OR translation.value - 'subject' - 'body' <> '{}' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = 'invalid translations', DETAIL = 'A language has a subject and a body, both texts, and nothing else.',
                HINT = 'For example {"ja": {"subject": "…", "body": "…"}}.';
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_translations(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_translations(jsonb) IS
    'internal: 22023 for what is no object of languages with subject and body';

CREATE FUNCTION leyser.plain_lines(body text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$ SELECT regexp_replace(body, '\r\n|[\u2028\u2029]', chr(10), 'g') $$;
REVOKE ALL ON FUNCTION leyser.plain_lines(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plain_lines(text) IS 'internal: a text whose lines end as in the database, though they came as from Windows, or as Unicode has them';

CREATE FUNCTION leyser.notice_texts(language text, subject text, body text, translations jsonb)
    RETURNS TABLE (text_language text, text_subject text, text_body text)
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_language(language);
    PERFORM leyser.check_translations(translations);
    IF translations ? language THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid translations', DETAIL = 'The language of subject and body is among them, too.',
            HINT = 'Give language, or leave it out of translations.';
    END IF;
    FOR text_language, text_subject, text_body IN
            SELECT notice_texts.language, notice_texts.subject, leyser.plain_lines(notice_texts.body)
            UNION ALL
            SELECT t.key, t.value ->> 'subject', leyser.plain_lines(t.value ->> 'body') FROM jsonb_each(translations) t LOOP
        PERFORM leyser.check_notice_text(text_subject, text_body);
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.notice_texts(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.notice_texts(text, text, text, jsonb) IS
    'internal: the words of a change by language; 22023 for what cannot be';
