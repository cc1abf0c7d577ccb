"""`Journal`: entries on their way into the ledger's database, in a file that only this process appends to.

A line is a JSON array, an entry. The release's format is in the file's name, so that nobody misreads another's.
An append costs microseconds where a transaction costs a multiple, waits for nobody's lock, and survives kill -9 as
well. Entries may be written to the database any number of times (the second time changes nothing), so a line is
forgotten only after the database has taken it, and anybody may carry the lines of a process that has died.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson

from llm_savings.ledger.records import COLUMNS, SENT_COLUMNS, Entry, clean
from llm_savings.storage.locks import lock_now

try:
    import fcntl
except ImportError:  # Windows: no file that is let go of by a kill, so no journal
    fcntl = None

_log = logging.getLogger("llm_savings.ledger")

Write = Callable[[Sequence[Entry]], None]

_CHUNK = 1 << 18  # bytes carried in one transaction: some 500 entries
_LARGE = 1 << 22  # bytes after which appends wait for a moment, so that the file can be emptied


class Journal:
    """One process's file of entries, beside those of others that write to the same ledger.

    Args:
        prefix: The path that all journals of a ledger begin with; this one adds a random name.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._handle = -1
        self._size = self._carried = 0
        self._barred: set[Path] = set()

    @property
    def waiting(self) -> bool:
        """Whether this process has entries that the database has not."""
        return self._size > self._carried

    @property
    def path(self) -> Path:
        """This process's file, or what all of them begin with while there is none."""
        return self._path or self._prefix

    def add(self, entry: Entry) -> bool:
        """Append an entry. It survives kill -9 when this returns True; else nothing of it is in the file.

        A full disk, one that is read-only or one without locks takes none.
        """
        try:
            line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # half of a surrogate pair
            line = orjson.dumps(clean(entry), option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            try:
                if self._handle < 0:
                    self._open()
                if os.write(self._handle, line) == len(line):
                    self._size += len(line)
                    return True
            except OSError:
                pass
            with suppress(OSError):
                os.ftruncate(self._handle, self._size)
            return False

    def carry(self, write: Write) -> None:
        """Hand this process's entries to `write` and forget them. One thread at a time.

        Raises:
            LedgerError: What `write` raised; what it has not taken is kept.
            OSError: The file cannot be read.
        """
        with self._lock:
            handle, end = self._handle, self._size
        if self._carried < end:
            self._carry_to(end, handle, write)
        with self._lock:
            if self._handle < 0 or not self._size:
                return
            if self._carried < self._size and self._carried > _LARGE:
                self._carry_to(self._size, handle, write)  # else a busy process would never see its file empty
            if self._carried == self._size:
                os.ftruncate(handle, 0)
                self._size = self._carried = 0

    def carry_others(self, write: Write, *, living: bool) -> None:
        """Hand over what other processes have left: those that died, and, if asked, those that live.

        Raises:
            LedgerError: What `write` raised; nothing is forgotten.
        """
        for path in self._prefix.parent.glob(f"{self._prefix.name}-*"):
            if path != self._path:
                try:
                    with suppress(FileNotFoundError):  # carried by another
                        _carry_other(path, write, living=living)
                except PermissionError:  # another user's, or an archive's
                    if path not in self._barred:
                        self._barred.add(path)
                        _log.warning("%s may not be opened: calls in it, if any, are missing from the ledger", path)

    def close(self) -> None:
        """Let go of the file, and remove it if it is empty."""
        with self._lock:
            if self._handle >= 0:
                if self._path and not self.waiting:
                    self._path.unlink(missing_ok=True)
                os.close(self._handle)
            self._forget()

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`. A child starts a file of its own; the old one is its parent's."""
        if child:
            self._lock = threading.Lock()
            if self._handle >= 0:
                os.close(self._handle)
            self._forget()
        else:
            self._lock.release()

    def _forget(self) -> None:
        self._path, self._handle, self._size, self._carried = None, -1, 0, 0

    def _open(self) -> None:
        if fcntl is None:
            raise OSError("this system cannot lock a file until its process ends")
        while True:
            path = self._prefix.with_name(f"{self._prefix.name}-{secrets.token_hex(6)}")
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:  # a disk without locks
                os.close(handle)
                path.unlink()
                raise
            if _is_at(path, handle):  # else somebody took it for a dead process's, before it was locked
                self._path, self._handle = path, handle
                return
            os.close(handle)

    def _carry_to(self, end: int, handle: int, write: Write) -> None:
        for entries, offset in _chunks(handle, self._carried, end):
            write(entries)
            self._carried = offset
        self._carried = end


def _carry_other(path: Path, write: Write, *, living: bool) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        dead = lock_now(handle) is True  # so its process has ended
        if not dead and not living:
            return
        for entries, _ in _chunks(handle, 0, os.fstat(handle).st_size):
            write(entries)
        if dead and _is_at(path, handle):
            path.unlink()
    finally:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _chunks(handle: int, start: int, end: int) -> Iterator[tuple[list[Entry], int]]:
    """The entries between two offsets, some hundreds at a time, with the offset after them."""
    rest = b""
    while start < end:
        data = os.pread(handle, min(_CHUNK, end - start), start)
        if not data:
            return  # its owner has emptied it: everything is in the database
        start += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield _joined(lines), start - len(rest)


def _joined(lines: Sequence[bytes]) -> list[Entry]:
    """The entries of lines, with the two halves of a call in one."""
    calls: dict[Any, Entry] = {}
    for line in lines:
        try:
            values: Any = orjson.loads(line)
        except ValueError:
            continue  # half a line, of a process that was killed in the middle of writing it
        if isinstance(values, list) and len(values := cast("list[Any]", values)) in _LENGTHS:
            keep_first_end(calls, clean(tuple(values)))
    return list(calls.values())


def keep_first_end(calls: dict[Any, Entry], entry: Entry) -> None:
    """Keep one entry a call: its beginning until its end is known, of one who knows its budgets if there is one."""
    known = calls.get(entry[_CALL_ID])
    if known is not None and (known[_BUDGETS] is None) != (entry[_BUDGETS] is None):
        newer = known[_BUDGETS] is None
    else:
        newer = known is None or known[_STATUS] == "sent"
    if newer:
        calls[entry[_CALL_ID]] = entry


_CALL_ID, _STATUS, _BUDGETS = (COLUMNS.index(name) for name in ("call_id", "status", "budgets"))
_LENGTHS = (len(SENT_COLUMNS), len(COLUMNS))
