"""Hostile clients: customers of other tenants, under the same role, in the same pool.

Each attack is a few statements of one turn, and may go on in later turns of the
same client or of another.  Whatever they are shown, results, errors, notices, is
searched for other tenants' markers and tokens.  A statement passed to refused()
must not succeed.
"""

import base64
import json
import os
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients import LOST, Violation
from shop import EVIL, HONEST, ISSUER_KEY, TOKEN, DbError

TABLES = ("invoice", "line", "note", "note_0", "note_1", "note_2", "receipt", "invoice_sum")
SESSION_SETTINGS = (
    ("search_path", "pg_temp, shop"), ("search_path", "trap, shop"), ("search_path", ""),
    ("role", "pool_other"), ("row_security", "off"), ("statement_timeout", "5ms"),
    ("lock_timeout", "5ms"), ("plan_cache_mode", "force_generic_plan"),
    ("parallel_setup_cost", "0"), ("parallel_tuple_cost", "0"),
    ("min_parallel_table_scan_size", "0"), ("parallel_leader_participation", "off"),
    ("max_parallel_workers_per_gather", "2"), ("enable_indexscan", "off"),
    ("default_transaction_read_only", "on"), ("default_transaction_isolation", "serializable"),
    ("transform_null_equals", "on"), ("array_nulls", "off"), ("backslash_quote", "on"),
    ("standard_conforming_strings", "off"), ("DateStyle", "German"), ("TimeZone", "Asia/Tokyo"),
    ("bytea_output", "escape"), ("session_authorization", "pool_app"), ("work_mem", "64kB"),
    ("app.tenant", "1001"), ("synchronous_commit", "off"), ("cursor_tuple_fraction", "0.1"))


class Hostile:
    """One hostile client; kind, turn() and what it carries are as for others."""

    kind = "hostile"

    def __init__(self, shop, tenant, rng):
        self.shop = shop
        self.tenant = tenant
        self.marker = shop.markers[tenant]
        self.token = shop.tokens[tenant]
        self.rng = rng
        self.victims = HONEST + EVIL
        self.line = None
        self.tally = None

    def turn(self, line, tally):
        """One attack.  Its failing is what is hoped for; what it shows is judged."""
        self.line, self.tally, self.victims = line, tally, HONEST + EVIL
        attack = self.rng.choice(ATTACKS)
        try:
            attack(self)
        except DbError as error:
            self.judge(error.text)
            tally.refused["hostile", error.sqlstate] += 1
        tally.counts["transactions"] += 1
        tally.counts["attacks"] += 1
        if line.wire().is_lost():
            line.reconnect()
        for text in line.wire().overheard():
            self.judge(text)
        # most leave as they are; some are tidy, and a driver's pool rolls back
        if line.wire().in_transaction() and (not line.pooled or self.rng.random() < 0.8):
            self.attempt("ROLLBACK")

    # ---- tools ----

    def judge(self, text):
        """No other tenant's marker, and no other tenant's token."""
        found = self.shop.foreign(text, self.tenant, self.victims)
        found += [t for t in TOKEN.findall(text)
                  if any(t.startswith(other) for tenant, other in self.shop.tokens.items()
                         if tenant in HONEST)]
        if found:
            self.tally.counts["foreign rows"] += len(found)
            raise Violation(f"hostile {self.tenant} sees {found[:3]} in {text[:300]}")

    def run(self, sql, *params):
        """A statement of the attack, or a whole message; its result is judged."""
        wire = self.line.wire()
        result = wire.query(sql, *params) if params else wire.script(sql)
        self.judge(repr(result.rows))
        return result

    def attempt(self, sql, *params):
        """The same where failing is no news; gives the result or None."""
        try:
            return self.run(sql, *params)
        except DbError as error:
            self.judge(error.text)
            self.tally.refused["hostile", error.sqlstate] += 1
            if error.sqlstate in LOST:
                raise
            return None

    def refused(self, sql, *params):
        """Must fail, whatever the connection is like."""
        if self.attempt(sql, *params) is not None:
            raise Violation(f"hostile {self.tenant} was not refused: {sql}")

    def attempt_again(self, sql):
        """attempt(), after which a transaction goes on as if nothing had been."""
        inside = self.line.wire().in_transaction()
        if inside:
            self.attempt("SAVEPOINT again")
        self.attempt(sql)
        if inside:
            self.attempt("ROLLBACK TO again")

    def enter(self, block=True):
        """Begins a transaction with the client's own token, right or wrong."""
        if block:
            self.run("BEGIN")
        self.run("SELECT set_config('leyser.token', $1, true)", self.token)

    def victim(self):
        """Some tenant that is not this client's."""
        return self.rng.choice(HONEST)


