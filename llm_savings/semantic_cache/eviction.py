"""Which answers go when there is no room: those that save least for the bytes they take."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from llm_savings.semantic_cache.entries import Weight

# An answer not asked for in a day is worth half of one that was asked for just now.
_HALF_LIFE_US = 24 * 3600 * 1_000_000
# Making room for a few more at once spares most `keep`s from looking at all.
_SPARE = 0.05


def victims(weights: Sequence[Weight], *, entries: int | None, size: int | None, now_us: int) -> list[str]:
    """The ids of what has to go so that no more than so many entries and bytes stay, with 5% to spare.

    An answer's worth is what a hit saves times its hits (and half of one for those that have none yet), halved for
    every day unused, a byte of size.

    Args:
        weights: Every entry's.
        entries: At most so many, or None.
        size: At most so many bytes, or None.
        now_us: UTC microseconds since 1970.
    """
    kept, held = len(weights), sum(weight.size for weight in weights)
    if not _over(kept, entries) and not _over(held, size):
        return []
    usual = median([weight.cost for weight in weights if weight.cost > 0] or [1])

    def worth(weight: Weight) -> float:
        unused = max(0, now_us - weight.used_us) / _HALF_LIFE_US
        return (weight.hits + 0.5) * (weight.cost or usual) * 0.5**unused / max(1, weight.size)

    going: list[str] = []
    for weight in sorted(weights, key=worth):
        if not _over(kept, entries, _SPARE) and not _over(held, size, _SPARE):
            break
        going.append(weight.id)
        kept, held = kept - 1, held - weight.size
    return going


def _over(amount: int, limit: int | None, spare: float = 0.0) -> bool:
    return limit is not None and amount > limit * (1 - spare)
