-- The message of a mail: headers and body in ASCII, lines as they go over the wire.
--
-- RFC 5322 (format), 2045 (base64), 2047 (other letters in headers).  A mail reads the
-- same each time it is made: nothing in it is looked up but the sender and the name.

-- An encoded word holds whole characters only, and no more than 75 letters; 39 bytes
-- leave room for the header's name on the first line.
CREATE FUNCTION leyser.encoded_words(value text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter text;
    bytes bytea;
    word bytea := '';
    words text[] := '{}';
BEGIN
    FOREACH letter IN ARRAY string_to_array(value, NULL) LOOP
        bytes := convert_to(letter, 'UTF8');
        IF octet_length(word) + octet_length(bytes) > 39 THEN
            words := words || ('=?UTF-8?B?' || encode(word, 'base64') || '?=');
            word := '';
        END IF;
        word := word || bytes;
    END LOOP;
    RETURN array_to_string(words || ('=?UTF-8?B?' || encode(word, 'base64') || '?='), chr(13) || chr(10) || ' ');
END
$$;
REVOKE ALL ON FUNCTION leyser.encoded_words(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.encoded_words(text) IS 'internal: a line as encoded words (RFC 2047), folded';

CREATE FUNCTION leyser.header_text(value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value ~ '^[A-Za-z0-9][ -~]*$' AND strpos(value, '=?') = 0 AND length(value) <= 60 THEN value
                ELSE leyser.encoded_words(value) END
$$;
REVOKE ALL ON FUNCTION leyser.header_text(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.header_text(text) IS 'internal: a subject as it stands in its header';

CREATE FUNCTION leyser.header_mailbox(name text, address text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN name IS NULL THEN address
                WHEN name ~ '^[A-Za-z0-9 ]{1,60}$' THEN format('%s <%s>', name, address)
                ELSE leyser.encoded_words(name) || chr(13) || chr(10) || format(' <%s>', address) END
$$;
REVOKE ALL ON FUNCTION leyser.header_mailbox(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.header_mailbox(text, text) IS 'internal: an address with the name beside it, as in From';

CREATE FUNCTION leyser.mail_body(body text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(encode(convert_to(replace(rtrim(body, chr(10)) || chr(10), chr(10), chr(13) || chr(10)), 'UTF8'), 'base64'),
                   chr(10), chr(13) || chr(10))
$$;
REVOKE ALL ON FUNCTION leyser.mail_body(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_body(text) IS 'internal: a body in base64, its own lines ended as mail''s are';

CREATE FUNCTION leyser.mail_message(mail leyser.mail_record, policy leyser.notice_policy) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(chr(13) || chr(10),
        'From: ' || leyser.header_mailbox(policy.service_name, policy.mail_sender),
        'To: ' || mail.address,
        'Subject: ' || leyser.header_text(t.subject),
        'Date: ' || to_char(mail.queued_at AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS') || ' +0000',
        format('Message-ID: <%s>', mail.message_id),
        'MIME-Version: 1.0',
        'Content-Type: text/plain; charset=UTF-8',
        'Content-Transfer-Encoding: base64',
        'Content-Language: ' || t.language,
        'Auto-Submitted: auto-generated',
        '',
        leyser.mail_body(t.body),
        '')
    FROM leyser.notice_text t
    WHERE t.notice_id = mail.notice_id AND t.number = mail.number AND t.language = mail.language
$$;
REVOKE ALL ON FUNCTION leyser.mail_message(leyser.mail_record, leyser.notice_policy) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_message(leyser.mail_record, leyser.notice_policy) IS
    'internal: the whole message of a mail, in ASCII, with CRLF after each line';
