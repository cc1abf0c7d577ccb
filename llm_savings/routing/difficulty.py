"""The shipped difficulty model: how hard a request is, from its text alone and in some ten microseconds a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from llm_savings.routing.features import kinds, places, shape, words

_FILE = "difficulty.npz"


@dataclass(frozen=True)
class Difficulty:
    """A linear model of difficulty; `scripts/build_difficulty.py` says what it learned from.

    Attributes:
        shape: Weights of `features.SHAPE`.
        kinds: Weights of `features.KINDS`.
        words: Weights of words and pairs of words, by place.
        shift: Added at the end, so that 0 is the middle between simple and complex.
        unit: What the words' weights are multiplied by.
    """

    shape: Any
    kinds: Any
    words: Any
    shift: float
    unit: float

    def raw(self, text: str) -> float:
        """Log odds that a text asks for a strong model.

        Args:
            text: At most a few thousand characters.
        """
        found = words(text)
        where = places(found)
        said = float(self.words[where].sum(dtype=np.float32)) * self.unit / (len(where) + 1) ** 0.5
        return float(self.shape @ shape(text, found) + self.kinds @ kinds(text, found)) + said + self.shift

    def save(self, path: str | Path) -> None:
        """Write the model: weights of words as bytes, the rest as they are."""
        unit = float(np.abs(self.words).max()) * self.unit / 127 or 1.0
        small = np.rint(self.words * self.unit / unit).astype(np.int8)
        np.savez_compressed(path, shape=self.shape, kinds=self.kinds, words=small, rest=[self.shift, unit])

    @classmethod
    def load(cls) -> Difficulty:
        """The shipped model, read at first use."""
        return _shipped()


@lru_cache(maxsize=1)
def _shipped() -> Difficulty:
    data = resources.files("llm_savings.routing").joinpath(_FILE).read_bytes()
    with np.load(BytesIO(data), allow_pickle=False) as file:
        return Difficulty(file["shape"], file["kinds"], file["words"], float(file["rest"][0]), float(file["rest"][1]))
