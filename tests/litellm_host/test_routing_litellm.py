"""A Router's "auto": the same decision in every way to call, one row a call, and the bill is the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from inspect import isawaitable
from typing import Any

import litellm
import pytest
from litellm import Router
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm_checks import CLAUDE, EMBED, GPT, Metered
from pydantic import BaseModel

import llm_savings
from llm_savings import ComplexityRouter, ConfigError
from llm_savings.attribution import attribute
from llm_savings.ledger import Call
from llm_savings.litellm import ComplexityRouting
from llm_savings.litellm.routed_calls import ALLOWED
from llm_savings.routing import Rule, Tier

BIG = "openai/gpt-4o"
EASY, HARD = "파이썬이 뭐야?", "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"
TIERS = {"simple": "mini", "complex": "big"}


@pytest.fixture(autouse=True)
async def _reported() -> AsyncIterator[None]:
    """No report of a test's calls comes in the middle of the next test."""
    yield
    await GLOBAL_LOGGING_WORKER.flush()


def asked(text: Any, *before: dict[str, Any]) -> list[dict[str, Any]]:
    return [*before, {"role": "user", "content": text}]


def router(metered: Metered, *more: dict[str, Any], tiers: Any = TIERS, **given: Any) -> Router:
    settings = {name: given.pop(name) for name in ("num_retries", "fallbacks", "model_group_alias") if name in given}
    models = [metered.deployment("mini", GPT), metered.deployment("big", BIG), metered.deployment("embed", EMBED)]
    made = Router(model_list=[*models, *more], retry_after=0, **{"num_retries": 0, **settings})
    return ComplexityRouting(tiers, **given).attach(made)


def routed(row: Call) -> dict[str, Any]:
    assert row.settled is not None
    return row.settled.strategies["routing"]


async def completion(router: Router, text: Any, **given: Any) -> Any:
    return router.completion(model="auto", messages=asked(text), **given)


async def acompletion(router: Router, text: Any, **given: Any) -> Any:
    return await router.acompletion(model="auto", messages=asked(text), **given)


async def stream(router: Router, text: Any, **given: Any) -> Any:
    return list(router.completion(model="auto", messages=asked(text), stream=True, **given))


async def astream(router: Router, text: Any, **given: Any) -> Any:
    return [piece async for piece in await router.acompletion(model="auto", messages=asked(text), stream=True, **given)]


async def aresponses(router: Router, text: Any, **given: Any) -> Any:
    return await router.aresponses(model="auto", input=text, **given)


async def responses(router: Router, text: Any, **given: Any) -> Any:
    return list(router.responses(model="auto", input=text, stream=True, **given))


WAYS = (completion, acompletion, stream, astream, responses, aresponses)


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_decides_alike_and_is_one_row_of_the_bill(metered: Metered, way: Callable[..., Any]) -> None:
    auto = router(metered)
    for text in (EASY, HARD):
        await way(auto, text)
    easy, hard = sorted(await metered.rows(2), key=lambda row: row.sent.requested_model, reverse=True)
    assert (easy.sent.requested_model, hard.sent.requested_model) == ("gpt-4o-mini", "gpt-4o")
    decided = ComplexityRouter({"simple": "openai/gpt-4o-mini", "complex": "openai/gpt-4o"})
    assert routed(easy) == decided.route(asked(EASY)).evidence()
    assert routed(hard) == decided.route(asked(HARD)).evidence()
    metered.check_bill([easy, hard])
    assert metered.costs.spent == metered.box.bill().total
    assert metered.costs.saved == attribute([easy, hard]).credits["routing"] > 0


async def test_the_tiers_parameters_are_sent_and_the_callers_own_come_first(metered: Metered) -> None:
    auto = router(metered, tiers={"simple": Tier("mini", max_tokens=20), "complex": Tier("big", max_tokens=90)})
    for way in (completion, acompletion, aresponses):
        await way(auto, EASY)
    await completion(auto, EASY, max_tokens=18)
    await completion(auto, EASY, max_completion_tokens=19)
    rows = await metered.rows(5)
    assert sorted(row.settled.usage.output for row in rows if row.settled) == [18, 19, 20, 20, 20]
    metered.check_bill(rows)


