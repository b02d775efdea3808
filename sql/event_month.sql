-- Months: the tables in which events lie.
--
-- Each is a child of event_record by inheritance, made ahead.  They are no members of
-- the extension, so that a dump carries them as tables with their rows, but go with
-- it.  An event for whose month there is none lies in event_record itself.

CREATE FUNCTION leyser.bind_event_month(relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_event_month_bind';
REVOKE ALL ON FUNCTION leyser.bind_event_month(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bind_event_month(regclass) IS
    'internal: a month''s table goes with the extension, of which it is no member';

CREATE FUNCTION leyser.event_month_name(month date) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'event_record_' || to_char(month::timestamp, 'YYYY_MM') $$;
REVOKE ALL ON FUNCTION leyser.event_month_name(date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_month_name(date) IS 'internal: the name of the table of a month''s events';

CREATE FUNCTION leyser.event_months() RETURNS TABLE (relation regclass, begins timestamptz, ends timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT c.oid::regclass, m.month AT TIME ZONE 'UTC', (m.month + interval '1 month') AT TIME ZONE 'UTC'
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL (SELECT to_date(substr(c.relname, 14), 'YYYY_MM')::timestamp AS month) m
    WHERE i.inhparent = 'leyser.event_record'::regclass AND c.relname ~ '^event_record_\d{4}_\d{2}$'
    ORDER BY m.month
$$;
REVOKE ALL ON FUNCTION leyser.event_months() FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_months() IS 'internal: the tables of months, the oldest first';

CREATE FUNCTION leyser.add_event_month(month date) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
DECLARE
    name text := leyser.event_month_name(month);
BEGIN
    EXECUTE format('CREATE TABLE leyser.%I (CONSTRAINT event_month CHECK (at >= %L AND at < %L)) INHERITS (leyser.event_record)', name,
        to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
    EXECUTE format('ALTER TABLE leyser.%I ADD CONSTRAINT %I PRIMARY KEY (event_id)', name, name || '_pkey');
    EXECUTE format('CREATE INDEX %I ON leyser.%I (tenant_id, event_id)', name || '_tenant', name);
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE ON leyser.%I
        FOR EACH ROW EXECUTE FUNCTION leyser.refuse_event_change()', name);
    EXECUTE format('CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON leyser.%I
        FOR EACH STATEMENT EXECUTE FUNCTION leyser.refuse_event_change()', name);
    EXECUTE format('ALTER TABLE leyser.%I ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_removal', name);
    EXECUTE format('COMMENT ON TABLE leyser.%I IS %L', name, 'events of ' || to_char(month, 'YYYY-MM') || ', by UTC');
    EXECUTE format('COMMENT ON INDEX leyser.%I IS %L', name || '_tenant', 'one tenant''s events, in order');
    EXECUTE format('COMMENT ON TRIGGER refuse_change ON leyser.%I IS %L', name, 'the event log is append-only');
    EXECUTE format('COMMENT ON TRIGGER refuse_removal ON leyser.%I IS %L', name, 'the event log is append-only');
END
$$;
REVOKE ALL ON FUNCTION leyser.add_event_month(date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_event_month(date) IS 'internal: makes the table of a month''s events';

-- This month and the next two.
CREATE FUNCTION leyser.missing_event_months() RETURNS SETOF date
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m::date FROM generate_series(date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC'),
        clock_timestamp() AT TIME ZONE 'UTC' + interval '2 months', interval '1 month') m
    WHERE to_regclass('leyser.' || leyser.event_month_name(m::date)) IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.missing_event_months() FROM PUBLIC;
COMMENT ON FUNCTION leyser.missing_event_months() IS 'internal: months for whose events there should be a table, and is none';

-- A dump carries the tables, and not that they go with the extension.
CREATE FUNCTION leyser.unbound_event_months() RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.relation FROM leyser.event_months() m WHERE NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = m.relation AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x')
$$;
REVOKE ALL ON FUNCTION leyser.unbound_event_months() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unbound_event_months() IS 'internal: tables of months that would stand in the way of DROP EXTENSION';

CREATE FUNCTION leyser.add_event_months() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.add_event_month(m) FROM leyser.missing_event_months() m;
    SELECT leyser.bind_event_month(u) FROM leyser.unbound_event_months() u
$$;
REVOKE ALL ON FUNCTION leyser.add_event_months() FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_event_months() IS 'internal: makes the tables of this month''s events and the next two''s';
