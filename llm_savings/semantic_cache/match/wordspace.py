"""The bundled embedder's words as the match model asks for them: weights and likeness, worked out once each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from llm_savings.embedding import BundledEmbedder, Word, bundled_embedder

Key = TypeVar("Key")
Value = TypeVar("Value")
_MOST = 20_000  # words, and pairs of words, kept: about 15 MB, most of it their vectors


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
        self._embedder = embedder
        self.weight: Filling[str, float] = Filling(embedder.idf)
        self.likeness: Filling[tuple[str, str], float] = Filling(self._likeness)
        self._vector: Filling[str, Word | None] = Filling(self._single)

    def _single(self, word: str) -> Word | None:
        """The word with its vector; None when the embedder reads it as several, or does not know it."""
        parts = self._embedder.words(word)
        return parts[0] if len(parts) == 1 and parts[0].vector.any() else None

    def _likeness(self, pair: tuple[str, str]) -> float:
        first, second = self._vector[pair[0]], self._vector[pair[1]]
        if first is None or second is None or first.script != second.script:
            return 0.0
        return float(first.vector @ second.vector)


@lru_cache(maxsize=1)
def bundled_words() -> BundledWords:
    """Return the word space that the shipped weights were fitted with, shared by all models of the process."""
    return BundledWords(bundled_embedder())