# ---- what lasts in a connection ----

def session_set(me):
    """Settings for whoever comes next, outside a context and inside one."""
    name, value = me.rng.choice(SESSION_SETTINGS)
    if me.rng.random() < 0.5:
        me.enter()
    if me.rng.random() < 0.5:
        me.run("SELECT set_config($1, $2, false)", name, value)
    else:
        me.run(f"SET {name} = '{value}'")
    if me.line.wire().in_transaction():
        me.run("COMMIT")


def temporary_trap(me):
    """A table of a victim's name in the schema that is searched first."""
    name = me.rng.choice(("invoice", "line", "note", "tariff", "receipt", "picked"))
    if me.rng.random() < 0.5:
        me.enter()
    me.refused(me.rng.choice((
        f"CREATE TEMP TABLE {name} (LIKE shop.invoice)",
        f"CREATE TEMP TABLE {name} (tenant_id text, marker text) ON COMMIT DELETE ROWS",
        f"CREATE TABLE pg_temp.{name} (tenant_id text, invoice_id int, marker text)",
        f"CREATE TEMP TABLE {name} AS SELECT 1 AS tenant_id, 'x' AS marker",
        f"SELECT '1' AS tenant_id, 'x' AS marker INTO TEMP {name}",
        f"EXPLAIN ANALYZE CREATE TEMP TABLE {name} AS SELECT 1 AS tenant_id",
        f"DO $$ BEGIN CREATE TEMP TABLE {name} (tenant_id text, marker text); END $$",
        f"CREATE TEMP VIEW {name} AS SELECT 1 AS tenant_id",
        f"CREATE TEMP SEQUENCE {name}",
        f"CREATE TABLE trap.{name} (tenant_id text, marker text)",
        f"CREATE TYPE pg_temp.{name} AS (tenant_id text)",
        f"SET search_path = pg_temp; CREATE TABLE {name} (tenant_id text)",
        f"BEGIN; CREATE TEMP TABLE t (LIKE shop.{name} INCLUDING ALL); COMMIT")))
    me.attempt("COMMIT")
    me.attempt(f"SELECT * FROM pg_temp.{name}")


def temporary_trap_dropped(me):
    """ON COMMIT DROP is allowed; making it last is not."""
    me.enter()
    me.run("CREATE TEMP TABLE invoice (tenant_id text, n serial, marker text) ON COMMIT DROP")
    me.run("INSERT INTO invoice VALUES ('1', 1, 'x')")
    me.attempt(me.rng.choice((
        "ALTER SEQUENCE invoice_n_seq OWNED BY NONE", "ALTER TABLE invoice SET SCHEMA shop",
        "CREATE VIEW pg_temp.line AS SELECT * FROM invoice", "SAVEPOINT s; ROLLBACK TO s",
        "ALTER TABLE invoice RENAME TO note", "ALTER TABLE invoice INHERIT shop.invoice",
        "CREATE RULE r AS ON INSERT TO invoice DO ALSO NOTIFY x",
        "CREATE TEMP TABLE line () INHERITS (invoice)", "DROP TABLE invoice",
        "CREATE TEMP TABLE line (t text) PARTITION BY LIST (t) ON COMMIT DROP;"
        " CREATE TEMP TABLE line_1 PARTITION OF line DEFAULT")))
    me.attempt(me.rng.choice(("COMMIT", "COMMIT", "ROLLBACK", "PREPARE TRANSACTION 'x'")))


def temporary_function(me):
    """Functions and operators for whoever looks them up in pg_temp."""
    me.refused(me.rng.choice((
        "CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE DOMAIN pg_temp.bigint AS int",
        "CREATE FUNCTION shop.spy() RETURNS void LANGUAGE sql AS ''",
        "CREATE OR REPLACE FUNCTION shop.raise_amounts(bigint) RETURNS SETOF shop.invoice"
        " LANGUAGE sql AS 'SELECT * FROM invoice'",
        "CREATE OPERATOR pg_temp.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8eq)",
        "CREATE AGGREGATE pg_temp.min(text) (SFUNC = text_larger, STYPE = text)",
        "CREATE CAST (bigint AS text) WITH INOUT AS IMPLICIT")))


