"""Metering and budgets for LiteLLM's SDK, Router and proxy: `litellm.callbacks = [CostLogger("costs.db")]`."""

from llm_savings.litellm.costs import CostLogger

__all__ = ["CostLogger"]
