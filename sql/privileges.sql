-- Who may call what: one page to review.
--
-- Everything else in the schema is for superusers only: every function is
-- revoked from PUBLIC where it is created, and no table was granted to anybody.

-- PUBLIC.  Policies and defaults run with the rights of whoever queries, so the
-- getters are everybody's; they show a role its own context only.  protect()
-- checks that its caller owns the table, and only ever tightens.
GRANT USAGE ON SCHEMA leyser TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    leyser.tenant_id(),
    leyser.tenant_id_int8(),
    leyser.tenant_id_uuid(),
    leyser.account_name(),
    leyser.session_id(),
    leyser.context_status(),
    leyser.leave(),
    leyser.tenant_id_problem(text),
    leyser.protect(regclass, name, text, text, boolean, boolean)
    TO PUBLIC;

-- What each usage stands for; grant_usage() grants these to a role.  The right
-- on the schema is granted to each role besides: it keeps a role that has a
-- usage from being dropped before the usage is revoked.
CREATE FUNCTION leyser.usage_rights()
    RETURNS TABLE (usage text, privilege text, object_kind text, object text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.usage, 'USAGE', 'SCHEMA', 'leyser' FROM unnest(ARRAY['application', 'gateway',
        'provisioner', 'operator', 'key_custodian', 'auditor']) r (usage)
    UNION ALL
    SELECT r.usage, 'EXECUTE', 'FUNCTION', r.object FROM (VALUES
        ('gateway', 'leyser.enter(text, text)'),
        ('gateway', 'leyser.issue_token(text, text, interval)'),
        ('provisioner', 'leyser.create_tenant(text, text, text)'),
        ('operator', 'leyser.suspend_tenant(text)'),
        ('operator', 'leyser.resume_tenant(text)'),
        ('operator', 'leyser.declare_table(regclass, text, text, text)'),
        ('operator', 'leyser.unprotect(regclass)'),
        -- view governed_table calls it with the rights of whoever reads the view
        ('operator', 'leyser.table_gaps(regclass)'),
        ('auditor', 'leyser.table_gaps(regclass)'),
        -- and view granted_usage this
        ('operator', 'leyser.usage_problems(regrole)'),
        ('auditor', 'leyser.usage_problems(regrole)'),
        ('key_custodian', 'leyser.initialize_keyring(boolean)'),
        ('key_custodian', 'leyser.stage_signing_key()'),
        ('key_custodian', 'leyser.activate_signing_key(text)'),
        ('key_custodian', 'leyser.retire_signing_key(text)'),
        ('key_custodian', 'leyser.add_issuer_key(text, text, text, text, text, text)'),
        ('key_custodian', 'leyser.remove_issuer_key(text)'),
        ('key_custodian', 'leyser.keyring_status()'),
        ('auditor', 'leyser.keyring_status()')
    ) r (usage, object)
    UNION ALL
    SELECT r.usage, 'SELECT', 'TABLE', r.object FROM (VALUES
        ('provisioner', 'leyser.tenant'),
        ('operator', 'leyser.tenant'),
        ('operator', 'leyser.governed_table'),
        ('operator', 'leyser.granted_usage'),
        ('auditor', 'leyser.tenant'),
        ('auditor', 'leyser.governed_table'),
        ('auditor', 'leyser.granted_usage'),
        ('auditor', 'leyser.event')
    ) r (usage, object)
$$;
REVOKE ALL ON FUNCTION leyser.usage_rights() FROM PUBLIC;
COMMENT ON FUNCTION leyser.usage_rights() IS
    'internal: the plain rights that each usage stands for';
