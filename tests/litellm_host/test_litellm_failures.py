"""Every HTTP attempt that may have been billed has its row, whoever retries; refusals are free."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from litellm import Router
from litellm_checks import CLAUDE, FAQ, GPT, Metered, called, failing

from llm_savings.ledger import Call
from llm_savings.litellm import CostLogger


def summary(rows: list[Call]) -> list[tuple[str, str]]:
    return [(row.status, row.basis) for row in rows]


OK, FREE, LOST = ("ok", "measured"), ("error", "measured"), ("error", "unknown")


@pytest.mark.parametrize("way", ["complete", "acomplete"])
@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("429", FREE), ("500", LOST), ("500-after", LOST), ("garbage", LOST), ("cut", LOST), ("disconnect", LOST)],
)
async def test_one_failure(metered: Metered, way: str, model: str, kind: str, outcome: tuple[str, str]) -> None:
    metered.box.fail(kind)
    await failing(lambda: getattr(metered, way)(model, max_retries=0))
    rows = await metered.rows(1)
    assert summary(rows) == [outcome]
    assert rows[0].settled and rows[0].settled.error
    assert metered.costs.spent == 0
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_a_timeout_may_be_billed_later(metered_alone: Metered, way: str) -> None:
    metered = metered_alone
    metered.box.fail("stall", seconds=0.5)
    assert isinstance(await failing(lambda: getattr(metered, way)(max_retries=0, timeout=0.2)), litellm.Timeout)
    rows = await metered.rows(1)
    assert summary(rows) == [LOST]
    metered.check_bill(rows)


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_a_connection_never_made_is_free(metered: Metered, way: str, model: str) -> None:
    await failing(lambda: getattr(metered, way)(model, max_retries=0, api_base="http://127.0.0.1:9"))
    rows = await metered.rows(1)
    assert summary(rows) == [FREE]
    assert rows[0].settled and rows[0].settled.actual == 0


async def test_what_fails_before_it_leaves_has_no_row(metered: Metered) -> None:
    await failing(lambda: litellm.completion(model="no-such-provider-or-model", messages=FAQ))
    await failing(lambda: metered.complete("anthropic/claude-haiku-4-5", logit_bias={"1": 2}))
    metered.complete()
    assert summary(await metered.rows(1)) == [OK]


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_retries_inside_the_openai_sdk(metered: Metered, way: str) -> None:
    metered.box.fail("500-after")
    await called(lambda: getattr(metered, way)())
    rows = await metered.rows(2)
    assert summary(rows) == [OK, LOST]
    assert rows[1].sent.call_id == f"{rows[0].sent.call_id}#2"
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_such_a_retry_is_in_every_ledger(metered: Metered, way: str) -> None:
    other = Metered(CostLogger(":memory:"), metered.box)
    litellm.callbacks = [metered.costs, other.costs]
    metered.box.fail("500-after")
    await called(lambda: getattr(metered, way)())
    for one in (metered, other):
        rows = await one.rows(2)
        assert summary(rows) == [OK, LOST]
        one.check_bill(rows)


async def test_a_timeout_that_the_openai_sdk_retries(metered_alone: Metered) -> None:
    metered = metered_alone
    metered.box.fail("stall", seconds=0.5)
    metered.complete(timeout=0.2)
    rows = await metered.rows(2)
    assert summary(rows) == [OK, LOST]
    metered.check_bill(rows)


async def test_refusals_that_the_openai_sdk_retries_need_no_row(metered: Metered) -> None:
    metered.box.fail("429", retry_after=0)
    metered.complete()
    assert summary(await metered.rows(1)) == [OK]


@pytest.mark.parametrize("way", ["complete", "acomplete"])
@pytest.mark.parametrize(("kind", "outcome"), [("429", FREE), ("500-after", LOST)])
async def test_retries_of_litellms_sdk(metered: Metered, way: str, kind: str, outcome: tuple[str, str]) -> None:
    metered.box.fail(kind, retry_after=0) if kind == "429" else metered.box.fail(kind)
    await called(lambda: getattr(metered, way)(CLAUDE, num_retries=2))
    rows = await metered.rows(2)  # LiteLLM never reports the success after a retry of `acompletion`
    assert summary(rows) == [outcome, OK]
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_retries_that_fail_as_well(metered: Metered, way: str) -> None:
    metered.box.fail("500-after", times=2)
    await called(lambda: getattr(metered, way)(CLAUDE, num_retries=2))
    rows = await metered.rows(3)
    assert summary(rows) == [LOST, LOST, OK]
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_when_no_retry_helps(metered: Metered, way: str) -> None:
    metered.box.fail("500-after", times=None)
    await failing(lambda: getattr(metered, way)(CLAUDE, num_retries=2))
    rows = await metered.rows(3, sent=1)  # LiteLLM reports one failure a call; a row never settled is unknown
    assert all(row.basis == "unknown" for row in rows)
    metered.check_bill(rows)


def router(metered: Metered, **given: Any) -> Router:
    models = [metered.deployment("chat", GPT), metered.deployment("spare", CLAUDE)]
    settings = {"num_retries": 1, "retry_after": 0, "disable_cooldowns": True, "fallbacks": [{"chat": ["spare"]}]}
    return Router(model_list=models, **settings | given)


ROUTER_WAYS = ("completion", "acompletion")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ROUTER_WAYS)
async def test_a_router_retries(metered: Metered, way: str, stream: bool) -> None:
    metered.box.fail("500-after")
    answer = await called(lambda: getattr(router(metered), way)("chat", FAQ, stream=stream))
    if stream:
        _ = [piece async for piece in answer] if way == "acompletion" else list(answer)
    rows = await metered.rows(2)
    assert summary(rows) == [LOST, OK]
    assert rows[0].sent.call_id != rows[1].sent.call_id
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ROUTER_WAYS)
async def test_a_router_falls_back(metered: Metered, way: str) -> None:
    metered.box.fail("429", times=None, model="gpt-4o-mini", retry_after=0)
    # One id for all attempts, as under the proxy.
    await called(lambda: getattr(router(metered), way)("chat", FAQ, litellm_call_id="one"))
    rows = await metered.rows(3)
    assert summary(rows) == [FREE, FREE, OK]
    assert [row.sent.call_id for row in rows] == ["one", "one#2", "one#3"]
    assert [row.sent.requested_model for row in rows] == ["gpt-4o-mini", "gpt-4o-mini", "claude-haiku-4-5"]
    metered.check_bill(rows)


@pytest.mark.parametrize("way", ROUTER_WAYS)
async def test_a_deployment_that_cools_down(metered: Metered, way: str) -> None:
    models = [metered.deployment("chat", GPT), metered.deployment("chat", CLAUDE)]
    routing = Router(model_list=models, num_retries=3, retry_after=0, allowed_fails=0, cooldown_time=60)
    metered.box.fail("500", times=None, model="gpt-4o-mini")
    for _ in range(4):
        await called(lambda: getattr(routing, way)("chat", FAQ))
    rows = list(metered.costs.ledger.calls())
    failed = sum(row.sent.requested_model == "gpt-4o-mini" for row in rows)
    rows = await metered.rows(4 + failed)
    assert failed == metered.box.requests() - 4
    assert sum(row.status == "ok" for row in rows) == 4
    metered.check_bill(rows)


@pytest.mark.parametrize("stream", [False, True])
async def test_other_calls_of_a_router(metered: Metered, stream: bool) -> None:
    routing = Router(
        model_list=[metered.deployment("chat", GPT), metered.deployment("embed", "openai/text-embedding-3-small")]
    )
    routing.embedding("embed", ["소포"])
    await routing.aembedding("embed", ["a parcel"])
    answer = await routing.aresponses(model="chat", input="hello", stream=stream)
    if stream:
        _ = [piece async for piece in answer]
    rows = await metered.rows(3)
    assert {row.basis for row in rows} == {"measured"}
    metered.check_bill(rows)


async def test_fallbacks_of_the_sdk(metered: Metered) -> None:
    metered.box.fail("429", model="gpt-4o-mini", retry_after=0)
    spare = metered.to("openai/gpt-4o")
    await metered.acomplete(max_retries=0, fallbacks=[spare])
    rows = await metered.rows(2)
    assert summary(rows) == [FREE, OK]
    assert [row.sent.requested_model for row in rows] == ["gpt-4o-mini", "gpt-4o"]
    metered.check_bill(rows)


async def test_a_call_that_asks_not_to_be_logged_is_still_paid_for(metered: Metered) -> None:
    metered.complete(**{"no-log": True})
    rows = await metered.rows(1)
    assert summary(rows) == [OK]
    metered.check_bill(rows)
