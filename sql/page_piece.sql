-- What the page is put together from.
--
-- A function named page_… returns markup; whatever else comes into the page goes through
-- xml_text().  The page is HTML and XHTML at once.

CREATE FUNCTION leyser.page_say(look leyser.clause_look, key text, VARIADIC arguments text[] DEFAULT '{}') RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leyser.xml_text(leyser.tell(look.language, page_say.key, VARIADIC arguments)) $$;
REVOKE ALL ON FUNCTION leyser.page_say(leyser.clause_look, text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_say(leyser.clause_look, text, text[]) IS 'internal: a phrase, its arguments as they are';

CREATE FUNCTION leyser.page_number(number bigint) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_char(number, 'FM9,999,999,999,999,999,990') $$;
REVOKE ALL ON FUNCTION leyser.page_number(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_number(bigint) IS 'internal: a number for people';

CREATE FUNCTION leyser.page_date(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('<span class="line">%s</span>', leyser.told_day(moment)) WHERE moment IS NOT NULL $$;
REVOKE ALL ON FUNCTION leyser.page_date(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_date(timestamptz) IS 'internal: a day of UTC, on one line; NULL where there is none';

CREATE FUNCTION leyser.page_time(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN isfinite(moment) THEN format('<time datetime="%s">%s %s</time>',
        to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'), leyser.page_date(moment), to_char(moment AT TIME ZONE 'UTC', 'HH24:MI')) ELSE '∞' END
    WHERE moment IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.page_time(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_time(timestamptz) IS 'internal: a moment of UTC; NULL where there is none';

-- ---- signs ----

-- A sign never stands alone: a word says the same.
CREATE FUNCTION leyser.page_symbols() RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0" style="position:absolute" aria-hidden="true" focusable="false"><defs>'
        || string_agg(format('<symbol id="sign-%s" viewBox="0 0 16 16"><g fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round">%s</g></symbol>',
                             s.name, s.shape), '' ORDER BY s.name)
        || '</defs></svg>'
    FROM (VALUES
        ('kept', '<circle cx="8" cy="8" r="6.75"/><path d="M4.9 8.3l2.1 2.1 4.1-4.5"/>'),
        ('risk', '<path d="M8 1.75l6.75 12.25H1.25z"/><path d="M8 6.5v3.25M8 11.75v.01"/>'),
        ('broken', '<circle cx="8" cy="8" r="6.75"/><path d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>'),
        ('attested', '<path d="M3 1.5h6.5L13 5v9.5H3z"/><path d="M5.75 7.5h4.5M5.75 10.5h4.5"/>'),
        ('declared', '<path d="M1.5 2.5h13v8.5H8l-3.5 3v-3h-3z"/>'),
        ('outside', '<circle cx="8" cy="8" r="6.75" stroke-dasharray="2.6 2.7"/>'),
        ('complete', '<circle cx="8" cy="8" r="6.75"/><circle cx="8" cy="8" r="2" fill="currentColor"/>'),
        ('running', '<circle cx="8" cy="8" r="6.75"/><path d="M8 4.25V8l2.5 1.75"/>'),
        ('gone', '<circle cx="8" cy="8" r="6.75"/>'),
        ('open', '<path d="M6.75 8h2.5"/>')
    ) s (name, shape)
$$;
REVOKE ALL ON FUNCTION leyser.page_symbols() FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_symbols() IS 'internal: the signs of the page, to be used by their names';

CREATE FUNCTION leyser.page_sign(state text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE state WHEN 'at risk' THEN 'risk' WHEN 'outside the database' THEN 'outside' WHEN 'verified' THEN 'kept'
                      WHEN 'failed' THEN 'risk' WHEN 'missed' THEN 'broken' ELSE state END
$$;
REVOKE ALL ON FUNCTION leyser.page_sign(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_sign(text) IS 'internal: the name of the sign of a state, of leyser''s own words only';

CREATE FUNCTION leyser.page_status(look leyser.clause_look, status text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<span class="status %s"><svg xmlns="http://www.w3.org/2000/svg" class="sign" aria-hidden="true" focusable="false"><use href="#sign-%s"/></svg> %s</span>',
        leyser.page_sign(s.word), leyser.page_sign(s.word),
        CASE WHEN s.until <> '' THEN leyser.page_say(look, 'page attested until', s.until) ELSE leyser.page_say(look, 'page ' || s.word) END)
    FROM (SELECT split_part(status, ' until', 1), btrim(split_part(status, ' until', 2))) s (word, until)
$$;
REVOKE ALL ON FUNCTION leyser.page_status(leyser.clause_look, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_status(leyser.clause_look, text) IS 'internal: the status of a clause, in word, sign and colour';

-- ---- tables and figures ----

-- The first cell says what its row is about.
CREATE FUNCTION leyser.page_row(VARIADIC cells text[]) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format('<tr><th scope="row">%s</th>', coalesce(cells[1], ''))
        || (SELECT coalesce(string_agg(format('<td>%s</td>', coalesce(c.cell, '')), '' ORDER BY c.place), '')
            FROM unnest(cells[2:]) WITH ORDINALITY c (cell, place)) || E'</tr>\n'
$$;
REVOKE ALL ON FUNCTION leyser.page_row(text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_row(text[]) IS 'internal: a row of a table, of markup';

CREATE FUNCTION leyser.page_table(look leyser.clause_look, name text, caption text, headers text[], rows text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format(E'<table id="%s">\n<caption>%s</caption>\n<thead><tr>%s</tr></thead>\n<tbody>\n%s</tbody>\n</table>\n', name, leyser.page_say(look, caption),
        (SELECT string_agg(format('<th scope="col">%s</th>', leyser.page_say(look, h.key)), '' ORDER BY h.place)
         FROM unnest(headers) WITH ORDINALITY h (key, place)), rows)
    WHERE rows <> ''
$$;
REVOKE ALL ON FUNCTION leyser.page_table(leyser.clause_look, text, text, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_table(leyser.clause_look, text, text, text[], text) IS
    'internal: a table with a caption and headers (phrases) and rows (markup); NULL without rows';

CREATE FUNCTION leyser.page_more(look leyser.clause_look, rest bigint) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$ SELECT format(E'<p class="more">%s</p>\n', leyser.page_say(look, 'page more', leyser.page_number(rest))) WHERE rest > 0 $$;
REVOKE ALL ON FUNCTION leyser.page_more(leyser.clause_look, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_more(leyser.clause_look, bigint) IS 'internal: how many a bounded list leaves out; NULL for none';

-- Whoever reads the page by a program finds a figure by its name.
CREATE FUNCTION leyser.page_figure(look leyser.clause_look, name text, key text, value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$ SELECT format(E'<div><dt>%s</dt><dd data-figure="%s">%s</dd></div>\n', leyser.page_say(look, page_figure.key), name, value) $$;
REVOKE ALL ON FUNCTION leyser.page_figure(leyser.clause_look, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_figure(leyser.clause_look, text, text, text) IS 'internal: a figure (markup) under its name';

CREATE FUNCTION leyser.page_section(look leyser.clause_look, name text, key text, content text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format(E'<section aria-labelledby="%s">\n<h2 id="%s">%s</h2>\n%s</section>\n', name, name, leyser.page_say(look, page_section.key), content)
$$;
REVOKE ALL ON FUNCTION leyser.page_section(leyser.clause_look, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_section(leyser.clause_look, text, text, text) IS 'internal: a section of the page with its heading';
