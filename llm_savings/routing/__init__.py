"""Complexity routing: each request goes to the cheapest tier that will do. No host is needed."""

from llm_savings.routing.cascade import Verdict, suffices
from llm_savings.routing.decisions import Decision
from llm_savings.routing.history import portable
from llm_savings.routing.router import ComplexityRouter
from llm_savings.routing.tiers import Capabilities, Rule, Tier

__all__ = ["Capabilities", "ComplexityRouter", "Decision", "Rule", "Tier", "Verdict", "portable", "suffices"]
