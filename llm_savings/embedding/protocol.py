"""What the semantic cache asks of an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors whose dot product says how alike they are.

    Example:
        >>> class Constant:
        ...     name, dimensions = "constant-1", 1
        ...     def embed(self, texts):
        ...         return np.ones((len(texts), 1), np.float32)
        >>> isinstance(Constant(), Embedder)
        True
    """

    @property
    def name(self) -> str:
        """Names the vector space: vectors of two names are never compared, so any change of vectors changes it."""
        ...

    @property
    def dimensions(self) -> int:
        """Numbers per vector."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of `texts`.

        Returns:
            Shape (len(texts), dimensions); rows of length 1, or all zero where (almost) nothing in the text is known.
            A zero row is never a match.
        """
        ...
