"""What budgets have been charged: counters that move in the same transaction as the calls they count.

A call's row is its reservation. Whatever happens to the row (written, settled, reconciled, by whichever process, once
or twice) moves the counters by the difference it makes, so they always equal the sum over their rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llm_savings.errors import LedgerError
from llm_savings.ledger.records import COLUMNS, Entry

_CALL_ID, _STATUS, _BASIS, _ACTUAL, _RESERVED, _BUDGETS = (
    COLUMNS.index(name) for name in ("call_id", "status", "basis", "actual_pusd", "reserved_pusd", "budgets")
)
_KNOWN = ("measured", "estimated")
# Calls looked through for traces of a counter that is gone: a new counter's first call takes some 0.3 ms longer.
_RECENT = 1_000

Fetch = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a query and returns its rows."""


@dataclass(frozen=True, slots=True)
class Cap:
    """One limit that a call has to pass.

    Attributes:
        key: The counter's name.
        most: Picodollars that it may hold.
        alerts: Per mille of `most` at which to alert, rising.
    """

    key: str
    most: int
    alerts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Charged:
    """A counter's state, in picodollars.

    Attributes:
        key: The counter's name.
        spent: What its calls are known to have cost.
        reserved: What is held for the others.
        alert: The last alert (per mille) that it has set off; of `reserve`, the one that this call set off, or 0.
    """

    key: str
    spent: int
    reserved: int
    alert: int = 0

    @property
    def charged(self) -> int:
        """What no other call can have."""
        return self.spent + self.reserved


class RefusedError(Exception):
    """A cap has no room for a call; nothing was written."""

    def __init__(self, full: Charged) -> None:
        super().__init__(full.key)
        self.full = full


class BusyError(LedgerError):
    """Others hold the database, and nobody wanted to wait."""


class CorruptError(LedgerError):
    """What the ledger holds of a budget makes no sense, so nobody knows what is left of it."""


def share(entry: Entry) -> tuple[int, int]:
    """A row's part of its counters: picodollars spent and reserved.

    What is not known to have cost less stays at what was reserved for it.
    """
    held, actual = entry[_RESERVED], entry[_ACTUAL]
    reserved = held if isinstance(held, int) else 0
    if entry[_STATUS] == "sent":
        return 0, reserved
    return (actual, 0) if entry[_BASIS] in _KNOWN and isinstance(actual, int) else (reserved, 0)


def keys_of(entry: Entry) -> list[str]:
    """The counters that a call is charged to."""
    budgets = entry[_BUDGETS]
    return json.loads(budgets) if isinstance(budgets, str) else []


def is_budgeted(entry: Entry) -> bool:
    """Whether the call is charged to a budget."""
    return entry[_BUDGETS] is not None


def may_wait(entry: Entry) -> bool:
    """Whether nobody can spend too much as long as the entry is on its way: it gives back, or concerns no budget."""
    if entry[_BUDGETS] is None:
        return True
    held = entry[_RESERVED]
    ended = len(entry) > _STATUS and entry[_STATUS] != "sent"
    return ended and isinstance(held, int) and sum(share(entry)) <= held


def reserve(db: Any, entry: Entry, caps: Sequence[Cap], mark: str) -> list[Charged]:
    """Charge a call that is about to leave to its counters, if every one of them has room. Inside a transaction.

    Returns:
        The counters as they are now.

    Raises:
        RefusedError: One has no room. The caller rolls back.
        CorruptError: A counter makes no sense.
    """
    _, bound = share(entry)
    caps = sorted(caps, key=lambda cap: cap.key)
    keys = [cap.key for cap in caps]
    fetch = _fetching(db)
    found = read(fetch, keys, mark, hold=True)
    if new := [key for key in keys if key not in found]:
        for key in new:
            _begin(db, key, entry, mark)
        found = read(fetch, keys, mark, hold=True)  # another machine may have begun it at the same time
    for cap in caps:
        if found[cap.key].charged + bound > cap.most:
            raise RefusedError(found[cap.key])
    # Not one statement with a condition and RETURNING, which takes SQLite three times as long.
    sql = f"UPDATE budget_counters SET reserved_pusd = reserved_pusd + {mark} WHERE key IN ({_list(keys, mark)})"  # noqa: S608
    db.execute(sql, (bound, *keys))
    return [_charged(db, cap, found[cap.key], bound, mark) for cap in caps]


def _charged(db: Any, cap: Cap, before: Charged, bound: int, mark: str) -> Charged:
    alert = _alert(db, cap, before.charged + bound, before.alert, mark)
    return Charged(cap.key, before.spent, before.reserved + bound, alert)


def _begin(db: Any, key: str, entry: Entry, mark: str) -> None:
    if _is_charged(db, key, entry, mark) and not read(_fetching(db), [key], mark):
        raise CorruptError(
            f"the budget counter {key!r} is gone, but calls were charged to it; "
            "count it anew with: llm-savings budget reset --recount"
        )
    sql = f"INSERT INTO budget_counters VALUES ({mark}, 0, 0, 0) ON CONFLICT (key) DO NOTHING"  # noqa: S608
    db.execute(sql, (key,))


