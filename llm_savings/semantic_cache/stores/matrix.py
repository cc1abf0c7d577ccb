"""Vectors side by side: a matrix of small numbers that is searched as it stands, or by the signs of its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numkong import cdist

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.rows import Small

WORD = 64
"""Numbers whose signs stand in one word."""

_FEW = 1_500  # vectors that are compared as they stand
_LIKELY = 98_304  # numbers of the likely rows, which are compared exactly: the shorter their signs, the more of them
_SAMPLE = 8_192  # rows whose signs tell how alike those are

Span = tuple[int, int]
"""From which word of a vector to below which one its numbers are not all zero."""


class Matrix:
    """The vectors of one span, each under a key that is greater than those before it; for one thread at a time.

    Args:
        span: What is kept of each vector; a Korean question has nothing in the Latin part.
        dimensions: Numbers of a whole vector.
    """

    def __init__(self, span: Span, dimensions: int) -> None:
        self.span, self._dimensions = span, dimensions
        self._part = slice(WORD * span[0], min(WORD * span[1], dimensions))
        width = self._part.stop - self._part.start
        self._keys: Any = np.empty(0, np.int64)
        self._rows: Any = np.empty((0, width), np.int8)
        self._scale: Any = np.empty(0, np.float32)  # 1 / length of a row; 0 for one that was removed
        # Which numbers are above zero, 64 to a word, a line for all rows' first words, and so on.
        self._signs: Any = np.empty((-(-width // WORD), 0), np.uint64)
        self.count = self.gone = 0
        """Rows, and how many of them were removed."""

    def add(self, keys: Any, rows: Small, *, more: int = 0) -> None:
        """Take whole vectors in, shape (len(keys), dimensions), and make room for so many more."""
        rows, count = rows[:, self._part], self.count + len(keys)
        if count > len(self._keys):
            room = max(count + more, len(self._keys) * 5 // 4, 64) - self.count
            self._keys, self._rows, self._scale = (
                np.concatenate([old[: self.count], np.empty((room, *old.shape[1:]), old.dtype)])
                for old in (self._keys, self._rows, self._scale)
            )
            signs = self._signs[:, : self.count]
            self._signs = np.concatenate([signs, np.empty((len(signs), room), signs.dtype)], axis=1)
        new = slice(self.count, count)
        self._keys[new], self._rows[new], self._signs[:, new] = keys, rows, _signs(rows)
        self._scale[new] = 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
        self.count = count

    def remove(self, key: int) -> bool:
        """Forget a vector; whether it was here."""
        at = int(np.searchsorted(self._keys[: self.count], key))
        if at >= self.count or self._keys[at] != key:
            return False
        self.gone += bool(self._scale[at])
        self._scale[at] = 0
        return True

    def vectors(self, some: Any = slice(None)) -> tuple[Any, Small]:
        """Keys and whole vectors of these of its rows, without those that were removed."""
        alive = np.arange(self.count)[some]
        alive = alive[self._scale[alive] > 0]
        whole = np.zeros((len(alive), self._dimensions), np.int8)
        whole[:, self._part] = self._rows[alive]
        return self._keys[alive], whole

    def removed(self, count: int) -> list[int]:
        """Keys of those that were removed, of its first rows."""
        return self._keys[:count][self._scale[:count] == 0].tolist()

    def sweep(self) -> None:
        """Let go of what was removed."""
        self.keep(self._scale[: self.count] > 0)

    def keep(self, some: Any) -> None:
        """Keep these of its rows."""
        n = self.count
        self._signs = self._signs[:, :n][:, some].copy()
        self._keys, self._rows, self._scale = (old[:n][some].copy() for old in (self._keys, self._rows, self._scale))
        self.count, self.gone = len(self._keys), int(np.count_nonzero(self._scale == 0))

    def nearest(self, vector: Vector, asked: Small, span: Span, count: int) -> list[tuple[float, int]]:
        """The nearest in no order: their cosines and keys.

        Args:
            vector: What is asked, of length 1.
            asked: The same in small numbers.
            span: Its span.
            count: How many; there may be fewer.
        """
        first, last = max(span[0], self.span[0]), min(span[1], self.span[1])
        if first >= last:  # they have nothing in common
            return [(0.0, int(key)) for key in self.vectors(slice(count))[0]] if self.count else []
        part = slice(WORD * first, min(WORD * last, self._dimensions))
        lines = slice(first - self.span[0], last - self.span[0])
        own = slice(WORD * lines.start, WORD * lines.start + part.stop - part.start)
        some = self._likely(asked[part], lines) if self.count > _FEW else np.arange(self.count)
        scale, rows = self._scale[some], self._rows[some, own]
        cosines = np.asarray(cdist(asked[None, part], rows, "dot"))[0] * scale
        if self.gone:
            cosines[scale == 0] = -np.inf
        if len(some) > count:
            best = np.argpartition(cosines, -count)[-count:]
            some, scale, rows = some[best], scale[best], rows[best]
        exact = rows.astype(np.float32).dot(vector[part]) * scale
        found = zip(exact.tolist(), self._keys[some].tolist(), scale.tolist(), strict=True)
        return [(cosine, key) for cosine, key, there in found if there]

    def _likely(self, asked: Small, lines: slice) -> Any:
        """Where those rows are whose signs in these words are the most alike.

        Of 47,000 questions' five nearest 99.7% are among them in English and 99.1% in Korean, whose vectors are half
        as long.
        """
        n = self.count
        unlike, word, few = np.zeros(n, np.uint16), np.empty(n, np.uint64), np.empty(n, np.uint8)
        bits = np.packbits(asked > 0).tobytes()
        signs = memoryview(bits.ljust(-(-len(bits) // 8) * 8, b"\0")).cast("Q").tolist()
        for line, own in zip(self._signs[lines, :n], signs, strict=True):
            np.bitwise_xor(line, own, out=word)
            np.add(unlike, np.bitwise_count(word, out=few), out=unlike)
        if self.gone:
            unlike[self._scale[:n] == 0] = np.iinfo(unlike.dtype).max
        step = n // _SAMPLE | 1  # odd, since languages may come in turns
        place = max(_LIKELY // (WORD * len(signs)), 128) // step
        return np.flatnonzero(unlike <= np.partition(unlike[::step], place)[place])


def spans(rows: Small) -> Any:
    """The span of each vector, shape (len(rows), 2)."""
    words = -(-rows.shape[1] // WORD)
    there = np.zeros((len(rows), words), bool)
    for word in range(words):
        there[:, word] = rows[:, WORD * word : WORD * (word + 1)].any(axis=1)
    return np.stack([there.argmax(axis=1), words - there[:, ::-1].argmax(axis=1)], axis=1)


def _signs(rows: Small) -> Any:
    """Which numbers of the rows are above zero: shape (words, len(rows))."""
    bits = np.packbits(rows > 0, axis=1)
    if bits.shape[1] % 8:
        bits = np.concatenate([bits, np.zeros((len(bits), -bits.shape[1] % 8), np.uint8)], axis=1)
    return bits.view(np.uint64).T
