"""The bundled embedder's words as the match model asks for them: weights and likeness, worked out once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from llm_savings.embedding import BundledEmbedder, bundled_embedder

Key = TypeVar("Key")
Value = TypeVar("Value")
_MOST = 20_000  # words kept: about 15 MB of vectors


class Filling(dict[Key, Value]):
    """A dict that works a missing value out and keeps it, and starts again when it holds too many.

    Threads that meet in it work a value out twice at worst.
    """

    def __init__(self, make: Callable[[Key], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Key) -> Value:
        value = self._make(key)
        if len(self) >= _MOST:
            self.clear()
        self[key] = value
        return value


class BundledWords:
    """A `WordSpace` over an embedder's words; words of different scripts are never alike."""

    def __init__(self, embedder: BundledEmbedder) -> None:
        self.weight: Filling[str, float] = Filling(embedder.idf)
        self._vector: Filling[str, tuple[int, Any] | None] = Filling(embedder.word)

    def likeness(self, words: Sequence[str], others: Sequence[str]) -> list[list[float]]:
        """Return the cosine of each of some words with each of the others, 0 where one has no vector."""
        vectors = [self._vector[word] for word in others]
        found: list[list[float]] = []
        for word in words:
            one = self._vector[word]
            if one is None:
                found.append([0.0] * len(vectors))
            else:
                script, vector = one
                found.append(
                    [float(vector @ two[1]) if two is not None and two[0] == script else 0.0 for two in vectors]
                )
        return found


@lru_cache(maxsize=1)
def bundled_words() -> BundledWords:
    """Return the word space that the shipped weights were fitted with, shared by all models of the process."""
    return BundledWords(bundled_embedder())
