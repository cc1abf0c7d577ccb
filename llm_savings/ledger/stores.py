"""Where rows are kept: one SQLite file (or memory), or PostgreSQL. Both speak nearly the same SQL.

A store is strict: what it cannot write, it raises as `LedgerError`. Patience (keeping entries and trying again) is
the outbox's business.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

from llm_savings.errors import ConfigError, LedgerError
from llm_savings.ledger.records import COLUMNS, SETTLED_COLUMNS, Entry
from llm_savings.ledger.schema import MIGRATIONS, VERSION

_EVERY_ID = (0, 2**62)
_READER_SECONDS = 600.0  # a report may take its time; a user's call may not
_SERVER_SECONDS = 0.5  # longer than a statement may take: a server's own word is better than none


# Rows in one statement. Between statements Python's threads change places, at the cost of the one that makes calls;
# SQLite takes 32,766 parameters, PostgreSQL twice as many.
_MANY = 500


@lru_cache(maxsize=8)
def _upsert(rows: int, mark: str) -> str:
    """Writes calls: a new row, or the end of a row that has none. Whatever comes later changes nothing."""
    values = f"({', '.join([mark] * len(COLUMNS))})"
    changes = ", ".join(f"{c} = excluded.{c}" for c in ("mode", *SETTLED_COLUMNS))
    return (
        f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES {', '.join([values] * rows)} "  # noqa: S608
        f"ON CONFLICT (call_id) DO UPDATE SET {changes} WHERE calls.status = 'sent' AND excluded.status <> 'sent'"
    )


def _write(db: Any, entries: Sequence[Entry], mark: str) -> None:
    for start in range(0, len(entries), _MANY):
        some = entries[start : start + _MANY]
        db.execute(_upsert(len(some), mark), list(chain.from_iterable(some)))


class Store(Protocol):
    """What the ledger needs of a database."""

    mark: str
    """The placeholder of a parameter in this database's SQL."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write all entries, of different calls, or none. Writing an entry twice changes nothing."""
        ...

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """The rows of a query, one at a time, keyed by column name."""
        ...

    def parts(self) -> list[tuple[int, int]]:
        """Ranges of row ids (from, below) that together hold every row and may be read side by side."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        ...

    def forget(self) -> None:
        """Make sure that erased text is gone from the store's own logs as well, as far as it can."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        ...


