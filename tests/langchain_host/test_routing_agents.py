"""Agents and graphs whose model calls are routed, by the model or by middleware; and cascades."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_checks import WAYS, Way, anthropic, assert_is_the_bill, only, openai, rows
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_shapes import Person, order_status
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, field_validator

from llm_savings import Budget, BudgetExceededError, ComplexityRouter, ConfigError
from llm_savings.attribution import attribute
from llm_savings.langchain import CostCallback, RoutedChatModel, RoutingMiddleware
from llm_savings.ledger import Call
from llm_savings.routing import Tier
from llm_savings.sandbox import Sandbox

EASY, HARD = "파이썬이 뭐야?", "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"


def tiers(box: Sandbox) -> dict[str, Any]:
    return {"simple": openai(box, stream_usage=True), "complex": openai(box, model="gpt-4o", stream_usage=True)}


def routed(row: Call) -> dict[str, Any]:
    assert row.settled is not None
    return row.settled.strategies["routing"]


def models(cost: CostCallback) -> list[str]:
    return [row.sent.requested_model for row in rows(cost)]


async def run(agent: Any, text: str, asynchronous: bool, **config: Any) -> Any:
    asked, config = {"messages": [HumanMessage(text)]}, {"recursion_limit": 8, **config}
    return await agent.ainvoke(asked, config) if asynchronous else agent.invoke(asked, config)


def by_model(box: Sandbox, **given: Any) -> Any:
    return create_agent(RoutedChatModel(tiers=tiers(box)), **given)


def by_middleware(box: Sandbox, **given: Any) -> Any:
    more = given.pop("middleware", [])
    return create_agent(openai(box, model="gpt-4.1"), middleware=[RoutingMiddleware(tiers=tiers(box)), *more], **given)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("made", [by_model, by_middleware])
async def test_each_call_of_an_agent_goes_to_its_tier(
    box: Sandbox, cost: CostCallback, made: Any, asynchronous: bool
) -> None:
    agent = made(box, tools=[order_status], system_prompt="You help customers.")
    await run(agent, "Where is order 17?", asynchronous, callbacks=[cost], tags=["feature:agent"])
    assert set(models(cost)) == {"gpt-4o-mini"} and len(rows(cost)) >= 2
    await run(agent, HARD, asynchronous, callbacks=[cost])
    assert models(cost)[-1] == "gpt-4o"
    assert {routed(row)["baseline_model"] for row in rows(cost)} == {"gpt-4o"}
    assert_is_the_bill(cost, box)
    assert cost.saved == attribute(rows(cost)).credits["routing"] > 0


@pytest.mark.parametrize("made", [by_model, by_middleware])
@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
async def test_an_agents_structured_answer(box: Sandbox, cost: CostCallback, made: Any, strategy: Any) -> None:
    agent = made(box, tools=[], response_format=strategy(Person))
    for text, tier in (("Extract: Ann is 30", "simple"), (f"{HARD}: Ann is 30", "complex")):
        found = await run(agent, text, asynchronous=True, callbacks=[cost])
        assert isinstance(found["structured_response"], Person)
        assert routed(rows(cost)[-1])["tier"] == tier
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("made", [by_model, by_middleware])
@pytest.mark.parametrize("mode", ["messages", "updates"])
async def test_a_thread_sticks_to_its_tier_and_streams(box: Sandbox, cost: CostCallback, made: Any, mode: Any) -> None:
    agent = made(box, tools=[order_status], checkpointer=InMemorySaver())
    config: Any = {"callbacks": [cost], "configurable": {"thread_id": "t"}, "recursion_limit": 8}
    pieces = list(agent.stream({"messages": [HumanMessage(HARD)]}, config, stream_mode=mode))
    assert [piece async for piece in agent.astream({"messages": [HumanMessage(EASY)]}, config, stream_mode=mode)]
    assert mode == "updates" or len(pieces) > 5
    assert set(models(cost)) == {"gpt-4o"}
    assert {row.sent.session for row in rows(cost)} == {"t"}
    await run(agent, EASY, asynchronous=True, callbacks=[cost], configurable={"thread_id": "u"})
    assert models(cost)[-1] == "gpt-4o-mini"
    assert_is_the_bill(cost, box)


async def test_whoever_looks_sees_which_tools_are_bound(box: Sandbox, cost: CostCallback) -> None:
    odd = {"type": "something_of_a_providers"}
    bound: Any = RoutedChatModel(tiers=tiers(box)).bind_tools([order_status, Person, odd])
    shown, person, other = bound.kwargs["tools"]
    assert (shown["function"]["name"], person["function"]["name"], other) == ("order_status", "Person", odd)
    assert shown.given is order_status and person.given is Person


async def test_a_node_of_a_graph_that_passes_no_config_on(box: Sandbox, cost: CostCallback) -> None:
    model = RoutedChatModel(tiers=tiers(box))
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    made = graph.compile(checkpointer=InMemorySaver())
    for text in (HARD, EASY):
        await run(made, text, asynchronous=False, callbacks=[cost], configurable={"thread_id": "t"})
    assert models(cost) == ["gpt-4o", "gpt-4o"]
    assert_is_the_bill(cost, box)


class Watching(AgentMiddleware[Any, Any, Any]):
    """Sees the request that the middleware before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        self.seen.append(request)
        return handler(request)


