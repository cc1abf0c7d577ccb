"""What the tests of budgets share: a logger with budgets, every way to call, calls until nothing fits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import CLAUDE, EMBED, FAQ, GPT, Metered

from llm_savings import Budget
from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

ASK = {"messages": FAQ, "max_tokens": 20}
SMALL = Budget(total="0.00005")
GONE = Budget(total="0.000000001")


class Reports(CustomLogger):
    """Which calls have left, and of which LiteLLM has told the end."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.ended, self.announced = set[str](), set[str](), 0

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self.left.add(kwargs["litellm_call_id"])
        self.announced += 1

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.ended.add(kwargs["litellm_call_id"])

    log_failure_event = log_success_event

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.ended.add(kwargs["litellm_call_id"])

    async_log_failure_event = async_log_success_event


reports = Reports()


def metered(box: Sandbox, *budgets: Budget, ledger: str | Path = ":memory:") -> Metered:
    costs = CostLogger(ledger, budget=budgets)
    litellm.callbacks = [costs, reports]
    return Metered(costs, box)


async def drained(call: Callable[[], Any]) -> Any:
    """The answer of a call; all pieces of a stream."""
    answer = call()
    if inspect.isawaitable(answer):
        answer = await answer
        return [piece async for piece in answer] if hasattr(answer, "__aiter__") else answer
    return list(answer) if hasattr(answer, "__next__") else answer


def ways(on: Metered) -> dict[str, Callable[[], Any]]:
    """Every way to call the SDK; each may leave a stream to be read."""
    gpt, claude, embed, over = (on.to(model) for model in (GPT, CLAUDE, EMBED, "openai/responses/gpt-4o-mini"))
    found: dict[str, Callable[[], Any]] = {}
    for name, a in (("sync", ""), ("async", "a")):
        complete, text = getattr(litellm, f"{a}completion"), getattr(litellm, f"{a}text_completion")
        respond = partial(getattr(litellm, f"{a}responses"), input="hello", max_output_tokens=20)
        complete, text = partial(complete, **ASK), partial(text, prompt="hello", max_tokens=20)
        found |= {
            f"{name} chat": partial(complete, **gpt),
            f"{name} chat claude": partial(complete, **claude),
            f"{name} stream": partial(complete, **gpt, stream=True),
            f"{name} stream claude": partial(complete, **claude, stream=True),
            f"{name} chat over responses": partial(complete, **over),
            f"{name} text": partial(text, **gpt),
            f"{name} text stream": partial(text, **gpt, stream=True),
            f"{name} embedding": partial(getattr(litellm, f"{a}embedding"), **embed, input=["a parcel " * 20]),
            f"{name} responses": partial(respond, **gpt),
            f"{name} responses stream": partial(respond, **gpt, stream=True),
            f"{name} responses claude": partial(respond, **claude),
        }
    found["async anthropic claude"] = partial(litellm.anthropic.messages.acreate, **claude, **ASK)
    found["async anthropic gpt"] = partial(litellm.anthropic.messages.acreate, **gpt, **ASK)
    found["async with fallbacks"] = partial(litellm.acompletion, **gpt, **ASK, fallbacks=[GPT])
    return found


WAYS = list(ways(Metered(None, type("Box", (), {"openai_url": "", "anthropic_url": ""})())))  # type: ignore[arg-type]


async def spend(on: Metered, call: Callable[[], Any]) -> tuple[int, Exception]:
    """Calls until nothing fits even when all has been settled: how many were answered, and the error."""
    count, before, error = 0, -1, None
    while count != before:
        before = count
        try:
            while count < 400:
                await drained(call)
                count += 1
        except Exception as stopped:
            error = stopped
        await on.rows(count)
    assert error is not None, "nothing stops it"
    return count, error


async def check(on: Metered, calls: int) -> None:
    """The provider's bill, the ledger and the counters are one and the same."""
    rows = await on.rows(calls)
    on.check_bill(rows)
    bill = on.box.bill().total
    counters = on.costs.ledger.budgets.counters()
    assert {(Decimal(c.spent).scaleb(-12), c.reserved) for c in counters.values()} == {(bill, 0)}
    assert on.costs.spent == bill


def router(on: Metered, **named: Any) -> litellm.Router:
    models = [on.deployment("small", GPT, max_tokens=20), on.deployment("other", "openai/gpt-4.1-nano", max_tokens=20)]
    return litellm.Router(
        model_list=models, **{"num_retries": 2, "retry_after": 0, "fallbacks": [{"small": ["other"]}], **named}
    )


ROUTED = ("completion", "acompletion", "stream", "astream", "atext_completion", "aembedding", "aresponses")


def routed(on: Metered, way: str, **named: Any) -> Callable[[], Any]:
    route = router(on, **named)
    match way:
        case "stream" | "astream":
            call = route.completion if way == "stream" else route.acompletion
            return lambda: call("small", messages=FAQ, stream=True)
        case "atext_completion":
            return lambda: route.atext_completion("small", prompt="hello")
        case "aembedding":
            route.set_model_list([on.deployment("small", EMBED)])
            return lambda: route.aembedding("small", input=["a parcel " * 20])
        case "aresponses":
            return lambda: route.aresponses(model="small", input="hello", max_output_tokens=20)
        case _:
            return lambda: getattr(route, way)("small", messages=FAQ)
