"""What the tests of this folder share: real clients on a sandbox, the ways to call them, and the check of the bill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.runnables import Runnable
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI

from llm_savings.langchain import CostCallback
from llm_savings.ledger import Call
from llm_savings.sandbox import Sandbox
from llm_savings.usage import Usage

Model = Runnable[Any, Any]
Way = Callable[[Model, list[str], dict[str, Any]], Awaitable[Any]]


def openai(box: Sandbox, **given: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": "gpt-4o-mini", "base_url": box.openai_url, "api_key": "x", "max_retries": 0} | given)


def openai_with_usage(box: Sandbox, **given: Any) -> ChatOpenAI:
    return openai(box, stream_usage=True, **given)


def responses(box: Sandbox, **given: Any) -> ChatOpenAI:
    return openai(box, use_responses_api=True, **given)


def anthropic(box: Sandbox, **given: Any) -> ChatAnthropic:
    url = {"model": "claude-haiku-4-5", "base_url": box.anthropic_url, "api_key": "x", "max_retries": 0}
    return ChatAnthropic(**url | {"max_tokens": 300} | given)


def litellm_openai(box: Sandbox, **given: Any) -> ChatLiteLLM:
    return ChatLiteLLM(
        **{"model": "openai/gpt-4o-mini", "api_base": box.openai_url, "api_key": "x", "max_retries": 0} | given
    )


def litellm_anthropic(box: Sandbox, **given: Any) -> ChatLiteLLM:
    return ChatLiteLLM(
        **{"model": "anthropic/claude-haiku-4-5", "api_base": box.anthropic_url, "api_key": "x", "max_retries": 0}
        | given
    )


CLIENTS = (openai_with_usage, responses, anthropic, litellm_openai, litellm_anthropic)


async def invoke(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return [model.invoke(question, config=config) for question in questions]


async def ainvoke(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return [await model.ainvoke(question, config=config) for question in questions]


async def stream(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return [list(model.stream(question, config=config)) for question in questions]


async def astream(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return [[piece async for piece in model.astream(question, config=config)] for question in questions]


async def batch(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return model.batch(questions, config=config)


async def abatch(model: Model, questions: list[str], config: dict[str, Any]) -> Any:
    return await model.abatch(questions, config=config)


WAYS: tuple[Way, ...] = (invoke, ainvoke, stream, astream, batch, abatch)


def rows(cost: CostCallback) -> list[Call]:
    return list(cost.ledger.calls())


def only(cost: CostCallback) -> Call:
    (row,) = rows(cost)
    return row


def billed_usage(raw: dict[str, Any]) -> Usage:
    return Usage.from_anthropic(raw) if "cache_read_input_tokens" in raw else Usage.from_openai(raw)


def assert_is_the_bill(cost: CostCallback, box: Sandbox) -> None:
    """Every row is measured and is a row of the bill, amount for amount, and nothing is missing."""
    calls, bill = rows(cost), box.bill()
    assert all(call.settled and call.basis == "measured" for call in calls), calls
    mine = sorted((call.settled.actual, call.settled.usage.total) for call in calls if call.settled)
    assert mine == sorted((row.usd, billed_usage(row.usage).total) for row in bill.rows)
    for call in calls:
        assert call.settled is not None
        if call.settled.response_id:
            row = bill[call.settled.response_id]
            assert (call.settled.actual, call.settled.usage) == (row.usd, billed_usage(row.usage))
        assert call.sent.bound is not None
        assert call.settled.actual is not None and call.settled.actual <= call.sent.bound
    assert cost.spent == bill.total
    assert cost.calls == len(bill.rows)
