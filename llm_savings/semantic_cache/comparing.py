"""Whether a stored answer says what a fresh one says: the label that the cache learns its error from.

Two answers of a model to one question rarely share their wording, so text alone often cannot tell. It then says so
(None) rather than guess: a wrong "right" would loosen the cache, a wrong "wrong" would only cost hits.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

Judge = Callable[[str, str, str, str], bool | None]
"""(question asked, question stored, stored answer, fresh answer) -> right, wrong, or None for undecided."""

SAME, ALIKE, DIFFERENT = 0.85, 0.4, 0.2
"""Share of words two answers have in common: they agree, say something of the same, or have little to do."""

NEAR, FAR = 0.92, 0.35
"""The same of the cosine of their vectors, when there is an embedder."""

FEW, SHORT = 5, 12
"""Words up to which two answers may share none and still agree, and up to which an answer is one statement."""

_FEWEST = 4  # letters below which an answer may be that to many questions

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?")
_OPENER = re.compile(
    r"^(?:sure|certainly|of course|great question|thanks?(?: you)?|네|물론(?:입니다)?)\b[^.!?\n]{0,40}?[.!,:\n]\s*",
    re.I,
)
_CLOSER = re.compile(
    r"[.!?\n]\s*(?:(?:please )?let me know|feel free|(?:i )?hope (?:this|that)"
    r"|if you (?:have|need)[^.!?]* (?:other|more|further|else)"
    r"|(?:더 |추가로 |다른 )?궁금하신|도움이 되|추가 문의)[^.!?\n]*[.!?]?\s*$",
    re.I,
)
_DIGITS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "ten": "10"}
_NOT = re.compile(
    r"\b(?:not|no|never|none|cannot|without|unable|impossible|\w+n't)\b"
    r"|않|없|못하|못 |아니|안 되|안 됩|안되|안됩|불가|금지|\b안 "
)
_YES = re.compile(r"(?:yes|yeah|correct|true|네|예|맞)\b")
_NO = re.compile(r"(?:no|nope|incorrect|false|아니)")
_SMALL = re.compile(
    r"(?:an?|the|is|are|was|were|be|been|am|to|of|in|on|at|for|and|or|its?|th(?:is|at)|your?|i|we|our|by|with|as|if|will"
    r"|can|may|do|does|so|from|ha(?:ve|s)|please)\Z"
)


def compare(stored: str, fresh: str, *, embed: Callable[[str], Sequence[float]] | None = None) -> bool | None:
    """Say whether two answers to one question agree.

    Args:
        stored: The answer in the cache.
        fresh: The answer that the model just gave.
        embed: Gives a text's vector, of any length. With it, wordings that differ can be told apart more often.

    Returns:
        True when they agree, False when they differ, None when the text does not tell.

    Example:
        >>> compare("It takes 5 days.", "it takes **5 days**"), compare("It takes 5 days.", "It takes 7 days.")
        (True, False)
    """
    one, other = _plain(stored), _plain(fresh)
    mine, theirs = _words(one), _words(other)
    if not mine or not theirs:
        return None
    if mine == theirs:
        return True
    if (_YES.match(one) and _NO.match(other)) or (_NO.match(one) and _YES.match(other)):
        return False
    left, right = _pieces(mine), _pieces(theirs)
    shared = 2 * (left & right).total() / (left.total() + right.total())
    cosine = _cosine(embed(stored), embed(fresh)) if embed is not None else None
    figures, others = _numbers(mine), _numbers(theirs)
    negated = len(_NOT.findall(one)) % 2 != len(_NOT.findall(other)) % 2
    turned = negated or bool(figures - others and others - figures)
    # In a long answer another figure may be another example; in the same few words it makes another answer.
    if turned and shared >= ALIKE and max(len(mine), len(theirs)) <= SHORT:
        return False
    if cosine is None:
        if shared <= DIFFERENT / 4 and min(len(mine), len(theirs)) > FEW:
            return False
    elif cosine <= FAR and shared <= DIFFERENT:
        return False
    if figures != others or negated:
        return None
    agree = shared >= SAME and (cosine is None or cosine > FAR)
    return True if agree or (cosine is not None and cosine >= NEAR) else None


def wording(answer: str) -> str:
    """The words of an answer that tell it from others; empty for a bare yes, no, number or word of few letters.

    Example:
        >>> wording("Sure! It takes **5 days**.") == wording("it takes 5 days"), wording("Yes, it is."), wording("42")
        (True, '', '')
    """
    words, start = _words(_plain(answer)), answer.lstrip().casefold()
    said = " ".join(words)
    answers_many = len(words) <= FEW and (_YES.match(start) or _NO.match(start))
    return "" if answers_many or sum(map(str.isalpha, said)) < _FEWEST else said


def _plain(text: str) -> str:
    text = re.sub(r"[*_`#>|~]+", " ", unicodedata.normalize("NFKC", text))
    text = text.replace("\u2019", "'").strip()
    return " ".join(_CLOSER.sub(".", _OPENER.sub("", text, count=1)).casefold().split())


def _words(plain: str) -> list[str]:
    found = (match[0] for match in _WORD.finditer(plain))
    words = [_DIGITS.get(word, word).replace(",", "") for word in found]
    return [word for word in words if not _SMALL.match(word)] or words


def _pieces(words: list[str]) -> Counter[str]:
    """Words, and of Hangul words their pairs of syllables: a particle or an ending does not make another word."""
    pieces: Counter[str] = Counter()
    for word in words:
        if "가" <= word[0] <= "힣" and len(word) > 1:
            pieces.update(word[i : i + 2] for i in range(len(word) - 1))
        else:
            pieces[word] += 1
    return pieces


def _numbers(words: list[str]) -> set[str]:
    return {word for word in words if word[0].isdecimal()}


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0
