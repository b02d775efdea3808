"""A thin driver over libpq: what a statement returned, or its SQLSTATE.

Drivers with a protocol of their own hide what matters here: which statements
have names on the server, what travels in one message, and what an error says.
"""

import psycopg.pq as pq
from psycopg import OperationalError

ROWS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE)
DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY, pq.ExecStatus.PIPELINE_SYNC)


class DbError(Exception):
    """A statement failed; SQLSTATE 08006 stands for a connection that is gone."""

    def __init__(self, sqlstate, text):
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate
        self.text = text


class Result:
    """Column names, and rows as tuples of text or None."""

    def __init__(self, columns, rows):
        self.columns = columns
        self.rows = rows

    def column(self, name):
        """The values of one column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


class Wire:
    """One connection.  With named=True each statement gets a name on the server."""

    def __init__(self, conninfo, named=False):
        self.conninfo = conninfo
        self.named = named
        self.names = {}
        self.gossip = []
        self.pgconn = pq.PGconn.connect(conninfo.encode())
        if self.pgconn.status != pq.ConnStatus.OK:
            message = self.pgconn.error_message.decode(errors="replace")
            self.pgconn.finish()
            raise DbError("08001", message)
        self.pgconn.notice_handler = self._hear

    def close(self):
        """Ends the connection at once, whatever it is in the middle of."""
        self.pgconn.finish()

    def is_lost(self):
        """True where the connection can do no more."""
        return self.pgconn.status != pq.ConnStatus.OK

    def in_transaction(self):
        """True inside a transaction block, a failed one too."""
        return self.pgconn.transaction_status in (
            pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    def script(self, sql):
        """Sends text as one simple message, of one statement or several."""
        return self._result(self._run(self.pgconn.exec_, sql.encode()))

    def query(self, sql, *params):
        """Sends one statement with parameters, under a name where names are used."""
        values = [None if p is None else str(p).encode() for p in params]
        if not self.named:
            return self._result(self._run(self.pgconn.exec_params, sql.encode(), values))
        name = self.names.get(sql)
        if name is None:
            name = f"S_{len(self.names) + 1}".encode()
            self._result(self._run(self.pgconn.prepare, name, sql.encode()))
            self.names[sql] = name
        return self._result(self._run(self.pgconn.exec_prepared, name, values))

    def prepare(self, name, sql):
        """Prepares by the protocol, under a name of the caller's choice."""
        self._result(self._run(self.pgconn.prepare, name.encode(), sql.encode()))

    def forget_names(self):
        """For after DEALLOCATE ALL and DISCARD ALL."""
        self.names = {}

    def pipeline(self, *steps):
        """Sends statements with parameters ahead of one Sync, so as one
        transaction; gives all results, or raises the first error."""
        results, error = [], None
        self._run(self.pgconn.enter_pipeline_mode)
        try:
            for sql, *params in steps:
                self._run(self.pgconn.send_query_params, sql.encode(),
                          [str(p).encode() for p in params])
            self._run(self.pgconn.pipeline_sync)
            while True:
                got = self.pgconn.get_result()
                if got is None:
                    if self.is_lost():
                        raise DbError("08006", "connection is gone")
                    continue
                if got.status == pq.ExecStatus.PIPELINE_SYNC:
                    break
                try:
                    if got.status != pq.ExecStatus.PIPELINE_ABORTED:
                        results.append(self._result(got))
                except DbError as failure:
                    error = error or failure
        finally:
            if not self.is_lost():
                self.pgconn.exit_pipeline_mode()
        if error:
            raise error
        return results

    def overheard(self):
        """What came besides results: notices, notifications."""
        try:
            self.pgconn.consume_input()
        except OperationalError:
            pass  # somebody ended it, which shows at its next use
        while True:
            note = self.pgconn.notifies()
            if note is None:
                break
            self.gossip.append(f"{note.relname!r} {note.extra!r}")
        heard, self.gossip = self.gossip, []
        return heard

    def _run(self, call, *arguments):
        try:
            return call(*arguments)
        except (MemoryError, OperationalError) as error:
            # libpq has no result where somebody ended the connection at the wrong moment;
            # how psycopg tells that depends on its version
            self.pgconn.finish()
            raise DbError("08006", "connection is gone") from error

    def _hear(self, notice):
        self.gossip.append(notice.error_message.decode(errors="replace"))

    def _result(self, got):
        if got.status in ROWS:
            columns = [got.fname(c).decode() for c in range(got.nfields)]
            rows = [tuple(self._text(got.get_value(r, c)) for c in range(got.nfields))
                    for r in range(got.ntuples)]
            return Result(columns, rows)
        if got.status in DONE:
            return Result([], [])
        if got.status == pq.ExecStatus.COPY_OUT:
            return self._copied_out()
        if got.status == pq.ExecStatus.COPY_IN:
            self.pgconn.put_copy_end(b"not wanted")
            return self._result(self.pgconn.get_result())
        sqlstate = got.error_field(pq.DiagnosticField.SQLSTATE)
        raise DbError(sqlstate.decode() if sqlstate else "08006",
                      got.error_message.decode(errors="replace"))

    def _copied_out(self):
        rows = []
        while True:
            size, data = self.pgconn.get_copy_data(0)
            if size <= 0:
                break
            rows.append((bytes(data).decode(errors="replace"),))
        self._result(self.pgconn.get_result())
        while self.pgconn.get_result():
            pass
        return Result(["line"], rows)

    @staticmethod
    def _text(value):
        return None if value is None else value.decode(errors="replace")
