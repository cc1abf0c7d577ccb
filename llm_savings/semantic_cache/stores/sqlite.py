"""The cache in one SQLite file."""
# ruff: noqa: S608 - SQL is put together from this package's own constants; every value is a parameter

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from llm_savings.errors import CacheError, ConfigError
from llm_savings.semantic_cache.entries import COUNTERS, Dimensions, Entry, Near, Vector, Which
from llm_savings.semantic_cache.stores import rows
from llm_savings.semantic_cache.stores.nearby import Nearby
from llm_savings.storage.forks import watch
from llm_savings.storage.sqlite import connect, patiently, prepare, transaction, wipe_log

_log = logging.getLogger("llm_savings.semantic_cache")

_APPLICATION = 0x4C53_4343
_FEW = 32  # vectors that are read and compared in no more time than an index takes
_PAGE = 1_000  # rows read or removed while others wait
_LOG = 10_000  # removals that other processes can follow; one further behind reads its vectors again
_LATER = 60_000_000  # microseconds

# A new version is appended and never edits an older one. A vector stands apart from its row, so that reading a
# scope's vectors reads no answers, beside the others of its scope.
_MIGRATIONS = (
    (
        f"CREATE TABLE cache_entries (seq INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, {rows.TABLE})",
        "CREATE TABLE cache_vectors (place INTEGER NOT NULL, seq INTEGER NOT NULL, vector BLOB NOT NULL, "
        "PRIMARY KEY (place, seq)) WITHOUT ROWID",
        "CREATE TABLE cache_gone (number INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, "
        "seq INTEGER NOT NULL)",
        "CREATE TABLE cache_totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL)",
        "INSERT INTO cache_totals VALUES (0, 0)",
        "CREATE TABLE cache_counters (owner TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, "
        "PRIMARY KEY (owner, name)) WITHOUT ROWID",
        "CREATE TRIGGER cache_added AFTER INSERT ON cache_entries BEGIN "
        "UPDATE cache_totals SET entries = entries + 1, bytes = bytes + NEW.size; END",
        "CREATE TRIGGER cache_removed AFTER DELETE ON cache_entries BEGIN "
        "UPDATE cache_totals SET entries = entries - 1, bytes = bytes - OLD.size; "
        "DELETE FROM cache_vectors WHERE place = OLD.place AND seq = OLD.seq; "
        "INSERT INTO cache_gone (place, seq) VALUES (OLD.place, OLD.seq); "
        f"DELETE FROM cache_gone WHERE number <= last_insert_rowid() - {_LOG}; END",
    ),
)
_VERSION = len(_MIGRATIONS)
_INSERT = f"INSERT INTO cache_entries (place, {', '.join(rows.COLUMNS)}) VALUES (?{', ?' * len(rows.COLUMNS)})"


