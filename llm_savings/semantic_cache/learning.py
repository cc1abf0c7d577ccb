"""How often the cache is wrong in a domain, learned from the answers that come in anyway, and what may be served then.

No calibration made elsewhere holds in a domain it never saw. So the cache counts, per domain and per bin of the
probability that its best candidate is right, the lookups and the labels. A label says whether the candidate's stored
answer would have been right. Below the threshold each miss gives one for free: the fresh answer is there to compare.
Above it some would-be hits are answered as misses ("audits") to get one.

The share of lookups answered wrongly at a threshold is then a stratified estimate: the sum, over the strata above it,
of the share of lookups in the stratum times the share of its labels that are wrong. That audits are rarer than free
labels does not bias it, and it assumes nothing about how the match model's probability relates to being right, only
that labels within a stratum are like its lookups. Counts only ever add up, so processes and machines share them.

Sources: the upper bound is the score interval of a Poisson mean (Rao 1948), for a weighted sum of counts as in Fay and
Feuer, "Confidence intervals for directly standardized rates" (1997); looking at it repeatedly is paid for by a union
bound over looks whose number of labels grows geometrically.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

LOWEST, STEP, BINS = -2.5, 0.5, 24
"""Bins of p on the logit scale: below -2.5, then every 0.5, from 9.0 up the last."""

CONFIDENCE = 0.95
"""With at least this probability the true share of wrong answers is below `Threshold.error_bound`, at all looks together."""

FEWEST_LABELS = 100
"""Below this nothing loosens."""

STRATUM = 0.02
"""Neighbouring bins are counted as one until they hold this share of the lookups."""

PRIOR = 4
"""What the shipped threshold's own calibration counts for, in labels a stratum, at a wrong rate of `max_error`."""

