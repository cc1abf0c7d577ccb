"""The vectors of one scope, in memory: an exact matrix while few, and a graph (HNSW) for most of them when many."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.rows import Small, small

_FEW = 2_500  # vectors that are compared as they stand
_MANY = 50_000  # vectors that are found by their signs within half a millisecond; more go into a graph
_TAIL = 2_000  # vectors beside a graph, after which they go into it
_LOOSE = 500  # rows whose signs wait to be packed
_LIKELY = 512  # rows that are compared exactly, out of all
_AT_ONCE = 16  # vectors put into a graph in use while a lookup waits, 2 to 5 ms


class Nearby:
    """Finds the nearest of one scope's vectors, each under a key that is greater than those before it.

    New vectors stand in a matrix that is searched exactly, or nearly so by signs. When it has grown long, a thread
    moves it into the graph, and lookups go on meanwhile. Every method, and the thread, holds the lock that was given.
    """

    def __init__(self, dimensions: int, lock: Any) -> None:
        self._lock, self._dimensions = lock, dimensions
        self._keys: Any = np.empty(0, np.int64)
        self._rows: Any = np.empty((0, dimensions), np.int8)
        self._scale: Any = np.empty(0, np.float32)  # 1 / length of a row; 0 for one that was removed
        self._count = self._gone = 0
        self._packed_count = -_LOOSE  # nothing is packed
        self._packed: Any = None
        self._graph: Any = None
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._stopped = False
        self.last = 0
        """The greatest key so far."""
        self.state: object = None
        """Whatever its owner last brought it up to date with."""

    def __len__(self) -> int:
        return self._count - self._gone + (0 if self._graph is None else len(self._graph))

    @property
    def worn(self) -> bool:
        """Whether more was removed from the graph than it holds, so that it is better built anew."""
        return self._graph is not None and self._dropped > len(self._graph)

    def add(self, keys: list[int], rows: Small, *, more: int = 0) -> None:
        """Take vectors in, shape (len(keys), dimensions), and make room for so many more."""
        count = self._count + len(keys)
        if count > len(self._keys):
            room = max(count + more, len(self._keys) * 5 // 4, 64)
            self._keys, self._rows, self._scale = (
                np.concatenate([old[: self._count], np.empty((room - self._count, *old.shape[1:]), old.dtype)])
                for old in (self._keys, self._rows, self._scale)
            )
        new = slice(self._count, count)
        self._keys[new], self._rows[new] = keys, rows
        self._scale[new] = 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
        self._count, self.last = count, keys[-1]
        if count > (_MANY if self._graph is None else min(_TAIL, _MANY)) and self._thread is None:
            if self._gone > count // 2:
                self._keep(self._scale[:count] > 0)
            else:
                # No daemon: one of those, ended inside the graph's own code, takes the program down with it.
                self._thread = threading.Thread(target=self._move, name="llm-savings-cache-index")
                self._thread.start()

    def remove(self, key: int) -> None:
        """Forget a vector; one that is not there is none."""
        at = int(np.searchsorted(self._keys[: self._count], key))
        if at < self._count and self._keys[at] == key:
            self._gone += bool(self._scale[at])
            self._scale[at] = 0
        elif self._graph is not None:
            self._dropped += int(self._graph.remove(key))

    def search(self, vector: Vector, count: int) -> tuple[list[int], list[float]]:
        """The keys of the nearest and their cosines, best first."""
        asked = small(vector)
        keys, rows = self._exactly(asked, count)
        if self._graph is not None:
            found = self._graph.search(asked, count, threads=1).keys
            keys = np.concatenate([keys, found.astype(np.int64)])
            rows = np.concatenate([rows, np.asarray(self._graph.get(found)).reshape(-1, self._dimensions)])
        exact = rows.astype(np.float32)
        cosines = exact @ vector / np.sqrt(np.einsum("ij,ij->i", exact, exact))
        order = np.argsort(-cosines)[:count]
        return keys[order].tolist(), cosines[order].tolist()

    def settle(self) -> None:
        """Wait until nothing is on its way into the graph."""
        while (thread := self._thread) is not None:
            thread.join()

    def stop(self) -> None:
        """Nobody will look here any more."""
        self._stopped = True

    def _exactly(self, vector: Small, count: int) -> tuple[Any, Any]:
        """The matrix's nearest, about in order: their keys and rows."""
        from numkong import cdist

        n = self._count
        some = self._likely(vector) if n > _FEW else np.arange(n)
        some = some[self._scale[some] > 0]
        rows = self._rows[some]
        if len(some) > count:
            dots = np.asarray(cdist(vector[None], rows, "dot"))[0] * self._scale[some]
            best = np.argpartition(-dots, count)[:count]
            some, rows = some[best], rows[best]
        return self._keys[some], rows

    def _likely(self, vector: Small) -> Any:
        """Where those rows are whose signs are the most alike, and the newest ones, whose signs are not packed yet.

        A row's signs take an eighth of its bytes. Of 45,000 questions' five nearest 99.6% are among the first 512.
        """
        from numkong import hammings_pack, hammings_packed

        if self._packed_count + _LOOSE < self._count:
            self._packed_count = self._count
            self._packed = hammings_pack(np.packbits(self._rows[: self._count] > 0, axis=1))
        unlike = np.array(hammings_packed(np.packbits(vector > 0)[None], self._packed))[0]
        if self._gone:
            unlike[self._scale[: self._packed_count] == 0] = np.iinfo(unlike.dtype).max
        nearest = np.argpartition(unlike, _LIKELY)[:_LIKELY]
        return np.concatenate([nearest, np.arange(self._packed_count, self._count)])

    def _keep(self, kept: Any) -> None:
        """Keep these of the matrix's rows."""
        n, self._packed, self._packed_count = self._count, None, -_LOOSE
        self._keys, self._rows, self._scale = (old[:n][kept] for old in (self._keys, self._rows, self._scale))
        self._count, self._gone = len(self._keys), int(np.count_nonzero(self._scale == 0))

    def _move(self) -> None:
        """Move the matrix into the graph."""
        try:
            if self._graph is None:
                self._build()
            while self._goes_on() and (graph := self._graph) is not None:
                with self._lock:
                    if not self._count:
                        break
                    some = np.arange(self._count) < _AT_ONCE
                    alive = some[: self._count] & (self._scale[: self._count] > 0)
                    if alive.any():
                        graph.add(self._keys[: self._count][alive], self._rows[: self._count][alive], threads=1)
                    self._keep(~some)
                time.sleep(0)
        finally:
            self._thread = None

    def _build(self) -> None:
        from usearch.index import Index

        graph = Index(
            ndim=self._dimensions, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=64
        )
        with self._lock:
            n = self._count
            keys, rows, scale = self._keys[:n], self._rows[:n], self._scale[:n].copy()
        for start in range(0, n, 256):
            if not self._goes_on():
                return
            alive = scale[start : start + 256] > 0
            if alive.any():
                graph.add(keys[start : start + 256][alive], rows[start : start + 256][alive], threads=1)
        with self._lock:
            for key in keys[(self._scale[:n] == 0) & (scale > 0)]:  # removed meanwhile
                graph.remove(int(key))
            self._graph = graph
            self._keep(np.arange(self._count) >= n)

    def _goes_on(self) -> bool:
        """Whether it is worth going on: the program waits for its threads before it ends."""
        return not self._stopped and threading.main_thread().is_alive()