async def test_other_groups_and_embeddings_are_left_alone(metered: Metered) -> None:
    auto = router(metered)
    auto.embedding(model="embed", input=[HARD])
    await auto.aembedding(model="embed", input=[HARD])
    auto.completion(model="mini", messages=asked(HARD))
    await auto.acompletion(model="mini", messages=asked(HARD))
    rows = await metered.rows(4)
    assert {row.sent.requested_model for row in rows} == {"text-embedding-3-small", "gpt-4o-mini"}
    assert not any(row.settled and row.settled.strategies for row in rows)
    with pytest.raises(litellm.BadRequestError, match="nobody"):
        auto.completion(model="nobody", messages=asked(EASY))
    with pytest.raises(Exception):  # noqa: B017 (whatever the provider says of a chat model that is to embed)
        await auto.aembedding(model="auto", input=[EASY])


@pytest.mark.parametrize("way", [completion, acompletion, stream, astream])
async def test_the_fallbacks_of_a_tiers_group_count(metered: Metered, way: Callable[..., Any]) -> None:
    spare = metered.deployment("spare", "openai/gpt-4.1-mini")
    auto = router(metered, spare, fallbacks=[{"big": ["spare"]}])
    metered.box.fail("500", model="gpt-4o", times=None)
    await way(auto, HARD)
    rows = await metered.rows(2)
    assert sorted((row.sent.requested_model, row.status) for row in rows) == [
        ("gpt-4.1-mini", "ok"),
        ("gpt-4o", "error"),
    ]
    (fallen,) = (row for row in rows if row.status == "ok")
    assert fallen.settled and "routing" not in fallen.settled.strategies, "without routing it would have been the same"
    metered.box.fail("500", model="gpt-4o-mini", times=None)
    with pytest.raises(litellm.InternalServerError):
        await way(auto, EASY)


@pytest.mark.parametrize("way", [completion, acompletion, stream, astream])
async def test_a_cheap_tiers_fallback_is_in_place_of_the_baseline(metered: Metered, way: Callable[..., Any]) -> None:
    spare = metered.deployment("spare", "openai/gpt-4.1-mini")
    auto = router(metered, spare, fallbacks=[{"mini": ["spare", "big"]}])
    metered.box.fail("500", model="gpt-4o-mini", times=None)
    await way(auto, EASY)
    rows = await metered.rows(2)
    (fallen,) = (row for row in rows if row.status == "ok")
    said = routed(fallen)
    assert fallen.sent.requested_model == "gpt-4.1-mini" and said["fallback"] and said["tier"] == "simple"
    assert metered.costs.saved == attribute(rows).credits["routing"] > 0
    metered.box.fail("500", model="gpt-4.1-mini", times=None)
    before = metered.costs.saved
    await way(auto, EASY)
    rows = await metered.rows(5)
    assert metered.costs.saved == before, "the baseline answered in the end"


@pytest.mark.parametrize("way", [completion, acompletion, stream, astream])
async def test_a_cascade_asks_the_stronger_tier_where_an_answer_will_not_do(
    metered: Metered, way: Callable[..., Any]
) -> None:
    judged: list[str] = []

    def judge(answer: str) -> float:
        judged.append(answer)
        return 0.9 if len(judged) == 1 else 0.1

    auto = router(metered, cascade=judge)
    (first, second) = [await way(auto, EASY), await way(auto, EASY, metadata={"user_id": "kim"})]
    rows = await metered.rows(3)
    assert [row.sent.requested_model for row in rows].count("gpt-4o-mini") == 2 and len(judged) == 2
    (big,) = (row for row in rows if row.sent.requested_model == "gpt-4o")
    assert (routed(big)["cascade"], routed(big)["repeat"], big.sent.user) == (True, True, "kim")
    assert all("cascade" not in routed(row) for row in rows if row is not big)
    metered.check_bill(rows)
    found = attribute(rows)
    assert metered.costs.saved == found.baseline - found.actual
    if way in (stream, astream):
        assert "".join(piece.choices[0].delta.content or "" for piece in first) == judged[0]
        assert second[0].model.startswith("gpt-4o") and "mini" not in second[0].model
    else:
        assert first.choices[0].message.content == judged[0]
        assert second.model.startswith("gpt-4o-2")
    await way(auto, HARD)
    assert len(judged) == 2, "the strongest tier's answer is nobody's to judge"
    auto.completion(model="mini", messages=asked(EASY))
    assert len(judged) == 2 and len(await metered.rows(5)) == 5, "another group is left alone"


