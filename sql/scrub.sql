-- The bytes of deleted rows.

CREATE FUNCTION leyser.scrub(relation regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_scrub';
REVOKE ALL ON FUNCTION leyser.scrub(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrub(regclass) IS
    'zeroes the bytes of a table''s pages that belong to no row; run VACUUM before it';

CREATE FUNCTION leyser.residue(relation regclass, needle bytea) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_residue';
REVOKE ALL ON FUNCTION leyser.residue(regclass, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.residue(regclass, bytea) IS
    'how often a byte string occurs in the pages of a table, its TOAST table and their indexes';
