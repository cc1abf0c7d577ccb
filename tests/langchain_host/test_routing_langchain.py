"""`RoutedChatModel`: the same decision in every way to call, one run and one row a call, and the bill is the ledger."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from langchain_checks import WAYS, Way, anthropic, assert_is_the_bill, litellm_openai, only, openai, rows
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from langchain_shapes import Person, order_status
from langchain_tests.unit_tests import ChatModelUnitTests

from llm_savings import ComplexityRouter, ConfigError
from llm_savings.attribution import attribute
from llm_savings.langchain import CostCallback, RoutedChatModel, SemanticCache, with_cached_streaming
from llm_savings.ledger import Call
from llm_savings.routing import Capabilities, Rule, Tier
from llm_savings.sandbox import Sandbox

EASY, HARD = "파이썬이 뭐야?", "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 x 1
DECIDED = ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"})


def tiers(box: Sandbox, **given: Any) -> dict[str, Any]:
    return {
        "simple": openai(box, stream_usage=True, **given),
        "complex": openai(box, model="gpt-4o", stream_usage=True, **given),
    }


def model_of(box: Sandbox, **given: Any) -> RoutedChatModel:
    return RoutedChatModel(tiers=tiers(box), **given)


def routed(row: Call) -> dict[str, Any]:
    assert row.settled is not None
    return row.settled.strategies["routing"]


def answered(answer: Any) -> str:
    return answer.response_metadata["model_name"].rpartition("-20")[0]


class Runs(BaseCallbackHandler):
    """What ran, by its name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **event: Any) -> None:
        self.names.append(event["metadata"]["ls_model_name"])


class TestTheSuiteOfChatModels(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return RoutedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"tiers": {name: ChatOpenAI(model=name, api_key="x") for name in ("gpt-4o-mini", "gpt-4o")}}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # Timeouts and retries belong to the tiers' models, and are refused here.
        return {"temperature": 0, "max_tokens": 100, "stop": []}


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_decides_alike_and_is_one_row_of_the_bill(box: Sandbox, cost: CostCallback, way: Way) -> None:
    runs = Runs()
    await way(model_of(box), [EASY, HARD], {"callbacks": [cost, runs]})
    assert sorted(runs.names) == ["gpt-4o", "gpt-4o-mini"]
    hard, easy = sorted(rows(cost), key=lambda row: row.sent.requested_model)
    assert (easy.sent.requested_model, hard.sent.requested_model) == ("gpt-4o-mini", "gpt-4o")
    assert (routed(easy), routed(hard)) == (DECIDED.route(EASY).evidence(), DECIDED.route(HARD).evidence())
    assert_is_the_bill(cost, box)
    assert cost.saved == attribute([easy, hard]).credits["routing"] > 0


