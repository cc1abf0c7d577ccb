"""A bill that lists every request: calls are found by id, then by price and time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal

from llm_savings.ledger import Call, Sent, Settled
from llm_savings.reconcile.matching import SKEW, horizon, pair
from llm_savings.reconcile.names import Models, plain, same, undated
from llm_savings.reconcile.readers import Export
from llm_savings.reconcile.result import Line, Reconciliation, charged, costless, counted, settled, uncertain
from llm_savings.usage import Usage


def by_request(calls: Iterable[Call], export: Export, window: timedelta) -> Reconciliation:
    """Compare call by call; see `reconcile`."""
    comparison = _Comparison(export, window)
    nameless: list[Call] = []
    for call in [c for c in calls if not costless(c) and not comparison.by_id(c) and comparison.covers(c)]:
        if uncertain(call):
            nameless.append(call)
        elif not comparison.by_price(call):
            if call.settled and call.settled.response_id:
                comparison.elsewhere(call)
            else:
                nameless.append(call)
    comparison.by_time(nameless)
    return comparison.result()


class _Comparison:
    def __init__(self, export: Export, window: timedelta) -> None:
        self._export, self._window = export, window
        self._ids = {name: j for j, row in enumerate(export.billed) for name in row.ids}
        self._open = dict(enumerate(export.billed))
        self._worth: dict[object, list[tuple[datetime, int]]] = {}
        self._names = {row.model: plain(row.model) for row in export.billed}
        self._models = Models(self._names)
        self._incomplete: set[str] = set()
        self._settlements: list[tuple[Sent, Settled]] = []
        self._left: Counter[str] = Counter()
        self._absent: Counter[str] = Counter()
        self._lines: dict[tuple[date, str], Line] = {}
        for at, j in sorted((row.at, j) for j, row in enumerate(export.billed)):
            for worth in (export.billed[j].usd, export.billed[j].usage):
                self._worth.setdefault(worth, []).append((at, j))
        for row in export.billed:
            self._keep(self._line(row.at.date(), row.model) + Line(row.at.date(), row.model, provider=row.usd))

    def covers(self, call: Call) -> bool:
        """Whether the bill could hold the call."""
        within = self._export.start - self._window <= call.sent.started_at < self._export.end
        self._absent["outside the export's time"] += not within
        return within

    def by_id(self, call: Call) -> bool:
        """Whether the call's answer is on the bill and no other call has claimed it."""
        j = self._ids.get((call.settled and call.settled.response_id) or "")
        if j is None or j not in self._open:
            return False
        self._claim(call, j, "id")
        return True

    def by_price(self, call: Call) -> bool:
        """Whether a known call whose host hides the provider's id is found: same model, price and time."""
        end = call.settled
        assert end is not None  # noqa: S101 - it is known
        begin, until = call.sent.started_at - SKEW, horizon(call, timedelta(0))
        names = _names(call)
        # Equal tokens at another price are a difference to report; counted here, they are no sign of anything.
        for worth in (end.actual, end.usage if end.usage and call.basis != "estimated" else None):
            rows = self._worth.get(worth, [])
            for place in range(bisect_left(rows, (begin, 0)), len(rows)):
                at, j = rows[place]
                if at > until:
                    break
                row = self._open.get(j)
                if row is not None and any(same(self._names[row.model], name) for name in names):
                    self._claim(call, j, "price")
                    return True
        return False

    def by_time(self, calls: list[Call]) -> None:
        """Find calls among the requests that nobody has claimed.

        Known calls compete for them, too: an estimate has neither the id nor the price of its request.
        """
        places = list(self._open)
        pairs = pair(calls, [self._open[j] for j in places], self._window)
        for found, chosen in ((pairs.certain, False), (pairs.chosen, True)):
            for i, place in found.items():
                self._claim(calls[i], places[place], "time", chosen=chosen)
        for i in pairs.ambiguous:
            self._stays(calls[i], "could be one of several requests at different prices")
        for i in pairs.rest:
            if not uncertain(calls[i]):
                self.elsewhere(calls[i])
        unclaimed: dict[str, datetime] = {}
        for row in self._open.values():
            unclaimed[self._names[row.model]] = max(row.at, unclaimed.get(self._names[row.model], row.at))
        for i, chosen in pairs.rest.items():
            if uncertain(calls[i]):
                self._unbilled(calls[i], unclaimed, chosen=chosen)

    def result(self) -> Reconciliation:
        """All that was found."""
        return Reconciliation(
            kind=self._export.kind,
            start=self._export.start,
            end=self._export.end,
            lines=tuple(self._lines[key] for key in sorted(self._lines)),
            settlements=tuple(self._settlements),
            left=+self._left,
            absent=+self._absent,
            unclaimed=len(self._open),
            unclaimed_usd=sum((row.usd for row in self._open.values()), Decimal(0)),
        )

    def elsewhere(self, call: Call) -> None:
        """A known call that is not on the bill."""
        if call.sent.started_at < self._export.start or horizon(call, timedelta(0)) > self._export.end + 2 * SKEW:
            self._absent["outside the export's time"] += 1
        else:
            self._absent["not on this bill: another key, account or provider"] += 1
            self._incomplete |= {undated(name) for name in _names(call)}

    def _unbilled(self, call: Call, unclaimed: dict[str, datetime], *, chosen: bool) -> None:
        """An unknown call for which no request is left was free, if the bill would have it otherwise."""
        sent = call.sent
        if (name := self._models.find(sent.requested_model, call.settled and call.settled.model)) is None:
            self._absent["no request for such a model on the bill"] += 1
        elif call.status == "ok" or call.basis == "suspect":
            self._stays(call, "answered, yet not on the bill")
        elif undated(name) in self._incomplete:
            self._stays(call, "the bill lacks other calls of the model")
        elif name in unclaimed and unclaimed[name] >= sent.started_at - SKEW:
            self._stays(call, "requests of the model remain that no call accounts for")
        elif sent.started_at < self._export.start or horizon(call, self._window) > self._export.end:
            self._stays(call, "may be billed outside the time of this bill")
        else:
            note = {"source": self._export.kind, "by": "absence"}
            basis = "estimated" if chosen else "measured"
            self._settlements.append((sent, settled(call, Decimal(0), Usage(), basis, note)))
            self._count(call, Decimal(0))

    def _claim(self, call: Call, j: int, how: str, *, chosen: bool = False) -> None:
        row = self._open.pop(j)
        self._keep(counted(self._line(row.at.date(), row.model), call, row.usd))
        if uncertain(call):
            note = {"source": self._export.kind, "by": how}
            self._settlements.append((call.sent, charged(call, row, "estimated" if chosen else "measured", note)))

    def _stays(self, call: Call, why: str) -> None:
        self._left[why] += uncertain(call)
        self._count(call)

    def _count(self, call: Call, found: Decimal | None = None) -> None:
        """Count a call that is on no row under the bill's name of its model."""
        ours = self._models.find(call.sent.requested_model, call.settled and call.settled.model)
        model = next((shown for shown, name in self._names.items() if name == ours), call.sent.requested_model)
        self._keep(counted(self._line(call.sent.started_at.date(), model), call, found))

    def _line(self, day: date, model: str) -> Line:
        return self._lines.get((day, model)) or Line(day, model)

    def _keep(self, line: Line) -> None:
        self._lines[line.day, line.model] = line


def _names(call: Call) -> set[str]:
    answered = call.settled.model if call.settled else None
    return {plain(name) for name in (answered, call.sent.requested_model) if name}
