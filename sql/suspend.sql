-- A gap in the protection of one table: recorded, and over by the clock.

CREATE FUNCTION leyser.check_suspendable(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present leyser.table_record;
    parent regclass;
BEGIN
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = check_suspendable.relation;
    IF present.tenant_attnum IS NULL OR present.enforcement = 'observe' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not enforced', check_suspendable.relation),
            DETAIL = CASE WHEN present.enforcement = 'observe' THEN 'It is observed: nothing is refused there.'
                     ELSE 'It is not protected.' END,
            HINT = 'See view leyser.governed_table.';
    END IF;
    SELECT i.inhparent INTO parent FROM pg_inherits i
        JOIN leyser.table_record t ON t.relation = i.inhparent AND t.tenant_attnum IS NOT NULL
        WHERE i.inhrelid = check_suspendable.relation LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is governed with its parent', check_suspendable.relation),
            DETAIL = 'Partitions and children follow their parent.',
            HINT = format('SELECT leyser.suspend_protection(%L, …);', parent);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_suspendable(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_suspendable(regclass) IS
    'internal: LY008 where a table''s protection cannot be suspended';

CREATE FUNCTION leyser.suspend_protection(relation regclass, reason text, valid_for interval,
                                          for_applications boolean DEFAULT false) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    -- whole seconds, which the policies carry
    new_until timestamptz := CASE WHEN suspend_protection.valid_for BETWEEN '0' AND interval '7 days'
        THEN date_trunc('second', clock_timestamp() + suspend_protection.valid_for) END;
    member leyser.table_record;
BEGIN
    PERFORM leyser.check_governable(suspend_protection.relation);
    IF coalesce(suspend_protection.reason, '') = '' OR coalesce(new_until <= clock_timestamp(), true) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid reason or time of a suspension',
            DETAIL = 'Auditors read why and how long a table was open; it takes at least a second and at most seven days.',
            HINT = format('SELECT leyser.suspend_protection(%L, ''why'', ''1 hour'');', suspend_protection.relation);
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', suspend_protection.relation);
    PERFORM leyser.check_suspendable(suspend_protection.relation);
    FOR member IN SELECT t.* FROM leyser.family_of(suspend_protection.relation) f
            JOIN leyser.table_record t ON t.relation = f.member AND t.tenant_attnum IS NOT NULL
            ORDER BY f.parent NULLS FIRST LOOP
        UPDATE leyser.table_record t SET enforcement = 'suspended', suspended_until = new_until,
                suspended_reason = suspend_protection.reason,
                suspended_for_applications = coalesce(suspend_protection.for_applications, false),
                enforcement_since = clock_timestamp()
            WHERE t.relation = member.relation;
        PERFORM leyser.protect_one(member.relation, member.parent, member.tenant_column,
            member.kind, member.set_default, member.accept_gaps);
    END LOOP;
    PERFORM leyser.follow_tables();
    PERFORM leyser.record_event('table.suspended', NULL, suspend_protection.relation::text,
        jsonb_build_object('reason', suspend_protection.reason, 'until', new_until,
                           'for_applications', coalesce(suspend_protection.for_applications, false)));
    RETURN new_until;
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(suspend_protection.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.suspend_protection(regclass, text, interval, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.suspend_protection(regclass, text, interval, boolean) IS
    'operator: until valid_for (at most 7 days) is over, transactions in which no context is or was set read and write all rows of a protected table, its partitions and children; roles with usage application or gateway only with for_applications; returns when it ends, by itself, or earlier by protect(relation, enforcement => ''enforce''); 22023 without a reason or for a wrong time, 42P01 or 42809 where it is no table, 55P03 where it is locked, LY008 where it is not enforced, or only with its parent';

CREATE FUNCTION leyser.ended_suspensions() RETURNS SETOF regclass
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT t.relation FROM leyser.table_record t
        WHERE t.enforcement = 'suspended' AND t.suspended_until <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM pg_inherits i JOIN leyser.table_record p ON p.relation = i.inhparent
                          WHERE i.inhrelid = t.relation AND p.enforcement = 'suspended')
        ORDER BY t.relation;
END
$$;
REVOKE ALL ON FUNCTION leyser.ended_suspensions() FROM PUBLIC;
COMMENT ON FUNCTION leyser.ended_suspensions() IS
    'internal: tables whose suspension has ended and stands in their policies still';

-- The clock ends a suspension; this only takes what is left of it out of the policies.
CREATE FUNCTION leyser.tidy_suspension(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
DECLARE
    member leyser.table_record;
BEGIN
    FOR member IN SELECT t.* FROM leyser.family_of(tidy_suspension.relation) f
            JOIN leyser.table_record t ON t.relation = f.member
            WHERE t.enforcement = 'suspended' AND t.suspended_until <= clock_timestamp()
            ORDER BY f.parent NULLS FIRST LOOP
        PERFORM leyser.protect_one(member.relation, member.parent, member.tenant_column,
            member.kind, member.set_default, member.accept_gaps);
    END LOOP;
    PERFORM leyser.record_event('table.suspension_ended', NULL, tidy_suspension.relation::text, NULL);
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(tidy_suspension.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.tidy_suspension(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tidy_suspension(regclass) IS
    'internal: takes a suspension that has ended out of the policies of a table and its children';
