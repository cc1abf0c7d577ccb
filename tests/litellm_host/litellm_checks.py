"""What these tests share: calls through the real LiteLLM, waiting for its reports, the check of the bill."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import litellm

from llm_savings.ledger import Call
from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

FAQ = [{"role": "user", "content": "What is your return policy?"}]
GPT, CLAUDE, EMBED = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "openai/text-embedding-3-small"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass
class Metered:
    costs: CostLogger
    box: Sandbox

    def to(self, model: str) -> dict[str, Any]:
        """The arguments that send a model's calls to the sandbox."""
        base = self.box.anthropic_url if model.startswith("anthropic") else self.box.openai_url
        return {"model": model, "api_base": base, "api_key": "sk-test"}

    def deployment(self, name: str, model: str, **params: Any) -> dict[str, Any]:
        """An entry of a Router's model list."""
        return {"model_name": name, "litellm_params": self.to(model) | params}

    def complete(self, model: str = GPT, **given: Any) -> Any:
        return litellm.completion(**self.to(model) | {"messages": FAQ} | given)

    async def acomplete(self, model: str = GPT, **given: Any) -> Any:
        return await litellm.acompletion(**self.to(model) | {"messages": FAQ} | given)

    def stream(self, model: str = GPT, **given: Any) -> list[Any]:
        return list(self.complete(model, stream=True, **given))

    async def astream(self, model: str = GPT, **given: Any) -> list[Any]:
        return [chunk async for chunk in await self.acomplete(model, stream=True, **given)]

    async def rows(self, count: int, *, sent: int = 0) -> list[Call]:
        """All rows, once there are `count` of them of which all but `sent` are settled; and never more."""
        for _ in until():
            rows = list(self.costs.ledger.calls())
            if len(rows) >= count and sum(row.settled is None for row in rows) <= sent:
                break
            await asyncio.sleep(0.005)
        rows = list(self.costs.ledger.calls())
        assert len(rows) == count, rows
        assert sum(row.settled is None for row in rows) == sent, rows
        return rows

    async def row(self) -> Call:
        (row,) = await self.rows(1)
        return row

    def check_bill(self, rows: list[Call]) -> None:
        """Measured rows are the bill's rows, to the last digit; the rest of the bill lies within the other bounds."""
        bill = self.box.bill()
        billed = {row.id: row.usd for row in bill.rows}
        measured = [row for row in rows if row.basis == "measured" and row.settled and row.settled.actual]
        for row in measured:
            assert row.settled and row.settled.response_id
            entry = bill[row.settled.response_id]
            assert row.settled.actual == billed.pop(entry.id), "billed once, at this price"
            assert row.sent.bound is None or row.settled.actual <= row.sent.bound
        unknown = [row for row in rows if row.basis in ("unknown", "estimated") and row.status != "hit"]
        assert len(billed) <= len(unknown), (billed, rows)
        assert sum(billed.values(), Decimal(0)) <= sum(
            (row.sent.bound or Decimal("inf") for row in unknown), Decimal(0)
        )


def until(seconds: float = 60) -> Iterator[None]:
    """Goes on until the deadline. Now and then it collects garbage, which settles what was left, and takes long."""
    deadline, collected = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < deadline:
        if time.monotonic() > collected + 0.2:
            gc.collect()
            collected = time.monotonic()
        yield


async def called(call: Callable[[], Any]) -> Any:
    """The result of a sync or async call."""
    result = call()
    return await result if inspect.isawaitable(result) else result


async def failing(call: Callable[[], Any]) -> Exception:
    """The error of a call that must fail."""
    try:
        result = await called(call)
    except Exception as error:
        return error
    raise AssertionError(f"no error, but {result}")


def counts(row: Call) -> Mapping[str, int]:
    assert row.settled
    return row.settled.usage.as_dict()
