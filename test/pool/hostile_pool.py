#!/usr/bin/python3
"""Twenty clients of ten tenants share four server connections; six are hostile.

    hostile_pool.py CONNINFO FOLDER --transactions N [--way WAY] [--seed S]

CONNINFO leads a superuser to a database with leyser and a keyring, which may be
spoilt.  FOLDER is for the pooler's files.  Way "pooler": pgbouncer in transaction
mode, statements without names.  Way "resetting-pooler": the same with DISCARD ALL
after each transaction, where no client meets an unclean connection.  Way "driver":
processes that each own a server connection and lend it to one client after another,
statements with names.

Prints what happened in figures, and fails where a row of one tenant reached
another, a refused statement was not refused, or a well-behaved client could not get
its work done.
"""

import argparse
import multiprocessing
import os
import random
import subprocess
import sys

from attacks import Hostile
from clients import Tally, Violation, WellBehaved
from shop import EVIL, HONEST, ROLE, DbError, Shop, Wire, wait_for_server

SERVER_CONNECTIONS = 4
CLIENTS = 20
PORT = 6432
WAYS = ("pooler", "resetting-pooler", "driver")

# Clients take over what the parent has; a key cannot be sent to them.
forking = multiprocessing.get_context("fork")


class Line:
    """A client's way to the server: one connection, opened anew where it is lost."""

    def __init__(self, conninfo, pooled):
        self.conninfo = conninfo
        self.pooled = pooled
        self.open = None

    def wire(self):
        """The connection."""
        if self.open is None:
            self.open = Wire(self.conninfo, named=not self.pooled)
        return self.open

    def reconnect(self):
        """Drops the connection, in mid-transaction or not; the next use opens one."""
        if self.open is not None:
            self.open.close()
        self.open = None


def make_clients(shop, rng):
    """Fourteen well-behaved clients of seven tenants, six hostile ones of three."""
    clients = []
    for number in range(CLIENTS):
        if number < 2 * len(HONEST):
            clients.append(WellBehaved(shop, HONEST[number % len(HONEST)], rng, number % 2 == 0))
        else:
            clients.append(Hostile(shop, EVIL[number % len(EVIL)], rng))
    return clients


def work(shop, line, clients, rng, remaining, answers):
    """A process: lets its clients take turns until enough transactions are done."""
    tally = Tally()
    while True:
        with remaining.get_lock():
            remaining.value -= 1
            if remaining.value < 0:
                break
        try:
            rng.choice(clients).turn(line, tally)
        except Violation as violation:
            tally.violations.append(str(violation))
            line.reconnect()
        except DbError as error:
            tally.refused["between", error.sqlstate] += 1
            line.reconnect()
        except Exception as error:  # a bug of the test must not pass as success
            tally.violations.append(f"{type(error).__name__}: {error}")
            break
    answers.put(tally)


def run_clients(shop, conninfo, pooled, transactions, seed):
    """Runs all clients to the end; gives their figures together."""
    remaining = forking.Value("q", transactions)
    answers = forking.Queue()
    count = CLIENTS if pooled else SERVER_CONNECTIONS
    processes = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        clients = make_clients(shop, rng)
        mine = [clients[number]] if pooled else clients
        processes.append(forking.Process(target=work, args=(
            shop, Line(conninfo, pooled), mine, rng, remaining, answers)))
    for process in processes:
        process.start()
    total = Tally()
    for _ in processes:
        total.add(answers.get())
    for process in processes:
        process.join()
    return total


def start_pooler(conninfo, folder, resetting):
    """pgbouncer as a transaction pooler on a socket in the folder."""
    server = dict(part.split("=", 1) for part in conninfo.split())
    files = {name: os.path.join(folder, "pgbouncer." + name)
             for name in ("ini", "users", "log", "pid")}
    with open(files["users"], "w", encoding="utf-8") as users:
        users.write(f'"{ROLE}" ""\n')
    with open(files["ini"], "w", encoding="utf-8") as settings:
        settings.write(f"""[databases]
{server["dbname"]} = host={server["host"]} port={server["port"]} dbname={server["dbname"]}
[pgbouncer]
listen_addr =
listen_port = {PORT}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {files["users"]}
logfile = {files["log"]}
pidfile = {files["pid"]}
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 100
server_reset_query = DISCARD ALL
server_reset_query_always = {int(resetting)}
server_login_retry = 0
""")
    pooler = subprocess.Popen(["/usr/sbin/pgbouncer", "-q", files["ini"]],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    through = f"host={folder} port={PORT} dbname={server['dbname']} user={ROLE}"
    wait_for_server(through)
    return pooler, through


def run_way(way, shop, arguments):
    """All transactions one way."""
    if way == "driver":
        direct = " ".join(p for p in arguments.conninfo.split() if not p.startswith("user="))
        return run_clients(shop, f"{direct} user={ROLE}", False, arguments.transactions,
                           f"{arguments.seed} {way}")
    pooler, through = start_pooler(arguments.conninfo, arguments.folder,
                                   way == "resetting-pooler")
    try:
        tally = run_clients(shop, through, True, arguments.transactions,
                            f"{arguments.seed} {way}")
        unclean = tally.refused["well-behaved", "LY009"]
        if way == "resetting-pooler" and unclean:
            tally.violations.append(f"{unclean} unclean connections in spite of DISCARD ALL")
        return tally
    finally:
        pooler.terminate()
        pooler.wait()


def report(way, tally):
    """Prints the figures of one way."""
    print(f"== {way}")
    for name in ("transactions", "attacks", "rows judged", "foreign rows",
                 "connections cleaned by well-behaved clients", "done after being disturbed"):
        print(f"{name}: {tally.counts[name]}")
    for side in ("hostile", "well-behaved", "between"):
        codes = sorted((n, code) for (who, code), n in tally.refused.items() if who == side)
        print(f"refused, {side}:", ", ".join(f"{code} {n}" for n, code in reversed(codes)) or "0")
    for violation in tally.violations[:20]:
        print("VIOLATION:", violation.strip())
    sys.stdout.flush()


def main():
    """Runs what was asked for; the exit status says whether tenants stayed apart."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("conninfo")
    parser.add_argument("folder")
    parser.add_argument("--transactions", type=int, default=1000, help="for each way")
    parser.add_argument("--way", choices=WAYS, action="append",
                        help="all of them where none is given")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()
    shop = Shop(arguments.conninfo)
    shop.build()
    total = Tally()
    for way in arguments.way or WAYS:
        tally = run_way(way, shop, arguments)
        report(way, tally)
        total.add(tally)
    wrong = shop.audit(total.ledger)
    written = sum(1 for entry in total.ledger if entry[2] == "committed")
    print(f"== the last look: {written} transactions wrote, {len(wrong)} differences")
    for difference in wrong[:20]:
        print("VIOLATION:", difference)
    return 1 if wrong or total.violations or total.counts["foreign rows"] else 0


if __name__ == "__main__":
    sys.exit(main())
