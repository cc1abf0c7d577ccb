"""The bundled embedder's words as the match model asks for them: weights and likeness, worked out once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any, cast

import numkong
import numpy as np

from llm_savings.embedding import BundledEmbedder, bundled_embedder
from llm_savings.semantic_cache.remembered import Remembered

_WEIGHTS, _VECTORS = 20_000, 8_192  # words kept, 0.1 and 0.4 kB each
_Placed = tuple[int, Any, float]  # a word's script, vector in small numbers, and its length
_dot = cast("Callable[[Any, Any], int]", numkong.dot)
_NOWHERE: _Placed = 0, np.zeros(1, np.int8), 1.0


class BundledWords:
    """A `WordSpace` over an embedder's words; words of different scripts are never alike.

    Threads that meet in it work a word out twice at worst.
    """

    def __init__(self, embedder: BundledEmbedder) -> None:
        self._embedder = embedder
        self._weights: dict[str, float] = {}
        self._vector = Remembered[_Placed](self._placed, _VECTORS)

    def weights(self, words: Sequence[str]) -> list[float]:
        """Return each word's inverse document frequency, about 1 (common) to 10 (never seen)."""
        known = self._weights
        found = [known.get(word) for word in words]
        if None not in found:
            return cast("list[float]", found)
        if len(known) > _WEIGHTS:
            known = self._weights = {}
        for word in words:
            if word not in known:
                known[word] = self._embedder.idf(word)
        return [known[word] for word in words]

    def likeness(self, words: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        """Return the cosine of each of some words with each of the others, 0 where one has no vector."""
        theirs = [self._vector(word) for word in others]
        return [[_cosine(ours, one) for one in theirs] for ours in map(self._vector, words)]

    def _placed(self, word: str) -> _Placed:
        found = self._embedder.word(word)
        if found is None:
            return _NOWHERE
        script, vector = found
        return script, vector, sqrt(_dot(vector, vector))


def _cosine(one: _Placed, two: _Placed) -> float:
    return _dot(one[1], two[1]) / (one[2] * two[2]) if one[0] == two[0] else 0.0


@lru_cache(maxsize=1)
def bundled_words() -> BundledWords:
    """Return the word space that the shipped weights were fitted with, shared by all models of the process."""
    return BundledWords(bundled_embedder())
