"""A budget stops a call before any request leaves, in every mode, and its counters are the provider's bill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_checks import (
    CLIENTS,
    WAYS,
    Way,
    abatch,
    ainvoke,
    anthropic,
    assert_is_the_bill,
    astream,
    batch,
    invoke,
    only,
    openai,
    openai_with_usage,
    rows,
    stream,
)
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from llm_savings import Budget, BudgetExceededError
from llm_savings.errors import BudgetError, BudgetUnavailableError, UnboundedCallError, UnscopedCallError
from llm_savings.langchain import CostCallback, track_costs
from llm_savings.sandbox import Sandbox

ASK = ["Where is my refund?"]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def order_status(order_id: str) -> str:
    """Where an order is."""
    return f"Order {order_id} is on its way."


def capped(total: str = "1", **given: Any) -> CostCallback:
    return CostCallback(":memory:", budget=Budget(total=total, **given))


def counters(cost: CostCallback) -> tuple[Decimal, Decimal]:
    """USD spent and held, over all counters."""
    found = cost.ledger.budgets.counters().values()
    return (
        sum((Decimal(counter.spent).scaleb(-12) for counter in found), Decimal(0)),
        sum((Decimal(counter.reserved).scaleb(-12) for counter in found), Decimal(0)),
    )


def assert_books_are_the_bill(cost: CostCallback, box: Sandbox) -> None:
    assert cost.spent == box.bill().total
    assert counters(cost) == (box.bill().total, 0)


async def used_up(box: Sandbox, model: Any, way: Way = invoke) -> CostCallback:
    """A callback whose budget has paid for one call and has no room for another one."""
    trial = CostCallback(":memory:")
    await way(model, ASK, {"callbacks": [trial]})
    bound = only(trial).sent.bound
    assert bound is not None
    box.reset()
    cost = CostCallback(":memory:", budget=Budget(total=bound, output_cap=10_000))
    if "max_tokens" not in str(only(trial)):
        pass
    await way(model, ASK, {"callbacks": [cost]})
    assert box.requests() == 1
    return cost


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_no_request_leaves_once_the_money_is_gone(client: Any, way: Way, box: Sandbox) -> None:
    model = client(box, max_tokens=30)
    cost = capped("0.0001" if "mini" in str(model) else "0.0004")
    asked = 0
    with pytest.raises(BudgetExceededError) as stopped:
        for _ in range(30):
            await way(model, ASK, {"callbacks": [cost]})
            asked += 1
    assert 1 <= asked < 29
    assert isinstance(stopped.value, ModelError)
    assert not stopped.value.is_retryable
    assert stopped.value.spent == cost.spent
    assert stopped.value.needed is not None
    assert stopped.value.spent + stopped.value.needed > stopped.value.limit
    assert box.requests() == asked == len(rows(cost))
    assert_is_the_bill(cost, box)
    assert_books_are_the_bill(cost, box)
