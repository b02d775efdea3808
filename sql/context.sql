-- The context: which tenant (and account) the transaction works for.

-- Nothing is revoked from PUBLIC here, nor for has_permission() and row_permission():
-- each statement on a protected table checks the right to call what its policies call,
-- which costs a microsecond more where the function has an access list of its own.

CREATE FUNCTION leyser.tenant_id() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_tenant_id';
COMMENT ON FUNCTION leyser.tenant_id() IS
    'the tenant of the context, as text; raises LY001 without a context, LY003 when it has expired, LY004 when the tenant is not active, LY005 when its account or session has ended';

CREATE FUNCTION leyser.tenant_id_int8() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_tenant_id_int8';
COMMENT ON FUNCTION leyser.tenant_id_int8() IS
    'the tenant of the context, as bigint; as tenant_id(), and 22P02 where the id is not the canonical text of a bigint';

CREATE FUNCTION leyser.tenant_id_uuid() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_tenant_id_uuid';
COMMENT ON FUNCTION leyser.tenant_id_uuid() IS
    'the tenant of the context, as uuid; as tenant_id(), and 22P02 where the id is not the canonical text of a uuid';

CREATE FUNCTION leyser.account_name() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_account_name';
REVOKE ALL ON FUNCTION leyser.account_name() FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_name() IS
    'the account of the context, NULL where the context has none; errors as tenant_id()';

CREATE FUNCTION leyser.context_account_id() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_context_account_id';
REVOKE ALL ON FUNCTION leyser.context_account_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.context_account_id() IS
    'internal: the id of the context''s account, NULL where the context has none; errors as tenant_id()';

CREATE FUNCTION leyser.unchecked_account_id() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_unchecked_account_id';
REVOKE ALL ON FUNCTION leyser.unchecked_account_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unchecked_account_id() IS
    'internal: the id of the context''s account whether it still holds or not, NULL without one; never raises';

CREATE FUNCTION leyser.session_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_session_id';
REVOKE ALL ON FUNCTION leyser.session_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.session_id() IS
    'the login session of the context, NULL where the context has none; errors as tenant_id()';

CREATE FUNCTION leyser.in_context() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_in_context';
REVOKE ALL ON FUNCTION leyser.in_context() FROM PUBLIC;
COMMENT ON FUNCTION leyser.in_context() IS
    'internal: whether this transaction has, or had, a context; checks nothing and never raises';

CREATE FUNCTION leyser.context_status(
    OUT state text, OUT tenant_id text, OUT account_name text, OUT session_id uuid,
    OUT expires_at timestamptz, OUT sqlstate text, OUT detail text, OUT hint text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 'leyser_context_status';
REVOKE ALL ON FUNCTION leyser.context_status() FROM PUBLIC;
COMMENT ON FUNCTION leyser.context_status() IS
    'why do I see nothing: one row with the state of the context (set, none, expired, ended, tenant not active, refused), whose it is, and the error a query would get; never the token';

CREATE FUNCTION leyser.enter(tenant_id text, account_name text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_enter';
REVOKE ALL ON FUNCTION leyser.enter(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.enter(text, text) IS
    'gateway: sets the context until the transaction ends, without a token of the caller''s own; recorded in a row that is part of the transaction (a rollback takes it, a read-only one has none) and, whatever becomes of that, in the server log; the account''s name may be in any case and width; LY009 where a context is or was set, LY004 where the tenant is not active, LY005 where it has no such active account, 22023 for what is no name, LY002 without a usable keyring; 28000 over a network without TLS 1.2';

CREATE FUNCTION leyser.leave() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_leave';
REVOKE ALL ON FUNCTION leyser.leave() FROM PUBLIC;
COMMENT ON FUNCTION leyser.leave() IS
    'clears the context; the transaction can still take on no other (LY009)';

CREATE FUNCTION leyser.issue_token(tenant_id text, account_name text DEFAULT NULL,
                                   lifetime interval DEFAULT '5 minutes') RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_issue_token';
REVOKE ALL ON FUNCTION leyser.issue_token(text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.issue_token(text, text, interval) IS
    'gateway: a signed token (JWT, HS256) for set_config(''leyser.token'', …, true); lifetime from one second to leyser.max_token_lifetime; recorded before it is returned, in a row that stays whatever becomes of the transaction (on a standby only in the server log); the account''s name may be in any case and width; LY009 while a context is set, LY004 where the tenant is not active, LY005 where it has no such active account, LY002 without a usable keyring, 22023 for a wrong lifetime or what is no name, 53000 or 58000 where it could not be recorded; 28000 over a network without TLS 1.2';

CREATE FUNCTION leyser.caller() RETURNS regrole
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_caller';
REVOKE ALL ON FUNCTION leyser.caller() FROM PUBLIC;
COMMENT ON FUNCTION leyser.caller() IS
    'internal: the role that calls, also inside SECURITY DEFINER functions';

CREATE FUNCTION leyser.tenant_id_problem(tenant_id text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_tenant_id_problem';
REVOKE ALL ON FUNCTION leyser.tenant_id_problem(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tenant_id_problem(text) IS
    'why a text cannot be a tenant id (a sentence), or NULL where it can';
