-- Security checks: what carries tokens further than they should get, or lets them live long.

CREATE FUNCTION leyser.token_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('token.in_setting', 'high', 'open', 'A token is stored as a setting of a role or a database.',
     'Everybody can read pg_db_role_setting.',
     'SET LOCAL allow_system_table_mods = on; INSERT INTO pg_db_role_setting VALUES (0, ''keeper''::regrole, ''{leyser.token=x}'');', 'ALTER ROLE … RESET leyser.token;'),
    ('token.in_function_setting', 'high', 'open', 'A function sets a token in its SET clause.',
     'Everybody can read pg_proc, and the token binds itself anew at each call.',
     'CREATE FUNCTION shop.as_one() RETURNS int LANGUAGE sql AS ''SELECT 1''; SET LOCAL allow_system_table_mods = on; UPDATE pg_proc SET proconfig = ''{leyser.token=x}'' WHERE oid = ''shop.as_one()''::regprocedure;',
     'ALTER ROUTINE … RESET leyser.token;'),
    ('token.in_source', 'high', 'open', 'The text of a function or view has a token in it.',
     'Everybody can read the catalogues.',
     'CREATE FUNCTION shop.as_one() RETURNS text LANGUAGE sql AS ''SELECT set_config(''''leyser.token'''', ''''eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnQiOiIxIn0.c2ln'''', true)'';',
     'DROP ROUTINE …; DROP VIEW …;'),
    ('token.log_statement', 'medium', 'open', 'Statements are logged with their parameters.',
     'A token is a parameter of the first statement.',
     'ALTER ROLE app SET log_statement = ''all'';', 'ALTER ROLE … RESET log_statement;'),
    ('token.log_duration', 'medium', 'open', 'Slow statements are logged with their parameters.',
     'A token is a parameter of the first statement; a lock makes any statement slow.',
     'ALTER ROLE app SET log_min_duration_statement = 1000;', 'ALTER ROLE … RESET log_min_duration_statement;'),
    ('token.log_parameters_on_error', 'medium', 'open', 'Failing statements are logged with their parameters.',
     'A token that is refused is logged, and may be good in another database.',
     'ALTER ROLE app SET log_parameter_max_length_on_error = -1;', 'ALTER ROLE … RESET log_parameter_max_length_on_error;'),
    ('token.statements_kept', 'low', 'open', 'pg_stat_statements keeps utility statements.',
     'SET LOCAL leyser.token = ''…'' is one, with the token in its text.',
     'ALTER DATABASE postgres SET pg_stat_statements.track_utility = on;', 'ALTER DATABASE … RESET pg_stat_statements.track_utility;'),
    ('token.audit_parameters', 'medium', 'open', 'pgAudit logs parameters.',
     'A token is a parameter of the first statement.',
     'ALTER DATABASE postgres SET pgaudit.log_parameter = on;', 'ALTER DATABASE … RESET pgaudit.log_parameter;'),
    ('token.explained', 'low', 'open', 'auto_explain logs statements.',
     'A token is a parameter of the first statement; from version 16 on auto_explain logs parameters, too, and log_verbose prints them.',
     'ALTER DATABASE postgres SET auto_explain.log_min_duration = 0;', 'ALTER DATABASE … RESET auto_explain.log_min_duration;'),
    ('token.lifetime', 'medium', 'open', 'Tokens may live longer than a day.',
     'Whoever gets hold of one can use it until it expires.',
     'ALTER ROLE app SET leyser.max_token_lifetime = ''30 d'';', 'ALTER ROLE … RESET leyser.max_token_lifetime;'),
    ('token.leeway', 'low', 'open', 'More than two minutes of difference between clocks are tolerated in tokens.',
     'Issuers'' tokens live that much longer; clocks can be kept closer.',
     'ALTER ROLE app SET leyser.clock_leeway = ''5 min'';', 'ALTER ROLE … RESET leyser.clock_leeway;'),
    ('token.session_scope', 'medium', 'open', 'Tokens count for more than their transaction.',
     'leyser.context_scope = session is for roles whose connections are never shared; the next client of a pooled one has the former tenant.',
     'ALTER ROLE app SET leyser.context_scope = session;', 'ALTER ROLE … RESET leyser.context_scope;')
$rules$;
REVOKE ALL ON FUNCTION leyser.token_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.token_rules() IS 'internal: rules of the security check, family token';

