"""Two tenants' transactions in turn on few connections, with careless and forged ones
between them.  Arguments: psycopg, sqlalchemy or django; the number of transactions; the
most connections that the server may see.

Runs in a folder with the README's files, and tells a line a test.
"""

import logging
import random
import sys
import threading
import time

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, ".")
from shop_token import token_for  # pylint: disable=wrong-import-position

TENANTS = ("acme", "globex")
CLIENTS = 8
SET = "SELECT set_config('leyser.token', %s, true)"
ROWS = "SELECT tenant_id, customer FROM invoice"


class TakenBack(Exception):
    """A transaction that is to be rolled back."""


def work(execute, customer, roll_back):
    """What a transaction does; gives its connection's process and the rows it saw."""
    pid = execute("SELECT pg_backend_pid()")[0][0]
    execute("INSERT INTO invoice (customer, amount) VALUES (%s, 1)", [customer])
    time.sleep(random.random() / 250)
    rows = execute(ROWS)
    if roll_back:
        raise TakenBack
    return pid, rows


class Psycopg:
    """A connection a thread, whose statements have no names."""

    def __init__(self):
        self.own = threading.local()

    def connection(self):
        """This thread's."""
        if not hasattr(self.own, "connection"):
            self.own.connection = psycopg.connect(
                "host=localhost dbname=shop user=shop_app", prepare_threshold=None)
        return self.own.connection

    def run(self, tenant, customer, roll_back):
        """A transaction of a tenant."""
        connection = self.connection()
        with connection.transaction():
            connection.execute(SET, [token_for(tenant)])
            return work(lambda *query: self.fetch(connection.execute(*query)), customer, roll_back)

    @staticmethod
    def fetch(cursor):
        """The rows, where there are any."""
        return cursor.fetchall() if cursor.description else None

    def bare(self, *query):
        """A query outside of all that; gives its SQLSTATE."""
        try:
            with self.connection().transaction():
                self.connection().execute(*query)
        except psycopg.Error as error:
            return error.sqlstate
        return "no error"


class SqlAlchemy:
    """The README's session over the engine's pool."""

    def __init__(self):
        # pylint: disable=import-error,import-outside-toplevel
        from shop_session import TenantSession, engine
        self.session, self.engine = TenantSession, engine

    def run(self, tenant, customer, roll_back):
        """A transaction of a tenant."""
        with self.session(tenant) as session:
            given = work(lambda *query: self.fetch(session.connection(), *query),
                         customer, roll_back)
            session.commit()
            return given

    @staticmethod
    def fetch(connection, query, values=()):
        """The rows, where there are any."""
        result = connection.exec_driver_sql(query, tuple(values))
        return result.fetchall() if result.returns_rows else None

    def bare(self, *query):
        """A query outside of all that; gives its SQLSTATE."""
        from sqlalchemy.exc import DBAPIError  # pylint: disable=import-outside-toplevel
        with self.engine.connect() as connection:
            try:
                self.fetch(connection, *query)
            except DBAPIError as error:
                return error.orig.diag.sqlstate
        return "no error"


class Django:
    """Requests to the README's application, which gets one view more."""

    def __init__(self):
        # pylint: disable=import-error,import-outside-toplevel
        import shop_web
        from django import db
        from django.test import Client
        from django.urls import path
        logging.disable()
        self.answers = threading.local()
        self.database = db
        self.invoices = shop_web.Invoice.objects
        self.client = lambda: Client(raise_request_exception=False)
        shop_web.urlpatterns.append(path("work", self.view))

    def view(self, request):
        """Does the work of a transaction."""
        from django.http import HttpResponse  # pylint: disable=import-outside-toplevel
        self.answers.latest = work(self.execute, request.GET["customer"], "fail" in request.GET)
        assert len(list(self.invoices.iterator())) >= len(self.answers.latest[1])
        return HttpResponse()

    def execute(self, query, values=None):
        """The rows, where there are any."""
        with self.database.connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else None

    def run(self, tenant, customer, roll_back):
        """A transaction of a tenant."""
        query = {"customer": customer, **({"fail": 1} if roll_back else {})}
        status = self.client().get("/work", query, HTTP_X_TENANT=tenant).status_code
        if roll_back and status == 500:
            raise TakenBack
        assert status == 200, status
        return self.answers.latest

    def bare(self, *query):
        """A query outside of all that; gives its SQLSTATE."""
        try:
            self.execute(*query)
        except self.database.Error as error:
            return error.__cause__.diag.sqlstate
        return "no error"


