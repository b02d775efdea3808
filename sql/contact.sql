-- Contacts: who is told by mail.

CREATE FUNCTION leyser.check_language(language text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (language IN ('en', 'ja')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown language',
            DETAIL = 'Languages are en (English) and ja (Japanese).',
            HINT = 'Give one of them.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_language(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_language(text) IS 'internal: 22023 for an unknown language';

CREATE FUNCTION leyser.check_contact(tenant_id text, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (kind IN ('contract_holder', 'extra')) IS NOT TRUE OR tenant_id IS NULL AND kind <> 'extra' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown kind of contact',
            DETAIL = 'Kinds are contract_holder and extra; without a tenant it is extra.',
            HINT = 'See leyser.set_notice_audience(): who gets mail of which severity.';
    END IF;
    IF tenant_id IS NOT NULL THEN
        -- of two that decide about a contract one comes after the other
        PERFORM leyser.settle_contract(tenant_id);
        PERFORM leyser.refuse_ended_contract(tenant_id);
    END IF;
    IF (SELECT count(*) FROM leyser.contact_record c WHERE c.tenant_id IS NOT DISTINCT FROM check_contact.tenant_id) >= 50 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = 'too many contacts',
            DETAIL = 'There are 50 already.',
            HINT = 'Remove some with leyser.remove_contact(), or give the address of a mailing list.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_contact(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_contact(text, text) IS
    'internal: locks the tenant; 22023 for an unknown kind, 42704 for an unknown tenant, LY008 for an ended contract, 54000 for the 51st contact';

CREATE FUNCTION leyser.add_contact(tenant_id text, kind text, address text, language text DEFAULT 'en') RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    contact bigint;
BEGIN
    PERFORM leyser.check_mail_address(add_contact.address);
    PERFORM leyser.check_language(add_contact.language);
    PERFORM leyser.check_contact(add_contact.tenant_id, add_contact.kind);
    INSERT INTO leyser.contact_record (tenant_id, kind, address, language, added_by)
        VALUES (add_contact.tenant_id, add_contact.kind, add_contact.address, add_contact.language, leyser.caller()::text)
        ON CONFLICT DO NOTHING RETURNING contact_id INTO contact;
    IF contact IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation',
            MESSAGE = 'contact already exists',
            DETAIL = 'This tenant has the address for this kind.',
            HINT = 'See view leyser.contact; to change it, remove it first.';
    END IF;
    PERFORM leyser.record_event('contact.added', add_contact.tenant_id, contact::text,
        jsonb_build_object('kind', add_contact.kind, 'language', add_contact.language));
    RETURN contact;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_contact(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_contact(text, text, text, text) IS
    'operator: from now on mail of notices goes to this address, too (kind contract_holder or extra; language en or ja; tenant NULL: one of the provider''s own, kind extra); returns its contact_id; 22023 for an address, kind or language that cannot be, 42704 for an unknown tenant, LY008 for one whose contract has ended, 23505 for an address that is there, 54000 for more than 50';

CREATE FUNCTION leyser.remove_contact(contact_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    contact leyser.contact_record;
BEGIN
    DELETE FROM leyser.contact_record c WHERE c.contact_id = remove_contact.contact_id RETURNING c.* INTO contact;
    IF contact.contact_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'contact does not exist', DETAIL = 'No contact has this id.', HINT = 'See view leyser.contact.';
    END IF;
    UPDATE leyser.mail_record m SET state = 'cancelled', ended_at = clock_timestamp()
        WHERE m.contact_id = contact.contact_id AND m.state IN ('waiting', 'dead');
    PERFORM leyser.record_event('contact.removed', contact.tenant_id, contact.contact_id::text, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.remove_contact(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.remove_contact(bigint) IS
    'operator: mail goes to this contact no longer; what waits for it is cancelled, and so are its dead letters; what somebody sends at the moment may still arrive; 42704 for an unknown one';

CREATE VIEW leyser.contact AS
    SELECT c.contact_id, c.tenant_id, c.kind, c.address, c.language, c.added_at, c.added_by FROM leyser.contact_record c;
COMMENT ON VIEW leyser.contact IS 'who is told by mail (operator); tenant_id NULL: the provider''s own contacts';
