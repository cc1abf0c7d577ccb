"""What a comparison comes to: lines by day and model, and how unknown calls ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal, localcontext
from typing import Any, Literal

from llm_savings.ledger import Basis, Call, Sent, Settled
from llm_savings.pricing.amounts import EXACT
from llm_savings.reconcile.readers import Billed, Kind
from llm_savings.usage import Usage

Verdict = Literal["agrees", "explained", "differs", "unpriced"]
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Line:
    """One day (the provider's, which is UTC) and model.

    Attributes:
        day: The day.
        model: In the provider's words; "" for all models together.
        calls: The ledger's calls with a known figure; cache hits and calls refused for free are not among them.
        ledger: USD of these calls.
        provider: USD the provider charged, or None when its tokens have no known price here.
        slack: USD by which `provider` may be off because it was rounded.
        unknown: The ledger's calls whose cost is unknown.
        bound: USD that these cannot exceed (see `unbounded`); of those found on a bill, what they cost.
        floor: USD that these cost at least: those found on a bill.
        unbounded: Unknown calls without a bound.
        estimated: Calls whose figure is an estimate.
        unpriced: Calls whose price was not known; their cost is in no figure of the ledger.
    """

    day: date
    model: str
    calls: int = 0
    ledger: Decimal = _ZERO
    provider: Decimal | None = _ZERO
    slack: Decimal = _ZERO
    unknown: int = 0
    bound: Decimal = _ZERO
    floor: Decimal = _ZERO
    unbounded: int = 0
    estimated: int = 0
    unpriced: int = 0

    @property
    def difference(self) -> Decimal | None:
        """Provider minus ledger, in USD."""
        return None if self.provider is None else EXACT.subtract(self.provider, self.ledger)

    @property
    def verdict(self) -> Verdict:
        """agrees; explained (by what the unknown calls may have cost); differs; unpriced (nothing to compare)."""
        if (difference := self.difference) is None:
            return "unpriced"
        least, most = EXACT.subtract(self.floor, self.slack), EXACT.add(self.bound, self.slack)
        if difference < least or (difference > most and not self.unbounded):
            return "differs"
        return "agrees" if abs(difference) <= self.slack else "explained"

    def __add__(self, other: Line) -> Line:
        known = self.provider is not None and other.provider is not None
        sums = {name: getattr(self, name) + getattr(other, name) for name in _ADDED}
        provider = self.provider + other.provider if known else None  # type: ignore[operator]
        return replace(self, provider=provider, **sums)


_ADDED = ("calls", "ledger", "slack", "unknown", "bound", "floor", "unbounded", "estimated", "unpriced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A ledger compared with an export.

    Attributes:
        kind: The export's kind.
        start: From when it is complete (UTC).
        end: Until when.
        lines: By day and model.
        settlements: How unknown calls ended, for `Ledger.reconcile`.
        left: Why other unknown calls stay unknown -> how many.
        absent: Why calls of the ledger are not in the export -> how many. They are in no line.
        unclaimed: Requests of a bill that no call of the ledger accounts for.
        unclaimed_usd: What these cost.
    """

    kind: Kind
    start: datetime
    end: datetime
    lines: tuple[Line, ...] = ()
    settlements: tuple[tuple[Sent, Settled], ...] = ()
    left: Mapping[str, int] = field(default_factory=Counter[str])
    absent: Mapping[str, int] = field(default_factory=Counter[str])
    unclaimed: int = 0
    unclaimed_usd: Decimal = _ZERO

    @property
    def total(self) -> Line:
        """All lines in one."""
        with localcontext(EXACT):
            return sum(self.lines, Line(self.start.date(), ""))  # type: ignore[return-value]

    @property
    def settled_usd(self) -> Decimal:
        """USD that the unknown calls turned out to have cost, as far as that is known."""
        with localcontext(EXACT):
            return sum((end.actual for _, end in self.settlements if end.actual is not None), _ZERO)


def uncertain(call: Call) -> bool:
    """Whether nobody has said what the call cost."""
    return call.basis in ("unknown", "suspect")


def costless(call: Call) -> bool:
    """Whether the call surely cost nothing: a cache's hit, a refusal, a part of a request that another call paid."""
    return not uncertain(call) and call.basis != "unpriced" and not _actual(call)


def counted(line: Line, call: Call, found: Decimal | None = None) -> Line:
    """The line with one more call of the ledger; `found` is what an unknown one turned out to have cost, in USD."""
    if uncertain(call):
        bound = call.sent.bound if found is None else found
        unknown = Line(line.day, line.model, unknown=1, floor=found or _ZERO)
        return line + replace(unknown, bound=bound or _ZERO, unbounded=int(bound is None))
    return line + replace(
        _none(line),
        calls=1,
        ledger=_actual(call),
        estimated=int(call.basis == "estimated"),
        unpriced=int(call.basis == "unpriced"),
    )


def _none(line: Line) -> Line:
    return Line(line.day, line.model)


def _actual(call: Call) -> Decimal:
    return (call.settled and call.settled.actual) or _ZERO


def charged(call: Call, row: Billed, basis: Basis, note: Mapping[str, Any]) -> Settled:
    """How a call ended that is on a bill."""
    end = settled(call, row.usd, row.usage, basis, note)
    return replace(end, model=row.model, mode=row.mode, response_id=row.ids[0] if row.ids else end.response_id)


def settled(call: Call, usd: Decimal, usage: Usage, basis: Basis, note: Mapping[str, Any]) -> Settled:
    """How a call ended that cost so much; one that used nothing is an error.

    No baseline is given: an answer that was lost has saved nothing.
    """
    before = call.settled or Settled(status="error", basis="unknown", model=call.sent.requested_model, error="Lost")
    return replace(
        before,
        status=before.status if usd or usage else "error",
        basis=basis,
        usage=usage,
        actual=usd,
        baseline=None,
        strategies={**before.strategies, "reconciled": dict(note)},
    )
