"""The vectors of one scope, in memory: exact matrices while few, and a graph (HNSW) for most of them when many."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.matrix import FEW, WORD, Matrix, Span, span_of
from llm_savings.semantic_cache.stores.rows import Small, small

_MANY = 200_000  # vectors that are found by their signs within a millisecond; more go into a graph
_TAIL = 20_000  # vectors beside a graph, after which they go into it
_AT_ONCE = 4  # vectors put into a graph in use while a lookup waits, about 1 ms
_KINDS = 8  # spans that have a matrix of their own; an embedder whose zeros are anywhere has more


class Nearby:
    """Finds the nearest of one scope's vectors, each under a key that is greater than those before it.

    New vectors stand in one matrix while few, then in one for each span (texts of one script have the other's part
    empty), which is searched exactly, or nearly so by signs. When they have become many, a thread moves them into the
    graph, and lookups go on meanwhile. Every method, and the thread, holds the lock that was given.
    """

    def __init__(self, dimensions: int, lock: Any) -> None:
        self._lock, self._dimensions = lock, dimensions
        self._whole = 0, -(-dimensions // WORD)
        self._matrices: dict[Span, Matrix] = {}
        self._together = True
        self._graph: Any = None
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._stopped = False
        self.last = 0
        """The greatest key so far."""
        self.state: object = None
        """Whatever its owner last brought it up to date with."""

    def __len__(self) -> int:
        here = sum(matrix.count - matrix.gone for matrix in self._matrices.values())
        return here + (0 if self._graph is None else len(self._graph))

    @property
    def worn(self) -> bool:
        """Whether more was removed from the graph than it holds, so that it is better built anew."""
        return self._graph is not None and self._dropped > len(self._graph)

    def add(self, keys: list[int], rows: Small, *, more: int = 0) -> None:
        """Take vectors in, shape (len(keys), dimensions), and make room for so many more."""
        self.last = keys[-1]
        count = len(keys) + sum(matrix.count for matrix in self._matrices.values())
        if self._together and count > FEW and self._thread is None:
            self._together = False
            if whole := self._matrices.pop(self._whole, None):
                older, theirs = whole.vectors()
                keys, rows = [*older.tolist(), *keys], np.concatenate([theirs, rows])
        places: dict[Span, list[int]] = {}
        for place, row in enumerate(rows):
            span = self._whole if self._together else span_of(row)
            places.setdefault(self._matrix(span).span, []).append(place)
        for span, some in places.items():  # a matrix gets all of its own at once, in the order of their keys
            own = [keys[place] for place in some]
            self._matrices[span].add(own, rows[some], more=more * len(own) // len(keys))
        if count > (_MANY if self._graph is None else min(_TAIL, _MANY)) and self._thread is None:
            if sum(matrix.gone for matrix in self._matrices.values()) > count // 2:
                for matrix in self._matrices.values():
                    matrix.sweep()
            else:
                # No daemon: one of those, ended inside the graph's own code, takes the program down with it.
                self._thread = threading.Thread(target=self._move, name="llm-savings-cache-index")
                self._thread.start()

    def remove(self, key: int) -> None:
        """Forget a vector; one that is not there is none."""
        if not any(matrix.remove(key) for matrix in self._matrices.values()) and self._graph is not None:
            self._dropped += int(self._graph.remove(key))

    def search(self, vector: Vector, count: int) -> tuple[list[int], list[float]]:
        """The keys of the nearest and their cosines, best first."""
        asked = small(vector)
        span = span_of(asked)
        found: list[tuple[float, int]] = []
        for matrix in self._matrices.values():
            if matrix.count:
                found += matrix.nearest(vector, asked, span, count)
        if self._graph is not None:
            keys = self._graph.search(asked, count, threads=1).keys
            rows = np.asarray(self._graph.get(keys)).reshape(-1, self._dimensions).astype(np.float32)
            cosines = rows @ vector / np.sqrt(np.einsum("ij,ij->i", rows, rows))
            found += zip(cosines.tolist(), keys.tolist(), strict=True)
        found.sort(reverse=True)
        return [key for _, key in found[:count]], [cosine for cosine, _ in found[:count]]

    def anew(self, lock: Any) -> Nearby:
        """The same vectors with another lock: without what was removed, and for a child that a fork left no thread."""
        parts = [matrix.vectors() for matrix in self._matrices.values()]
        if self._graph is not None and len(self._graph):
            older = np.asarray(self._graph.keys).astype(np.int64)
            parts.append((older, np.asarray(self._graph.get(older)).reshape(-1, self._dimensions)))
        self.stop()
        found = Nearby(self._dimensions, lock)
        if parts:
            keys, rows = (np.concatenate(each) for each in zip(*parts, strict=True))
            order = np.argsort(keys)
            if len(order):
                found.add(keys[order].tolist(), rows[order])
        return found

    def settle(self) -> None:
        """Wait until nothing is on its way into the graph."""
        while (thread := self._thread) is not None:
            thread.join()

    def stop(self) -> None:
        """Nobody will look here any more."""
        self._stopped = True

    def _matrix(self, span: Span) -> Matrix:
        if span not in self._matrices:
            if len(self._matrices) >= _KINDS - 1:
                span = self._whole
            self._matrices.setdefault(span, Matrix(span, self._dimensions))
        return self._matrices[span]

    def _move(self) -> None:
        """Move the matrices' vectors into the graph."""
        try:
            if self._graph is None:
                self._build()
            while self._goes_on() and (graph := self._graph) is not None:
                with self._lock:
                    matrix = next((each for each in self._matrices.values() if each.count), None)
                    if matrix is None:
                        break
                    keys, rows = matrix.vectors(slice(-_AT_ONCE, None))
                    if len(keys):
                        graph.add(keys, rows, threads=1)
                    matrix.cut(min(_AT_ONCE, matrix.count))
                time.sleep(0)
        finally:
            self._thread = None

    def _build(self) -> None:
        from usearch.index import Index

        graph = Index(
            ndim=self._dimensions, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=64
        )
        with self._lock:
            taken = [(matrix, matrix.count) for matrix in self._matrices.values()]
        for matrix, count in taken:
            for start in range(0, count, 256):
                if not self._goes_on():
                    return
                with self._lock:
                    keys, rows = matrix.vectors(slice(start, min(start + 256, count)))
                if len(keys):
                    graph.add(keys, rows, threads=1)
        with self._lock:
            for matrix, count in taken:
                for key in matrix.removed(count):  # some of them meanwhile
                    graph.remove(key)
                matrix.keep(slice(count, None))
            self._graph = graph

    def _goes_on(self) -> bool:
        """Whether it is worth going on: the program waits for its threads before it ends."""
        return not self._stopped and threading.main_thread().is_alive()
