-- The white paper as one page that needs nothing else: no scripts, no resources.
--
-- It is written to be published.  Without names it has figures, dates, regions and the
-- words of attestations; tenants, roles, objects, labels and remedies only with them.
-- Lists are bounded: the page stays small however many tenants there are.

CREATE FUNCTION leyser.page_state(look leyser.clause_look, clauses leyser.told_clause[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.page_table(look, 'statuses', 'page by status', '{page status,page number,page clauses}',
        string_agg(leyser.page_row(leyser.page_status(look, s.status), format('<span data-figure="clauses %s">%s</span>', s.status, s.clauses),
                                   format('<span class="links">%s</span>', s.links)), ''
                   ORDER BY array_position('{broken,at risk,kept,attested,declared,outside the database}', s.status)))
    FROM (SELECT split_part(c.status, ' until', 1) AS status, count(*) AS clauses,
                 string_agg(format('<a href="#clause-%s">%s</a>', c.clause, c.clause), ' ' ORDER BY c.place) AS links
          FROM unnest(clauses) WITH ORDINALITY c (clause, promise, responsible, status, evidence, since, remedy, iso_27017, place)
          GROUP BY 1) s
$$;
REVOKE ALL ON FUNCTION leyser.page_state(leyser.clause_look, leyser.told_clause[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_state(leyser.clause_look, leyser.told_clause[]) IS 'internal: how many clauses are how';

CREATE FUNCTION leyser.page_clause(look leyser.clause_look, told leyser.told_clause) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format(E'<article aria-labelledby="clause-%s">\n<h3 id="clause-%s"><span class="no">%s</span> <span>%s</span></h3>\n<p class="status">%s</p>\n<dl>\n%s</dl>\n</article>\n',
        told.clause, told.clause, told.clause, leyser.xml_text(told.promise), leyser.page_status(look, told.status),
        (SELECT string_agg(format(E'<div%s><dt>%s</dt><dd>%s</dd></div>\n', CASE WHEN d.place < 3 THEN ' class="wide"' ELSE '' END,
                                  leyser.page_say(look, d.key), d.value), '' ORDER BY d.place)
         FROM (VALUES (1, 'page evidence', leyser.xml_text(told.evidence)),
                      (2, 'page remedy', CASE WHEN look.names THEN format('<pre><code>%s</code></pre>', leyser.xml_text(told.remedy))
                                              WHEN told.status IN ('broken', 'at risk') THEN leyser.page_say(look, 'page remedy left out') END),
                      (3, 'page since', leyser.page_time(told.since)),
                      (4, 'page responsible', leyser.xml_text(told.responsible)),
                      (5, 'page control', leyser.xml_text(told.iso_27017))) d (place, key, value)
         WHERE d.key <> 'page remedy' OR told.remedy <> '' AND d.value IS NOT NULL))
$$;
REVOKE ALL ON FUNCTION leyser.page_clause(leyser.clause_look, leyser.told_clause) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_clause(leyser.clause_look, leyser.told_clause) IS 'internal: a clause';

-- ---- backups ----

CREATE FUNCTION leyser.page_generations(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH there AS MATERIALIZED (
        SELECT g.*, row_number() OVER (ORDER BY g.started_at DESC, g.generation_id DESC) AS place, count(*) OVER () AS generations
        FROM leyser.list_generations() g WHERE g.state <> 'deleted'
    )
    SELECT leyser.page_table(look, 'generations', 'page generations', '{page began,page status,page region,page gone by}',
               string_agg(leyser.page_row(
                   leyser.page_time(t.started_at) || CASE WHEN look.names THEN format('<br/><span class="small">%s</span>', leyser.xml_text(t.label)) ELSE '' END,
                   leyser.page_say(look, 'page ' || t.state) || CASE WHEN t.countable THEN ', ' || leyser.page_say(look, 'page counts') ELSE '' END,
                   coalesce(leyser.xml_text(t.region), leyser.page_say(look, 'page unknown')), leyser.page_time(t.due_at)), '' ORDER BY t.place))
           || coalesce(leyser.page_more(look, max(t.generations) - 20), '')
    FROM there t WHERE t.place <= 20
$$;
REVOKE ALL ON FUNCTION leyser.page_generations(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_generations(leyser.clause_look) IS 'internal: the newest generations; NULL for none';

CREATE FUNCTION leyser.page_backups(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET jit = off
AS $$
    SELECT CASE WHEN count(g.generation_id) = 0 THEN format(E'<p>%s</p>\n', leyser.page_say(look, 'page no books')) ELSE
        format(E'<dl class="figures">\n%s</dl>\n', concat(
            leyser.page_figure(look, 'generations countable', 'page countable', leyser.page_say(look, 'page of promised',
                leyser.page_number(count(*) FILTER (WHERE g.countable)), leyser.page_number(max(p.generations)))),
            leyser.page_figure(look, 'generations present', 'page present', leyser.page_number(count(*) FILTER (WHERE g.state <> 'deleted'))),
            leyser.page_figure(look, 'days missed', 'page missed', leyser.page_number((SELECT count(*) FROM leyser.missed_days(clock_timestamp())))),
            leyser.page_figure(look, 'newest', 'page newest', coalesce(leyser.page_time(max(g.started_at) FILTER (WHERE g.completed_at IS NOT NULL)), leyser.page_say(look, 'page none'))),
            leyser.page_figure(look, 'verified last', 'page verified last', coalesce(leyser.page_time(max(g.verified_at)), leyser.page_say(look, 'page never')))))
        || leyser.page_days(look) || coalesce(leyser.page_generations(look), '') END
    FROM leyser.present_backup_policy() p LEFT JOIN leyser.list_generations() g ON true
$$;
REVOKE ALL ON FUNCTION leyser.page_backups(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_backups(leyser.clause_look) IS 'internal: what the books of backups say';

-- ---- erasures ----

-- Without names, how many are in which state.
CREATE FUNCTION leyser.page_purges(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH open AS MATERIALIZED (
        SELECT s.tenant_id, s.state, s.queued_at, s.blockers, row_number() OVER (ORDER BY s.queued_at, s.purge_id) AS place, count(*) OVER () AS purges
        FROM leyser.purge_status s WHERE s.state <> 'erased'
    )
    SELECT CASE WHEN look.names THEN
        (SELECT leyser.page_table(look, 'purges', 'page purges', '{page customer,page status,page queued,page waits for}',
                    string_agg(leyser.page_row(leyser.xml_text(o.tenant_id), leyser.page_say(look, 'page ' || o.state), leyser.page_time(o.queued_at),
                        CASE WHEN o.blockers <> '{}' THEN leyser.xml_text(leyser.name_some(look, o.blockers)) END), '' ORDER BY o.place))
                || coalesce(leyser.page_more(look, max(o.purges) - 20), '')
         FROM open o WHERE o.place <= 20)
    ELSE
        (SELECT leyser.page_table(look, 'purges', 'page purges', '{page status,page number}',
                    string_agg(leyser.page_row(leyser.page_say(look, 'page ' || n.state), format('<span data-figure="purges %s">%s</span>', n.state, leyser.page_number(n.purges))), ''
                               ORDER BY array_position('{due,deleting,waiting,scrubbing,held}', n.state)))
         FROM (SELECT o.state, count(*) AS purges FROM open o GROUP BY o.state) n)
    END
$$;
REVOKE ALL ON FUNCTION leyser.page_purges(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_purges(leyser.clause_look) IS 'internal: erasures that are not done; NULL for none';

-- Those that may still be in backups come first, and what is due first before all.
CREATE FUNCTION leyser.page_horizons(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH day AS (
        SELECT CASE WHEN look.names THEN h.tenant_id END AS tenant_id, date_trunc('day', h.erased_at, 'UTC') AS erased_on,
               CASE WHEN h.gone_at IS NULL THEN date_trunc('day', h.due_at, 'UTC') END AS due_on, date_trunc('day', h.gone_at, 'UTC') AS gone_on,
               h.gone_at IS NULL AND h.due_at < clock_timestamp() AS is_overdue, count(*) AS customers
        FROM leyser.horizon_ends() h GROUP BY 1, 2, 3, 4, 5
    ), placed AS MATERIALIZED (
        SELECT d.*, row_number() OVER (ORDER BY d.due_on, d.gone_on DESC, d.erased_on DESC, d.tenant_id) AS place FROM day d
    )
    SELECT leyser.page_table(look, 'horizons', 'page horizons', ARRAY['page erased on', CASE WHEN look.names THEN 'page customer' ELSE 'page customers' END, 'page gone on'],
               string_agg(leyser.page_row(leyser.page_date(p.erased_on), coalesce(leyser.xml_text(p.tenant_id), leyser.page_number(p.customers)),
                   CASE WHEN p.gone_on IS NOT NULL THEN leyser.page_date(p.gone_on)
                        ELSE leyser.page_say(look, CASE WHEN p.is_overdue THEN 'page overdue since' ELSE 'page due on' END, leyser.told_day(p.due_on)) END), '' ORDER BY p.place))
           || coalesce(leyser.page_more(look, (SELECT sum(r.customers)::bigint FROM placed r WHERE r.place > 20)), '')
    FROM placed p WHERE p.place <= 20
$$;
REVOKE ALL ON FUNCTION leyser.page_horizons(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_horizons(leyser.clause_look) IS 'internal: who is erased, or how many are, and when they are gone from all backups; NULL for none';

CREATE FUNCTION leyser.page_erasures(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET jit = off
AS $$
    WITH horizon AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE h.gone_at IS NULL) AS waiting, count(*) FILTER (WHERE h.gone_at IS NULL AND h.due_at < clock_timestamp()) AS overdue,
               count(h.gone_at) AS gone
        FROM leyser.horizon_ends() h
    ), tenant AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE t.state = 'erased') AS erased, count(*) FILTER (WHERE t.state = 'held') AS held FROM leyser.tenant_record t
    )
    SELECT format(E'<dl class="figures">\n%s</dl>\n', concat(
               leyser.page_figure(look, 'tenants erased', 'page erased', leyser.page_number(t.erased)),
               leyser.page_figure(look, 'purges open', 'page under way', leyser.page_number((SELECT count(*) FROM leyser.purge_record p WHERE p.state <> 'erased'))),
               leyser.page_figure(look, 'tenants held', 'page held', leyser.page_number(t.held)),
               leyser.page_figure(look, 'erased in backups', 'page in backups', leyser.page_number(h.waiting)),
               leyser.page_figure(look, 'erased overdue', 'page overdue', leyser.page_number(h.overdue)),
               leyser.page_figure(look, 'erased gone', 'page gone', leyser.page_number(h.gone))))
           || coalesce(leyser.page_purges(look), '') || coalesce(leyser.page_horizons(look), '')
    FROM horizon h CROSS JOIN tenant t
$$;
REVOKE ALL ON FUNCTION leyser.page_erasures(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_erasures(leyser.clause_look) IS 'internal: what is erased, and how far it is';

-- ---- the security check ----

CREATE FUNCTION leyser.page_rules(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT leyser.page_table(look, 'rules', 'page rules', '{page rule,page severity,page objects,page since}',
        string_agg(leyser.page_row(format('<span>%s</span><br/><span class="small" lang="en">%s</span>', leyser.xml_text(f.what), leyser.xml_text(f.check_id)),
            format('<span class="line">%s</span>', leyser.page_say(look, 'page ' || f.severity)),
            CASE WHEN look.names THEN leyser.xml_text(leyser.name_some(look, f.objects)) ELSE leyser.page_number(cardinality(f.objects)) END,
            leyser.page_date(f.since)), ''
            ORDER BY array_position('{critical,high,medium,low}', f.severity), f.check_id))
    FROM (SELECT f.check_id, f.severity, r.what, array_agg(f.object ORDER BY f.object) AS objects, min(f.since) AS since
          FROM unnest(look.findings) f JOIN leyser.told_rules(look.language) r ON r.check_id = f.check_id
          WHERE f.severity IS NOT NULL AND f.waived_until IS NULL GROUP BY f.check_id, f.severity, r.what) f
$$;
REVOKE ALL ON FUNCTION leyser.page_rules(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_rules(leyser.clause_look) IS 'internal: the rules with findings that nobody accepted; NULL for none';

CREATE FUNCTION leyser.page_findings(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET jit = off
AS $$
    SELECT coalesce((SELECT string_agg(format(E'<p class="caution">%s</p>\n', leyser.page_say(look, 'page family failed', f.check_id, f.finding)), '' ORDER BY f.check_id)
                     FROM unnest(look.findings) f WHERE f.severity IS NULL), '')
        || leyser.page_table(look, 'findings-by-severity', 'page by severity', '{page severity,page open,page accepted}',
            (SELECT string_agg(leyser.page_row(leyser.page_say(look, 'page ' || s.severity),
                        format('<span data-figure="findings %s">%s</span>', s.severity, s.open), format('<span data-figure="accepted %s">%s</span>', s.severity, s.accepted)), '' ORDER BY s.place)
             FROM (SELECT w.severity, w.place, count(f.check_id) FILTER (WHERE f.waived_until IS NULL) AS open, count(f.waived_until) AS accepted
                   FROM unnest('{critical,high,medium,low}'::text[]) WITH ORDINALITY w (severity, place)
                   LEFT JOIN unnest(look.findings) f ON f.severity = w.severity GROUP BY w.severity, w.place) s))
        || coalesce(leyser.page_rules(look), CASE WHEN NOT EXISTS (SELECT FROM unnest(look.findings) f WHERE f.severity IS NULL)
                                                  THEN format(E'<p class="more">%s</p>\n', leyser.page_say(look, 'page no finding')) ELSE '' END)
$$;
REVOKE ALL ON FUNCTION leyser.page_findings(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_findings(leyser.clause_look) IS 'internal: what the security check finds';

-- ---- the whole ----

-- Whatever slips into the page, nothing in it runs and nothing is fetched.
CREATE FUNCTION leyser.page_head(look leyser.clause_look) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format(E'<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="%s" xml:lang="%s">\n<head>\n<meta charset="utf-8"/>\n'
               '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; base-uri &#39;none&#39;; form-action &#39;none&#39;"/>'
               '\n<meta name="viewport" content="width=device-width, initial-scale=1"/>\n<meta name="color-scheme" content="light dark"/>\n'
               '<meta name="referrer" content="no-referrer"/>\n<title>%s</title>\n<style>%s</style>\n</head>\n<body>\n',
               look.language, look.language, leyser.page_say(look, 'page title'), leyser.page_style())
        || leyser.page_symbols()
        || format(E'\n<a class="skip" href="#content">%s</a>\n<header>\n<h1>%s</h1>\n<p>%s</p>\n<p>%s</p>\n<p%s>%s</p>\n<p class="muted">%s %s UTC</p>\n<nav aria-label="%s"><ul>%s</ul></nav>\n</header>\n',
               leyser.page_say(look, 'page skip'), leyser.page_say(look, 'page title'), leyser.page_say(look, 'page what'), leyser.page_say(look, 'page no certificate'),
               CASE WHEN look.names THEN ' class="caution"' ELSE '' END,
               leyser.page_say(look, CASE WHEN look.names THEN 'page with names' ELSE 'page without names' END),
               leyser.page_say(look, 'page as of'), leyser.page_time(clock_timestamp()), leyser.page_say(look, 'page contents'),
               (SELECT string_agg(format('<li><a href="#%s">%s</a></li>', s.name, leyser.page_say(look, 'page ' || s.name)), '' ORDER BY s.place)
                FROM unnest('{state,promises,backups,erasures,findings}'::text[]) WITH ORDINALITY s (name, place)))
$$;
REVOKE ALL ON FUNCTION leyser.page_head(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_head(leyser.clause_look) IS 'internal: the page as far as its main part';

CREATE FUNCTION leyser.white_paper_html(language text DEFAULT 'en', names boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET jit = off
AS $$
DECLARE
    look leyser.clause_look := leyser.look_around(white_paper_html.language, coalesce(white_paper_html.names, false));
    clauses leyser.told_clause[] := ARRAY(SELECT t FROM leyser.told_clauses(look) t);
BEGIN
    RETURN concat(
        leyser.page_head(look), E'<main id="content">\n',
        leyser.page_section(look, 'state', 'page state', leyser.page_state(look, clauses)),
        leyser.page_section(look, 'promises', 'page promises',
            (SELECT string_agg(leyser.page_clause(look, clauses[i]), '' ORDER BY i) FROM generate_subscripts(clauses, 1) i)),
        leyser.page_section(look, 'backups', 'page backups', leyser.page_backups(look)),
        leyser.page_section(look, 'erasures', 'page erasures', leyser.page_erasures(look)),
        leyser.page_section(look, 'findings', 'page findings', leyser.page_findings(look)),
        E'</main>\n<footer>\n<p>', leyser.page_say(look, 'page made by', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'leyser')),
        E'</p>\n</footer>\n</body>\n</html>\n');
END
$$;
REVOKE ALL ON FUNCTION leyser.white_paper_html(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.white_paper_html(text, boolean) IS
    'operator, auditor: white_paper() as one page of HTML that needs nothing else, in English (en) or Japanese (ja), to be written to a file in UTF-8: the promises and their state, backups by day, erasures and when they are gone from all backups, open findings; names: of tenants, roles, objects and labels, and the remedies, which a page that is published leaves out; at most 20 rows a list; 22023 for another language';
