"""An export of figures by time and model: sums are compared, and a difference that one call explains is its price.

In exports of tokens it is the missing tokens that are priced, at the lowest tier, since a sum does not tell how long
each prompt was; the tokens of a single missing call are priced as that call's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from llm_savings.errors import SavingsError
from llm_savings.ledger import Call, Mode, Sent, Settled
from llm_savings.pricing import PriceBook
from llm_savings.pricing.names import provider_name
from llm_savings.reconcile.matching import horizon
from llm_savings.reconcile.names import Models, plain
from llm_savings.reconcile.readers import Export, Figure
from llm_savings.reconcile.result import Line, Reconciliation, costless, counted, settled, uncertain
from llm_savings.usage import FIELDS, Usage

_EXACT = Decimal("1e-6")  # a figure rounded more coarsely settles no call
_NOISE = Decimal("1e-9")
# What both sides report: no export of tokens counts reasoning apart, or searches.
_TOKENS = tuple(name for name in FIELDS if name not in ("reasoning", "web_searches"))


def by_bucket(
    calls: Iterable[Call], export: Export, prices: PriceBook, window: timedelta, now: datetime
) -> Reconciliation:
    """Compare sums; see `reconcile`."""
    comparison = _Comparison(export, prices)
    unknown: list[Call] = []
    for call in calls:
        if not costless(call) and comparison.covers(call):
            if uncertain(call):
                unknown.append(call)  # which model it would have been, others may tell yet
            else:
                comparison.add(call)
    return comparison.result(unknown, window, now)


@dataclass(slots=True)
class _Bucket:
    """A stretch of time and a model: the provider's figures, the ledger's sums, the calls that may belong to it."""

    start: datetime
    line: Line
    figures: list[Figure] = field(default_factory=list[Figure])
    used: dict[Mode, Usage] = field(default_factory=dict[Mode, Usage])
    candidates: list[Call] = field(default_factory=list[Call])

    @property
    def extra_requests(self) -> int:
        """Requests that the provider counted and the ledger does not know; 0 when it does not count them."""
        counts = [figure.requests for figure in self.figures if figure.requests is not None]
        return max(0, sum(counts) - self.line.calls) if counts else 0

    @property
    def settled(self) -> bool:
        """Whether nothing is missing."""
        return self.line.difference is not None and abs(self.line.difference) <= self.line.slack

    def missing(self) -> dict[Mode | None, dict[str, int]]:
        """Tokens that the provider has more (or less) than the ledger, by mode where the export tells modes."""
        told = any(figure.mode for figure in self.figures)
        sums: dict[Mode | None, Counter[str]] = {}

        def add(mode: Mode, usage: Usage, sign: int) -> None:
            tokens = sums.setdefault(mode if told else None, Counter())
            for name in _TOKENS:
                tokens[name] += sign * getattr(usage, name)

        for figure in self.figures:
            add(figure.mode or "standard", figure.usage or Usage(), 1)
        for mode, usage in self.used.items():
            add(mode, usage, -1)
        found: dict[Mode | None, dict[str, int]] = {}
        for mode, tokens in sums.items():
            if left := {name: count for name, count in tokens.items() if count}:
                found[mode] = left
        return found


class _Comparison:
    def __init__(self, export: Export, prices: PriceBook) -> None:
        self._export, self._prices = export, prices
        self._of_tokens = export.kind.endswith("usage")
        self._whole = all(figure.model is None for figure in export.figures)  # not told by model
        self._models = Models(figure.model for figure in export.figures if figure.model)
        self._shown = {plain(figure.model or ""): figure.model or "" for figure in export.figures}
        self._width = export.width
        self._absent: Counter[str] = Counter()
        self._buckets: dict[tuple[int, str], _Bucket] = {}
        for figure in export.figures:
            self._bucket(self._place(figure.start), plain(figure.model or "")).figures.append(figure)

    def covers(self, call: Call) -> bool:
        """Whether the export could hold the call; says why not otherwise."""
        sent, ours = call.sent, str(self._export.provider)
        provider, why = provider_name(sent.provider), None
        if not self._export.start <= sent.started_at < self._export.end:
            why = "outside the export's time"
        elif provider is not None and provider != ours and not provider.endswith(f"-{ours}"):
            why = f"sent to {provider}"  # text-completion-openai is OpenAI
        elif provider is None and self._whole:
            try:
                self._prices.resolve(sent.requested_model, provider=ours)
            except SavingsError:
                why = f"not a model of {ours}"
        if why is not None:
            self._absent[why] += 1
        return why is None

    def add(self, call: Call) -> None:
        """Count a call with a known figure."""
        end = call.settled
        assert end is not None  # noqa: S101 - it is known
        self._models.learn(call.sent.requested_model, end.model)
        if (name := self._name(call)) is not None:
            bucket = self._bucket(self._place(call.sent.started_at), name)
            bucket.line = counted(bucket.line, call)
            mode = end.mode or call.sent.mode
            bucket.used[mode] = bucket.used.get(mode, Usage()) + end.usage

    def result(self, unknown: list[Call], window: timedelta, now: datetime) -> Reconciliation:
        """Compare, once all calls are known."""
        reaches = [
            (call, self._reach(call, name, window)) for call in unknown if (name := self._name(call)) is not None
        ]
        for call, reach in reaches:
            reach[0].line = counted(reach[0].line, call)
            for bucket in reach:
                bucket.candidates.append(call)
        for bucket in self._buckets.values():
            difference = self._difference(bucket)
            provider = None if difference is None else bucket.line.ledger + difference
            slack = sum((figure.slack for figure in bucket.figures), Decimal(0))
            bucket.line += Line(bucket.line.day, bucket.line.model, provider=provider, slack=slack)
        # Where the ledger has more than the provider, the two do not count the same calls.
        lines = [bucket.line for bucket in self._buckets.values()]
        short = {line.model for line in lines if line.difference is not None and line.difference < -line.slack}
        settlements: list[tuple[Sent, Settled]] = []
        left: Counter[str] = Counter()
        for call, reach in reaches:
            if horizon(call, window) > min(self._export.end, now):
                left["may be billed after the time of this export"] += 1
            elif reach[0].line.model in short:
                left["the export lacks calls that the ledger has"] += 1
            elif (end := self._deduced(call, reach)) is None:
                left["no difference is surely theirs"] += 1
            else:
                settlements.append((call.sent, end))
        days: dict[tuple[date, str], Line] = {}
        for line in lines:
            if line.calls or line.unknown or line.provider != 0:
                key = (line.day, line.model)
                days[key] = days[key] + line if key in days else line
        return Reconciliation(
            kind=self._export.kind,
            start=self._export.start,
            end=self._export.end,
            lines=tuple(days[key] for key in sorted(days)),
            settlements=tuple(settlements),
            left=left,
            absent=self._absent,
        )

    def _deduced(self, call: Call, reach: list[_Bucket]) -> Settled | None:
        """How the call ended, if the buckets in which it can be leave one answer."""
        open_ = [bucket for bucket in reach if not bucket.settled]
        blurred = any(b.line.slack >= _EXACT or (b.line.unpriced and not self._of_tokens) for b in reach)
        if blurred or len(open_) > 1:
            return None
        note = {"source": self._export.kind, "by": "difference"}
        if not open_:
            answered = call.status == "ok" or call.basis == "suspect"
            swapped = self._of_tokens and any(
                bucket.missing() for bucket in reach
            )  # of one kind more, of another fewer
            return None if answered or swapped else settled(call, Decimal(0), Usage(), "estimated", note)
        (bucket,) = open_
        if bucket.line.estimated or len(bucket.candidates) > 1 or bucket.extra_requests > 1:
            return None
        if (found := self._missing_call(call, bucket)) is None:
            return None
        usd, usage = found
        fits = usd > 0 and (call.sent.bound is None or usd <= call.sent.bound)
        return settled(call, usd, usage, "estimated", note) if fits else None

    def _missing_call(self, call: Call, bucket: _Bucket) -> tuple[Decimal, Usage] | None:
        """The price and tokens of the one call that is all that is missing."""
        if not self._of_tokens:
            difference = bucket.line.difference or Decimal(0)
            return difference.quantize(_NOISE) if bucket.line.slack else difference, Usage()
        try:
            ((mode, tokens),) = bucket.missing().items()
            usage = Usage(**tokens)
            how: Mode = mode or call.sent.mode
            at, provider = call.sent.started_at, self._export.provider
            return self._prices.price(usage, bucket.line.model, mode=how, at=at, provider=provider), usage
        except (SavingsError, ValueError):  # tokens of two modes, or more of one kind and fewer of another
            return None

    def _difference(self, bucket: _Bucket) -> Decimal | None:
        """Provider minus ledger, in USD; None when the model has no price."""
        if not self._of_tokens:
            return sum((f.usd for f in bucket.figures if f.usd is not None), Decimal(0)) - bucket.line.ledger
        total, model = Decimal(0), bucket.line.model
        for mode, tokens in bucket.missing().items():
            try:
                how: Mode = mode or "standard"
                rates = self._prices.rates(model, mode=how, at=bucket.start, provider=self._export.provider)
                total += sum((count * rates[name] for name, count in tokens.items()), Decimal(0))
            except (SavingsError, KeyError):
                return None
        return total

    def _name(self, call: Call) -> str | None:
        """The export's name for the call's model; counts the call as absent when it has none."""
        answered = call.settled.model if call.settled else None
        name = "" if self._whole else self._models.find(call.sent.requested_model, answered)
        if name is None:
            self._absent["no such model in the export"] += 1
        return name

    def _reach(self, call: Call, name: str, window: timedelta) -> list[_Bucket]:
        """The buckets in which the call may have been billed, the one in which it began first."""
        first, last = self._place(call.sent.started_at), self._place(horizon(call, window))
        return [self._bucket(place, name) for place in range(first, last + 1)]

    def _place(self, moment: datetime) -> int:
        return (moment - self._export.start) // self._width

    def _bucket(self, place: int, name: str) -> _Bucket:
        if (place, name) not in self._buckets:
            start = self._export.start + place * self._width
            self._buckets[place, name] = _Bucket(start, Line(start.date(), self._shown.get(name, name)))
        return self._buckets[place, name]
