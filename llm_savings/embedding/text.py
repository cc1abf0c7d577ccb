"""From text to words, and from words to rows of the weight tables: shared by the embedder and by its build script."""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum
from zlib import crc32

HEAD, TAIL = 3_000, 1_000
HANGUL_ROWS = 1 << 16
IDF_SLOTS = 1 << 18
_LONGEST_WORD = 48  # characters read of one word: a megabyte without a space is no word
_MOST_PIECES = 12  # WordPiece gives up on a word of 100 letters; random strings break into many pieces much earlier

# Marks and controls that would split or hide a word: combining, zero-width, direction, variation selectors.
_NOISE = re.compile("[\u00ad\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f"
                    "\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff]+")  # fmt: skip
_JOSA = (  # topic, case and listing particles, longest first
    "에서는|에서도|으로는|으로도|에게서|이라는|이라고|이란|까지는|부터는|에서|으로|에게|한테|까지|부터|처럼|보다|이랑|하고|라는|라고|마다|"
    "조차|밖에|에는|에도|과의|와의|로는|란|은|는|이|가|을|를|의|에|로|과|와|도|만|랑|나"
)
_PARTICLE = re.compile(f"(?<=[가-힣]{{2}})(?:{_JOSA})$")
WORD = re.compile(  # three groups, in the order of `Script`
    "([0-9]*[가-힣\u1100-\u11ff][가-힣\u1100-\u11ff0-9]*)"  # Hangul, with the digits written onto it
    "|([a-z0-9\u00df-\u024f\u1e00-\u1eff]+[+#]*)"  # Latin and numbers; C++ and C# are not C
    f"(?:(?:{_JOSA})(?![가-힣]))?"  # a particle written onto a Latin word is read over: RAG가, RAG를
    "|([^\\W\\d_]+)"  # letters of any other script: counted as unknown
)


class Script(IntEnum):
    """Which table a word is looked up in."""

    HANGUL = 1
    LATIN = 2
    OTHER = 3


def capped(text: str) -> str:
    """The part of `text` that is read: all of it, or its first 3,000 and last 1,000 characters.

    A question stands at either end of a long prompt, and a megabyte must not cost a second.
    """
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} {text[-TAIL:]}"


def normalised(text: str) -> str:
    """`text` capped, lower-cased and NFKC, without marks that change how it is stored but not what it says."""
    text = capped(text)
    if text.isascii():
        return text.lower()
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return _NOISE.sub("", text).lower()


def split(text: str) -> list[re.Match[str]]:
    """The words of a normalised text: `match[match.lastindex]` is the word, `match.lastindex` its `Script`."""
    return list(WORD.finditer(text))


def hangul_rows(word: str) -> list[int]:
    """Table rows of a Hangul word: its jamo 2- to 6-grams between word boundaries, and the whole word.

    Jamo (NFD) rather than syllables, because a Korean ending often changes only the last consonant of a syllable.
    Plain integers: for the dozen letters of a word that is twice as fast as arrays.
    """
    word = word[:_LONGEST_WORD]
    codes = [2, *map(ord, unicodedata.normalize("NFD", word)), 3]
    rows = [crc32(word.encode()) & (HANGUL_ROWS - 1)]
    for start in range(len(codes) - 1):
        rolling = codes[start]
        for code in codes[start + 1 : start + 6]:
            rolling = (rolling * 0x01000193 + code) & 0xFFFFFFFF
            rows.append(((rolling ^ (rolling >> 15)) * 0x2C1B3C6D & 0xFFFFFFFF) >> 16)
    return rows


def hangul_weight(idf: int) -> float:
    """What a Hangul word counts for in its text, from its IDF in 1/255 of the highest.

    Without it a word that training never met, often the one a question is about, counts for less than the known ones.
    """
    return (idf / 255) ** 0.5


def latin_rows(word: str, vocabulary: dict[str, int]) -> list[int]:
    """Table rows of a Latin word or number: greedy longest-match WordPiece, empty when it is not to be known."""
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    stem = word.rstrip("+#")
    rows: list[int] = []
    start = 0
    while start < len(stem):
        for end in range(min(len(stem), start + 24), start, -1):
            piece = stem[start:end] if start == 0 else "##" + stem[start:end]
            if (row := vocabulary.get(piece)) is not None:
                break
        else:
            return []
        rows.append(row)
        if len(rows) > _MOST_PIECES:
            return []
        start = end
    return rows + [vocabulary[sign] for sign in word[len(stem) :][:4]]


def stem(word: str) -> str:
    """A Hangul word without its particle ("배송이" -> "배송"); other words as they are."""
    return _PARTICLE.sub("", word)


def idf_slot(word: str) -> int:
    """Where the IDF of `word` is kept in the table of `IDF_SLOTS` (hashed; a collision only blunts a weight)."""
    return crc32(stem(word).encode("utf-8", "surrogatepass")) & (IDF_SLOTS - 1)
