-- Rows of all tenants, interleaved, and what happens to rows in a life.  Reads
-- the markers (tenant, number, marker) from the file that psql variable "markers"
-- names.

CREATE TEMP TABLE marker (tenant_id text, id int, m text);
\set copy '\\copy marker FROM ' :'markers'
:copy
BEGIN;
INSERT INTO region SELECT tenant_id, id, m FROM marker WHERE id <= 200;
INSERT INTO customer SELECT tenant_id, id, 1 + id % 200, NULL, m FROM marker WHERE id <= 1000;
INSERT INTO invoice SELECT tenant_id, id, 1 + id % 500, m FROM marker;
INSERT INTO line SELECT tenant_id, id, id, m FROM marker ORDER BY id;
UPDATE customer SET last_line = id;
COMMIT;
INSERT INTO kept SELECT tenant_id, id, m, m, m, convert_to(m, 'UTF8'), jsonb_build_object('key', m, m, id),
    ARRAY[m, 'x' || m], textrange(m, m, '[]'), m, ROW(m, m)::pair, m FROM marker ORDER BY id, tenant_id;
-- few values, many times: the most common values of the statistics
INSERT INTO kept SELECT tenant_id, id + 100000, c.m, c.m, c.m, '', '{}', '{}', 'empty', c.m, NULL, id::text
FROM marker JOIN LATERAL (SELECT o.m FROM marker o WHERE o.tenant_id = marker.tenant_id AND o.id = marker.id % 10 + 1) c ON true
WHERE id <= 1000;
INSERT INTO long_value SELECT tenant_id, 3 * id + (tenant_id = 'canary')::int + 2 * (tenant_id = 'control')::int, repeat(m || ' ', 200),
    (SELECT string_agg(md5(g::text || m), m) FROM generate_series(1, 150) g), repeat(m, 20) FROM marker WHERE id <= 500;
INSERT INTO by_tenant SELECT * FROM marker;
INSERT INTO by_hash SELECT * FROM marker ORDER BY id;
INSERT INTO parent SELECT * FROM marker ORDER BY id;
INSERT INTO child SELECT tenant_id, id, m, m FROM marker ORDER BY id;
INSERT INTO fleeting SELECT * FROM marker ORDER BY id;
INSERT INTO elsewhere SELECT tenant_id, id, m, repeat(m || ' ', 100) FROM marker ORDER BY id;
ANALYZE;
REFRESH MATERIALIZED VIEW seen;
CHECKPOINT;
-- updates inside a page and out of it, deletions, insertions that fail
UPDATE kept SET x = x + 1 WHERE id % 3 = 0;
UPDATE kept SET x = x + 1 WHERE id % 3 = 0;
UPDATE kept SET t = reverse(reverse(t)), v = left(v, 31) || 'Q' WHERE id % 7 = 0;
UPDATE long_value SET extended = extended || md5(extended), external = reverse(external) WHERE id % 5 < 2;
DELETE FROM kept WHERE id % 11 = 0;
VACUUM;
BEGIN;
INSERT INTO kept SELECT tenant_id, id + 200000, m, m, m, '', '{}', ARRAY[m], 'empty', m, ROW(m, m)::pair, m || 'Z' FROM marker;
INSERT INTO long_value SELECT tenant_id, -3 * id - (tenant_id = 'canary')::int - 2 * (tenant_id = 'control')::int, repeat(m || ' ', 200), NULL, m FROM marker WHERE id <= 100;
INSERT INTO by_hash SELECT * FROM marker;
ROLLBACK;
UPDATE by_hash SET t = lower(t) || left(t, 20) WHERE id % 4 = 0 AND tenant_id = 'other';
UPDATE by_hash SET t = left(t, 31) || 'W' WHERE id % 4 = 0 AND tenant_id <> 'other';
ANALYZE;
DROP TABLE marker;
