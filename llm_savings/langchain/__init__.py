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
    from llm_savings.langchain.compact import compact_response_format, summarizer, with_compact_output
    from llm_savings.langchain.compact_middleware import CompactFormatMiddleware
    from llm_savings.langchain.middleware import BudgetMiddleware
    from llm_savings.langchain.prompt_caching import with_prompt_caching
    from llm_savings.langchain.prompt_caching_middleware import PromptCachingMiddleware
    from llm_savings.langchain.routed import RoutedChatModel
    from llm_savings.langchain.routing_middleware import RoutingMiddleware

__all__ = [
    "BatchHandle",
    "BudgetMiddleware",
    "CompactFormatMiddleware",
    "CostCallback",
    "CostTracking",
    "PromptCachingMiddleware",
    "RoutedChatModel",
    "RoutingMiddleware",
    "SemanticCache",
    "cache_namespace",
    "compact_response_format",
    "open_batch",
    "submit_batch",
    "summarizer",
    "track_costs",
    "with_cached_streaming",
    "with_compact_output",
    "with_prompt_caching",
]

# Agents are in `langchain`, the cache's vectors in numpy, and schemas in pydantic; the rest does not need them.
_LAZY = {
    "BatchHandle": "batch",
    "BudgetMiddleware": "middleware",
    "CompactFormatMiddleware": "compact_middleware",
    "PromptCachingMiddleware": "prompt_caching_middleware",
    "RoutedChatModel": "routed",
    "RoutingMiddleware": "routing_middleware",
    "SemanticCache": "caching",
    "cache_namespace": "cache_requests",
    "compact_response_format": "compact",
    "open_batch": "batch",
    "submit_batch": "batch",
    "summarizer": "compact",
    "with_cached_streaming": "cached_streaming",
    "with_compact_output": "compact",
    "with_prompt_caching": "prompt_caching",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