def held_cursor(me):
    """A cursor that outlives the transaction, and whoever left one."""
    me.enter()
    me.refused("DECLARE mine CURSOR WITH HOLD FOR SELECT * FROM note")
    me.attempt("ROLLBACK")
    for (name,) in me.run("SELECT name FROM pg_cursors WHERE name <> ''").rows:
        me.attempt(f'FETCH ALL FROM "{name}"')
    me.refused("FETCH ALL FROM mine")


def stolen_names(me):
    """Statements under the names that a victim's driver uses."""
    known = me.run("SELECT name, cardinality(parameter_types) FROM pg_prepared_statements").rows
    name = me.rng.choice([n for n, _ in known] or ["S_1"])
    if me.rng.random() < 0.3:
        me.attempt(f'DEALLOCATE "{name}"')
    me.refused(f'PREPARE "{name}" AS DELETE FROM invoice RETURNING *')
    me.refused(f"DO $$ BEGIN EXECUTE 'PREPARE \"{name}\" AS SELECT 1'; END $$")
    if me.rng.random() < 0.5:
        me.enter()
    for name, count in me.rng.sample(known, min(3, len(known))):
        values = ", ".join(["'1'"] * int(count))
        me.attempt_again(f'EXECUTE "{name}"' + (f" ({values})" if values else ""))


def cached_plan(me):
    """A generic parallel plan that was made in one's own context, executed later by
    a client without a token while the leader keeps out of it."""
    if me.line.pooled and me.rng.random() < 0.7:
        name = f"plan_{me.rng.getrandbits(40)}"
        me.run("BEGIN")
        me.run("SELECT set_config('leyser.token', $1, false)", me.token)
        me.run("SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_setup_cost = 0;"
               " SET LOCAL parallel_tuple_cost = 0")
        me.line.wire().prepare(name, "SELECT tenant_id, marker FROM shop.note")
        me.run(f"EXECUTE {name}")
        me.run("COMMIT")
    elif me.line.wire().in_transaction():
        me.run("ROLLBACK")
    me.run("BEGIN; SET LOCAL parallel_leader_participation = off")
    for (name,) in me.run("SELECT name FROM pg_prepared_statements WHERE name ~ 'plan_'"
                          " ORDER BY random() LIMIT 5").rows:
        me.attempt("SAVEPOINT s")
        me.refused(f"EXECUTE {name}")
        me.attempt("ROLLBACK TO s")


def listen(me):
    """Notifications of others."""
    me.refused("LISTEN gossip")
    me.attempt(f"NOTIFY gossip, '{me.marker}'")
    me.attempt("UNLISTEN *")


def discard(me):
    """What poolers and drivers use, used against them."""
    me.attempt(me.rng.choice(("DISCARD ALL", "DISCARD PLANS", "DISCARD TEMP", "RESET ALL",
                              "DEALLOCATE ALL", "CLOSE ALL", "DISCARD SEQUENCES", "RESET ROLE")))


# ---- ends ----

def fail_midway(me):
    """An error in mid-transaction, and on in spite of it."""
    me.enter()
    me.run("INSERT INTO note (note_id, marker, amount) VALUES ($1, $2, 1)",
           me.rng.getrandbits(50), me.marker)
    me.attempt("SELECT 1 / 0")
    me.attempt("SELECT * FROM note")
    me.attempt(me.rng.choice(("COMMIT", "ROLLBACK", "ROLLBACK; SELECT * FROM note")))


def vanish(me):
    """A disconnect in mid-transaction, at times in a failed or an idle one."""
    if me.rng.random() < 0.7:
        me.enter()
        me.attempt("UPDATE invoice SET marker = $1", me.marker)
        if me.rng.random() < 0.3:
            me.attempt("SELECT 1 / 0")
    else:
        me.attempt("SELECT set_config('leyser.token', $1, false)", me.token)
    me.line.reconnect()


def kill(me):
    """The same role may cancel and end its other sessions."""
    call = me.rng.choice(("pg_cancel_backend", "pg_cancel_backend", "pg_terminate_backend"))
    me.attempt(f"SELECT {call}(pid) FROM pg_stat_activity WHERE usename = current_user"
               " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1")


# ---- without a right to it ----

