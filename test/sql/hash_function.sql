-- The owner of extension pgcrypto (a database's owner may be, for it is a trusted
-- one) makes functions of their own members of it, so that they are called in place
-- of crypt() and gen_salt(): as a superuser, with everybody's passwords.

\set VERBOSITY default
SELECT current_user AS superuser \gset
CREATE ROLE regress_leyser_app LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
CREATE SCHEMA regress_leyser_trap;
CREATE SCHEMA regress_leyser_pgcrypto;
ALTER EXTENSION pgcrypto SET SCHEMA regress_leyser_pgcrypto;
CREATE TABLE regress_leyser_trap.seen (password text);
CREATE FUNCTION regress_leyser_trap.crypt(text, text) RETURNS text LANGUAGE sql AS $$
    INSERT INTO regress_leyser_trap.seen VALUES ($1); SELECT regress_leyser_pgcrypto.crypt($1, $2) $$;
CREATE FUNCTION regress_leyser_trap.gen_salt(text, int) RETURNS text LANGUAGE sql AS $$
    INSERT INTO regress_leyser_trap.seen VALUES ($1); SELECT regress_leyser_pgcrypto.gen_salt($1, $2) $$;
ALTER EXTENSION pgcrypto ADD FUNCTION regress_leyser_trap.crypt(text, text);
ALTER EXTENSION pgcrypto ADD FUNCTION regress_leyser_trap.gen_salt(text, int);
SELECT leyser.create_tenant('hash-a');
SELECT leyser.invite_account('ann', 'hash-a') AS secret \gset

\c - regress_leyser_app
SELECT leyser.accept_invitation('hash-a', 'ann', :'secret', 'correct horse battery staple');
SELECT leyser.login('hash-a', 'ann', 'correct horse battery staple') IS NOT NULL AS logged_in;

\c - :superuser
SELECT count(*) FROM regress_leyser_trap.seen;
ALTER EXTENSION pgcrypto DROP FUNCTION regress_leyser_trap.crypt(text, text);
ALTER EXTENSION pgcrypto DROP FUNCTION regress_leyser_trap.gen_salt(text, int);
ALTER EXTENSION pgcrypto SET SCHEMA public;
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_trap, regress_leyser_pgcrypto CASCADE;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
DROP ROLE regress_leyser_app;
