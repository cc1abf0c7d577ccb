"""What is counted in a request's text: its length in both scripts, its clauses and relations, what it asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WORDS = 400
"""Words that are hashed, from either end of a longer text."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[가-힣]+|\d+|[^\sa-z\d가-힣]")
_NOT_PROSE = re.compile(r"```.*?```|\$[^$]{0,400}\$|\\\[.{0,800}?\\\]", re.DOTALL)
_CAPITALS, _DIGITS, _SIGNS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789", b"=+*^/<>{}[]$%~|"
_SYLLABLES_PER_WORD = 1.7  # Hangul syllables that say what an English word says


_CLAUSES = "and but that which who if when while because so then after before since although however or than with for"
_RELATIONS = (
    "twice thrice half third quarter times more less fewer than each every per percent remaining left rest total "
    "average double triple"
)
_DENIALS = "not except never without unless least false incorrect neither nor"
_KO_CLAUSES = re.compile(r"[가-힣](?:하고|면서|지만|니까|는데|려고|도록|때문|되)(?![가-힣])|할 때|뿐 아니라")
_KO_RELATIONS = re.compile(r"\d배|절반|보다|마다|각각|퍼센트|나머지|모두 합|평균|번째")
_KO_DENIALS = re.compile(r"않|못하|없(?:는|이|음|다)|아닌|제외")

SHAPE = ("words", "kinds", "clauses", "relations", "long_words", "denials")
"""Names of what is counted of a text's length and build."""

# What is asked for: stems of English words (their first five letters), phrases, and Korean stems.
_STEMS: dict[str, str] = {
    "design": "desig archi build devel const simul model",
    "analyse": "analy evalu asses criti diagn inves recon revie",
    "compare": "compa contr trade versu",
    "prove": "prove proof deriv theor formu integ",
    "implement": "imple refac debug optim migra compi algor",
    "plan": "strat propo roadm memo sched miles mitig plan",
    "depth": "detai thoro compr justi depth every deriv sensi tests",
    "limits": "must withi inclu consi respe keepi prese const toler witho",
    "explain": "expla descr summa why",
    "write": "write draft rewri sugge ideas recip class",
}
_PHRASES: dict[str, tuple[str, ...]] = {
    "compare": ("pros and cons", "both sides"),
    "depth": ("step by step", "in detail", "each "),
    "limits": ("at least", "at most", "no more than", "so that", "with no"),
    "explain": ("how does", "how do ", "how can"),
}
_KO_STEMS: dict[str, str] = {
    "design": "설계|구축|아키텍처|개발해|모델링|모델을 만들|시뮬레이션",
    "analyse": "분석|평가해|검토|진단|조사|논증|논해|따져|저울질|비판적",
    "compare": "비교|대조|장단점",
    "prove": "증명|유도|정식화|방정식|정수해",
    "implement": "구현|리팩터링|디버깅|최적화|마이그레이션|알고리즘",
    "plan": "전략|계획|방안|제안|수립|대책|근무표",
    "depth": "상세|자세히|단계별|구체적|깊이 있|근거|이유를|과정과|과정까지",
    "limits": "반드시|없도록|이내|이상|포함|고려|유지|되도록|만족하는|조건",
    "explain": "설명|요약|어떻게 동작|어떻게 작용|왜 ",
    "write": "써 ?줘|작성|만들어|추천|다듬|초안|방법",
}
_SHORT: dict[str, re.Pattern[str]] = {
    "question": re.compile(
        r"\W*(?:what(?:'s| is| are| does| year| time| colou?r)|who|when|where|which|is|are|do|does|can"
        r"|how (?:many|much|long|tall|old|far|do you say))\b.{0,80}$"
        r"|.{0,40}(?:뭐|무엇|무슨|언제|어디|누구|몇|얼마)[가-힣 ]{0,12}\??\s*$"
        r"|.{0,40}(?:되나요|인가요|맞나요|있나요|어때|나요)\??\s*$"
    ),
    "chat": re.compile(
        r"\W*(?:hi|hello|hey|thanks|thank you|ok(?:ay)?|yes|no|good (?:morning|night|evening)|tell me a joke)\b.{0,40}$"
        r"|\W*(?:안녕|고마|감사|네[,. ]|응[,. ]|아니요?|잘 자|농담|ㅋㅋ|ㅎㅎ).{0,30}$"
    ),
    "lookup": re.compile(
        r"\W*(?:translate (?!this)|spell|define|convert|list the|sort|fix the|turn this|extract|give me a synonym)\b"
        r"|.{0,60}(?:번역해|오타|반대말|약자|뜻이|정렬해|뽑아|알려주세요\W*$)"
    ),
}
KINDS = (*_STEMS, *_SHORT)
"""Names of what is asked for."""

