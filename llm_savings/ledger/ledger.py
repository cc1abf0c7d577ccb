"""`Ledger`: every call, written before it leaves and settled when it ends, in a file that survives anything."""

from __future__ import annotations

import atexit
import hmac
import logging
import time
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from itertools import islice
from pathlib import Path
from threading import RLock

from llm_savings import settings
from llm_savings.errors import ConfigError, LedgerError
from llm_savings.ledger.forks import watch
from llm_savings.ledger.records import Call, Sent, Settled, call_from_row, microseconds
from llm_savings.ledger.spool import Spool, spool_path
from llm_savings.ledger.stores import Entry, Store, masked, open_store
from llm_savings.ledger.summary import By, Line, summarize

_log = logging.getLogger("llm_savings.ledger")
_RETRY_SECONDS = 1.0
# A failure that took long (a machine that does not answer) is tried again later still: calls lose 5% to it at most.
_RETRY_TIMES = 20
_BATCH = 500  # calls in one transaction: other writers wait for its end


class Ledger:
    """An append-only record of calls.

    A call is written once before it leaves (`sent`) and once when it ends (`settle`); both are durable against
    kill -9 when the method returns. Writing never raises for a database that is locked, full, corrupt or away: the
    entry is spooled beside the ledger, one warning is logged, and it is written when the database is back. Reading
    does raise.

    Args:
        target: A SQLite file's path, ":memory:", or a postgresql:// URL shared by machines. By default
            `LLM_SAVINGS_LEDGER`, or a file in the user's data folder.

    Raises:
        ConfigError: The target cannot be a ledger (its folder is missing, an unknown kind of URL).

    Example:
        >>> ledger = Ledger(":memory:")
        >>> call = Sent(call_id="1", host="sdk", requested_model="gpt-4o", bound=Decimal("0.01"))
        >>> ledger.sent(call)
        >>> ledger.settle(call, Settled(status="ok", basis="measured", model="gpt-4o", actual=Decimal("0.0021")))
        >>> ledger.summary("total")[0].actual
        Decimal('0.002100000000')
    """

    def __init__(self, target: str | Path | None = None) -> None:
        if target is None:
            target = settings.default_ledger()
            if "://" not in target and target != ":memory:":
                try:
                    Path(target).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                except OSError as error:
                    raise ConfigError(f"ledger {target!r}: {error}; name another one in LLM_SAVINGS_LEDGER") from error
        self.target = str(target)
        self._store: Store = open_store(self.target)
        self._spool = Spool(spool_path(self.target, settings.state_folder))
        self._lock = RLock()
        self._retry_at = 0.0
        self._warned = False
        # A weak reference: a ledger that nobody uses any more is not kept alive until exit.
        this = weakref.ref(self)
        atexit.register(lambda: (ledger := this()) and ledger.close())
        watch(self)

    def sent(self, call: Sent) -> None:
        """Write a call that is about to leave. Durable when this returns; an id already known changes nothing.

        Raises:
            RecordError: The time is naive, or the bound is not finite or is beyond 9.2 million dollars.
        """
        self._write((call, None))

    def settle(self, call: Sent, settled: Settled) -> None:
        """Write how a call ended. The first settlement counts; later ones change nothing.

        Raises:
            RecordError: An amount is not finite or is beyond 9.2 million dollars.
        """
        self._write((call, settled))

    def reconcile(self, found: Iterable[tuple[Sent, Settled]]) -> int:
        """Write what unknown and suspect calls turned out to be; all other calls stay as they are.

        Args:
            found: Such as `Reconciliation.settlements`. Doing it again changes nothing.

        Returns:
            How many calls were unknown until now.

        Raises:
            LedgerError: The ledger cannot be written, or entries still wait in the spool.
            RecordError: An amount is not finite or is beyond 9.2 million dollars.
        """
        if not self.flush():
            raise LedgerError(
                f"ledger {masked(self.target)} is behind its spool; reconcile again once it can be written"
            )
        left = iter(found)
        changed = 0
        while batch := list(islice(left, _BATCH)):
            changed += self._store.reconcile(batch)
        return changed

    def flush(self) -> bool:
        """Try to write everything that was spooled; True when nothing is left waiting."""
        with self._lock:
            began = time.monotonic()
            try:
                self._spool.drain(self._store.write)
            except LedgerError as error:
                self._failed(error, began)
            return not self._spool.waiting

    def get(self, call_id: str) -> Call | None:
        """One call by its id.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self.flush()
        sql = f"SELECT * FROM calls WHERE call_id = {self._store.mark}"  # noqa: S608
        return next((call_from_row(row) for row in self._store.rows(sql, (call_id,))), None)

    def calls(self, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[Call]:
        """Calls in the order they were written, streamed.

        Args:
            since: Started at or after this instant (aware).
            until: Started before this instant (aware).

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self.flush()
        low = microseconds(since) if since else -(2**62)
        high = microseconds(until) if until else 2**62
        mark = self._store.mark
        sql = f"SELECT * FROM calls WHERE started_us >= {mark} AND started_us < {mark} ORDER BY id"  # noqa: S608
        for row in self._store.rows(sql, (low, high)):
            yield call_from_row(row)

    def summary(
        self,
        by: By = "model",
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tz: str | tzinfo = "UTC",
    ) -> list[Line]:
        """Sums by "model", "day", "user", "host", "total" or "tag:NAME"; see `summarize`.

        Raises:
            ConfigError: `by` or `tz` is not known.
            LedgerError: The ledger cannot be read.
        """
        self.flush()
        return summarize(self._store, by, since=since, until=until, tz=tz)

    def erase(self, *, user: str) -> int:
        """Forget who made this user's calls: user, session, tags and the provider's ids go, the amounts stay.

        Returns:
            How many calls were made anonymous.

        Raises:
            LedgerError: The ledger cannot be written, or entries about the user still wait in the spool.
        """
        if not self.flush():
            raise LedgerError(f"ledger {masked(self.target)} is behind its spool; erase again once it can be written")
        changed = self._store.execute(
            "UPDATE calls SET user_id = NULL, session_id = NULL, tags = NULL, response_id = NULL "  # noqa: S608
            f"WHERE user_id = {self._store.mark}",
            (user,),
        )
        self._store.forget()
        return changed

    def close(self) -> None:
        """Write what is still waiting, if possible, and let go of the file or database."""
        with self._lock:
            if self._spool.waiting:
                self.flush()
            self._store.close()

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        self._lock.acquire()
        self._store.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        self._store.after_fork(child=child)
        if child:
            self._lock = RLock()
        else:
            self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({masked(self.target)!r})"

    def _write(self, entry: Entry) -> None:
        with self._lock:
            began = time.monotonic()
            waiting = self._spool.waiting
            if waiting and began < self._retry_at:
                self._spool.add(entry)
                return
            try:
                if waiting:
                    self._spool.drain(self._store.write)
                self._store.write([entry])
            except LedgerError as error:
                self._spool.add(entry)
                self._failed(error, began)
                return
        if self._warned:
            self._warned = False
            _log.info("ledger %s can be written again", masked(self.target))

    def _failed(self, error: LedgerError, began: float) -> None:
        now = time.monotonic()
        self._retry_at = now + _RETRY_SECONDS * max(1.0, (now - began) * _RETRY_TIMES)
        if not self._warned:
            self._warned = True
            kept = self._spool.path or "memory"
            _log.warning("%s. Calls go on; their records wait in %s and are written when it is back.", error, kept)


def tenant_hash(name: str) -> str:
    """A tenant's keyed hash: stable on this machine, and no way back to the name or API key.

    Example:
        >>> len(tenant_hash("team-a"))
        24
    """
    return hmac.new(settings.hash_key(), name.encode(), "sha256").hexdigest()[:24]