async def test_middleware_after_it_sees_the_tiers_model_with_its_parameters(box: Sandbox, cost: CostCallback) -> None:
    router = ComplexityRouter({"simple": Tier("gpt-4o-mini", max_tokens=9), "complex": Tier("claude-haiku-4-5")})
    bound = openai(box, stream_usage=True).bind(temperature=0.5, max_tokens=3)
    routing = RoutingMiddleware(tiers={"simple": bound, "complex": anthropic(box)}, router=router)
    watching, own = Watching(), openai(box)
    agent = create_agent(own, [order_status], middleware=[routing, watching], system_prompt="Be brief.")
    before = AIMessage(
        [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "Hello"}],
        response_metadata={"model_provider": "anthropic"},
    )
    agent.invoke({"messages": [HumanMessage("Hi"), before, HumanMessage(EASY)]}, {"callbacks": [cost]})
    (request,) = watching.seen
    assert request.model.model_name == "gpt-4o-mini" and request.model is not bound.bound  # type: ignore
    assert request.model_settings == {"temperature": 0.5, "max_tokens": 9}
    assert "thinking" not in str(request.messages) and isinstance(request.system_message, SystemMessage)
    assert "llm_savings" not in (bound.bound.metadata or {}) and routing.router is router  # type: ignore
    assert routed(only(cost))["tier"] == "simple"


async def test_an_agents_fallback_is_not_routings_choice(box: Sandbox, cost: CostCallback) -> None:
    box.fail("500", times=1)
    agent = by_middleware(box, tools=[], middleware=[ModelFallbackMiddleware(openai(box, model="gpt-4.1-mini"))])
    await run(agent, EASY, asynchronous=True, callbacks=[cost])
    failed, fallen = rows(cost)
    assert (failed.status, fallen.sent.requested_model) == ("error", "gpt-4.1-mini")
    assert fallen.settled and "routing" not in fallen.settled.strategies


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failures_move_an_agents_thread_up_and_a_budgets_do_not(box: Sandbox, asynchronous: bool) -> None:
    agent = by_middleware(box, tools=[])
    named = {"configurable": {"thread_id": "t"}}
    await run(agent, EASY, asynchronous, **named)
    poor = CostCallback(":memory:", budget=Budget(total="0.000000001"))
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            await run(agent, EASY, asynchronous, callbacks=[poor], **named)
    found = await run(agent, EASY, asynchronous, **named)
    assert found["messages"][-1].response_metadata["model_name"].startswith("gpt-4o-mini")
    box.fail("500", times=2)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            await run(agent, EASY, asynchronous, **named)
    found = await run(agent, EASY, asynchronous, **named)
    assert found["messages"][-1].response_metadata["model_name"].startswith("gpt-4o-2024")


def test_middleware_says_what_is_wrong(box: Sandbox) -> None:
    spare = openai(box).with_fallbacks([openai(box, model="gpt-4.1-mini")])
    with pytest.raises(ConfigError, match=r"tiers\['complex'\] is RunnableWithFallbacks.*ModelFallbackMiddleware"):
        RoutingMiddleware(tiers={"simple": openai(box), "complex": spare})
    with pytest.raises(ConfigError, match="at least two"):
        RoutingMiddleware(tiers={"simple": openai(box)})
    with pytest.raises(Exception, match="duplicate"):
        create_agent(openai(box), middleware=[RoutingMiddleware(tiers=tiers(box)) for _ in range(2)])


def cut(box: Sandbox, **given: Any) -> RoutedChatModel:
    """A cascade whose small model never gets to the end of its answer."""
    small = Tier("gpt-4o-mini", max_tokens=3)
    return RoutedChatModel(
        tiers=tiers(box), router=ComplexityRouter({"simple": small, "complex": "gpt-4o"}), **{"cascade": True} | given
    )


@pytest.mark.parametrize("way", WAYS)
async def test_a_cascade_asks_again_where_an_answer_will_not_do_and_pays_for_both(
    box: Sandbox, cost: CostCallback, way: Way
) -> None:
    await way(cut(box), [EASY], {"callbacks": [cost], "run_id": None})
    first, second = rows(cost)
    assert (first.sent.requested_model, second.sent.requested_model) == ("gpt-4o-mini", "gpt-4o")
    assert routed(second)["reasons"] == ["difficulty", "cascade"] and routed(second)["repeat"] is True
    assert_is_the_bill(cost, box)
    whole = attribute([first, second])
    assert first.settled is not None and first.settled.baseline is not None
    assert whole.baseline == first.settled.baseline, "without routing there would have been one call"
    assert cost.saved == whole.saved == whole.credits["routing"] == first.settled.baseline - box.bill().total < 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_cascade_gives_an_answer_that_will_do(box: Sandbox, cost: CostCallback, way: Way) -> None:
    judged: list[str] = []

    def judge(answer: str) -> float:
        judged.append(answer)
        return 0.9

    model = RoutedChatModel(tiers=tiers(box), cascade=judge)
    await way(model, [EASY, HARD], {"callbacks": [cost]})
    assert sorted(models(cost)) == ["gpt-4o", "gpt-4o-mini"]
    assert len(judged) == 1, "the strongest tier's answer is not judged"
    assert_is_the_bill(cost, box)
    assert cost.saved > 0


