"""`Ledger`: every call, written before it leaves and settled when it ends, in a file that survives anything."""

from __future__ import annotations

import hmac
import json
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from llm_savings import settings
from llm_savings.errors import ConfigError, LedgerError
from llm_savings.ledger import rows
from llm_savings.ledger.budgets import BudgetBook
from llm_savings.ledger.counters import Cap, Charged
from llm_savings.ledger.journal import Journal
from llm_savings.ledger.outbox import Outbox, journal_prefix
from llm_savings.ledger.records import Call, Sent, Settled, call_from_row, clean, entry, head, microseconds
from llm_savings.ledger.stores import open_store
from llm_savings.ledger.summary import By, Line, summarize
from llm_savings.storage.forks import watch
from llm_savings.storage.urls import masked

# Rows that are looked through for what is usual: a few milliseconds' worth.
_RECENT = 20_000
_BATCH = 500  # calls in one transaction: other writers wait for its end
_PATIENCE = 5.0  # seconds that work nobody waits for gives other writers


class Ledger:
    """An append-only record of calls.

    A call is written once before it leaves (`sent`) and once when it ends (`settle`); both survive kill -9 when the
    method returns. A file is written by way of a journal beside it, which a thread empties into it within a fraction
    of a second, and whoever opens the ledger next after a kill; reading through this class sees everything at once.
    Writing never raises for a database that is locked, full, corrupt or away: entries wait in the journal, one warning
    is logged, and they are written when it is back. Reading does raise.

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

    Attributes:
        target: What it was made with.
        budgets: The counters and plans of budgets.
        identity: Text that two ledgers share if they are the same file or database; without a password.
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
        self.identity = _identity(self.target)
        self._store = open_store(self.target)
        prefix = journal_prefix(self.target, settings.state_folder)
        self._outbox = Outbox(
            self._store,
            self.target,
            journal=None if prefix is None else Journal(prefix),
            behind="://" not in self.target,
        )
        self.budgets = BudgetBook(self._store, self._outbox.flush)
        # At exit, or when nobody uses this ledger any more.
        weakref.finalize(self, self._outbox.close)
        watch(self._outbox)

    def sent(self, call: Sent) -> None:
        """Write a call that is about to leave. Durable when this returns; an id already known changes nothing.

        Raises:
            RecordError: The time is naive, or the bound is not finite or is beyond 9.2 million dollars.
        """
        self._outbox.put(head(call))

    def settle(self, call: Sent, settled: Settled) -> None:
        """Write how a call ended. The first settlement counts; later ones change nothing.

        Raises:
            RecordError: An amount is not finite or is beyond 9.2 million dollars.
        """
        self._outbox.put(entry(call, settled))

    def reserve(self, call: Sent, caps: Sequence[Cap], *, now: bool = False) -> list[Charged]:
        """Write a call that is about to leave, if every cap has room for what it reserves, straight to the database.

        Args:
            call: The call.
            caps: What it is charged to.
            now: Wait for nobody.

        Raises:
            RefusedError: A cap has no room; nothing was written.
            BusyError: It would have to wait; nothing was written.
            LedgerError: The database cannot be written, or a counter makes no sense.
            RecordError: As for `sent`.
        """
        return self.budgets.reserve(entry(call), caps, now=now)

    def reserve_all(self, calls: Callable[[], Iterable[Sent]], caps: Sequence[Cap]) -> list[Charged]:
        """Write many calls that are about to leave, if every cap has room for what they reserve together, or none.

        Raises:
            RefusedError: A cap has no room; nothing was written.
            LedgerError: The database cannot be written, or a counter makes no sense.
            RecordError: As for `sent`.
        """
        return self.budgets.reserve_all(lambda: map(entry, calls()), caps)

    def reconcile(self, found: Iterable[tuple[Sent, Settled]]) -> int:
        """Write what unknown and suspect calls turned out to be; all other calls stay as they are.

        Args:
            found: Such as `Reconciliation.settlements`. Doing it again changes nothing.

        Returns:
            How many calls were unknown until now.

        Raises:
            LedgerError: The ledger cannot be written, or entries still wait outside of it.
            RecordError: An amount is not finite or is beyond 9.2 million dollars.
        """
        if not self.flush():
            raise LedgerError(
                f"ledger {masked(self.target)} is behind its journal; reconcile again once it can be written"
            )
        left = iter(found)
        changed = 0
        while batch := list(islice(left, _BATCH)):
            entries = [clean(entry(*pair)) for pair in batch]
            with self._store.transaction(patience=_PATIENCE) as db:
                changed += rows.reconcile(db, entries, self._store.mark)
        return changed

    def outputs(self, route: tuple[str, str | None]) -> list[int]:
        """Output tokens of the last measured calls of a model and feature; of none where they cannot be read."""
        model, feature = route
        ours = (
            sum(row[f"{kind}_tokens"] or 0 for kind in ("output", "audio_output", "image_output"))
            for row in self._recent(model)
            if json.loads(row["tags"] or "{}").get("feature") == feature
        )
        return list(islice(ours, 500))[::-1]

    def answers(self, model: str, schema: str) -> list[tuple[int, bool]]:
        """Output tokens of a model's last measured first answers to a schema, and which were held out of shortening."""
        found: list[tuple[int, bool]] = []
        for row in self._recent(model):
            done: dict[str, Any] = json.loads(row["strategies"] or "{}")
            output: dict[str, Any] = done.get("output") or {}
            if output.get("schema") == schema and not output.get("shadow"):
                found.append((row["output_tokens"] or 0, bool(output.get("holdout"))))
                if len(found) == 1_000:
                    break
        return found[::-1]

    def _recent(self, model: str) -> Iterator[Mapping[str, Any]]:
        """A model's last measured calls, the newest first; none where they cannot be read."""
        mark = self._store.mark
        sql = (
            "SELECT tags, strategies, output_tokens, audio_output_tokens, image_output_tokens FROM calls "  # noqa: S608
            f"WHERE id > (SELECT COALESCE(MAX(id), 0) FROM calls) - {mark} "
            f"AND requested_model = {mark} AND status = 'ok' AND basis = 'measured' ORDER BY id DESC"
        )
        with suppress(LedgerError):
            yield from self._store.rows(sql, (_RECENT, model))

    def flush(self) -> bool:
        """Bring the database up to date, also with what other processes have on its way to it; True if all is in."""
        return self._outbox.flush()

    def get(self, call_id: str) -> Call | None:
        """One call by its id.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self.flush()
        sql = f"SELECT * FROM calls WHERE call_id = {self._store.mark}"  # noqa: S608
        return next((call_from_row(row) for row in self._store.rows(sql, (call_id,))), None)

    def calls(self, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[Call]:
        """Calls in the order they started, streamed.

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
        sql = f"SELECT * FROM calls WHERE started_us >= {mark} AND started_us < {mark} ORDER BY started_us, id"  # noqa: S608
        for row in self._store.rows(sql, (low, high)):
            yield call_from_row(row)

    def written(self, after: int = 0, also: Iterable[int] = ()) -> Iterator[tuple[int, Call]]:
        """Calls by the number of their row, in the order of the rows: for who adds up as the ledger grows.

        Args:
            after: Rows after this one.
            also: Rows before it that are to be read again, since their calls had not ended.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        self.flush()
        mark, again = self._store.mark, iter(also)
        while some := list(islice(again, _BATCH)):
            sql = f"SELECT * FROM calls WHERE id IN ({', '.join([mark] * len(some))}) ORDER BY id"  # noqa: S608
            for row in self._store.rows(sql, some):
                yield row["id"], call_from_row(row)
        for row in self._store.rows(f"SELECT * FROM calls WHERE id > {mark} ORDER BY id", (after,)):  # noqa: S608
            yield row["id"], call_from_row(row)

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

        Counters of budgets that bear the name of the user or of a session of his go as well, so a limit per user or
        session begins anew. A budget per tag names the tag's value in its counters, whoever it is of: that stays.

        Returns:
            How many calls were made anonymous.

        Raises:
            LedgerError: The ledger cannot be written, or entries about the user still wait outside of it.
        """
        if not self.flush():
            raise LedgerError(f"ledger {masked(self.target)} is behind its journal; erase again once it can be written")
        mark = self._store.mark
        sql = f"SELECT DISTINCT session_id, budgets FROM calls WHERE user_id = {mark} AND budgets IS NOT NULL"  # noqa: S608
        named: set[str] = set()
        for session, keys in self._store.fetch(sql, (user,)):
            whose = (f"user={user}", f"session={session}")
            named.update(key for key in json.loads(keys) if key.split("|", 3)[3] in whose)
        if named:
            self.budgets.reset(sorted(named))
        changed = self._store.execute(
            "UPDATE calls SET user_id = NULL, session_id = NULL, tags = NULL, response_id = NULL "  # noqa: S608
            f"WHERE user_id = {mark}",
            (user,),
        )
        self._store.forget()
        return changed

    def close(self) -> None:
        """Write what is still waiting, if possible, and let go of the file or database."""
        self._outbox.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({masked(self.target)!r})"


def _identity(target: str) -> str:
    if target == ":memory:":
        return f":memory:{uuid.uuid4().hex}"
    return masked(target) if "://" in target else os.path.realpath(target)


def tenant_hash(name: str) -> str:
    """A tenant's keyed hash: stable on this machine, and no way back to the name or API key.

    Example:
        >>> len(tenant_hash("team-a"))
        24
    """
    return _hashed(settings.hash_key(), name)


@lru_cache(maxsize=1024)  # every call asks for its key's and its user's, some more than once
def _hashed(key: bytes, name: str) -> str:
    return hmac.digest(key, name.encode("utf-8", "surrogatepass"), "sha256").hex()[:24]
