-- The bytes that VACUUM leaves in pages: scrub() zeroes them, residue() counts.

-- VACUUM removes what nobody sees any longer: others' statements end before it
CREATE PROCEDURE regress_leyser_settle() LANGUAGE plpgsql AS $$
DECLARE
    own xid := pg_current_xact_id()::xid;
BEGIN
    COMMIT;
    WHILE EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND age(a.backend_xmin) >= age(own)) LOOP
        PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
        COMMIT;
    END LOOP;
END
$$;

CREATE TABLE regress_leyser_page (id int, content text, more text) WITH (autovacuum_enabled = off);
ALTER TABLE regress_leyser_page ALTER more SET STORAGE EXTERNAL;
INSERT INTO regress_leyser_page
    SELECT g, 'content ' || g || CASE WHEN g % 3 = 0 THEN ' CANARY' || repeat('x', g % 7) ELSE '' END,
           CASE WHEN g % 100 = 0 THEN repeat('CANARY ', 1000) END
    FROM generate_series(1, 3000) g;
SELECT leyser.residue('regress_leyser_page', 'CANARY') > 30000 AS found;
DELETE FROM regress_leyser_page WHERE content ~ 'CANARY' OR more IS NOT NULL;

-- rows that are still there are told, not touched
\set VERBOSITY terse
SELECT leyser.scrub('regress_leyser_page') >= 0 AS scrubbed;
\set VERBOSITY default
CALL regress_leyser_settle();
VACUUM (TRUNCATE OFF) regress_leyser_page;
SELECT leyser.residue('regress_leyser_page', 'CANARY') > 0 AS left_by_vacuum;
SELECT sum(id) AS before, md5(string_agg(content, ',' ORDER BY id)) FROM regress_leyser_page;
SELECT leyser.scrub('regress_leyser_page') > 10 AS pages;
SELECT leyser.residue('regress_leyser_page', 'CANARY') AS left_over;
SELECT sum(id) AS after, md5(string_agg(content, ',' ORDER BY id)) FROM regress_leyser_page;
SELECT leyser.scrub('regress_leyser_page') AS nothing_left_to_do;

-- an index keeps them until it is built anew
CREATE TABLE regress_leyser_key (content text PRIMARY KEY) WITH (autovacuum_enabled = off);
INSERT INTO regress_leyser_key SELECT 'CANARY' || md5(g::text) FROM generate_series(1, 2000) g;
DELETE FROM regress_leyser_key;
CALL regress_leyser_settle();
VACUUM (TRUNCATE OFF) regress_leyser_key;
SELECT leyser.scrub('regress_leyser_key') > 0 AS pages;
SELECT leyser.residue('regress_leyser_key', 'CANARY') > 0 AS in_the_index,
       leyser.residue('regress_leyser_key_pkey', 'CANARY') > 0 AS there;
REINDEX INDEX CONCURRENTLY regress_leyser_key_pkey;
SELECT leyser.residue('regress_leyser_key', 'CANARY') AS left_over;

-- a materialized view, an unlogged table, one without rows
CREATE MATERIALIZED VIEW regress_leyser_view AS SELECT * FROM regress_leyser_key;
CREATE UNLOGGED TABLE regress_leyser_unlogged AS SELECT g AS id, 'CANARY' AS content FROM generate_series(1, 1000) g;
DELETE FROM regress_leyser_unlogged;
CALL regress_leyser_settle();
VACUUM (TRUNCATE OFF) regress_leyser_unlogged;
SELECT leyser.scrub('regress_leyser_view'), leyser.scrub('regress_leyser_unlogged') > 0, leyser.scrub('regress_leyser_key');
SELECT leyser.residue('regress_leyser_unlogged', 'CANARY');

-- what cannot be scrubbed
CREATE TEMP TABLE regress_leyser_temporary (id int);
CREATE TABLE regress_leyser_partitioned (id int) PARTITION BY LIST (id);
CREATE SEQUENCE regress_leyser_sequence;
CREATE VIEW regress_leyser_plain AS SELECT 1;
\set VERBOSITY sqlstate
SELECT leyser.scrub('regress_leyser_temporary');
SELECT leyser.scrub('regress_leyser_partitioned');
SELECT leyser.scrub('regress_leyser_sequence');
SELECT leyser.scrub('regress_leyser_plain');
SELECT leyser.scrub('regress_leyser_key_pkey');
SELECT leyser.scrub(0);
SELECT leyser.residue('regress_leyser_plain', 'x');
SELECT leyser.residue('regress_leyser_partitioned', 'x');
SELECT leyser.residue('regress_leyser_temporary', 'x');
SELECT leyser.residue(0, 'x');
SELECT leyser.residue('regress_leyser_key', '');
SELECT leyser.scrub(NULL), leyser.residue(NULL, 'x'), leyser.residue('regress_leyser_key', NULL);
CREATE ROLE regress_leyser_reader;
GRANT SELECT ON regress_leyser_key TO regress_leyser_reader;
SET ROLE regress_leyser_reader;
SELECT leyser.scrub('regress_leyser_key');
SELECT leyser.residue('regress_leyser_key', 'x');
RESET ROLE;
\set VERBOSITY default
SELECT leyser.scrub('regress_leyser_partitioned');
SELECT leyser.scrub('regress_leyser_temporary');
SELECT leyser.residue('regress_leyser_plain', 'x');

DROP TABLE regress_leyser_page, regress_leyser_key, regress_leyser_unlogged, regress_leyser_temporary, regress_leyser_partitioned CASCADE;
DROP SEQUENCE regress_leyser_sequence;
DROP VIEW regress_leyser_plain;
DROP PROCEDURE regress_leyser_settle();
DROP ROLE regress_leyser_reader;
