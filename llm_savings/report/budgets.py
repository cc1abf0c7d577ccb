"""Where budgets stand: what is spent and held, how fast it goes, and when it will be gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_CEILING, Decimal
from typing import Any, cast

from llm_savings.budget import Budget, parts_of
from llm_savings.errors import ConfigError
from llm_savings.ledger import Ledger
from llm_savings.ledger.counters import Charged
from llm_savings.ledger.records import from_picodollars
from llm_savings.periods import PERIODS, Period, window

_ZERO = Decimal(0)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MICROSECONDS = Decimal(3_600_000_000)  # in an hour
_FAR = Decimal(24 * 3650)  # hours; what lasts ten years does not run out


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one limit of a budget stands at one moment.

    Attributes:
        budget: The budget's name.
        period: Which limit.
        label: Which day (hour, week, month), in the budget's zone.
        scope: Whose, such as "user=kim"; "" when it is everybody's.
        at: The moment (UTC).
        limit: USD, or None when no program and nobody here has said it.
        spent: USD, with what calls of unknown cost may have cost at most.
        held: USD held for calls in flight.
        begins: The period's first instant (UTC), or None for `total`.
        resets_at: The next period's first instant (UTC), or None for `total`.
        per_hour: USD an hour over the period so far (for `total` over the last 24 hours), or None before it is an
            hour old and for past periods.
        last_hour: USD over the last hour, or None for past periods.
    """

    budget: str
    period: Period
    label: str
    scope: str
    at: datetime
    limit: Decimal | None
    spent: Decimal = _ZERO
    held: Decimal = _ZERO
    begins: datetime | None = None
    resets_at: datetime | None = None
    per_hour: Decimal | None = None
    last_hour: Decimal | None = None

    @property
    def key(self) -> str:
        """The counter's name in the ledger."""
        return f"{self.budget}|{self.period}|{self.label}|{self.scope}"

    @property
    def charged(self) -> Decimal:
        """USD that count against the limit: spent and held."""
        return self.spent + self.held

    @property
    def left(self) -> Decimal | None:
        """USD that calls may still hold."""
        return None if self.limit is None else max(self.limit - self.charged, _ZERO)

    @property
    def share(self) -> Decimal | None:
        """The part of the limit that is charged; 1 is all of it."""
        return None if self.limit is None else self.charged / self.limit

    @property
    def percent(self) -> str:
        """The share as it is shown: rounded down, as what is not all spent is not 100%."""
        if self.share is None:
            return "–"
        return "<1%" if 0 < self.share < Decimal("0.01") else f"{int(self.share * 100)}%"

    @property
    def rate(self) -> Decimal | None:
        """USD an hour to reckon with: the period's so far, or the last hour's where that is faster and tells of today.

        An hour at noon says little of the week or month to come.
        """
        rates = (self.per_hour, self.last_hour if self.period in ("hourly", "daily") else None)
        return max((rate for rate in rates if rate is not None), default=None)

    @property
    def forecast(self) -> Decimal | None:
        """USD charged by the period's end if it goes on at this rate; None for `total` and past periods."""
        if self.rate is None or self.resets_at is None:
            return None
        return forecast(self.charged, self.rate, self.resets_at - self.at)

    @property
    def runs_out_at(self) -> datetime | None:
        """When the limit is reached at this rate (UTC); None when it is not, in this period or in ten years."""
        if self.limit is None or self.rate is None:
            return None
        return runs_out(self.limit - self.charged, self.rate, self.at, self.resets_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget as a ledger knows it.

    Attributes:
        name: Its name.
        plan: Its fields, or None when only its counters are known.
        set_here: Whether the plan was set in the ledger, and holds in every program, or comes from a program.
        standings: Its limits now, the most used first.
        past: Counters that no call is charged to any more, the newest first.
    """

    name: str
    plan: Budget | None
    set_here: bool
    standings: tuple[Standing, ...]
    past: tuple[Standing, ...]


def hours(span: timedelta) -> Decimal:
    """A span in hours, exactly to the microsecond.

    Example:
        >>> hours(timedelta(minutes=90))
        Decimal('1.5')
    """
    return Decimal(span // timedelta(microseconds=1)) / _MICROSECONDS


def burn_rate(spent: Decimal, since: datetime, until: datetime) -> Decimal | None:
    """USD an hour between two instants; None when they are less than an hour apart, which is too little to tell.

    Example:
        >>> burn_rate(Decimal(6), datetime(2026, 11, 23, 9, tzinfo=UTC), datetime(2026, 11, 23, 12, tzinfo=UTC))
        Decimal('2')
    """
    return spent / hours(until - since) if until - since >= _HOUR else None


def forecast(charged: Decimal, rate: Decimal, left: timedelta) -> Decimal:
    """USD charged after so much more time at this rate (USD an hour).

    Example:
        >>> forecast(Decimal(10), Decimal(2), timedelta(hours=3))
        Decimal('16')
    """
    return charged + rate * hours(left)


def runs_out(left: Decimal, rate: Decimal, at: datetime, resets_at: datetime | None) -> datetime | None:
    """When so many dollars are gone at this rate (USD an hour); None when the period ends first, or in ten years.

    Example:
        >>> runs_out(Decimal(3), Decimal(2), datetime(2026, 11, 23, 9, tzinfo=UTC), None)
        datetime.datetime(2026, 11, 23, 10, 30, tzinfo=datetime.timezone.utc)
    """
    if left <= 0:
        return at
    if not rate or left / rate > _FAR:
        return None
    micros = (left / rate * _MICROSECONDS).to_integral_value(ROUND_CEILING)
    gone = at + timedelta(microseconds=int(micros))
    return gone if resets_at is None or gone < resets_at else None


def budget_states(ledger: Ledger, at: datetime | None = None) -> list[BudgetState]:
    """Every budget that a ledger knows, by name.

    Args:
        ledger: The ledger.
        at: The moment (aware); now by default.

    Raises:
        LedgerError: The ledger cannot be read, or a counter in it makes no sense.
        ConfigError: A plan in it makes no sense.
    """
    at = (at or datetime.now(UTC)).astimezone(UTC)
    said, charged = ledger.budgets.known()
    plans = {name: (_plan(name, fields), here) for name, (fields, here) in said.items()}
    counters: dict[str, dict[str, Charged]] = {name: {} for name in plans}
    for key, counter in charged.items():
        counters.setdefault(parts_of(key)[0], {})[key] = counter
    if not counters:
        return []
    hour = _by_limit(ledger.budgets.spent_since(at - _HOUR))
    endless = any(plan.total is not None for plan, _ in plans.values())
    day = _by_limit(ledger.budgets.spent_since(at - _DAY)) if endless else {}
    return [_state(name, *plans.get(name, (None, False)), counters[name], at, hour, day) for name in sorted(counters)]


def by_use(states: Sequence[BudgetState]) -> list[tuple[Standing, BudgetState]]:
    """The limits of all budgets, the most used first."""
    limits = ((standing, state) for state in states for standing in state.standings)
    return sorted(limits, key=lambda pair: -(pair[0].share or 0))


def _state(
    name: str,
    plan: Budget | None,
    set_here: bool,
    counters: Mapping[str, Charged],
    at: datetime,
    hour: Mapping[_Limit, Decimal],
    day: Mapping[_Limit, Decimal],
) -> BudgetState:
    windows = {p: window(p, at, plan.zone) for p in PERIODS if plan.amount(p) is not None} if plan else {}
    nothing = {limit.key: Charged(limit.key, 0, 0) for limit in plan.limits(at)} if plan and not plan.per else {}
    now: list[Standing] = []
    past: list[Standing] = []
    for key, counter in {**nothing, **counters}.items():
        _, period, label, scope = parts_of(key)
        standing = Standing(
            budget=name,
            period=cast("Period", period),
            label=label,
            scope=scope,
            at=at,
            limit=plan and plan.amount(cast("Period", period)),
            spent=_usd(counter.spent),
            held=_usd(counter.reserved),
        )
        current = windows.get(standing.period)
        # A plan that has become another leaves counters behind.
        if plan is None or current is None or current.label != label or not _is_whose(plan, scope):
            past.append(standing)
            continue
        limit = (name, period, scope)
        begins, spent = (current.begins, standing.spent) if current.begins else (at - _DAY, day.get(limit, _ZERO))
        now.append(
            replace(
                standing,
                begins=current.begins,
                resets_at=current.ends,
                per_hour=burn_rate(spent, begins, at),
                last_hour=hour.get(limit, _ZERO),
            )
        )
    now.sort(key=lambda s: (-(s.share or _ZERO), PERIODS.index(s.period), s.scope))
    past.sort(key=lambda s: s.label, reverse=True)
    return BudgetState(name=name, plan=plan, set_here=set_here, standings=tuple(now), past=tuple(past))


def _is_whose(plan: Budget, scope: str) -> bool:
    return scope.startswith(f"{plan.per}=") if plan.per else not scope


def budget_document(state: BudgetState, *, past: bool = False) -> dict[str, Any]:
    """A budget for machines: exact amounts as decimal text, instants in the budget's zone."""
    zone = state.plan.zone if state.plan else UTC
    standings = [*state.standings, *(state.past if past else ())]
    return {
        "name": state.name,
        "set_in": None if state.plan is None else "ledger" if state.set_here else "program",
        "plan": state.plan and state.plan.plan(),
        "limits": [_limit(standing, zone) for standing in standings],
    }


def _limit(standing: Standing, zone: tzinfo) -> dict[str, Any]:
    amounts = ("limit", "spent", "held", "left", "share", "per_hour", "last_hour", "forecast")
    moments = ("begins", "resets_at", "runs_out_at")
    return {
        "period": standing.period,
        "label": standing.label,
        "scope": standing.scope,
        **{name: None if (usd := getattr(standing, name)) is None else format(usd, "f") for name in amounts},
        **{name: (when := getattr(standing, name)) and when.astimezone(zone).isoformat() for name in moments},
    }


_Limit = tuple[str, str, str]
"""A budget's name, period and scope, whichever day (hour, ...)."""


def _by_limit(spent: Mapping[str, int]) -> dict[_Limit, Decimal]:
    found: dict[_Limit, Decimal] = {}
    for key, pico in spent.items():
        name, period, _, scope = parts_of(key)
        found[name, period, scope] = found.get((name, period, scope), _ZERO) + _usd(pico)
    return found


def _plan(name: str, said: Mapping[str, Any]) -> Budget:
    try:
        return Budget.from_plan(said)
    except ConfigError as error:
        raise ConfigError(
            f"the ledger's plan of budget {name!r} cannot be: {error}; forget it with: "
            f"llm-savings budget set {name} --remove"
        ) from error


def _usd(pico: int) -> Decimal:
    return from_picodollars(pico) or _ZERO
