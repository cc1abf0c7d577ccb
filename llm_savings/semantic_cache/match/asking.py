"""The kind of answer that a question asks for: a reason, a time, a place, a person (English: an amount, a manner)."""

from __future__ import annotations

from functools import lru_cache

from llm_savings.semantic_cache.match.question import Question
from llm_savings.semantic_cache.match.stems import stem_english

_KINDS = {
    stem_english(word): kind
    for kind, words in {
        "why": "why reason cause",
        "time": "when",
        "place": "where",
        "person": "who whose whom",
        "manner": "way step process",
    }.items()
    for word in words.split()
}
_WHAT = {
    stem_english(word): kind for word, kind in {"time": "time", "date": "time", "day": "time", "place": "place"}.items()
}
_HOW = {
    stem_english(word): kind
    for kind, words in {
        "amount": "much many long often soon far expensive",
        "why": "come",
        "property": "old hard difficult safe rich big large tall high fast easy good heavy",
    }.items()
    for word in words.split()
}
# Two kinds that one answer may serve: until when and how long, where and how to find it.
_ALIKE = ({"time", "amount"}, {"place", "manner"}, {"place", "person"})
_KOREAN = {"왜": "why", "언제": "time", "어디": "place", "어딘": "place", "누구": "person", "누가": "person"}


def asks_otherwise(asked: Question, stored: Question) -> bool:
    """Whether two questions ask for different kinds of answer; False where an English one does not say.

    A Korean one that asks for no reason, time, place or person is of another kind than one that does.

    Example:
        >>> asks_otherwise(prepare("How long does it take to learn chess?"), prepare("How can I learn chess?"))
        True
    """
    if asked.language == "ko":
        return asked.asks != stored.asks and _korean(asked.asks) != _korean(stored.asks)
    mine, theirs = _kind(asked.tokens), _kind(stored.tokens)
    return bool(mine and theirs and mine != theirs) and {mine, theirs} not in _ALIKE


@lru_cache(1024)
def _korean(asks: str) -> frozenset[str]:
    return frozenset(_KOREAN[word] for word in asks.split() if word in _KOREAN)


@lru_cache(8192)
def _kind(tokens: tuple[str, ...]) -> str:
    """The kind that the first telling word names; empty for what and which alone, orders, and yes or no."""
    found = ""
    open_ended = False  # behind "what", "when" joins two clauses
    for word, after in zip(tokens, (*tokens[1:], ""), strict=False):
        if word == "how":
            kind = _HOW.get(after, "")
            if kind == "property":
                return after
            if kind:
                return kind
            found = found or "manner"
        elif word in {"what", "which"}:
            if after in _WHAT:
                return _WHAT[after]
            open_ended = True
        elif word in _KINDS:
            kind = _KINDS[word]
            if kind == "manner":
                found = found or kind
            elif kind == "why" or not (open_ended or found):
                return kind
        elif word == "should" and not (open_ended or found):
            found = "advice"
    return found