class SqliteStore(rows.Paged):
    """One SQLite file in WAL mode, shared by threads and processes."""

    local = True

    def __init__(self, path: str, *, dimensions: Dimensions, busy_timeout: float = 0.25) -> None:
        # The program may change its folder before the file is opened.
        self.path = str(Path(path).absolute())
        if not Path(path).parent.is_dir():
            raise ConfigError(f"cache path {path!r}: the folder {str(Path(path).parent)!r} does not exist; create it")
        self._length, self._busy = dimensions, busy_timeout
        self._locks()  # whoever takes both takes the first one first
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None  # its own, so that lookups wait for no writer
        self._file: tuple[int, int] | None = None
        self._scopes: dict[int, Nearby] = {}
        self._unread()
        watch(self)

    @cached_property
    def _dimensions(self) -> int:
        return rows.dimensions_of(self._length)

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """See `Store.get`."""
        sql = f"SELECT {rows.SELECTED} FROM cache_entries WHERE id = ? AND (expires_us IS NULL OR expires_us > ?)"
        with self._reading() as db:
            found = patiently(db, sql, self._busy, (rows.plain(entry_id), rows.instant(now))).fetchone()
        return rows.entry_of(found) if found else None

    def holds(self, scope: str) -> bool:
        """See `Store.holds`."""
        place, sql = _place(scope), "SELECT EXISTS (SELECT 1 FROM cache_vectors WHERE place = ?)"
        with self._reading() as db:
            return bool(self._scopes.get(place) or patiently(db, sql, self._busy, (place,)).fetchone()[0])

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """See `Store.nearest`."""
        asked, moment = rows.unit(vector, self._dimensions), rows.instant(now)
        found: dict[int, Any] = {}
        with self._reading() as db, self._snapshot(db):
            nearby = self._nearby(db, _place(scope), moment)
            wanted = count * 2
            while True:
                keys, cosines = nearby.search(asked, wanted)
                alive: list[Near] = []
                for start in range(0, len(keys), count):
                    some = keys[start : start + count]
                    self._look(db, scope, some, found)
                    for key, cosine in zip(some, cosines[start:], strict=False):
                        if row := _alive(nearby, key, found[key], moment):
                            alive.append(rows.near_of(row, cosine))
                            if len(alive) == count:
                                return alive
                if len(keys) < wanted:
                    return alive
                wanted *= 4

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `Store.put`."""
        row, place = rows.row_of(entry, 0 if vector is None else self._dimensions), _place(entry.scope)
        small = None if vector is None else packed(rows.small(rows.unit(vector, self._dimensions)).tobytes())
        with self._writing() as db, transaction(db, self._busy):
            db.execute("DELETE FROM cache_entries WHERE id = ?", row[:1])
            seq = db.execute(_INSERT, (place, *row)).lastrowid
            if small is not None:
                db.execute("INSERT INTO cache_vectors VALUES (?, ?, ?)", (place, seq, small))

    def used(self, uses: Mapping[str, tuple[int, datetime, datetime | None]]) -> None:
        """See `Store.used`."""
        changes = [
            (hits, rows.instant(last), None if expiry is None else rows.instant(expiry), rows.plain(name))
            for name, (hits, last, expiry) in uses.items()
        ]
        with self._writing() as db, transaction(db, self._busy):
            db.executemany(
                "UPDATE cache_entries SET hits = hits + ?, used_us = MAX(COALESCE(used_us, 0), ?), "
                "expires_us = MAX(expires_us, COALESCE(?, expires_us)) WHERE id = ?",
                changes,
            )

    def remove(self, which: Which) -> int:
        """See `Store.remove`."""
        where, parameters = _condition(which)
        count = 0
        for page in self._pages("seq", which):
            chosen = f"seq IN (SELECT value FROM json_each(?)) AND {where}"
            given = (json.dumps([seq for (seq,) in page]), *parameters)
            with self._writing() as db, transaction(db, self._busy):
                db.execute(
                    "DELETE FROM cache_counters WHERE owner IN "
                    f"(SELECT '{COUNTERS}' || id FROM cache_entries WHERE {chosen})",
                    given,
                )
                count += db.execute(f"DELETE FROM cache_entries WHERE {chosen}", given).rowcount
        if count:
            with self._writing() as db:
                wipe_log(db, self._busy)
        return count

    def size(self) -> tuple[int, int]:
        """See `Store.size`."""
        with self._reading() as db:
            return patiently(db, "SELECT entries, bytes FROM cache_totals", self._busy).fetchone()

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """See `Store.add`."""
        changes = [(rows.plain(owner), rows.plain(name), delta) for name, delta in deltas.items()]
        with self._writing() as db, transaction(db, self._busy):
            db.executemany(
                "INSERT INTO cache_counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                changes,
            )

    def counts(self, owner: str) -> dict[str, int]:
        """See `Store.counts`."""
        with self._reading() as db:
            sql = "SELECT name, value FROM cache_counters WHERE owner = ?"
            found = patiently(db, sql, self._busy, (rows.plain(owner),)).fetchall()
        return {rows.original(name): value for name, value in found}

    def owners(self, prefix: str = "") -> list[str]:
        """See `Store.owners`."""
        with self._reading() as db:
            found = patiently(db, "SELECT DISTINCT owner FROM cache_counters", self._busy).fetchall()
        return sorted(owner for (name,) in found if (owner := rows.original(name)).startswith(prefix))

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock, self._read_lock:
            self._let_go()

    def before_fork(self) -> None:
        """See `forks.Forkable`. An open file must not cross a fork."""
        self._lock.acquire()
        self._read_lock.acquire()
        with suppress(sqlite3.Error):
            self._let_go()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        if child:
            self._locks()
            self._unread()
        else:
            self._read_lock.release()
            self._lock.release()

    def _locks(self) -> None:
        self._lock, self._read_lock = threading.RLock(), threading.RLock()

    def _unread(self) -> None:
        """Know no vectors."""
        self._scopes.clear()
        self._state: tuple[int, int] | None = None
        self._followed = self._newest = 0

    def _let_go(self) -> None:
        for db in (self._writer, self._reader):
            if db:
                db.close()
        self._writer = self._reader = None
        self._unread()

    # Finding

    def _nearby(self, db: sqlite3.Connection, place: int, now: int) -> Nearby:
        """The scope's vectors, as the database has them now."""
        others = patiently(db, "PRAGMA data_version", self._busy).fetchone()[0]
        state = others, db.total_changes
        if state != self._state:
            self._follow(db)
            self._state = state
        if now < self._newest - _LATER:  # what had expired may not have yet
            self._scopes.clear()
        self._newest = now
        nearby = self._scopes.get(place)
        if nearby is None:
            nearby = Nearby(self._dimensions)
            self._load(db, place, nearby)
            if len(nearby) > _FEW:
                self._scopes[place] = nearby
        elif nearby.state != state:
            self._load(db, place, nearby)
        nearby.state = state
        return nearby

    def _load(self, db: sqlite3.Connection, place: int, nearby: Nearby) -> None:
        where = "FROM cache_vectors WHERE place = ? AND seq > ?", (place, nearby.last)
        found = db.execute(f"SELECT seq, vector {where[0]} ORDER BY seq", where[1])
        room = 0
        while page := found.fetchmany(_PAGE):
            if len(page) == _PAGE and not room:  # a matrix that grows bit by bit leaves holes in the memory
                (room,) = db.execute(f"SELECT COUNT(*) {where[0]}", where[1]).fetchone()
            whole = [(seq, unpacked(vector, self._dimensions)) for seq, vector in page]
            whole = [(seq, vector) for seq, vector in whole if len(vector) == self._dimensions]
            if whole:
                data = np.frombuffer(b"".join([vector for _, vector in whole]), np.int8)
                nearby.add([seq for seq, _ in whole], data.reshape(-1, self._dimensions), more=room)

    def _follow(self, db: sqlite3.Connection) -> None:
        """Forget what was removed or replaced since the last look, by whichever process."""
        first, last = db.execute(
            "SELECT (SELECT MIN(number) FROM cache_gone), (SELECT MAX(number) FROM cache_gone)"
        ).fetchone()
        if last is None or last == self._followed:
            return
        if first > self._followed + 1:
            self._scopes.clear()
        if self._scopes:
            for place, seq in db.execute("SELECT place, seq FROM cache_gone WHERE number > ?", (self._followed,)):
                if place in self._scopes:
                    self._scopes[place].remove(seq)
        self._followed = last

    def _look(self, db: sqlite3.Connection, scope: str, keys: list[int], found: dict[int, Any]) -> None:
        """Read the rows of these keys; None where there is none in this scope."""
        keys = [key for key in keys if key not in found]
        found.update(dict.fromkeys(keys))
        for seq, *row in db.execute(_reading_of(len(keys)), (*keys, rows.plain(scope))):
            found[seq] = row

    # Pages, connections, trouble

    def _pages(self, columns: str, which: Which) -> Iterator[list[Any]]:
        """See `rows.Paged`."""
        where, parameters = _condition(which)
        sql = f"SELECT {columns} FROM cache_entries WHERE {where} AND seq > ? ORDER BY seq LIMIT {_PAGE}"
        last = 0
        while True:
            with self._reading() as db:
                page = patiently(db, sql, self._busy, (*parameters, last)).fetchall()
            if not page:
                return
            yield page
            last = page[-1][0]

    @contextmanager
    def _snapshot(self, db: sqlite3.Connection) -> Generator[None]:
        """One state of a file for several statements: what others replace meanwhile is there as it was."""
        patiently(db, "BEGIN", self._busy)
        try:
            yield
        finally:
            with suppress(sqlite3.Error):  # a broken file has ended it already
                db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            if self._reader is None:
                with self._writing(), self._read_lock:  # the file and its tables exist from here on
                    self._reader = self._reader or connect(self.path)
            with self._read_lock:
                yield self._opened(self._reader)
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from error

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._writer is None:
                    self._writer = self._open()
                yield self._writer
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from error

    def _opened(self, db: sqlite3.Connection | None) -> sqlite3.Connection:
        if db is None:  # another thread has closed it since
            raise CacheError(f"cache {self.path} was closed in the middle of a lookup")
        return db

    def _translated(self, error: sqlite3.Error | OSError) -> CacheError:
        if _is_corrupt(error):
            self._set_aside()
        return CacheError(f"cache {self.path}: {error}")

    def _open(self) -> sqlite3.Connection:
        db = connect(self.path)
        try:
            try:
                self._check_owner(db)
                prepare(db, self._busy)
                self._migrate(db)
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                self._file = self._identity()
                db.close()
                self._set_aside()
                db = connect(self.path)
                prepare(db, self._busy)
                self._migrate(db)
        except BaseException:
            db.close()
            raise
        self._file = self._identity()
        return db

    def _check_owner(self, db: sqlite3.Connection) -> int:
        """The version of the cache's tables in this file, 0 for a new one."""
        # In one statement: between two of them another process may have made the tables.
        sql = (
            "SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_master) "
            "FROM pragma_application_id, pragma_user_version"
        )
        application, version, tables = patiently(db, sql, self._busy).fetchone()
        if application != _APPLICATION and (application or version or tables):
            raise CacheError(
                f"cache {self.path}: the file belongs to another program; give the cache a file of its own"
            )
        if version > _VERSION:
            raise CacheError(
                f"cache {self.path} has schema version {version}, this llm-savings knows {_VERSION}; "
                "upgrade llm-savings"
            )
        return version

    def _migrate(self, db: sqlite3.Connection) -> None:
        if self._check_owner(db) == _VERSION:
            return
        with transaction(db, self._busy):  # another process may be migrating: look again inside the lock
            for step in _MIGRATIONS[self._check_owner(db) :]:
                for statement in step:
                    db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _set_aside(self) -> None:
        """Make way for a new file, unless another process has done so already."""
        same = self._file is not None and self._file == self._identity()
        with suppress(sqlite3.Error), self._lock, self._read_lock:
            self._let_go()
        if not same:
            return
        aside = f"{self.path}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        for suffix in ("-wal", "-shm", ""):  # the file last: none opens it without its log
            with suppress(FileNotFoundError):
                Path(self.path + suffix).rename(aside + suffix)
        _log.warning("cache %s is corrupt; it was moved to %s and a new one begun", self.path, aside)


