"""Sums over the ledger: by model, day, user, host or tag, exact to the last decimal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import reduce
from operator import attrgetter
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from llm_savings.errors import ConfigError
from llm_savings.ledger.records import from_microseconds, from_picodollars, microseconds
from llm_savings.ledger.stores import Store
from llm_savings.periods import midnight
from llm_savings.pricing.amounts import EXACT
from llm_savings.usage import FIELDS, Usage

_ZERO = Decimal(0)
# Every zone in use is a whole number of quarter hours from UTC, so quarters of an hour add up to anybody's days.
_QUARTER = 900_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report: the calls that share a key.

    Attributes:
        key: The model, day (ISO date in the zone asked for), user, host or tag value; "" for none.
        calls: How many calls, whatever became of them.
        hits: Answered by a cache for $0.
        errors: Ended in an error.
        estimated: Calls whose figure is an estimate.
        unknown: Calls that may have been billed at a figure nobody told, suspect ones included.
        unpriced: Calls whose tokens are known and whose price is not.
        unbounded: Unknown calls without an upper bound.
        unvalued: Hits of calls whose price is not known: what they saved nobody knows.
        usage: Tokens of all settled calls; those of cache hits were not consumed and are not in here.
        actual: USD spent, measured and estimated.
        estimated_usd: The part of `actual` that is estimated.
        baseline: USD the same calls would have cost with nothing saved, where that is known.
        unknown_bound: USD that the unknown calls together cannot exceed (see `unbounded`).
    """

    key: str
    calls: int = 0
    hits: int = 0
    errors: int = 0
    estimated: int = 0
    unknown: int = 0
    unpriced: int = 0
    unbounded: int = 0
    unvalued: int = 0
    usage: Usage = field(default_factory=Usage)
    actual: Decimal = _ZERO
    estimated_usd: Decimal = _ZERO
    baseline: Decimal = _ZERO
    unknown_bound: Decimal = _ZERO

    @property
    def saved(self) -> Decimal:
        """Baseline minus actual, in USD; negative when a strategy cost more than it saved."""
        return EXACT.subtract(self.baseline, self.actual)

    @property
    def known(self) -> bool:
        """Whether the price of any of its calls is known; else its amounts are unknown, and not $0."""
        return not self.calls or self.unknown + self.unpriced < self.calls

    @property
    def valued(self) -> bool:
        """Whether what any of its calls saved is known; else `saved` is unknown, and not $0."""
        return not self.calls or self.unknown + self.unpriced + self.unvalued < self.calls

    def __add__(self, other: Line) -> Line:
        return added(self.key, (self, other))


def added(key: str, lines: Iterable[Line]) -> Line:
    """Lines as one, of another key; column by column, which takes a third of adding them one to another."""
    return Line(key, *map(_sum, zip(*map(_VALUES, lines), strict=True)))


def _sum(column: Sequence[Any]) -> Any:
    return reduce(EXACT.add, column) if isinstance(column[0], Decimal) else sum(column)  # whatever the context is


_VALUES = attrgetter(*(name for name in Line.__dataclass_fields__ if name != "key"))

By = Literal["model", "day", "user", "host", "total"] | str
"""What to group by; `tag:NAME` groups by the value of one of the user's tags."""


def summarize(
    store: Store,
    by: By = "model",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    tz: str | tzinfo = "UTC",
) -> list[Line]:
    """Lines of a report, the most expensive first (days in order).

    Args:
        store: The ledger's store.
        by: "model", "day", "user", "host", "total", or "tag:NAME".
        since: Calls started at or after this instant (aware).
        until: Calls started before this instant (aware).
        tz: The zone whose days are meant, such as "Asia/Seoul".

    Raises:
        ConfigError: `by` or `tz` is not one of these.
        LedgerError: The store cannot be read.
    """
    column, rekey = _grouping(by, zone(tz))
    where, parameters = _period(store, since, until)
    sql = _QUERY.format(column=column, where=where)
    lines: dict[str, Line] = {}

    def sums(part: tuple[int, int]) -> list[Mapping[str, Any]]:
        return list(store.rows(sql, (*part, *parameters)))

    # SQLite lets go of the GIL while it sums, so the parts of a large file are summed side by side.
    with ThreadPoolExecutor(max_workers=4) as threads:
        for rows in threads.map(sums, store.parts()):
            for row in rows:
                line = _line(rekey(row["key"]), row)
                lines[line.key] = lines[line.key] + line if line.key in lines else line
    if by == "day":
        return [lines[key] for key in sorted(lines)]
    return sorted(lines.values(), key=lambda line: (-line.actual, -line.calls, line.key))


