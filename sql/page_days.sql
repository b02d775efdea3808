-- The page's drawing of days: a cell a day, a row a week, so that it can be read on a
-- phone as on a wall.

-- As far back as the ceiling, whose days may be missed.
CREATE FUNCTION leyser.page_day_states() RETURNS TABLE (day date, state text, generations bigint, labels text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH span AS MATERIALIZED (
        SELECT (clock_timestamp() AT TIME ZONE 'UTC' - (p.max_age + p.slack))::date AS first, (clock_timestamp() AT TIME ZONE 'UTC')::date AS last
        FROM leyser.present_backup_policy() p
    ), made AS (
        SELECT g.day, count(*) AS generations, array_agg(g.label ORDER BY g.started_at) AS labels,
               bool_or(g.state = 'verified') AS verified, bool_or(g.state = 'complete') AS complete, bool_or(g.state = 'running') AS running,
               bool_or(g.completed_at IS NOT NULL AND g.state <> 'orphan' AND (g.failed_at IS NULL OR g.verified_at > g.failed_at)) AS good
        FROM leyser.list_generations() g WHERE g.kind <> 'restore_copy' GROUP BY g.day
    )
    SELECT d.day::date, CASE WHEN m.day IS NOT NULL THEN 'missed' WHEN b.verified THEN 'verified' WHEN b.complete THEN 'complete'
                             WHEN b.running THEN 'running' WHEN b.good THEN 'gone' WHEN b.day IS NOT NULL THEN 'failed' ELSE 'open' END,
           coalesce(b.generations, 0), coalesce(b.labels, '{}')
    FROM span s CROSS JOIN LATERAL generate_series(s.first::timestamp, s.last, '1 day') d (day)
    LEFT JOIN made b ON b.day = d.day::date
    LEFT JOIN leyser.missed_days(clock_timestamp()) m ON m.day = d.day::date
$$;
REVOKE ALL ON FUNCTION leyser.page_day_states() FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_day_states() IS
    'internal: of each day of UTC as far back as the ceiling, the best that is known of its backups: missed, verified, complete, running, gone (good, and expired since), failed, open (nothing was due)';

CREATE FUNCTION leyser.page_day(look leyser.clause_look, day date, week integer, state text, generations bigint, labels text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<g class="%s" transform="translate(%s %s)"><title>%s: %s%s</title><rect width="44" height="44" rx="3"/><text x="22" y="14" text-anchor="middle">%s</text>'
                  '<use href="#sign-%s" x="%s" y="20" width="18" height="18"/>%s</g>',
        state, (extract(isodow FROM day)::integer - 1) * 48, 20 + week * 48,
        to_char(day, 'YYYY-MM-DD'), leyser.page_say(look, 'page day ' || state),
        CASE WHEN look.names AND generations > 0 THEN leyser.xml_text(' (' || leyser.name_some(look, labels) || ')') ELSE '' END,
        to_char(day, 'MM-DD'), leyser.page_sign(state), CASE WHEN generations > 1 THEN 6 ELSE 13 END,
        CASE WHEN generations > 1 THEN format('<text x="28" y="33">×%s</text>', least(generations, 99)) ELSE '' END)
$$;
REVOKE ALL ON FUNCTION leyser.page_day(leyser.clause_look, date, integer, text, bigint, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_day(leyser.clause_look, date, integer, text, bigint, text[]) IS 'internal: the cell of a day';

CREATE FUNCTION leyser.page_days(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH every AS MATERIALIZED (
        SELECT s.* FROM leyser.page_day_states() s
    ), drawn AS MATERIALIZED (
        SELECT e.*, (e.day - (date_trunc('week', min(e.day) OVER ())::date)) / 7 AS week FROM every e
        WHERE e.day > (clock_timestamp() AT TIME ZONE 'UTC')::date - 92
    ), about AS (
        SELECT leyser.page_say(look, 'page days about', to_char(min(d.day), 'YYYY-MM-DD'), to_char(max(d.day), 'YYYY-MM-DD'), count(*) FILTER (WHERE d.state = 'missed')::text,
                   coalesce(array_to_string((array_agg(to_char(d.day, 'YYYY-MM-DD') ORDER BY d.day) FILTER (WHERE d.state = 'missed'))[:31], ', ') || '.', '')) AS text,
               max(d.week) * 48 + 65 AS height
        FROM drawn d
    )
    SELECT format(E'<figure>\n<figcaption>%s</figcaption>\n<svg xmlns="http://www.w3.org/2000/svg" class="days" role="img" aria-labelledby="days-title days-about" viewBox="-1 0 334 %s">\n'
                  '<title id="days-title">%s</title><desc id="days-about">%s</desc>\n%s\n%s\n</svg>\n<ul class="legend">%s</ul>\n%s</figure>\n',
        leyser.page_say(look, 'page days'), a.height, leyser.page_say(look, 'page days'), a.text,
        (SELECT string_agg(format('<text x="%s" y="12" text-anchor="middle">%s</text>', (w.place - 1) * 48 + 22, w.name), '' ORDER BY w.place)
         FROM unnest(string_to_array(leyser.page_say(look, 'page week'), ',')) WITH ORDINALITY w (name, place)),
        (SELECT string_agg(leyser.page_day(look, d.day, d.week, d.state, d.generations, d.labels), E'\n' ORDER BY d.day) FROM drawn d),
        (SELECT string_agg(format('<li class="%s"><svg xmlns="http://www.w3.org/2000/svg" class="sign" aria-hidden="true" focusable="false"><use href="#sign-%s"/></svg> %s: %s</li>',
             n.state, leyser.page_sign(n.state), leyser.page_say(look, 'page day ' || n.state), n.days), '' ORDER BY n.state)
         FROM (SELECT d.state, count(*) AS days FROM drawn d GROUP BY d.state) n),
        CASE WHEN (SELECT count(*) FROM every) > (SELECT count(*) FROM drawn)
             THEN format(E'<p class="more">%s</p>\n', leyser.page_say(look, 'page some days', '92')) ELSE '' END)
    FROM about a
$$;
REVOKE ALL ON FUNCTION leyser.page_days(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_days(leyser.clause_look) IS 'internal: the drawing of days, its description and its legend';
