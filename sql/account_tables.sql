-- Tables of accounts, sessions, roles and grants.
--
-- Nobody has rights on them, as on all of leyser's tables.  src/cache_account.c
-- and src/cache_grant.c read some of them by column number: the order of their
-- columns is fixed there.

-- Permissions that exist: dotted names, for all tenants alike.
CREATE TABLE leyser.permission_record (
    permission text COLLATE "C" PRIMARY KEY,
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.permission_record IS 'the catalogue of permissions';
-- a permission that a table asks for stays
ALTER TABLE leyser.table_record
    ADD FOREIGN KEY (read_permission) REFERENCES leyser.permission_record,
    ADD FOREIGN KEY (write_permission) REFERENCES leyser.permission_record;

-- A deleted account keeps its id for the history, and nothing personal.
CREATE TABLE leyser.account_record (
    account_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    account_name text COLLATE "C",  -- as it was given, NFC
    name_key text COLLATE "C",      -- as it is compared: leyser.name_key()
    state text NOT NULL CHECK (state IN ('invited', 'active', 'disabled', 'deleted')),
    named_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- when it got account_name
    password text,                  -- keyring's id and bcrypt (password.sql); NULL: none
    password_set_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'deleted') = (account_name IS NULL)),
    CHECK ((account_name IS NULL) = (name_key IS NULL))
);
COMMENT ON TABLE leyser.account_record IS 'accounts of tenants';
CREATE UNIQUE INDEX account_record_key ON leyser.account_record (tenant_id, name_key);
COMMENT ON INDEX leyser.account_record_key IS 'names are unique in a tenant, whatever their case';
-- contexts carry the name as it is stored
CREATE UNIQUE INDEX account_record_name ON leyser.account_record (tenant_id, account_name);
COMMENT ON INDEX leyser.account_record_name IS 'the account of a context';

CREATE TABLE leyser.invitation_record (
    account_id bigint PRIMARY KEY REFERENCES leyser.account_record ON DELETE CASCADE,
    secret_digest bytea NOT NULL,   -- SHA-256 of the one-time secret
    expires_at timestamptz NOT NULL,
    invited_by bigint REFERENCES leyser.account_record ON DELETE CASCADE  -- NULL: from outside the tenant
);
COMMENT ON TABLE leyser.invitation_record IS 'open invitations and password resets';

CREATE TABLE leyser.password_record (
    account_id bigint NOT NULL REFERENCES leyser.account_record ON DELETE CASCADE,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    password text NOT NULL,
    PRIMARY KEY (account_id, set_at)
);
COMMENT ON TABLE leyser.password_record IS 'former passwords (bcrypt), so that they are not used again';

CREATE TABLE leyser.blocked_password (
    password text COLLATE "C" PRIMARY KEY  -- as it is compared: lower case, NFKC
);
COMMENT ON TABLE leyser.blocked_password IS 'passwords that nobody may have';

-- Written by the worker only: failures survive a rollback, and it waits for nobody.
CREATE TABLE leyser.login_delay (
    subject text COLLATE "C" PRIMARY KEY,  -- 'account:<id>', 'account:<id>@<network>', 'address:<network>', 'unknown:<n>'
    failures integer NOT NULL,
    last_failure_at timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);
COMMENT ON TABLE leyser.login_delay IS 'growing delays after failed logins';

-- Written by the worker, and removed with the account.
CREATE TABLE leyser.familiar_address (
    account_id bigint NOT NULL REFERENCES leyser.account_record ON DELETE CASCADE,
    network inet NOT NULL,                 -- leyser.address_network()
    last_login_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, network)
);
COMMENT ON TABLE leyser.familiar_address IS 'addresses from which accounts logged in, in the last 90 days';

CREATE TABLE leyser.session_record (
    session_id uuid PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    account_id bigint NOT NULL REFERENCES leyser.account_record ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,       -- absolute end, renewal does not move it
    renewed_at timestamptz,
    client_address inet
);
COMMENT ON TABLE leyser.session_record IS 'sessions made by login(); those in revoked_session have ended';
CREATE INDEX session_record_account ON leyser.session_record (account_id);
COMMENT ON INDEX leyser.session_record_account IS 'one account''s sessions';