class Tally:
    """What was seen, by all threads together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.transactions = self.rows = self.strangers = 0
        self.written = dict.fromkeys(TENANTS, 0)
        self.served = {}
        self.wrong = []

    def judge(self, tenant, pid, rows):
        """Rows that are another tenant's by their column or by what their writer put in."""
        other = TENANTS[tenant == TENANTS[0]]
        with self.lock:
            self.served.setdefault(pid, set()).add(tenant)
            self.rows += len(rows)
            self.strangers += sum(owner != tenant or customer.startswith(f"py {other}")
                                  for owner, customer in rows)

    def count(self, tenant, committed):
        """A transaction is done."""
        with self.lock:
            self.transactions += 1
            self.written[tenant] += committed


def foreign_token():
    """The README's claims and key id, signed with another key."""
    claims = jwt.decode(token_for("acme"), options={"verify_signature": False})
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA",
                      headers={"kid": "shop-2026"})


def expired_token():
    """One of the right key, of an hour ago."""
    now = time.time
    time.time = lambda: now() - 3600
    try:
        return token_for("acme")
    finally:
        time.time = now


def nuisance(door, tally, number, expired):
    """What others do meanwhile."""
    expected, *query = (("LY001", ROWS), ("LY002", SET, [foreign_token()]),
                        ("LY003", SET, [expired]))[number % 3]
    state = door.bare(*query)
    if state != expected:
        tally.wrong.append(state)


def client(door, tally, numbers, expired):
    """A thread: does transactions until enough are done."""
    for number in numbers:
        tenant = random.choice(TENANTS)
        roll_back = number % 5 == 0
        try:
            tally.judge(tenant, *door.run(tenant, f"py {tenant} {number}", roll_back))
            tally.count(tenant, True)
        except TakenBack:
            tally.count(tenant, False)
        except Exception as error:  # pylint: disable=broad-except
            tally.wrong.append(f"{type(error).__name__}: {error}")
        if number % 3 == 0:
            nuisance(door, tally, number // 3, expired)


class Shared:
    """An iterator that threads may share."""

    def __init__(self, iterator):
        self.iterator, self.lock = iterator, threading.Lock()

    def __iter__(self):
        return self

    def __next__(self):
        with self.lock:
            return next(self.iterator)


def kept_by(door, tenant):
    """How many rows of these clients a tenant has."""
    _, rows = door.run(tenant, "the counter's", False)
    return sum(customer.startswith("py ") for _, customer in rows)


def tell(holds, name, detail=""):
    """A line a test."""
    print(f"ok {name}" if holds else f"not ok {name}: {detail}")


def main(door, count, most):
    """All transactions, and what came of them."""
    tally = Tally()
    before = {tenant: kept_by(door, tenant) for tenant in TENANTS}
    numbers = Shared(iter(range(count)))
    expired = expired_token()
    threads = [threading.Thread(target=client, args=(door, tally, numbers, expired))
               for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(tally.transactions == count, "every transaction was done", tally.transactions)
    tell(tally.rows > count, "rows were judged", tally.rows)
    tell(tally.strangers == 0, "no row of another tenant", tally.strangers)
    tell(not tally.wrong, "no query without a token or with a refused one was answered",
         tally.wrong[:5])
    tell(len(tally.served) <= most, "connections were few", tally.served)
    tell(all(len(tenants) == 2 for tenants in tally.served.values()),
         "each connection served both tenants", tally.served)
    for tenant in TENANTS:
        kept = kept_by(door, tenant) - before[tenant]
        tell(kept == tally.written[tenant], f"{tenant} has what it committed", kept)
    print("told 8")


if __name__ == "__main__":
    main({"psycopg": Psycopg, "sqlalchemy": SqlAlchemy, "django": Django}[sys.argv[1]](),
         int(sys.argv[2]), int(sys.argv[3]))
