"""Where the lessons of several processes or machines meet: a log in one SQLite file, in PostgreSQL or in Redis.

A lesson's place is the number of bytes up to its end in all that was ever written. So a reader knows where it stopped,
and the oldest are removed as soon as the log is longer than it may be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from llm_savings.errors import CacheError, ConfigError
from llm_savings.storage.sqlite import connect, patiently, prepare, transaction
from llm_savings.storage.urls import masked

MOST_BYTES = 32 * 2**20
PAGE = 200
_APPLICATION = 0x4C53_5043
_PATIENCE = 0.5
TABLE = (
    "CREATE TABLE IF NOT EXISTS llm_savings_prefixes "
    "(upto {integer} PRIMARY KEY, worker {binary} NOT NULL, lesson {binary} NOT NULL)"
)
_LAST = "SELECT COALESCE(MAX(upto), 0) FROM llm_savings_prefixes"


class Log(Protocol):
    """What sharing needs of a store. Used by one thread at a time."""

    def add(self, worker: bytes, lessons: Sequence[bytes]) -> None:
        """Append lessons, all or none, and remove the oldest beyond `MOST_BYTES`."""
        ...

    def since(self, place: int) -> list[tuple[int, bytes, bytes]]:
        """Place, worker and lesson of the next after a place, at most `PAGE`; from the start of a log begun anew."""
        ...

    def close(self) -> None:
        """Let go of the file or the connection; the next use opens it again."""
        ...


def open_log(target: str) -> Log:
    """The log for a file's path, a `postgresql://` or a `redis://` URL. Nothing is opened before its first use.

    Raises:
        ConfigError: The target cannot be one, or what it needs is not installed.
    """
    if target.startswith(("postgresql://", "postgres://")):
        try:
            from llm_savings.prompt_cache.postgres_log import PostgresLog
        except ImportError as error:
            raise ConfigError(
                f'memory {masked(target)} needs psycopg; install it with: pip install "llm-savings[postgres]"'
            ) from error
        return PostgresLog(target)
    if target.startswith(("redis://", "rediss://", "unix://")):
        try:
            from llm_savings.prompt_cache.redis_log import RedisLog
        except ImportError as error:
            raise ConfigError(
                f'memory {masked(target)} needs redis-py; install it with: pip install "llm-savings[redis]"'
            ) from error
        return RedisLog(target)
    if "://" in target or target in ("", ":memory:"):
        raise ConfigError(f"memory {masked(target)!r}: use a file path, postgresql://, redis://, or a Memory")
    return SqliteLog(target)


class SqliteLog:
    """One SQLite file in WAL mode, shared by processes."""

    def __init__(self, path: str) -> None:
        self._path = str(Path(path).absolute())
        if not Path(self._path).parent.is_dir():
            raise ConfigError(f"memory path {path!r}: the folder {str(Path(path).parent)!r} does not exist; create it")
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def add(self, worker: bytes, lessons: Sequence[bytes]) -> None:
        """See `Log.add`."""
        with transaction(db := self._here(), _PATIENCE):
            append(db, "?", worker, lessons)

    def since(self, place: int) -> list[tuple[int, bytes, bytes]]:
        """See `Log.since`."""
        db = self._here()
        return following(lambda sql, given: patiently(db, sql, _PATIENCE, given).fetchall(), "?", place)

    def close(self) -> None:
        """See `Log.close`."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _here(self) -> sqlite3.Connection:
        if self._db is None or self._file != self._identity():  # somebody may have put another in its place
            self.close()
            self._db = self._open()
            self._file = self._identity()
        return self._db

    def _open(self) -> sqlite3.Connection:
        db = connect(self._path)
        try:
            sql = (
                "SELECT application_id, EXISTS (SELECT 1 FROM sqlite_master WHERE name NOT LIKE 'sqlite_%') "
                "FROM pragma_application_id"
            )
            owner, tables = patiently(db, sql, _PATIENCE).fetchone()
            if owner != _APPLICATION and (owner or tables):
                raise CacheError(f"{self._path} belongs to another program; give the memory a file of its own")
            prepare(db, _PATIENCE)
            with transaction(db, _PATIENCE):
                db.execute(TABLE.format(integer="INTEGER", binary="BLOB"))
                db.execute(f"PRAGMA application_id = {_APPLICATION}")
        except BaseException:
            db.close()
            raise
        return db

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def append(db: Any, mark: str, worker: bytes, lessons: Sequence[bytes]) -> None:
    """Write lessons behind the last one, inside a transaction that keeps every other writer out."""
    (last,) = db.execute(_LAST).fetchone()
    ends = list(accumulate(map(len, lessons), initial=last))[1:]
    rows = [(place, worker, lesson) for place, lesson in zip(ends, lessons, strict=True)]
    db.cursor().executemany(f"INSERT INTO llm_savings_prefixes VALUES ({mark}, {mark}, {mark})", rows)  # noqa: S608
    db.execute(f"DELETE FROM llm_savings_prefixes WHERE upto <= {mark}", (ends[-1] - MOST_BYTES,))  # noqa: S608


def following(
    fetch: Callable[[str, Sequence[Any]], list[Any]], mark: str, place: int
) -> list[tuple[int, bytes, bytes]]:
    """See `Log.since`."""
    sql = f"SELECT upto, worker, lesson FROM llm_savings_prefixes WHERE upto > {mark} ORDER BY upto LIMIT {PAGE}"  # noqa: S608
    found = fetch(sql, (place,))
    if not found and place and fetch(_LAST, ())[0][0] < place:  # somebody has begun a new log
        return fetch(sql, (0,))
    return found