-- Absent is valid: a lagging standby refuses what it knows to be revoked.
CREATE TABLE leyser.revoked_session (
    session_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    -- whoever ends a session waits for nobody else who does, so it may be here twice
    ending_id uuid NOT NULL DEFAULT gen_random_uuid(),
    PRIMARY KEY (session_id, ending_id)
);
COMMENT ON TABLE leyser.revoked_session IS 'sessions that ended before their time';

CREATE TABLE leyser.role_record (
    role_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    role_name text COLLATE "C" NOT NULL,
    name_key text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_id, name_key)
);
COMMENT ON TABLE leyser.role_record IS 'roles inside tenants';

CREATE TABLE leyser.role_permission (
    role_id bigint NOT NULL REFERENCES leyser.role_record ON DELETE CASCADE,
    permission text COLLATE "C" NOT NULL REFERENCES leyser.permission_record,
    PRIMARY KEY (role_id, permission)
);
COMMENT ON TABLE leyser.role_permission IS 'permissions that a role has';

CREATE TABLE leyser.role_member (
    role_id bigint NOT NULL REFERENCES leyser.role_record ON DELETE CASCADE,
    included_role_id bigint NOT NULL REFERENCES leyser.role_record ON DELETE CASCADE,
    PRIMARY KEY (role_id, included_role_id),
    CHECK (role_id <> included_role_id)
);
COMMENT ON TABLE leyser.role_member IS 'roles that a role includes';

-- A grant in force.  What ends moves to grant_history.
CREATE TABLE leyser.grant_record (
    grant_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES leyser.account_record,
    kind text NOT NULL CHECK (kind IN ('administrator', 'role', 'permission', 'deny')),
    role_id bigint REFERENCES leyser.role_record,
    permission text COLLATE "C" REFERENCES leyser.permission_record,
    scope text COLLATE "C",                -- NULL: everywhere
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    with_grant_option boolean NOT NULL,
    granted_by bigint REFERENCES leyser.account_record,  -- NULL: from outside the tenant
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'role') = (role_id IS NOT NULL)),
    CHECK ((kind IN ('permission', 'deny')) = (permission IS NOT NULL)),
    CHECK (valid_from < valid_until)
);
COMMENT ON TABLE leyser.grant_record IS 'grants and denies in force, and those to come';
-- a check asks for one permission (or what may contain it: NULL) in one scope
CREATE INDEX grant_record_account ON leyser.grant_record (account_id, scope, permission);
COMMENT ON INDEX leyser.grant_record_account IS 'one account''s grants, by scope and permission';
CREATE INDEX grant_record_role ON leyser.grant_record (role_id);
COMMENT ON INDEX leyser.grant_record_role IS 'who has a role';

-- Every state a grant, a role or its contents ever had, by the database's clock.
CREATE TABLE leyser.permission_change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id text COLLATE "C" NOT NULL,
    account_id bigint,
    change text NOT NULL,                  -- grant.added, role.changed, account.disabled, …
    changed_by bigint,                     -- account, NULL: from outside the tenant
    grant_id bigint,
    row_before jsonb,
    row_after jsonb,
    role_id bigint                         -- the role that changed
);
COMMENT ON TABLE leyser.permission_change IS 'history of grants, denies and roles';
CREATE INDEX permission_change_account ON leyser.permission_change (account_id, change_id);
COMMENT ON INDEX leyser.permission_change_account IS 'one account''s history';
CREATE INDEX permission_change_tenant ON leyser.permission_change (tenant_id, change_id);
COMMENT ON INDEX leyser.permission_change_tenant IS 'one tenant''s history';

CREATE TABLE leyser.support_record (
    support_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    to_role regrole NOT NULL,
    reason text NOT NULL,
    granted_by bigint REFERENCES leyser.account_record,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    valid_until timestamptz NOT NULL,
    revoked_at timestamptz,
    session_id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()  -- of the contexts it lets in
);
COMMENT ON TABLE leyser.support_record IS 'windows in which a tenant lets the provider look';

-- Empty tables whose invalidation tells every backend to look again.  Accounts
-- and their grants are spread over sixteen by tenant, so that a revoke in one
-- tenant does not make all of them look.
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE leyser.proxy_accounts_%s ()', i);
        EXECUTE format('COMMENT ON TABLE leyser.proxy_accounts_%s IS ''always empty: its invalidation speaks for accounts, roles and grants of a sixteenth of the tenants''', i);
    END LOOP;
