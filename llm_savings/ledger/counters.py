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
    """A counter's state, in picodollars, and the alert (per mille) that the last call set off, if any."""

    key: str
    spent: int
    reserved: int
    alert: int = 0


class RefusedError(Exception):
    """A cap has no room for a call; nothing was written."""

    def __init__(self, full: Charged) -> None:
        super().__init__(full.key)
        self.full = full


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
    """The counters that a call is charged to, in one order for everybody: so no two writers wait for each other."""
    budgets = entry[_BUDGETS]
    return sorted(json.loads(budgets)) if isinstance(budgets, str) else []


def is_budgeted(entry: Entry) -> bool:
    """Whether the call is charged to a budget."""
    return entry[_BUDGETS] is not None


def reserve(db: Any, entry: Entry, caps: Sequence[Cap], mark: str) -> list[Charged]:
    """Charge a call that is about to leave to its counters, if every one of them has room. Inside a transaction.

    Returns:
        The counters as they are now.

    Raises:
        RefusedError: One has no room. The caller rolls back.
        LedgerError: A counter makes no sense.
    """
    _, bound = share(entry)
    # In one order for everybody, so that two calls of two machines never wait for each other.
    return [_charge_within(db, cap, bound, mark) for cap in sorted(caps, key=lambda cap: cap.key)]


def _charge_within(db: Any, cap: Cap, bound: int, mark: str) -> Charged:
    before = read(_fetching(db), [cap.key], mark).get(cap.key) or Charged(cap.key, 0, 0)
    row = None
    if bound <= cap.most:
        row = db.execute(
            f"INSERT INTO budget_counters (key, spent_pusd, reserved_pusd, alerted) VALUES ({mark}, 0, {mark}, 0) "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET reserved_pusd = budget_counters.reserved_pusd + excluded.reserved_pusd "
            "WHERE budget_counters.spent_pusd + budget_counters.reserved_pusd + excluded.reserved_pusd "
            f"<= {mark} RETURNING spent_pusd, reserved_pusd, alerted",
            (cap.key, bound, cap.most),
        ).fetchone()
    if row is None:
        raise RefusedError(before)
    spent, reserved, alerted = row
    return Charged(cap.key, spent, reserved, _alert(db, cap, spent + reserved, alerted, mark))


def _alert(db: Any, cap: Cap, charged: int, alerted: int, mark: str) -> int:
    passed = max((at for at in cap.alerts if charged * 1000 >= at * cap.most), default=0)
    if passed <= alerted:
        return 0
    db.execute(f"UPDATE budget_counters SET alerted = {mark} WHERE key = {mark}", (passed, cap.key))  # noqa: S608
    return passed


def refused(db: Any, cap: Cap, mark: str) -> int:
    """Set off a cap's last alert because it refused a call, and return it if nobody had.

    The budget is as good as spent, whatever its counter says: what is left is too little for a call.
    """
    row = db.execute(f"SELECT alerted FROM budget_counters WHERE key = {mark}", (cap.key,)).fetchone()  # noqa: S608
    return _alert(db, cap, cap.most, row[0], mark) if row else 0


def transfer(db: Any, before: Entry | None, after: Entry, mark: str) -> None:
    """Move the counters of a row from what it was (None: not there) to what it is. Inside the row's transaction."""
    old, new = (0, 0) if before is None else share(before), share(after)
    spent, reserved = new[0] - old[0], new[1] - old[1]
    if spent or reserved:
        for key in keys_of(after if before is None else before):
            db.execute(
                f"INSERT INTO budget_counters (key, spent_pusd, reserved_pusd, alerted) "  # noqa: S608
                f"VALUES ({mark}, {mark}, {mark}, 0) ON CONFLICT (key) DO UPDATE SET "
                "spent_pusd = budget_counters.spent_pusd + excluded.spent_pusd, "
                "reserved_pusd = budget_counters.reserved_pusd + excluded.reserved_pusd",
                (key, spent, reserved),
            )


def _fetching(db: Any) -> Fetch:
    return lambda sql, parameters: db.execute(sql, parameters).fetchall()


def read(fetch: Fetch, keys: Iterable[str], mark: str) -> dict[str, Charged]:
    """The counters of these names that exist.

    Raises:
        LedgerError: A counter holds what no sum of calls can be.
    """
    found: dict[str, Charged] = {}
    for key in keys:
        sql = f"SELECT spent_pusd, reserved_pusd, alerted FROM budget_counters WHERE key = {mark}"  # noqa: S608
        for row in fetch(sql, (key,)):
            found[key] = checked(key, *row)
    return found


def checked(key: str, spent: Any, reserved: Any, alerted: Any) -> Charged:
    """A counter as it was read.

    Raises:
        LedgerError: It holds what no sum of calls can be.
    """
    if any(type(value) is not int or value < 0 for value in (spent, reserved, alerted)):
        raise LedgerError(
            f"the budget counter {key!r} holds {(spent, reserved, alerted)}, which no sum of calls can be; "
            "count it anew with: llm-savings budget reset --recount"
        )
    return Charged(key, spent, reserved)