@lru_cache(maxsize=16)
def _reading_of(count: int) -> str:
    marks = ", ".join("?" * count)
    return f"SELECT seq, {rows.SELECTED} FROM cache_entries WHERE seq IN ({marks}) AND scope = ?"


def _alive(nearby: Nearby, key: int, row: Any, now: int) -> Any:
    """The row of this key if it was read and is an answer still."""
    if row is None:
        return None
    expires, sliding = row[7:9]
    if expires is None or expires > now:
        return row
    if not sliding:  # it never comes back, so that no later lookup need read it again
        nearby.remove(key)
    return None


def packed(vector: bytes) -> bytes:
    """A vector without the zeros around it, behind their number in front: a text of one script has half of them.

    Example:
        >>> len(packed(bytes(256) + b"vector" + bytes(122))), unpacked(packed(b"vector"), 6)
        (8, b'vector')
    """
    rest = vector.lstrip(b"\0")
    short = (len(vector) - len(rest)).to_bytes(2, "little") + rest.rstrip(b"\0") if len(vector) < 65_536 else vector
    return short if len(short) < len(vector) else vector


def unpacked(found: bytes, length: int) -> bytes:
    """The vector that was packed; one of another length where it was none of this length."""
    if not 2 < len(found) < length:
        return found
    return (bytes(int.from_bytes(found[:2], "little")) + found[2:]).ljust(length, b"\0")


def _place(scope: str) -> int:
    """A scope as a number: where its vectors stand. Two scopes may meet there; their rows tell them apart."""
    digest = blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _condition(which: Which) -> tuple[str, list[Any]]:
    where, parameters = rows.condition(
        which,
        ids="id IN (SELECT value FROM json_each(?))",
        tag="tags IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)",
        mark="?",
    )
    if which.ids is not None:
        parameters[0] = json.dumps(parameters[0])
    return where, parameters


def _is_corrupt(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
