"""Well-behaved clients: ordinary work of one tenant, each result checked.

A client keeps a ledger of what it wrote.  Every transaction that writes also
writes a receipt, so that the last look can tell what became of a transaction
whose COMMIT was never answered.
"""

import time
import uuid
from collections import Counter

from shop import DbError

# The remedy of LY009 behind a transaction pooler: DISCARD ALL as a statement of its
# own may reach another server connection, one message cannot.
CLEAN = ("ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *;"
         " DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES")
ATTEMPTS = 200
LOST = ("08001", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "25P03", "25P04")
# What others can do to a well-behaved client without touching its rows: kill,
# cancel, delay, clear the connection, make it read-only; its own tenant's other
# clients also write at the same time (23503, 23505).
DISTURBANCES = LOST + ("LY009", "57014", "55P03", "40P01", "40001", "25006", "26000", "42P05",
                       "0A000", "25P02", "34000",
                       "23503", "23505")


class Violation(Exception):
    """A client saw or did what belongs to another tenant."""


class Tally:
    """What happened, in figures that add up over processes."""

    def __init__(self):
        self.counts = Counter()
        self.refused = Counter()
        self.violations = []
        self.ledger = []

    def add(self, other):
        """Takes over another tally's figures."""
        self.counts += other.counts
        self.refused += other.refused
        self.violations += other.violations
        self.ledger += other.ledger


class WellBehaved:
    """One client of one tenant."""

    kind = "well-behaved"

    def __init__(self, shop, tenant, rng, own_signature):
        self.shop = shop
        self.tenant = tenant
        self.marker = shop.markers[tenant]
        self.rng = rng
        self.own_signature = own_signature
        self.signed = (0, None)

    def token(self):
        """A token of the server, or one that the application signed itself."""
        if not self.own_signature:
            return self.shop.tokens[self.tenant]
        if self.signed[0] < time.monotonic() - 30:
            self.signed = (time.monotonic(), self.shop.sign(self.tenant))
        return self.signed[1]

    def turn(self, line, tally):
        """One transaction, repeated until it is done.  line gives connections."""
        for attempt in range(ATTEMPTS):
            work = None
            try:
                work = Work(self, line.wire(), tally)
                self.rng.choice(WAYS)(work)
                work.close("committed")
                self.done(tally, attempt)
                return
            except DbError as error:
                tally.refused["well-behaved", error.sqlstate] += 1
                if work:
                    work.close("unknown" if work.committing and error.sqlstate in LOST
                               else "rolled back")
                if work and work.expected_error == error.sqlstate:
                    self.done(tally, attempt)
                    roll_back(line)
                    return
                if error.sqlstate not in DISTURBANCES:
                    raise Violation(f"{self.tenant}: unexpected error {error}") from error
                clean_up(line, error, tally)
                time.sleep(min(0.05, 0.001 * attempt))
        raise Violation(f"{self.tenant}: could not get its work done")

    @staticmethod
    def done(tally, disturbances):
        """Counts a transaction that went as far as it was meant to."""
        tally.counts["transactions"] += 1
        if disturbances:
            tally.counts["done after being disturbed"] += 1


def roll_back(line):
    """After a mistake of one's own; somebody may have ended the connection meanwhile."""
    try:
        line.wire().script("ROLLBACK")
    except DbError:
        line.reconnect()


def clean_up(line, error, tally):
    """Makes the connection fit for the next attempt."""
    if error.sqlstate in LOST or line.wire().is_lost():
        line.reconnect()
        return
    try:
        if line.pooled:
            line.wire().script(CLEAN)
        else:
            line.wire().script("ROLLBACK")
            line.wire().script("DISCARD ALL")
            line.wire().forget_names()
        tally.counts["connections cleaned by well-behaved clients"] += 1
    except DbError:
        line.reconnect()


