-- Whether the context's account may do something.  The answers come from
-- src/permission.c; sql/permission_answer.sql explains them from the tables.

CREATE FUNCTION leyser.scope_problem(scope text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_scope_problem';
REVOKE ALL ON FUNCTION leyser.scope_problem(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scope_problem(text) IS
    'why a text is no scope (a sentence), or NULL where it is one: 1 to 16 labels of 1 to 63 letters A to Z, digits, _ and -, joined by dots';

-- The cost keeps row_permission() behind the comparison of the tenant column.
CREATE FUNCTION leyser.has_permission(permission text, scope text DEFAULT NULL) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'leyser_has_permission';
COMMENT ON FUNCTION leyser.has_permission(text, text) IS
    'whether the context''s account has a permission in a scope (a dotted path; NULL: everywhere), by the database''s clock at this statement; false without an account; 42704 for a permission that does not exist, 22023 for a scope that is no path, 22004 for a null permission; else errors as tenant_id()';

CREATE FUNCTION leyser.require_permission(permission text, scope text DEFAULT NULL) RETURNS void
    LANGUAGE c STABLE PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'leyser_require_permission';
REVOKE ALL ON FUNCTION leyser.require_permission(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_permission(text, text) IS
    'raises 42501 unless has_permission(); else errors as has_permission()';

CREATE FUNCTION leyser.row_permission_support(internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'leyser_row_permission_support';
REVOKE ALL ON FUNCTION leyser.row_permission_support(internal) FROM PUBLIC;
COMMENT ON FUNCTION leyser.row_permission_support(internal) IS
    'internal: what the planner is to expect of row_permission()';

CREATE FUNCTION leyser.row_permission(permission text, scope text) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 20 SUPPORT leyser.row_permission_support
    AS 'MODULE_PATHNAME', 'leyser_row_permission';
COMMENT ON FUNCTION leyser.row_permission(text, text) IS
    'for policies made by set_permissions(): has_permission() for a row''s scope, where a scope that is no path counts as none: only who has the permission everywhere sees the row';
