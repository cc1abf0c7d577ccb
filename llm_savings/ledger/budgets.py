"""`BudgetBook`: what a ledger keeps of budgets beside the calls: their counters, and the plans they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, cast

from llm_savings.ledger import counters, rows, schema
from llm_savings.ledger.counters import Cap, Charged, RefusedError
from llm_savings.ledger.records import COLUMNS, Entry, clean
from llm_savings.ledger.stores import Store

# How long a call waits for other processes to finish theirs. Each holds the file for well under a millisecond.
_PATIENCE = 5.0
_MANY = 500  # counters in one statement


class BudgetBook:
    """Counters and plans of budgets. Amounts are picodollars; a counter's key is `name|period|label|scope`."""

    def __init__(self, store: Store, flush: Callable[..., bool]) -> None:
        self._store, self._flush = store, flush

    def reserve(self, entry: Entry, caps: Sequence[Cap]) -> list[Charged]:
        """Write a call that is about to leave, if every cap has room for what it reserves.

        Returns:
            The counters as they are now, with the alerts that this call set off.

        Raises:
            RefusedError: A cap has no room; nothing was written.
            LedgerError: The database cannot be written, or a counter makes no sense.
        """
        entry = clean(entry)
        try:
            return self._reserve(entry, caps)
        except RefusedError as refusal:
            if not refusal.full.reserved:
                raise
        self._flush(living=False)  # what calls of ours that have ended give back may be on its way
        return self._reserve(entry, caps)

    def _reserve(self, entry: Entry, caps: Sequence[Cap]) -> list[Charged]:
        with self._store.transaction(patience=_PATIENCE) as db:
            return rows.reserve(db, entry, caps, self._store.mark)

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
            keys = [row["key"] for row in self._store.rows("SELECT key FROM budget_counters ORDER BY key")]
        found: dict[str, Charged] = {}
        with self._store.transaction() as db:
            for start in range(0, len(keys), _MANY):
                found |= counters.read(db, keys[start : start + _MANY], self._store.mark)
        return found

    def plans(self) -> dict[str, tuple[Mapping[str, Any], bool]]:
        """Every budget's fields by its name, and whether it was set in the ledger rather than by a program.

        Raises:
            LedgerError: The database cannot be read.
        """
        found = self._store.rows("SELECT name, plan, pinned FROM budget_plans ORDER BY name")
        with closing(found):  # type: ignore[arg-type]
            return {row["name"]: (_fields(row["plan"]), bool(row["pinned"])) for row in found}

    def plan(self, name: str, fields: Mapping[str, Any] | None, *, pinned: bool = False) -> None:
        """Keep a budget's fields, or forget them. What is pinned holds in every program, whatever that says itself.

        Raises:
            LedgerError: The database cannot be written.
        """
        mark = self._store.mark
        if fields is None:
            self._store.execute(f"DELETE FROM budget_plans WHERE name = {mark}", (name,))  # noqa: S608
            return
        kept = "" if pinned else " WHERE budget_plans.pinned = 0"
        self._store.execute(
            f"INSERT INTO budget_plans (name, plan, pinned) VALUES ({mark}, {mark}, {mark}) "  # noqa: S608
            f"ON CONFLICT (name) DO UPDATE SET plan = excluded.plan, pinned = excluded.pinned{kept}",
            (name, json.dumps(fields, sort_keys=True), int(pinned)),
        )

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
            for key in sorted(gone):
                # No row keeps the key, or its end would move the new counter, and a recount bring the old one back.
                quoted = json.dumps(key, ensure_ascii=False)
                sql = f"SELECT call_id, budgets FROM calls WHERE replace(budgets, {mark}, '') <> budgets"  # noqa: S608
                for call_id, budgets in db.execute(sql, (quoted,)).fetchall():
                    rest = json.dumps([k for k in json.loads(budgets) if k != key], ensure_ascii=False)
                    sql = f"UPDATE calls SET budgets = {mark} WHERE call_id = {mark}"  # noqa: S608
                    db.execute(sql, (None if rest == "[]" else rest, call_id))
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


def _fields(plan: Any) -> Mapping[str, Any]:
    """A plan's fields; what is no JSON object is one that no budget has, so that nobody takes it for none."""
    with suppress(TypeError, ValueError):
        if isinstance(fields := json.loads(plan), dict):
            return cast("Mapping[str, Any]", fields)
    return {"(unreadable)": plan}