def no_token(me):
    """Reads and writes without a context, in whatever connection that is."""
    if me.line.wire().in_transaction():
        me.run("ROLLBACK")
    table = me.rng.choice(TABLES)
    me.refused(me.rng.choice((
        f"SELECT * FROM shop.{table}", f"SELECT count(*) FROM shop.{table}",
        f"COPY (SELECT * FROM shop.{table}) TO STDOUT",
        f"BEGIN; SELECT * FROM shop.{table}", f"SELECT query_to_xml('TABLE shop.{table}',"
        " true, true, '')", f"SELECT * FROM shop.{table} WHERE tenant_id::text = '1001'",
        f"DO $$ BEGIN PERFORM FROM shop.{table}; END $$",
        f"EXPLAIN ANALYZE SELECT * FROM shop.{table}", "SELECT leyser.tenant_id()",
        "SELECT leyser.tenant_id_int8()",
        "INSERT INTO shop.note (note_id, marker, amount) VALUES (1, 'x', 1)")))


def stale_token(me):
    """A token at session level counts in its own transaction, and nowhere else."""
    me.attempt("BEGIN")
    me.attempt("SELECT set_config('leyser.token', $1, false)", me.token)
    me.attempt("COMMIT")
    no_token(me)
    me.attempt("ROLLBACK")
    me.refused("DO $$ DECLARE t text; BEGIN PERFORM set_config('leyser.token', '" + me.token
               + "', false); t := leyser.tenant_id(); COMMIT; "
               + me.rng.choice(("PERFORM leyser.tenant_id()", "t := leyser.tenant_id()",
                                "PERFORM FROM shop.note", "DELETE FROM shop.note",
                                "COMMIT; t := leyser.tenant_id_int8()")) + "; END $$")


def forge(me):
    """Tokens that nobody issued."""
    head, body, signature = me.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["tenant"] = me.victim()
    encode = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    now = int(time.time())
    sign = me.shop.sign
    forged = me.rng.choice((
        f"{head}.{encode(claims)}.{signature}", f"{head}.{body}.{signature[:-4]}",
        f"{encode({'alg': 'none'})}.{encode(claims)}.", me.token[:-1] + "=", "x.y.z",
        f"{encode({'alg': 'none', 'kid': ISSUER_KEY})}.{encode(claims)}.{signature}",
        sign(me.victim(), key=Ed25519PrivateKey.generate()), sign(me.tenant, aud="other"),
        sign(me.tenant, iss="https://other.example"), sign(me.tenant, exp=now - 1000),
        sign(me.tenant, nbf=now + 1000), sign("no such tenant"), sign(me.tenant + " "),
        "leyser-context:" + base64.b64encode(os.urandom(120)).decode(), "(set)"))
    me.attempt("BEGIN")
    me.refused("SELECT set_config('leyser.token', $1, true)", forged)
    me.attempt("SELECT * FROM note")


def another_tenant(me):
    """Two good tokens, one transaction: also past savepoints and exceptions."""
    other = me.shop.tokens[me.rng.choice([t for t in EVIL if t != me.tenant])]
    me.enter()
    way = me.rng.randint(1, 5)
    if way == 1:
        me.refused("SELECT set_config('leyser.token', $1, true)", other)
    elif way == 2:
        me.run("SELECT leyser.leave()")
        me.refused("SELECT set_config('leyser.token', $1, true)", other)
    elif way == 3:
        me.attempt("ROLLBACK")
        me.run("BEGIN")
        me.run("SAVEPOINT s")
        me.enter(block=False)
        me.run("ROLLBACK TO s")
        me.refused("SELECT set_config('leyser.token', $1, true)", other)
    elif way == 4:
        me.refused("SELECT set_config('leyser.token', CASE WHEN marker <> '' THEN $1 END, true),"
                   " * FROM note", other)
    else:
        me.refused(f"DO $$ BEGIN BEGIN PERFORM set_config('leyser.token', '{other}', true);"
                   " EXCEPTION WHEN others THEN NULL; END; PERFORM leyser.leave();"
                   " PERFORM FROM note; END $$")
    me.attempt("COMMIT")