_PHRASE_OF = [(KINDS.index(name), phrase) for name, phrases in _PHRASES.items() for phrase in phrases]
_KO_STEM = re.compile("|".join(f"({stems})" for stems in _KO_STEMS.values()))

# What two words' hashes are mixed with: odd numbers without a pattern (Knuth's golden ratio, MurmurHash3's).
_ONE, _TWO, _DOWN, _LOW = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(15), np.uint64(0xFFFFFFFF)
_MOST_WORDS_KEPT = 20_000
_FIRST = 600  # characters in which what is asked for is looked for, at either end


def words(text: str) -> list[str]:
    """The words of a text: lower-case Latin words, runs of Hangul, digits and signs, each one by one."""
    return _WORD.findall(text.lower())


class Remembered(dict[str, int]):
    """Word -> a number that `tell` works out; of the words that were met, at most some thousands."""

    def __init__(self, tell: Callable[[str], int]) -> None:
        super().__init__()
        self._tell = tell

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_WORDS_KEPT:
            self.clear()
        said = self[word] = self._tell(word)
        return said


# Each thing that is counted has 16 bits of one number, so that counting words is adding their numbers up.
_FIELDS = Struct(f"<{7 + len(_STEMS)}H")
_LATIN, _LONG, *_LISTED, _HANGUL, _SYLLABLE = (1 << 16 * place for place in range(7 + len(_STEMS)))
_OF_WORD: dict[str, int] = {}
_OF_STEM: dict[str, int] = {}
for _unit, _listed in zip(_LISTED, (_CLAUSES, _RELATIONS, _DENIALS, *_STEMS.values()), strict=True):
    _of = _OF_WORD if _unit < _LISTED[3] else _OF_STEM
    _of |= {word: _of.get(word, 0) + _unit for word in _listed.split()}


def _told(word: str) -> int:
    if not word[0].isalnum():
        return 0
    if word[0] >= "가":
        return _HANGUL + len(word) * _SYLLABLE
    return _LATIN + (len(word) >= 8) * _LONG + _OF_WORD.get(word, 0) + _OF_STEM.get(word[:5], 0)


def _hash(word: str) -> int:
    # Of a number its length counts.
    return crc32(("0" * len(word) if word.isdigit() else word)[:32].encode("utf-8", "surrogatepass"))


_TOLD, _HASHES = Remembered(_told), Remembered(_hash)


def _counted(found: Iterable[str]) -> tuple[int, ...]:
    return _FIELDS.unpack(sum(map(_TOLD.__getitem__, found)).to_bytes(_FIELDS.size, "little"))


