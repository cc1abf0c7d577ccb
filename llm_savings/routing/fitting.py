"""Learning from a user's own prompts how good each tier's answers will be.

For each tier a ridge regression of the quality of its answers on how near a prompt is to some of the user's (a Gaussian
kernel with marks; Williams and Seeger, "Using the Nystrom method", 2001) and on the shipped difficulty, which is what
remains where few prompts were judged. Near is near in both, subject and layout: numbers in the answers mean something
else in algebra than in law. Tiers differ in their weights alone, so the difference of two tiers' predictions is what a
regression of the difference would have given; and a prompt helps where only one tier's answer was judged (a thumb).
Each prompt is also predicted by a model that was learned without the fifth of the prompts that it is in, so that
thresholds are chosen on what the model says of prompts it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32

import numpy as np

from llm_savings.errors import ConfigError
from llm_savings.routing.places import Space, columns, marks_among, near
from llm_savings.routing.wording import Wording

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 30
"""Judged prompts of a tier below which nothing is learned."""

FOLDS = 5
_MARKS = 768
_RIDGES = (3.0, 6.0, 12.0, 25.0, 50.0)
_WORD_RIDGES = (80.0, 40.0, 20.0)
_FLOOR = 1e-3  # of nearness among the marks: what is less is rounding


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


@dataclass(frozen=True)
class Learned:
    """How good each tier's answers will be, and what that was learned from.

    Attributes:
        space: Where a prompt is. Its words' further columns are their weights for each tier, and in the last column the
            square of what each counts for.
        marks: The points from which nearness is told, as `places.columns` lays them out.
        weights: Of nearness to each mark, and of the difficulty: (mark, difficulty) x tier.
        base: Mean quality of each tier.
        held_out: Digest of a prompt that was learned from -> what a model said of it that had not seen it.
    """

    space: Space
    marks: Any
    weights: Any
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
        point, spoken = self.space.point(text)
        by_place = near(point[:-1], self.marks) @ self.weights[:-1] + point[-1] * self.weights[-1]
        return self.base + by_place + spoken[:-1] / max(float(spoken[-1]), 1e-9) ** 0.5


def digest(prompt: str) -> int:
    """A number that stands for a prompt."""
    return int.from_bytes(blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")


def learn(rows: Sequence[Example]) -> Learned:
    """Learn from judged prompts. What is learned does not hang on their order.

    Raises:
        ConfigError: Too few answers of a tier were judged.
    """
    rows = sorted(rows, key=lambda row: row.prompt)
    quality = np.array([row.scores for row in rows], dtype=np.float64).reshape(len(rows), -1 if rows else 1)
    judged = np.isfinite(quality).sum(0)
    if (few := int(judged.min())) < FEWEST:
        raise ConfigError(f"scores: a tier has {few} judged answers; {FEWEST} are the least, some hundreds do well")
    space, points, found = Space.spanned([row.prompt for row in rows])
    centres = marks_among(points[:, :-1], _MARKS)
    marks = columns(centres)
    size, turned = np.linalg.eigh(near(centres, marks).astype(np.float64))
    turned /= np.sqrt(np.maximum(size, _FLOOR))
    seen = np.concatenate((near(points[:, :-1], marks) @ turned, points[:, -1:]), 1)
    folds = np.array([fold_of(row.prompt) for row in rows])
    known = np.isfinite(quality)
    base = np.nanmean(quality, 0)
    wanted = np.where(known, quality - base, 0.0)
    if (known == known[:, :1]).all():
        weights = _regressed(seen, wanted, known[:, 0], folds)
    else:
        each = [_regressed(seen, wanted[:, [k]], known[:, k], folds) for k in range(known.shape[1])]
        weights = np.concatenate(each, 3)

    def error(said: Floats) -> float:
        """Of the gap between tiers, by which is routed, if some prompts have both judged."""
        off = said + base - quality
        gap = off[:, :-1] - off[:, -1:]
        return float(np.nansum((gap if np.isfinite(gap).any() else off) ** 2))

    by_place, by_marks = min(
        ((_left_out([seen @ part for part in each], folds), each) for each in weights), key=lambda one: error(one[0])
    )
    words = Wording.of(found, len(space.vectors))
    left = [wanted - seen @ each for each in by_marks]

    def spoken_with(ridge: float, fold: int) -> Floats:
        inside = known & (folds != fold)[:, None]
        return np.stack([words.regressed(left[fold][:, k], inside[:, k], ridge) for k in range(known.shape[1])], 1)

    held_out, chosen, best = by_place, None, error(by_place)
    for ridge in _WORD_RIDGES:
        parts = [spoken_with(ridge, fold) for fold in range(FOLDS)]
        said = [np.stack([words.said(w, len(rows)) for w in part.T], 1) for part in parts]
        both = by_place + _left_out(said, folds)
        if (off := error(both)) < best:
            held_out, chosen, best = both, ridge, off
    spoken = np.zeros((len(space.vectors), known.shape[1])) if chosen is None else spoken_with(chosen, FOLDS)
    further = np.c_[spoken * words.rare[:, None], words.rare**2].astype(np.float32)
    return Learned(
        replace(space, vectors=np.concatenate((space.vectors, further), 1)),
        marks,
        np.concatenate((turned @ by_marks[FOLDS, :-1], by_marks[FOLDS, -1:])).astype(np.float32),
        base,
        {digest(row.prompt): each for row, each in zip(rows, held_out + base, strict=True)},
    )


def _left_out(said: Sequence[Floats], folds: NDArray[np.intp]) -> Floats:
    """Of each prompt what the model without its fold says: prompt x tier."""
    return np.stack(said[:FOLDS])[folds, np.arange(len(folds))]


def _regressed(seen: Any, wanted: Floats, judged: NDArray[np.bool_], folds: NDArray[np.intp]) -> Floats:
    """Ridge regressions on the judged prompts: ridge x (without each fold, with all) x (mark, difficulty) x tier."""
    inside = [np.flatnonzero(judged & (folds == fold)) for fold in range(FOLDS)]
    parts = [(seen[rows].T @ seen[rows], seen[rows].T @ wanted[rows]) for rows in inside]
    products, aims = sum(part[0] for part in parts), sum(part[1] for part in parts)
    parts.append((np.zeros_like(products), np.zeros_like(aims)))
    weights = np.zeros((len(_RIDGES), len(parts), seen.shape[1], wanted.shape[1]))
    for place, ridge in enumerate(_RIDGES):
        for fold, (product, aim) in enumerate(parts):
            shrunk = products - product + ridge * np.eye(seen.shape[1])
            weights[place, fold] = np.linalg.solve(shrunk, aims - aim)
    return weights
