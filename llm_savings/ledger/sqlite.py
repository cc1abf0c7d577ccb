"""The ledger in one SQLite file, or in memory."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from llm_savings.errors import ConfigError, LedgerError
from llm_savings.ledger import rows
from llm_savings.ledger.counters import BusyError
from llm_savings.ledger.records import Entry
from llm_savings.ledger.schema import VERSION, pending_migrations
from llm_savings.storage.sqlite import connect, is_busy, patiently, prepare, transaction, uri, wipe_log

_EVERY_ID = (0, 2**62)
_BUSY = 0.25  # seconds that other writers are given


class SqliteStore:
    """One SQLite file in WAL mode, shared by threads and processes; or memory.

    Commits go to the write-ahead log without waiting for the disk: they survive kill -9, not a power cut.
    """

    mark = "?"

    def __init__(self, path: str) -> None:
        self._memory = path == ":memory:"
        # The program may change its folder before the file is opened, or between a write and a report.
        self.path = path if self._memory else str(Path(path).absolute())
        if not self._memory and not Path(path).parent.is_dir():
            raise ConfigError(f"ledger path {path!r}: the folder {str(Path(path).parent)!r} does not exist; create it")
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def write(self, entries: Sequence[Entry], *, patience: float | None = None) -> None:
        """See `Store.write`."""
        with self.transaction(patience=patience) as db:
            rows.write(db, entries, self.mark)

    @contextmanager
    def transaction(self, *, patience: float | None = None) -> Generator[sqlite3.Connection]:
        """See `Store.transaction`."""
        patience = _BUSY if patience is None else patience
        # `_using` written out: this is in every call's way
        if (not patience and self._connection is None) or not self._lock.acquire(blocking=patience > 0):
            raise BusyError(f"ledger {self.path}: others hold it")
        try:
            with transaction(db := self._here(patience), patience):
                yield db
        except (sqlite3.Error, OSError) as error:
            if not patience and is_busy(error):
                raise BusyError(f"ledger {self.path}: {error}") from error
            raise self._failure(error) from error
        finally:
            self._lock.release()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """See `Store.rows`. A file is read through a connection of its own, so writers are not held up."""
        if self._memory:
            with self._using() as db:  # all at once: a reader that pauses must not hold the lock
                found = list(_sqlite_rows(db, sql, parameters))
            yield from found
            return
        mode = "ro"
        try:
            with self._using():
                pass  # the file and its tables exist from here on
        except LedgerError as error:
            if not _may_only_read(error.__cause__):
                raise
            if not _size(f"{self.path}-wal"):
                # Nobody is writing. Without this a reader leaves files beside it that its owner could not write to.
                mode = "ro&immutable=1"
        with self._translated():
            reader = sqlite3.connect(uri(self.path, mode), uri=True, timeout=5, check_same_thread=False)
        with closing(reader), self._translated():
            pending_migrations(reader.execute("PRAGMA user_version").fetchone()[0], self.path)
            yield from _sqlite_rows(reader, sql, parameters)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Store.fetch`."""
        with self._using() as db:
            return patiently(db, sql, _BUSY, parameters).fetchall()

    def parts(self) -> list[tuple[int, int]]:
        """See `Store.parts`."""
        if self._memory:
            return [_EVERY_ID]
        (row,) = self.rows("SELECT MAX(id) AS last FROM calls")
        size = max((row["last"] or 0) // (os.cpu_count() or 1) + 1, 100_000)
        return [(start, start + size) for start in range(0, (row["last"] or 0) + 1, size)]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """See `Store.execute`."""
        with self.transaction() as db:
            return db.execute(sql, parameters).rowcount

    def forget(self) -> None:
        """See `Store.forget`: the write-ahead log still holds the old pages until it is truncated."""
        with self._using() as db:
            wipe_log(db, _BUSY)

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def before_fork(self) -> None:
        """See `forks.Forkable`. An open file must not cross a fork; memory may, its child starts an empty one."""
        self._lock.acquire()
        if not self._memory:
            with suppress(sqlite3.Error):
                self.close()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        if child:
            self._lock = threading.RLock()
        else:
            self._lock.release()

    def _here(self, patience: float) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection = self._open(patience)
            self._pid = os.getpid()
        return self._connection

    def _failure(self, error: Exception) -> LedgerError:
        return error if isinstance(error, LedgerError) else LedgerError(f"ledger {self.path}: {error}")

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._here(_BUSY)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _open(self, patience: float) -> sqlite3.Connection:
        db = connect(self.path)
        try:
            prepare(db, patience)
            self._migrate(db, patience)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection, patience: float) -> None:
        if patiently(db, "PRAGMA user_version", patience).fetchone()[0] == VERSION:
            return
        with transaction(db, patience):  # another process may be migrating: look again inside the lock
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for statement in pending_migrations(version, self.path):
                db.execute(statement.replace("{id}", "INTEGER PRIMARY KEY"))
            db.execute(f"PRAGMA user_version={VERSION}")


def _may_only_read(cause: BaseException | None) -> bool:
    """Whether a file could not be opened because its mode, its folder or its disk allow no writing."""
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
    return isinstance(cause, PermissionError) or getattr(cause, "errno", None) == errno.EROFS


def _size(path: str) -> int:
    """A file's size in bytes; 0 where there is none, or none to be seen."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _sqlite_rows(db: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    with closing(db.cursor()) as cursor:
        cursor.row_factory = sqlite3.Row
        cursor.execute(sql, parameters)
        for row in cursor:
            yield dict(row)
