"""`Budget`: limits in dollars, per period and scope, and the pure arithmetic of who may still spend.

A budget is enforced in the ledger: the row that is written ahead of a call, at its upper bound, *is* the
reservation, and one transaction both checks the limits and writes the row. Settling the row replaces the bound by
what was really spent. So a budget cannot drift from the ledger, and a killed process leaves its calls charged at
their bounds until somebody learns what became of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from llm_savings.errors import ConfigError, UnscopedCallError
from llm_savings.periods import PERIODS, Period, window

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
        on_unavailable: What to do when the ledger cannot be reached: "refuse" calls, or "allow" them. A counter or plan
            that makes no sense refuses in any case.
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
    on_alert: Callable[[Alert], object] | str | None = field(default=None, repr=False)  # a webhook's URL is a secret
    strict: bool = False
    on_unavailable: Literal["refuse", "allow"] = "refuse"
    output_cap: int = 4096
    name: str = "default"
    _zone: tzinfo = field(default=UTC, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in _LIMITS:
            object.__setattr__(self, name, _limit(name, getattr(self, name)))
        amounts = [(name, amount) for name in _LIMITS if (amount := getattr(self, name)) is not None]
        if not amounts:
            raise ConfigError(
                'a budget needs a limit: per_call, hourly, daily, weekly, monthly or total, as daily="50"'
            )
        for (short, less), (long, more) in itertools.pairwise(amounts):
            if less > more:
                raise ConfigError(
                    f"budget.{short} is {less}, more than budget.{long} ({more}), so it can never be reached; "
                    "lower it or leave it out"
                )
        object.__setattr__(self, "_zone", _zone(self.tz))
        object.__setattr__(self, "alerts", _shares(self.alerts))
        if not (self.on_alert is None or callable(self.on_alert) or _is_url(self.on_alert)):
            raise ConfigError("budget.on_alert is neither a callable nor a webhook's http(s) URL")
        if type(self.strict) is not bool:
            raise ConfigError(f"budget.strict is {self.strict!r}; expected True or False")
        if self.on_unavailable not in ("refuse", "allow"):
            raise ConfigError(f"budget.on_unavailable is {self.on_unavailable!r}; expected 'refuse' or 'allow'")
        if type(self.output_cap) is not int or self.output_cap < 1:
            raise ConfigError(f"budget.output_cap is {self.output_cap!r}; expected a positive number of tokens")
        if not _is_text(self.name) or not re.fullmatch(r"[\w.-]{1,64}", self.name):
            raise ConfigError(f"budget.name is {self.name!r}; expected letters, digits, dots and dashes, up to 64")
        if self.per is not None and (not _is_text(self.per) or not self.per.strip()):
            raise ConfigError(
                f"budget.per is {self.per!r}; expected 'user', 'model', 'session', 'tenant' or a tag's name"
            )

    def amount(self, period: Period) -> Decimal | None:
        """The limit of a period in USD, if there is one."""
        return cast("Decimal | None", getattr(self, period))

    @property
    def per_call_limit(self) -> Decimal | None:
        """USD that one call may cost at most, if that is limited."""
        return cast("Decimal | None", self.per_call)

    @property
    def zone(self) -> tzinfo:
        """The zone that `tz` names."""
        return self._zone

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
                label, _, resets = window(period, at, self._zone)
                found.append(Limit(f"{self.name}|{period}|{label}|{scope}", amount, period, scope, resets))
        return found

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


def parts_of(key: str) -> tuple[str, str, str, str]:
    """What a counter's key says: the budget's name, the period, the label of its window, and the scope.

    Example:
        >>> parts_of("default|daily|2026-11-24|user=kim")
        ('default', 'daily', '2026-11-24', 'user=kim')
    """
    name, period, label, scope = key.split("|", 3)  # only a scope may have a bar in it
    return name, period, label, scope


_LIMITS = ("per_call", *PERIODS)
# Counters are whole picodollars in 64 bits.
_MOST = Decimal(2**63 - 1).scaleb(-12)


def _limit(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    amount = _decimal(f"budget.{name}", value, "a positive number of dollars, as '50'")
    if not 0 < amount <= _MOST:
        raise ConfigError(f"budget.{name} is {value!r}; expected a positive number of dollars, below 9.2 million")
    return amount


def _shares(values: Any) -> tuple[Decimal, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"budget.alerts is {values!r}; expected several shares, as (0.5, 0.8)")
    shares = {_decimal("budget.alerts", share, "shares such as 0.8") for share in cast("Iterable[object]", values)}
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise ConfigError(f"budget.alerts has {wrong[0]}; expected shares above 0 and up to 1, as 0.8 for 80%")
    return tuple(sorted(shares))


def _decimal(name: str, value: Any, expected: str) -> Decimal:
    try:
        # A float means what it prints: 0.1 is a tenth. (NumPy's are floats that print their type as well.)
        amount = Decimal(float.__repr__(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ConfigError(f"{name} is {value!r}; expected {expected}") from error
    if isinstance(value, bool) or not amount.is_finite():
        raise ConfigError(f"{name} is {value!r}; expected {expected}")
    return amount


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"budget.tz is {name!r}; expected an IANA zone name such as 'Asia/Seoul'") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_url(value: object) -> bool:
    try:
        address = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return address is not None and address.scheme in ("http", "https") and bool(address.hostname)


PLAN_FIELDS = tuple(f.name for f in fields(Budget) if f.init and f.name not in ("alerts", "on_alert"))
