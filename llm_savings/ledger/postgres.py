"""The ledger in a PostgreSQL database, shared by machines. Importing this needs psycopg."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import psycopg.rows

from llm_savings.errors import LedgerError
from llm_savings.ledger import rows
from llm_savings.ledger.records import Entry
from llm_savings.ledger.schema import VERSION, pending_migrations
from llm_savings.storage.patient import connect, is_over
from llm_savings.storage.urls import masked, told

_EVERY_ID = (0, 2**62)

_READER_SECONDS = 600.0  # a report may take its time; a user's call may not


class PostgresStore:
    """A PostgreSQL database, shared by machines. Needs `pip install "llm-savings[postgres]"`."""

    mark = "%s"

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        self._url, self._timeout = url, timeout
        self._lock = threading.RLock()
        self._connection: Any = None
        self._pid = 0

    def write(self, entries: Sequence[Entry], *, patience: float | None = None) -> None:
        """See `Store.write`."""
        if rows.is_one_statement(entries):  # a transaction of its own
            with self._using() as db:
                rows.write(db, entries, self.mark)
            return
        with self.transaction(patience=patience) as db:
            rows.write(db, entries, self.mark)

    @contextmanager
    def transaction(self, *, patience: float | None = None) -> Generator[Any]:
        """See `Store.transaction`. A statement's deadline is its patience for locks as well."""
        with self._using() as db, db.transaction():
            yield db

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """See `Store.rows`. Read through a connection and a server-side cursor of its own."""
        with self._using():
            pass  # the tables exist from here on
        with self._translated(), closing(connect(self._url, _READER_SECONDS)) as db:
            db.autocommit = False
            with db.cursor(name="llm_savings", row_factory=psycopg.rows.dict_row) as cursor:
                cursor.execute(sql, parameters)
                yield from cursor

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Store.fetch`."""
        with self._using() as db:
            return db.execute(sql, parameters).fetchall()

    def parts(self) -> list[tuple[int, int]]:
        """See `Store.parts`: PostgreSQL divides the work by itself."""
        return [_EVERY_ID]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """See `Store.execute`."""
        with self._using() as db:
            return db.execute(sql, parameters).rowcount

    def forget(self) -> None:
        """See `Store.forget`: dead rows and the server's own log are its administrator's to vacuum."""

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def before_fork(self) -> None:
        """See `forks.Forkable`. psycopg leaves a parent's connection alone; the child makes its own."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        if child:
            self._lock = threading.RLock()
        else:
            self._lock.release()

    @contextmanager
    def _using(self) -> Generator[Any]:
        with self._lock, self._translated():
            if self._connection is None or self._pid != os.getpid() or is_over(self._connection):
                db = connect(self._url, self._timeout)
                try:
                    self._migrate(db)
                except BaseException:
                    db.close()
                    raise
                self._connection, self._pid = db, os.getpid()
            yield self._connection

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"ledger {masked(self._url)}: {told(error, self._url)}") from None

    def _migrate(self, db: Any) -> None:
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(7311805551)")  # one machine at a time
            db.execute("CREATE TABLE IF NOT EXISTS llm_savings_version (version INTEGER NOT NULL)")
            found = db.execute("SELECT version FROM llm_savings_version").fetchone()
            version = found[0] if found else 0
            if version == VERSION:
                return
            for statement in pending_migrations(version, masked(self._url)):
                db.execute(statement.replace("{id}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"))
            db.execute("DELETE FROM llm_savings_version")
            db.execute("INSERT INTO llm_savings_version VALUES (%s)", (VERSION,))
