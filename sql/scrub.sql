-- The bytes of deleted rows.

CREATE FUNCTION leyser.scrub(relation regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_scrub';
REVOKE ALL ON FUNCTION leyser.scrub(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrub(regclass) IS
    'superuser: zeroes the bytes of the pages of a table or materialized view, and its TOAST, that belong to no row, and returns how many pages had any; run VACUUM before it; 42809 for another kind of relation (scrub a partitioned table''s partitions), 0A000 for a temporary table or another access method than heap, 42P01 where there is none, 25006 on a standby';

CREATE FUNCTION leyser.residue(relation regclass, needle bytea) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_residue';
REVOKE ALL ON FUNCTION leyser.residue(regclass, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.residue(regclass, bytea) IS
    'superuser: how often a byte string occurs in the pages of a relation, its TOAST table and their indexes; 22023 for an empty one, 42809 for what has no pages (views, foreign tables, partitioned relations), 0A000 for another session''s temporary table or another access method than heap, 42P01 where there is none';
