"""Learning from a user's own prompts how good each tier's answers will be.

For each tier a ridge regression of the quality of its answers on the words of the prompt (weighed by how rare they
are, each prompt of length one) and on what the difficulty model counts. Tiers differ in their weights alone, so the
difference of two tiers' predictions is what a regression of the difference would have given; and a prompt helps where
only one tier's answer was judged (a thumb). Each prompt is also predicted by a model that was learned without the
fifth of the prompts that it is in, so that thresholds are chosen on what the model says of prompts it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32

import numpy as np

from llm_savings.errors import ConfigError
from llm_savings.routing.difficulty import Difficulty
from llm_savings.routing.features import features
from llm_savings.routing.requests import bounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 30
"""Judged prompts of a tier below which nothing is learned."""

FOLDS = 5
BITS = 18
"""As `difficulty.BITS`, for words that matter to one user: more of them are kept apart."""
_RIDGES = (6.0, 25.0)
_COUNTS = 0.05  # what one standard deviation of a count weighs against a prompt of words, whose length is 1
_STEPS = 15  # of the conjugate gradients; predictions hardly change any more


class Example(NamedTuple):
    """A prompt and the quality of tiers' answers to it, 0 to 1; NaN where nobody judged."""

    prompt: str
    scores: tuple[float, ...]


def examples(
    prompts: Sequence[str], scores: Sequence[Mapping[str, float]], tiers: Mapping[str, str], *, complete: bool = False
) -> list[Example]:
    """Prompts with the quality of each tier's answer, checked.

    Args:
        prompts: The last user turns.
        scores: For each, tier or model name -> quality from 0 to 1. One tier alone is a thumb: {"simple": 1.0}.
        tiers: Tier name -> the name of its model.
        complete: Leave out prompts of which not every tier was judged.

    Raises:
        ConfigError: The lengths differ, a name is no tier's, or a score is no number from 0 to 1.
    """
    if len(prompts) != len(scores):
        raise ConfigError(f"scores: {len(scores)} for {len(prompts)} prompts; give one mapping for each prompt")
    names = {name: place for place, name in enumerate(tiers)}
    by_model = {model: names[name] for name, model in tiers.items() if list(tiers.values()).count(model) == 1}
    found: list[Example] = []
    for number, (prompt, said) in enumerate(zip(prompts, scores, strict=True)):
        row = [math.nan] * len(tiers)
        for name, value in said.items():
            place = names.get(name, by_model.get(name))
            if place is None:
                raise ConfigError(f"scores[{number}]: {name!r} is no tier and no tier's model; {', '.join(tiers)} are")
            if isinstance(cast(object, value), bool | int | float) and 0 <= value <= 1:
                row[place] = float(value)
            else:
                raise ConfigError(f"scores[{number}][{name!r}]={value!r}; give a quality from 0 to 1")
        if not (complete and any(map(math.isnan, row))):
            found.append(Example(prompt, tuple(row)))
    return found


def preferences(preferred: Sequence[str], tiers: Mapping[str, str]) -> list[dict[str, float]]:
    """Scores from pairwise judgements: "tie", or the name of the tier (of two) whose answer was better.

    Raises:
        ConfigError: There are more tiers than two, or one is neither a tier nor "tie".
    """
    if len(tiers) != 2:
        raise ConfigError(f"preferred: a pair has two answers, and there are {len(tiers)} tiers; give scores instead")
    for number, name in enumerate(preferred):
        if name != "tie" and name not in tiers:
            raise ConfigError(f"preferred[{number}]={name!r}; give 'tie' or one of {', '.join(map(repr, tiers))}")
    return [{tier: float(name in ("tie", tier)) for tier in tiers} for name in preferred]


def fold_of(prompt: str) -> int:
    """The fold that a prompt is left out of, the same every time."""
    return crc32(prompt.encode("utf-8", "surrogatepass")) % FOLDS


class Counted(NamedTuple):
    """One prompt as the model sees it."""

    counts: Any
    places: Any


def count(text: str) -> Counted:
    """What the model sees of a prompt."""
    seen = features(bounded(text))
    counts = np.array([*seen.counts, Difficulty.load().odds(seen)])
    return Counted(counts, seen.hashes & ((1 << BITS) - 1))


@dataclass(frozen=True)
class Learned:
    """How good each tier's answers will be, and what that was learned from.

    Attributes:
        centre: Means of the counts.
        scale: What one of each count weighs.
        rarity: Of the words, by place.
        words: Weights of the words: tier x place.
        counts: Weights of the counts: tier x count.
        base: Mean quality of each tier.
        held_out: Digest of a prompt that was learned from -> what a model said of it that had not seen it.
    """

    centre: Any
    scale: Any
    rarity: Any
    words: Any
    counts: Any
    base: Any
    held_out: Mapping[int, Any]

    def quality(self, text: str, *, unseen: bool = False) -> Any:
        """Quality expected of each tier's answer, one number a tier.

        Args:
            text: The prompt.
            unseen: Predict as if the prompt had not been learned from, where it was.
        """
        if unseen and (said := self.held_out.get(digest(text))) is not None:
            return said
        seen = count(text)
        weights = self.rarity[seen.places].astype(np.float64)
        norm = math.sqrt(float(weights @ weights)) or 1.0
        by_words = self.words[:, seen.places].astype(np.float64) @ (weights / norm)
        return self.base + by_words + self.counts @ ((seen.counts - self.centre) * self.scale)


