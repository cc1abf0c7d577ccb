"""How entries become rows, in the SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from llm_savings.ledger import counters
from llm_savings.ledger.records import COLUMNS, SETTLED_COLUMNS, Entry

# Rows in one statement. Between statements Python's threads change places, at the cost of the one that makes calls;
# SQLite takes 32,766 parameters, PostgreSQL twice as many.
_MANY = 500


def is_one_statement(entries: Sequence[Entry]) -> bool:
    """Whether `write` needs no transaction around it."""
    return len(entries) == 1 and not counters.is_budgeted(entries[0])


def write(db: Any, entries: Sequence[Entry], mark: str) -> None:
    """Write entries of different calls, inside a transaction. Writing one twice changes nothing."""
    plain = [entry for entry in entries if not counters.is_budgeted(entry)]
    for start in range(0, len(plain), _MANY):
        some = plain[start : start + _MANY]
        db.execute(_upsert(len(some), mark), list(chain.from_iterable(some)))
    if len(plain) < len(entries):
        # Rows first and counters last, all in one order, so that no two writers ever wait for each other.
        budgeted = sorted(filter(counters.is_budgeted, entries), key=lambda entry: str(entry[_CALL_ID]))
        changes: list[tuple[Entry | None, Entry]] = []
        for start in range(0, len(budgeted), _MANY):
            changes += _charged(db, budgeted[start : start + _MANY], mark)
        counters.transfer(db, changes, mark)


def reserve(db: Any, entry: Entry, caps: Sequence[counters.Cap], mark: str) -> list[counters.Charged]:
    """Write a call that is about to leave and charge its counters, inside a transaction; see `counters.reserve`."""
    if not db.execute(_upsert(1, mark), entry).rowcount:
        entry, caps = _joined(db, entry, caps, mark)
    return counters.reserve(db, entry, caps, mark)


def reserve_all(db: Any, entries: Iterable[Entry], caps: Sequence[counters.Cap], mark: str) -> list[counters.Charged]:
    """Write calls that are about to leave and charge their counters with what they reserve together."""
    insert = _INSERT.format(", ".join([mark] * len(COLUMNS)))
    total, last = 0, None
    for entry in entries:
        if last is None:  # counters begin before there are calls that were charged to them
            counters.reserve(db, (*entry[:_RESERVED], 0, *entry[_RESERVED + 1 :]), caps, mark)
        last = entry
        if db.execute(insert, entry).rowcount:
            total += counters.share(entry)[1]
    if last is None:
        return []
    return counters.reserve(db, (*last[:_RESERVED], total, *last[_RESERVED + 1 :]), caps, mark)


def _joined(db: Any, entry: Entry, caps: Sequence[counters.Cap], mark: str) -> tuple[Entry, Sequence[counters.Cap]]:
    """A call that is there already, since two callbacks meter it: what is held for it, and the caps still to charge."""
    before = stored(db, entry[_CALL_ID], mark)
    if before is None or before[_STATUS] != "sent":
        return entry, caps
    known = counters.keys_of(before)
    held = before[_RESERVED] if known else entry[_RESERVED]
    more = [cap for cap in caps if cap.key not in known]
    if more:
        keys = json.dumps([*known, *(cap.key for cap in more)], ensure_ascii=False)
        sql = f"UPDATE calls SET budgets = {mark}, reserved_pusd = {mark} WHERE call_id = {mark}"  # noqa: S608
        db.execute(sql, (keys, held, entry[_CALL_ID]))
    return (*entry[:_RESERVED], held, *entry[_RESERVED + 1 :]), more


def _charged(db: Any, entries: Sequence[Entry], mark: str) -> list[tuple[Entry | None, Entry]]:
    """Write calls that are charged to budgets, and tell what changed. Nearly all end what is there."""
    found = _stored(db, [entry[_CALL_ID] for entry in entries], mark)
    ends = [
        (before, entry)
        for entry in entries
        if (before := found.get(entry[_CALL_ID])) is not None and before[_STATUS] == "sent" != entry[_STATUS]
    ]
    if ends:
        db.execute(_upsert(len(ends), mark), list(chain.from_iterable(entry for _, entry in ends)))
    new = (_begun(db, entry, mark) for entry in entries if entry[_CALL_ID] not in found)
    return [*ends, *filter(None, new)]


def _begun(db: Any, entry: Entry, mark: str) -> tuple[Entry | None, Entry] | None:
    """Write a call that was not there; what became of it, unless nothing did."""
    if db.execute(_INSERT.format(", ".join([mark] * len(COLUMNS))), entry).rowcount:
        return None, entry
    before = stored(db, entry[_CALL_ID], mark)  # another machine has written it just now
    if before is None or before[_STATUS] != "sent" or entry[_STATUS] == "sent":
        return None
    _end(db, entry, mark)
    return before, entry


def reconcile(db: Any, entries: Sequence[Entry], mark: str) -> int:
    """Write what unknown calls turned out to be, inside a transaction; how many were unknown until now."""
    changes: list[tuple[Entry | None, Entry]] = []
    for entry in sorted(entries, key=lambda entry: str(entry[_CALL_ID])):
        before = stored(db, entry[_CALL_ID], mark)
        if before is not None and before[_BASIS] in _UNKNOWN:  # a call still `sent` has the basis unknown, too
            _end(db, entry, mark)
            changes.append((before, entry))
    counters.transfer(db, changes, mark)
    return len(changes)


def _end(db: Any, entry: Entry, mark: str) -> None:
    sql = f"UPDATE calls SET {', '.join(f'{name} = {mark}' for name in _END)} WHERE call_id = {mark}"  # noqa: S608
    db.execute(sql, [*(entry[place] for place in _END.values()), entry[_CALL_ID]])


def stored(db: Any, call_id: Any, mark: str) -> Entry | None:
    """A call's row, held until the transaction ends so that nobody changes it meanwhile."""
    return _stored(db, [call_id], mark).get(call_id)


def _stored(db: Any, call_ids: Sequence[Any], mark: str) -> dict[Any, Entry]:
    hold = ' ORDER BY call_id COLLATE "C" FOR UPDATE' if mark == "%s" else ""  # SQLite has one writer at a time anyway
    marks = ", ".join([mark] * len(call_ids))
    sql = f"SELECT {', '.join(COLUMNS)} FROM calls WHERE call_id IN ({marks}){hold}"  # noqa: S608
    return {row[_CALL_ID]: tuple(row) for row in db.execute(sql, call_ids).fetchall()}


_CALL_ID, _STATUS, _BASIS, _RESERVED = (COLUMNS.index(name) for name in ("call_id", "status", "basis", "reserved_pusd"))
_UNKNOWN = ("unknown", "suspect")
_INSERT = f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({{}}) ON CONFLICT (call_id) DO NOTHING"  # noqa: S608
_END = {name: COLUMNS.index(name) for name in ("mode", *SETTLED_COLUMNS)}


@lru_cache(maxsize=8)
def _upsert(rows: int, mark: str) -> str:
    """Writes calls: a new row, or the end of a row that has none. Whatever comes later changes nothing."""
    values = f"({', '.join([mark] * len(COLUMNS))})"
    changes = ", ".join(f"{c} = excluded.{c}" for c in ("mode", *SETTLED_COLUMNS))
    return (
        f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES {', '.join([values] * rows)} "  # noqa: S608
        f"ON CONFLICT (call_id) DO UPDATE SET {changes} WHERE calls.status = 'sent' AND excluded.status <> 'sent' "
        # Who knows nothing of a call's budgets must not end it: its counters would not move.
        "AND (calls.budgets IS NULL OR excluded.budgets IS NOT NULL)"
    )
