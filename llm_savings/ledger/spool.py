"""Entries that could not be written yet: beside the ledger in a file, or in memory when even that fails."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from llm_savings.errors import LedgerError, SavingsError
from llm_savings.ledger.records import call_from_row, row_of
from llm_savings.ledger.stores import Entry, masked, size

# Seconds to wait for the file's lock, and to leave the file alone after it was not to be had, or could not be written.
_PATIENCE, _LONG_PAUSE, _SHORT_PAUSE = 1.0, 20.0, 1.0


class Spool:
    """A file of JSON lines shared by every process that uses the ledger.

    Entries may be replayed any number of times (writing one twice changes nothing), so the file is emptied only
    after the database has taken them: a kill at any moment loses none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._memory: list[str] = []
        self._lock = None if path is None else FileLock(f"{path}.lock", timeout=_PATIENCE, mode=0o600)
        # Until then the file is left alone: a process that was stopped with the lock must not hold up every call.
        self._retry_at = 0.0
        # An earlier process may have left something. Looked at again by `drain`, not on every call.
        self.waiting = path is not None and size(path) > 0
        """Whether entries are known to wait."""

    @property
    def held(self) -> int:
        """How many entries are in memory only."""
        return len(self._memory)

    def add(self, entry: Entry) -> None:
        """Keep an entry: on disk where possible, else in memory."""
        self._memory.append(json.dumps(row_of(*entry), ensure_ascii=False, separators=(",", ":")) + "\n")
        self.waiting = True
        if time.monotonic() >= self._retry_at:
            self.save()

    def save(self) -> None:
        """Move what memory holds to disk, if possible."""
        if self.path is None or self._lock is None:
            return
        try:
            with self._lock:
                handle = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
                try:
                    _append(handle, "".join(self._memory).encode())
                finally:
                    os.close(handle)
        except Timeout:
            self._pause(_LONG_PAUSE)
        except (OSError, NotImplementedError):
            self._pause(_SHORT_PAUSE)
        else:
            self._memory.clear()

    def drain(self, write: Callable[[Sequence[Entry]], None]) -> None:
        """Hand every kept entry to `write`, and forget them when it returns.

        Raises:
            LedgerError: What `write` raised, or the file cannot be read or emptied; nothing is forgotten.
        """
        drained = self._drain_file(write)
        if self._memory:
            write(_entries(self._memory))
            self._memory.clear()
        self.waiting = not drained

    def _drain_file(self, write: Callable[[Sequence[Entry]], None]) -> bool:
        if self.path is None or self._lock is None or size(self.path) == 0:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            with self._lock:
                with self.path.open(encoding="utf-8", errors="replace") as lines:
                    entries = _entries(lines)
                if entries:
                    write(entries)
                os.truncate(self.path, 0)
        except Timeout:
            self._pause(_LONG_PAUSE)  # another process is draining it, or was stopped in the middle
            return False
        except LedgerError:
            raise
        except (OSError, NotImplementedError) as error:  # read-only, another user's, a disk without locks
            raise LedgerError(f"spool {self.path}: {error}") from error
        return True

    def _pause(self, seconds: float) -> None:
        self._retry_at = time.monotonic() + seconds


def _append(handle: int, line: bytes) -> None:
    """Write the whole line or, on a full disk, none of it."""
    end = os.fstat(handle).st_size
    # A writer killed in the middle of a line leaves no line end: start on a fresh line, and its half is skipped.
    if end and os.lseek(handle, end - 1, os.SEEK_SET) >= 0 and os.read(handle, 1) != b"\n":
        line = b"\n" + line
    if (written := os.write(handle, line)) != len(line):
        os.ftruncate(handle, end)
        raise OSError(f"wrote {written} of {len(line)} bytes")


def _entries(lines: Iterable[str]) -> list[Entry]:
    entries: list[Entry] = []
    for line in lines:
        try:
            call = call_from_row(json.loads(line))
        except (ValueError, KeyError, TypeError, SavingsError):
            continue  # the torn last line of a killed writer: that call's row says `sent` or nothing left
        entries.append((call.sent, call.settled))
    return entries


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
