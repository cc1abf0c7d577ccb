"""Vectors side by side: a matrix of small numbers that is searched as it stands, or by the signs of its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numkong import dots_pack, dots_packed

from llm_savings.semantic_cache.entries import Vector
from llm_savings.semantic_cache.stores.rows import Small

WORD = 64
"""Numbers whose signs stand in one word."""

_LIKELY = 6_144  # rows that are compared exactly, by the square of the words of signs: the fewer, the less they tell
_WORTH = 3 << 20  # bytes of rows from which signs save time; fewer are compared before the likely ones would be found
_GROUP = 16  # values of which the highest stands for all when the highest of all are looked for
_SAMPLE = 8_192  # rows whose signs tell how alike the likely ones are

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
        # Which numbers are above zero, 64 to a word, a line for all rows' first words, and so on; none while few.
        self._signs: Any = np.empty((-(-width // WORD), 0), np.uint64)
        self._signed = 0
        # Bytes take a third of the time and count to 255: of 256 signs, all unlike come out as none, and lose later.
        self._absent: Any = np.empty(0, np.uint8 if width <= 256 else np.uint16)  # the most signs where one was removed
        self.count = self.gone = 0
        """Rows, and how many of them were removed."""

    def add(self, keys: list[int], rows: Small, *, more: int = 0) -> None:
        """Take whole vectors in, shape (len(keys), dimensions), and make room for so many more."""
        rows, count = rows[:, self._part], self.count + len(keys)
        if count > len(self._keys):
            room = max(count + more, len(self._keys) * 9 // 8, 64) - self.count
            self._keys, self._rows, self._scale, self._absent = (
                np.concatenate([old[: self.count], np.empty((room, *old.shape[1:]), old.dtype)])
                for old in (self._keys, self._rows, self._scale, self._absent)
            )
        new = slice(self.count, count)
        self._keys[new], self._rows[new], self._absent[new] = keys, rows, 0
        self._scale[new] = 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
        self.count = count
        if self._signed or count * self._rows.shape[1] > _WORTH:
            self._sign()

    def remove(self, key: int) -> bool:
        """Forget a vector; whether it was here."""
        at = int(np.searchsorted(self._keys[: self.count], key))
        if at >= self.count or self._keys[at] != key:
            return False
        self.gone += bool(self._scale[at])
        self._scale[at], self._absent[at] = 0, np.iinfo(self._absent.dtype).max
        return True

    def vectors(self) -> tuple[list[int], Small]:
        """Keys and whole vectors, without those that were removed."""
        alive = np.flatnonzero(self._scale[: self.count])
        whole = np.zeros((len(alive), self._dimensions), np.int8)
        whole[:, self._part] = self._rows[alive]
        return self._keys[alive].tolist(), whole

    def sweep(self) -> None:
        """Let go of what was removed."""
        n, some = self.count, np.flatnonzero(self._scale[: self.count])
        if self._signed:
            self._signs, self._signed = self._signs[:, :n][:, some].copy(), len(some)
        self._keys, self._rows, self._scale, self._absent = (
            old[:n][some].copy() for old in (self._keys, self._rows, self._scale, self._absent)
        )
        self.count, self.gone = len(some), 0

    def meets(self, span: Span) -> bool:
        """Whether its vectors have anything in common with those of another span."""
        return span[0] < self.span[1] and self.span[0] < span[1]

    def some(self, count: int) -> list[tuple[float, int]]:
        """Some of its vectors for one that they have nothing in common with: cosines of 0, and keys."""
        first = slice(min(self.count, count + self.gone))
        return [(0.0, key) for key in self._keys[first][self._scale[first] > 0][:count].tolist()]

    def nearest(self, vector: Vector, asked: Small, span: Span, count: int) -> list[tuple[float, int]]:
        """The nearest in no order: their cosines and keys.

        Args:
            vector: What is asked, of length 1.
            asked: The same in small numbers.
            span: Its span, which this one's meets.
            count: How many; there may be fewer.
        """
        keys, rows, scale = self._keys[: self.count], self._rows[: self.count], self._scale[: self.count]
        if self._signed:
            some = self._likely(asked, span)
            keys, rows, scale = keys.take(some), rows.take(some, 0), scale.take(some)
        if len(rows) > count:
            # One against many, in this order: the other way round the kernel is called once for each row.
            dots = np.asarray(dots_packed(rows, dots_pack(asked[None, self._part], "int8")))[:, 0]
            cosines = np.multiply(dots, scale, dtype=np.float32)
            if self.gone:
                cosines[scale == 0] = -np.inf
            best = _highest(cosines, count)
            keys, rows, scale = keys.take(best), rows[best], scale.take(best)
        exact = rows.astype(np.float32).dot(vector[self._part]) * scale
        found = zip(exact.tolist(), keys.tolist(), scale.tolist(), strict=True)
        return [(cosine, key) for cosine, key, there in found if there]

    def _sign(self) -> None:
        """Take the signs of the rows that have none yet."""
        if self._signs.shape[1] < self.count:
            signs = np.empty((len(self._signs), len(self._keys)), np.uint64)
            signs[:, : self._signed] = self._signs[:, : self._signed]
            self._signs = signs
        new = slice(self._signed, self.count)
        self._signs[:, new] = _signs(self._rows[new])
        self._signed = self.count

    def _likely(self, asked: Small, span: Span) -> Any:
        """Where those rows are whose signs are the most alike, in the words where what is asked has numbers.

        Of 100,000 questions' five nearest 99.1% are found so, of their nearest all (bundled embedder).
        """
        n = self.count
        first, last = max(span[0], self.span[0]), min(span[1], self.span[1])
        lines = slice(first - self.span[0], last - self.span[0])
        bits = np.packbits(asked[WORD * first : WORD * last] > 0).tobytes()
        signs = memoryview(bits.ljust(-(-len(bits) // 8) * 8, b"\0")).cast("Q").tolist()
        unlike = np.zeros(n, self._absent.dtype)
        word, few = np.empty(n, np.uint64), np.empty(n, np.uint8)
        for line, own in zip(self._signs[lines, :n], signs, strict=True):
            np.bitwise_xor(line, own, out=word)
            np.add(unlike, np.bitwise_count(word, out=few), out=unlike)
        if self.gone:
            np.maximum(unlike, self._absent[:n], out=unlike)
        step = n // _SAMPLE | 1  # odd, since languages may come in turns
        place = min(_compared(len(signs), n), n - 1) // step
        limit = int(np.partition(unlike[::step].astype(np.uint16), place)[place])
        return (unlike <= limit).nonzero()[0]


def _highest(values: Any, count: int) -> Any:
    """Where the so many highest values are, and perhaps some more.

    That many groups reach what the lowest of their maxima is, so that many values do: numpy partitions the few maxima
    in a sixth of the time that it takes for all values.
    """
    groups = values[: len(values) - len(values) % _GROUP].reshape(_GROUP, -1).max(0)
    if len(groups) < count:
        return values.argpartition(-count)[-count:]
    return (values >= np.partition(groups, -count)[-count]).nonzero()[0]


def _compared(words: int, rows: int) -> int:
    """How many rows are compared exactly where signs are so many words long."""
    return max(_LIKELY // words**2, 256, rows // 1_000)


def span_of(row: Small) -> Span:
    """From where to where a vector has numbers.

    Example:
        >>> span_of(np.array([0] * 64 + [5] + [0] * 127, np.int8))
        (1, 2)
    """
    numbers = row.tobytes()
    return (len(numbers) - len(numbers.lstrip(b"\0"))) // WORD, -(-len(numbers.rstrip(b"\0")) // WORD)


def _signs(rows: Small) -> Any:
    """Which numbers of the rows are above zero: shape (words, len(rows))."""
    bits = np.packbits(rows > 0, axis=1)
    if bits.shape[1] % 8:
        bits = np.concatenate([bits, np.zeros((len(bits), -bits.shape[1] % 8), np.uint8)], axis=1)
    return bits.view(np.uint64).T
