"""One SQLite file for many threads and processes: how to open it, wait for it and write to it."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PAUSE = 0.0002, 0.002  # seconds between two looks at a file that others hold


def uri(path: str, mode: str) -> str:
    """A file's path as SQLite's URI, with a mode such as "rw" or "ro&immutable=1"."""
    return f"file:{quote(str(Path(path).absolute()))}?mode={mode}"


def connect(path: str) -> sqlite3.Connection:
    """Open a file, made with 0600 where there is none, or ":memory:"; statements outside `transaction` commit alone."""
    if path == ":memory:":
        return sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    # Made before SQLite sees it; its -wal and -shm files take the same mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(uri(path, "rw"), uri=True, check_same_thread=False, isolation_level=None, timeout=0)


def prepare(db: sqlite3.Connection, patience: float) -> None:
    """Write-ahead log without waiting for the disk (survives kill -9, not a power cut); what is deleted is wiped."""
    patiently(db, "PRAGMA journal_mode=WAL", patience)
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA temp_store=MEMORY")  # no file for a statement that changes several rows


def is_busy(error: BaseException) -> bool:
    """Whether others hold the file."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def patiently(db: sqlite3.Connection, sql: str, patience: float, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
    """Run a statement, again and again for so many seconds while others hold the file.

    SQLite's own waits grow to a tenth of a second: who has waited longest looks least often, and some never get their
    turn. These stay as short as what they wait for.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return db.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(*_PAUSE))  # noqa: S311 (no two alike, so that they do not meet again)


@contextmanager
def transaction(db: sqlite3.Connection, patience: float) -> Generator[None]:
    """All that is written inside, or nothing; waits so many seconds for other writers."""
    patiently(db, "BEGIN IMMEDIATE", patience)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled back already
            db.execute("ROLLBACK")
        raise


def wipe_log(db: sqlite3.Connection, patience: float) -> None:
    """Truncate the write-ahead log, which still holds the old pages of what was deleted; not while others read."""
    db.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA busy_timeout = 0")
