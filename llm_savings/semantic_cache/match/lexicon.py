"""The word lists of `lexicon.toml` in the form that reading a question needs, parsed once at first use."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from llm_savings.semantic_cache.match.stems import stem_english

Language = Literal["en", "ko"]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """One language's words that decide a meaning.

    Attributes:
        stop: Words that carry no content.
        negation: Words that turn a question round (English; Korean says it by endings, see words.NEGATION).
        question: Words that say what kind of answer is asked for, the longest first.
        left: Bit mask of the antonym pairs whose first side a word stands on.
        right: The same for the second side.
        units: Unit word to its name.
        currency: Currency word to its code.
        numbers: Number word to its digits.
        days: Day word to its name.
        months: Month word to its number.
        particles: What may stand behind a noun (Korean).
        endings: What may stand behind a verb (Korean).
        same: Form of a word to the one that stands for it and those said for it: irregular verbs, synonyms.
    """

    stop: frozenset[str]
    negation: frozenset[str]
    question: tuple[str, ...]
    left: dict[str, int]
    right: dict[str, int]
    units: dict[str, str]
    currency: dict[str, str]
    numbers: dict[str, str]
    days: dict[str, str]
    months: dict[str, str]
    particles: frozenset[str]
    endings: frozenset[str]
    same: dict[str, str]


@cache
def lexicon(language: Language) -> Lexicon:
    """Return the word lists of `language`."""
    table = tomllib.loads((files("llm_savings.semantic_cache.match") / "lexicon.toml").read_text("utf-8"))
    words: dict[str, str] = table["english" if language == "en" else "korean"]
    left: dict[str, int] = {}
    right: dict[str, int] = {}
    for place, line in enumerate(words["antonyms"].strip().splitlines()):
        for side, members in zip((left, right), line.split("|"), strict=True):
            for word in members.split():
                key = stem_english(word) if language == "en" else word
                side[key] = side.get(key, 0) | 1 << place
    return Lexicon(
        stop=frozenset(words["stop"].split()),
        negation=frozenset(words.get("negation", "").split()),
        question=tuple(sorted(words["question"].split(), key=len, reverse=True)),
        left=left,
        right=right,
        units=_names(words["units"]),
        currency=_names(words.get("currency", "")),
        numbers=dict(pair.split(":") for pair in words["numbers"].split()),
        days=_names(words["days"]),
        months={
            word: str(number) for number, group in enumerate(words["months"].split("|"), 1) for word in group.split()
        },
        particles=frozenset(words.get("particles", "").split()),
        endings=frozenset(words.get("endings", "").split()),
        same=_verbs(words.get("verbs", ""), frozenset(words.get("no_verbs", "").split()))
        | _names(words.get("nouns", "")),
    )


def _names(groups: str) -> dict[str, str]:
    """Return word -> the first word of its group."""
    lists = [group.split() for group in groups.replace("\n", "|").split("|")]
    return {word: group[0] for group in lists if group for word in group}


_SHORT_ENDINGS = "지고면자게기는니나려며던라"


def _verbs(groups: str, others: frozenset[str]) -> dict[str, str]:
    """Return the forms of Korean verbs, written "stem:stem before -아", -> the first stem of their group.

    Forms that are something else far more often (`others`) are left out.
    """
    found: dict[str, str] = {}
    for group in groups.replace("\n", "|").split("|"):
        pairs = [verb.split(":") for verb in group.split()]
        for stem, before in pairs:
            added = _attributive(stem, before)
            forms = {stem, before, *added, *(before + ending for ending in "라요줘서도야")}
            if len(stem) == 1:
                forms |= {stem + ending for ending in _SHORT_ENDINGS}
                future = [form for form in added if (ord(form[-1]) - 0xAC00) % 28 == 8]
                forms |= {form + ending for form in future for ending in "까래게지"}
            elif stem[-1] == "하" and len(stem) > 2:
                forms.add(stem[:-1])
            first = pairs[0][0]
            first = first[:-1] if first[-1] == "하" and len(first) > 2 else first
            found |= {form: first for form in forms - others if form not in found}
    return found


def _attributive(stem: str, before: str) -> set[str]:
    """Forms that add a consonant to a stem: 보낸, 보낼, 보냄, 보냅(니다), 보냈; 만든, 만드(는); 추운, 추울."""
    last, closed = ord(stem[-1]), (ord(stem[-1]) - 0xAC00) % 28
    past = before[:-1] + chr(ord(before[-1]) + 20) if (ord(before[-1]) - 0xAC00) % 28 == 0 else before
    if closed == 8:  # a stem in ㄹ loses it
        return {past} if len(stem) == 1 else {past} | {stem[:-1] + chr(last - 8 + final) for final in (0, 4, 17)}
    if closed == 17 and before[-1] == "워":
        open_stem = stem[:-1] + chr(last - 17)
        return {past, open_stem + "우", open_stem + "운", open_stem + "울"}
    return {past} | ({stem[:-1] + chr(last + final) for final in (4, 8, 16, 17)} if closed == 0 else set())
