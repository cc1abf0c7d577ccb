"""`Outbox`: how entries get into the ledger's database, whatever state that is in."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llm_savings.errors import LedgerError
from llm_savings.ledger.counters import BusyError, may_wait
from llm_savings.ledger.journal import Journal, keep_first_end
from llm_savings.ledger.records import Entry, clean
from llm_savings.ledger.schema import VERSION
from llm_savings.ledger.stores import Store
from llm_savings.storage.urls import masked

_log = logging.getLogger("llm_savings.ledger")

_GATHER_SECONDS = 0.2  # how long entries are gathered before they are carried into the database together
_SOON_SECONDS = 0.1  # and how long in an event loop that carries them itself
_RETRY_SECONDS = 1.0
# A failure that took long (a machine that does not answer) is tried again later still: it costs 5% of the time at most.
_RETRY_TIMES = 20


class Outbox:
    """Takes entries at once, and sees to it that they reach the database.

    For a file, entries go to a journal beside it and a thread carries them over in batches: a call never waits for
    the database. For a database shared by machines they are written at once, since a journal ends with its machine;
    the journal is for the times when it is away. A database in memory is written at once as well.

    Args:
        store: Where entries belong.
        target: The ledger's path or URL, for messages.
        journal: Where they wait, or None for a database in memory.
        behind: Whether entries go by way of the journal.
    """

    def __init__(self, store: Store, target: str, *, journal: Journal | None, behind: bool) -> None:
        self._store, self._target, self._journal = store, masked(target), journal
        self._behind = journal if behind else None
        self._lock = threading.RLock()  # of the database's side
        self._memory: dict[Any, Entry] = {}  # what not even the journal took, by call
        self._retry_at = 0.0
        self._warned, self._looked = False, journal is None
        self._carrier: threading.Thread | None = None
        self._wake = threading.Event()
        self._idle = True
        self._tried_at = self._carried_at = 0.0

    def put(self, entry: Entry) -> None:
        """Take an entry. It survives kill -9 when this returns, unless every disk refuses it."""
        if self._behind is not None and may_wait(entry) and self._behind.add(entry):
            if self._idle:
                self._start()
            elif time.monotonic() - self._tried_at > _SOON_SECONDS and _in_a_loop():
                self._carry_here()
        else:
            self.put_now(entry)

    def put_now(self, entry: Entry) -> None:
        """Take an entry by way of no journal, unless the database does not take it or others wait for it."""
        entry = clean(entry)
        with self._lock:
            if self._waiting:  # the thread tries again; no call pays for what has piled up
                self._keep(entry)
                if self._idle:
                    self._start()
                return
            began = time.monotonic()
            try:
                self._store.write([entry])
            except (LedgerError, OSError) as error:
                self._keep(entry)
                self._failed(error, began)
                self._start()
            else:
                self._worked()
                if not self._looked and self._idle:
                    self._start()

    def flush(self, *, living: bool = True) -> bool:
        """Carry everything into the database, other processes' entries too; True when nothing is left here.

        Args:
            living: Whether to carry also what living processes have not yet carried themselves.
        """
        with self._lock:
            began = time.monotonic()
            try:
                self._carry()
                if living and self._journal is not None:
                    self._journal.carry_others(self._store.write, living=True)
            except (LedgerError, OSError) as error:
                self._failed(error, began)
            else:
                self._worked()
            return not self._waiting

    def close(self) -> None:
        """Carry what is left, if possible, and let go of the files. Entries may still be put; they open them again."""
        with self._lock:
            if self._waiting:
                self.flush(living=False)
                self._save()
            self._looked = not self._waiting  # else what is left is found again as a dead process's
            self._store.close()
            if self._journal is not None:
                self._journal.close()
            self._wake.set()  # for the thread to see that it is over, if it is

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        self._lock.acquire()
        self._store.before_fork()
        if self._journal is not None:
            self._journal.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`. A child has no thread but the one that forked."""
        if self._journal is not None:
            self._journal.after_fork(child=child)
        self._store.after_fork(child=child)
        if child:
            self._lock, self._wake = threading.RLock(), threading.Event()
            self._carrier, self._idle = None, True
        else:
            self._lock.release()

    @property
    def _waiting(self) -> bool:
        return bool(self._memory) or (self._journal is not None and self._journal.waiting)

    def _carry(self) -> None:
        if self._journal is not None:
            if self._journal.waiting:
                self._journal.carry(self._store.write)
            if not self._looked:
                self._journal.carry_others(self._store.write, living=False)
                self._looked = True
        if self._memory:
            self._store.write(list(self._memory.values()))
            self._memory.clear()

    def _worked(self) -> None:
        if self._warned:
            self._warned = False
            _log.info("ledger %s can be written again", self._target)

    def _keep(self, entry: Entry) -> None:
        if self._journal is None or not self._journal.add(entry):
            keep_first_end(self._memory, entry)

    def _save(self) -> None:
        """Move what memory holds to the journal, which may work again; else it ends with this process or outbox."""
        for call_id, entry in list(self._memory.items()):
            if self._journal is None or not self._journal.add(entry):
                _log.warning("ledger %s is closed: %d record(s) are in memory only", self._target, len(self._memory))
                return
            del self._memory[call_id]

    def _failed(self, error: Exception, began: float) -> None:
        now = time.monotonic()
        self._retry_at = now + _RETRY_SECONDS * max(1.0, (now - began) * _RETRY_TIMES)
        if not self._warned:
            self._warned = True
            kept = "memory" if self._memory or self._journal is None else self._journal.path
            # As text: an error that a log handler keeps would keep the ledger, by its traceback.
            text = "%s. Calls go on; their records wait in %s and are written when it is back."
            _log.warning(text, str(error), kept)

    def _start(self) -> None:
        """Wake the thread that carries entries over, or make it."""
        self._idle = False
        if self._carrier is None:
            carrier = threading.Thread(
                target=_carry_on, args=(weakref.ref(self), self._wake), name="llm-savings-ledger", daemon=True
            )
            try:
                carrier.start()
            except RuntimeError:  # the interpreter is ending: `close` carries what is left
                return
            self._carrier = carrier
        self._wake.set()

    def _carry_here(self) -> None:
        """Carry what waits, if nobody holds the file.

        A busy event loop and a thread would trade places at each statement, five milliseconds a time, and the file be
        held as long. Alone, the loop takes less than one for all of it.
        """
        if not self._lock.acquire(blocking=False):
            return
        self._tried_at = began = time.monotonic()
        try:
            if began >= self._retry_at and self._journal is not None:
                self._journal.carry(partial(self._store.write, patience=0))
                self._carried_at = began
        except BusyError:
            pass  # the thread will do it
        except (LedgerError, OSError) as error:
            self._failed(error, began)
        finally:
            self._lock.release()

    def _step(self) -> None:
        """What the thread does each time: carry, or rest when there has been nothing to carry."""
        now = time.monotonic()
        if now < self._retry_at or (self._looked and now - self._carried_at < _GATHER_SECONDS):
            return
        if self._waiting or not self._looked:
            self._idle = False
            self.flush(living=False)
            return
        self._wake.clear()
        self._idle = True
        if self._waiting:  # an entry came in between, and saw a thread that was awake
            self._start()


def _in_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it there is no loop, and it takes long to import
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


def _carry_on(reference: weakref.ref[Outbox], wake: threading.Event) -> None:
    while True:
        wake.wait()
        time.sleep(_GATHER_SECONDS)
        outbox = reference()
        if outbox is None:
            return
        try:
            outbox._step()  # pyright: ignore[reportPrivateUsage]
        except Exception:  # noqa: BLE001 (nobody else would carry)
            _log.exception("entries were not carried into the ledger")
        del outbox


def journal_prefix(target: str, state_folder: Callable[[], str]) -> Path | None:
    """Where a ledger's journals live: beside its file, or in this machine's state folder for a shared database."""
    if target == ":memory:":
        return None
    if "://" not in target:
        return Path(f"{target}.journal-v{VERSION}").absolute()
    folder = Path(state_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder / f"ledger-{hashlib.sha256(masked(target).encode()).hexdigest()[:16]}.journal-v{VERSION}"
