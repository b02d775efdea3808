"""The database that the clients share, its tenants, and the last look at it.

Each tenant has a secret marker, which its own clients put into every row they
write.  The server never computes it, so a row whose marker and tenant column
disagree has changed hands.
"""

import datetime
import re
import secrets

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire import DbError, Wire

ROLE = "pool_app"
HONEST = [str(n) for n in range(1001, 1008)]
EVIL = [str(n) for n in range(1008, 1011)]
GLOBAL = "mk" + "0" * 16
MARKER = re.compile(r"mk[0-9a-f]{16}")
TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
ISSUER, AUDIENCE, ISSUER_KEY = "https://issuer.example", "pool", "issuer-1"

SCHEMA = """
CREATE ROLE pool_owner;
CREATE ROLE pool_app LOGIN;
CREATE ROLE pool_other;
GRANT pool_other TO pool_app;
CREATE SCHEMA shop AUTHORIZATION pool_owner;
CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA shop, trap TO pool_app, pool_other;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = shop', current_database()); END $$;
SET search_path = shop;
SET ROLE pool_owner;
CREATE TABLE invoice (tenant_id bigint NOT NULL, invoice_id int NOT NULL, marker text NOT NULL,
    amount bigint NOT NULL, PRIMARY KEY (tenant_id, invoice_id));
CREATE TABLE line (tenant_id bigint NOT NULL, line_id bigint NOT NULL, invoice_id int NOT NULL,
    marker text NOT NULL, amount bigint NOT NULL, PRIMARY KEY (tenant_id, line_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoice);
CREATE TABLE note (tenant_id text NOT NULL, note_id bigint NOT NULL, marker text NOT NULL,
    amount bigint NOT NULL, PRIMARY KEY (tenant_id, note_id)) PARTITION BY HASH (tenant_id);
CREATE TABLE note_0 PARTITION OF note FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE note_1 PARTITION OF note FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE note_2 PARTITION OF note FOR VALUES WITH (MODULUS 3, REMAINDER 2);
CREATE TABLE tariff (tenant_id bigint, tariff_id int NOT NULL, marker text NOT NULL,
    amount bigint NOT NULL, UNIQUE (tenant_id, tariff_id));
CREATE TABLE receipt (tenant_id bigint NOT NULL, receipt_id uuid NOT NULL, marker text NOT NULL,
    amount bigint NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, receipt_id));
CREATE VIEW invoice_sum WITH (security_invoker) AS
    SELECT tenant_id, marker, count(*) AS rows, sum(amount) AS amount FROM invoice GROUP BY 1, 2;
CREATE FUNCTION raise_amounts(by bigint) RETURNS SETOF invoice LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        UPDATE invoice SET amount = amount + 1000000;
        RAISE EXCEPTION 'taken back';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    RETURN QUERY UPDATE invoice i SET amount = i.amount + by
        WHERE i.invoice_id % 7 = 3 RETURNING i.*;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO pool_app, pool_other;
INSERT INTO tariff SELECT NULL, n, '{GLOBAL}', 7 FROM generate_series(1, 5) n;
SELECT leyser.protect('invoice');
SELECT leyser.protect('line');
SELECT leyser.protect('note');
SELECT leyser.protect('tariff', kind => 'own_and_global');
SELECT leyser.protect('receipt');
RESET ROLE;
SELECT leyser.grant_usage('pool_app', 'application');
SELECT leyser.grant_usage('pool_other', 'application');
"""

# Every table has rows of every tenant from the start.
FIRST_ROWS = """
WITH tenant AS (SELECT $1 AS id, $2 AS marker),
    i AS (INSERT INTO shop.invoice SELECT id::bigint, 61, marker, 61 FROM tenant),
    l AS (INSERT INTO shop.line SELECT id::bigint, 1, 61, marker, 1 FROM tenant),
    r AS (INSERT INTO shop.receipt SELECT id::bigint, gen_random_uuid(), marker FROM tenant)
INSERT INTO shop.note SELECT id, n, marker, n FROM tenant, generate_series(1, 1000) n
"""
FIRST_SUMS = {"invoice": [1, 61], "line": [1, 1], "receipt": [1, 0],
              "note": [1000, sum(range(1, 1001))]}

# What the rows of each table add up to, whoever they belong to.
SUMS = """
SELECT tenant_id::text, marker, '{0}', count(*), sum(amount) FROM {0} GROUP BY 1, 2
"""


