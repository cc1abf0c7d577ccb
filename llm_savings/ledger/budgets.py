"""`BudgetBook`: what a ledger keeps of budgets beside the calls: their counters, and the plans they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from llm_savings.ledger import counters, rows, schema
from llm_savings.ledger.counters import BusyError, Cap, Charged, RefusedError
from llm_savings.ledger.records import COLUMNS, Entry, clean, microseconds
from llm_savings.ledger.stores import Store

# How long a call waits for other processes to finish theirs. Each holds the file for well under a millisecond.
_PATIENCE = 5.0
_MANY = 500  # counters in one statement


class BudgetBook:
    """Counters and plans of budgets. Amounts are picodollars; a counter's key is `name|period|label|scope`."""

    def __init__(self, store: Store, flush: Callable[..., bool]) -> None:
        self._store, self._flush = store, flush

    def reserve(self, entry: Entry, caps: Sequence[Cap], *, now: bool = False) -> list[Charged]:
        """Write a call that is about to leave, if every cap has room for what it reserves.

        Args:
            entry: The call.
            caps: What it is charged to.
            now: Wait for nobody.

        Returns:
            The counters as they are now, with the alerts that this call set off.

        Raises:
            RefusedError: A cap has no room; nothing was written.
            BusyError: It would have to wait; nothing was written.
            LedgerError: The database cannot be written, or a counter makes no sense.
        """
        entry = clean(entry)
        return self._reserved(lambda db: rows.reserve(db, entry, caps, self._store.mark), now=now)

    def reserve_all(self, entries: Callable[[], Iterable[Entry]], caps: Sequence[Cap]) -> list[Charged]:
        """Write many calls that are about to leave, if every cap has room for all of them; see `reserve`.

        Args:
            entries: Yields them; may be asked twice. One that is there already changes nothing.
            caps: What they are charged to.
        """
        return self._reserved(lambda db: rows.reserve_all(db, map(clean, entries()), caps, self._store.mark))

    def _reserved(self, reserve: Callable[[Any], list[Charged]], *, now: bool = False) -> list[Charged]:
        try:
            with self._store.transaction(patience=0 if now else _PATIENCE) as db:
                return reserve(db)
        except RefusedError as refusal:
            if not refusal.full.reserved:
                raise
            if now:
                raise BusyError("what is on its way is to be waited for") from refusal
        self._flush(living=False)  # what calls of ours that have ended give back may be on its way
        with self._store.transaction(patience=_PATIENCE) as db:
            return reserve(db)

    def refused(self, cap: Cap) -> int:
        """The alert (per mille) that a refusal set off, or 0.

        Raises:
            LedgerError: The database cannot be written.
        """
        with self._store.transaction() as db:
            return counters.refused(db, cap, self._store.mark)

    def counters(self, keys: Sequence[str] | None = None) -> dict[str, Charged]:
        """The counters of these keys that exist, or all.

        Raises:
            LedgerError: The database cannot be read, or a counter makes no sense.
        """
        self._flush()
        if keys is None:
            keys = [key for (key,) in self._store.fetch("SELECT key FROM budget_counters ORDER BY key")]
        found: dict[str, Charged] = {}
        for start in range(0, len(keys), _MANY):
            found |= counters.read(self._store.fetch, keys[start : start + _MANY], self._store.mark)
        return found

    def known(self) -> tuple[dict[str, tuple[Mapping[str, Any], bool]], dict[str, Charged]]:
        """Every plan (see `plans`) and every counter, also of a file that may only be read.

        Raises:
            LedgerError: The database cannot be read, or a counter makes no sense.
        """
        self._flush()
        plans, sums = ([tuple(row.values()) for row in self._store.rows(sql)] for sql in (_PLANS, _COUNTERS))
        return _by_name(plans), {row[0]: counters.checked(*row) for row in sums}

    def spent_since(self, moment: datetime) -> dict[str, int]:
        """Picodollars that calls started since then were charged, by counter, without what is held for calls in flight.

        Raises:
            LedgerError: The database cannot be read.
        """
        self._flush()
        sql = (
            f"SELECT {', '.join(COLUMNS)} FROM calls WHERE started_us >= {self._store.mark} "  # noqa: S608
            "AND budgets IS NOT NULL"
        )
        found: dict[str, int] = {}
        for row in self._store.rows(sql, (microseconds(moment),)):
            entry = tuple(row.values())
            for key in counters.keys_of(entry):
                found[key] = found.get(key, 0) + counters.share(entry)[0]
        return found

    def plans(self) -> dict[str, tuple[Mapping[str, Any], bool]]:
        """Every budget's fields by its name, and whether it was set in the ledger rather than by a program.

        Raises:
            LedgerError: The database cannot be read.
        """
        return _by_name(self._store.fetch(_PLANS))

    def plan(self, name: str, fields: Mapping[str, Any] | None, *, pinned: bool = False) -> bool:
        """Keep a budget's fields, or forget them. What is pinned holds in every program, whatever that says itself.

        Returns:
            Whether that changed anything.

        Raises:
            LedgerError: The database cannot be written.
        """
        mark = self._store.mark
        if fields is None:
            return self._store.execute(f"DELETE FROM budget_plans WHERE name = {mark}", (name,)) > 0  # noqa: S608
        kept = "" if pinned else " WHERE budget_plans.pinned = 0"
        sql = (
            f"INSERT INTO budget_plans (name, plan, pinned) VALUES ({mark}, {mark}, {mark}) "  # noqa: S608
            f"ON CONFLICT (name) DO UPDATE SET plan = excluded.plan, pinned = excluded.pinned{kept}"
        )
        return self._store.execute(sql, (name, json.dumps(fields, sort_keys=True), int(pinned))) > 0

    def reset(self, keys: Sequence[str]) -> int:
        """Start counters anew at nothing; calls so far, also those in flight, count no more.

        Returns:
            How many counters there were.

        Raises:
            LedgerError: The database cannot be written.
        """
        self._flush()
        mark, gone = self._store.mark, set(keys)
        with self._store.transaction(patience=_PATIENCE) as db:
            counters.keep_still(db, mark)
            # No row keeps a key, or its end would move the new counter, and a recount bring the old one back.
            charged = db.execute("SELECT call_id, budgets FROM calls WHERE budgets IS NOT NULL").fetchall()
            for call_id, budgets in charged:
                before = json.loads(budgets)
                kept = [key for key in before if key not in gone]
                if len(kept) < len(before):
                    rest = json.dumps(kept, ensure_ascii=False) if kept else None
                    sql = f"UPDATE calls SET budgets = {mark} WHERE call_id = {mark}"  # noqa: S608
                    db.execute(sql, (rest, call_id))
            sql = f"DELETE FROM budget_counters WHERE key = {mark}"  # noqa: S608
            return sum(db.execute(sql, (key,)).rowcount for key in sorted(gone))

    def recount(self) -> int:
        """Add every counter up anew from the calls that it counts, for when counters make no sense.

        Returns:
            How many counters there are.

        Raises:
            LedgerError: The database cannot be written.
        """
        self._flush()
        mark = self._store.mark
        sums: dict[str, list[int]] = {}
        with self._store.transaction(patience=_PATIENCE) as db:
            db.execute(schema.COUNTERS)  # where somebody has dropped them
            counters.keep_still(db, mark)
            alerted = dict(db.execute("SELECT key, alerted FROM budget_counters").fetchall())
            for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM calls WHERE budgets IS NOT NULL"):  # noqa: S608
                entry = tuple(row)
                for key in counters.keys_of(entry):
                    spent, reserved = counters.share(entry)
                    total = sums.setdefault(key, [0, 0])
                    total[0] += spent
                    total[1] += reserved
            db.execute("DELETE FROM budget_counters")
            for key, (spent, reserved) in sums.items():
                passed = alerted.get(key)
                db.execute(
                    f"INSERT INTO budget_counters VALUES ({mark}, {mark}, {mark}, {mark})",  # noqa: S608
                    (key, spent, reserved, passed if type(passed) is int and passed >= 0 else 0),
                )
        return len(sums)


_PLANS = "SELECT name, plan, pinned FROM budget_plans ORDER BY name"
_COUNTERS = "SELECT key, spent_pusd, reserved_pusd, alerted FROM budget_counters ORDER BY key"


def _by_name(plans: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Mapping[str, Any], bool]]:
    return {name: (_fields(plan), bool(pinned)) for name, plan, pinned in plans}


def _fields(plan: Any) -> Mapping[str, Any]:
    """A plan's fields; what is no JSON object is one that no budget has, so that nobody takes it for none."""
    with suppress(TypeError, ValueError):
        if isinstance(fields := json.loads(plan), dict):
            return cast("Mapping[str, Any]", fields)
    return {"(unreadable)": plan}
