-- The feed: what a status page shows while the database is away.  It holds published
-- notices only, names no tenant, and is the same text as long as nothing was said.

CREATE FUNCTION leyser.feed_time(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') $$;
REVOKE ALL ON FUNCTION leyser.feed_time(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.feed_time(timestamptz) IS 'internal: a moment as RFC 3339 has it, in UTC';

-- Not xmlelement(): a server may be built without libxml, and it refuses characters that
-- no XML may have.  Those become U+FFFD.
CREATE FUNCTION leyser.xml_text(value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT replace(replace(replace(replace(replace(
        regexp_replace(value, '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\uFFFE\uFFFF]', chr(65533), 'g'),
        '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
$$;
REVOKE ALL ON FUNCTION leyser.xml_text(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.xml_text(text) IS 'internal: any text as XML and HTML have it in elements and attributes';

CREATE FUNCTION leyser.feed_entries(language text, max_entries integer)
    RETURNS TABLE (id text, notice_id bigint, number integer, change text, at timestamptz, kind text, severity text,
                   starts_at timestamptz, ends_at timestamptz, ended_at timestamptz, in_language text, subject text, body text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('urn:uuid:%s:notice:%s:%s', i.database_id, c.notice_id, c.number), c.notice_id, c.number, c.change, c.at, n.kind, c.severity,
           c.starts_at, c.ends_at, CASE WHEN c.change = 'ended' THEN n.ended_at END, t.language, t.subject, t.body
    FROM leyser.notice_change c
    JOIN leyser.notice_record n ON n.notice_id = c.notice_id AND n.published
    CROSS JOIN LATERAL (SELECT x.* FROM leyser.notice_text x WHERE x.notice_id = c.notice_id AND x.number = c.number
                        ORDER BY x.language <> feed_entries.language, x.language LIMIT 1) t
    CROSS JOIN leyser.identity i
    ORDER BY c.at DESC, c.notice_id DESC, c.number DESC LIMIT feed_entries.max_entries
$$;
REVOKE ALL ON FUNCTION leyser.feed_entries(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.feed_entries(text, integer) IS
    'internal: the newest changes of published notices, in a language where there is one';

CREATE FUNCTION leyser.json_feed(language text, max_entries integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT json_build_object('version', 'https://jsonfeed.org/version/1.1',
        'title', coalesce((leyser.present_notice_policy()).service_name, current_database()), 'language', json_feed.language,
        'items', coalesce(json_agg(json_build_object('id', e.id, 'title', e.subject, 'content_text', e.body, 'language', e.in_language,
            'date_published', leyser.feed_time(e.at), 'tags', json_build_array(e.kind, e.severity, e.change),
            '_leyser', json_build_object('notice_id', e.notice_id, 'number', e.number, 'kind', e.kind, 'severity', e.severity, 'change', e.change,
                'starts_at', leyser.feed_time(e.starts_at), 'ends_at', leyser.feed_time(e.ends_at), 'ended_at', leyser.feed_time(e.ended_at)))
            ORDER BY e.at DESC, e.notice_id DESC, e.number DESC), '[]'))::text
    FROM leyser.feed_entries(json_feed.language, json_feed.max_entries) e
$$;
REVOKE ALL ON FUNCTION leyser.json_feed(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.json_feed(text, integer) IS 'internal: the feed as JSON Feed 1.1';

CREATE FUNCTION leyser.atom_entry(id text, at timestamptz, kind text, severity text, in_language text, subject text, body text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<entry xml:lang="%s"><id>%s</id><title>%s</title><updated>%s</updated><category term="%s"/><category term="%s"/>'
                  '<content type="text">%s</content></entry>',
        in_language, leyser.xml_text(id), leyser.xml_text(subject), leyser.feed_time(at), kind, severity, leyser.xml_text(body)) || chr(10)
$$;
REVOKE ALL ON FUNCTION leyser.atom_entry(text, timestamptz, text, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.atom_entry(text, timestamptz, text, text, text, text, text) IS 'internal: an entry of the feed as Atom';

CREATE FUNCTION leyser.atom_feed(language text, max_entries integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH entry AS MATERIALIZED (SELECT * FROM leyser.feed_entries(atom_feed.language, atom_feed.max_entries))
    SELECT format('<?xml version="1.0" encoding="UTF-8"?>%s<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="%s"><id>urn:uuid:%s</id>'
                  '<title>%s</title><updated>%s</updated><author><name>%s</name></author>%s%s</feed>%s',
        chr(10), atom_feed.language, i.database_id, leyser.xml_text(s.title),
        coalesce((SELECT leyser.feed_time(max(e.at)) FROM entry e), '1970-01-01T00:00:00Z'), leyser.xml_text(s.title), chr(10),
        coalesce((SELECT string_agg(leyser.atom_entry(e.id, e.at, e.kind, e.severity, e.in_language, e.subject, e.body), ''
                  ORDER BY e.at DESC, e.notice_id DESC, e.number DESC) FROM entry e), ''), chr(10))
    FROM leyser.identity i, (SELECT coalesce(p.service_name, current_database()) AS title FROM leyser.present_notice_policy() p) s
$$;
REVOKE ALL ON FUNCTION leyser.atom_feed(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.atom_feed(text, integer) IS 'internal: the feed as Atom (RFC 4287)';

CREATE FUNCTION leyser.notice_feed(format text DEFAULT 'json', language text DEFAULT 'en', max_entries integer DEFAULT 100) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_language(language);
    IF (max_entries BETWEEN 1 AND 1000) IS NOT TRUE OR (format IN ('json', 'atom')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid feed', DETAIL = 'Formats are json and atom; it has 1 to 1000 entries.',
            HINT = 'For example leyser.notice_feed(''atom'', ''ja'').';
    END IF;
    RETURN CASE format WHEN 'json' THEN leyser.json_feed(language, max_entries) ELSE leyser.atom_feed(language, max_entries) END;
END
$$;
REVOKE ALL ON FUNCTION leyser.notice_feed(text, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.notice_feed(text, text, integer) IS
    'operator, mailer: the newest changes of published notices as a JSON Feed 1.1 (json) or Atom (atom), for a page that lives when the database does not; names no tenant, and stays the same until something is said; in the other language where a notice has no words in this one; 22023 for an unknown format or language, or a number of entries that is not 1 to 1000';
