"""The vectors of one scope, in memory: an exact matrix while few, and a graph (HNSW) for most of them when many."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numkong import cdist

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.rows import Small, small

_FEW = 1_500  # vectors that are compared as they stand
_MANY = 200_000  # vectors that are found by their signs within a millisecond; more go into a graph
_TAIL = 20_000  # vectors beside a graph, after which they go into it
_LIKELY = 98_304  # numbers of the likely rows, which are compared exactly: the shorter their signs, the more of them
_SAMPLE = 8_192  # rows whose signs tell how alike those are
_AT_ONCE = 4  # vectors put into a graph in use while a lookup waits, about 1 ms


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
        # Which numbers are above zero, 64 to a word, a line for all rows' first words, and so on.
        self._signs: Any = np.empty((-(-dimensions // 64), 0), np.uint64)
        self._count = self._gone = 0
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
            room = max(count + more, len(self._keys) * 5 // 4, 64) - self._count
            self._keys, self._rows, self._scale = (
                np.concatenate([old[: self._count], np.empty((room, *old.shape[1:]), old.dtype)])
                for old in (self._keys, self._rows, self._scale)
            )
            signs = self._signs[:, : self._count]
            self._signs = np.concatenate([signs, np.empty((len(signs), room), signs.dtype)], axis=1)
        new = slice(self._count, count)
        self._keys[new], self._rows[new], self._signs[:, new] = keys, rows, _signs(rows)
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
        found = self._exactly(vector, asked, count) if self._count else []
        if self._graph is not None:
            keys = self._graph.search(asked, count, threads=1).keys
            rows = np.asarray(self._graph.get(keys)).reshape(-1, self._dimensions).astype(np.float32)
            cosines = rows @ vector / np.sqrt(np.einsum("ij,ij->i", rows, rows))
            found += zip(cosines.tolist(), keys.tolist(), strict=True)
        found.sort(reverse=True)
        return [key for _, key in found[:count]], [cosine for cosine, _ in found[:count]]

    def anew(self, lock: Any) -> Nearby:
        """The same vectors with another lock: without what was removed, and for a child that a fork left no thread."""
        alive = self._scale[: self._count] > 0
        keys, rows = self._keys[: self._count][alive], self._rows[: self._count][alive]
        if self._graph is not None and len(self._graph):
            older = np.sort(np.asarray(self._graph.keys).astype(np.int64))
            before = np.asarray(self._graph.get(older)).reshape(-1, self._dimensions)
            keys, rows = np.concatenate([older, keys]), np.concatenate([before, rows])
        self.stop()
        found = Nearby(self._dimensions, lock)
        if len(keys):
            found.add(keys.tolist(), rows)
        return found

    def settle(self) -> None:
        """Wait until nothing is on its way into the graph."""
        while (thread := self._thread) is not None:
            thread.join()

    def stop(self) -> None:
        """Nobody will look here any more."""
        self._stopped = True

    def _exactly(self, vector: Vector, asked: Small, count: int) -> list[tuple[float, int]]:
        """The matrix's nearest, in no order: their cosines and keys.

        Only the words of 64 numbers are looked at where the vector is not zero: a Korean question has nothing in the
        Latin part.
        """
        told = np.flatnonzero(asked)
        first, last = int(told[0]) // 64, int(told[-1]) // 64 + 1
        part = slice(64 * first, 64 * last)
        some = self._likely(asked, first, last) if self._count > _FEW else np.arange(self._count)
        scale, rows = self._scale[some], self._rows[some, part]
        cosines = np.asarray(cdist(asked[None, part], rows, "dot"))[0] * scale
        if self._gone:
            cosines[scale == 0] = -np.inf
        if len(some) > count:
            best = np.argpartition(cosines, -count)[-count:]
            some, scale, rows = some[best], scale[best], rows[best]
        exact = rows.astype(np.float32).dot(vector[part]) * scale
        found = zip(exact.tolist(), self._keys[some].tolist(), scale.tolist(), strict=True)
        return [(cosine, key) for cosine, key, there in found if there]

    def _likely(self, asked: Small, first: int, last: int) -> Any:
        """Where those rows are whose signs, from one word to another, are the most alike.

        Of 47,000 questions' five nearest 99.7% are among them in English and 99.1% in Korean, whose vectors are half
        as long.
        """
        n = self._count
        unlike, word, few = np.zeros(n, np.uint16), np.empty(n, np.uint64), np.empty(n, np.uint8)
        signs = memoryview(np.packbits(asked > 0).tobytes().ljust(8 * len(self._signs), b"\0")).cast("Q").tolist()
        for line, own in zip(self._signs[first:last, :n], signs[first:last], strict=True):
            np.bitwise_xor(line, own, out=word)
            np.add(unlike, np.bitwise_count(word, out=few), out=unlike)
        if self._gone:
            unlike[self._scale[:n] == 0] = np.iinfo(unlike.dtype).max
        step = n // _SAMPLE | 1  # odd, since languages may come in turns
        place = max(_LIKELY // (64 * (last - first)), 128) // step
        return np.flatnonzero(unlike <= np.partition(unlike[::step], place)[place])

    def _keep(self, kept: Any) -> None:
        """Keep these of the matrix's rows."""
        n = self._count
        self._signs = self._signs[:, :n][:, kept]
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


def _signs(rows: Small) -> Any:
    """Which numbers of the rows are above zero: shape (words, len(rows))."""
    bits = np.packbits(rows > 0, axis=1)
    if bits.shape[1] % 8:
        bits = np.concatenate([bits, np.zeros((len(bits), -bits.shape[1] % 8), np.uint8)], axis=1)
    return bits.view(np.uint64).T
