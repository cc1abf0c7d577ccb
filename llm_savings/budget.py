"""`Budget`: limits in dollars, per period and scope, and the pure arithmetic of who may still spend.

A budget is enforced in the ledger: the row that is written ahead of a call, at its upper bound, *is* the
reservation, and one transaction both checks the limits and writes the row. Settling the row replaces the bound by
what was really spent. So a budget cannot drift from the ledger, and a killed process leaves its calls charged at
their bounds until somebody learns what became of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from llm_savings.errors import ConfigError, UnscopedCallError

Period = Literal["hourly", "daily", "weekly", "monthly", "total"]
PERIODS: tuple[Period, ...] = ("hourly", "daily", "weekly", "monthly", "total")
Amount = Decimal | str | int | float


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has passed a share of its limit. Sent once a period for each share.

    Attributes:
        budget: The budget's name.
        scope: Whose budget, such as "user=kim"; "" when it is everybody's.
        period: Which limit.
        share: The share that was passed, such as 0.8.
        charged: USD charged in the period: spent, reserved, and unknown at its bound.
        limit: USD.
        resets_at: When the period ends (UTC), or None for `total`.
    """

    budget: str
    scope: str
    period: Period
    share: Decimal
    charged: Decimal
    limit: Decimal
    resets_at: datetime | None

    def text(self) -> str:
        """The alert in a sentence.

        Example:
            >>> Alert("default", "user=kim", "daily", Decimal("0.8"), Decimal(41), Decimal(50), None).text()
            'Budget default (daily, user=kim): $41 of $50 is spent or held, 80% or more.'
        """
        whose = ", ".join(filter(None, (self.period, self.scope)))
        held = f"${self.charged:f} of ${self.limit:f} is spent or held, {self.share:.0%} or more"
        return f"Budget {self.budget} ({whose}): {held}."


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that a call has to pass, at one moment.

    Attributes:
        key: Names the counter in the ledger: budget, period, its beginning, and scope.
        amount: USD.
        period: Which period.
        scope: Whose budget, such as "user=kim".
        resets_at: When the period ends (UTC), or None for `total`.
    """

    key: str
    amount: Decimal
    period: Period
    scope: str
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on spending, checked before a call leaves.

    A call leaves only when every limit has room for the most that it can cost, which is held until its cost is known.
    "Never exceeded" is promised with `strict=True`, which refuses calls without max_tokens and holds every prompt at a
    size that no tokenizer exceeds. Without it, it is promised for calls of OpenAI's text models that carry max_tokens;
    other prompts are held at their estimated size with a margin learned from what providers bill, and calls without
    max_tokens at what 99 of 100 answers of that model and feature stayed below, or at `output_cap` until that is known.

    Args:
        per_call: USD that a single call may cost at most.
        hourly: USD an hour of the zone.
        daily: USD a calendar day of the zone.
        weekly: USD a week, beginning on Monday.
        monthly: USD a calendar month.
        total: USD ever.
        per: Whose limit it is: None for everybody together, "user", "model", "session", "tenant", or a tag's name:
            then every user (model, ...) has the whole limit for itself.
        tz: The zone whose hours, days and months are meant.
        alerts: Shares of a limit at which to alert, once a period.
        on_alert: A callable taking an `Alert`, or a webhook's http(s) URL; by default a warning in the log.
        strict: Refuse calls without max_tokens.
        on_unavailable: What to do when the ledger cannot be reached: "refuse" calls, or "allow" them.
        output_cap: Output tokens to hold for a call without max_tokens as long as there is no history to learn from.
        name: Tells budgets apart in one ledger; budgets of one name share their counters.

    Amounts are Decimal, str or int; a float is read by its repr.

    Raises:
        ConfigError: A field is wrong; it names the field, the value and the fix.

    Example:
        >>> Budget(daily="50", monthly="900", tz="Asia/Seoul").daily
        Decimal('50')
    """

    per_call: Amount | None = None
    hourly: Amount | None = None
    daily: Amount | None = None
    weekly: Amount | None = None
    monthly: Amount | None = None
    total: Amount | None = None
    per: str | None = None
    tz: str = "UTC"
    alerts: tuple[Amount, ...] = ("0.8",)
    on_alert: Callable[[Alert], object] | str | None = None
    strict: bool = False
    on_unavailable: Literal["refuse", "allow"] = "refuse"
    output_cap: int = 4096
    name: str = "default"
    _zone: tzinfo = field(default=UTC, init=False, repr=False, compare=False)
    _windows: dict[Period, tuple[datetime, str, datetime | None]] = field(
        default_factory=dict[Period, "tuple[datetime, str, datetime | None]"], init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name in ("per_call", *PERIODS):
            object.__setattr__(self, name, _limit(name, getattr(self, name)))
        if all(getattr(self, name) is None for name in ("per_call", *PERIODS)):
            raise ConfigError(
                'a budget needs a limit: per_call, hourly, daily, weekly, monthly or total, as daily="50"'
            )
        amounts = [(name, amount) for name in PERIODS if (amount := self.amount(name)) is not None]
        for (short, less), (long, more) in itertools.pairwise(amounts):
            if less > more:
                raise ConfigError(
                    f"budget.{short} is {less}, more than budget.{long} ({more}), which it can never reach"
                )
        object.__setattr__(self, "_zone", _zone(self.tz))
        object.__setattr__(self, "alerts", tuple(sorted(_share(share) for share in self.alerts)))
        if self.on_unavailable not in ("refuse", "allow"):
            raise ConfigError(f"budget.on_unavailable is {self.on_unavailable!r}; expected 'refuse' or 'allow'")
        if isinstance(self.on_alert, str) and not re.match(r"https?://", self.on_alert):
            raise ConfigError(f"budget.on_alert is {self.on_alert!r}; expected a callable or an http(s) URL")
        if type(self.output_cap) is not int or self.output_cap < 1:
            raise ConfigError(f"budget.output_cap is {self.output_cap!r}; expected a positive number of tokens")
        if not re.fullmatch(r"[\w.-]{1,64}", self.name):
            raise ConfigError(f"budget.name is {self.name!r}; expected letters, digits, dots and dashes")
        if self.per is not None and not self.per.strip():
            raise ConfigError("budget.per is empty; expected 'user', 'model', 'session', 'tenant' or a tag's name")

    def amount(self, period: Period) -> Decimal | None:
        """The limit of a period in USD, if there is one."""
        return cast("Decimal | None", getattr(self, period))

    @property
    def per_call_limit(self) -> Decimal | None:
        """USD that one call may cost at most, if that is limited."""
        return cast("Decimal | None", self.per_call)

    @property
    def shares(self) -> tuple[Decimal, ...]:
        """The shares of a limit at which to alert, rising."""
        return cast("tuple[Decimal, ...]", self.alerts)

    def limits(self, at: datetime, scope: str = "") -> list[Limit]:
        """The limits that a call of this scope has to pass at this moment, in a fixed order.

        Args:
            at: When the call starts (aware).
            scope: Whose call it is; see `scope_of`.
        """
        found: list[Limit] = []
        for period in PERIODS:
            if (amount := self.amount(period)) is not None:
                label, resets = self._window(period, at)
                found.append(Limit(f"{self.name}|{period}|{label}|{scope}", amount, period, scope, resets))
        return found

    def _window(self, period: Period, at: datetime) -> tuple[str, datetime | None]:
        """See `window`; kept until it ends, since most calls fall into the one of the call before."""
        seen, label, resets = self._windows.get(period) or (at, "", at)
        if not label or at < seen or (resets is not None and at >= resets):
            label, resets = window(period, at, self._zone)
            self._windows[period] = at, label, resets
        return label, resets

    def plan(self) -> dict[str, Any]:
        """The budget as plain fields that JSON can hold, without what only a program can hold (`on_alert`)."""
        found: dict[str, Any] = {}
        for name in PLAN_FIELDS:
            value = getattr(self, name)
            if value is not None:
                found[name] = str(value) if isinstance(value, Decimal) else value
        return found | {"alerts": [str(share) for share in self.alerts]}

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any], *, on_alert: Callable[[Alert], object] | str | None = None) -> Budget:
        """The budget of such fields.

        Raises:
            ConfigError: A field is unknown or wrong.
        """
        if unknown := sorted(plan.keys() - set(PLAN_FIELDS) - {"alerts"}):
            raise ConfigError(f"budget has no field {unknown[0]!r}; expected {', '.join(PLAN_FIELDS)} or alerts")
        given: dict[str, Any] = {**plan, "on_alert": on_alert}
        if "alerts" in given:
            given["alerts"] = tuple(given["alerts"])
        return cls(**given)

    def scope_of(self, labels: Mapping[str, str | None]) -> str:
        """Whose budget a call falls under, from the call's user, model, session, tenant and tags.

        Raises:
            UnscopedCallError: The budget is per something that this call does not carry.
        """
        if self.per is None:
            return ""
        value = labels.get(self.per)
        if not value:
            raise UnscopedCallError(
                f"budget.per is {self.per!r}, but this call has no {self.per}; "
                "give it in the callback's tags, or in the call's metadata"
            )
        return f"{self.per}={value}"


