"""What a pair of questions looks like to the match model: a row of numbers, the same whichever is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from llm_savings.semantic_cache.match.question import Question

NAMES = (
    "cosine", "closeness", "crowd", "grams", "aligned", "worst", "substituted", "added", "single", "swapped", "words",
    "length", "asks", "inversions",
)  # fmt: skip
ALIGNED, WORST, SINGLE = (NAMES.index(name) for name in ("aligned", "worst", "single"))
# Which way a feature may move the probability: +1 up only, -1 down only, 0 either.
SIGNS = (1, 1, -1, 1, 1, -1, -1, -1, -1, -1, 0, 1, 1, -1)


class WordSpace(Protocol):
    """Where the weight of a word and the likeness of two come from."""

    def weights(self, words: Sequence[str]) -> list[float]:
        """Return each word's inverse document frequency, about 1 (common) to 10 (never seen)."""
        ...

    def likeness(self, words: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        """Return the cosine of each word's vector with each of the others', 0 where one has none."""
        ...


class Outline(NamedTuple):
    """What a pair looks like before the words without a partner are compared.

    Attributes:
        row: The features as if each such word had one just like it: no comparison makes the probability higher.
        here: Content words of the asked question that the stored one lacks, as written.
        there: The same the other way round.
    """

    row: tuple[float, ...]
    here: list[str]
    there: list[str]


def features(asked: Question, stored: Question, *, cosine: float, crowd: float, space: WordSpace) -> tuple[float, ...]:
    """Return the features of a pair in the order of `NAMES`.

    Args:
        asked: The question asked now.
        stored: The question answered before.
        cosine: Of their vectors.
        crowd: Cosine of the fifth nearest question. Where even that is near, everything looks alike (a bank's
            customers ask about cards and transfers), and the same cosine says less: what counts is the margin to it.
        space: Word weights and likeness.
    """
    return compared(outline(asked, stored, cosine=cosine, crowd=crowd), asked, stored, space)


def outline(asked: Question, stored: Question, *, cosine: float, crowd: float) -> Outline:
    """Return what `features` begins with; see there."""
    mine, theirs = asked.word_set, stored.word_set
    here = _unmatched(asked, theirs, stored)
    there = _unmatched(stored, mine, asked)
    gone, come = len(here), len(there)
    own, other = frozenset(asked.tokens), frozenset(stored.tokens)
    one, two = len(asked.tokens), len(stored.tokens)
    bits = asked.grams.bit_count() + stored.grams.bit_count()
    row = (
        cosine,
        -math.log(1.03 - min(cosine, 1.0)),  # the last steps to 1 tell more than those before
        min(max(crowd, 0.5), 1.0),  # below a half nothing is near at all
        2.0 * (asked.grams & stored.grams).bit_count() / bits if bits else 0.0,
        1.0 if asked.surfaces or stored.surfaces else 0.0,
        0.0,
        float(min(gone, come, 4)),
        float(min(abs(gone - come), 4)),
        0.0,
        float(len(own - other) == 1 == len(other - own)),
        math.log1p(min(len(mine), len(theirs))),
        min(one, two) / max(one, two, 1),
        1.0 if asked.asks == stored.asks else 0.5 if not asked.asks or not stored.asks else 0.0,
        _inversions(asked.words, stored.words, mine & theirs),
    )
    return Outline(row, here, there)


def compared(pair: Outline, asked: Question, stored: Question, space: WordSpace) -> tuple[float, ...]:
    """Return the features of a pair, its words without a partner compared with each other."""
    row, here, there = pair
    gone, come = len(here), len(there)
    if not gone and not come:
        return row
    weights = space.weights([*here, *there, *asked.surfaces, *stored.surfaces])
    nearest = [0.0] * (gone + come)
    if here and there:
        table = space.likeness(here, there)
        nearest = [max(0.0, *line) for line in table] + [max(0.0, *line) for line in zip(*table, strict=True)]
    lost = [weight * (1.0 - best) for weight, best in zip(weights, nearest, strict=False)]
    total = sum(weights[gone + come :])
    found = list(row)
    found[ALIGNED] = 1.0 - sum(lost) / total if total else 0.0
    found[WORST] = max(lost)
    found[SINGLE] = 1.0 - nearest[0] if gone == come == 1 else 0.0
    return tuple(found)


def _unmatched(question: Question, theirs: frozenset[str], other: Question) -> list[str]:
    """Return the content words, as written, that the other question lacks, written apart or together."""
    left = [pair for pair in zip(question.words, question.surfaces, strict=True) if pair[0] not in theirs]
    if left and question.language == "ko":
        joined = "".join(other.words)
        return [surface for word, surface in left if len(word) < 2 or word not in joined]
    return [surface for _, surface in left]


def _inversions(words: tuple[str, ...], others: tuple[str, ...], shared: frozenset[str]) -> float:
    """Return the share of neighbouring shared words that stand the other way round in the other question."""
    if len(shared) < 2:
        return 0.0
    mine = [word for word in dict.fromkeys(words) if word in shared]
    theirs = [word for word in dict.fromkeys(others) if word in shared]
    return 0.0 if mine == theirs else max(_turns(mine, theirs), _turns(theirs, mine)) / (len(shared) - 1)


def _turns(words: list[str], others: list[str]) -> int:
    place = {word: index for index, word in enumerate(others)}
    return sum(place[after] < place[before] for before, after in pairwise(words))