AUDITS = 1000
"""Audits are more frequent until so many labels are known at or above a probability."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a domain.

    Attributes:
        seen: Lookups with a candidate, by bin of the candidate's probability. Shape (24,), as the other two.
        right: Candidates whose stored answer was right, by bin.
        wrong: Candidates whose stored answer was wrong, by bin.
        lookups: All lookups, with those that had no candidate.
        unsure: Comparisons that said neither.
    """

    seen: tuple[int, ...] = (0,) * BINS
    right: tuple[int, ...] = (0,) * BINS
    wrong: tuple[int, ...] = (0,) * BINS
    lookups: int = 0
    unsure: int = 0

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Evidence:
        """Read a domain's counters, as `Store.counts` gives them.

        Example:
            >>> Evidence.from_counts(seen(0.9) | label(0.9, True)).labels
            1
        """

        def bins(kind: str) -> tuple[int, ...]:
            return tuple(max(0, counts.get(f"{kind}{number}", 0)) for number in range(BINS))

        return cls(bins("s"), bins("r"), bins("w"), max(0, counts.get("lookups", 0)), max(0, counts.get("unsure", 0)))

    @property
    def labels(self) -> int:
        """Comparisons that said right or wrong."""
        return sum(self.right) + sum(self.wrong)


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which probability on a stored answer is served, and what is known about serving from there.

    Attributes:
        value: Probability, 0 to 1; above 1 nothing is served.
        shipped: The threshold that holds without any evidence.
        error_estimate: Share of lookups answered wrongly, 0 to 1. Without any lookup 0.
        error_bound: Upper confidence bound of it (`CONFIDENCE`), 1 at most.
        hit_share: Share of lookups at or above the threshold.
        labels: Labels this rests on, in all.
        labels_above: Those among them at or above the threshold.
        lookups: Lookups this rests on.
        look: How often the bound has been looked at in order to loosen.
    """

    value: float
    shipped: float
    error_estimate: float = 0.0
    error_bound: float = 1.0
    hit_share: float = 0.0
    labels: int = 0
    labels_above: int = 0
    lookups: int = 0
    look: int = 0

    @property
    def per_hit_estimate(self) -> float:
        """Share of semantic hits that are wrong."""
        return min(1.0, self.error_estimate / self.hit_share) if self.hit_share else 0.0

    @property
    def per_hit_bound(self) -> float:
        """Upper confidence bound of the share of semantic hits that are wrong."""
        return min(1.0, self.error_bound / self.hit_share) if self.hit_share else 1.0


def bin_of(p: float) -> int:
    """The bin of a probability, 0 to 23. What is not a number is in the lowest."""
    if not p > 0.0:
        return 0
    if p >= 1.0:
        return BINS - 1
    return min(BINS - 1, max(0, 1 + math.floor((math.log(p / (1 - p)) - LOWEST) / STEP)))


def edge(number: int) -> float:
    """The lowest probability of a bin."""
    return 1 / (1 + math.exp(-(LOWEST + (number - 1) * STEP))) if number else 0.0


def seen(p: float | None) -> dict[str, int]:
    """What a lookup adds to its domain's counters.

    Args:
        p: The probability that the best candidate is right; None when there was no candidate.
    """
    return {"lookups": 1} if p is None else {"lookups": 1, f"s{bin_of(p)}": 1}


def label(p: float, right: bool | None) -> dict[str, int]:
    """What comparing a candidate's stored answer with the fresh one adds to the domain's counters.

    Args:
        p: The probability that the candidate had at the lookup.
        right: Whether its answer would have been right; None when the comparison could not tell.
    """
    return {"unsure": 1} if right is None else {f"{'r' if right else 'w'}{bin_of(p)}": 1}


def audit_chance(evidence: Evidence, p: float, rate: float) -> float:
    """How likely a would-be hit should be answered as a miss, to learn whether it would have been right.

    Args:
        evidence: What is known about the domain.
        p: The probability of the candidate.
        rate: The share of hits audited in the long run; 0 for none. While few labels are known at or above `p`, more
            are, up to every second hit.
    """
    start = bin_of(p)
    known = sum(evidence.right[start:]) + sum(evidence.wrong[start:])
    return rate if rate <= 0 else min(1.0, max(rate, min(0.5, rate * AUDITS / max(1, known))))


def threshold(
    evidence: Evidence, shipped: float, max_error: float = 0.01, *, previous: Threshold | None = None
) -> Threshold:
    """The threshold to use now.

    It is the shipped one until evidence speaks. It loosens only to where the upper bound of the share of wrong answers
    is at most `max_error`, and tightens as soon as the estimate is above it.

    Args:
        evidence: What is known about the domain.
        shipped: The threshold of the shipped calibration, 0 to 1.
        max_error: Share of lookups that may be answered wrongly, 0 to 1.
        previous: What this returned last. It holds the threshold between two looks, so that it does not flap and the
            bound is not tried too often.
    """
    starts, shares, rates, weights = _strata(evidence, max_error)
    look = _look(evidence.labels)
    z = _quantile(look)

    def judged(first: int) -> tuple[float, float]:
        error = math.fsum(s * r for s, r in zip(shares[first:], rates[first:], strict=True))
        variance = math.fsum(s * r * w for s, r, w in zip(shares[first:], rates[first:], weights[first:], strict=True))
        unseen = max(weights[first:], default=0.0)
        return error, error + unseen * z * z / 2 + z * math.sqrt(variance + (unseen * z / 2) ** 2)

    def stratum_of(value: float) -> int:
        number = bin_of(value)
        return sum(start <= number for start in starts) - 1 if value <= 1 else len(starts)

    last = previous.value if previous is not None else shipped
    value, at = last, stratum_of(last)
    if evidence.labels and judged(at)[0] > max_error:
        while judged(at)[0] > max_error:
            at += 1
        value = edge(starts[at]) if at < len(starts) else 2.0
    if look > (previous.look if previous is not None else 0):
        first = at
        while first > 0 and starts[first - 1] > 0 and judged(first - 1)[1] <= max_error:
            first -= 1
        if first < at:
            at, value = first, edge(starts[first])
        elif value > shipped and judged(stratum_of(shipped))[1] <= max_error:
            at, value = stratum_of(shipped), shipped
    else:
        look = previous.look if previous is not None else 0
    estimate, bound = judged(at)
    begin = starts[at] if at < len(starts) else BINS
    return Threshold(
        value=value,
        shipped=shipped,
        error_estimate=estimate if evidence.lookups else 0.0,
        error_bound=min(1.0, bound) if evidence.lookups else 1.0,
        hit_share=math.fsum(shares[at:]),
        labels=evidence.labels,
        labels_above=sum(evidence.right[begin:]) + sum(evidence.wrong[begin:]),
        lookups=evidence.lookups,
        look=look,
    )


def _strata(evidence: Evidence, max_error: float) -> tuple[list[int], list[float], list[float], list[float]]:
    """First bins, shares of lookups, wrong rates and weights of a label, from the lowest probability up."""
    total = max(1, evidence.lookups)
    starts: list[int] = []
    shares: list[float] = []
    rates: list[float] = []
    weights: list[float] = []
    end, count = BINS, 0
    for number in reversed(range(BINS)):
        count += evidence.seen[number]
        # By the lookups alone: if labels moved the borders, a right label could tighten.
        if number <= 1 or count >= STRATUM * total:
            wrong = sum(evidence.wrong[number:end])
            labels = wrong + sum(evidence.right[number:end]) + PRIOR
            starts.append(number)
            shares.append(count / total)
            rates.append((wrong + PRIOR * max_error) / labels)
            weights.append(count / total / labels)
            end, count = number, 0
    return starts[::-1], shares[::-1], rates[::-1], weights[::-1]


def _look(labels: int) -> int:
    """How many looks so many labels allow: one at the fewest, then at every growth by the square root of two."""
    return 0 if labels < FEWEST_LABELS else 1 + math.floor(2 * math.log2(labels / FEWEST_LABELS))


@lru_cache(maxsize=64)
def _quantile(look: int) -> float:
    """The normal quantile for a look, so that all looks together keep the confidence."""
    look = max(1, look)
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (look * (look + 1)))