def window(period: Period, at: datetime, zone: tzinfo) -> tuple[str, datetime | None]:
    """The period that an instant falls into: its label in the zone's own time, and the instant (UTC) it ends.

    Calendar periods are those of the zone's clocks, so a day may have 23 or 25 hours.

    Example:
        >>> window("daily", datetime(2026, 11, 23, 16, tzinfo=UTC), ZoneInfo("Asia/Seoul"))
        ('2026-11-24', datetime.datetime(2026, 11, 24, 15, 0, tzinfo=datetime.timezone.utc))
    """
    local = at.astimezone(zone)
    today = local.date()
    if period == "total":
        return "ever", None
    if period == "hourly":
        # An hour that the clocks repeat is another hour: its offset tells it apart.
        ahead = local.utcoffset() or timedelta(0)
        start = local.replace(minute=0, second=0, microsecond=0, tzinfo=None) - ahead
        label = f"{local:%Y-%m-%dT%H}{local:%z}"
        return label, start.replace(tzinfo=UTC) + timedelta(hours=1)
    if period == "daily":
        return today.isoformat(), midnight(today + timedelta(days=1), zone)
    if period == "weekly":
        monday = today - timedelta(days=today.weekday())
        return f"{monday.isoformat()}/7d", midnight(monday + timedelta(days=7), zone)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return f"{today:%Y-%m}", midnight(following, zone)