def _is_charged(db: Any, key: str, entry: Entry, mark: str) -> bool:
    """Whether one of the latest other calls cost something and was charged to this counter."""
    sql = (
        f"SELECT 1 FROM (SELECT * FROM calls ORDER BY id DESC LIMIT {_RECENT}) AS recent "  # noqa: S608
        f"WHERE replace(budgets, {mark}, '') <> budgets AND call_id <> {mark} "
        "AND (COALESCE(reserved_pusd, 0) > 0 OR COALESCE(actual_pusd, 0) > 0)"
    )
    quoted = json.dumps(key, ensure_ascii=False)
    return db.execute(sql, (quoted, entry[_CALL_ID])).fetchone() is not None


def _alert(db: Any, cap: Cap, charged: int, alerted: int, mark: str) -> int:
    """The alert (per mille) that a counter sets off with so much charged, or 0 if there is none after the last one."""
    passed = max([at for at in cap.alerts if charged * 1000 >= at * cap.most], default=0)
    if passed <= alerted:
        return 0
    db.execute(f"UPDATE budget_counters SET alerted = {mark} WHERE key = {mark}", (passed, cap.key))  # noqa: S608
    return passed


def refused(db: Any, cap: Cap, mark: str) -> int:
    """Set off a cap's last alert because it refused a call, and return it if nobody had.

    The budget is as good as spent, whatever its counter says: what is left is too little for a call.
    """
    found = read(_fetching(db), [cap.key], mark, hold=True).get(cap.key)
    return _alert(db, cap, cap.most, found.alert, mark) if found else 0


# What makes no sense stays so until it is counted anew, or adding to it could make it look right.
_SOUND = " AND ".join(
    f"budget_counters.{name} >= 0 AND CAST(budget_counters.{name} AS BIGINT) = budget_counters.{name}"
    for name in ("spent_pusd", "reserved_pusd")
)


def transfer(db: Any, changes: Iterable[tuple[Entry | None, Entry]], mark: str) -> None:
    """Move the counters of rows from what these were (None: not there) to what they are. Inside their transaction."""
    moves: dict[str, tuple[int, int]] = {}
    for before, after in changes:
        old, new = (0, 0) if before is None else share(before), share(after)
        if old != new:
            for key in keys_of(after if before is None else before):
                spent, reserved = moves.get(key, (0, 0))
                moves[key] = spent + new[0] - old[0], reserved + new[1] - old[1]
    for key, (spent, reserved) in sorted(moves.items()):
        db.execute(
            f"INSERT INTO budget_counters (key, spent_pusd, reserved_pusd, alerted) "  # noqa: S608
            f"VALUES ({mark}, {mark}, {mark}, 0) ON CONFLICT (key) DO UPDATE SET "
            "spent_pusd = budget_counters.spent_pusd + excluded.spent_pusd, "
            f"reserved_pusd = budget_counters.reserved_pusd + excluded.reserved_pusd WHERE {_SOUND}",
            (key, spent, reserved),
        )


def keep_still(db: Any, mark: str) -> None:
    """Let nobody else move a counter, or end a call, until the transaction ends."""
    if mark == "%s":  # SQLite has one writer at a time anyway
        # Rows first and counters last, as those who write calls do, so that nobody waits for the other.
        db.execute("LOCK TABLE calls IN EXCLUSIVE MODE")
        db.execute("LOCK TABLE budget_counters IN EXCLUSIVE MODE")


def _fetching(db: Any) -> Fetch:
    return lambda sql, parameters: db.execute(sql, parameters).fetchall()


def read(fetch: Fetch, keys: Sequence[str], mark: str, *, hold: bool = False) -> dict[str, Charged]:
    """The counters of these names that exist, with the last alert that each has set off.

    Args:
        fetch: Runs the query.
        keys: Their names.
        mark: The placeholder of a parameter.
        hold: Whether nobody else may move them until the transaction ends.

    Raises:
        CorruptError: A counter holds what no sum of calls can be.
    """
    if not keys:
        return {}
    # In one order for everybody, so that no two writers wait for each other. SQLite has one writer at a time anyway.
    held = ' ORDER BY key COLLATE "C" FOR UPDATE' if hold and mark == "%s" else ""
    sql = f"SELECT key, spent_pusd, reserved_pusd, alerted FROM budget_counters WHERE key IN ({_list(keys, mark)})"  # noqa: S608
    return {row[0]: checked(*row) for row in fetch(sql + held, keys)}


def _list(keys: Sequence[str], mark: str) -> str:
    return ", ".join([mark] * len(keys))


def checked(key: str, *values: Any) -> Charged:
    """A counter as it was read: what is spent, what is held, and its last alert.

    Raises:
        CorruptError: It holds what no sum of calls can be.
    """
    if not all([type(value) is int and value >= 0 for value in values]):  # noqa: C419 (quicker, in every call)
        raise CorruptError(
            f"the budget counter {key!r} holds {values}, which no sum of calls can be; "
            "count it anew with: llm-savings budget reset --recount"
        )
    return Charged(key, *values)
