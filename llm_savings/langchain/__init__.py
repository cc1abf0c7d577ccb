"""What llm-savings offers in LangChain and LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.tracking import CostTracking, track_costs

if TYPE_CHECKING:
    from llm_savings.langchain.middleware import BudgetMiddleware

__all__ = ["BudgetMiddleware", "CostCallback", "CostTracking", "track_costs"]


def __getattr__(name: str) -> Any:
    if name == "BudgetMiddleware":  # agents are in `langchain`, which the rest does not need
        from llm_savings.langchain.middleware import BudgetMiddleware

        return BudgetMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
