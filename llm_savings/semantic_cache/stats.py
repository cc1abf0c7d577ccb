"""What the cache has done: hits by tier, misses by reason, money and time saved, answers that were wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from llm_savings.ledger.records import from_picodollars, to_picodollars
from llm_savings.semantic_cache.errors import Domain
from llm_savings.semantic_cache.found import Hit, Lookup
from llm_savings.semantic_cache.learning import Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a namespace's cache has done since it was made.

    Attributes:
        lookups: Requests that could be looked up.
        hits: By tier: exact, canonical, semantic.
        waited: Hits among them that were another call's answer, waited for.
        misses: By reason.
        saved: USD that hits saved, as far as known.
        unpriced: Hits of which nobody knows what they saved.
        seconds: That hits saved.
        errors: By domain, the threshold in use and the share of wrong answers it stands for.
        entries: Answers kept, in all namespaces.
        size: Bytes that they take.
    """

    lookups: int = 0
    hits: Mapping[str, int] = field(default_factory=dict[str, int])
    waited: int = 0
    misses: Mapping[str, int] = field(default_factory=dict[str, int])
    saved: Decimal = Decimal(0)
    unpriced: int = 0
    seconds: float = 0.0
    errors: Mapping[Domain, Threshold] = field(default_factory=dict[Domain, Threshold])
    entries: int = 0
    size: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of lookups that were answered, 0 to 1."""
        return sum(self.hits.values()) / self.lookups if self.lookups else 0.0

    @property
    def wrong(self) -> tuple[float, float] | None:
        """Share of lookups answered wrongly, and its upper bound (95%); None where nothing is known of it.

        Over all domains: their figures weighted by their lookups.
        """
        lookups = sum(threshold.lookups for threshold in self.errors.values())
        if not any(threshold.labels_above for threshold in self.errors.values()):
            return None
        figures = [(t.error_estimate, t.error_bound, t.lookups / lookups) for t in self.errors.values()]
        return sum(e * share for e, _, share in figures), min(1.0, sum(b * share for _, b, share in figures))


def counted(found: Lookup) -> dict[str, int]:
    """What a lookup adds to the counters."""
    if not isinstance(found, Hit):
        return {"lookups": 1, f"miss:{found.reason}": 1}
    deltas = {"lookups": 1, f"hit:{found.tier}": 1}
    if found.waited:
        deltas["waited"] = 1
    pico = to_picodollars(found.saved)
    deltas |= {"unpriced": 1} if pico is None else {"saved_pusd": pico}
    if found.saved_seconds is not None:
        deltas["saved_us"] = round(found.saved_seconds * 1e6)
    return deltas


def read_stats(
    counts: Mapping[str, int], *, errors: Mapping[Domain, Threshold] | None = None, entries: int = 0, size: int = 0
) -> Stats:
    """From the counters that `counted` adds to."""
    return Stats(
        lookups=counts.get("lookups", 0),
        hits=_named(counts, "hit:"),
        waited=counts.get("waited", 0),
        misses=_named(counts, "miss:"),
        saved=from_picodollars(counts.get("saved_pusd", 0)) or Decimal(0),
        unpriced=counts.get("unpriced", 0),
        seconds=counts.get("saved_us", 0) / 1e6,
        errors=errors or {},
        entries=entries,
        size=size,
    )


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    found = {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
