"""Metering, budgets and the semantic cache for LiteLLM's SDK, Router and proxy.

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

__all__ = ["CostLogger", "SemanticCache", "acompletion", "completion", "open_batch", "submit_batch"]

_LAZY = {"SemanticCache": "caching", "open_batch": "batch", "submit_batch": "batch"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:  # metering needs neither numpy nor LiteLLM's cache
        found = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