-- Where a role or database has a setting of its own for parameters, that one counts for
-- its statements; else the server's.
CREATE FUNCTION leyser.token_setting_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH setting AS MATERIALIZED (
        SELECT s AS whole, s.* FROM leyser.check_setting s
    ), parameters AS (
        SELECT coalesce(bool_or(s.value <> '0'), true) AS are_logged FROM setting s WHERE s.name = 'log_parameter_max_length' AND s.role = 0
    )
    SELECT 'token.in_setting', s.object, 'It holds a token.', s.remedy_set
    FROM setting s WHERE s.name = 'leyser.token' AND s.remedy_end IS NULL AND s.value <> ''
    UNION ALL
    SELECT 'token.log_statement', s.object, 'Statements are logged, parameters included.',
           CASE WHEN s.remedy_end IS NULL THEN s.remedy_set ELSE 'ALTER SYSTEM SET log_parameter_max_length = 0; SELECT pg_reload_conf();' END
    FROM setting s, parameters p WHERE s.name = 'log_statement' AND s.value = 'all' AND p.are_logged
    UNION ALL
    SELECT 'token.log_duration', s.object, 'Slow statements are logged, parameters included.',
           CASE WHEN s.remedy_end IS NULL THEN s.remedy_set ELSE 'ALTER SYSTEM SET log_parameter_max_length = 0; SELECT pg_reload_conf();' END
    FROM setting s, parameters p
    WHERE (s.name IN ('log_min_duration_statement', 'log_min_duration_sample') AND s.value <> '-1'
           OR s.name = 'log_transaction_sample_rate' AND s.value::numeric > 0) AND p.are_logged
    UNION ALL
    SELECT 'token.log_parameters_on_error', s.object, 'Parameters of failing statements are logged.', leyser.setting_remedy(s.whole, '0')
    FROM setting s WHERE s.name = 'log_parameter_max_length_on_error' AND s.value <> '0'
    UNION ALL
    SELECT 'token.statements_kept', s.object, 'Texts of utility statements are kept.', leyser.setting_remedy(s.whole, 'off')
    FROM setting s WHERE s.name = 'pg_stat_statements.track_utility' AND s.value = 'on'
    UNION ALL
    SELECT 'token.explained', s.object, 'Statements are explained in the log.', leyser.setting_remedy(s.whole, '-1')
    FROM setting s WHERE s.name = 'auto_explain.log_min_duration' AND s.value <> '-1'
    UNION ALL
    SELECT 'token.audit_parameters', s.object, 'Parameters are logged.', leyser.setting_remedy(s.whole, 'off')
    FROM setting s WHERE s.name = 'pgaudit.log_parameter' AND s.value = 'on'
    UNION ALL
    SELECT 'token.session_scope', s.object, 'A token counts until it expires.', leyser.setting_remedy(s.whole, 'transaction')
    FROM setting s WHERE s.name = 'leyser.context_scope' AND s.value = 'session'
$$;
REVOKE ALL ON FUNCTION leyser.token_setting_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.token_setting_findings() IS 'internal: what family token finds about settings';

-- A setting that was given with its unit, in seconds.
CREATE FUNCTION leyser.seconds_of(value text) RETURNS numeric
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT CASE WHEN value ~ '^\s*[0-9.]+\s*(us|ms|s|min|h|d)?\s*$' THEN substring(value FROM '[0-9.]+')::numeric
        * CASE substring(value FROM '[a-z]+') WHEN 'us' THEN 0.000001 WHEN 'ms' THEN 0.001 WHEN 'min' THEN 60 WHEN 'h' THEN 3600 WHEN 'd' THEN 86400 ELSE 1 END END
$$;
REVOKE ALL ON FUNCTION leyser.seconds_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.seconds_of(text) IS 'internal: a time in seconds, from a setting whose unit is a second; NULL for what is none';

CREATE FUNCTION leyser.token_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT 'token.lifetime', s.object, format('It is %s seconds.', leyser.seconds_of(s.value)), leyser.setting_remedy(s, '1 d')
    FROM leyser.check_setting s WHERE s.name = 'leyser.max_token_lifetime' AND leyser.seconds_of(s.value) > 86400
    UNION ALL
    SELECT 'token.leeway', s.object, format('It is %s seconds.', leyser.seconds_of(s.value)), leyser.setting_remedy(s, '30 s')
    FROM leyser.check_setting s WHERE s.name = 'leyser.clock_leeway' AND leyser.seconds_of(s.value) > 120
    UNION ALL
    SELECT 'token.in_function_setting', 'function ' || p.oid::regprocedure, 'Its SET clause holds a token.', format('ALTER ROUTINE %s RESET leyser.token;', p.oid::regprocedure)
    FROM pg_proc p WHERE EXISTS (SELECT FROM unnest(p.proconfig) c WHERE starts_with(c, 'leyser.token='))
    UNION ALL
    SELECT 'token.in_source', 'function ' || f.name, 'Its text has a token in it.', format('DROP ROUTINE %s;', f.name)
    FROM leyser.check_function() f WHERE f.source ~ 'eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.'
    UNION ALL
    SELECT 'token.in_source', 'view ' || c.oid::regclass, 'Its text has a token in it.', format('DROP VIEW %s;', c.oid::regclass)
    FROM pg_class c JOIN leyser.check_schema n ON n.oid = c.relnamespace
    WHERE c.relkind = 'v' AND pg_get_viewdef(c.oid) ~ 'eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.'
$$;
REVOKE ALL ON FUNCTION leyser.token_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.token_findings() IS 'internal: what family token finds about lifetimes and texts';