async def test_a_cascade_judges_by_the_schema_and_leaves_tools_alone(metered: Metered) -> None:
    class Answer(BaseModel):
        capital: str

    auto = router(metered, cascade=True)
    metered.box.fail("half", model="gpt-4o-mini", times=2)
    for ask in (auto.completion, auto.acompletion):
        found = ask(model="auto", messages=asked("수도가 어디야?"), response_format=Answer)
        found = await found if isawaitable(found) else found
        assert Answer.model_validate_json(found.choices[0].message.content)
    rows = await metered.rows(4)
    assert [row.sent.requested_model for row in rows].count("gpt-4o") == 2
    metered.check_bill(rows)
    tool = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
    called = auto.completion(model="auto", messages=asked("몇 시야?"), tools=[tool], tool_choice="required")
    assert called.choices[0].message.tool_calls and len(await metered.rows(5)) == 5


async def test_a_cascade_in_shadow_or_switched_off_judges_nothing(
    metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(answer: str) -> float:
        raise AssertionError(answer)

    router(metered, cascade=never, shadow=True).completion(model="auto", messages=asked(EASY))
    assert len(await metered.rows(1)) == 1
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    router(metered, cascade=never).completion(model="auto", messages=asked(EASY))
    assert metered.box.requests() == 2


async def test_sync_text_completions_take_auto_too(metered: Metered) -> None:
    auto = router(metered)
    ours = auto.text_completion(model="auto", prompt=EASY, metadata={"user_id": "kim"})
    theirs = await auto.atext_completion(model="auto", prompt=EASY)
    assert ours.choices[0].text == theirs.choices[0].text
    rows = await metered.rows(2)
    assert {row.sent.requested_model for row in rows} == {"gpt-4o-mini"}
    assert all(routed(row)["tier"] == "simple" for row in rows)
    assert sorted(row.sent.user or "" for row in rows) == ["", "kim"]
    metered.check_bill(rows)


async def test_a_request_is_tried_again_and_balanced(metered: Metered) -> None:
    auto = router(metered, metered.deployment("mini", GPT, api_version="2"), num_retries=2)
    metered.box.fail("500", model="gpt-4o-mini", times=1)
    answer = auto.completion(model="auto", messages=asked(EASY))
    assert answer.model.startswith("gpt-4o-mini")
    metered.box.fail("429", model="gpt-4o-mini", times=1)
    assert (await auto.acompletion(model="auto", messages=asked(EASY))).model.startswith("gpt-4o-mini")
    rows = await metered.rows(4)
    assert [row.status for row in rows].count("ok") == 2
    assert all(routed(row)["tier"] == "simple" for row in rows)
    auto = router(metered, metered.deployment("mini", GPT, api_version="2"))
    answers = [auto.completion(model="auto", messages=asked(EASY), mock_response="hi") for _ in range(40)]
    assert len({answer._hidden_params["model_id"] for answer in answers}) == 2, "both deployments have their turns"


async def cool(router: Router, metered: Metered, group: str) -> None:
    """Have both deployments of a tier cool down."""
    metered.box.fail("429", times=2, retry_after=60)
    for _ in range(2):
        with pytest.raises(litellm.RateLimitError):
            await router.acompletion(model=group, messages=asked(EASY))


@pytest.mark.parametrize("way", [completion, acompletion])
async def test_a_tier_that_is_cooling_down_gives_way_to_a_stronger_one(
    metered: Metered, way: Callable[..., Any]
) -> None:
    twins = [metered.deployment(name, model, timeout=9) for name, model in (("mini", GPT), ("big", BIG))]
    auto = router(metered, *twins, tiers={"simple": Tier("mini", max_tokens=5), "complex": "big"})
    await cool(auto, metered, "mini")
    assert (await way(auto, EASY)).model.startswith("gpt-4o-2024")
    (row,) = (row for row in await metered.rows(3) if row.status == "ok")
    assert routed(row)["reasons"][-1] == "cooldown"
    assert row.settled and row.settled.usage.output > 5, "the other tier's parameters are not sent"
    await cool(auto, metered, "big")
    with pytest.raises(Exception, match="No deployments available"):
        await way(auto, EASY)


@pytest.mark.parametrize("way", [completion, acompletion, stream, astream])
@pytest.mark.parametrize("retries", [0, 2])
async def test_a_tier_that_cools_down_on_the_way_gives_way_at_once(
    metered: Metered, way: Callable[..., Any], retries: int
) -> None:
    auto = router(metered, metered.deployment("mini", GPT, timeout=9), num_retries=retries)
    metered.box.fail("429", model="gpt-4o-mini", times=None, retry_after=60)
    if not retries:
        with pytest.raises(litellm.RateLimitError):
            await way(auto, EASY)
    await way(auto, EASY)
    (row,) = (row for row in await metered.rows(3) if row.status == "ok")
    assert (row.sent.requested_model, routed(row)["reasons"][-1]) == ("gpt-4o", "cooldown")


@pytest.mark.parametrize("way", [completion, acompletion])
async def test_a_tier_that_is_cooling_down_goes_to_its_fallback_if_it_has_one(
    metered: Metered, way: Callable[..., Any]
) -> None:
    more = [metered.deployment("mini", GPT, timeout=9), metered.deployment("spare", "openai/gpt-4.1-mini")]
    auto = router(metered, *more)
    await cool(auto, metered, "mini")
    auto.fallbacks = [{"mini": ["spare"]}]
    assert (await way(auto, EASY)).model.startswith("gpt-4.1-mini")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_updated_settings_leave_it_in_place(metered: Metered) -> None:
    auto = router(metered)
    for strategy in ("latency-based-routing", "least-busy", "simple-shuffle"):
        auto.update_settings(routing_strategy=strategy, num_retries=1)
        assert auto.completion(model="auto", messages=asked(EASY)).model.startswith("gpt-4o-mini")
        assert (await auto.acompletion(model="auto", messages=asked(HARD))).model.startswith("gpt-4o-2024")
    assert len([row for row in await metered.rows(6) if routed(row)]) == 6


async def test_a_conversation_sticks_to_its_tier(metered: Metered) -> None:
    auto = router(metered)
    for named in ({"metadata": {"session_id": "s"}}, {"litellm_session_id": "t"}):
        models = [(await auto.acompletion(model="auto", messages=asked(t), **named)).model for t in (HARD, EASY)]
        assert models == ["gpt-4o-2024-08-06"] * 2
    assert auto.completion(model="auto", messages=asked(EASY)).model.startswith("gpt-4o-mini")
    strong = auto.completion(model="auto", messages=asked(EASY), metadata={"at_least": "complex"})
    assert strong.model.startswith("gpt-4o-2024")


@pytest.mark.parametrize("way", [completion, acompletion])
async def test_retries_in_a_row_move_a_conversation_up(
    metered: Metered, way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm.Router, "_time_to_sleep_before_retry", lambda *_, **__: 0, raising=False)
    auto = router(metered, num_retries=3)
    metered.box.fail("500", model="gpt-4o-mini", times=None)
    assert (await way(auto, EASY, metadata={"thread_id": "t"})).model.startswith("gpt-4o-2024")
    tried = [row.sent.requested_model for row in await metered.rows(3)]
    assert tried == ["gpt-4o-mini", "gpt-4o-mini", "gpt-4o"]
    with pytest.raises(litellm.InternalServerError):
        await way(auto, EASY, num_retries=0)


@pytest.mark.parametrize("way", [completion, acompletion])
async def test_fallbacks_of_the_new_group_are_its_tiers_too(metered: Metered, way: Callable[..., Any]) -> None:
    spare = metered.deployment("spare", "openai/gpt-4.1-mini")
    auto = router(metered, spare, fallbacks=[{"auto": ["spare"]}, {"big": ["mini"]}])
    metered.box.fail("500", model="gpt-4o-mini", times=1)
    metered.box.fail("500", model="gpt-4o", times=1)
    assert (await way(auto, EASY)).model.startswith("gpt-4.1-mini")
    assert (await way(auto, HARD)).model.startswith("gpt-4o-mini")


async def test_metadata_of_the_caller_reaches_the_row_and_keeps_no_evidence(metered: Metered) -> None:
    auto = router(metered)
    mine = {"tags": ["feature:faq"], "user_id": "kim"}
    auto.completion(model="auto", messages=asked(EASY), metadata=mine)
    row = await metered.row()
    assert (row.sent.tags["feature"], row.sent.user) == ("faq", "kim")
    assert "llm_savings" not in mine, "or the next call with it would be taken for a routed one"


@pytest.mark.parametrize("way", ["responses", "aresponses"])
async def test_what_the_proxy_says_of_a_key_does_not_reach_the_provider(metered: Metered, way: str) -> None:
    sent: list[Any] = []

    async def aown(**given: Any) -> None:
        sent.append(given)

    auto = Router(model_list=[metered.deployment("mini", GPT), metered.deployment("big", BIG)])
    setattr(auto, way, aown if way == "aresponses" else lambda **given: sent.append(given))
    ComplexityRouting(TIERS).attach(auto)
    both = {"metadata": {"a": "b", ALLOWED: ["simple"]}, "litellm_metadata": {ALLOWED: ["simple"]}}
    done = getattr(auto, way)(model="auto", input=HARD, **both)
    if isawaitable(done):
        await done
    (given,) = sent
    assert given["model"] == "mini" and given["metadata"] == {"a": "b"} and ALLOWED not in given["litellm_metadata"]


async def test_a_shadow_changes_nothing_and_says_what_it_would_have_done(metered: Metered) -> None:
    auto = router(metered, shadow=True)
    assert auto.completion(model="auto", messages=asked(EASY)).model.startswith("gpt-4o-2024")
    row = await metered.row()
    assert (routed(row)["chosen"], routed(row)["tier"], routed(row)["shadow"]) == ("simple", "complex", True)
    assert metered.costs.saved == 0


async def test_switched_off_it_goes_to_the_baseline(metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert router(metered).completion(model="auto", messages=asked(EASY)).model.startswith("gpt-4o-2024")


@pytest.mark.parametrize(
    "content",
    ["", "\x00\xff\ud800" * 500, "가" * 350_000, None, 7, [{"type": "text"}], [{"type": "image_url"}, "x", None], {}],
    ids=["empty", "binary", "a megabyte", "none", "a number", "no text", "odd blocks", "a mapping"],
)
async def test_whatever_is_asked_routing_does_not_fail(metered: Metered, content: Any) -> None:
    auto = Router(model_list=[metered.deployment("mini", GPT), metered.deployment("big", BIG)])

    async def aown(**given: Any) -> Any:
        return given

    auto.completion, auto.acompletion = lambda **given: given, aown
    ComplexityRouting(TIERS).attach(auto)
    for metadata in ({"metadata": None}, {}, {"metadata": {"session_id": "s"}}):
        sent = auto.completion("auto", asked(content), **metadata), await auto.acompletion("auto", asked(content))
        assert {each["model"] for each in sent} <= {"mini", "big"} and sent[0]["messages"] == asked(content)


async def test_a_decision_that_fails_goes_to_the_strongest_tier_and_says_so(
    metered: Metered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    auto = router(metered)
    with monkeypatch.context() as broken:
        broken.setattr("llm_savings.routing.router.read", lambda *_, **__: 1 / 0)
        assert auto.completion(model="auto", messages=asked(EASY)).model.startswith("gpt-4o-2024")
    assert routed(await metered.row())["reasons"] == ["failed"]
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr("llm_savings.litellm.routed_calls.with_evidence", lambda *_, **__: 1 / 0)
        auto.completion(model="auto", messages=asked(HARD))
    assert "Routing failed" in caplog.text and HARD not in caplog.text


async def test_a_change_of_provider_takes_out_what_only_one_knows(metered: Metered) -> None:
    claude = metered.deployment("claude", CLAUDE)
    auto = router(metered, claude, tiers={"simple": "mini", "complex": "claude"})
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    history = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "Hello", "thinking_blocks": [thought], "reasoning_content": "hm"},
    ]
    messages = asked(EASY, *history)
    sent: list[Any] = []
    litellm.callbacks.append(_Sent(sent))
    assert auto.completion(model="auto", messages=messages).model.startswith("gpt-4o-mini")
    await auto.acompletion(model="auto", messages=messages)
    await auto.acompletion(model="auto", messages=asked(HARD, *history))
    assert len(sent) == 3
    assert not any("thinking" in str(each) or "cache_control" in str(each) for each in sent[:2])
    assert "cache_control" in str(sent[2]) and "c2ln" in str(sent[2])
    assert "thinking_blocks" in messages[1] and "cache_control" in messages[0]["content"][0], "a copy was changed"


class _Sent(litellm.integrations.custom_logger.CustomLogger):
    """Keeps what is sent."""

    def __init__(self, sent: list[Any]) -> None:
        super().__init__()
        self.sent = sent

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self.sent.append(kwargs["additional_args"]["complete_input_dict"])


async def test_several_routings_on_one_router(metered: Metered) -> None:
    auto = router(metered)
    rules = partial(ComplexityRouter, rules=[Rule("환불", tier="complex")])
    ComplexityRouting(TIERS, group="auto-ko", router=rules).attach(auto)
    assert auto.completion(model="auto", messages=asked("환불")).model.startswith("gpt-4o-mini")
    assert auto.completion(model="auto-ko", messages=asked("환불")).model.startswith("gpt-4o-2024")
    ready = ComplexityRouter.rules({"simple": "gpt-4o-mini", "complex": "gpt-4o"})
    ComplexityRouting(TIERS, group="article", router=ready).attach(auto)
    assert auto.completion(model="article", messages=asked("What is RAG?")).model.startswith("gpt-4o-mini")
    rows = await metered.rows(3)
    assert [routed(row)["reasons"] for row in sorted(rows, key=lambda row: row.sent.started_at)] == [
        ["difficulty"], ["rule:0"], ["article:simple"],
    ]  # fmt: skip


async def test_many_at_once_decide_as_one(metered: Metered) -> None:
    auto = router(metered)
    texts = [EASY, HARD] * 8
    answers = await asyncio.gather(*(auto.acompletion(model="auto", messages=asked(text)) for text in texts))
    assert [answer.model.startswith("gpt-4o-mini") for answer in answers] == [text is EASY for text in texts]
    rows = await metered.rows(16)
    metered.check_bill(rows)
    assert metered.costs.saved == attribute(rows).credits["routing"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"tiers": {"simple": "mini", "complex": "gpt4o"}},
            r"tiers\['complex'\]='gpt4o'.*it has 'big', 'embed', 'mini'",
        ),
        ({"tiers": {"simple": "mini"}}, "at least two tiers"),
        ({"tiers": ["mini", "big"]}, "give a mapping"),
        ({"tiers": {"simple": "mini", "complex": 4}}, r"tiers\['complex'\]=4"),
        ({"group": "mini"}, "group='mini'.*already"),
        ({"group": ""}, "group=''"),
        ({"router": "rules"}, "router is str"),
        ({"cascade": 3}, "cascade=3; give True, or a callable"),
        ({"router": ComplexityRouter({"a": "gpt-4o-mini", "b": "gpt-4o"})}, r"\['a', 'b'\].*\['simple', 'complex'\]"),
        ({"router": ComplexityRouter({"simple": "x", "complex": "y"}), "shadow": True}, "not in shadow"),
        ({"router": partial(ComplexityRouter, rules=[Rule("x", tier="huge")])}, r"rules\[0\].tier='huge'"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_set_up(metered: Metered, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        router(metered, **given)


def test_where_it_is_found() -> None:
    assert llm_savings.ComplexityRouter is ComplexityRouter
    assert llm_savings.ComplexityRouting is llm_savings.litellm.ComplexityRouting is ComplexityRouting
