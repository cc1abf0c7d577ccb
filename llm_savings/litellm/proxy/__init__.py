"""The plug-in for LiteLLM's proxy: `litellm_settings: {callbacks: [llm_savings.litellm.proxy.plugin]}` in config.yaml.

That line meters every call of every client, marks prompts for the provider's cache and answers what was asked before
from the semantic cache. Routing and budgets need to be told to which models and how much: in `llm_savings.yaml` beside
config.yaml, or in variables; see `llm_savings.litellm.proxy.options`. `llm-savings check config.yaml` tests all of it
without starting anything.
"""
# pyright: standard

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_savings.litellm.proxy.plug import ProxySavings

    plugin: ProxySavings
    """What the proxy's config.yaml names; made when the proxy reads it."""

__all__ = ["plugin"]


def __getattr__(name: str) -> Any:
    if name != "plugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llm_savings.litellm.proxy.plug import plugged

    made = globals()[name] = plugged()
    return made
