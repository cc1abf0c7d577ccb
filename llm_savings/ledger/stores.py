"""Where rows are kept: one SQLite file (or memory), or PostgreSQL. Both speak nearly the same SQL.

A store is strict: what it cannot write, it raises as `LedgerError`. Patience (spooling and trying again) is the
ledger's business.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

from llm_savings.errors import ConfigError, LedgerError
from llm_savings.ledger.records import SENT_COLUMNS, SETTLED_COLUMNS, Sent, Settled, sent_values, settled_values
from llm_savings.ledger.schema import MIGRATIONS, VERSION

Entry = tuple[Sent, Settled | None]
"""A call, and how it ended if it has."""

# A settled row carries its mode twice (asked for, applied): the applied one is stored.
_ALL = (*SENT_COLUMNS, *(c for c in SETTLED_COLUMNS if c not in SENT_COLUMNS))
_KEEP = tuple(i for i, c in enumerate(SETTLED_COLUMNS) if c not in SENT_COLUMNS)
_MODE_SENT, _MODE_SETTLED = SENT_COLUMNS.index("mode"), SETTLED_COLUMNS.index("mode")

_EVERY_ID = (0, 2**62)
_READER_SECONDS = 600.0  # a report may take its time; a user's call may not


class _Rows:
    """How an entry becomes a row, through the connection of either database."""

    def __init__(self, mark: str) -> None:
        def insert(columns: Sequence[str]) -> str:
            return (
                f"INSERT INTO calls ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))}) "  # noqa: S608
                "ON CONFLICT (call_id) DO NOTHING"
            )

        changes = ", ".join(f"{c} = {mark}" for c in SETTLED_COLUMNS)
        self._insert, self._insert_whole = insert(SENT_COLUMNS), insert(_ALL)
        self._settle = f"UPDATE calls SET {changes} WHERE call_id = {mark} AND status = 'sent'"  # noqa: S608
        # A call still `sent` has the basis unknown, too.
        unknown = "basis IN ('unknown', 'suspect')"
        self._reconcile = f"UPDATE calls SET {changes} WHERE call_id = {mark} AND {unknown}"  # noqa: S608

    def write(self, db: Any, entry: Entry) -> None:
        """Write an entry; doing it again changes nothing."""
        sent, settled = entry
        if settled is None:
            db.execute(self._insert, sent_values(sent))
            return
        values = settled_values(settled, sent)
        if db.execute(self._settle, (*values, sent.call_id)).rowcount:
            return
        if db.execute(self._insert_whole, _whole(sent_values(sent), values)).rowcount == 0:
            # Settled before; or another process has just written the first half, from the spool.
            db.execute(self._settle, (*values, sent.call_id))

    def reconcile(self, db: Any, sent: Sent, settled: Settled) -> int:
        """Write what an unknown call turned out to be; 1 if it was unknown until now, else 0."""
        return int(db.execute(self._reconcile, (*settled_values(settled, sent), sent.call_id)).rowcount)


def _whole(sent: tuple[Any, ...], settled: tuple[Any, ...]) -> tuple[Any, ...]:
    row = list(sent)
    row[_MODE_SENT] = settled[_MODE_SETTLED]
    return (*row, *(settled[i] for i in _KEEP))


class Store(Protocol):
    """What the ledger needs of a database."""

    mark: str
    """The placeholder of a parameter in this database's SQL."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write all entries or none. Writing an entry twice changes nothing."""
        ...

    def reconcile(self, entries: Sequence[tuple[Sent, Settled]]) -> int:
        """Settle calls that are unknown, all or none of them; says how many were."""
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
        self._table = _Rows(self.mark)

    def write(self, entries: Sequence[Entry]) -> None:
        """See `Store.write`."""
        # On the path of every call: `_using` would cost as much as a third of the write itself.
        with self._lock:
            try:
                db = self._here()
                if len(entries) == 1:  # one statement is a transaction of its own
                    self._table.write(db, entries[0])
                    return
                with _transaction(db):
                    for entry in entries:
                        self._table.write(db, entry)
            except (sqlite3.Error, OSError) as error:
                raise self._failure(error) from error

    def reconcile(self, entries: Sequence[tuple[Sent, Settled]]) -> int:
        """See `Store.reconcile`."""
        with self._using() as db, _transaction(db):
            return sum(self._table.reconcile(db, *entry) for entry in entries)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """See `Store.rows`. A file is read through a connection of its own, so writers are not held up."""
        if self._memory:
            with self._using() as db:  # all at once: a reader that pauses must not hold the lock
                found = list(_sqlite_rows(db, sql, parameters))
            yield from found
            return
        with self._using():
            pass  # the file and its tables exist from here on
        with self._translated():
            reader = sqlite3.connect(self._uri("ro"), uri=True, timeout=5, check_same_thread=False)
        with closing(reader), self._translated():
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
        except ImportError as error:
            raise ConfigError(
                f'ledger {masked(url)} needs psycopg; install it with: pip install "llm-savings[postgres]"'
            ) from error
        self._psycopg, self._url, self._timeout = psycopg, url, timeout
        self._lock = threading.RLock()
        self._connection: Any = None
        self._pid = 0
        self._table = _Rows(self.mark)

    def write(self, entries: Sequence[Entry]) -> None:
        """See `Store.write`."""
        with self._using() as db:
            if len(entries) == 1:  # spare the round trips of BEGIN and COMMIT
                self._table.write(db, entries[0])
                return
            with db.transaction():
                for entry in entries:
                    self._table.write(db, entry)

    def reconcile(self, entries: Sequence[tuple[Sent, Settled]]) -> int:
        """See `Store.reconcile`."""
        with self._using() as db, db.transaction():
            return sum(self._table.reconcile(db, *entry) for entry in entries)

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
        milliseconds = round((patience or self._timeout) * 1000)
        return self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, round(self._timeout)),  # libpq's smallest
            options=f"-c statement_timeout={milliseconds}",
            # A machine that is gone without a word is noticed after this, not after a quarter of an hour.
            tcp_user_timeout=milliseconds,
        )

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
