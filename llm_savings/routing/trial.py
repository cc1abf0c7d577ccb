"""What an experiment says: whether quality and cost differ between where requests went and where else they could go.

A router with `experiment=0.1` sends a tenth of its requests the other way and writes into the ledger which (`arm`). Of
requests for which it chose one tier, those of both arms are alike but for the tier, so the difference of their means
is the tier's doing. A conversation is in one arm as a whole, so conversations are compared, not calls. Intervals are
Welch's (1947), with the normal quantile.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, cast

from llm_savings.ledger import Call

_Z = 1.959964
FEWEST = 20
"""Conversations of an arm below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The routed arm against the other one.

    Attributes:
        routed: Mean where requests went where the router wanted.
        other: Mean where they went the other way.
        low: Lower 95% confidence limit of routed - other.
        high: Upper one.
        conversations: How many there are of each arm.
    """

    routed: float
    other: float
    low: float
    high: float
    conversations: tuple[int, int]

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the experiment says of the requests for which the router chose one tier.

    Attributes:
        chosen: The tier that the router chose.
        sent: The tier that the other arm went to.
        cost: USD a conversation, or None where too few are priced.
        quality: Of an answer as judged, 0 to 1, or None where too few were judged.
    """

    chosen: str
    sent: str
    cost: Difference | None
    quality: Difference | None


def compare(calls: Iterable[Call], quality: Mapping[str, float] | None = None) -> list[Outcome]:
    """What an experiment says, for each tier that was chosen.

    Args:
        calls: From the ledger (`ledger.calls()`); those of no experiment are passed over.
        quality: Call id -> quality of its answer from 0 to 1, where it was judged.
    """
    costs: dict[Any, list[float]] = defaultdict(list)
    unknown: set[Any] = set()  # conversations with a call of which nobody knows what it cost
    judged: dict[Any, list[float]] = defaultdict(list)
    sent: dict[str, str] = {}
    for call in calls:
        said = evidence_of(call)
        if said is None or said.get("arm") not in ("routed", "other") or call.settled is None:
            continue
        chosen = str(said.get("chosen"))
        if said["arm"] == "other":
            sent[chosen] = str(said.get("tier"))
        where = (chosen, said["arm"], call.sent.session or call.sent.call_id)
        if call.settled.actual is not None:
            costs[where].append(float(call.settled.actual))
        else:
            unknown.add(where)
        if quality is not None and (value := quality.get(call.sent.call_id)) is not None:
            judged[where].append(value)
    for where in unknown:
        costs.pop(where, None)
    return [
        Outcome(
            chosen,
            sent[chosen],
            _difference({where: sum(each) for where, each in costs.items() if where[0] == chosen}),
            _difference({where: fmean(each) for where, each in judged.items() if where[0] == chosen}),
        )
        for chosen in sorted(sent)
    ]


def evidence_of(call: Call) -> Mapping[str, Any] | None:
    """What routing did to a call, by its row in the ledger; None where it did nothing."""
    said = None if call.settled is None else call.settled.strategies.get("routing")
    return cast("Mapping[str, Any]", said) if isinstance(said, dict) else None


def _difference(values: Mapping[Any, float]) -> Difference | None:
    routed = [value for where, value in values.items() if where[1] == "routed"]
    other = [value for where, value in values.items() if where[1] == "other"]
    if min(len(routed), len(other)) < FEWEST:
        return None
    gap = fmean(routed) - fmean(other)
    half = _Z * math.sqrt(variance(routed) / len(routed) + variance(other) / len(other))
    return Difference(fmean(routed), fmean(other), gap - half, gap + half, (len(routed), len(other)))
