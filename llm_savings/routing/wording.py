"""What a prompt's words say beyond where the prompt is: ridge regressions on the words themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 12  # of conjugate gradients: more change nothing that a prompt left out would show


class Wording(NamedTuple):
    """Which words prompts have; rare ones weigh more, and all of a prompt's together have length 1.

    Attributes:
        prompt: The place of the prompt, of each word in it.
        word: The row of the word.
        weight: What it counts for.
        rare: What each word counts for before that.
    """

    prompt: Any
    word: Any
    weight: Any
    rare: Any

    @classmethod
    def of(cls, found: Sequence[Sequence[int]], words: int) -> Wording:
        """The wording of prompts.

        Args:
            found: Of each prompt the rows of its words; -1 is none.
            words: How many rows there are.
        """
        prompt = np.repeat(np.arange(len(found)), [len(each) for each in found])
        word = np.concatenate([np.asarray(each, np.intp) for each in found])
        prompt, word = prompt[word >= 0], word[word >= 0]
        often = np.bincount(word, minlength=words)
        rare = np.where(often > 0, np.log((len(found) + 1) / (often + 1)) ** 0.5, 0.0)
        length = np.bincount(prompt, rare[word] ** 2, len(found)) ** 0.5
        return cls(prompt, word, rare[word] / np.maximum(length, 1e-9)[prompt], rare)

    def said(self, weights: Floats, prompts: int) -> Floats:
        """What words with these weights say of each prompt."""
        return np.bincount(self.prompt, self.weight * weights[self.word], prompts).astype(np.float64)

    def regressed(self, left: Floats, judged: NDArray[np.bool_], ridge: float) -> Floats:
        """Weights of words (ridge regression by conjugate gradients; Hestenes and Stiefel, 1952).

        Args:
            left: What is to be explained of each prompt.
            judged: The prompts to learn from.
            ridge: How strongly weights are held near 0.
        """

        def gathered(values: Floats) -> Floats:
            spread = self.weight * np.where(judged, values, 0)[self.prompt]
            return np.bincount(self.word, spread, len(self.rare)).astype(np.float64)

        weights = np.zeros(len(self.rare))
        rest = gathered(left)
        way, size = rest, float(rest @ rest)
        for _ in range(_STEPS):
            if size < 1e-12:
                break
            pushed = gathered(self.said(way, len(left))) + ridge * way
            step = size / float(way @ pushed)
            weights, rest = weights + step * way, rest - step * pushed
            before, size = size, float(rest @ rest)
            way = rest + size / before * way
        return weights