async def test_a_judge_that_fails_or_doubts_is_a_no(box: Sandbox, cost: CostCallback) -> None:
    for judge in (lambda _: 0.1, lambda _: 1 / 0):
        answer = RoutedChatModel(tiers=tiers(box), cascade=judge).invoke(EASY, {"callbacks": [cost]})
        assert answer.response_metadata["model_name"].startswith("gpt-4o-2024")
    assert models(cost) == ["gpt-4o-mini", "gpt-4o"] * 2


async def test_a_cascade_through_three_tiers(box: Sandbox, cost: CostCallback) -> None:
    three = {**tiers(box), "best": openai(box, model="gpt-4.1")}
    model = RoutedChatModel(tiers=three, cascade=lambda _: 0.0)
    model.invoke(EASY, {"callbacks": [cost]})
    assert models(cost) == ["gpt-4o-mini", "gpt-4o", "gpt-4.1"]
    assert [routed(row).get("repeat") for row in rows(cost)] == [None, True, True]
    assert (
        sum(row.settled.baseline or Decimal(0) for row in rows(cost) if row.settled) == attribute(rows(cost)).baseline
    )
    assert_is_the_bill(cost, box)


class Fussy(BaseModel):
    """Somebody, whom nobody gets right at the first try."""

    name: str

    tries: ClassVar[list[str]] = []

    @field_validator("name")
    @classmethod
    def not_at_first(cls, value: str) -> str:
        cls.tries.append(value)
        if len(cls.tries) == 1:
            raise ValueError("not yet")
        return value


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_a_cascade_of_structured_answers(
    box: Sandbox, cost: CostCallback, method: str, include_raw: bool
) -> None:
    config: Any = {"callbacks": [cost]}
    for cascade, asked in ((True, ["gpt-4o-mini"]), (lambda _: 0.0, ["gpt-4o-mini", "gpt-4o"])):
        routing = RoutedChatModel(tiers=tiers(box), cascade=cascade)
        model = routing.with_structured_output(Person, method=method, include_raw=include_raw)
        found = [model.invoke("Ann is 30", config)]
        found += [piece async for piece in model.astream("Ann is 30", config)][-1:]
        for each in found:
            assert include_raw or isinstance(each, Person)
        assert models(cost)[-2 * len(asked) :] == asked * 2


@pytest.mark.parametrize(("method", "first"), [("function_calling", "ok"), ("json_schema", "error")])
async def test_an_answer_that_fits_no_schema_is_asked_for_again(
    box: Sandbox, cost: CostCallback, method: str, first: str
) -> None:
    Fussy.tries.clear()
    model = RoutedChatModel(tiers=tiers(box), cascade=True).with_structured_output(Fussy, method=method)
    assert isinstance(await model.ainvoke("Extract: Ann is 30", {"callbacks": [cost]}), Fussy)
    assert models(cost) == ["gpt-4o-mini", "gpt-4o"]
    before, after = rows(cost)
    # ChatOpenAI's own parsing is a part of the call, which then has failed, and has no baseline to stand for both.
    assert (before.status, routed(after).get("repeat")) == (first, True if first == "ok" else None)
    assert_is_the_bill(cost, box)
    assert attribute([before, after]).saved < 0


async def test_a_call_of_a_tool_is_an_answer_and_an_error_is_none(box: Sandbox, cost: CostCallback) -> None:
    model = RoutedChatModel(tiers=tiers(box), cascade=lambda _: 0.0)
    answer = model.bind_tools([order_status], tool_choice="order_status").invoke("order 17?", {"callbacks": [cost]})
    assert answer.tool_calls and models(cost) == ["gpt-4o-mini"]
    box.fail("500", times=1)
    with pytest.raises(Exception, match="500"):
        await model.ainvoke(EASY, {"callbacks": [cost]})
    assert models(cost) == ["gpt-4o-mini"] * 2, "an error is for retries and fallbacks"


async def test_a_shadow_and_a_switch_judge_nothing(
    box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RoutedChatModel(tiers=tiers(box), cascade=lambda _: 0.0, shadow=True)
    model.invoke(EASY, {"callbacks": [cost]})
    assert models(cost) == ["gpt-4o"]
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert RoutedChatModel(tiers=tiers(box), cascade=lambda _: 0.0).invoke(EASY)
    assert len(box.bill().rows) == 2


async def test_doubts_move_a_conversation_up(box: Sandbox, cost: CostCallback) -> None:
    model, named = cut(box), {"callbacks": [cost], "configurable": {"thread_id": "t"}}
    for _ in range(3):
        model.invoke(EASY, named)  # type: ignore
    assert models(cost) == ["gpt-4o-mini", "gpt-4o", "gpt-4o-mini", "gpt-4o", "gpt-4o"]
