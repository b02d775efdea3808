-- Names of accounts and roles, and how they are compared.

CREATE FUNCTION leyser.name_key(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- upper, then lower: what has several lower-case forms becomes one
    SELECT normalize(lower(upper(normalize(name, NFKC) COLLATE "und-x-icu")), NFKC) COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.name_key(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.name_key(text) IS
    'internal: a name as it is compared: whatever its case, width and composition';

CREATE FUNCTION leyser.scripts_of(name text) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_scripts_of';
REVOKE ALL ON FUNCTION leyser.scripts_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scripts_of(text) IS
    'internal: the scripts of a text''s letters, by Unicode''s property Script';

-- What nobody can see, or takes for something else.  Letters of one script, or of those
-- that Chinese, Japanese and Korean mix: "Highly Restrictive" of Unicode Technical
-- Standard 39, section 5.2.
CREATE FUNCTION leyser.name_problem(name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT CASE
        WHEN name IS NULL OR name = '' THEN 'It is empty.'
        WHEN length(normalize(name, NFC)) > 200 THEN 'It has more than 200 characters.'
        WHEN name ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\ufff9-\ufffb]'
            THEN 'It has control characters.'
        WHEN name ~ '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]'
            THEN 'It has characters that cannot be seen.'
        WHEN name ~ '^[\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|[\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]$'
            THEN 'It begins or ends with a blank.'
        WHEN (SELECT cardinality(s) > 1
                     AND NOT s <@ '{Latin,Han,Hiragana,Katakana}'
                     AND NOT s <@ '{Latin,Han,Bopomofo}'
                     AND NOT s <@ '{Latin,Han,Hangul}'
              FROM leyser.scripts_of(normalize(name, NFKC)) s)
            THEN 'It mixes letters of several scripts, which can look alike.'
    END
$$;
REVOKE ALL ON FUNCTION leyser.name_problem(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.name_problem(text) IS
    'internal: why a text cannot be the name of an account or role (a sentence), or NULL where it can';

CREATE FUNCTION leyser.checked_name(name text, what text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := leyser.name_problem(name);
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('invalid name of %s', what),
            DETAIL = problem,
            HINT = 'Names have 1 to 200 visible characters, no blanks around them, and letters of one script.';
    END IF;
    RETURN normalize(name, NFC);
END
$$;
REVOKE ALL ON FUNCTION leyser.checked_name(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.checked_name(text, text) IS
    'internal: a name as it is stored (NFC); what is "an account" or "a role"; 22023 for a name that cannot be';

-- In the context's tenant; NULL where there is none of that name.
CREATE FUNCTION leyser.account_id_of(account_name text) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.account_id FROM leyser.account_record a
    WHERE a.tenant_id = leyser.tenant_id() AND a.name_key = leyser.name_key(account_id_of.account_name)
$$;
REVOKE ALL ON FUNCTION leyser.account_id_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_id_of(text) IS
    'internal: the account of that name in the context''s tenant, or NULL';

CREATE FUNCTION leyser.stored_name(tenant_id text, account_name text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.account_name FROM leyser.account_record a
    WHERE a.tenant_id = stored_name.tenant_id AND a.name_key = leyser.name_key(stored_name.account_name)
$$;
REVOKE ALL ON FUNCTION leyser.stored_name(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.stored_name(text, text) IS
    'internal: how an account''s name is stored, whatever its case, width and composition here; NULL where there is none';

CREATE FUNCTION leyser.find_account(account_name text) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_id bigint := leyser.account_id_of(account_name);
BEGIN
    IF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'account does not exist',
            DETAIL = 'No account of this tenant has this name.',
            HINT = 'Invite it with leyser.invite_account() first.';
    END IF;
    RETURN found_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.find_account(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.find_account(text) IS
    'internal: the account of that name in the context''s tenant; 42704 where there is none';