END
$$;
CREATE TABLE leyser.proxy_sessions ();
COMMENT ON TABLE leyser.proxy_sessions IS 'always empty: its invalidation speaks for revoked sessions';

CREATE FUNCTION leyser.account_invalidate() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_account_invalidate';
REVOKE ALL ON FUNCTION leyser.account_invalidate() FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_invalidate() IS
    'internal trigger: makes every backend look again at the accounts, roles and grants of the tenant to which a changed row belongs; its argument says whether the row names its tenant, account or role';

-- no message for new accounts: that an account is unknown is never remembered;
-- nor for new passwords
CREATE TRIGGER invalidate AFTER DELETE ON leyser.account_record
    FOR EACH ROW EXECUTE FUNCTION leyser.account_invalidate('tenant_id');
CREATE TRIGGER invalidate_changed AFTER UPDATE ON leyser.account_record
    FOR EACH ROW WHEN ((OLD.account_id, OLD.tenant_id, OLD.account_name, OLD.state, OLD.named_at)
        IS DISTINCT FROM (NEW.account_id, NEW.tenant_id, NEW.account_name, NEW.state, NEW.named_at))
    EXECUTE FUNCTION leyser.account_invalidate('tenant_id');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON leyser.role_record
    FOR EACH ROW EXECUTE FUNCTION leyser.account_invalidate('tenant_id');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON leyser.role_permission
    FOR EACH ROW EXECUTE FUNCTION leyser.account_invalidate('role_id');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON leyser.role_member
    FOR EACH ROW EXECUTE FUNCTION leyser.account_invalidate('role_id');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON leyser.grant_record
    FOR EACH ROW EXECUTE FUNCTION leyser.account_invalidate('account_id');
CREATE TRIGGER invalidate_all AFTER TRUNCATE ON leyser.account_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
CREATE TRIGGER invalidate_all AFTER TRUNCATE ON leyser.role_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
CREATE TRIGGER invalidate_all AFTER TRUNCATE ON leyser.role_permission
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
CREATE TRIGGER invalidate_all AFTER TRUNCATE ON leyser.role_member
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
CREATE TRIGGER invalidate_all AFTER TRUNCATE ON leyser.grant_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
-- a permission that goes away is known no longer; one that is new was never remembered
CREATE TRIGGER invalidate AFTER UPDATE OR DELETE OR TRUNCATE ON leyser.permission_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.account_invalidate('all');
-- looked up once for each context: what is deleted needs no message
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE ON leyser.revoked_session
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_sessions');

-- The triggers must also fire where session_replication_role is replica.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_catalog.pg_trigger t
            WHERE t.tgname IN ('invalidate', 'invalidate_changed', 'invalidate_all')
              AND t.tgrelid IN ('leyser.account_record'::regclass, 'leyser.role_record'::regclass,
                  'leyser.role_permission'::regclass, 'leyser.role_member'::regclass,
                  'leyser.grant_record'::regclass, 'leyser.permission_record'::regclass,
                  'leyser.revoked_session'::regclass) LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.relation, one.tgname);
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS ''tells every backend to look again''',
                       one.tgname, one.relation);
    END LOOP;
END
$$;

-- The jobs of a parallel restore copy these tables in any order, so that a row may
-- come before the one that it refers to.  Functions look up what they refer to;
-- what the foreign keys are for is the other side: deletes that cascade, or are
-- refused.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_catalog.pg_trigger t
            JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            WHERE c.relnamespace = 'leyser'::regnamespace
              AND p.proname IN ('RI_FKey_check_ins', 'RI_FKey_check_upd') LOOP
        EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER %I', one.relation, one.tgname);
    END LOOP;
END
$$;

-- What a logical dump carries.  Not what ends with the database that is dumped:
-- sessions and their revocation, invitations, delays after failed logins; nor support
-- access, which may have been revoked since, and which is for a role by its oid, in
-- another cluster perhaps another role's; not the proxies (always empty).
SELECT pg_catalog.pg_extension_config_dump('leyser.permission_record', 'WHERE permission NOT IN (''leyser.accounts'', ''leyser.grants'')');
SELECT pg_catalog.pg_extension_config_dump('leyser.account_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.account_record_account_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.password_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.blocked_password', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.role_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.role_record_role_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.role_permission', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.role_member', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.grant_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.grant_record_grant_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.permission_change', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.permission_change_change_id_seq', '');