def total(lines: list[Line]) -> Line:
    """All lines in one.

    Example:
        >>> total([Line("a", calls=1), Line("b", calls=2)]).calls
        3
    """
    return added("total", lines) if lines else Line("total")


def zone(tz: str | tzinfo) -> tzinfo:
    """A time zone by name.

    Raises:
        ConfigError: There is no such zone.
    """
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"tz is {tz!r}; expected an IANA zone name such as 'Asia/Seoul' or 'UTC'") from error


def day_start(day: date, tz: str | tzinfo) -> datetime:
    """The first instant (UTC) of a day in a zone, also where its clocks change at midnight."""
    return midnight(day, zone(tz))


# Sums are taken in two halves of the bits, because a plain sum of picodollars overflows 64 bits at 9.2 million
# dollars. Shifts and masks agree on negative amounts in SQLite and PostgreSQL.
_BITS = 20
_MONEY = {"actual": "actual_pusd", "baseline": "COALESCE(baseline_pusd, actual_pusd)", "bound": "bound_pusd"}
_SUMS = ", ".join(
    [f"SUM({sql} >> {_BITS}) AS {name}_hi, SUM({sql} & {2**_BITS - 1}) AS {name}_lo" for name, sql in _MONEY.items()]
    + [f"SUM({name}_tokens) AS {name}_tokens" for name in FIELDS]
)
_QUERY = (  # filled with column names from this module and parameter marks only
    "SELECT {column} AS key, basis, status, COUNT(*) AS calls, COUNT(bound_pusd) AS bounded, "  # noqa: S608
    "COUNT(baseline_pusd) AS valued, " + _SUMS + " FROM calls WHERE {where} GROUP BY 1, 2, 3"
)


def _line(key: str, row: Mapping[str, Any]) -> Line:
    calls, basis, status = int(row["calls"]), row["basis"], row["status"]
    actual = _dollars(row, "actual")
    unknown = basis in ("unknown", "suspect")
    hit = status == "hit"
    usage = Usage() if hit else Usage(**{name: int(row[f"{name}_tokens"] or 0) for name in FIELDS})
    return Line(
        key=key,
        calls=calls,
        hits=calls if hit else 0,
        errors=calls if status == "error" else 0,
        estimated=calls if basis == "estimated" else 0,
        unknown=calls if unknown else 0,
        unpriced=calls if basis == "unpriced" else 0,
        unbounded=calls - int(row["bounded"]) if unknown else 0,
        unvalued=calls - int(row["valued"]) if hit else 0,
        usage=usage,
        actual=actual,
        estimated_usd=actual if basis == "estimated" else _ZERO,
        baseline=_dollars(row, "baseline") if basis != "unpriced" else _ZERO,
        unknown_bound=_dollars(row, "bound") if unknown else _ZERO,
    )


def _dollars(row: Mapping[str, Any], name: str) -> Decimal:
    high, low = row[f"{name}_hi"] or 0, row[f"{name}_lo"] or 0
    return from_picodollars((int(high) << _BITS) + int(low)) or _ZERO


def _grouping(by: By, tz: tzinfo) -> tuple[str, Callable[[Any], str]]:
    if by == "total":
        return "CAST('' AS TEXT)", lambda _: "total"
    if by == "day":
        return f"started_us / {_QUARTER}", lambda q: _day(int(q), tz)
    if by in ("model", "user", "host"):
        # A call that never came back is counted under the model it asked for.
        column = {"model": "COALESCE(model, requested_model)", "user": "user_id", "host": "host"}[by]
        return column, lambda value: value or ""
    if by.startswith("tag:") and (name := by.removeprefix("tag:")):
        return "tags", lambda tags: str(json.loads(tags).get(name, "")) if tags else ""
    more = "(in llm-savings report also 'strategy' and 'prefix')"
    raise ConfigError(f"by is {by!r}; expected 'model', 'day', 'user', 'host', 'total' or 'tag:NAME' {more}")


def _day(quarter: int, tz: tzinfo) -> str:
    return (from_microseconds(quarter * _QUARTER)).astimezone(tz).date().isoformat()


def _period(store: Store, since: datetime | None, until: datetime | None) -> tuple[str, list[int]]:
    bounds = [(">=", since), ("<", until)]
    used = [(sign, microseconds(moment)) for sign, moment in bounds if moment is not None]
    part = f"id >= {store.mark} AND id < {store.mark}"
    where = " AND ".join([part, *(f"started_us {sign} {store.mark}" for sign, _ in used)])
    return where, [micros for _, micros in used]


def last_days(days: int, tz: str | tzinfo, now: datetime) -> datetime:
    """The start of the period of so many days that ends today, in a zone."""
    return day_start(now.astimezone(zone(tz)).date() - timedelta(days=days - 1), tz)
