"""What llm-savings offers in LangChain and LangGraph."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.tracking import CostTracking, track_costs

if TYPE_CHECKING:
    from llm_savings.langchain.cache_requests import cache_namespace
    from llm_savings.langchain.cached_streaming import with_cached_streaming
    from llm_savings.langchain.caching import SemanticCache
    from llm_savings.langchain.compact import compact_response_format, summarizer, with_compact_output
    from llm_savings.langchain.middleware import BudgetMiddleware

__all__ = [
    "BudgetMiddleware",
    "CostCallback",
    "CostTracking",
    "SemanticCache",
    "cache_namespace",
    "compact_response_format",
    "summarizer",
    "track_costs",
    "with_cached_streaming",
    "with_compact_output",
]

# Agents are in `langchain`, the cache's vectors in numpy, and schemas in pydantic; the rest does not need them.
_LAZY = {
    "BudgetMiddleware": "middleware",
    "SemanticCache": "caching",
    "cache_namespace": "cache_requests",
    "compact_response_format": "compact",
    "summarizer": "compact",
    "with_cached_streaming": "cached_streaming",
    "with_compact_output": "compact",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
