"""Bounds on an error rate that hold with a stated confidence, and the thresholds that they allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

_STEPS = 200  # thresholds that are tried over the lookups


def at_most(wrong: int, total: int, *, confidence: float = 0.95) -> float:
    """Return the upper Clopper-Pearson bound of the rate behind `wrong` of `total`; 1 when nothing was seen.

    The exact one-sided bound: the rate at which seeing `wrong` or fewer has probability 1 - confidence
    (Clopper and Pearson, 1934).

    Example:
        >>> round(at_most(0, 299), 4)
        0.01
    """
    if total <= 0 or wrong >= total:
        return 1.0
    low, high = wrong / total, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(wrong, total, middle) > 1.0 - confidence else (low, middle)
    return high


def at_least(right: int, total: int, *, confidence: float = 0.95) -> float:
    """Return the lower Clopper-Pearson bound of the rate behind `right` of `total`; 0 when nothing was seen."""
    return 1.0 - at_most(total - right, total, confidence=confidence)


def _tail(wrong: int, total: int, rate: float) -> float:
    """Return the probability of `wrong` or fewer of `total` at `rate`."""
    if rate <= 0.0 or rate >= 1.0:
        return 1.0 if rate <= 0.0 else 0.0
    step, other = math.log(rate), math.log1p(-rate)
    term, found = total * other, 0.0
    for seen in range(wrong + 1):
        found += math.exp(term)
        term += math.log((total - seen) / (seen + 1)) + step - other if seen < total else 0.0
    return min(found, 1.0)


def safe_threshold(
    scored: Sequence[tuple[float, bool]], *, lookups: int, max_error: float, confidence: float = 0.95
) -> float:
    """Return the lowest score at which serving keeps wrong answers within `max_error` of the lookups, or infinity.

    Thresholds are tried from the strictest down, a fixed number of lookups apart, and the first whose bound exceeds
    `max_error` ends the search. Testing in an order fixed beforehand and stopping at the first failure keeps the
    confidence for the threshold chosen, however many were tried (fixed-sequence testing; Angelopoulos and others,
    "Learn then Test", 2021). Taking the loosest that happens to pass would not.

    Args:
        scored: Score and whether the answer was right, one for each lookup that has a candidate.
        lookups: All lookups, those without a candidate too.
        max_error: Allowed share of lookups answered wrongly.
        confidence: Of the bound.
    """
    ordered = sorted(scored, reverse=True)
    stride = max(lookups // _STEPS, 1)
    best = math.inf
    wrong, due = 0, stride
    for count, (score, right) in enumerate(ordered, 1):
        wrong += not right
        last = count == len(ordered)
        # Equal scores are served together or not at all.
        if not last and (count < due or score == ordered[count][0]):
            continue
        due = count + stride
        if at_most(wrong, lookups, confidence=confidence) > max_error:
            break
        best = score
    return best
