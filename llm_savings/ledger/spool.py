"""Entries that could not be written yet: beside the ledger in a file, or in memory when even that fails."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from llm_savings.errors import LedgerError, SavingsError
from llm_savings.ledger.records import call_from_row, row_of
from llm_savings.ledger.stores import Entry, masked


class Spool:
    """A file of JSON lines shared by every process that uses the ledger.

    Entries may be replayed any number of times (writing one twice changes nothing), so the file is emptied only
    after the database has taken them: a kill at any moment loses none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._memory: deque[Entry] = deque()
        self._lock = None if path is None else FileLock(f"{path}.lock", timeout=1, mode=0o600)
        # An earlier process may have left something. Looked at again by `drain`, not on every call.
        self.waiting = path is not None and _size(path) > 0
        """Whether entries are known to wait."""

    def add(self, entry: Entry) -> None:
        """Keep an entry: on disk where possible, else in memory."""
        self.waiting = True
        if self.path is None or self._lock is None:
            self._memory.append(entry)
            return
        line = json.dumps(row_of(*entry), ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            with self._lock:
                handle = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
                try:
                    _append(handle, line.encode())
                finally:
                    os.close(handle)
        except (OSError, Timeout, NotImplementedError):
            self._memory.append(entry)

    def drain(self, write: Callable[[Sequence[Entry]], None]) -> None:
        """Hand every kept entry to `write`, and forget them when it returns.

        Raises:
            LedgerError: What `write` raised, or the file cannot be read or emptied; nothing is forgotten.
        """
        if self.path is not None and self._lock is not None and _size(self.path) > 0:
            try:
                with self._lock:
                    if entries := _read(self.path):
                        write(entries)
                    os.truncate(self.path, 0)
            except Timeout:
                return  # another process is draining it
            except LedgerError:
                raise
            except (OSError, NotImplementedError) as error:  # read-only, another user's, a disk without locks
                raise LedgerError(f"spool {self.path}: {error}") from error
        if self._memory:
            write(list(self._memory))
            self._memory.clear()
        self.waiting = False


def _append(handle: int, line: bytes) -> None:
    """Write the whole line or, on a full disk, none of it."""
    end = os.fstat(handle).st_size
    # A writer killed in the middle of a line leaves no line end: start on a fresh line, and its half is skipped.
    if end and os.lseek(handle, end - 1, os.SEEK_SET) >= 0 and os.read(handle, 1) != b"\n":
        line = b"\n" + line
    if (written := os.write(handle, line)) != len(line):
        os.ftruncate(handle, end)
        raise OSError(f"wrote {written} of {len(line)} bytes")


def _read(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                call = call_from_row(json.loads(line))
            except (ValueError, KeyError, TypeError, SavingsError):
                continue  # the torn last line of a killed writer: that call's row says `sent` or nothing left
            entries.append((call.sent, call.settled))
    return entries


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def spool_path(target: str, state_folder: Callable[[], str]) -> Path | None:
    """Where a ledger's spool lives: beside its file, or in this machine's state folder for a shared database."""
    if target == ":memory:":
        return None
    if "://" not in target:
        return Path(f"{target}.spool").absolute()
    import hashlib

    folder = Path(state_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder / f"ledger-{hashlib.sha256(masked(target).encode()).hexdigest()[:16]}.spool"
