"""The embedder in the wheel: Korean and English, offline, about 20 microseconds a question.

A text is the sum of its words, a word the sum of its pieces: WordPiece tokens for Latin letters and numbers (distilled
from all-MiniLM-L6-v2), hashed jamo n-grams for Hangul (distilled from multilingual-e5-small and trained on question
pairs). The two sums are made unit vectors, scaled by the root of their script's share of the text's content (summed
IDF) and put side by side, so that a dot product is `sum over scripts of sqrt(share * share') * cosine`. The weights and
how they were made: `weights/NOTICE`, `scripts/build_embedder.py` in the repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_savings.embedding.text import WORD, Script, hangul_rows, hangul_weight, idf_slot, latin_rows, normalised, split

_WEIGHTS = Path(__file__).parent / "weights"
_MOST_WORDS_KEPT = 16_384  # about 8 MB


class Word(NamedTuple):
    """One word of a normalised text.

    Attributes:
        start: Where it begins in `normalised(text)`, in characters.
        end: Where it ends.
        form: The word in lower case, particle and all.
        script: `Script.HANGUL`, `LATIN` (numbers too) or `OTHER`.
        vector: Shape (d,), d by script; length 1, or zero for a word that is not known. Compare within a script only.
        idf: How telling the word is, from about 1 (in every other text) to `BundledEmbedder.highest_idf` (never met).
    """

    start: int
    end: int
    form: str
    script: Script
    vector: NDArray[np.float32]
    idf: float


class _Entry(NamedTuple):
    script: int
    small: NDArray[np.int8] | None  # -127 to 127; None for a word that is not known
    factor: float  # times which it is the word's vector
    idf: float


@dataclass(frozen=True)
class _Weights:
    name: str
    vocabulary: dict[str, int]
    latin: NDArray[np.int8]
    latin_scale: NDArray[np.float32]
    hangul: NDArray[np.int8]
    hangul_scale: NDArray[np.float32]
    idf: NDArray[np.uint8]
    highest_idf: float


@lru_cache(maxsize=1)
def _weights() -> _Weights:
    """The weight files, read once (16 MB, 20 ms); forked processes share them.

    Two threads that come first together may both read them: no lock, so none that a fork could leave held.
    """

    def array(name: str) -> NDArray[np.generic]:
        return np.load(_WEIGHTS / f"{name}.npy", allow_pickle=False)

    pieces = (_WEIGHTS / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    name, highest = (_WEIGHTS / "name.txt").read_text(encoding="utf-8").split()
    return _Weights(
        name=name,
        vocabulary={piece: row for row, piece in enumerate(pieces)},
        latin=np.asarray(array("latin"), np.int8),
        latin_scale=np.asarray(array("latin_scale"), np.float32),
        hangul=np.asarray(array("hangul"), np.int8),
        hangul_scale=np.asarray(array("hangul_scale"), np.float32),
        idf=np.asarray(array("idf"), np.uint8),
        highest_idf=float(highest),
    )


def _unit(small: NDArray[np.int8] | None, script: int, weights: _Weights) -> NDArray[np.float32]:
    unit = np.zeros((weights.hangul if script == Script.HANGUL else weights.latin).shape[1], np.float32)
    if small is not None:
        np.divide(small, sqrt(float(np.square(small, dtype=np.float32).sum())), out=unit)
    return unit


class BundledEmbedder:
    """Static bilingual vectors; numpy only, safe in threads and after a fork.

    Reads at most 4,000 characters of a text (3,000 from its head, 1,000 from its tail). Letters of other scripts than
    Latin and Hangul are unknown; a text in which they weigh more than the known words, or with no word at all, gets a
    zero row, so that it never matches.

    Example:
        >>> a, b = BundledEmbedder().embed(["배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"])
        >>> bool(a @ b > 0.8)
        True
    """

    def __init__(self) -> None:
        # A form's first letter says its script. What has not come again since half as many others came is forgotten.
        self._known: dict[str, _Entry] = {}
        self._older: dict[str, _Entry] = {}

    @property
    def name(self) -> str:
        """The name of the vector space, changed with the weights and with how they are used."""
        return _weights().name

    @property
    def dimensions(self) -> int:
        """Numbers per vector: those of the Latin part and those of the Hangul part."""
        weights = _weights()
        return weights.latin.shape[1] + weights.hangul.shape[1]

    @property
    def highest_idf(self) -> float:
        """The IDF of a word that no text of the corpora had."""
        return _weights().highest_idf

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of `texts`.

        Returns:
            Shape (len(texts), dimensions); rows of length 1, or all zero where (almost) nothing is known.
        """
        weights = _weights()
        out = np.zeros((len(texts), weights.latin.shape[1] + weights.hangul.shape[1]), np.float32)
        for row, text in zip(out, texts, strict=True):
            self._fill(row, text, weights)
        return out

    def words(self, text: str) -> list[Word]:
        """The words that are read of `text`, in order, with vector and IDF weight.

        Example:
            >>> [word.form for word in BundledEmbedder().words("RAG가 뭐야?")]
            ['rag', '뭐야']
        """
        weights = _weights()
        out: list[Word] = []
        for match in split(normalised(text)):
            script = match.lastindex or Script.OTHER
            form = match[script]
            _, small, _, idf = self._known.get(form) or self._learn(form, script, weights)
            out.append(Word(*match.span(script), form, Script(script), _unit(small, script, weights), idf))
        return out

    def word(self, text: str) -> tuple[int, NDArray[np.int8]] | None:
        """Script of a text that is one word, and its vector times some number; None for others, and unknown ones."""
        found = WORD.findall(normalised(text))
        if len(found) != 1:
            return None
        form, weights = "".join(found[0]), _weights()
        script, small, *_ = self._known.get(form) or self._learn(form, found[0].index(form) + 1, weights)
        return None if small is None else (script, small)

    def idf(self, text: str) -> float:
        """The IDF weight of the most telling word of a text, or of one never met where there is none."""
        weights = _weights()
        forms = [one or two or three for one, two, three in WORD.findall(normalised(text))]
        return weights.highest_idf * max([int(weights.idf[idf_slot(form)]) for form in forms], default=255) / 255

    def _fill(self, row: NDArray[np.float32], text: str, weights: _Weights) -> None:
        latin: list[_Entry] = []
        hangul: list[_Entry] = []
        latin_share = hangul_share = unknown = 0.0
        known = self._known
        for forms in WORD.findall(normalised(text)):
            form = forms[0] or forms[1] or forms[2]
            entry = known.get(form) or self._learn(form, forms.index(form) + 1, weights)
            script, small, _, idf = entry
            if small is None:
                unknown += idf
            elif script == 1:
                hangul.append(entry)
                hangul_share += idf
            else:
                latin.append(entry)
                latin_share += idf
        if unknown > latin_share + hangul_share:
            return
        width = weights.latin.shape[1]
        for part, words, share in ((row[:width], latin, latin_share), (row[width:], hangul, hangul_share)):
            if words:
                _, small, factors, _ = zip(*words, strict=True)
                total = np.array(factors, np.float32) @ np.array(small).astype(np.float32)
                norm = float(total.dot(total))
                if norm > 1e-12:
                    np.multiply(total, sqrt(share / ((latin_share + hangul_share) * norm)), out=part)

    def _learn(self, form: str, script: int, weights: _Weights) -> _Entry:
        if len(self._known) >= _MOST_WORDS_KEPT // 2:
            self._known, self._older = {}, self._known
        entry = self._known[form] = self._older.get(form) or _read(form, script, weights)
        return entry


def _read(form: str, script: int, weights: _Weights) -> _Entry:
    idf = int(weights.idf[idf_slot(form)])
    if script == Script.HANGUL:
        rows, table, scale, weight = hangul_rows(form), weights.hangul, weights.hangul_scale, hangul_weight(idf)
    else:
        rows = latin_rows(form, weights.vocabulary) if script == Script.LATIN else []
        table, scale, weight = weights.latin, weights.latin_scale, 1.0
    small: NDArray[np.int8] | None = None
    factor = 0.0
    if rows:
        at = np.array(rows)
        raw = scale.take(at) @ table.take(at, axis=0).astype(np.float32)
        most = float(np.abs(raw).max())
        if most > 1e-12:
            small, factor = np.rint(raw * (127 / most)).astype(np.int8), most / 127 * weight / sqrt(len(rows))
    return _Entry(script, small, factor, weights.highest_idf * idf / 255)


bundled_embedder = lru_cache(maxsize=1)(BundledEmbedder)
"""The process's own, which remembers words."""
