"""What llm-savings offers in LangChain and LangGraph."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.tracking import CostTracking, track_costs

if TYPE_CHECKING:
    from llm_savings.langchain.batch import BatchHandle, open_batch, submit_batch
    from llm_savings.langchain.cache_requests import cache_namespace
    from llm_savings.langchain.cached_streaming import with_cached_streaming
    from llm_savings.langchain.caching import SemanticCache
    from llm_savings.langchain.middleware import BudgetMiddleware

__all__ = [
    "BatchHandle",
    "BudgetMiddleware",
    "CostCallback",
    "CostTracking",
    "SemanticCache",
    "cache_namespace",
    "open_batch",
    "submit_batch",
    "track_costs",
    "with_cached_streaming",
]

# Agents are in `langchain`, and the cache's vectors in numpy, which the rest does not need.
_LAZY = {
    "BatchHandle": "batch",
    "BudgetMiddleware": "middleware",
    "SemanticCache": "caching",
    "cache_namespace": "cache_requests",
    "open_batch": "batch",
    "submit_batch": "batch",
    "with_cached_streaming": "cached_streaming",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
