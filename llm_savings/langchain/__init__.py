"""What llm-savings offers in LangChain and LangGraph."""

from __future__ import annotations

from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.tracking import CostTracking, track_costs

__all__ = ["CostCallback", "CostTracking", "track_costs"]