def foreign_rows(me):
    """Writes that name another tenant."""
    me.enter()
    victim = me.victim()
    me.refused(me.rng.choice((
        f"INSERT INTO invoice VALUES ({victim}, 1, '{me.marker}', 1)",
        f"INSERT INTO invoice VALUES ({victim}, 1, '{me.marker}', 1)"
        " ON CONFLICT (tenant_id, invoice_id) DO UPDATE SET amount = -1",
        f"WITH n AS (INSERT INTO note VALUES ('{victim}', 1, '{me.marker}', 1) RETURNING *)"
        " SELECT * FROM n",
        f"UPDATE note SET tenant_id = '{victim}'", "TRUNCATE note", "TRUNCATE note_1 CASCADE",
        "INSERT INTO tariff VALUES (NULL, 99, 'x', 1)", "COPY invoice FROM STDIN",
        f"MERGE INTO note n USING (VALUES ('{victim}')) v (t) ON n.tenant_id = v.t"
        f" WHEN NOT MATCHED THEN INSERT VALUES (v.t, 1, '{me.marker}', 1)",
        "ALTER TABLE note DISABLE ROW LEVEL SECURITY", "DROP POLICY leyser_tenant ON note",
        "SET LOCAL ROLE pool_owner", "SELECT leyser.enter('1001')", "DROP TABLE note_0",
        "SELECT leyser.issue_token('1001')", "TABLE leyser.signing_key", "TABLE leyser.event",
        "TABLE leyser.tenant_record", "SELECT pg_read_file('postgresql.conf')",
        "SET LOCAL row_security = off; SELECT * FROM note", "SET leyser.guards = off",
        "SET leyser.context_switch = 'allow'", "ALTER ROLE pool_app SET search_path = trap",
        "ALTER ROLE pool_app SET leyser.token = 'x'", "LOCK leyser.tenant_record")))


def foreign_reads(me):
    """Reads that name another tenant, and operators that tell what they see."""
    me.enter()
    found = me.attempt(me.rng.choice((
        f"SELECT * FROM invoice WHERE tenant_id = {me.victim()}",
        f"DELETE FROM note WHERE tenant_id = '{me.victim()}' RETURNING *",
        f"UPDATE invoice SET amount = -1 WHERE tenant_id <> {me.tenant} RETURNING *",
        f"SELECT * FROM note_{me.rng.randint(0, 2)} WHERE tenant_id <> '{me.tenant}'",
        f"SELECT * FROM note WHERE marker <> '{me.marker}' AND 1 / (note_id - note_id) = 1",
        f"SELECT * FROM note WHERE marker <> '{me.marker}' AND marker::bigint = 1",
        f"SELECT * FROM invoice WHERE marker <> '{me.marker}' FOR UPDATE",
        f"SELECT * FROM note TABLESAMPLE SYSTEM (100) WHERE tenant_id <> '{me.tenant}'",
        f"SELECT * FROM shop.invoice WHERE ctid = '(0,1)' AND tenant_id <> {me.tenant}",
        f"SELECT word FROM ts_stat('SELECT to_tsvector(marker) FROM note WHERE tenant_id <>"
        f" {me.tenant}::text')",
        "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 'shop'"
        " AND attname = 'marker' AND most_common_vals IS NOT NULL")))
    if found is not None and found.rows:
        raise Violation(f"hostile {me.tenant} got rows {found.rows[:3]}")


def look_around(me):
    """What the server shows of others: queries, statements, settings.  Hostile clients
    write their own markers into the text of their queries; that is their affair."""
    me.victims = HONEST
    me.attempt(me.rng.choice((
        "SELECT query FROM pg_stat_activity", "SELECT statement FROM pg_prepared_statements",
        "SELECT name, setting, reset_val FROM pg_settings", "SHOW ALL",
        "SELECT current_setting('leyser.token', true)", "SELECT * FROM leyser.context_status()",
        "SELECT statement FROM pg_cursors", "SELECT * FROM pg_stats WHERE schemaname = 'shop'",
        "SELECT * FROM pg_stat_get_activity(NULL)", "TABLE pg_db_role_setting",
        "SELECT proconfig FROM pg_proc WHERE proconfig IS NOT NULL")))


ATTACKS = (session_set, session_set, session_set, temporary_trap, temporary_trap,
           temporary_trap_dropped, temporary_function, held_cursor, stolen_names, stolen_names,
           cached_plan, listen, discard, fail_midway, vanish, no_token, no_token, stale_token,
           forge, another_tenant, foreign_rows, foreign_rows, foreign_reads, foreign_reads,
           look_around) * 3 + (kill,)
