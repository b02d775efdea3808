-- Tenants.

CREATE FUNCTION leyser.create_tenant(tenant_id text DEFAULT gen_random_uuid()::text,
                                     name text DEFAULT NULL, region text DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    problem text := CASE WHEN create_tenant.tenant_id IS NULL THEN 'It is null.'
                         ELSE leyser.tenant_id_problem(create_tenant.tenant_id) END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid tenant id', DETAIL = problem,
            HINT = 'Tenant ids have 1 to 200 characters; numbers and uuids in the form in which PostgreSQL prints them.';
    END IF;
    IF length(create_tenant.name) > 200 OR leyser.has_control_characters(create_tenant.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid name of a tenant',
            DETAIL = 'It has more than 200 characters, or control characters.',
            HINT = 'Give a name of one line.';
    END IF;
    IF length(create_tenant.region) > 63 OR create_tenant.region !~ '^[A-Za-z0-9_.-]+$' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid region',
            DETAIL = 'A region has 1 to 63 letters, digits, dots, dashes or underscores.',
            HINT = 'Give a region such as JP.';
    END IF;
    INSERT INTO leyser.tenant_record (tenant_id, name, region)
        VALUES (create_tenant.tenant_id, create_tenant.name, create_tenant.region)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation',
            MESSAGE = 'tenant already exists',
            DETAIL = 'A tenant id is given once and never again.',
            HINT = 'Leave tenant_id out to get a new uuid.';
    END IF;
    PERFORM leyser.record_event('tenant.created', create_tenant.tenant_id, create_tenant.name,
        jsonb_build_object('region', create_tenant.region));
    RETURN create_tenant.tenant_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.create_tenant(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_tenant(text, text, text) IS
    'provisioner: makes an active tenant and returns its id; 22023 for an id, name or region that cannot be, 23505 for one that exists';

-- The one place where a tenant's state moves.
CREATE FUNCTION leyser.move_tenant(tenant_id text, from_states text[], to_state text)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
BEGIN
    SELECT t.state INTO present FROM leyser.tenant_record t
        WHERE t.tenant_id = move_tenant.tenant_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    IF present <> ALL (from_states) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a tenant that is %s cannot become %s', present, to_state),
            DETAIL = format('It must be %s.', array_to_string(from_states, ' or ')),
            HINT = 'See view leyser.tenant.';
    END IF;
    UPDATE leyser.tenant_record t SET state = to_state, state_since = clock_timestamp()
        WHERE t.tenant_id = move_tenant.tenant_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.move_tenant(text, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.move_tenant(text, text[], text) IS
    'internal: moves a tenant from one of the given states to another, or raises LY008';

CREATE FUNCTION leyser.suspend_tenant(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.move_tenant(tenant_id, '{active}', 'suspended');
    PERFORM leyser.record_event('tenant.suspended', tenant_id, NULL, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.suspend_tenant(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.suspend_tenant(text) IS
    'operator: from the next statement on, every context of this tenant gets LY004; 42704 for an unknown tenant, LY008 where it is not active';

CREATE FUNCTION leyser.resume_tenant(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.move_tenant(tenant_id, '{suspended}', 'active');
    PERFORM leyser.record_event('tenant.resumed', tenant_id, NULL, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.resume_tenant(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.resume_tenant(text) IS
    'operator: lets a suspended tenant work again; 42704 for an unknown tenant, LY008 where it is not suspended';

CREATE FUNCTION leyser.tenant_is_active(tenant_id text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_tenant_is_active';
REVOKE ALL ON FUNCTION leyser.tenant_is_active(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tenant_is_active(text) IS
    'internal: whether a tenant is let in at this moment, as contexts are judged';

-- A contract that has ended is over, also before anybody wrote that down.
CREATE VIEW leyser.tenant AS
    SELECT t.tenant_id, t.name, t.region,
           CASE WHEN NOT ended THEN t.state
                WHEN EXISTS (SELECT FROM leyser.hold_record h WHERE h.tenant_id = t.tenant_id) THEN 'held'
                ELSE 'terminated' END AS state,
           t.created_at, CASE WHEN ended THEN t.ends_at ELSE t.state_since END AS state_since, t.ends_at
    FROM leyser.tenant_record t
    CROSS JOIN LATERAL (SELECT t.state = 'terminating' AND t.ends_at <= clock_timestamp()) e (ended);
COMMENT ON VIEW leyser.tenant IS 'tenants, their states, and when their contracts end (operator, provisioner, auditor)';