class Work:
    """One transaction: checks what it reads, notes what it writes."""

    def __init__(self, client, wire, tally):
        self.client = client
        self.wire = wire
        self.tally = tally
        self.rng = client.rng
        self.receipt = None
        self.effects = []
        self.committing = False
        self.expected_error = None

    def begin(self):
        """BEGIN, the token as a parameter, and for a start who we are."""
        self.wire.query("BEGIN ISOLATION LEVEL " + self.rng.choice(
            ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ")) + " READ WRITE")
        self.wire.query("SELECT set_config('leyser.token', $1, true)", self.client.token())
        if self.wire.query("SELECT leyser.tenant_id()").rows != [(self.client.tenant,)]:
            raise Violation(f"{self.client.tenant}: the context is another's")

    def commit(self):
        """COMMIT, unless the client changes its mind."""
        if self.rng.random() < 0.1:
            self.wire.query("ROLLBACK")
            self.close("rolled back")
            return
        self.committing = True
        self.wire.query("COMMIT")

    def close(self, outcome):
        """Enters the transaction in the ledger, once."""
        if self.receipt:
            self.tally.ledger.append((self.client.tenant, self.receipt, outcome, self.effects))
            self.receipt = None

    def read(self, sql, *params):
        """A statement whose rows must all be the tenant's, and carry its marker."""
        return self.check(self.wire.query(sql, *params))

    def check(self, result):
        """Judges a result: columns tenant_id and marker are looked at by name."""
        client = self.client
        self.tally.counts["rows judged"] += len(result.rows)
        strangers = client.shop.foreign(repr(result.rows), client.tenant)
        for at, name in enumerate(result.columns):
            wanted = {"tenant_id": client.tenant, "marker": client.marker}.get(name)
            if wanted:
                strangers += [row[at] for row in result.rows if row[at] not in (wanted, None)]
        if strangers:
            self.tally.counts["foreign rows"] += len(strangers)
            raise Violation(f"{client.tenant}: foreign rows {strangers[:5]}")
        return result

    def write(self, table, sign, sql, *params):
        """A statement with RETURNING tenant_id, marker, amount.  sign: 1 adds its rows
        to the table, -1 takes them away, a tuple (0, n) adds n to each one's amount."""
        if not self.receipt:
            self.receipt = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
            self.read("INSERT INTO receipt (receipt_id, marker) VALUES ($1, $2)"
                      " RETURNING tenant_id, marker", self.receipt, self.client.marker)
        result = self.read(sql, *params)
        count = len(result.rows)
        if isinstance(sign, tuple):
            self.effects.append((table, 0, sign[1] * count))
        else:
            amount = sum(int(a) for a in result.column("amount"))
            self.effects.append((table, sign * count, sign * amount))
        return result

    def any_id(self):
        """An invoice's number: every tenant uses the same ones."""
        return self.rng.randint(1, 60)

    def any_amount(self):
        """An amount of money."""
        return self.rng.randint(1, 1000)


# ---- what a transaction does ----

def browse(work):
    """Lists, joins, a view, an aggregate over all there is."""
    work.begin()
    work.read("SELECT tenant_id, marker, invoice_id FROM invoice ORDER BY invoice_id LIMIT 20")
    work.read("SELECT i.tenant_id, i.marker, l.marker AS other, l.tenant_id AS of_line"
              " FROM invoice i LEFT JOIN line l USING (invoice_id) LIMIT 50")
    work.read("SELECT * FROM invoice_sum")
    found = work.read("SELECT min(tenant_id) AS tenant_id, max(tenant_id), min(marker) AS marker,"
                      " max(marker), count(DISTINCT marker) FROM note")
    if found.rows and found.rows[0][4] not in ("0", "1"):
        raise Violation(f"{work.client.tenant}: more than one marker")
    work.commit()


def global_rows(work):
    """Rows of all tenants beside one's own: readable, not writable."""
    work.begin()
    work.read("SELECT marker AS any_marker, amount FROM tariff")
    work.write("tariff", (0, 1), "UPDATE tariff SET amount = amount + 1"
               " RETURNING tenant_id, marker, amount")
    work.write("tariff", 1, "INSERT INTO tariff (tariff_id, marker, amount) VALUES ($1, $2, 7)"
               " ON CONFLICT DO NOTHING RETURNING tenant_id, marker, amount",
               work.any_id(), work.client.marker)
    work.commit()


def sell(work):
    """A new invoice with lines, read back in the same transaction."""
    work.begin()
    number, marker = work.any_id(), work.client.marker
    work.write("invoice", 1, "INSERT INTO invoice (invoice_id, marker, amount) VALUES ($1, $2, $3)"
               " ON CONFLICT DO NOTHING RETURNING tenant_id, marker, amount",
               number, marker, work.any_amount())
    added = work.write("line", 1, "INSERT INTO line (line_id, invoice_id, marker, amount)"
                       " SELECT $1::bigint + n, invoice_id, $2, n FROM invoice,"
                       " generate_series(1, 3) n WHERE invoice_id = $3"
                       " RETURNING tenant_id, marker, amount, line_id",
                       work.rng.getrandbits(50), marker, number)
    back = work.read("SELECT tenant_id, marker FROM line WHERE line_id = ANY ($1::bigint[])",
                     "{" + ",".join(added.column("line_id")) + "}")
    if len(back.rows) != len(added.rows):
        raise Violation(f"{work.client.tenant}: its own rows are not there")
    work.commit()


def correct(work):
    """Updates and deletes that say nothing of the tenant."""
    work.begin()
    work.write("invoice", (0, 5), "UPDATE invoice SET amount = amount + 5 WHERE invoice_id = $1"
               " RETURNING tenant_id, marker, amount", work.any_id())
    work.write("line", -1, "DELETE FROM line WHERE invoice_id = $1"
               " RETURNING tenant_id, marker, amount", work.any_id())
    work.write("note", -1, "DELETE FROM note WHERE note_id IN (SELECT note_id FROM note"
               " ORDER BY note_id DESC LIMIT 2) RETURNING tenant_id, marker, amount")
    work.write("note", 1, "WITH new AS (INSERT INTO note (note_id, marker, amount)"
               " SELECT $1::bigint + n, $2, n FROM generate_series(1, 2) n RETURNING *)"
               " SELECT tenant_id, marker, amount FROM new",
               work.rng.getrandbits(50), work.client.marker)
    work.commit()


def merge(work):
    """MERGE has no RETURNING before 17: what it wrote is read back."""
    work.begin()
    number = work.any_id()
    work.wire.query("MERGE INTO invoice i USING (VALUES ($1::int)) v (id) ON i.invoice_id = v.id"
                    " WHEN MATCHED THEN DO NOTHING"
                    " WHEN NOT MATCHED THEN INSERT (invoice_id, marker, amount)"
                    " VALUES (v.id, $2, $3)", number, work.client.marker, work.any_amount())
    work.write("invoice", 1, "SELECT tenant_id, marker, amount FROM invoice WHERE invoice_id = $1"
               " AND xmin = pg_current_xact_id()::xid", number)
    work.write("invoice", -1, "DELETE FROM invoice i WHERE invoice_id = $1 AND NOT EXISTS"
               " (SELECT FROM line l WHERE l.invoice_id = i.invoice_id)"
               " RETURNING tenant_id, marker, amount", work.any_id())
    work.commit()


def savepoints(work):
    """Part of the work is taken back; the context stays."""
    work.begin()
    insert = ("INSERT INTO note (note_id, marker, amount) VALUES ($1, $2, $3)"
              " RETURNING tenant_id, marker, amount")
    marker = work.client.marker
    work.write("note", 1, insert, work.rng.getrandbits(50), marker, work.any_amount())
    work.wire.query("SAVEPOINT one")
    work.read(insert, work.rng.getrandbits(50), marker, work.any_amount())
    work.wire.query("ROLLBACK TO one")
    work.wire.query("SAVEPOINT two")
    work.write("note", 1, insert, work.rng.getrandbits(50), marker, work.any_amount())
    work.wire.query("RELEASE two")
    work.read("SELECT tenant_id, marker FROM note ORDER BY note_id DESC LIMIT 3")
    work.commit()


def functions(work):
    """A function with a subtransaction inside writes as its caller."""
    work.begin()
    work.write("invoice", (0, 3), "SELECT tenant_id, marker, amount FROM raise_amounts(3)")
    work.commit()


def scratch_table(work):
    """A temporary table for the transaction, joined with the tenant's rows."""
    work.begin()
    work.wire.query("CREATE TEMP TABLE picked (invoice_id int) ON COMMIT DROP")
    work.wire.script("INSERT INTO picked SELECT generate_series(1, 60, 3)")
    # its oid is new each time: not for a named statement
    work.check(work.wire.script("SELECT i.tenant_id, i.marker FROM invoice i"
                                " JOIN picked USING (invoice_id)"))
    work.commit()


def cursor(work):
    """Rows fetched bit by bit."""
    work.begin()
    work.wire.script("DECLARE mine CURSOR FOR SELECT tenant_id, marker FROM note ORDER BY note_id")
    for _ in range(3):
        work.check(work.wire.script("FETCH 7 FROM mine"))
    work.commit()


def export(work):
    """COPY TO is bound by row security, too."""
    work.begin()
    work.check(work.wire.script("COPY invoice TO STDOUT"))
    work.check(work.wire.script("COPY (SELECT * FROM note WHERE note_id < 50) TO STDOUT"))
    work.commit()


def one_trip(work):
    """Token and query in one round trip, without BEGIN."""
    _, found = work.wire.pipeline(
        ("SELECT set_config('leyser.token', $1, true)", work.client.token()),
        ("SELECT tenant_id, marker FROM note WHERE note_id <= $1 LIMIT 20", 30))
    work.check(found)


def mistake(work):
    """An error of the client's own in mid-transaction: nothing of it stays."""
    work.begin()
    work.write("note", 1, "INSERT INTO note (note_id, marker, amount) VALUES ($1, $2, 1)"
               " RETURNING tenant_id, marker, amount", work.rng.getrandbits(50),
               work.client.marker)
    work.expected_error = "22012"
    work.wire.query("SELECT 1 / 0")


WAYS = (browse, browse, sell, sell, sell, correct, correct, correct, merge, savepoints,
        functions, global_rows, scratch_table, cursor, export, one_trip, one_trip, mistake)