class SqliteStore:
    """One SQLite file in WAL mode, shared by threads and processes; or memory.

    Commits go to the write-ahead log without waiting for the disk: they survive kill -9, not a power cut.
    """

    mark = "?"

    def __init__(self, path: str, *, busy_timeout: float = 0.25) -> None:
        self._memory = path == ":memory:"
        # The program may change its folder before the file is opened, or between a write and a report.
        self.path, self._busy = path if self._memory else str(Path(path).absolute()), busy_timeout
        if not self._memory and not Path(path).parent.is_dir():
            raise ConfigError(f"ledger path {path!r}: the folder {str(Path(path).parent)!r} does not exist; create it")
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def write(self, entries: Sequence[Entry]) -> None:
        """See `Store.write`."""
        with self._using() as db:
            if len(entries) == 1:  # one statement is a transaction of its own
                _write(db, entries, self.mark)
                return
            with _transaction(db):
                _write(db, entries, self.mark)

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
            reader = sqlite3.connect(self._uri(mode), uri=True, timeout=5, check_same_thread=False)
        with closing(reader), self._translated():
            pending_migrations(reader.execute("PRAGMA user_version").fetchone()[0], self.path)
            yield from _sqlite_rows(reader, sql, parameters)

    def parts(self) -> list[tuple[int, int]]:
        """See `Store.parts`."""
        if self._memory:
            return [_EVERY_ID]
        (row,) = self.rows("SELECT MAX(id) AS last FROM calls")
        size = max((row["last"] or 0) // (os.cpu_count() or 1) + 1, 100_000)
        return [(start, start + size) for start in range(0, (row["last"] or 0) + 1, size)]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """See `Store.execute`."""
        with self._using() as db:
            return db.execute(sql, parameters).rowcount

    def forget(self) -> None:
        """See `Store.forget`: the write-ahead log still holds the old pages until it is truncated."""
        with self._using() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

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

    def _here(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection = self._open()
            self._pid = os.getpid()
        return self._connection

    def _failure(self, error: Exception) -> LedgerError:
        return error if isinstance(error, LedgerError) else LedgerError(f"ledger {self.path}: {error}")

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._here()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _uri(self, mode: str) -> str:
        return f"file:{quote(str(Path(self.path).absolute()))}?mode={mode}"

    def _open(self) -> sqlite3.Connection:
        if self._memory:
            db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        else:
            # Made with 0600 before SQLite sees it; its -wal and -shm files take the same mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            db = sqlite3.connect(
                self._uri("rw"), uri=True, check_same_thread=False, isolation_level=None, timeout=self._busy
            )
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA secure_delete=ON")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return
        with _transaction(db):  # another process may be migrating: look again inside the lock
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


@contextmanager
def _transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled back already
            db.execute("ROLLBACK")
        raise


def _sqlite_rows(db: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    with closing(db.cursor()) as cursor:
        cursor.row_factory = sqlite3.Row
        cursor.execute(sql, parameters)
        for row in cursor:
            yield dict(row)


class PostgresStore:
    """A PostgreSQL database, shared by machines. Needs `pip install "llm-savings[postgres]"`."""

    mark = "%s"

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        try:
            import psycopg

            from llm_savings.ledger.patient import PatientConnection
        except ImportError as error:
            raise ConfigError(
                f'ledger {masked(url)} needs psycopg; install it with: pip install "llm-savings[postgres]"'
            ) from error
        self._psycopg, self._url, self._timeout = psycopg, url, timeout
        self._patient = PatientConnection
        self._lock = threading.RLock()
        self._connection: Any = None
        self._pid = 0

    def write(self, entries: Sequence[Entry]) -> None:
        """See `Store.write`."""
        with self._using() as db:
            if len(entries) == 1:  # spare the round trips of BEGIN and COMMIT
                _write(db, entries, self.mark)
                return
            with db.transaction():
                _write(db, entries, self.mark)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """See `Store.rows`. Read through a connection and a server-side cursor of its own."""
        with self._using():
            pass  # the tables exist from here on
        with self._translated(), closing(self._connect(_READER_SECONDS)) as db:
            db.autocommit = False
            with db.cursor(name="llm_savings", row_factory=self._psycopg.rows.dict_row) as cursor:
                cursor.execute(sql, parameters)
                yield from cursor

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
            if self._connection is None or self._connection.closed or self._pid != os.getpid():
                db = self._connect()
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
        except (self._psycopg.Error, OSError) as error:
            if isinstance(error, LedgerError):
                raise
            text = str(error).strip()
            for secret in _passwords(self._url):
                text = text.replace(secret, "***")
            raise LedgerError(f"ledger {masked(self._url)}: {text}") from None

    def _connect(self, patience: float | None = None) -> Any:
        patience = patience or self._timeout
        milliseconds = round(patience * 1000)
        db = self._patient.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, round(self._timeout)),  # libpq's smallest
            options=f"-c statement_timeout={milliseconds}",
            # A machine that is gone without a word is noticed after this, not after a quarter of an hour.
            tcp_user_timeout=milliseconds,
        )
        db.patience = patience + _SERVER_SECONDS
        return db

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


def pending_migrations(version: int, where: str) -> list[str]:
    """The statements that bring a ledger of this version up to date.

    Raises:
        LedgerError: A newer llm-savings wrote it.
    """
    if version > VERSION:
        raise LedgerError(
            f"ledger {where} has schema version {version}, this llm-savings knows {VERSION}; upgrade llm-savings"
        )
    return [statement for step in MIGRATIONS[version:] for statement in step]


# By pattern and not by urlsplit, which overlooks a password with a raw "#", "/" or "?" in it and refuses one with "[".
_BEFORE_HOST = re.compile(r"^([^:]+://[^:@/?]*:)(?!\d*(?:[/?,]|$))(.*)@")
_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)([^&]*)", re.IGNORECASE)


def masked(target: str) -> str:
    """A ledger's path or URL without its password.

    Example:
        >>> masked("postgresql://me:secret@db/costs")
        'postgresql://me:***@db/costs'
    """
    if "://" not in target:
        return target
    return _IN_QUERY.sub(r"\1***", _BEFORE_HOST.sub(r"\1***@", target))


def _passwords(url: str) -> list[str]:
    found = [match[2] for pattern in (_BEFORE_HOST, _IN_QUERY) for match in pattern.finditer(url)]
    return [form for secret in found if secret for form in (secret, unquote(secret))]


def open_store(target: str) -> Store:
    """The store for `:memory:`, a file's path, or a `postgresql://` URL.

    Raises:
        ConfigError: The target cannot be a ledger.
    """
    if target.startswith(("postgresql://", "postgres://")):
        return PostgresStore(target)
    if "://" in target:
        raise ConfigError(
            f"ledger {masked(target)!r}: unknown kind of URL; use a file path, ':memory:' or postgresql://"
        )
    return SqliteStore(target)
