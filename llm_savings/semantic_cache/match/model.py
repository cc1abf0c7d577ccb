"""From the nearest stored questions to the probability that the stored answer is right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from operator import mul
from typing import Any, NamedTuple

from llm_savings.semantic_cache.match.asking import asks_otherwise
from llm_savings.semantic_cache.match.features import NAMES, SINGLE, WORST, WordSpace, compared, outline
from llm_savings.semantic_cache.match.guards import blocks
from llm_savings.semantic_cache.match.lexicon import Language
from llm_savings.semantic_cache.match.question import Question, prepare
from llm_savings.semantic_cache.match.words import bare
from llm_savings.semantic_cache.match.wordspace import bundled_words
from llm_savings.semantic_cache.remembered import Remembered

SCORED = 3  # candidates that no guard blocks and that are scored; the fourth nearest is almost never the best
NEIGHBOURS = 5
# A fifth neighbour farther off than SPARSE tells nothing more: in a broad English domain (QQP) one near question among
# far ones is as often a question that differs in a word as a paraphrase.
SPARSE: dict[Language, float] = {"en": 0.6, "ko": 0.5}
# With fewer neighbours nothing shows how alike the questions of the scope are. English pairs that differ in one small
# word (QQP, PAWS) need the worst assumed; Korean endings leave less room for that, and a first FAQ entry should be hit.
LONELY: dict[Language, float] = {"en": 1.0, "ko": 0.68}
# Log odds that a content word without a partner costs, for its weight (1 to 13), where the scope has not shown that its
# questions come again in other words: there a near question asks something else as often as the same.
UNMATCHED = 0.8
OTHER_ASK = 2.0  # what another kind of question (how long, how) costs there
# What a scope shows: its third nearest question is so near, and the nearest, from NEAR on, has the same content words
# or, in place of one, another at least so unlike.
DENSE = 0.7
NEAR = 0.75
EXCHANGED: dict[Language, float] = {"en": 0.4, "ko": 0.6}

_SAME = 4.6  # logit of 0.99, for the same words asked in another manner


class Candidate(NamedTuple):
    """A stored question near the asked one, which is read when its turn comes, and the cosine of their vectors."""

    question: Question | str
    cosine: float


prepared = Remembered(prepare, 10_240)
"""As `prepare`, which it remembers: a stored question is a candidate again and again."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model says of the candidates.

    Attributes:
        best: Place of the candidate most likely right, or None when each is blocked or has no direction.
        probability: That its answer is right, as calibrated on the shipped data; 0 without a candidate.
        blocks: Names of the guards that kept the nearest candidate back; empty when it was not blocked.
        features: The best candidate's, in the order of `features.NAMES`; empty without one.
        shows: What the lookup shows of its scope: "dense", "reworded", "exchanged", "added", "varied"; see
            `learning.repeats`.
    """

    best: int | None
    probability: float
    blocks: tuple[str, ...]
    features: tuple[float, ...]
    shows: tuple[str, ...] = ()


def crowding(cosines: Sequence[float], language: Language) -> float:
    """Return the cosine of the fifth nearest, or what is assumed where there are fewer."""
    fifth = cosines[NEIGHBOURS - 1] if len(cosines) >= NEIGHBOURS else math.nan
    return max(fifth, SPARSE[language]) if math.isfinite(fifth) else LONELY[language]


_BOTH, _MORE = NAMES.index("substituted"), NAMES.index("added")


def _shown(found: Sequence[float], language: Language) -> tuple[str, ...]:
    """What a near pair shows: the same content words, one exchanged for an unlike one, one more, or several others."""
    if not found[WORST]:
        return ("reworded",)
    if found[SINGLE]:
        return ("exchanged",) if found[SINGLE] > EXCHANGED[language] else ()
    return ("added",) if not found[_BOTH] and found[_MORE] == 1.0 else ("varied",)


class MatchModel:
    """Judges candidates: guards first, then one small logistic model for each language.

    Pure and safe to share between threads.

    Example:
        >>> model = MatchModel.load()
        >>> stored = Candidate(prepare("배송 기간은 얼마나 걸리나요?"), 0.9)
        >>> judgement = model.judge(prepare("배송이 얼마나 걸려요?"), [stored])
        >>> judgement.probability >= model.threshold_for(0.01, "ko")
        True
    """

    def __init__(self, weights: Mapping[str, Any], words: WordSpace) -> None:
        """Make a model of `weights` (the content of weights.json) and the word space its features were fitted with."""
        self._weights = weights
        self._words = words
        self._agreement: tuple[float, float, float] = tuple(weights["agreement"])
        self._linear: dict[str, tuple[float, ...]] = {
            language: tuple(found[name] for name in (*NAMES, "intercept"))
            for language, found in weights["models"].items()
        }

    def judge(self, asked: Question, candidates: Sequence[Candidate], *, repeats: bool = False) -> Judgement:
        """Return which of `candidates` (nearest first) most likely has the right answer, and how likely.

        Never raises on any text. Cosines that are not finite or not above zero never match.

        Args:
            asked: The question.
            candidates: Stored questions and the cosines to them.
            repeats: Whether the scope has shown that its questions come again in other words. Only then may a content
                word be missing from the other question.
        """
        best: int | None = None
        score = -math.inf
        row: tuple[float, ...] = ()
        nearest: tuple[str, ...] | None = None
        left = SCORED
        if not asked.tokens:
            candidates = ()
        crowd = crowding([cosine for _, cosine in candidates], asked.language)
        language = asked.language
        manner = bare(asked.tokens) if language == "en" else ()
        shows = ("dense",) if len(candidates) > 2 and candidates[2].cosine >= DENSE else ()
        *linear, intercept = self._linear[language]
        for place, (stored, cosine) in enumerate(candidates):
            if not left:
                break
            if not 0.0 < cosine <= 1.01:
                continue
            question = prepared(stored) if isinstance(stored, str) else stored
            if question.language != language:
                continue
            if nearest is not None and (question.facts != asked.facts or question.negations != asked.negations):
                continue  # blocked; which guards do it is told of the nearest alone
            blocked = blocks(asked, question)
            if nearest is None:
                nearest = blocked
            if blocked:
                continue
            left -= 1
            pair = outline(asked, question, cosine=cosine, crowd=crowd)
            same = language == "en" and bare(question.tokens) == manner
            if not same and sum(map(mul, linear, pair.row), intercept) <= score:
                continue  # whatever its words are like
            found = compared(pair, asked, question, self._words)
            value = sum(map(mul, linear, found), intercept)
            if not place and cosine >= NEAR:
                shows += _shown(found, language)
            if not repeats:
                value -= UNMATCHED * found[WORST]
                if value > 0.0 and asks_otherwise(asked, question):
                    value -= OTHER_ASK
            if same:
                value = max(value, _SAME)  # however few questions there are to tell what is usual here
            if value > score:
                best, score, row = place, value, found
        chance = 1.0 / (1.0 + math.exp(-max(min(score, 40.0), -40.0))) if best is not None else 0.0
        return Judgement(best, chance, nearest or (), row, shows)

    def agreed(self, probability: float, others: int) -> float:
        """Return the probability where so many of the other four near questions have the same answer in the same words.

        It never falls: that answers differ in their words says nothing.

        Args:
            probability: Of `judge`, above 0 to 1.
            others: 0 to 4; below 3 nothing changes.

        Example:
            >>> model = MatchModel.load()
            >>> model.agreed(0.8, 2) == 0.8 < model.agreed(0.8, 3) < model.agreed(0.8, 4)
            True
        """
        if others < NEIGHBOURS - 2 or not 0.0 < probability < 1.0:
            return probability
        slope, most, all_of_them = self._agreement
        odds = slope * math.log(probability / (1.0 - probability)) + (most if others < NEIGHBOURS - 1 else all_of_them)
        return max(probability, 1.0 / (1.0 + math.exp(-odds)))

    def threshold_for(self, max_error: float, language: Language, embedder: str = "bundled") -> float:
        """Return the probability from which serving keeps wrong answers within `max_error` of the lookups.

        The thresholds come from whole streams of questions under Clopper-Pearson bounds, the strictest domain deciding
        (see scripts/fit_match.py). They hold for cosines of the bundled embedder. Any other gets the
        threshold of half the error; until it has labels of its own, give `judge` the bundled embedder's cosines of
        what it found, since its own mean something else.

        Args:
            max_error: Allowed share of lookups answered wrongly, above 0 to 1; 0 serves nothing.
            language: Of the asked question.
            embedder: "bundled" or any other name.
        """
        table: list[tuple[float, float]] = self._weights["thresholds"][language]
        if embedder != "bundled":
            max_error /= 2
        allowed = [threshold for error, threshold in table if error <= max_error]
        return min(allowed, default=math.inf)

    @classmethod
    def load(cls, words: WordSpace | None = None) -> MatchModel:
        """Return the shipped model; `words` replaces the bundled embedder's word vectors."""
        weights = json.loads((files("llm_savings.semantic_cache.match") / "weights.json").read_text("utf-8"))
        return cls(weights, words or bundled_words())
