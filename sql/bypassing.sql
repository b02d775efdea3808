-- Views and functions that read a protected table with the rights of somebody whom row
-- security does not bind: whoever may use them sees every tenant's rows.

-- Who reads a table is decided by the view that names it, whatever views lie above.  Of
-- functions the server knows what they read only where their body is parsed (BEGIN
-- ATOMIC); the others are named where their text has the table's name in it.
CREATE FUNCTION leyser.bypassing_dependents(relation regclass) RETURNS TABLE (object text, note text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH bypassing AS (
        SELECT r.oid, r.rolname FROM pg_roles r WHERE r.rolsuper OR r.rolbypassrls
    ), reader AS (
        SELECT DISTINCT v.oid, v.relkind, v.relowner FROM pg_depend d
        JOIN pg_rewrite w ON w.oid = d.objid
        JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = bypassing_dependents.relation
          AND d.classid = 'pg_rewrite'::regclass
          AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o
                          WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
    )
    SELECT v.oid::regclass::text,
           format(CASE v.relkind WHEN 'm' THEN 'materialized view "%s" keeps what "%s" sees, whom row security does not bind'
                  ELSE 'view "%s" reads it as "%s", whom row security does not bind' END, v.oid::regclass, b.rolname)
        FROM reader v JOIN bypassing b ON b.oid = v.relowner
    UNION ALL
    SELECT p.oid::regprocedure::text,
           format(CASE WHEN d.objid IS NULL THEN 'function "%s" names it and runs as "%s", whom row security does not bind'
                  ELSE 'function "%s" reads it as "%s", whom row security does not bind' END, p.oid::regprocedure, b.rolname)
        FROM pg_proc p
        JOIN bypassing b ON b.oid = p.proowner
        JOIN pg_class c ON c.oid = bypassing_dependents.relation
        LEFT JOIN LATERAL (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid LIMIT 1) d ON true
        WHERE p.prosecdef AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'leyser'::regnamespace)
          AND (d.objid IS NOT NULL
               OR strpos(lower(p.prosrc), lower(c.relname)) > 0
                  AND p.prosrc ~* ('\m' || regexp_replace(c.relname, '([^[:alnum:]_ ])', '\\\1', 'g') || '\M'))
          AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
                          AND e.deptype = 'e' AND e.refobjid = (SELECT x.oid FROM pg_extension x WHERE x.extname = 'leyser'))
$$;
REVOKE ALL ON FUNCTION leyser.bypassing_dependents(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypassing_dependents(regclass) IS
    'internal: views and definer functions that read a table past its row security, as sentences';

-- Told to whoever protects the table; view governed_table shows it later.
CREATE FUNCTION leyser.tell_bypassing(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    notes text[] := (SELECT array_agg(b.note ORDER BY b.object) FROM leyser.bypassing_dependents(relation) b);
BEGIN
    IF notes IS NOT NULL THEN
        RAISE NOTICE USING
            MESSAGE = format('"%s" is read past row security', relation),
            DETAIL = array_to_string(notes[1:10], '; ')
                || CASE WHEN cardinality(notes) > 10 THEN format('; and %s more', cardinality(notes) - 10) ELSE '' END || '.',
            HINT = 'ALTER VIEW … SET (security_invoker = true); or ALTER … OWNER TO a role that row security binds. Whoever may use them sees every tenant''s rows.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.tell_bypassing(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell_bypassing(regclass) IS
    'internal: NOTICE of the views and functions that read a table past its row security';
