-- Who may call what: one page to review.
--
-- Everything else in the schema is for superusers only: every function is
-- revoked from PUBLIC where it is created (save the five that policies call),
-- and no table was granted to anybody.

-- PUBLIC.  Policies and defaults run with the rights of whoever queries, so the
-- getters are everybody's; they show a role its own context only.  protect()
-- checks that its caller owns the table, and only ever tightens.
GRANT USAGE ON SCHEMA leyser TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    leyser.account_name(),
    leyser.session_id(),
    leyser.context_status(),
    leyser.connection_status(),
    leyser.own_connection(),
    leyser.leave(),
    leyser.tenant_id_problem(text),
    leyser.require_permission(text, text),
    leyser.scope_problem(text),
    leyser.set_permissions(regclass, text, text, name),
    leyser.enter_support(text),
    leyser.validate_constraint(regclass, name),
    leyser.observe_rows(bigint, boolean, integer, "any"),
    leyser.protection_is_suspended(bigint, boolean),
    leyser.protect(regclass, name, text, text, boolean, boolean)
    TO PUBLIC;
-- These check the same.
GRANT EXECUTE ON PROCEDURE
    leyser.protect_schema(regnamespace, name, interval, interval),
    leyser.add_tenant_column(regclass, name, name, integer, interval, interval)
    TO PUBLIC;

-- Where the installer's default privileges took them from PUBLIC.
DO $$
DECLARE
    called_by_policies CONSTANT regprocedure[] := '{leyser.tenant_id(),leyser.tenant_id_int8(),leyser.tenant_id_uuid(),
        "leyser.has_permission(text,text)","leyser.row_permission(text,text)"}';
    function regprocedure;
BEGIN
    FOR function IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.oid = ANY (called_by_policies) AND p.proacl IS NOT NULL LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', function);
    END LOOP;
END $$;

