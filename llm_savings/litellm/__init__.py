"""Metering and budgets for LiteLLM's SDK, Router and proxy: `litellm.callbacks = [CostLogger("costs.db")]`.

`completion` and `acompletion` are LiteLLM's own: a budget of `CostLogger` stops both exactly, without a wrapper.
"""

from litellm import acompletion, completion

from llm_savings.litellm.costs import CostLogger

__all__ = ["CostLogger", "acompletion", "completion"]