def midnight(day: date, zone: tzinfo) -> datetime:
    """The instant (UTC) from which on it is this day in the zone.

    Where clocks go forward over midnight the day begins later; where they go back over it, midnight comes twice and
    the day begins for good at the second.
    """
    for fold in (1, 0):
        start = datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold).astimezone(UTC)
        if start.astimezone(zone).date() == day and (start - _INSTANT).astimezone(zone).date() < day:
            return start
    return start


_INSTANT = timedelta(microseconds=1)


def _limit(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    amount = _decimal(f"budget.{name}", value, "a positive number of dollars, as '50'")
    if amount <= 0:
        raise ConfigError(f"budget.{name} is {value!r}; expected a positive number of dollars")
    return amount


def _share(value: Any) -> Decimal:
    share = _decimal("budget.alerts", value, "shares such as 0.8")
    if not 0 < share <= 1:
        raise ConfigError(f"budget.alerts has {value!r}; expected shares above 0 and up to 1")
    return share


def _decimal(name: str, value: Any, expected: str) -> Decimal:
    try:
        # A float means what it prints: 0.1 is a tenth.
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ConfigError(f"{name} is {value!r}; expected {expected}") from error
    if isinstance(value, bool) or not amount.is_finite():
        raise ConfigError(f"{name} is {value!r}; expected {expected}")
    return amount


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"budget.tz is {name!r}; expected an IANA zone name such as 'Asia/Seoul'") from error


PLAN_FIELDS = tuple(f.name for f in fields(Budget) if f.init and f.name not in ("alerts", "on_alert"))