async def test_events_are_those_of_the_one_run(box: Sandbox, cost: CostCallback) -> None:
    model, config = model_of(box), {"callbacks": [cost]}
    events = [event async for event in model.astream_events(EASY, config, version="v2")]
    names = [event["event"] for event in events]
    assert names.count("on_chat_model_start") == names.count("on_chat_model_end") == 1
    assert "on_chat_model_stream" in names and {event["name"] for event in events} == {"ChatOpenAI"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = model.stream_events(HARD, config, version="v3")
        assert str(stream.text)
        astream = await model.astream_events(EASY, config, version="v3")
        assert await astream.text
    for _ in range(1000):
        if all(row.settled for row in rows(cost)):
            break
        await asyncio.sleep(0.01)
    assert [routed(row)["tier"] for row in rows(cost)] == ["simple", "complex", "simple"]
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("way", WAYS)
async def test_tools_are_bound_on_the_tier_that_is_chosen(box: Sandbox, cost: CostCallback, way: Way) -> None:
    mixed = {"simple": openai(box, stream_usage=True), "complex": anthropic(box)}
    model = RoutedChatModel(tiers=mixed).bind_tools([order_status], tool_choice="order_status")
    hard = f"{HARD} order 17"
    got = await way(model, ["order 17?", hard], {"callbacks": [cost]})
    for answer in got:
        whole = answer if isinstance(answer, AIMessage) else sum(answer[1:], answer[0])
        assert whole.tool_calls[0]["name"] == "order_status"
    assert {routed(row)["tier"] for row in rows(cost)} == {"simple", "complex"}
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("method", [None, "function_calling", "json_schema"])
@pytest.mark.parametrize("way", WAYS)
async def test_structured_output_is_the_tiers_own(
    box: Sandbox, cost: CostCallback, way: Way, method: str | None
) -> None:
    mixed = {"simple": openai(box, stream_usage=True), "complex": anthropic(box)}
    how = {} if method is None else {"method": method}
    model = RoutedChatModel(tiers=mixed).with_structured_output(Person, **how)
    got = await way(model, ["Extract: Ann is 30", f"{HARD}: Ann is 30"], {"callbacks": [cost]})
    assert all(isinstance(each[-1] if isinstance(each, list) else each, Person) for each in got)
    assert {routed(row)["tier"] for row in rows(cost)} == {"simple", "complex"}
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("include_raw", [False, True])
async def test_structured_output_takes_the_tiers_parameters(box: Sandbox, include_raw: bool) -> None:
    router = ComplexityRouter({"simple": Tier("gpt-4o-mini", max_tokens=3), "complex": Tier("gpt-4o")})
    model = model_of(box, router=router).with_structured_output(
        Person, method="function_calling", include_raw=include_raw
    )
    for given, length in (({}, 3), ({"max_tokens": 4}, 4)):
        runs: list[int] = []
        with suppress(ValueError):  # what is cut off fits no schema
            model.invoke("Ann is 30", {"callbacks": [_Lengths(runs)]}, **given)
        assert runs == [length]


class _Lengths(BaseCallbackHandler):
    def __init__(self, runs: list[int]) -> None:
        self.runs = runs

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.runs.append(response.generations[0][0].message.usage_metadata["output_tokens"])


async def test_structured_output_with_the_raw_answer(box: Sandbox) -> None:
    got = model_of(box).with_structured_output(Person, include_raw=True).invoke("Extract: Ann is 30")
    assert isinstance(got["parsed"], Person) and answered(got["raw"]) == "gpt-4o-mini"
    with pytest.raises(Exception, match="magic"):
        model_of(box).with_structured_output(Person, method="magic")


async def test_retries_and_fallbacks_around_it(box: Sandbox, cost: CostCallback) -> None:
    config: Any = {"callbacks": [cost]}
    box.fail("500", times=1)
    patient = model_of(box).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert answered(patient.invoke(EASY, config)) == "gpt-4o-mini"
    box.fail("500", times=1)
    safe = model_of(box).with_fallbacks([openai(box, model="gpt-4.1-mini")])
    assert answered(await safe.bind_tools([order_status]).ainvoke(EASY, config)) == "gpt-4.1-mini"
    assert [row.status for row in rows(cost)].count("error") == 2
    fallen = next(row for row in rows(cost) if row.sent.requested_model == "gpt-4.1-mini")
    assert fallen.settled and "routing" not in fallen.settled.strategies


async def test_fallbacks_and_parameters_of_a_tiers_own(box: Sandbox, cost: CostCallback) -> None:
    mini = openai(box).bind(max_tokens=5)
    strong = openai(box, model="gpt-4o").with_fallbacks([openai(box, model="gpt-4.1-mini")])
    model = RoutedChatModel(tiers={"simple": mini, "complex": strong})
    assert model.invoke(EASY, {"callbacks": [cost]}).usage_metadata["output_tokens"] == 5
    box.fail("500", times=1)
    assert answered(model.invoke(HARD, {"callbacks": [cost]})) == "gpt-4.1-mini"
    assert [row.sent.requested_model for row in rows(cost)] == ["gpt-4o-mini", "gpt-4o", "gpt-4.1-mini"]


async def test_what_a_tier_has_around_its_model_stays_with_tools_and_schemas(box: Sandbox, cost: CostCallback) -> None:
    mini = openai(box).bind(max_tokens=5)
    strong = openai(box, model="gpt-4o").with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    spared = strong.with_fallbacks([openai(box, model="gpt-4.1-mini").bind(max_tokens=70)])
    model = RoutedChatModel(tiers={"simple": mini, "complex": spared}).bind_tools([order_status])
    config: Any = {"callbacks": [cost]}
    assert model.invoke(EASY, config).usage_metadata["output_tokens"] == 5
    box.fail("500", model="gpt-4o", times=3)
    assert answered(await model.ainvoke(HARD, config)) == "gpt-4.1-mini"
    assert answered(await model.ainvoke(HARD, config)) == "gpt-4o"
    asked = ["gpt-4o-mini", *["gpt-4o"] * 2, "gpt-4.1-mini", *["gpt-4o"] * 2]
    assert [row.sent.requested_model for row in rows(cost)] == asked
    box.fail("500", model="gpt-4o", times=2)
    shaped = RoutedChatModel(tiers={"simple": openai(box), "complex": spared}).with_structured_output(
        Person, method="function_calling"
    )
    assert isinstance(shaped.invoke(f"{HARD}: Ann is 30", config), Person)
    assert rows(cost)[-1].sent.requested_model == "gpt-4.1-mini"


async def test_the_tiers_parameters_are_sent_and_the_callers_own_come_first(box: Sandbox) -> None:
    router = ComplexityRouter({"simple": Tier("gpt-4o-mini", max_tokens=5), "complex": Tier("gpt-4o", max_tokens=9)})
    model = model_of(box, router=router)

    def length(answer: Any) -> int:
        return answer.usage_metadata["output_tokens"]

    assert length(model.invoke(EASY)) == 5 and length(model.invoke(HARD)) == 9
    assert length(model.invoke(EASY, max_tokens=7)) == 7
    assert length(model.bind(max_completion_tokens=8).invoke(EASY)) == 8
    assert length(model_of(box, max_tokens=6).invoke(EASY)) == 6
    assert (
        model_of(box, stop=["is"]).invoke("What is Python?").content != model_of(box).invoke("What is Python?").content
    )


async def test_callbacks_tags_and_metadata_of_its_own(box: Sandbox, cost: CostCallback) -> None:
    model = model_of(box, callbacks=[cost], tags=["feature:faq"], metadata={"user_id": "kim"})
    chain = ChatPromptTemplate.from_messages([("human", "{q}")]) | model | RunnableLambda(lambda answer: answer.text)
    assert chain.invoke({"q": EASY}, {"metadata": {"session_id": "s"}, "tags": ["team:shop"]})
    row = only(cost)
    assert (row.sent.tags, row.sent.user, row.sent.session) == ({"feature": "faq", "team": "shop"}, "kim", "s")
    assert routed(row)["tier"] == "simple"


@pytest.mark.parametrize("streaming", [True, False])
async def test_streaming_can_be_forced_either_way(box: Sandbox, cost: CostCallback, streaming: bool) -> None:
    model = model_of(box, streaming=streaming)
    assert (len(list(model.stream(EASY, {"callbacks": [cost]}))) > 1) is streaming
    assert answered(model.invoke(EASY, {"callbacks": [cost]})) == "gpt-4o-mini"
    assert_is_the_bill(cost, box)


async def test_the_tiers_cache_is_asked_by_its_own_key(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(SemanticCache())
    config: Any = {"callbacks": [cost]}
    openai(box, stream_usage=True).invoke(EASY, config)
    model_of(box).invoke(EASY, config)
    first, hit = rows(cost)
    assert (first.status, hit.status, box.requests()) == ("ok", "hit", 1)
    credits = attribute([hit]).credits
    assert credits["semantic_cache"] == first.settled.actual, "a hit saves the price of the tier that was chosen"  # type: ignore
    assert credits["routing"] > 0


async def test_streams_ask_the_cache_where_the_tiers_models_do(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(SemanticCache())
    cached = {name: with_cached_streaming(model) for name, model in tiers(box).items()}
    for _ in range(2):
        list(RoutedChatModel(tiers=cached).stream(EASY, {"callbacks": [cost]}))
    assert [row.status for row in rows(cost)] == ["ok", "hit"]
    with pytest.raises(ConfigError, match="the models of its tiers"):
        with_cached_streaming(model_of(box))


async def test_a_conversation_sticks_to_its_tier(box: Sandbox) -> None:
    model = model_of(box)
    named: Any = {"configurable": {"thread_id": "t"}}
    assert [answered(model.invoke(text, named)) for text in (HARD, EASY)] == ["gpt-4o"] * 2
    meant: Any = {"metadata": {"session_id": "s"}}
    assert [answered(await model.ainvoke(text, meant)) for text in (HARD, EASY)] == ["gpt-4o"] * 2
    assert answered(model.invoke(EASY)) == "gpt-4o-mini"
    assert answered(model.invoke(EASY, {"metadata": {"at_least": "complex"}})) == "gpt-4o"


async def test_failures_in_a_row_move_a_conversation_up(box: Sandbox) -> None:
    model = model_of(box)
    named: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(2):  # never two in a row
        assert answered(model.invoke(EASY, named)) == "gpt-4o-mini"
        box.fail("500", times=1)
        with pytest.raises(Exception, match="500"):
            list(model.stream(EASY, named))
    assert list(model.stream(EASY, named))
    box.fail("500", times=2)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            await model.ainvoke(EASY, named)
    assert answered(model.invoke(EASY, named)) == "gpt-4o"


class Sent(BaseCallbackHandler):
    """The messages that were sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **event: Any) -> None:
        self.messages = messages[0]


async def test_a_change_of_provider_takes_out_what_only_one_knows(box: Sandbox) -> None:
    model = RoutedChatModel(tiers={"simple": openai(box), "complex": anthropic(box)})
    marked = [{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}]
    thought = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "order_status", "input": {"order_id": "17"}},
    ]
    calls = [{"name": "order_status", "args": {"order_id": "17"}, "id": "toolu_1"}]
    claude = AIMessage(thought, tool_calls=calls, response_metadata={"model_provider": "anthropic"})  # type: ignore
    before = [SystemMessage(marked), HumanMessage("Hi"), claude, ToolMessage("on its way", tool_call_id="toolu_1")]  # type: ignore
    sent = Sent()
    tooled = model.bind_tools([order_status])
    assert answered(tooled.invoke([*before, HumanMessage(EASY)], {"callbacks": [sent]})) == "gpt-4o-mini"
    system, _, said, told, _ = sent.messages
    assert "cache_control" not in str(system.content) and "signature" not in str(said.content)
    assert (said.text, said.tool_calls[0]["id"], told.content) == ("Hello", "toolu_1", "on its way")
    tooled.invoke([*before, HumanMessage(HARD)], {"callbacks": [sent]})
    assert sent.messages[2].content == thought and "cache_control" in str(sent.messages[0].content)
    assert claude.content == thought and "cache_control" in marked[0], "a copy was changed"


async def test_one_provider_keeps_its_history(box: Sandbox) -> None:
    sent = Sent()
    said = AIMessage("Hello", additional_kwargs={"x": 1}, response_metadata={"model_provider": "anthropic"})
    model_of(box).invoke([HumanMessage("Hi"), said, HumanMessage(EASY)], {"callbacks": [sent]})
    assert sent.messages[1] is said


async def test_a_shadow_changes_nothing_and_says_what_it_would_have_done(box: Sandbox, cost: CostCallback) -> None:
    assert answered(model_of(box, shadow=True).invoke(EASY, {"callbacks": [cost]})) == "gpt-4o"
    assert (routed(only(cost))["chosen"], routed(only(cost))["shadow"]) == ("simple", True)
    assert cost.saved == 0


async def test_switched_off_it_is_the_baselines_model(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    sent: list[Any] = []
    handler = BaseCallbackHandler()
    handler.on_chat_model_start = lambda *_, **event: sent.append(event["metadata"])  # type: ignore
    assert answered(model_of(box).invoke(EASY, {"callbacks": [handler]})) == "gpt-4o"
    assert "llm_savings" not in sent[0]


ODD: list[Any] = [
    "", "\x00\xff" * 500, "가" * 350_000, [], [HumanMessage([])], [HumanMessage([{"type": "image_url"}, "x"])],
    [SystemMessage("only a system")], [AIMessage("I speak first")],
]  # fmt: skip


@pytest.mark.parametrize("asked", ODD, ids=range(len(ODD)))
async def test_whatever_is_asked_routing_does_not_fail(asked: Any) -> None:
    fakes = {name: FakeListChatModel(responses=[name]) for name in ("simple", "complex")}
    model = RoutedChatModel(tiers=fakes)
    sync = model.invoke(asked)
    assert sync.content == (await model.ainvoke(asked)).content == "".join(p.content for p in model.stream(asked))
    assert sync.content in fakes


async def test_what_langchain_refuses_it_still_refuses(box: Sandbox) -> None:
    for asked in (7, None, [object()]):
        with pytest.raises((ValueError, NotImplementedError)) as mine:
            model_of(box).invoke(asked)  # type: ignore
        with pytest.raises(type(mine.value)):
            openai(box).invoke(asked)  # type: ignore


async def test_a_decision_that_fails_goes_to_the_strongest_tier_and_says_so(
    box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_savings.routing.router.read", lambda *_, **__: 1 / 0)
    assert answered(model_of(box).invoke(EASY, {"callbacks": [cost]})) == "gpt-4o"
    assert routed(only(cost))["reasons"] == ["failed"]


async def test_guards_see_tools_images_and_limits(box: Sandbox, cost: CostCallback) -> None:
    blind = Capabilities(vision=False, tools=False, output=50)
    router = ComplexityRouter({"simple": Tier("gpt-4o-mini", capabilities=blind), "complex": "gpt-4o"})
    model, config = model_of(box, router=router), {"callbacks": [cost]}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    model.invoke([HumanMessage([{"type": "text", "text": "hi"}, picture])], config)  # type: ignore
    await model.bind_tools([order_status]).ainvoke("hi", config)
    model.invoke("hi", config, max_tokens=60)
    model.with_structured_output(Person).invoke("Ann is 30", config)
    assert [routed(row).get("guards") for row in rows(cost)] == [["vision"], ["tools"], ["output"], ["tools"]]
    assert {row.sent.requested_model for row in rows(cost)} == {"gpt-4o"}


async def test_routers_of_every_kind(box: Sandbox) -> None:
    rules = partial(ComplexityRouter, rules=[Rule("환불", tier="complex")])
    assert answered(model_of(box, router=rules).invoke("환불")) == "gpt-4o"
    assert answered(model_of(box, router=ComplexityRouter.rules).invoke("왜 하늘은 파래?")) == "gpt-4o"
    assert answered(model_of(box, router=DECIDED).invoke(EASY)) == "gpt-4o-mini"
    named = RoutedChatModel(tiers={"a": litellm_openai(box), "b": litellm_openai(box, model="openai/gpt-4o")})
    assert [tier.model for tier in named.router.tiers.values()] == ["openai/gpt-4o-mini", "openai/gpt-4o"]
    assert named.invoke(HARD).response_metadata["model"] == "openai/gpt-4o"


async def test_the_old_way_to_ask(box: Sandbox, cost: CostCallback) -> None:
    model = model_of(box)
    found = model.generate([[HumanMessage(EASY)], [HumanMessage(HARD)]], callbacks=[cost], tags=["feature:x"])
    assert [answered(each[0].message) for each in found.generations] == ["gpt-4o-mini", "gpt-4o"]  # type: ignore
    assert {row.sent.tags["feature"] for row in rows(cost)} == {"x"}
    assert answered((await model.agenerate([[HumanMessage(EASY)]])).generations[0][0].message) == "gpt-4o-mini"  # type: ignore
    assert answered(model._generate([HumanMessage(EASY)]).generations[0].message) == "gpt-4o-mini"
    assert len(box.bill().rows) == 4


def test_tokens_are_counted_by_the_strongest_and_profiles_are_of_all(box: Sandbox) -> None:
    model, strong = model_of(box), openai(box, model="gpt-4o")
    assert model.get_num_tokens("안녕하세요") == strong.get_num_tokens("안녕하세요")
    assert model.get_token_ids("hi") == strong.get_token_ids("hi")
    asked = [HumanMessage(HARD)]
    assert model.get_num_tokens_from_messages(asked) == strong.get_num_tokens_from_messages(asked)  # type: ignore
    wide = RoutedChatModel(tiers={"simple": openai(box), "complex": openai(box, model="gpt-4.1")})
    assert wide.profile and wide.profile["max_input_tokens"] == 128_000
    assert "gpt-4o-mini, gpt-4o" in model._get_ls_params()["ls_model_name"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda box: {"tiers": {"simple": openai(box)}}, "at least two tiers"),
        (lambda box: {"tiers": [openai(box)]}, "give a mapping"),
        (
            lambda box: {"tiers": {"simple": openai(box), "complex": "gpt-4o"}},
            r"tiers\['complex'\] is str; give a chat",
        ),
        (lambda box: {"router": 7}, "router is int"),
        (lambda box: {"router": ComplexityRouter({"a": "x", "b": "y"})}, r"\['a', 'b'\].*\['simple', 'complex'\]"),
        (lambda box: {"router": DECIDED, "shadow": True}, "not in shadow"),
        (lambda box: {"router": partial(ComplexityRouter, baseline="huge")}, "baseline='huge'.*'simple', 'complex'"),
        (lambda box: {"timeout": 3}, "timeout=3: there is no such setting; there are callbacks, cascade"),
        (lambda box: {"cache": True}, "cache: give it to the tiers' own models"),
        (lambda box: {"cascade": 3}, "cascade=3; give True, or a callable"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_set_up(box: Sandbox, given: Callable[[Sandbox], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RoutedChatModel(**{"tiers": tiers(box), **given(box)})