-- What each usage stands for; grant_usage() grants these to a role.  The right
-- on the schema is granted to each role besides: it keeps a role that has a
-- usage from being dropped before the usage is revoked.
CREATE FUNCTION leyser.usage_rights()
    RETURNS TABLE (usage text, privilege text, object_kind text, object text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.usage, 'USAGE', 'SCHEMA', 'leyser' FROM unnest(ARRAY['application', 'gateway',
        'provisioner', 'operator', 'key_custodian', 'backup', 'exporter', 'mailer', 'monitor', 'auditor']) r (usage)
    UNION ALL
    -- gateways may do all that applications may
    SELECT unnest(CASE r.usage WHEN 'application' THEN '{application,gateway}' ELSE ARRAY[r.usage] END),
           'EXECUTE', 'FUNCTION', r.object FROM (VALUES
        -- these check the context's account
        ('application', 'leyser.create_role(text, text[])'),
        ('application', 'leyser.alter_role(text, text[], text[], text[], text[])'),
        ('application', 'leyser.drop_role(text, boolean)'),
        ('application', 'leyser.grant_permission(text, text, text, timestamptz, timestamptz, boolean)'),
        ('application', 'leyser.grant_role(text, text, text, timestamptz, timestamptz, boolean)'),
        ('application', 'leyser.revoke_permission(text, text, text, boolean)'),
        ('application', 'leyser.revoke_role(text, text, text, boolean)'),
        ('application', 'leyser.deny_permission(text, text, text, timestamptz, timestamptz)'),
        ('application', 'leyser.lift_denial(text, text, text)'),
        ('application', 'leyser.grant_administrator(text)'),
        ('application', 'leyser.revoke_administrator(text, boolean)'),
        ('application', 'leyser.explain_permission(text, text, text)'),
        ('application', 'leyser.permissions_of(text)'),
        ('application', 'leyser.accounts_with(text, text)'),
        ('application', 'leyser.permission_history(text)'),
        ('application', 'leyser.had_permission(text, text, text, timestamptz)'),
        -- views role and granted call them with the rights of whoever reads the view
        ('application', 'leyser.list_roles()'),
        ('application', 'leyser.list_grants()'),
        ('application', 'leyser.grant_support_access(regrole, interval, text)'),
        ('application', 'leyser.revoke_support_access(regrole)'),
        ('application', 'leyser.list_support_access()'),
        ('application', 'leyser.login(text, text, text, interval, inet)'),
        ('application', 'leyser.renew_token()'),
        ('application', 'leyser.logout()'),
        ('application', 'leyser.revoke_sessions(text)'),
        ('application', 'leyser.accept_invitation(text, text, text, text)'),
        ('application', 'leyser.change_password(text, text)'),
        ('application', 'leyser.invite_account(text, text, boolean, interval)'),
        ('application', 'leyser.create_account(text, text, boolean)'),
        ('application', 'leyser.import_account(text, text, text, boolean)'),
        ('application', 'leyser.disable_account(text)'),
        ('application', 'leyser.enable_account(text)'),
        ('application', 'leyser.rename_account(text, text)'),
        ('application', 'leyser.delete_account(text)'),
        ('application', 'leyser.reset_password(text, interval)'),
        ('application', 'leyser.import_table(regclass, name[])'),
        ('application', 'leyser.import_finish(regclass, integer)'),
        -- views account, account_event and session call them likewise
        ('application', 'leyser.sees_accounts()'),
        ('application', 'leyser.context_account_id()'),
        ('provisioner', 'leyser.invite_account(text, text, boolean, interval)'),
        ('provisioner', 'leyser.create_account(text, text, boolean)'),
        ('provisioner', 'leyser.recover_administrator(text, text, text, interval)'),
        ('operator', 'leyser.block_passwords(text[])'),
        ('operator', 'leyser.create_permission(text, text)'),
        ('operator', 'leyser.drop_permission(text)'),
        ('gateway', 'leyser.enter(text, text)'),
        ('gateway', 'leyser.issue_token(text, text, interval)'),
        -- view each_tenant calls it with the rights of whoever reads the view
        ('gateway', 'leyser.list_each_tenant()'),
        ('operator', 'leyser.list_each_tenant()'),
        ('auditor', 'leyser.list_each_tenant()'),
        ('provisioner', 'leyser.create_tenant(text, text, text)'),
        ('operator', 'leyser.suspend_tenant(text)'),
        ('operator', 'leyser.resume_tenant(text)'),
        ('operator', 'leyser.terminate_contract(text, timestamptz, text)'),
        ('operator', 'leyser.terminate_contract(text, date, text)'),
        ('operator', 'leyser.terminate_contract(text, text, text)'),
        ('operator', 'leyser.terminate_contract(text, timestamp, text)'),
        ('operator', 'leyser.confirm_termination(text)'),
        ('operator', 'leyser.cancel_termination(text)'),
        ('operator', 'leyser.hold_purge(text, text, date)'),
        ('operator', 'leyser.release_hold(text)'),
        ('operator', 'leyser.set_contract_time_zone(text)'),
        ('operator', 'leyser.set_backup_policy(integer, interval, text[], time, text, interval, boolean)'),
        ('backup', 'leyser.begin_backup(text, text, text, text, bigint, bigint, integer)'),
        ('backup', 'leyser.complete_backup(bigint, pg_lsn, pg_lsn, bigint, text)'),
        ('backup', 'leyser.fail_backup(bigint, text)'),
        ('backup', 'leyser.verify_backup(bigint, boolean, text)'),
        ('backup', 'leyser.confirm_backup_deleted(bigint)'),
        ('backup', 'leyser.expire_backups()'),
        ('backup', 'leyser.record_wal_archive(text, text, text)'),
        ('operator', 'leyser.register_external_store(text)'),
        ('operator', 'leyser.drop_external_store(text)'),
        ('operator', 'leyser.confirm_external_erasure(text, text)'),
        -- view contract calls it with the rights of whoever reads the view
        ('operator', 'leyser.purge_from(timestamptz)'),
        ('auditor', 'leyser.purge_from(timestamptz)'),
        ('operator', 'leyser.declare_table(regclass, text, text, text)'),
        ('operator', 'leyser.unprotect(regclass)'),
        ('operator', 'leyser.undo_adoption()'),
        ('operator', 'leyser.create_lookup(name, regclass, name[])'),
        ('operator', 'leyser.drop_lookup(regprocedure)'),
        ('operator', 'leyser.key_remedies(regclass)'),
        ('auditor', 'leyser.key_remedies(regclass)'),
        -- view lookup calls it with the rights of whoever reads the view
        ('operator', 'leyser.list_lookups()'),
        ('auditor', 'leyser.list_lookups()'),
        ('operator', 'leyser.retry_job(text)'),
        ('operator', 'leyser.set_event_retention(interval)'),
        ('operator', 'leyser.audit(regclass, name[], name[])'),
        ('operator', 'leyser.unaudit(regclass)'),
        -- view tenant_event calls it with the rights of whoever reads the view
        ('application', 'leyser.audit_images(bytea)'),
        -- view audited_table calls it with the rights of whoever reads the view
        ('operator', 'leyser.audit_arguments()'),
        ('auditor', 'leyser.audit_arguments()'),
        -- view anomaly calls it with the rights of whoever reads the view
        ('operator', 'leyser.list_anomalies()'),
        ('auditor', 'leyser.list_anomalies()'),
        ('auditor', 'leyser.verify_events(text, timestamptz, timestamptz, text)'),
        ('auditor', 'leyser.event_digest()'),
        ('operator', 'leyser.suspend_protection(regclass, text, interval, boolean)'),
        ('operator', 'leyser.forget_context_gaps(regclass)'),
        ('operator', 'leyser.govern_schema(regnamespace)'),
        ('operator', 'leyser.ungovern_schema(regnamespace)'),
        -- views governed_table and context_gap call them with the rights of whoever reads the view
        ('operator', 'leyser.table_gaps(regclass)'),
        ('auditor', 'leyser.table_gaps(regclass)'),
        ('operator', 'leyser.kind_of(regclass)'),
        ('auditor', 'leyser.kind_of(regclass)'),
        ('operator', 'leyser.observed_since()'),
        ('auditor', 'leyser.observed_since()'),
        ('operator', 'leyser.list_context_gaps()'),
        ('auditor', 'leyser.list_context_gaps()'),
        -- and view granted_usage this
        ('operator', 'leyser.usage_problems(regrole)'),
        ('auditor', 'leyser.usage_problems(regrole)'),
        ('operator', 'leyser.check_security(text)'),
        ('auditor', 'leyser.check_security(text)'),
        ('operator', 'leyser.clock_status()'),
        ('auditor', 'leyser.clock_status()'),
        -- connection_status() calls it where it may
        ('operator', 'leyser.other_connections()'),
        ('auditor', 'leyser.other_connections()'),
        ('operator', 'leyser.waive_check(text, text, text, timestamptz)'),
        ('operator', 'leyser.lift_waiver(text, text)'),
        ('operator', 'leyser.white_paper(text)'),
        ('auditor', 'leyser.white_paper(text)'),
        ('monitor', 'leyser.metrics()'),
        ('operator', 'leyser.metrics()'),
        ('auditor', 'leyser.metrics()'),
        ('operator', 'leyser.white_paper_html(text, boolean)'),
        ('auditor', 'leyser.white_paper_html(text, boolean)'),
        ('operator', 'leyser.attest(text, text, text, text, timestamptz)'),
        ('operator', 'leyser.withdraw_attestation(bigint)'),
        -- views check_rule and check_finding call it with the rights of whoever reads the view
        ('operator', 'leyser.list_rules()'),
        ('auditor', 'leyser.list_rules()'),
        -- view attack_attempt likewise
        ('operator', 'leyser.list_attempts()'),
        ('auditor', 'leyser.list_attempts()'),
        ('operator', 'leyser.purge_plan(text)'),
        ('auditor', 'leyser.purge_plan(text)'),
        ('operator', 'leyser.purge_report(text)'),
        ('operator', 'leyser.restore_is_held()'),
        ('auditor', 'leyser.restore_is_held()'),
        ('backup', 'leyser.restore_is_held()'),
        ('operator', 'leyser.guard_alerts()'),
        ('auditor', 'leyser.guard_alerts()'),
        ('backup', 'leyser.guard_alerts()'),
        ('auditor', 'leyser.purge_report(text)'),
        -- view purge_status calls it with the rights of whoever reads the view
        ('operator', 'leyser.purge_waits()'),
        ('auditor', 'leyser.purge_waits()'),
        ('backup', 'leyser.import_backups(text, jsonb, text, text, text)'),
        ('backup', 'leyser.sync_pgbackrest(text)'),
        ('operator', 'leyser.schedule()'),
        ('operator', 'leyser.unschedule()'),
        -- view backup_alert calls it with the rights of whoever reads the view
        ('operator', 'leyser.list_alerts(boolean)'),
        ('backup', 'leyser.list_alerts(boolean)'),
        ('auditor', 'leyser.list_alerts(boolean)'),
        -- and view work this
        ('operator', 'leyser.list_works()'),
        ('auditor', 'leyser.list_works()'),
        ('operator', 'leyser.protect_plan(regclass, name, text)'),
        ('auditor', 'leyser.protect_plan(regclass, name, text)'),
        ('key_custodian', 'leyser.initialize_keyring(boolean)'),
        ('key_custodian', 'leyser.stage_signing_key()'),
        ('key_custodian', 'leyser.activate_signing_key(text)'),
        ('key_custodian', 'leyser.retire_signing_key(text)'),
        ('key_custodian', 'leyser.add_issuer_key(text, text, text, text, text, text)'),
        ('key_custodian', 'leyser.remove_issuer_key(text)'),
        ('key_custodian', 'leyser.keyring_status()'),
        ('auditor', 'leyser.keyring_status()'),
        ('exporter', 'leyser.open_export(text, interval, text)'),
        ('exporter', 'leyser.close_export(regrole)'),
        ('exporter', 'leyser.export_rows(anyelement)'),
        ('exporter', 'leyser.export_plan(text)'),
        ('operator', 'leyser.export_plan(text)'),
        ('auditor', 'leyser.export_plan(text)'),
        ('auditor', 'leyser.list_privileged()'),
        ('operator', 'leyser.confirm_export(regrole)'),
        ('operator', 'leyser.close_export(regrole)'),
        ('operator', 'leyser.open_disclosure(text, text, interval, regrole, boolean, text, timestamptz)'),
        ('exporter', 'leyser.open_disclosure(text, text, interval, regrole, boolean, text, timestamptz)'),
        ('operator', 'leyser.confirm_disclosure(bigint)'),
        ('operator', 'leyser.close_disclosure(bigint)'),
        ('exporter', 'leyser.close_disclosure(bigint)'),
        ('exporter', 'leyser.enter_disclosure(bigint)'),
        ('operator', 'leyser.tell_disclosure(bigint)'),
        -- view disclosure calls it with the rights of whoever reads the view
        ('operator', 'leyser.disclosed_statements(leyser.disclosure_record)'),
        ('auditor', 'leyser.disclosed_statements(leyser.disclosure_record)'),
        ('operator', 'leyser.export_policies(text, text)'),
        ('operator', 'leyser.unprotect_all()'),
        ('backup', 'leyser.take_backup(text)'),
        ('operator', 'leyser.set_notice_policy(interval, text, text)'),
        ('operator', 'leyser.set_notice_audience(text, text, text)'),
        ('operator', 'leyser.add_contact(text, text, text, text)'),
        ('operator', 'leyser.remove_contact(bigint)'),
        ('operator', 'leyser.announce(text, text, text, text, timestamptz, timestamptz, text, jsonb, text[], boolean, text)'),
        ('operator', 'leyser.update_notice(bigint, text, text, text, timestamptz, timestamptz, text, jsonb, text[], text, boolean)'),
        ('operator', 'leyser.end_notice(bigint, text, text, timestamptz, text, jsonb)'),
        ('operator', 'leyser.retry_mail(bigint)'),
        ('operator', 'leyser.notice_feed(text, text, integer)'),
        ('mailer', 'leyser.notice_feed(text, text, integer)'),
        ('mailer', 'leyser.claim_mail(integer, interval)'),
        ('mailer', 'leyser.complete_mail(uuid, text)'),
        ('mailer', 'leyser.fail_mail(uuid, text, boolean)')
    ) r (usage, object)
    UNION ALL
    SELECT r.usage, 'EXECUTE', 'FUNCTION', f.function::text
    FROM unnest('{application,gateway}'::text[]) r (usage), leyser.lookup_functions() f
    UNION ALL
    -- views backup_generation, erasure_horizon and purge_status call them with the
    -- rights of whoever reads the view
    SELECT u.usage, 'EXECUTE', 'FUNCTION', r.object FROM unnest('{backup,operator,auditor}'::text[]) u (usage),
        (VALUES ('leyser.list_generations()'), ('leyser.list_horizon()')) r (object)
    UNION ALL
    SELECT u.usage, 'SELECT', 'TABLE', r.object FROM unnest('{backup,operator,auditor}'::text[]) u (usage),
        (VALUES ('leyser.backup_generation'), ('leyser.erasure_horizon')) r (object)
    UNION ALL
    SELECT 'gateway', 'EXECUTE', 'PROCEDURE', 'leyser.for_each_tenant(text, text[], text, text)'
    UNION ALL
    SELECT 'operator', 'EXECUTE', 'PROCEDURE', unnest(ARRAY['leyser.purge(text, integer, integer, boolean)',
        'leyser.tick(interval, boolean)', 'leyser.replay_purges()', 'leyser.accept_fence(text)'])
    UNION ALL
    SELECT unnest(CASE r.usage WHEN 'application' THEN '{application,gateway}' ELSE ARRAY[r.usage] END),
           'SELECT', 'TABLE', r.object FROM (VALUES
        ('application', 'leyser.permission'),
        ('operator', 'leyser.permission'),
        ('auditor', 'leyser.permission'),
        ('application', 'leyser.account'),
        ('application', 'leyser.account_event'),
        ('application', 'leyser.tenant_event'),
        ('application', 'leyser.tenant_notice'),
        ('application', 'leyser.tenant_usage'),
        ('application', 'leyser.session'),
        ('application', 'leyser.role'),
        ('application', 'leyser.granted'),
        ('application', 'leyser.support_access'),
        ('provisioner', 'leyser.tenant'),
        ('operator', 'leyser.tenant'),
        ('operator', 'leyser.contract'),
        ('auditor', 'leyser.contract'),
        ('operator', 'leyser.purge_status'),
        ('auditor', 'leyser.purge_status'),
        ('operator', 'leyser.export_window'),
        ('operator', 'leyser.privileged_window'),
        ('auditor', 'leyser.privileged_window'),
        ('auditor', 'leyser.privileged_access'),
        ('auditor', 'leyser.export_window'),
        ('operator', 'leyser.disclosure'),
        ('auditor', 'leyser.disclosure'),
        ('operator', 'leyser.job'),
        ('backup', 'leyser.job'),
        ('auditor', 'leyser.job'),
        ('operator', 'leyser.job_run'),
        ('backup', 'leyser.job_run'),
        ('auditor', 'leyser.job_run'),
        ('operator', 'leyser.backup_alert'),
        ('backup', 'leyser.backup_alert'),
        ('auditor', 'leyser.backup_alert'),
        ('operator', 'leyser.governed_table'),
        ('operator', 'leyser.check_rule'),
        ('operator', 'leyser.check_finding'),
        ('operator', 'leyser.check_waiver'),
        ('auditor', 'leyser.check_rule'),
        ('operator', 'leyser.attack_attempt'),
        ('auditor', 'leyser.attack_attempt'),
        ('auditor', 'leyser.check_finding'),
        ('auditor', 'leyser.check_waiver'),
        ('operator', 'leyser.attestation'),
        ('auditor', 'leyser.attestation'),
        ('operator', 'leyser.work'),
        ('auditor', 'leyser.work'),
        ('operator', 'leyser.lookup'),
        ('gateway', 'leyser.each_tenant'),
        ('operator', 'leyser.each_tenant'),
        ('auditor', 'leyser.each_tenant'),
        ('auditor', 'leyser.lookup'),
        ('operator', 'leyser.context_gap'),
        ('auditor', 'leyser.context_gap'),
        ('operator', 'leyser.granted_usage'),
        ('auditor', 'leyser.tenant'),
        ('auditor', 'leyser.governed_table'),
        ('auditor', 'leyser.granted_usage'),
        ('operator', 'leyser.contact'),
        ('operator', 'leyser.notice'),
        ('auditor', 'leyser.notice'),
        ('operator', 'leyser.notice_update'),
        ('auditor', 'leyser.notice_update'),
        ('operator', 'leyser.mail'),
        ('auditor', 'leyser.mail'),
        ('operator', 'leyser.mail_delivery'),
        ('auditor', 'leyser.mail_delivery'),
        ('operator', 'leyser.audited_table'),
        ('auditor', 'leyser.audited_table'),
        ('operator', 'leyser.daily_usage'),
        ('auditor', 'leyser.daily_usage'),
        ('operator', 'leyser.anomaly'),
        ('auditor', 'leyser.anomaly'),
        ('auditor', 'leyser.event')
    ) r (usage, object)
$$;
REVOKE ALL ON FUNCTION leyser.usage_rights() FROM PUBLIC;
COMMENT ON FUNCTION leyser.usage_rights() IS
    'internal: the plain rights that each usage stands for';
