"""What past calls say about the next one: how long answers get, and how far our token counts are from a provider's."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import ROUND_CEILING, Decimal
from math import ceil

from llm_savings.ledger import Sent, Settled
from llm_savings.storage.forks import Guarded

_REMEMBERED = 500  # calls of each route or model
_ENOUGH = 50  # calls before an opinion is held
_ROUTES = 1_000
_MOST_SHARE = 0.99
# Until a provider's own counts are known, other makers' tokenizers are taken to make up to twice as many tokens as
# OpenAI's: on English and Korean prose, code and JSON Anthropic's make 1.1 to 1.5 times as many.
_UNKNOWN_MARGIN = Decimal(2)
_ON_TOP = Decimal("1.1")
_COUNTED_EXACTLY = ("openai", "azure", "azure_openai")

Route = tuple[str, str | None]
"""A model and a feature: calls whose answers are alike."""


class _Ratios:
    """A model's latest ratios of what was billed to what was counted, and the highest of them."""

    def __init__(self) -> None:
        self._latest: deque[Decimal] = deque(maxlen=_REMEMBERED)
        self.highest = Decimal(0)

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, ratio: Decimal) -> None:
        gone = self._latest[0] if len(self._latest) == _REMEMBERED else None
        self._latest.append(ratio)
        if ratio >= self.highest:
            self.highest = ratio
        elif gone == self.highest:  # only then is it worth looking at all of them
            self.highest = max(self._latest)


def usual(outputs: Iterable[int]) -> int | None:
    """What 99 of 100 of these stay below, or None before there are enough."""
    ordered = sorted(outputs)
    return ordered[min(len(ordered) - 1, ceil(len(ordered) * _MOST_SHARE))] if len(ordered) >= _ENOUGH else None


class History(Guarded):
    """Learns from calls as they end. Safe for threads.

    Args:
        past: Output tokens of a route's recent calls, asked for once a route.
    """

    def __init__(self, past: Callable[[Route], Iterable[int]] = lambda _: ()) -> None:
        super().__init__()
        self._past = past
        self._outputs: OrderedDict[Route, deque[int]] = OrderedDict()
        self._ratios: OrderedDict[str, _Ratios] = OrderedDict()

    def learn(self, sent: Sent, settled: Settled, counted: int | None) -> None:
        """Remember a call that was answered.

        Args:
            sent: The call.
            settled: How it ended.
            counted: The prompt's tokens as they were counted here, if they were.
        """
        if settled.status != "ok" or settled.basis != "measured":
            return
        outputs = self._of(route_of(sent))
        with self._lock:
            outputs.append(settled.usage.completion)
            if counted:
                ratios = self._ratios.setdefault(sent.requested_model, _Ratios())
                ratios.add(Decimal(settled.usage.prompt) / counted)
                if len(self._ratios) > _ROUTES:
                    self._ratios.popitem(last=False)

    def usual_output(self, route: Route) -> int | None:
        """Output tokens that 99 of 100 answers stayed below, or None before there are enough."""
        outputs = self._of(route)
        with self._lock:
            return usual(outputs)

    def prompt(self, model: str, provider: str | None, counted: int) -> int:
        """A prompt's tokens as the provider will count them, with a margin learned from what it billed before."""
        with self._lock:
            ratios = self._ratios.get(model)
            many, highest = (len(ratios), ratios.highest) if ratios else (0, Decimal(0))
        if provider in _COUNTED_EXACTLY and highest <= 1:
            margin = Decimal(1)
        elif many >= _ENOUGH:
            margin = highest * _ON_TOP
        else:
            margin = max(_UNKNOWN_MARGIN, highest * _ON_TOP)
        return int((counted * margin).to_integral_value(ROUND_CEILING))

    def _of(self, route: Route) -> deque[int]:
        with self._lock:
            if (known := self._outputs.get(route)) is not None:
                return known
        seed = deque(self._past(route), maxlen=_REMEMBERED)  # outside the lock: it reads the ledger
        with self._lock:
            if len(self._outputs) >= _ROUTES:
                self._outputs.popitem(last=False)
            return self._outputs.setdefault(route, seed)


def route_of(sent: Sent) -> Route:
    """The route of a call: its model and its label `feature`."""
    return sent.requested_model, sent.tags.get("feature")