def counts(text: str, found: list[str], different: Collection[str]) -> list[float]:
    """How long and how involved a text is, as `SHAPE` names it, and what it asks for, as `KINDS` does.

    What is asked for is looked for at either end, and counts three times at most.

    Args:
        text: The text.
        found: Its words.
        different: The same, each once.
    """
    told = _counted(found)
    ends = found if len(found) <= _FIRST // 2 else found[: _FIRST // 4] + found[-_FIRST // 4 :]
    named = list((told if ends is found else _counted(ends))[5:-2])
    if "$" in text or "`" in text or "\\[" in text:
        prose = words(_NOT_PROSE.sub(" ", text))
        told, different = _counted(prose), dict.fromkeys(prose)
    latin, long, clauses, relations, denials, *_, syllables = told
    hangul = syllables / _SYLLABLES_PER_WORD
    if hangul:
        clauses += len(_KO_CLAUSES.findall(text))
        relations += len(_KO_RELATIONS.findall(text))
        denials += len(_KO_DENIALS.findall(text))
    shape = (
        latin + hangul,
        len([*filter(None, map(_TOLD.__getitem__, different))]) * (1.5 if hangul else 1),
        clauses + text.count(","),
        relations + text.count("%") + text.count("/"),
        long + hangul / 5,
        denials,
    )
    return [*map(math.log1p, shape), *_kinds(text, named)]


def _kinds(text: str, named: list[int]) -> list[float]:
    ends = (text if len(text) <= 2 * _FIRST else f"{text[:_FIRST]}\n{text[-_FIRST:]}").lower()
    for number, phrase in _PHRASE_OF:
        if phrase in ends:
            named[number] += 1
    if not ends.isascii():
        for match in _KO_STEM.finditer(ends):
            named[(match.lastindex or 1) - 1] += 1
    short = [len(ends) <= 200 and pattern.match(ends) is not None for pattern in _SHORT.values()]
    return [each if each < 3 else 3 for each in (*named, *short)]


def hashes(found: list[str]) -> NDArray[np.int64]:
    """A number of 32 bits for each word and each pair of neighbouring words; the low bits are a place in a table."""
    if len(found) > MOST_WORDS:
        found = found[: MOST_WORDS // 2] + found[-MOST_WORDS // 2 :]
    count = len(found)
    every = np.empty(max(2 * count - 1, 0), np.uint64)
    every[:count] = list(map(_HASHES.__getitem__, found))
    pairs = every[count:]
    np.multiply(every[: len(pairs)], _ONE, out=pairs)  # in place, and modulo 2**64
    pairs ^= every[1:count]
    pairs *= _TWO
    pairs >>= _DOWN
    pairs &= _LOW
    every.sort()
    first = np.ones(len(every), np.bool_)
    np.not_equal(every[1:], every[:-1], out=first[1:])
    return every[first].view(np.int64)


def layout(text: str) -> list[float]:
    """How a text looks on the page: its lines, signs and capitals, and what follows its first line (answers, code).

    Args:
        text: A text of at most a few thousand characters.
    """
    log = math.log1p
    first, _, tail = text.partition("\n")
    body = [len(line) for line in tail.split("\n")[:-1]] or [0]
    lines, spaces, end = text.count("\n") + 1, text.count(" ") + 2, first.rstrip()[-1:]
    whole, after = text.encode("utf-8", "replace"), tail.encode("utf-8", "replace")
    known = [len(whole) - len(whole.translate(None, which)) for which in (_CAPITALS, _DIGITS, _SIGNS)]
    tail_digits, tail_spaces = len(after) - len(after.translate(None, _DIGITS)), tail.count(" ")
    return [
        *map(log, (len(text), lines, len(first), sum(body) / len(body), max(body), min(body))),
        *map(log, (*known, tail_digits, tail_spaces, text.count('"') + text.count("'"))),
        *map(log, map(text.count, "?.,(-_")),
        *(count / spaces for count in known),
        tail_digits / lines,
        tail_spaces / lines,
        len(text) / spaces,
        float(end == "?"),
        float(end == "."),
        float(end in (":", "_", "")),
    ]


class Features(NamedTuple):
    """What the models see of a text.

    Attributes:
        counts: As `SHAPE` and then `KINDS` name them.
        hashes: Of its words and pairs of words.
        different: Its words, each once, as they come.
    """

    counts: list[float]
    hashes: NDArray[np.int64]
    different: Collection[str]


def features(text: str) -> Features:
    """What the models see of a text of at most a few thousand characters."""
    found = words(text)
    different = dict.fromkeys(found)
    return Features(counts(text, found, different), hashes(found), different)
