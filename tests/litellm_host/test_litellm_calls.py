"""Every way to call LiteLLM leaves one measured row that equals the provider's bill."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import CLAUDE, EMBED, FAQ, GPT, WEATHER, Metered, called, counts

from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox, prompt_cache

WAYS = ("complete", "acomplete", "stream", "astream")


@pytest.mark.parametrize("model", [GPT, "openai/o3", "openai/gpt-5-mini", CLAUDE])
@pytest.mark.parametrize("way", WAYS)
async def test_chat(metered: Metered, way: str, model: str) -> None:
    await called(lambda: getattr(metered, way)(model))
    row = await metered.row()
    assert (row.status, row.basis, row.sent.host) == ("ok", "measured", "litellm")
    assert row.sent.requested_model == model.partition("/")[2]
    assert row.sent.stream == ("stream" in way)
    metered.check_bill([row])
    assert metered.costs.spent == metered.box.bill().total > 0
    assert metered.costs.calls == 1
    assert metered.costs.saved == 0


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("way", WAYS)
async def test_tools(metered: Metered, way: str, model: str) -> None:
    asked = [{"role": "user", "content": "What is the weather in Seoul?"}]
    await called(lambda: getattr(metered, way)(model, messages=asked, tools=[WEATHER]))
    row = await metered.row()
    assert row.basis == "measured"
    metered.check_bill([row])


async def test_a_bound_holds_with_a_limit_tools_and_several_answers(metered: Metered) -> None:
    asked = [{"role": "system", "content": "서울 고객센터입니다. 항상 한국어로 답하세요."}, *FAQ]
    metered.complete(messages=asked, max_tokens=40, n=3, tools=[WEATHER])
    row = await metered.row()
    assert counts(row)["output"] <= 120
    metered.check_bill([row])
    # 3 answers of 40 tokens at $0.60 a million, and a prompt of less than 2,000 tokens at $0.15.
    assert row.sent.bound is not None
    assert Decimal("0.000072") < row.sent.bound < Decimal("0.000372")


async def test_structured_output(metered: Metered) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = metered.complete(response_format=form)
    assert "answer" in json.loads(answer.choices[0].message.content)
    metered.check_bill([await metered.row()])


@pytest.mark.parametrize("way", ["embedding", "aembedding"])
async def test_embeddings(metered: Metered, way: str) -> None:
    await called(lambda: getattr(litellm, way)(input=["a parcel", "소포"], **metered.to(EMBED)))
    row = await metered.row()
    assert row.basis == "measured"
    assert row.sent.bound is not None
    metered.check_bill([row])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("way", ["responses", "aresponses"])
async def test_responses(metered: Metered, way: str, model: str, stream: bool) -> None:
    answer = await called(lambda: getattr(litellm, way)(input="hello", stream=stream, **metered.to(model)))
    if stream:
        _ = [piece async for piece in answer] if way == "aresponses" else list(answer)
    row = await metered.row()  # a stream of `responses` is reported twice, from two threads
    assert row.basis == "measured"
    metered.check_bill([row])
    assert metered.costs.calls == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_over_the_responses_api_is_one_call(metered: Metered, stream: bool) -> None:
    answer = metered.complete("openai/responses/gpt-4o-mini", stream=stream)
    if stream:
        list(answer)
    metered.check_bill([await metered.row()])


@pytest.mark.parametrize("stream", [False, True])
async def test_text_completion(metered: Metered, stream: bool) -> None:
    answer = litellm.text_completion(prompt="hello", stream=stream, **metered.to(GPT))
    if stream:
        list(answer)
    metered.check_bill([await metered.row()])


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_the_anthropic_interface(metered: Metered, model: str) -> None:
    await litellm.anthropic.messages.acreate(messages=FAQ, max_tokens=50, **metered.to(model))
    row = await metered.row()
    assert row.basis == "measured"
    metered.check_bill([row])


@pytest.mark.parametrize("stream", [False, True])
async def test_flex_is_priced_as_flex(metered: Metered, stream: bool) -> None:
    way = metered.astream if stream else metered.acomplete
    await way("openai/gpt-5-mini", service_tier="flex")
    row = await metered.row()
    assert row.settled and row.settled.mode == row.sent.mode == metered.box.bill().rows[0].tier == "flex"
    metered.check_bill([row])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("written", [(400, 0), (0, 400), (300, 100)], ids=["5m", "1h", "both"])
async def test_anthropic_cache_writes_keep_their_time_to_live(
    metered: Metered, monkeypatch: pytest.MonkeyPatch, way: str, written: tuple[int, int]
) -> None:
    monkeypatch.setattr(prompt_cache.Account, "marked", lambda *_, **__: prompt_cache.Split(30, 2_000, *written))
    await called(lambda: getattr(metered, way)(CLAUDE))
    row = await metered.row()
    assert row.basis == "measured"
    assert counts(row)["cache_read"] == 2_000
    assert (counts(row).get("cache_write_5m", 0), counts(row).get("cache_write_1h", 0)) == written
    metered.check_bill([row])
    assert metered.costs.saved > 0


async def test_a_row_is_there_before_the_request_leaves(metered: Metered) -> None:
    seen: list[Any] = []

    class Later(CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            seen.extend((row.status, row.sent.bound is not None) for row in metered.costs.ledger.calls())
            seen.append(metered.box.requests())

    litellm.callbacks.append(Later())
    metered.complete()
    assert seen == [("sent", True), 0]


async def test_many_at_once(metered: Metered) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: metered.complete(), range(24)))
    await asyncio.gather(*(metered.acomplete() for _ in range(24)))
    rows = await metered.rows(48)
    metered.check_bill(rows)
    assert metered.costs.spent == metered.box.bill().total
    assert metered.costs.calls == 48


async def test_a_mock_is_an_estimate(costs: CostLogger, box: Sandbox) -> None:
    metered = Metered(costs, box)
    metered.complete(mock_response="hi")
    row = await metered.row()
    assert (row.status, row.basis) == ("ok", "estimated")
    assert metered.box.requests() == 0


async def test_an_unknown_price_is_unpriced_not_zero(metered: Metered) -> None:
    metered.stream("hosted_vllm/gpt-4o-mini")  # whoever hosts this has a price that nobody told us
    row = await metered.row()
    assert row.basis == "unpriced"
    assert row.settled and row.settled.actual is None
    assert counts(row)["output"] > 0
