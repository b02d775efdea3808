-- leyser's own tables.
--
-- Nobody has rights on them; they are read through views and changed through
-- functions.  src/cache.c reads some of them by column number: the order of
-- their first columns is fixed there.

-- This database, and the keyring that it is bound to.
CREATE TABLE leyser.identity (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    database_id uuid NOT NULL DEFAULT gen_random_uuid(),
    keyring_id uuid
);
COMMENT ON TABLE leyser.identity IS
    'the uuid of this database (the audience of its tokens) and the id of its keyring';
INSERT INTO leyser.identity DEFAULT VALUES;

CREATE TABLE leyser.signing_key (
    key_id text COLLATE "C" PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('staged', 'active', 'verifying', 'retired')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    activated_at timestamptz,
    retired_at timestamptz
);
COMMENT ON TABLE leyser.signing_key IS
    'states of the signing keys whose secrets lie in the keyring directory';
CREATE UNIQUE INDEX signing_key_one_active ON leyser.signing_key ((true)) WHERE state = 'active';
COMMENT ON INDEX leyser.signing_key_one_active IS 'one key signs at a time';

CREATE TABLE leyser.issuer_key (
    key_id text COLLATE "C" PRIMARY KEY,
    pem text NOT NULL,
    algorithm text NOT NULL,
    issuer text NOT NULL,
    audience text NOT NULL,
    tenant_id text COLLATE "C",
    tenant_claim text NOT NULL DEFAULT 'tenant',
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- read with a catalogue snapshot, which fetches nothing out of line
ALTER TABLE leyser.issuer_key ALTER COLUMN pem SET STORAGE MAIN;
COMMENT ON TABLE leyser.issuer_key IS 'public keys of outside issuers of tokens';

CREATE TABLE leyser.tenant_record (
    tenant_id text COLLATE "C" PRIMARY KEY,
    name text,
    region text,
    state text NOT NULL DEFAULT 'active' CHECK (state IN
        ('active', 'suspended', 'terminating', 'terminated', 'held', 'erased')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at timestamptz,                   -- locked out from then on, whatever the state says
    is_suspended boolean NOT NULL DEFAULT false,  -- terminating, and locked out already
    CHECK (state <> 'terminating' OR ends_at IS NOT NULL)
);
COMMENT ON TABLE leyser.tenant_record IS 'tenants and their states';

CREATE TABLE leyser.table_record (
    relation regclass PRIMARY KEY,
    kind text NOT NULL
        CHECK (kind IN ('own', 'own_and_global', 'shared', 'by_rule', 'retained', 'ignored')),
    tenant_attnum smallint,
    -- the name is what a dump carries: a restored table may number its columns anew
    tenant_column name,
    parent regclass,
    enforcement text NOT NULL DEFAULT 'enforce'
        CHECK (enforcement IN ('observe', 'enforce', 'suspended')),
    accept_gaps boolean NOT NULL DEFAULT false,
    reason text,
    purge_condition text,
    set_default boolean NOT NULL DEFAULT false,
    -- what protect() found, to be restored by unprotect()
    had_row_security boolean,
    had_forced_row_security boolean,
    had_default text,
    governed_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- what set_permissions() was told
    read_permission text COLLATE "C",
    write_permission text COLLATE "C",
    scope_column name,
    scope_attnum smallint,
    -- of a purge condition that operators cannot declare: for whose table it was
    condition_owner name,
    enforcement_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- what suspend_protection() was told; its end needs nobody who acts
    suspended_until timestamptz,
    suspended_reason text,
    suspended_for_applications boolean NOT NULL DEFAULT false,
    CHECK ((enforcement = 'suspended') = (suspended_until IS NOT NULL)),
    CHECK ((kind IN ('own', 'own_and_global')) = (tenant_attnum IS NOT NULL)),
    CHECK ((tenant_attnum IS NULL) = (tenant_column IS NULL))
);
COMMENT ON TABLE leyser.table_record IS 'the registry of table kinds';

-- Those that hold a governed table are governed anyway.  By their names: pg_upgrade takes
-- no regnamespace along, and numbers schemas anew.
CREATE TABLE leyser.schema_record (
    schema name PRIMARY KEY,
    governed_since timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.schema_record IS 'schemas that an operator declared governed';

CREATE FUNCTION leyser.number_tenant_column() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.tenant_attnum := (SELECT a.attnum FROM pg_attribute a
        WHERE a.attrelid = NEW.relation AND a.attname = NEW.tenant_column);
    NEW.scope_attnum := (SELECT a.attnum FROM pg_attribute a
        WHERE a.attrelid = NEW.relation AND a.attname = NEW.scope_column);
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION leyser.number_tenant_column() FROM PUBLIC;
COMMENT ON FUNCTION leyser.number_tenant_column() IS
    'internal trigger: looks up the numbers of a table''s tenant and scope columns, also while a dump is restored';
CREATE TRIGGER number_tenant_column BEFORE INSERT ON leyser.table_record
    FOR EACH ROW EXECUTE FUNCTION leyser.number_tenant_column();
ALTER TABLE leyser.table_record ENABLE ALWAYS TRIGGER number_tenant_column;
COMMENT ON TRIGGER number_tenant_column ON leyser.table_record IS
    'the numbers of the tenant and scope columns follow from their names';

CREATE TABLE leyser.usage_record (
    role regrole NOT NULL,
    usage text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (role, usage)
);
COMMENT ON TABLE leyser.usage_record IS 'which roles were granted which usage';

CREATE TABLE leyser.event_record (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event text NOT NULL,
    tenant_id text COLLATE "C",
    -- the content, which can be erased while the digest stays; accounts by their ids
    session_role text,
    caller_role text,
    client_address inet,
    account_id bigint,
    object text,
    detail jsonb,
    salt bytea,                            -- NULL: something was erased
    digest bytea NOT NULL,
    images bytea                           -- of audited rows
);
-- what is hashed and hardly ever read is not compressed
ALTER TABLE leyser.event_record ALTER COLUMN images SET STORAGE EXTERNAL;
COMMENT ON TABLE leyser.event_record IS
    'the event log: content that can be erased, beside a digest that stays; a month''s events lie in a child, event_record_YYYY_MM, where there is one';
CREATE INDEX event_record_tenant ON leyser.event_record (tenant_id, event_id);
COMMENT ON INDEX leyser.event_record_tenant IS 'one tenant''s events, in order';

-- Empty tables whose invalidation tells every backend to look again.
CREATE TABLE leyser.proxy_keys ();
COMMENT ON TABLE leyser.proxy_keys IS 'always empty: its invalidation speaks for keys';
CREATE TABLE leyser.proxy_tenants ();
COMMENT ON TABLE leyser.proxy_tenants IS 'always empty: its invalidation speaks for tenants';
CREATE TABLE leyser.proxy_tables ();
COMMENT ON TABLE leyser.proxy_tables IS
    'always empty: its invalidation speaks for table kinds and usages';

CREATE FUNCTION leyser.cache_invalidate() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_cache_invalidate';
REVOKE ALL ON FUNCTION leyser.cache_invalidate() FROM PUBLIC;
COMMENT ON FUNCTION leyser.cache_invalidate() IS
    'internal trigger: makes every backend look again at what its argument names';

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.identity
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_keys');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_keys');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.issuer_key
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_keys');
-- no message for new tenants: that a tenant is unknown is never remembered
CREATE TRIGGER invalidate AFTER UPDATE OR DELETE OR TRUNCATE ON leyser.tenant_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_tenants');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.table_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_tables');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.usage_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_tables');

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.schema_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_tables');

-- The triggers must also fire where session_replication_role is replica.
ALTER TABLE leyser.identity ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.signing_key ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.issuer_key ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.tenant_record ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.table_record ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.usage_record ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE leyser.schema_record ENABLE ALWAYS TRIGGER invalidate;
COMMENT ON TRIGGER invalidate ON leyser.identity IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.signing_key IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.issuer_key IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.tenant_record IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.table_record IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.usage_record IS 'tells every backend to look again';
COMMENT ON TRIGGER invalidate ON leyser.schema_record IS 'tells every backend to look again';

-- What a logical dump carries.  Not the identity (a restored database is
-- another audience), not signing_key (its secrets stay in their keyring), not
-- the proxies (always empty).
SELECT pg_catalog.pg_extension_config_dump('leyser.issuer_key', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.tenant_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.table_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.usage_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.schema_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.event_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.event_record_event_id_seq', '');
