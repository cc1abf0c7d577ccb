"""Answers in fewer tokens that say the same: lean schemas, records as columns, limits in words."""

from __future__ import annotations

from llm_savings.structured.answers import Reading, read
from llm_savings.structured.forms import Form, Sizes, Target, columnar, sizes, smallest
from llm_savings.structured.schema import Lean, lean_schema
from llm_savings.structured.words import MaxWords, count_words

__all__ = [
    "Form",
    "Lean",
    "MaxWords",
    "Reading",
    "Sizes",
    "Target",
    "columnar",
    "count_words",
    "lean_schema",
    "read",
    "sizes",
    "smallest",
]
