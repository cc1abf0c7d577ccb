"""Answers to questions that were asked before, in the same words or in others: exact scope first, then meaning.

The hosts' `SemanticCache`s are shells around `AnswerCache`, which knows neither of them.
"""

from __future__ import annotations

from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.entries import Entry, Which
from llm_savings.semantic_cache.found import Hit, Lookup, Miss, Reading, evidence_of, last_lookup
from llm_savings.semantic_cache.scope import Question, Refusal, Request
from llm_savings.semantic_cache.settings import Judge, Options, Settings
from llm_savings.semantic_cache.stats import Stats

__all__ = [
    "AnswerCache",
    "Entry",
    "Hit",
    "Judge",
    "Lookup",
    "Miss",
    "Options",
    "Question",
    "Reading",
    "Refusal",
    "Request",
    "Settings",
    "Stats",
    "Which",
    "evidence_of",
    "last_lookup",
]
