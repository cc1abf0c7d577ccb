"""The vectors of one scope, in memory, in a matrix for each script."""

from __future__ import annotations

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.matrix import WORD, Matrix, Span, span_of
from llm_savings.semantic_cache.stores.rows import Small, small

FEW = 1_500
"""Vectors that share one matrix."""

_KINDS = 8  # spans that have a matrix of their own; an embedder whose zeros are anywhere has more


class Nearby:
    """Finds the nearest of one scope's vectors, each under a key that is greater than those before it.

    They stand in one matrix while few, then in one for each span (texts of one script have the other's part empty),
    which is searched exactly, or nearly so by signs, up to a million and more. There is no graph: of the five nearest
    among 300,000 questions in two scripts faiss's HNSW finds 77%, signs 99%, without minutes spent on building it
    (`bench_cache_stores.py --questions --entries 300000 --only memory,faiss`).
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._whole = 0, -(-dimensions // WORD)
        self._matrices: dict[Span, Matrix] = {}
        self._together = True
        self.last = 0
        """The greatest key so far."""
        self.state: object = None
        """Whatever its owner last brought it up to date with."""

    def __len__(self) -> int:
        return sum(matrix.count - matrix.gone for matrix in self._matrices.values())

    def add(self, keys: list[int], rows: Small, *, more: int = 0) -> None:
        """Take vectors in, shape (len(keys), dimensions), and make room for so many more."""
        self.last = keys[-1]
        if self._together and len(keys) + sum(matrix.count for matrix in self._matrices.values()) > FEW:
            self._together = False
            if whole := self._matrices.pop(self._whole, None):
                self._add(*whole.vectors(), more)
        self._add(keys, rows, more)

    def remove(self, key: int) -> None:
        """Forget a vector; one that is not there is none."""
        for matrix in self._matrices.values():
            if matrix.remove(key):
                if matrix.gone > max(matrix.count // 2, FEW):
                    matrix.sweep()
                return

    def search(self, vector: Vector, count: int) -> tuple[list[int], list[float]]:
        """The keys of the nearest and their cosines, best first."""
        asked = small(vector)
        span = span_of(asked)
        found: list[tuple[float, int]] = []
        apart: list[Matrix] = []
        for matrix in self._matrices.values():
            if not matrix.meets(span):
                apart.append(matrix)
            elif matrix.count:
                found += matrix.nearest(vector, asked, span, count)
        found.sort(reverse=True)
        if apart and (len(found) < count or found[count - 1][0] < 0):
            for matrix in apart:
                found += matrix.some(count)
            found.sort(reverse=True)
        return [key for _, key in found[:count]], [cosine for cosine, _ in found[:count]]

    def _add(self, keys: list[int], rows: Small, more: int) -> None:
        places: dict[Span, list[int]] = {}
        for place, row in enumerate(rows):
            span = self._whole if self._together else span_of(row)
            places.setdefault(self._matrix(span).span, []).append(place)
        for span, some in places.items():  # a matrix gets all of its own at once, in the order of their keys
            own = [keys[place] for place in some]
            self._matrices[span].add(own, rows[some], more=more * len(own) // len(keys))

    def _matrix(self, span: Span) -> Matrix:
        if span not in self._matrices:
            if len(self._matrices) >= _KINDS - 1:
                span = self._whole
            self._matrices.setdefault(span, Matrix(span, self._dimensions))
        return self._matrices[span]
