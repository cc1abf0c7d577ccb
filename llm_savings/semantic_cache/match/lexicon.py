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
        question: Words that say what kind of answer is asked for.
        left: Bit mask of the antonym pairs whose first side a word stands on.
        right: The same for the second side.
        units: Unit word to its name.
        currency: Currency word to its code.
        numbers: Number word to its digits.
        days: Day word to its name.
        months: Month word to its number.
        particles: What may stand behind a noun (Korean).
        endings: What may stand behind a verb (Korean).
    """

    stop: frozenset[str]
    negation: frozenset[str]
    question: frozenset[str]
    left: dict[str, int]
    right: dict[str, int]
    units: dict[str, str]
    currency: dict[str, str]
    numbers: dict[str, str]
    days: dict[str, str]
    months: dict[str, str]
    particles: frozenset[str]
    endings: frozenset[str]


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
        question=frozenset(words["question"].split()),
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
    )


def _names(groups: str) -> dict[str, str]:
    """Return word -> the first word of its group."""
    lists = [group.split() for group in groups.split("|")]
    return {word: group[0] for group in lists if group for word in group}
