"""The shipped difficulty model: how hard a request is, from its text alone and in some ten microseconds a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from llm_savings.routing.features import Features, features

BITS = 16
"""Words and pairs of words are in a table of 2**BITS rows."""

_FILE = "difficulty.npz"
_PLACE = (1 << BITS) - 1


@dataclass(frozen=True)
class Difficulty:
    """A linear model of difficulty; `scripts/build_difficulty.py` says what it learned from.

    Attributes:
        counts: Weights of `features.SHAPE` and `features.KINDS`.
        words: Weights of words and pairs of words, by place.
        shift: Added at the end, so that 0 is the middle between simple and complex.
        unit: What the words' weights are multiplied by.
    """

    counts: Any
    words: Any
    shift: float
    unit: float = 1.0

    def odds(self, seen: Features) -> float:
        """Log odds that a text asks for a strong model."""
        said = float(self.words[seen.hashes & _PLACE].sum(dtype=np.float32)) * self.unit
        return float(self.counts @ seen.counts) + said / (len(seen.hashes) + 1) ** 0.5 + self.shift

    def raw(self, text: str) -> float:
        """The same for a text of at most a few thousand characters."""
        return self.odds(features(text))

    def save(self, path: str | Path) -> None:
        """Write the model: weights of words as bytes, the rest as they are."""
        unit = float(np.abs(self.words).max()) * self.unit / 127 or 1.0
        small = np.rint(self.words * self.unit / unit).astype(np.int8)
        np.savez_compressed(path, counts=self.counts, words=small, rest=[self.shift, unit])

    @classmethod
    def load(cls) -> Difficulty:
        """The shipped model, read at first use."""
        return _shipped()


@lru_cache(maxsize=1)
def _shipped() -> Difficulty:
    data = resources.files("llm_savings.routing").joinpath(_FILE).read_bytes()
    with np.load(BytesIO(data), allow_pickle=False) as file:
        return Difficulty(file["counts"], file["words"], *map(float, file["rest"]))