def digest(prompt: str) -> int:
    """A number that stands for a prompt."""
    return int.from_bytes(blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")


def learn(rows: Sequence[Example]) -> Learned:
    """Learn from judged prompts.

    Raises:
        ConfigError: Too few answers of a tier were judged.
    """
    quality = np.array([row.scores for row in rows], dtype=np.float64).reshape(len(rows), -1)
    judged = np.isfinite(quality).sum(0)
    if not len(rows) or judged.min() < FEWEST:
        few = int(judged.min()) if len(rows) else 0
        raise ConfigError(f"scores: a tier has {few} judged answers; {FEWEST} are the least, some hundreds do well")
    seen = [count(row.prompt) for row in rows]
    counts = np.array([each.counts for each in seen])
    centre, spread = counts.mean(0), counts.std(0)
    scale = np.where(spread > 1e-9, _COUNTS / np.maximum(spread, 1e-9), 0.0)
    folds = np.array([fold_of(row.prompt) for row in rows])
    sparse = _Sparse([each.places for each in seen], (counts - centre) * scale)
    ridge = min(_RIDGES, key=lambda each: _error(sparse, quality, folds, each))
    held_out = np.zeros_like(quality)
    for fold in range(FOLDS):
        left_out = folds == fold
        held_out[left_out] = _guessed(sparse, _solved(sparse, quality, ~left_out, ridge))[left_out]
    weights, base = _solved(sparse, quality, np.ones(len(rows), bool), ridge)
    of_words = np.zeros((len(base), 1 << BITS), np.float16)
    of_words[:, sparse.places] = weights[:, : len(sparse.places)]
    said = {digest(row.prompt): each for row, each in zip(rows, held_out, strict=True)}
    rarity = sparse.rarity.astype(np.float16)
    return Learned(centre, scale, rarity, of_words, weights[:, len(sparse.places) :], base, said)


class _Sparse:
    """Prompts x (words that they have, counts), as far as products with it are needed."""

    def __init__(self, rows: Sequence[Any], counts: Floats) -> None:
        self._counts, self.height = counts, len(rows)
        self._row = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        place = np.concatenate([*rows, np.zeros(0, np.intp)])
        often = np.bincount(place, minlength=1 << BITS)
        # Of a word never seen, too: it makes a prompt longer. The root keeps common words, which tell tasks apart.
        self.rarity = np.sqrt(np.log((len(rows) + 1) / (often + 1)) + 1)
        self.places, self._column = np.unique(place, return_inverse=True)
        values = self.rarity[place]
        norm = np.sqrt(np.bincount(self._row, values**2, minlength=len(rows)))
        self._value = values / np.maximum(norm, 1e-9)[self._row]

    def times(self, weights: Floats) -> Floats:
        """One number a prompt, from one a column: first the words, then the counts."""
        known = len(self.places)
        said = np.bincount(self._row, self._value * weights[:known][self._column], minlength=self.height)
        return np.asarray(said, np.float64) + self._counts @ weights[known:]

    def turned(self, of_prompts: Floats) -> Floats:
        """One number a column, from one a prompt."""
        said = np.bincount(self._column, self._value * of_prompts[self._row], minlength=len(self.places))
        return np.concatenate((np.asarray(said, np.float64), self._counts.T @ of_prompts))


class _Solved(NamedTuple):
    weights: Floats  # tier x column
    base: Floats  # mean quality of each tier


def _solved(rows: _Sparse, quality: Floats, kept: NDArray[np.bool_], ridge: float) -> _Solved:
    """Weights and mean of each tier, from the prompts that are kept."""
    weights: list[Floats] = []
    base: list[float] = []
    for tier in range(quality.shape[1]):
        judged = kept & np.isfinite(quality[:, tier])
        mean = float(quality[judged, tier].mean()) if judged.any() else 0.0
        weights.append(_conjugate(rows, np.where(judged, np.nan_to_num(quality[:, tier]) - mean, 0.0), judged, ridge))
        base.append(mean)
    return _Solved(np.array(weights), np.array(base))


def _conjugate(rows: _Sparse, wanted: Floats, kept: NDArray[np.bool_], ridge: float) -> Floats:
    """Ridge regression by conjugate gradients (Hestenes and Stiefel, 1952)."""
    left = rows.turned(wanted)
    found, way, size = np.zeros_like(left), left.copy(), float(left @ left)
    for _ in range(_STEPS):
        if size < 1e-12:
            break
        moved = rows.turned(rows.times(way) * kept) + ridge * way
        step = size / float(way @ moved)
        found += step * way
        left -= step * moved
        size, before = float(left @ left), size
        way = left + size / before * way
    return found


def _guessed(rows: _Sparse, solved: _Solved) -> Floats:
    guessed: Floats = np.empty((rows.height, len(solved.base)))
    for tier, weights in enumerate(solved.weights):
        guessed[:, tier] = rows.times(weights) + solved.base[tier]
    return guessed


def _error(rows: _Sparse, quality: Floats, folds: NDArray[np.intp], ridge: float) -> float:
    """Squared error on a fifth that was left out, for choosing the ridge."""
    left_out = folds == 0
    return float(np.nansum((_guessed(rows, _solved(rows, quality, ~left_out, ridge)) - quality)[left_out] ** 2))
