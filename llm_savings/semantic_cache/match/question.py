"""A question read once: its words, and the facts in it that no paraphrase changes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from sys import intern
from typing import Any, NamedTuple
from zlib import crc32

from llm_savings.semantic_cache.match.lexicon import Language, lexicon
from llm_savings.semantic_cache.match.stems import stem_english
from llm_savings.semantic_cache.match.words import HANGUL, NEGATION, PREPOSITIONS, ROLES, TOKEN, stem_korean

GRAM_BITS = 1024
_LONGEST = 1000  # characters read; in a longer text one word can hide, so it matches nothing but itself
_KO_UNIT = re.compile(r"([-+]?\d[\d.,:/-]*)([가-힣]+)")
_KO_COUNT = re.compile(
    r"(?<![가-힣])(열한|열두|스무|다섯|여섯|일곱|여덟|아홉|서른|한|두|세|네|열)\s?(시간|시|개월|개|명|사람|달|잔|장|병|마리|권|대|곳|가지|살|번째|번|배)(?![가-힣]*번|\s?다시)"
)
_LATIN_UNIT = re.compile(
    r"(?<![\w.-])([-+]?\d+(?:[.,]\d+)*)(kgs?|mg|g|lbs?|oz|km|cm|mm|m|mi|ft|l|ml|kb|mb|gb|tb|h|hr|hrs|s|min|ms|hz|w|kw|kwh|kmh|mph|am|pm|k)\b"
)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:/-]\d+)*")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# A text of words and closing signs alone, as most are, and its tokens: those that `TOKEN` finds, found sooner.
_WORDY = re.compile(r"[a-z가-힣\s,.?!']*")
_WORDS = re.compile(r"[a-z]+n't|'(?:s|m|re|ve|d|ll)\b|[가-힣]+|[a-z]+")
_HANGUL_WORDS = re.compile(r"[가-힣]+")
_INSTEAD = frozenset({"말고", "대신"})
_VERSION = frozenset({"v", "version", "버전"})
_CODE = re.compile(r"(?=.*[a-z])(?=.*[\d_])[\w./-]+$|[a-z][+#]+$|--?[a-z]")


class Question(NamedTuple):
    """What the match model reads of a text. Made by `prepare`, never changed.

    Attributes:
        language: "ko" when a fifth of its letters or more are Hangul, else "en" (every other script too).
        tokens: Stems of all words in order, small words included.
        words: Stems of the content words in order.
        surfaces: The content words as written (lower case), for their vectors and weights.
        roles: The part each content word plays, beside `words`; empty for none.
        facts: (kind, value) of numbers, units, dates, weekdays, months, versions, codes and currency.
        left: Bit mask of the antonym pairs with a word on their first side.
        right: The same for the second side.
        negations: How often it says not, never, without.
        asks: Question words in it, sorted and joined (what, how much).
        grams: Bit set of the hashed character (Hangul: jamo) n-grams of its words.
        word_set: The stems of content words, each once.
    """

    language: Language
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    surfaces: tuple[str, ...]
    roles: tuple[str, ...]
    facts: frozenset[tuple[str, str]]
    left: int
    right: int
    negations: int
    asks: str
    grams: int
    word_set: frozenset[str]

    def plain(self) -> list[Any]:
        """As JSON has it, for another process."""
        bits = [f"{number:x}" for number in (self.left, self.right, self.grams)]
        return [*self[:5], list(self.facts), *bits, self.negations, self.asks]

    @classmethod
    def of_plain(cls, values: list[Any]) -> Question:
        """What `plain` gave these for."""
        language, tokens, words, surfaces, roles, facts, left, right, grams, negations, asks = values
        tokens, words, surfaces = (tuple[str, ...](map(intern, some)) for some in (tokens, words, surfaces))
        return cls(
            language,
            tokens,
            words,
            surfaces,
            tuple(roles),
            frozenset((kind, value) for kind, value in facts) if facts else _NOTHING,
            int(left, 16),
            int(right, 16),
            negations,
            asks,
            int(grams, 16),
            frozenset(words),
        )


class _Word(NamedTuple):
    """What a token says wherever it stands; made once for each."""

    stem: str
    surface: str
    content: bool
    left: int
    right: int
    negated: bool
    ask: str
    role: str
    fact: tuple[str, str] | None
    unit: str
    grams: int


def language_of(text: str) -> Language:
    """The language that `prepare` reads a text in."""
    return _language(text[:_LONGEST])[0]


def prepare(text: str) -> Question:
    """Read `text` once; the result is kept beside the vector of an entry. Never raises on any string.

    Example:
        >>> prepare("Flights to Seoul on 5 March").facts == {("number", "5"), ("month", "3")}
        True
    """
    facts: set[tuple[str, str]] = set()
    if len(text) > _LONGEST:
        facts.add(("text", str(crc32("".join(text.split()).lower().encode("utf-8", "replace")))))
        text = text[:_LONGEST]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2212", "-")
    text = text.lower()
    language, hangul = _language(text)
    wordy = _WORDY.fullmatch(text) is not None
    if not wordy:
        text = _LATIN_UNIT.sub(r"\1 \2", text)
    if hangul:
        text = _korean_counts(text, facts, digits=not wordy)
    tokens: list[str] = []
    words: list[str] = []
    surfaces: list[str] = []
    roles: list[str] = []
    asks: set[str] = set()
    left = right = grams = 0
    negations = len(NEGATION.findall(text)) if hangul else 0
    counted = False
    role = ""
    for token, glued in _tokens(_WORDS if wordy else TOKEN, text, hangul):
        stem, surface, content, is_left, is_right, negated, ask, own, fact, unit, bits = _word(token, language)
        if hangul and (glued or token in _INSTEAD) and tokens and token in lexicon("ko").particles | _INSTEAD:
            if roles:
                # RAG가, 3.11을: the particle of the name before it; 우산 쓰지 말고: of what the verb before it takes.
                verb = len(roles) > 1 and tokens[-1].endswith("지") and not tokens[-1].endswith("하지")
                roles[-2 if verb else -1] = ROLES.get(token, "")
            continue
        tokens.append(stem if language == "en" else surface)
        left |= is_left
        right |= is_right
        grams |= bits
        negations += negated
        if ask:
            asks.add(ask)
        measured = counted and bool(unit)
        if measured:
            facts.add(("month", unit) if unit == "월" else ("unit", unit))
        elif fact:
            facts.add(fact)
            if fact[0] == "number" and len(tokens) > 1 and tokens[-2] in _VERSION:
                facts.add(("version", fact[1]))
        counted = fact is not None and fact[0] in {"number", "code"}
        if content and not measured:
            words.append(stem)
            surfaces.append(surface)
            roles.append(own if hangul and HANGUL.match(token) else role)
            role = ""
        elif own:
            role = own
    return Question(
        language,
        tuple(tokens),
        tuple(words),
        tuple(surfaces),
        tuple(roles),
        frozenset(facts) if facts else _NOTHING,
        left,
        right,
        negations,
        " ".join(sorted(asks)),
        grams,
        frozenset(words),
    )


def _language(text: str) -> tuple[Language, int]:
    """The language of a text, and how many of its characters are Hangul."""
    hangul = 0 if text.isascii() else sum(map(len, _HANGUL_WORDS.findall(text)))
    return "ko" if hangul and hangul * 5 >= sum(map(str.isalpha, text)) else "en", hangul


def _tokens(pattern: re.Pattern[str], text: str, hangul: int) -> Iterable[tuple[str, bool]]:
    """The tokens of a text, and whether each is written onto the one before it, which only Korean asks."""
    if not hangul:
        return zip(pattern.findall(text), repeat(False))
    found: list[tuple[str, bool]] = []
    end = 0
    for match in pattern.finditer(text):
        found.append((match[0], match.start() == end))
        end = match.end()
    return found


_NOTHING: frozenset[tuple[str, str]] = frozenset()


def _korean_counts(text: str, facts: set[tuple[str, str]], *, digits: bool) -> str:
    """Put a blank between digits and what they count, and read counts in words (두 시간)."""
    lists = lexicon("ko")
    for match in _KO_COUNT.finditer(text):
        number, unit = match[1], match[2]
        if (number, unit) != ("한", "번"):  # 한 번 is "once, please", not a count
            facts.add(("number", lists.numbers[number]))
            facts.add(("unit", lists.units.get(unit, unit)))
    return _KO_UNIT.sub(r"\1 \2", text) if digits else text


@lru_cache(16384)
def _word(token: str, language: Language) -> _Word:
    return _korean_word(token) if HANGUL.match(token) else _latin_word(token, language)


def _korean_word(token: str) -> _Word:
    lists = lexicon("ko")
    stem, role = stem_korean(token)
    forms = {token, stem}
    ask = next(filter(token.startswith, lists.question)) if token.startswith(lists.question) else ""
    day = lists.days.get(stem) or lists.days.get(token)
    month = lists.months.get(stem)
    fact = ("day", day) if day else ("month", month) if month else None
    return _Word(
        stem=intern(lists.same.get(token) or lists.same.get(stem) or stem),
        surface=intern(token),
        content=not (fact or ask or forms & lists.stop),
        left=_either(lists.left, forms),
        right=_either(lists.right, forms),
        negated=False,
        ask=ask,
        role=role,
        fact=fact,
        unit=lists.units.get(stem) or lists.units.get(token, ""),
        grams=_grams(unicodedata.normalize("NFD", f" {token} "), 5),
    )


def _latin_word(token: str, language: Language) -> _Word:
    lists = lexicon("en")
    fact, content = _fact(token)
    stem = token if fact else stem_english(token)
    negated = token in lists.negation or token.endswith("n't")
    english = language == "en"
    return _Word(
        stem=intern(stem),
        surface=intern(token),
        content=content and not negated and token not in lists.stop,
        left=lists.left.get(stem, 0) if english else 0,
        right=lists.right.get(stem, 0) if english else 0,
        negated=negated,
        ask=token if english and token in lists.question else "",
        role=PREPOSITIONS.get(token, ""),
        fact=fact,
        unit=lists.units.get(token) or lists.units.get(token.removesuffix("s"), ""),
        grams=_grams(f" {token} ", 3),
    )


def _either(table: dict[str, int], forms: set[str]) -> int:
    bits = 0
    for form in forms:
        bits |= table.get(form, 0)
    return bits


def _fact(token: str) -> tuple[tuple[str, str] | None, bool]:
    """Return the fact that a token in Latin letters, digits or signs states, and whether it is a content word too."""
    lists = lexicon("en")
    if _NUMBER.match(token):
        return _number(token), False
    if _CODE.match(token):
        return (("version", token[1:]) if token[0] == "v" and token[1].isdigit() else ("code", token)), False
    if token in lists.numbers:
        return ("number", lists.numbers[token]), False
    for word in (token, token.removesuffix("s")):
        if word in lists.currency:
            return ("currency", lists.currency[word]), word.isalpha()
        if word in lists.days:
            return ("day" if word in {"tomorrow", "yesterday"} else "weekday", lists.days[word]), False
    if token in lists.months and token not in {"may"}:  # which asks more often than it dates
        return ("month", lists.months[token]), False
    if not token[0].isalnum() and token[0] != "'":
        return ("unit" if token in {"%", "°"} else "code", token), False
    return None, True


def _number(token: str) -> tuple[str, str]:
    """Return the fact of a token that begins with a digit: a number, date or version, or a code (3d, 2nd-hand)."""
    match = _NUMBER.match(token)
    value = match[0] if match else token
    rest = token[len(value) :]
    if rest and rest not in {"st", "nd", "rd", "th"}:
        return ("code", token)
    if _THOUSANDS.fullmatch(value):
        value = value.replace(",", "")
    if value.count("-") == 2 or value.count("/") == 2:
        return ("date", value)
    return ("version" if value.count(".") >= 2 else "number", value.removeprefix("+"))


def _grams(text: str, size: int) -> int:
    """Return the bit set of the n-grams of a word between blanks (five jamo are about two syllables)."""
    bits = 0
    for start in range(max(len(text) - size + 1, 1)):
        bits |= 1 << crc32(text[start : start + size].encode("utf-8", "replace")) % GRAM_BITS
    return bits
