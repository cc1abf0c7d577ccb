"""Prompt caching: marks where they pay, by the provider's rules, its prices and the odds of reuse."""

from __future__ import annotations

from llm_savings.prompt_cache.linting import Finding, lint
from llm_savings.prompt_cache.marking import apply_plan, steady
from llm_savings.prompt_cache.memory import Memory
from llm_savings.prompt_cache.plan import Mark, Plan, plan_breakpoints
from llm_savings.prompt_cache.prompt import Place
from llm_savings.prompt_cache.rules import Terms, terms_of
from llm_savings.prompt_cache.simulate import Simulation, simulate

__all__ = [
    "Finding",
    "Mark",
    "Memory",
    "Place",
    "Plan",
    "Simulation",
    "Terms",
    "apply_plan",
    "lint",
    "plan_breakpoints",
    "simulate",
    "steady",
    "terms_of",
]
