"""llm-savings: know and cut what LangChain and LiteLLM calls cost.

Importing this package loads neither LangChain nor LiteLLM; names that need a host are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_savings.errors import (
    BatchError,
    BudgetError,
    BudgetExceededError,
    CacheError,
    ConfigError,
    LedgerError,
    LogFormatError,
    RecordError,
    SavingsError,
    StructuredOutputError,
    UnknownModelError,
    UnpricedError,
    UsageError,
)
from llm_savings.usage import Usage

if TYPE_CHECKING:
    from llm_savings.budget import Budget
    from llm_savings.langchain import CostCallback, SemanticCache, track_costs
    from llm_savings.ledger import Ledger
    from llm_savings.litellm import ComplexityRouting
    from llm_savings.meter import Meter
    from llm_savings.pricing import PriceBook
    from llm_savings.routing import ComplexityRouter

__version__ = "0.1.0"

__all__ = [
    "BatchError",
    "Budget",
    "BudgetError",
    "BudgetExceededError",
    "CacheError",
    "ComplexityRouter",
    "ComplexityRouting",
    "ConfigError",
    "CostCallback",
    "Ledger",
    "LedgerError",
    "LogFormatError",
    "Meter",
    "PriceBook",
    "RecordError",
    "SavingsError",
    "SemanticCache",
    "StructuredOutputError",
    "UnknownModelError",
    "UnpricedError",
    "Usage",
    "UsageError",
    "__version__",
    "track_costs",
]

# Resolved on first use (PEP 562), so that `import llm_savings` stays light.
_LAZY = {
    "Budget": "llm_savings.budget",
    "ComplexityRouter": "llm_savings.routing",
    "ComplexityRouting": "llm_savings.litellm",
    "CostCallback": "llm_savings.langchain",
    "Ledger": "llm_savings.ledger",
    "Meter": "llm_savings.meter",
    "PriceBook": "llm_savings.pricing",
    "SemanticCache": "llm_savings.langchain",
    "track_costs": "llm_savings.langchain",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'llm_savings' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
