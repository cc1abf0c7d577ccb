"""Answers from LangChain's caches: hits, at $0, worth what the call would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_checks import (
    CLIENTS,
    Way,
    abatch,
    ainvoke,
    anthropic,
    batch,
    invoke,
    litellm_openai,
    openai,
    rows,
    stream,
)
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.outputs import Generation

from llm_savings.langchain import CostCallback
from llm_savings.sandbox import Sandbox


class TextCache(BaseCache):
    """A cache as simple as some are: it keeps the words and nothing else."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        text = self.texts.get((prompt, llm_string))
        return None if text is None else [Generation(text=text)]

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        self.texts[prompt, llm_string] = return_val[0].text

    def clear(self, **_: Any) -> None:
        self.texts.clear()


@pytest.mark.parametrize("way", [invoke, ainvoke, batch, abatch])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_hit_is_free_and_worth_the_call(client: Any, way: Way, box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(InMemoryCache())
    model = client(box)
    await way(model, ["Where is my refund?"], {"callbacks": [cost]})
    await way(model, ["Where is my refund?"], {"callbacks": [cost]})
    paid, hit = rows(cost)
    price = box.bill().total
    assert len(box.bill().rows) == 1
    assert paid.settled is not None and hit.settled is not None
    assert (paid.status, paid.settled.actual, paid.settled.baseline) == ("ok", price, price)
    assert (hit.status, hit.basis, hit.settled.actual, hit.settled.baseline) == ("hit", "measured", 0, price)
    # The answer's id is on the bill once; a second row with it would look like a call billed twice.
    assert hit.settled.response_id is None
    assert (cost.spent, cost.saved, cost.calls) == (price, price, 2)
    assert cost.lines[0].hits == 1


@pytest.mark.parametrize("client", [openai, anthropic, litellm_openai])
async def test_a_hit_without_its_usage_is_valued_by_counting(client: Any, box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(TextCache())
    model = client(box)
    await invoke(model, ["Where is my refund?"], {"callbacks": [cost]})
    await invoke(model, ["Where is my refund?"], {"callbacks": [cost]})
    _, hit = rows(cost)
    assert hit.settled is not None
    assert (hit.status, hit.basis, hit.settled.actual) == ("hit", "estimated", 0)
    assert cost.spent == box.bill().total
    assert 0 < cost.saved < 2 * box.bill().total


async def test_a_hit_on_a_model_without_a_price_is_free_all_the_same(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(TextCache())
    model = openai(box, model="o3")
    await invoke(model, ["Where is my refund?"], {"callbacks": [cost]})
    await invoke(model, ["Where is my refund?"], {"callbacks": [cost]})
    _, hit = rows(cost)
    assert hit.settled is not None
    # Hidden reasoning cannot be counted, so nobody knows what was saved; that nothing was spent is sure.
    assert (hit.status, hit.settled.actual, hit.settled.baseline) == ("hit", 0, None)
    assert cost.saved == 0


async def test_the_same_question_twice_in_a_batch_is_two_calls(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(InMemoryCache())
    await batch(openai(box), ["a", "b", "a"], {"callbacks": [cost], "max_concurrency": 1})
    assert sorted(call.status for call in rows(cost)) == ["hit", "ok", "ok"]
    assert cost.spent == box.bill().total


async def test_streams_go_past_the_cache_and_are_metered(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box, stream_usage=True)
    await invoke(model, ["hello"], {"callbacks": [cost]})
    await stream(model, ["hello"], {"callbacks": [cost]})
    assert [call.status for call in rows(cost)] == ["ok", "ok"]
    assert cost.spent == box.bill().total
