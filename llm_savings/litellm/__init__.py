"""Metering, budgets, the semantic cache, prompt caching and routing for LiteLLM's SDK, Router and proxy.

`litellm.callbacks = [CostLogger("costs.db")]` and `litellm.cache = SemanticCache("cache.db")`. `completion` and
`acompletion` are LiteLLM's own: a budget of `CostLogger` stops both exactly, without a wrapper.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from litellm import acompletion, completion

from llm_savings.litellm.costs import CostLogger

if TYPE_CHECKING:
    from llm_savings.litellm.batch import open_batch, submit_batch
    from llm_savings.litellm.caching import SemanticCache
    from llm_savings.litellm.compact import acompact_completion, compact_completion
    from llm_savings.litellm.prompt_caching import PromptCaching
    from llm_savings.litellm.routing import ComplexityRouting
    from llm_savings.litellm.routing_config import router_from_config

__all__ = [
    "ComplexityRouting",
    "CostLogger",
    "PromptCaching",
    "SemanticCache",
    "acompact_completion",
    "acompletion",
    "compact_completion",
    "completion",
    "open_batch",
    "router_from_config",
    "submit_batch",
]

# Metering needs neither numpy, nor LiteLLM's cache, nor schemas, nor a Router.
_LAZY = {
    "ComplexityRouting": "routing",
    "PromptCaching": "prompt_caching",
    "SemanticCache": "caching",
    "acompact_completion": "compact",
    "compact_completion": "compact",
    "open_batch": "batch",
    "router_from_config": "routing_config",
    "submit_batch": "batch",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
