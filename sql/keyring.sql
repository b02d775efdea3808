-- The keyring: signing keys (files, whose states are rows) and issuers' public
-- keys (rows).
--
-- A file cannot be rolled back, a row can.  So a file is made first and counts
-- only once its row is committed; what a crash leaves is a key file that
-- nothing refers to.  Custodians' calls wait for one another.

CREATE FUNCTION leyser.keyring_begin(command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_begin';
REVOKE ALL ON FUNCTION leyser.keyring_begin(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_begin(text) IS
    'internal: 25006 where nothing can be changed, before a file is written';

CREATE FUNCTION leyser.keyring_create() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_create';
REVOKE ALL ON FUNCTION leyser.keyring_create() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_create() IS
    'internal: makes a keyring in an empty directory and returns its id';

CREATE FUNCTION leyser.keyring_read_id() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_read_id';
REVOKE ALL ON FUNCTION leyser.keyring_read_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_read_id() IS
    'internal: the id of the keyring that lies in leyser.keyring_directory';

CREATE FUNCTION leyser.keyring_write_key(keyring_id uuid) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_write_key';
REVOKE ALL ON FUNCTION leyser.keyring_write_key(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_write_key(uuid) IS
    'internal: writes the file of a new signing key and returns the key''s id';

CREATE FUNCTION leyser.keyring_write_pepper(keyring_id uuid) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_write_pepper';
REVOKE ALL ON FUNCTION leyser.keyring_write_pepper(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_write_pepper(uuid) IS
    'internal: writes the file of a new keyring''s pepper, unless it is there';

CREATE FUNCTION leyser.keyring_check_key(key_id text, keyring_id uuid) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_check_key';
REVOKE ALL ON FUNCTION leyser.keyring_check_key(text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_check_key(text, uuid) IS
    'internal: LY002 unless the file of this signing key (or of the "pepper") can be read and is sound';

CREATE FUNCTION leyser.keyring_list_keys() RETURNS text[]
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_list_keys';
REVOKE ALL ON FUNCTION leyser.keyring_list_keys() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_list_keys() IS
    'internal: ids of the key files in leyser.keyring_directory, oldest first';

CREATE FUNCTION leyser.keyring_list_unfinished() RETURNS text[]
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_list_unfinished';
REVOKE ALL ON FUNCTION leyser.keyring_list_unfinished() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_list_unfinished() IS
    'internal: names of the files in leyser.keyring_directory that were never finished';

CREATE FUNCTION leyser.keyring_diagnose(key_id text, keyring_id uuid, OUT state text,
                                        OUT detail text, OUT remedy text, OUT found uuid)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_diagnose';
REVOKE ALL ON FUNCTION leyser.keyring_diagnose(text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_diagnose(text, uuid) IS
    'internal: how the keyring, or one key in it, is; raises nothing';

CREATE FUNCTION leyser.public_key_algorithm(pem text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'leyser_custodian_public_key_algorithm';
REVOKE ALL ON FUNCTION leyser.public_key_algorithm(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.public_key_algorithm(text) IS
    'internal: EdDSA, ES256 or RS256; 22023 with the reason where a PEM is no public key that leyser accepts';

-- The start of each changing call: nothing but this call changes keys until
-- the transaction ends.  Returns the keyring that this database is bound to.
CREATE FUNCTION leyser.keyring_lock(command text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.keyring_begin(command);
    LOCK TABLE leyser.signing_key IN SHARE ROW EXCLUSIVE MODE;
    RETURN (SELECT i.keyring_id FROM leyser.identity i);
END
$$;
REVOKE ALL ON FUNCTION leyser.keyring_lock(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_lock(text) IS
    'internal: lets custodians'' calls wait for one another, and returns the id of this database''s keyring';

-- Registers what lies in the keyring: the newest key as active, older ones as
-- retired.  A key that was retired here once stays retired.
CREATE FUNCTION leyser.keyring_adopt(keyring_id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text[] := leyser.keyring_list_keys();
    newest text := present[cardinality(present)];
BEGIN
    IF newest IS NULL THEN
        PERFORM leyser.keyring_write_pepper(keyring_adopt.keyring_id);
    ELSE
        -- keys without a pepper: it is lost, and so are the passwords under it
        PERFORM leyser.keyring_check_key('pepper', keyring_adopt.keyring_id);
    END IF;
    IF newest IS NULL
       OR EXISTS (SELECT FROM leyser.signing_key k WHERE k.key_id = newest) THEN
        newest := leyser.keyring_write_key(keyring_adopt.keyring_id);
    ELSE
        PERFORM leyser.keyring_check_key(newest, keyring_adopt.keyring_id);
    END IF;
    INSERT INTO leyser.signing_key (key_id, state, retired_at)
        SELECT p.id, 'retired', clock_timestamp() FROM unnest(present) p (id)
        WHERE p.id <> newest
        ON CONFLICT DO NOTHING;
    INSERT INTO leyser.signing_key (key_id, state, activated_at)
        VALUES (newest, 'active', clock_timestamp());
    UPDATE leyser.identity i SET keyring_id = keyring_adopt.keyring_id;
    RETURN newest;
END
$$;
REVOKE ALL ON FUNCTION leyser.keyring_adopt(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_adopt(uuid) IS
    'internal: binds this database to a keyring and registers its keys; returns the active one';

CREATE FUNCTION leyser.initialize_keyring(abandon_lost boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound uuid := leyser.keyring_lock('leyser.initialize_keyring()');
    diagnosis record;
    chosen uuid;
    active_key text;
BEGIN
    SELECT d.* INTO diagnosis FROM leyser.keyring_diagnose(NULL, bound) d;
    IF bound IS NOT NULL AND diagnosis.state = 'ok' THEN
        PERFORM leyser.begin_fence();
        RAISE NOTICE USING MESSAGE = 'this database uses this keyring already',
            HINT = 'leyser.keyring_status() shows its keys.';
        RETURN;
    END IF;
    -- Only what is seen to be gone can be given up: not what a setting, a mount
    -- or a file's mode hides.
    IF diagnosis.state NOT IN ('ok', 'lost', 'foreign') THEN
        PERFORM leyser.keyring_read_id(); -- raises, with the path in the server log
    END IF;
    IF diagnosis.state NOT IN ('ok', 'lost', 'foreign')
       OR (bound IS NOT NULL AND NOT coalesce(abandon_lost, false)) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY002', MESSAGE = diagnosis.detail,
            DETAIL = CASE WHEN bound IS NOT NULL THEN
                format('This database is bound to the keyring %s.', bound)
                ELSE 'This database is not bound to a keyring yet.' END,
            HINT = CASE WHEN bound IS NOT NULL AND diagnosis.state IN ('lost', 'foreign') THEN
                    'Copy the keyring directory from the primary or from its backup; it is not part of base backups. If it is gone for good, leyser.initialize_keyring(abandon_lost => true) gives it up: every token signed with it is refused from then on.'
                ELSE diagnosis.remedy END;
    END IF;
    IF bound IS NOT NULL THEN
        UPDATE leyser.signing_key k SET state = 'retired', retired_at = clock_timestamp()
            WHERE k.state <> 'retired';
        PERFORM leyser.record_event('keyring.abandoned', NULL, bound::text,
            jsonb_build_object('found', diagnosis.state));
    END IF;
    chosen := CASE WHEN diagnosis.state = 'lost' THEN leyser.keyring_create()
                   ELSE diagnosis.found END;
    active_key := leyser.keyring_adopt(chosen);
    PERFORM leyser.record_event('keyring.initialized', NULL, chosen::text,
        jsonb_build_object('adopted', diagnosis.state <> 'lost', 'active_key', active_key));
    -- where it lies elsewhere and cannot be written, purges say so
    PERFORM leyser.begin_fence();
    PERFORM leyser.start_purge_worker();
END
$$;
REVOKE ALL ON FUNCTION leyser.initialize_keyring(boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.initialize_keyring(boolean) IS
    'key custodian: makes a keyring in leyser.keyring_directory, or lets this database adopt the one that lies there; abandon_lost gives up a keyring that is lost or replaced, and every token signed with it; LY002 where the directory or the keyring cannot be used';

-- A key's row, for a step that needs it in a certain state.
CREATE FUNCTION leyser.require_signing_key(key_id text, states text[], hint text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
BEGIN
    SELECT k.state INTO present FROM leyser.signing_key k
        WHERE k.key_id = require_signing_key.key_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'signing key does not exist',
            DETAIL = 'No signing key of this database has this id.',
            HINT = 'leyser.keyring_status() lists the signing keys.';
    END IF;
    IF present <> ALL (states) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('signing key is %s', present),
            DETAIL = format('This step needs a key that is %s.',
                array_to_string(states, ' or ')),
            HINT = hint;
    END IF;
    RETURN present;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_signing_key(text, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_signing_key(text, text[], text) IS
    'internal: the state of a signing key; 42704 where it is unknown, LY008 where it is in none of these states';

CREATE FUNCTION leyser.stage_signing_key() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound uuid := leyser.keyring_lock('leyser.stage_signing_key()');
    new_key text;
BEGIN
    IF bound IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'this database has no keyring',
            DETAIL = 'A signing key is added to a keyring.',
            HINT = 'Call leyser.initialize_keyring() first.';
    END IF;
    new_key := leyser.keyring_write_key(bound);
    INSERT INTO leyser.signing_key (key_id, state) VALUES (new_key, 'staged');
    PERFORM leyser.record_event('signing_key.staged', NULL, new_key, NULL);
    RETURN new_key;
END
$$;
REVOKE ALL ON FUNCTION leyser.stage_signing_key() FROM PUBLIC;
COMMENT ON FUNCTION leyser.stage_signing_key() IS
    'key custodian: makes the next signing key, which signs nothing yet, and returns its id; copy its file to every standby before it is activated; LY008 before initialize_keyring(), LY002 where the keyring cannot be used';

CREATE FUNCTION leyser.activate_signing_key(key_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    bound uuid := leyser.keyring_lock('leyser.activate_signing_key()');
    former text;
BEGIN
    PERFORM leyser.require_signing_key(activate_signing_key.key_id, '{staged}',
        'Call leyser.stage_signing_key() to make the next key.');
    PERFORM leyser.keyring_check_key(activate_signing_key.key_id, bound);
    UPDATE leyser.signing_key k SET state = 'verifying' WHERE k.state = 'active'
        RETURNING k.key_id INTO former;
    UPDATE leyser.signing_key k SET state = 'active', activated_at = clock_timestamp()
        WHERE k.key_id = activate_signing_key.key_id;
    PERFORM leyser.record_event('signing_key.activated', NULL, activate_signing_key.key_id,
        jsonb_build_object('former', former));
END
$$;
REVOKE ALL ON FUNCTION leyser.activate_signing_key(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.activate_signing_key(text) IS
    'key custodian: lets a staged key sign from now on; the one before it still verifies, until it is retired; 42704 for an unknown key, LY008 for one that is not staged, LY002 where its file cannot be read';

CREATE FUNCTION leyser.retire_signing_key(key_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    former text;
BEGIN
    PERFORM leyser.keyring_lock('leyser.retire_signing_key()');
    former := leyser.require_signing_key(retire_signing_key.key_id, '{staged,verifying}',
        'The active key is retired after another one is staged and activated: leyser.stage_signing_key(), leyser.activate_signing_key().');
    UPDATE leyser.signing_key k SET state = 'retired', retired_at = clock_timestamp()
        WHERE k.key_id = retire_signing_key.key_id;
    PERFORM leyser.record_event('signing_key.retired', NULL, retire_signing_key.key_id,
        jsonb_build_object('former_state', former));
END
$$;
REVOKE ALL ON FUNCTION leyser.retire_signing_key(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.retire_signing_key(text) IS
    'key custodian: from the next statement on, every token signed with this key is refused; 42704 for an unknown key, LY008 for the active or a retired one';

-- C0, DEL and C1, as src/token_claims.c has it for tokens: names stand in lines
-- of logs.
CREATE FUNCTION leyser.has_control_characters(value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT value ~ '[\x01-\x1f\x7f-\x9f\u2028\u2029]'
$$;
REVOKE ALL ON FUNCTION leyser.has_control_characters(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.has_control_characters(text) IS
    'internal: whether a text has control characters, or Unicode''s line separators';

-- What is wrong with an issuer's or key's name, or null.
CREATE FUNCTION leyser.issuer_text_problem(argument text, value text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN value IS NULL OR value = '' THEN format('%s is missing.', argument)
        WHEN length(value) > 200 THEN format('%s has more than 200 characters.', argument)
        WHEN leyser.has_control_characters(value) THEN format('%s has control characters.', argument)
    END
$$;
REVOKE ALL ON FUNCTION leyser.issuer_text_problem(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.issuer_text_problem(text, text) IS
    'internal: why a text cannot be an issuer, audience or claim; null where it can';

CREATE FUNCTION leyser.check_issuer_key(key_id text, pem text, issuer text, audience text,
                                        tenant_id text, tenant_claim text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    problem text := coalesce(
        -- as tokens may name it (token.c); base64 ids are common
        CASE WHEN coalesce(check_issuer_key.key_id, '') !~ '^[A-Za-z0-9._+/=:-]{1,63}$'
                  OR check_issuer_key.key_id ~ '^\.|\.\.' THEN
            'key_id must have 1 to 63 letters, digits or characters of "._-+/=:", no dot at its start, and no two dots together.' END,
        CASE WHEN pem IS NULL OR pem = '' THEN 'pem is missing.'
             WHEN octet_length(pem) > 4000 THEN 'pem has more than 4000 bytes.' END,
        leyser.issuer_text_problem('issuer', issuer),
        leyser.issuer_text_problem('audience', audience),
        leyser.issuer_text_problem('tenant_claim', tenant_claim));
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid issuer key', DETAIL = problem,
            HINT = 'Give the values that the issuer publishes: "kid", public key, "iss" and "aud".';
    END IF;
    IF EXISTS (SELECT FROM leyser.signing_key k WHERE k.key_id = check_issuer_key.key_id)
       OR EXISTS (SELECT FROM leyser.issuer_key k WHERE k.key_id = check_issuer_key.key_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = 'key already exists',
            DETAIL = 'A signing key or an issuer key has this id.',
            HINT = 'To replace an issuer''s key: leyser.remove_issuer_key(), then add it again.';
    END IF;
    IF check_issuer_key.tenant_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM leyser.tenant_record t
            WHERE t.tenant_id = check_issuer_key.tenant_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    PERFORM leyser.refuse_ended_contract(check_issuer_key.tenant_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_issuer_key(text, text, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_issuer_key(text, text, text, text, text, text) IS
    'internal: refuses what add_issuer_key() cannot take';

CREATE FUNCTION leyser.add_issuer_key(key_id text, pem text, issuer text, audience text,
                                      tenant_id text DEFAULT NULL,
                                      tenant_claim text DEFAULT 'tenant') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    algorithm text;
BEGIN
    PERFORM leyser.keyring_lock('leyser.add_issuer_key()');
    PERFORM leyser.check_issuer_key(key_id, pem, issuer, audience, tenant_id, tenant_claim);
    algorithm := leyser.public_key_algorithm(pem);
    INSERT INTO leyser.issuer_key
            (key_id, pem, algorithm, issuer, audience, tenant_id, tenant_claim)
        VALUES (key_id, pem, algorithm, issuer, audience, tenant_id, tenant_claim);
    PERFORM leyser.record_event('issuer_key.added', tenant_id, key_id,
        jsonb_build_object('algorithm', algorithm, 'issuer', issuer, 'audience', audience,
            'tenant_claim', tenant_claim,
            'pem_sha256', encode(sha256(convert_to(pem, 'UTF8')), 'hex')));
END
$$;
REVOKE ALL ON FUNCTION leyser.add_issuer_key(text, text, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_issuer_key(text, text, text, text, text, text) IS
    'key custodian: accepts tokens signed with this public key (Ed25519, P-256 or RSA) from this issuer for this audience; with tenant_id, for that tenant only; 22023 for what cannot be, 42710 for a key that exists, 42704 for an unknown tenant';

CREATE FUNCTION leyser.remove_issuer_key(key_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    removed leyser.issuer_key;
BEGIN
    PERFORM leyser.keyring_lock('leyser.remove_issuer_key()');
    DELETE FROM leyser.issuer_key k WHERE k.key_id = remove_issuer_key.key_id
        RETURNING k.* INTO removed;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'issuer key does not exist',
            DETAIL = 'No issuer key has this id.',
            HINT = 'leyser.keyring_status() lists the issuer keys.';
    END IF;
    PERFORM leyser.record_event('issuer_key.removed', removed.tenant_id, removed.key_id,
        jsonb_build_object('issuer', removed.issuer, 'audience', removed.audience));
END
$$;
REVOKE ALL ON FUNCTION leyser.remove_issuer_key(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.remove_issuer_key(text) IS
    'key custodian: from the next statement on, every token signed with this issuer''s key is refused; 42704 for an unknown key';

CREATE FUNCTION leyser.keyring_status()
    RETURNS TABLE (item text, state text, detail text, remedy text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    bound uuid := (SELECT i.keyring_id FROM leyser.identity i);
    keyring record;
BEGIN
    SELECT d.* INTO keyring FROM leyser.keyring_diagnose(NULL, bound) d;
    RETURN QUERY SELECT 'keyring',
        CASE WHEN bound IS NULL AND keyring.state IN ('ok', 'lost') THEN 'not initialized'
             ELSE keyring.state END,
        CASE WHEN keyring.state = 'ok' THEN keyring.found::text ELSE keyring.detail END,
        CASE WHEN bound IS NULL AND keyring.state IN ('ok', 'lost')
             THEN 'Call leyser.initialize_keyring().' ELSE keyring.remedy END;

    RETURN QUERY SELECT 'password pepper', d.state,
            coalesce(d.detail, 'mixed into every password before it is hashed'), d.remedy
        FROM leyser.keyring_diagnose('pepper', bound) d WHERE bound IS NOT NULL;
    -- a retired key needs no file
    RETURN QUERY SELECT 'signing key ' || k.key_id,
            CASE WHEN k.state = 'retired' OR d.state = 'ok' THEN k.state ELSE d.state END,
            CASE WHEN k.state = 'retired' THEN format('retired at %s', k.retired_at)
                 WHEN d.state = 'ok' THEN coalesce('activated at ' || k.activated_at,
                    'made at ' || k.created_at)
                 ELSE format('%s key: %s', k.state, d.detail) END,
            CASE WHEN k.state <> 'retired' THEN d.remedy END
        FROM leyser.signing_key k
        CROSS JOIN LATERAL leyser.keyring_diagnose(k.key_id, bound) d
        ORDER BY k.key_id;
    IF keyring.state = 'ok' THEN
        RETURN QUERY SELECT 'key file ' || f.key_id, 'not registered',
                'The file lies in the keyring, but this database does not use it.',
                'It is of another database of the cluster, or of a call that was broken off; in that case it may be deleted.'
            FROM unnest(leyser.keyring_list_keys()) f (key_id)
            WHERE NOT EXISTS (SELECT FROM leyser.signing_key k WHERE k.key_id = f.key_id);
        RETURN QUERY SELECT 'unfinished file ' || f.name, 'unfinished',
                'A call that wrote it was broken off, or is at work; nobody reads the file.',
                'It may be deleted.'
            FROM unnest(leyser.keyring_list_unfinished()) f (name);
    END IF;

    RETURN QUERY SELECT 'issuer key ' || k.key_id, 'ok',
            format('%s, issuer %s, audience %s, %s', k.algorithm, k.issuer, k.audience,
                coalesce('tenant ' || k.tenant_id, 'tenant by claim ' || k.tenant_claim)),
            NULL::text
        FROM leyser.issuer_key k ORDER BY k.key_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.keyring_status() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keyring_status() IS
    'key custodian, auditor: the keyring, its keys and the issuers'' keys, each with its state and, where something is wrong, the next step; never a secret or a path; works on standbys';
