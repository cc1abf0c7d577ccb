"""Exact prices of language model calls.

`PriceBook` turns a `Usage` and a model's name into US dollars, for standard, batch, flex and priority processing.
"""

from __future__ import annotations

from llm_savings.errors import UnknownModelError, UnpricedError
from llm_savings.pricing.book import Limits, PriceBook, Quote
from llm_savings.pricing.overrides import Override
from llm_savings.pricing.tariff import Line
from llm_savings.pricing.update import update

__all__ = [
    "Limits",
    "Line",
    "Override",
    "PriceBook",
    "Quote",
    "UnknownModelError",
    "UnpricedError",
    "update",
]
