# pyright: standard
"""What answers of the cache cost when they were made, and what they save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import uuid4

from langchain_core.outputs import Generation, LLMResult

from llm_savings.langchain.answers import read_answer
from llm_savings.langchain.cache_requests import Calling
from llm_savings.langchain.cached_answers import KEY
from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.requests import MODEL_KEYS, Start
from llm_savings.ledger import Sent
from llm_savings.meter import settle
from llm_savings.pricing import PriceBook
from llm_savings.semantic_cache import Hit, last_lookup


def price_of(call: Calling, generations: Sequence[Generation]) -> Decimal | None:
    """USD that an answer took, by the prices of the call's `CostCallback` if it has one; None when unknown."""
    prices = next((callback.meter.prices for callback in _callbacks(call)), None) or _prices()
    start = _start(call)
    answer = read_answer(LLMResult(generations=[list(generations)]), start, prices)
    sent = Sent(call_id="", host="langchain", requested_model=start.model, provider=start.provider)
    return settle(prices, sent, replace(answer, hit=False), "ok").actual


def report(call: Calling, generations: list[Generation]) -> None:
    """Tell the call's `CostCallback`s of a hit that LangChain tells nobody: one of a plain LLM."""
    found = last_lookup.get()
    if isinstance(found, Hit):
        result = LLMResult(generations=[list(generations)], llm_output={KEY: found.evidence()})
        for callback in _callbacks(call):
            callback.given(_start(call), result)


def _callbacks(call: Calling) -> list[CostCallback]:
    return [handler for handler in getattr(call.run, "handlers", ()) if isinstance(handler, CostCallback)]


def _start(call: Calling) -> Start:
    model: Any = call.model
    event = {
        "run_id": uuid4(),
        "invocation_params": {**{key: getattr(model, key, None) for key in MODEL_KEYS}, **call.given},
        "metadata": {**model._get_ls_params(stop=call.stop, **call.given), **call.metadata},
        "tags": getattr(call.run, "tags", None),
    }
    return Start({"name": type(model).__name__}, call.prompt, event)


@cache
def _prices() -> PriceBook:
    return PriceBook()
