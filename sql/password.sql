-- Passwords: how they are hashed, and which ones are taken.
--
-- What is stored is the id of the keyring whose pepper was mixed in, followed
-- by the bcrypt hash; a hash without an id was taken over from another system
-- and has no pepper until the next login.  A password is compared as NFKC.

CREATE FUNCTION leyser.bcrypt(password text, salt text) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_password_bcrypt';
REVOKE ALL ON FUNCTION leyser.bcrypt(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bcrypt(text, text) IS
    'internal: bcrypt of a password with the salt of a hash (NULL: a new salt and leyser.password_cost); 53000 where the server hashes as many as it may';

CREATE FUNCTION leyser.pepper_password(password text, keyring_id uuid) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_password_pepper';
REVOKE ALL ON FUNCTION leyser.pepper_password(text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pepper_password(text, uuid) IS
    'internal: what is hashed in place of a password; LY002 where the pepper cannot be read';

CREATE FUNCTION leyser.require_keyring_id() RETURNS uuid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound uuid := (SELECT i.keyring_id FROM leyser.identity i);
BEGIN
    IF bound IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY002',
            MESSAGE = 'this database has no keyring',
            DETAIL = 'Passwords are hashed with its pepper.',
            HINT = 'A key custodian calls leyser.initialize_keyring().';
    END IF;
    RETURN bound;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_keyring_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_keyring_id() IS
    'internal: the keyring that this database is bound to; LY002 where it is to none';

CREATE FUNCTION leyser.hash_password(password text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound uuid := leyser.require_keyring_id();
BEGIN
    RETURN bound::text
        || leyser.bcrypt(leyser.pepper_password(normalize(password, NFKC), bound), NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.hash_password(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.hash_password(text) IS
    'internal: a password as it is stored, at leyser.password_cost';

-- A cheaper hash must not show by its time.  A hash of cost n takes as long as
-- one of cost n - 1, twice: so what is missing are the costs from that of the
-- hash up to the one below leyser.password_cost.
CREATE FUNCTION leyser.bcrypt_at_full_cost(password text, hash text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR cost IN substr(hash, 5, 2)::int .. current_setting('leyser.password_cost')::int - 1 LOOP
        PERFORM leyser.bcrypt(password, format('$2a$%s$%s', lpad(cost::text, 2, '0'), substr(hash, 8, 22)));
    END LOOP;
    RETURN leyser.bcrypt(password, hash);
END
$$;
REVOKE ALL ON FUNCTION leyser.bcrypt_at_full_cost(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bcrypt_at_full_cost(text, text) IS
    'internal: bcrypt with the salt and cost of a hash, taking at least as long as leyser.password_cost would';

-- The same work whatever is stored, also for nothing.
CREATE FUNCTION leyser.password_matches(password text, stored text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound uuid := leyser.require_keyring_id();
    -- nobody has such a one: no work for megabytes
    too_long boolean := password IS NULL OR length(password) > 1024;
    given text := CASE WHEN too_long THEN '' ELSE password END;
    peppered text := leyser.pepper_password(normalize(given, NFKC), bound);
    hash text := substr(stored, 37);
BEGIN
    IF stored LIKE '$2%' THEN
        RETURN leyser.bcrypt_at_full_cost(given, stored) = stored AND NOT too_long;
    ELSIF stored IS NULL OR left(stored, 36) <> bound::text THEN
        PERFORM leyser.bcrypt(peppered, NULL);
        RETURN CASE WHEN stored IS NULL THEN false END;
    END IF;
    RETURN leyser.bcrypt_at_full_cost(peppered, hash) = hash AND NOT too_long;
END
$$;
REVOKE ALL ON FUNCTION leyser.password_matches(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.password_matches(text, text) IS
    'internal: whether a password is the stored one; false where none is stored, NULL where it was stored with another keyring''s pepper; LY002 without a usable keyring';

CREATE FUNCTION leyser.refuse_lost_pepper() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LY002',
        MESSAGE = 'the password cannot be checked',
        DETAIL = 'It was set with the pepper of another keyring than the one that this database uses now.',
        HINT = 'Bring the former keyring back, or let an administrator call leyser.reset_password().';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_lost_pepper() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_lost_pepper() IS
    'internal: raises LY002: a lost pepper is no wrong password';

-- Whether each character follows the one before it, or repeats it, but for a few.
CREATE FUNCTION leyser.is_sequence(password text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) FILTER (WHERE abs(ascii(c.letter) - ascii(c.former)) NOT IN (0, 1, 9)) < 3
    FROM (SELECT s.letter, lag(s.letter) OVER (ORDER BY s.position) AS former
          FROM unnest(string_to_array(password, NULL)) WITH ORDINALITY s (letter, position)) c
$$;
REVOKE ALL ON FUNCTION leyser.is_sequence(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_sequence(text) IS
    'internal: whether a password is little but runs such as "12345" and "aaaa"';

-- Length and block list as NIST SP 800-63B has them; no rules of composition.
CREATE FUNCTION leyser.password_problem(password text, words text[]) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shortest int := current_setting('leyser.password_min_length')::int;
    normal text;
    key text;
    rest text;
    word text;
BEGIN
    IF coalesce(password, '') = '' THEN
        RETURN 'It is empty.';
    ELSIF length(password) > 1024 THEN
        RETURN 'It has more than 1024 characters.';
    END IF;
    normal := normalize(password, NFKC);
    key := leyser.name_key(password);
    rest := key;
    FOREACH word IN ARRAY words LOOP
        rest := replace(rest, leyser.name_key(word), '');
    END LOOP;
    RETURN CASE
        WHEN length(normal) > 1024 THEN 'It has more than 1024 characters.'
        WHEN length(normal) < shortest THEN format('It has fewer than %s characters.', shortest)
        WHEN EXISTS (SELECT FROM leyser.blocked_password b WHERE b.password = key)
            THEN 'It is on the list of blocked passwords.'
        WHEN leyser.is_sequence(key)
             OR (SELECT count(DISTINCT c) FROM unnest(string_to_array(key, NULL)) c) < 5
            THEN 'It is little but a few characters, repeated or in sequence.'
        WHEN length(rest) < 8 AND rest <> key
            THEN 'It is little but the name of the account or the tenant.'
    END;
END
$$;
REVOKE ALL ON FUNCTION leyser.password_problem(text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.password_problem(text, text[]) IS
    'internal: why a password is not taken (a sentence), or NULL; words are what it should not consist of';

-- The one in force and the four before it.
CREATE FUNCTION leyser.password_was_used(account_id bigint, password text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former text;
BEGIN
    FOR former IN
        SELECT u.password FROM (
            SELECT a.password, 'infinity'::timestamptz AS set_at FROM leyser.account_record a
                WHERE a.account_id = password_was_used.account_id AND a.password IS NOT NULL
            UNION ALL
            SELECT p.password, p.set_at FROM leyser.password_record p
                WHERE p.account_id = password_was_used.account_id) u
        ORDER BY u.set_at DESC LIMIT 5
    LOOP
        IF leyser.password_matches(password_was_used.password, former) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
REVOKE ALL ON FUNCTION leyser.password_was_used(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.password_was_used(bigint, text) IS
    'internal: whether a password is one of the account''s last five';

-- Puts the password in force among the former ones; there are at most five.
CREATE FUNCTION leyser.retire_password(account_id bigint) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.password_record (account_id, set_at, password)
        SELECT a.account_id, coalesce(a.password_set_at, a.created_at), a.password
        FROM leyser.account_record a
        WHERE a.account_id = retire_password.account_id AND a.password IS NOT NULL
        ON CONFLICT ON CONSTRAINT password_record_pkey DO NOTHING;
    DELETE FROM leyser.password_record p
        WHERE p.account_id = retire_password.account_id AND p.set_at NOT IN (
            SELECT l.set_at FROM leyser.password_record l
            WHERE l.account_id = retire_password.account_id ORDER BY l.set_at DESC LIMIT 5);
    UPDATE leyser.account_record a SET password = NULL, password_set_at = NULL
        WHERE a.account_id = retire_password.account_id
$$;
REVOKE ALL ON FUNCTION leyser.retire_password(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.retire_password(bigint) IS
    'internal: leaves an account without a password, which it still remembers';

CREATE FUNCTION leyser.hash_new_password(account leyser.account_record, password text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := leyser.password_problem(password, ARRAY[account.account_name, account.tenant_id]);
BEGIN
    IF problem IS NULL AND leyser.password_was_used(account.account_id, password) THEN
        problem := 'It is one of the last five of this account.';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'password is not accepted',
            DETAIL = problem,
            HINT = format('Take %s to 1024 characters, such as a few words that nobody would guess.',
                          current_setting('leyser.password_min_length'));
    END IF;
    RETURN leyser.hash_password(password);
END
$$;
REVOKE ALL ON FUNCTION leyser.hash_new_password(leyser.account_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.hash_new_password(leyser.account_record, text) IS
    'internal: a new password of an account as it is stored; 22023 for one that is not taken, LY002 without a usable keyring';

CREATE FUNCTION leyser.store_password(account_id bigint, hash text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.retire_password(store_password.account_id);
    UPDATE leyser.account_record a SET password = hash, password_set_at = clock_timestamp()
        WHERE a.account_id = store_password.account_id
$$;
REVOKE ALL ON FUNCTION leyser.store_password(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.store_password(bigint, text) IS
    'internal, in the worker: gives an account a new password';

CREATE FUNCTION leyser.block_passwords(passwords text[]) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH added AS (
        INSERT INTO leyser.blocked_password (password)
            SELECT DISTINCT leyser.name_key(p) FROM unnest(passwords) p
            WHERE p <> '' AND length(p) <= 1024
            ON CONFLICT DO NOTHING RETURNING 1
    ), noted AS (
        SELECT count(*) AS rows FROM added
    )
    SELECT n.rows FROM noted n, LATERAL (SELECT leyser.record_event('passwords.blocked', NULL, NULL,
        jsonb_build_object('added', n.rows))) e
$$;
REVOKE ALL ON FUNCTION leyser.block_passwords(text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.block_passwords(text[]) IS
    'operator: adds to the list of passwords that nobody may set, compared whatever their case and width; returns how many were new';
