"""What keeps two questions apart whatever their similarity: the hard blocks."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from llm_savings.semantic_cache.match.lexicon import Language
from llm_savings.semantic_cache.match.question import Question
from llm_savings.semantic_cache.match.words import stem_korean

_PREFIXES = {
    "en": ("un", "in", "im", "il", "ir", "dis", "non", "de", "a", "anti", "mis"),
    "ko": ("불", "비", "미", "무", "부", "반", "탈"),
}
_SPECIFIC = frozenset({"why", "when", "where", "who", "whom", "whose"})
# Parts that tell even where the word exchanged with has none (서울에서 부산).
_TELLING = frozenset({"from", "to", "given", "than", "instead"})
_TOLD_BY_ORDER = 4  # from so many shared words on, another order is another sentence more often than a turn of phrase
_PAIRS = (("from", "to"), ("from", "given"), ("subject", "given"), ("before", "after"))
_OPPOSED = frozenset(_PAIRS) | {(other, one) for one, other in _PAIRS}


def blocks(asked: Question, stored: Question) -> tuple[str, ...]:
    """Return the names of what tells `asked` and `stored` apart for certain; empty when nothing does.

    Names: the kinds of facts (number, unit, date, weekday, day, month, version, code, currency), "negation",
    "antonym", "direction" (A to B is not B to A), "order" (the same words, two of them exchanged) and "question" (why,
    when or who of the very same). Symmetric.

    Example:
        >>> blocks(prepare("Is it open on Monday?"), prepare("Is it open on Friday?"))
        ('weekday',)
    """
    found: set[str] = set()
    if asked.facts != stored.facts:
        found.update(kind for kind, _ in asked.facts ^ stored.facts)
    if asked.negations != stored.negations:
        found.add("negation")
    both = (asked.left | asked.right) & (stored.left | stored.right)
    # A pair counts where the two questions share no side of it: "on" beside "off" in one of them says nothing.
    opposed = both & ~((asked.left & stored.left) | (asked.right & stored.right))
    if opposed or (asked.words != stored.words and _opposed(asked, stored)):
        found.add("antonym")
    # A word that stands twice has one of its parts looked at, another one from the other side.
    twice = len(asked.word_set) < len(asked.words) or len(stored.word_set) < len(stored.words)
    if _turned(asked, stored) or (twice and _turned(stored, asked)):
        found.add("direction")
    elif _exchanged(asked, stored):
        found.add("order")
    if asked.asks != stored.asks and asked.language == "en" and asked.word_set == stored.word_set:
        mine, theirs = set(asked.asks.split()), set(stored.asks.split())
        if mine & _SPECIFIC != theirs & _SPECIFIC:
            found.add("question")
    return tuple(sorted(found)) if found else ()


def _opposed(asked: Question, stored: Question) -> bool:
    """Whether a word of one is the other's with a prefix or ending that denies it (able, unable; 가능, 불가능)."""
    mine, theirs = asked.word_set, stored.word_set
    for word in mine ^ theirs:
        roots = _roots(word, asked.language)
        if roots and not roots.isdisjoint(theirs if word in mine else mine):
            return True
    return False


_NONE: frozenset[str] = frozenset()  # one for all


@lru_cache(16384)
def _roots(word: str, language: Language) -> frozenset[str]:
    """Return what `word` may deny: itself without a prefix or ending that denies."""
    roots = {word[len(prefix) :] for prefix in _PREFIXES[language] if word.startswith(prefix)}
    if word.endswith("less"):
        roots |= {word[:-4], word[:-4] + "ful"}
    return frozenset(root for root in roots if len(root) > 1) or _NONE


def _turned(asked: Question, stored: Question) -> bool:
    """Whether two words exchanged their parts, or a word changed from origin to goal."""
    if asked.roles == stored.roles and asked.words == stored.words:
        return False
    here = dict(zip(asked.words, asked.roles, strict=True))
    moved: set[tuple[str, str]] = set()
    for word, role in zip(stored.words, stored.roles, strict=True):
        mine = here.get(word, role)
        if mine == role:
            continue
        if (mine, role) in _OPPOSED or (role, mine) in moved:
            return True
        if mine in _TELLING or role in _TELLING or (mine and role):
            moved.add((mine, role))
    return False


def _exchanged(asked: Question, stored: Question) -> bool:
    """Whether the same words stand in another order that changes what is asked.

    English says who does what by order alone. Korean says it by particles, so only two words that changed places and
    left everything else where it was count there.
    """
    if asked.tokens == stored.tokens:
        return False
    if asked.language == "ko":
        if len(asked.tokens) != len(stored.tokens):
            return False
        places = [mine for mine, theirs in zip(asked.tokens, stored.tokens, strict=True) if mine != theirs]
        if len(places) != 2 or not _same(asked.tokens, stored.tokens):
            return False
        return not all(stem_korean(token)[1] for token in places)  # particles keep each word's part wherever it stands
    if _same(asked.tokens, stored.tokens):
        return True
    own, other = asked.word_set, stored.word_set
    both = own & other
    if len(own ^ other) > max(2, len(both) // 2) or len(both) < _TOLD_BY_ORDER:
        if own != other or asked.words == stored.words or not _same(asked.words, stored.words):
            return False
        mine, theirs = Counter(asked.tokens), Counter(stored.tokens)
        return (mine - theirs).total() <= 1 and (theirs - mine).total() <= 1
    return [word for word in asked.words if word in both] != [word for word in stored.words if word in both]


def _same(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether these are the same words in whatever order, each as often."""
    return len(words) == len(others) and sorted(words) == sorted(others)
