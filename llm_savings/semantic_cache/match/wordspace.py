"""The bundled embedder's words as the match model asks for them: weights and likeness, worked out once each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from llm_savings.embedding import BundledEmbedder, bundled_embedder

_MOST = 20_000  # words kept: about 15 MB of vectors


class BundledWords:
    """A `WordSpace` over an embedder's words; words of different scripts are never alike.

    Threads that meet in it work a word out twice at worst.
    """

    def __init__(self, embedder: BundledEmbedder) -> None:
        self._embedder = embedder
        self._weights: dict[str, float] = {}
        self._vectors: dict[str, tuple[int, Any] | None] = {}

    def weights(self, words: Sequence[str]) -> list[float]:
        """Return each word's inverse document frequency, about 1 (common) to 10 (never seen)."""
        known = self._weights
        found = [known.get(word) for word in words]
        if None not in found:
            return cast("list[float]", found)
        if len(known) > _MOST:
            known = self._weights = {}
        for word in words:
            if word not in known:
                known[word] = self._embedder.idf(word)
        return [known[word] for word in words]

    def likeness(self, words: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        """Return the cosine of each of some words with each of the others, 0 where one has no vector."""
        ours, theirs = self._of(words), self._of(others)
        return [
            [0.0 if one is None or two is None or one[0] != two[0] else float(one[1].dot(two[1])) for two in theirs]
            for one in ours
        ]

    def _of(self, words: Sequence[str]) -> list[tuple[int, Any] | None]:
        known = self._vectors
        if len(known) > _MOST:
            known = self._vectors = {}
        for word in words:
            if word not in known:
                known[word] = self._embedder.word(word)
        return [known[word] for word in words]


@lru_cache(maxsize=1)
def bundled_words() -> BundledWords:
    """Return the word space that the shipped weights were fitted with, shared by all models of the process."""
    return BundledWords(bundled_embedder())