class Shop:
    """Markers and tokens of all tenants; made once, inherited by every process."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.markers = {t: "mk" + secrets.token_hex(8) for t in HONEST + EVIL}
        self.key = Ed25519PrivateKey.generate()
        self.tokens = {}

    def public_pem(self):
        """The issuer's public key, as it is registered."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def build(self):
        """Makes roles, tables, tenants and the rows that are there from the start."""
        boss = Wire(self.conninfo)
        boss.script(SCHEMA.replace("{GLOBAL}", GLOBAL))
        boss.query("SELECT leyser.add_issuer_key($1, $2, $3, $4)",
                   ISSUER_KEY, self.public_pem(), ISSUER, AUDIENCE)
        for tenant, marker in self.markers.items():
            boss.query("SELECT leyser.create_tenant($1)", tenant)
            boss.query(FIRST_ROWS, tenant, marker)
            self.tokens[tenant] = boss.query(
                "SELECT leyser.issue_token($1, lifetime => '12 hours')", tenant).rows[0][0]
        boss.script("ANALYZE")
        boss.close()

    def sign(self, tenant, key=None, **claims):
        """A token of the issuer; keyword arguments put claims in another's place."""
        now = datetime.datetime.now(tz=datetime.timezone.utc)
        payload = {"iss": ISSUER, "aud": AUDIENCE, "tenant": tenant, "iat": now,
                   "exp": now + datetime.timedelta(minutes=5), **claims}
        return jwt.encode(payload, key or self.key, algorithm="EdDSA",
                          headers={"kid": ISSUER_KEY})

    def foreign(self, text, tenant, among=HONEST + EVIL):
        """Markers of tenants other than this one in any text that it was shown."""
        others = {marker for t, marker in self.markers.items() if t in among and t != tenant}
        return sorted(others.intersection(MARKER.findall(text)))

    def audit(self, ledger):
        """Compares all rows with what the clients wrote; gives what is wrong.

        ledger: what clients did, see clients.py.
        """
        boss = Wire(self.conninfo)
        wrong = []
        receipts = set(boss.query("SELECT receipt_id::text FROM shop.receipt").column("receipt_id"))
        expected = self._expected(ledger, receipts, wrong)
        tables = ("invoice", "line", "note", "tariff", "receipt")
        found = boss.query(" UNION ALL ".join(SUMS.format("shop." + t) for t in tables)).rows
        boss.close()
        for tenant, marker, table, rows, amount in found:
            self._judge(tenant, marker, table[len("shop."):], int(rows), int(amount),
                        expected, wrong)
        for (tenant, table), sums in expected.items():
            if sums[0] != 0:
                wrong.append(f"tenant {tenant}: {sums[0]} rows of {table} are gone")
        return wrong

    def _judge(self, tenant, marker, table, rows, amount, expected, wrong):
        if tenant is None:
            if (table, marker, rows, amount) != ("tariff", GLOBAL, 5, 35):
                wrong.append(f"global rows of {table}: {rows} with {marker}, sum {amount}")
            return
        if self.foreign(marker, tenant):
            wrong.append(f"{rows} rows of tenant {tenant} in {table} carry {marker}")
        if tenant not in HONEST:
            return
        if marker != self.markers[tenant]:
            wrong.append(f"{rows} rows of tenant {tenant} in {table} carry {marker}")
            return
        wanted = expected.pop((tenant, table), [0, 0])
        if wanted != [rows, amount]:
            wrong.append(f"tenant {tenant}, {table}: {rows} rows, sum {amount}; "
                         f"its clients wrote {wanted[0]}, sum {wanted[1]}")

    def _expected(self, ledger, receipts, wrong):
        expected = {(t, table): list(sums) for t in HONEST
                    for table, sums in FIRST_SUMS.items()}
        for tenant, receipt, outcome, effects in ledger:
            there = receipt in receipts
            if outcome != "unknown" and there != (outcome == "committed"):
                wrong.append(f"transaction {receipt} of tenant {tenant}: {outcome}, "
                             f"but its receipt is {'there' if there else 'missing'}")
            if not there:
                continue
            for table, rows, amount in effects + [("receipt", 1, 0)]:
                sums = expected.setdefault((tenant, table), [0, 0])
                sums[0] += rows
                sums[1] += amount
        return expected


def wait_for_server(conninfo, seconds=20):
    """Waits until a server or pooler takes connections."""
    import time
    until = time.monotonic() + seconds
    while True:
        try:
            Wire(conninfo).close()
            return
        except DbError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
