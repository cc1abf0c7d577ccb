"""From the nearest stored questions to the probability that a stored answer is right."""

from llm_savings.semantic_cache.match.canonical import canonical
from llm_savings.semantic_cache.match.lexicon import Language
from llm_savings.semantic_cache.match.model import Candidate, Judgement, MatchModel, prepared
from llm_savings.semantic_cache.match.question import Question, language_of, prepare

__all__ = [
    "Candidate",
    "Judgement",
    "Language",
    "MatchModel",
    "Question",
    "canonical",
    "language_of",
    "prepare",
    "prepared",
]
