"""Did saving change an answer? Every answer beside the strong model's fresh one to the same request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_savings.ledger import Call, Settled
from llm_savings.semantic_cache.match.bounds import at_most
from llm_savings.usage import Usage

# What a hosted model takes, for the waiting that hits spare: half a second to begin, then 70 tokens a second. An
# assumption in round numbers, and the only figure of the demo that is not counted.
_BEGIN, _PACE = 0.5, 70


@dataclass(frozen=True, slots=True)
class Group:
    """Answers that came about in one way.

    Attributes:
        name: In which: "answered by the cache", "answered by a smaller model", ...
        answers: How many.
        wrong: How many of them say something else than the fresh answer.
    """

    name: str
    answers: int
    wrong: int

    @property
    def bound(self) -> float:
        """Share of such answers that may be wrong, at 95% (Clopper and Pearson, one-sided)."""
        return at_most(self.wrong, self.answers)


def check(fresh: Mapping[str, str], answers: Mapping[str, str], calls: Iterable[Call]) -> list[Group]:
    """Compare word for word, by how each answer came about.

    Args:
        fresh: The strong model's answers by request, from the run without savings.
        answers: The same requests' with savings.
        calls: The ledger's, with a tag `request`; what has no row of its own was answered by a batch.
    """
    how: dict[str, str] = {}
    for call in calls:
        settled, name = call.settled, call.sent.tags.get("request")
        if settled is None or name is None:
            continue
        if settled.status == "hit":
            how[name] = "answered by the cache"
        elif _tier(settled) == "simple":
            how[name] = "answered by a smaller model"
        else:
            how.setdefault(name, "answered by the same model")
    names = (
        "answered by the cache",
        "answered by a smaller model",
        "answered by the same model",
        "answered by a batch",
    )
    groups = {name: [0, 0] for name in names}
    for request, text in answers.items():
        group = groups[how.get(request, "answered by a batch")]
        group[0] += 1
        group[1] += text != fresh[request]
    return [Group(name, count, wrong) for name, (count, wrong) in groups.items() if count]


def kept(calls: Iterable[Call]) -> tuple[int, Decimal]:
    """Calls that routing left with the strongest model, and what they cost in USD: what limits the saving."""
    hard, usd = 0, Decimal(0)
    for call in calls:
        settled = call.settled
        if settled is not None and settled.status != "hit" and _tier(settled) == "complex":
            hard, usd = hard + 1, usd + (settled.actual or 0)
    return hard, usd


def _tier(settled: Settled) -> Any:
    routing: Mapping[str, Any] = settled.strategies.get("routing") or {}
    return routing.get("tier")


def spared_seconds(calls: Iterable[Call]) -> float:
    """Seconds of waiting that hits spared; modelled."""
    used: list[Usage] = [call.settled.usage for call in calls if call.settled and call.settled.status == "hit"]
    return sum(_BEGIN + usage.output / _PACE for usage in used)
