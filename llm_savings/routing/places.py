"""Where a prompt is among a user's prompts: what it is about, how it is laid out and how hard it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from llm_savings.embedding import bundled_embedder
from llm_savings.routing.difficulty import Difficulty
from llm_savings.routing.features import Remembered, features, layout, words
from llm_savings.routing.requests import bounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_DIRECTIONS = 64
_ABOUT, _LAYOUT, _DIFFICULTY = 1.5, 1.0, 0.3
"""What prompts' distance for their subject and for their layout counts (squared), and a standard deviation of the
difficulty. The prompts used for choosing these cannot tell them from values a third larger or smaller."""
_FARTHEST = 3.0  # standard deviations: no count takes a prompt out of sight of all others
_ROUNDS = 5  # of k-means


@dataclass(frozen=True)
class Space:
    """From a text to a point: the directions of what it is about, its layout, the shipped difficulty.

    Attributes:
        known: Hashes of words, in order.
        vectors: What each is about, and zeros for all others: word x direction; further columns are the caller's.
        centre: Means of a point's numbers.
        scale: What one of each counts for.
        limit: How far each may be from 0 then.
    """

    known: Any
    vectors: Any
    centre: Any
    scale: Any
    limit: Any

    @classmethod
    def spanned(cls, prompts: Sequence[str]) -> tuple[Space, Floats, list[list[int]]]:
        """The space of these prompts, where they are (prompt x number), and the rows of each one's words."""
        found = [dict.fromkeys(words(bounded(prompt))) for prompt in prompts]
        often = Counter(word for each in found for word in each)
        by_key = {_key(word): word for word, count in often.items() if count > 1}
        known = np.array(sorted(by_key), np.int64)
        rare = np.log((len(prompts) + 1) / (np.array([often[by_key[key]] for key in known.tolist()]) + 1)) ** 0.5
        vectors = bundled_embedder().embed([by_key[key] for key in known.tolist()]) * rare[:, None].astype(np.float32)
        vectors = np.concatenate((vectors, np.zeros_like(vectors[:1])))
        blank = np.zeros(1, np.float32)
        space = cls(known, vectors, blank, blank, blank)
        rows = [space.rows(each) for each in found]
        sums = np.array([_direction(vectors.take(each, 0).sum(0)) for each in rows])
        turned = np.linalg.eigh(sums.T @ sums)[1][:, : -_DIRECTIONS - 1 : -1]
        small = (vectors @ turned).astype(np.float16).astype(np.float32)  # so many digits are enough, and pack well
        space = replace(space, vectors=small)
        raw = np.array([space._raw(prompt)[0] for prompt in prompts])
        weight = np.full(raw.shape[1], (_LAYOUT / (raw.shape[1] - _DIRECTIONS - 1)) ** 0.5, np.float32)
        weight[-1] = _DIFFICULTY
        spread = raw.std(0)
        scale = np.where(spread > 1e-6, weight / np.maximum(spread, 1e-6), 0).astype(np.float32)
        limit = _FARTHEST * weight
        scale[:_DIRECTIONS], limit[:_DIRECTIONS] = _ABOUT**0.5, np.inf
        space = replace(space, centre=raw.mean(0), scale=scale, limit=limit)
        return space, space._placed(raw), rows

    def point(self, text: str) -> tuple[Floats, Floats]:
        """Where a text is, the last number of which is its difficulty, and the sums of its words' further columns."""
        raw, further = self._raw(text)
        return self._placed(raw), further

    def rows(self, different: Iterable[str]) -> list[int]:
        """The rows of different words, and -1, which is also the row of all that are not known."""
        return [-1, *map(self._row_of.__getitem__, different)]

    def _placed(self, raw: Floats) -> Floats:
        return np.minimum(np.maximum((raw - self.centre) * self.scale, -self.limit), self.limit)

    @cached_property
    def _row_of(self) -> Remembered:
        rows = {key: row for row, key in enumerate(self.known.tolist())}
        return Remembered(lambda word: rows.get(_key(word), -1))

    def _raw(self, text: str) -> tuple[Floats, Floats]:
        text = bounded(text)
        seen = features(text)
        rest = np.array([*layout(text), Difficulty.load().odds(seen)], np.float32)
        whole: Floats = self.vectors.take(self.rows(seen.different), 0).sum(0)
        return np.concatenate((_direction(whole[:_DIRECTIONS]), rest)), whole[_DIRECTIONS:]


def marks_among(points: Floats, count: int) -> Floats:
    """Centres of what lies together (k-means; Lloyd, 1982): mark x number. No mark is a prompt where there are many."""
    marks = points[np.random.default_rng(0).permutation(len(points))[:count]]
    for _ in range(_ROUNDS if len(points) > count else 0):
        nearest = (points @ (2 * marks.T) - (marks**2).sum(1)).argmax(1)
        sums, size = np.zeros_like(marks), np.bincount(nearest, minlength=count)
        np.add.at(sums, nearest, points)
        marks = np.where(size[:, None] > 0, sums / np.maximum(size, 1).astype(np.float32)[:, None], marks)
    return marks


def near(points: Floats, marks: Floats) -> Floats:
    """How near points are to marks, 0 to 1: point x mark; or how near one point is to each.

    Args:
        points: Point x number, or one point's numbers.
        marks: As `columns` lays them out.
    """
    apart = points @ marks[:-1]
    apart += marks[-1]
    apart -= np.vecdot(points, points)[..., None]
    return np.exp(apart, out=apart)


def columns(marks: Floats) -> Floats:
    """Marks for `near`: twice each number, and below them the squared length, negative."""
    return np.concatenate((2 * marks.T, -(marks**2).sum(1)[None]))


def _key(word: str) -> int:
    return crc32(word[:32].encode("utf-8", "surrogatepass"))


def _direction(vector: Floats) -> Floats:
    return vector / np.float32(max(float(vector @ vector) ** 0.5, 1e-9))
