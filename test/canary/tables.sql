-- Every way in which a marker can be kept: types, storage, index methods, kinds
-- of tables.  psql variables: tablespace, the name of one ('' for none).

CREATE EXTENSION pg_trgm;
CREATE EXTENSION bloom;
CREATE EXTENSION btree_gist;
CREATE DOMAIN note AS text CHECK (length(VALUE) > 5);
CREATE TYPE pair AS (a text, b text);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");

-- Foreign keys over four levels, and back from the second to the last.
CREATE TABLE region (tenant_id text NOT NULL, id int, name text, PRIMARY KEY (tenant_id, id));
CREATE TABLE customer (tenant_id text NOT NULL, id int, region int, last_line int, name varchar(100),
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, region) REFERENCES region,
    UNIQUE (tenant_id, name) INCLUDE (region));
CREATE TABLE invoice (tenant_id text NOT NULL, id int, customer int, remark text,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customer);
CREATE TABLE line (tenant_id text NOT NULL, id int, invoice int, article text,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, invoice) REFERENCES invoice);
ALTER TABLE customer ADD FOREIGN KEY (tenant_id, last_line) REFERENCES line DEFERRABLE INITIALLY DEFERRED;

-- One column a type, one index a method.
CREATE TABLE kept (
    tenant_id text NOT NULL, id int, t text, v varchar(80), c char(40), by bytea, j jsonb,
    a text[], r textrange, d note, p pair, e text, x int DEFAULT 0,
    PRIMARY KEY (tenant_id, id), EXCLUDE USING gist (tenant_id WITH =, e WITH =)
) WITH (fillfactor = 70);
CREATE INDEX kept_btree ON kept (t);
CREATE INDEX kept_expression ON kept (lower(v) text_pattern_ops, (p));
CREATE INDEX kept_partial ON kept (d) WHERE id % 2 = 0;
CREATE INDEX kept_include ON kept (id) INCLUDE (c);
CREATE INDEX kept_hash ON kept USING hash (t);
CREATE INDEX kept_gin ON kept USING gin (j) WITH (fastupdate = off);
CREATE INDEX kept_gin_fast ON kept USING gin (a) WITH (fastupdate = on);
CREATE INDEX kept_gin_path ON kept USING gin (j jsonb_path_ops);
CREATE INDEX kept_trigram ON kept USING gin (t gin_trgm_ops);
CREATE INDEX kept_gist ON kept USING gist (r);
CREATE INDEX kept_gist_trigram ON kept USING gist (v gist_trgm_ops);
CREATE INDEX kept_spgist ON kept USING spgist (t);
CREATE INDEX kept_brin ON kept USING brin (t) WITH (pages_per_range = 1);
CREATE INDEX kept_brin_multi ON kept USING brin (v bpchar_bloom_ops);
CREATE INDEX kept_bloom ON kept USING bloom (t);
CREATE STATISTICS kept_dependent (mcv, ndistinct, dependencies) ON t, v, d FROM kept;
CREATE STATISTICS kept_expressions ON (t || 'x'), (reverse(v)) FROM kept;

-- In several chunks, compressed and not, and compressed in place.
CREATE TABLE long_value (tenant_id text NOT NULL, id int PRIMARY KEY, external text, extended text, main text);
ALTER TABLE long_value ALTER external SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN;

CREATE TABLE by_tenant (tenant_id text NOT NULL, id int, t text) PARTITION BY LIST (tenant_id);
CREATE TABLE by_tenant_canary PARTITION OF by_tenant FOR VALUES IN ('canary');
CREATE TABLE by_tenant_rest PARTITION OF by_tenant DEFAULT;
CREATE INDEX ON by_tenant (t);
CREATE TABLE by_hash (tenant_id text NOT NULL, id int, t text) PARTITION BY HASH (id);
CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE (t);
CREATE TABLE by_hash_0_a PARTITION OF by_hash_0 FOR VALUES FROM (MINVALUE) TO ('M');
CREATE TABLE by_hash_0_m PARTITION OF by_hash_0 FOR VALUES FROM ('M') TO (MAXVALUE);
CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON by_hash (t);
CREATE TABLE parent (tenant_id text NOT NULL, id int, t text);
CREATE TABLE child (extra text) INHERITS (parent);
CREATE INDEX ON child (extra);

CREATE UNLOGGED TABLE fleeting (tenant_id text NOT NULL, id int, t text);
CREATE INDEX ON fleeting (t);
CREATE TABLE elsewhere (tenant_id text NOT NULL, id int, t text, l text);
ALTER TABLE elsewhere ALTER l SET STORAGE EXTERNAL;
CREATE INDEX elsewhere_t ON elsewhere (t);
SELECT :'tablespace' <> '' AS there \gset
\if :there
ALTER TABLE elsewhere SET TABLESPACE :tablespace;
ALTER INDEX elsewhere_t SET TABLESPACE :tablespace;
\endif
CREATE MATERIALIZED VIEW seen AS SELECT tenant_id, t, count(*) FROM by_hash GROUP BY 1, 2;
CREATE INDEX ON seen (t);
