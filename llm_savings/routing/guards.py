"""What keeps a request out of a tier: its model does not take it."""

from __future__ import annotations

from collections.abc import Sequence

from llm_savings.pricing import PriceBook
from llm_savings.routing.requests import Asked
from llm_savings.routing.tiers import Capabilities, Tier, capabilities_of


class Guards:
    """What the tiers' models can take; looked up once.

    Args:
        tiers: From the cheapest to the strongest.
        prices: The price book, whose map says it.
    """

    def __init__(self, tiers: Sequence[Tier], prices: PriceBook) -> None:
        self._tiers, self._prices = tiers, prices
        self._known: dict[int, Capabilities] = {}

    def nearest(self, place: int, asked: Asked) -> tuple[int, tuple[str, ...]]:
        """The nearest tier that takes this request, a stronger one if there is one, and what the one at `place` lacks.

        Example:
            >>> guards = Guards((Tier("gpt-3.5-turbo"), Tier("gpt-4o")), PriceBook())
            >>> guards.nearest(0, Asked(text="What is this?", needs=frozenset({"vision"})))
            (1, ('vision',))
        """
        lacking = self.lacking(place, asked)
        if not lacking:
            return place, ()
        for other in (*range(place + 1, len(self._tiers)), *range(place - 1, -1, -1)):
            if not self.lacking(other, asked):
                return other, lacking
        return len(self._tiers) - 1, (*lacking, "none")

    def lacking(self, place: int, asked: Asked) -> tuple[str, ...]:
        """What the request needs and this tier's model does not take, such as "vision" or "context"."""
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = capabilities_of(self._tiers[place], self._prices)
        lacks = [need for need in sorted(asked.needs) if getattr(known, need) is False]
        if known.context is not None and asked.tokens + asked.output > known.context:
            lacks.append("context")
        if known.output is not None and asked.output > known.output:
            lacks.append("output")
        return tuple(lacks)
