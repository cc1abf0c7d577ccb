"""A ledger as Prometheus metrics: what calls cost and saved, and where budgets stand.

    from prometheus_client import REGISTRY, start_http_server
    from llm_savings.prometheus import LedgerCollector

    REGISTRY.register(LedgerCollector("costs.db"))
    start_http_server(9464, addr="127.0.0.1")

A scrape reads only what was written since the last one. Prometheus's own numbers are floats; sums are made before, in
decimals. No label names a user, a session or a text; models, providers and the tags asked for are labels, a bounded
number of each, the rest is "other".
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from llm_savings.attribution import attribute
from llm_savings.errors import ConfigError, SavingsError
from llm_savings.ledger import Call, Ledger
from llm_savings.pricing import PriceBook
from llm_savings.report.budgets import Standing, budget_states
from llm_savings.usage import FIELDS

_log = logging.getLogger("llm_savings.prometheus")
_ZERO = Decimal(0)
_OPEN = 20_000  # rows that are looked at again, since their calls may still end or become known
_COUNTERS = {
    "spent_usd": "USD spent, measured and estimated.",
    "baseline_usd": "USD that the same calls would have cost with nothing saved.",
    "calls": "Calls that have ended and whose cost is known, and unpriced ones.",
    "cache_hits": "Calls that a cache answered for $0.",
    "tokens": "Tokens consumed, by kind.",
    "saved_usd": "USD that each strategy took off.",
    "overspent_usd": "USD that each strategy cost more than it took off, in calls where it did.",
}
_KEYS = {
    "calls": ("status", "basis"),
    "tokens": ("kind",),
    "saved_usd": ("strategy",),
    "overspent_usd": ("strategy",),
}
_BUDGET = ("budget", "period", "scope")


class LedgerCollector:
    """A custom collector for `prometheus_client`.

    Counters never fall: a call is counted once its cost is known, also when `llm-savings reconcile` finds it out later.
    When the program starts again they hold the whole ledger again. The first scrape reads all of it.

    Args:
        ledger: A `Ledger`, or what `Ledger` takes.
        tags: Names of tags that become labels, such as ("feature",).
        most: How many models, providers and values of each tag have a label of their own.
        scopes: Whether budgets per user, session, ... name whose each is; otherwise the most used one is told.
        prices: The price book; LiteLLM's bundled map by default.

    Raises:
        ConfigError: prometheus-client is not installed, or a tag cannot be a label.
    """

    def __init__(
        self,
        ledger: Ledger | str | Path | None = None,
        *,
        tags: Sequence[str] = (),
        most: int = 50,
        scopes: bool = False,
        prices: PriceBook | None = None,
    ) -> None:
        try:
            self._core: Any = import_module("prometheus_client.core")
        except ImportError as error:
            raise ConfigError(
                'LedgerCollector needs prometheus-client; install it with: pip install "llm-savings[prometheus]"'
            ) from error
        for tag in tags:
            if not tag.isidentifier() or not tag.isascii() or tag in ("model", "provider", *sum(_KEYS.values(), ())):
                raise ConfigError(f"tags has {tag!r}; expected names of letters, digits and _, and no other label's")
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        self._tags, self._most, self._scopes, self._prices = tuple(tags), most, scopes, prices or PriceBook()
        self._sums: dict[str, dict[tuple[str, ...], Decimal]] = {name: defaultdict(Decimal) for name in _COUNTERS}
        self._known: dict[str, set[str]] = defaultdict(set)
        self._last, self._open, self._missing = 0, dict[int, Decimal | None](), dict[int, None]()
        self._lock = Lock()

    def describe(self) -> list[Any]:
        """Nothing, so that registering reads nothing."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics now; those of the last scrape, and `llm_savings_up` 0, when the ledger cannot be read."""
        with self._lock:
            up, standings = 1, list[Standing]()
            try:
                self._read()
                standings = self._standings()
            except SavingsError as error:
                up = 0
                _log.warning("the ledger cannot be read for Prometheus: %s", error)
            gauge = self._core.GaugeMetricFamily
            yield gauge("llm_savings_up", "Whether the ledger could be read.", value=up)
            for name, text in _COUNTERS.items():
                own = ("strategy",) if "strategy" in _KEYS.get(name, ()) else ("model", "provider", *self._tags)
                labels = own if "strategy" in own else (*own, *_KEYS.get(name, ()))
                family = self._core.CounterMetricFamily(f"llm_savings_{name}", text, labels=labels)
                for values, amount in self._sums[name].items():
                    family.add_metric(values, amount)
                yield family
            bounds = [bound for bound in self._open.values() if bound is not None]
            yield gauge("llm_savings_unknown_calls", "Calls in flight or of unknown cost.", value=len(self._open))
            yield gauge("llm_savings_unknown_bound_usd", "USD that they cannot exceed.", value=sum(bounds, _ZERO))
            for name in ("limit", "spent", "held"):
                text = f"USD of a budget: {name}."
                family = gauge(f"llm_savings_budget_{name}_usd", text, labels=_BUDGET)
                for standing in standings:
                    if (amount := getattr(standing, name)) is not None:
                        whose = standing.scope if self._scopes or not standing.scope else "most used"
                        family.add_metric((standing.budget, standing.period, whose), amount)
                yield family

    def _read(self) -> None:
        if not self._last:  # the largest models have names of their own, whichever was called first
            largest = self.ledger.summary("model")[: self._most]
            self._known["model"].update(line.key for line in largest)
        for number, call in self.ledger.written(self._last, [*self._open, *self._missing]):
            # Another machine's row may have an earlier number and be there later.
            self._missing |= dict.fromkeys(range(max(self._last + 1, number - _OPEN), number))
            self._missing.pop(number, None)
            self._last = max(self._last, number)
            if call.basis in ("unknown", "suspect"):
                self._open[number] = call.sent.bound
            else:
                self._open.pop(number, None)
                self._add(call)
        for waiting in (self._open, self._missing):
            for number in list(waiting)[:-_OPEN]:
                del waiting[number]

    def _add(self, call: Call) -> None:
        sent, settled = call.sent, call.settled
        if settled is None:
            return
        tags = tuple(self._bounded(f"tag:{name}", sent.tags.get(name, "")) for name in self._tags)
        model = self._bounded("model", settled.model or sent.requested_model)
        whose = (model, self._bounded("provider", sent.provider or ""), *tags)
        self._sums["calls"][*whose, settled.status, settled.basis] += 1
        if settled.status == "hit":
            self._sums["cache_hits"][whose] += 1
        else:
            for kind in FIELDS:
                if used := getattr(settled.usage, kind):
                    self._sums["tokens"][*whose, kind] += used
        if settled.actual is None:
            return
        self._sums["spent_usd"][whose] += settled.actual
        self._sums["baseline_usd"][whose] += settled.actual if settled.baseline is None else settled.baseline
        if settled.strategies or settled.baseline not in (None, settled.actual):
            for strategy, usd in attribute([call], self._prices).credits.items():
                if usd:
                    self._sums["saved_usd" if usd > 0 else "overspent_usd"][(strategy,)] += abs(usd)

    def _bounded(self, label: str, value: str) -> str:
        known = self._known[label]
        if value in known:
            return value
        if len(known) >= self._most:
            return "other"
        known.add(value)
        return value

    def _standings(self) -> list[Standing]:
        found: dict[tuple[str, str, str], Standing] = {}
        for state in budget_states(self.ledger):
            for standing in state.standings[: None if not self._scopes else self._most]:  # the most used first
                whose = standing.scope if self._scopes else ""
                found.setdefault((standing.budget, standing.period, whose), standing)
        return list(found.values())
