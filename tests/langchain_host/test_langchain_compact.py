"""Compact answers through LangChain's real clients, against the sandbox's bill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from compact_invoices import Invoice, Loose, check
from langchain_checks import CLIENTS, anthropic, assert_is_the_bill, litellm_openai, openai, rows
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from llm_savings.attribution import attribute
from llm_savings.errors import ConfigError, StructuredOutputError
from llm_savings.langchain import (
    CompactFormatMiddleware,
    CostCallback,
    RoutedChatModel,
    compact_response_format,
    summarizer,
    with_compact_output,
)
from llm_savings.sandbox import Sandbox
from llm_savings.structured import count_words

ASKED = "List the invoices of order 12 for Hanbit"
KOREAN = "다음 주문 12번의 송장을 모두 나열해 주세요"


def outputs(cost: CostCallback) -> list[dict[str, Any]]:
    return [call.settled.strategies["output"] for call in rows(cost) if call.settled]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
async def test_every_client_gives_records_from_columns(
    box: Sandbox, cost: CostCallback, client: Callable[..., Any], way: str
) -> None:
    compact = with_compact_output(client(box), Invoice, many=True)
    config: Any = {"callbacks": [cost]}
    if way in ("invoke", "batch"):
        found = compact.invoke(ASKED, config) if way == "invoke" else compact.batch([ASKED, KOREAN], config)
    else:
        found = await (compact.ainvoke(ASKED, config) if way == "ainvoke" else compact.abatch([ASKED, KOREAN], config))
    for one in found if "batch" in way else [found]:
        check(one)
    assert_is_the_bill(cost, box)
    for call in rows(cost):
        assert call.settled is not None
        done = call.settled.strategies["output"]
        assert (done["form"], done["schema"], done["strict"], done["basis"]) == ("columns", "Invoice", True, "modelled")
        assert done["baseline_output"] > call.settled.usage.output
    credits = attribute(rows(cost))
    assert credits.credits["output"] == credits.modelled["output"] == cost.saved > 0


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ["truncated", "half", "interleaved", "unequal", "wrong-type", "refused"])
async def test_an_answer_that_is_no_good_is_an_error_or_asked_for_again(
    box: Sandbox, cost: CostCallback, client: Callable[..., Any], fault: str
) -> None:
    box.fail(fault)
    compact = with_compact_output(client(box), Invoice, many=True)
    # ChatLiteLLM loses what OpenAI says of a refusal; there it is an answer that cannot be read.
    refuses = fault == "refused" and client is not litellm_openai
    if refuses:
        with pytest.raises(StructuredOutputError, match="refused"):
            await compact.ainvoke(ASKED, {"callbacks": [cost]})
    else:
        check(await compact.ainvoke(ASKED, {"callbacks": [cost]}))
    calls = rows(cost)
    assert len(calls) == len(box.bill().rows) == (1 if refuses else 2)
    assert cost.spent == box.bill().total, "every attempt is in the ledger"
    found = attribute(calls)
    assert [call.sent.tags.get("overhead") for call in calls] == [None, "output"][: len(calls)]
    lost = [call for call in calls if call.sent.tags or call.status == "error"]  # ChatOpenAI makes an error of a cut
    assert found.overhead == sum(call.settled.actual or 0 for call in lost if call.settled)


def test_an_answer_that_is_no_good_twice_is_an_error_with_its_text(box: Sandbox) -> None:
    box.fail("half", times=2)
    compact = with_compact_output(openai(box), Invoice, many=True)
    with pytest.raises(StructuredOutputError, match="no JSON") as caught:
        compact.invoke(ASKED)
    assert caught.value.raw.startswith('{"items":[')
    box.fail("half", times=2)
    given = with_compact_output(openai(box), Invoice, many=True, include_raw=True).invoke(ASKED)
    assert given["parsed"] is None and isinstance(given["parsing_error"], StructuredOutputError)
    assert given["raw"].content == given["parsing_error"].raw == caught.value.raw


@pytest.mark.parametrize("client", CLIENTS)
def test_a_limit_that_is_too_low_is_raised_once(box: Sandbox, cost: CostCallback, client: Callable[..., Any]) -> None:
    compact = with_compact_output(client(box), Invoice, many=True, max_tokens=60)
    check(compact.invoke(ASKED, {"callbacks": [cost]}))
    assert [done.get("again") for done in outputs(cost)] == [None, "cut"]
    assert cost.spent == box.bill().total
    low = with_compact_output(client(box), Invoice, many=True, max_tokens=8)  # 64 is too low as well
    with pytest.raises(StructuredOutputError, match="cut"):
        low.invoke(ASKED)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_schema_that_cannot_be_strict_loses_nothing(box: Sandbox, cost: CostCallback, client: Any) -> None:
    found = with_compact_output(client(box), Loose, many=True).invoke(ASKED, {"callbacks": [cost]})
    assert found and all(one.counts for one in found)
    assert not outputs(cost)[0]["strict"]


def test_it_is_a_part_of_chains_and_leaves_the_callers_messages_alone(box: Sandbox, cost: CostCallback) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "You read {what}."), ("human", "{asked}")])
    chain = prompt | with_compact_output(openai(box).bind(temperature=0), Invoice, many=True)
    check(chain.invoke({"what": "invoices", "asked": ASKED}, {"callbacks": [cost], "tags": ["feature:invoices"]}))
    assert rows(cost)[0].sent.tags == {"feature": "invoices"}
    turns = [SystemMessage("Be short."), HumanMessage(KOREAN)]
    config: Any = {"callbacks": [cost], "metadata": {"user_id": "kim"}, "tags": ["feature:faq"]}
    text = with_compact_output(openai(box), str, max_words=5).invoke(turns, config)
    assert count_words(text) <= 5
    assert turns == [SystemMessage("Be short."), HumanMessage(KOREAN)]
    assert config["metadata"] == {"user_id": "kim"} and config["tags"] == ["feature:faq"]
    assert rows(cost)[-1].sent.user == "kim"


@pytest.mark.parametrize("client", [openai, anthropic])
def test_single_objects_and_summaries(box: Sandbox, cost: CostCallback, client: Callable[..., Any]) -> None:
    found = with_compact_output(client(box), Invoice).invoke(KOREAN, {"callbacks": [cost]})
    check([found])
    summary = summarizer(client(box), max_words=8)
    for text in ("The parcel came late and the mug was broken.", "배송이 너무 늦었고 컵이 깨져 있었어요."):
        assert 0 < count_words(summary.invoke(text, {"callbacks": [cost]})) <= 8
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("client", [openai, anthropic])
@pytest.mark.parametrize("fault", [None, "unequal"])
async def test_agents_answer_in_columns(box: Sandbox, cost: CostCallback, client: Any, fault: str | None) -> None:
    agents = pytest.importorskip("langchain.agents")
    strategy = pytest.importorskip("langchain.agents.structured_output").ToolStrategy
    if fault:
        box.fail(fault)
    form = compact_response_format(Invoice, many=True)
    agent = agents.create_agent(client(box), [], response_format=strategy(form))
    asked: Any = {"messages": [HumanMessage(ASKED)]}
    found = await agent.ainvoke(asked, {"callbacks": [cost], "recursion_limit": 8})
    check(found["structured_response"].value)
    assert len(rows(cost)) == (2 if fault else 1), "an answer that does not fit is told to the model"
    assert_is_the_bill(cost, box)


def test_agents_use_the_providers_own_way_too(box: Sandbox) -> None:
    agents = pytest.importorskip("langchain.agents")
    strategy = pytest.importorskip("langchain.agents.structured_output").ProviderStrategy
    for client in (openai, anthropic):
        form = compact_response_format(Invoice, many=True)
        agent = agents.create_agent(client(box), [], response_format=strategy(form))
        check(agent.invoke({"messages": [HumanMessage(ASKED)]}, {"recursion_limit": 8})["structured_response"].value)


@pytest.mark.parametrize("client", [openai, anthropic])
@pytest.mark.parametrize("way", ["ToolStrategy", "ProviderStrategy"])
async def test_what_an_agent_saves_reaches_the_ledger(box: Sandbox, cost: CostCallback, client: Any, way: str) -> None:
    agents = pytest.importorskip("langchain.agents")
    strategy = getattr(pytest.importorskip("langchain.agents.structured_output"), way)
    form, told = strategy(compact_response_format(Invoice, many=True)), [CompactFormatMiddleware()]
    model = client(box)
    config: Any = {"callbacks": [cost], "recursion_limit": 8}
    agent = agents.create_agent(model, [], response_format=form, middleware=told)
    check(agent.invoke({"messages": [HumanMessage(ASKED)]}, config)["structured_response"].value)
    check((await agent.ainvoke({"messages": [HumanMessage(KOREAN)]}, config))["structured_response"].value)
    for call, done in zip(rows(cost), outputs(cost), strict=True):
        assert call.settled and done["basis"] == "modelled" and done["schema"] == "Invoice"
        assert done["baseline_output"] > call.settled.usage.output > 0
    assert cost.saved > 0 and "llm_savings" not in (model.metadata or {})
    assert_is_the_bill(cost, box)


def test_a_call_of_a_tool_saves_an_agent_nothing(box: Sandbox, cost: CostCallback) -> None:
    agents = pytest.importorskip("langchain.agents")

    @tool
    def stock(sku: str) -> str:
        """How many there are."""
        return f"{sku}: 3"

    form = compact_response_format(Invoice, many=True)
    agent = agents.create_agent(openai(box), [stock], response_format=form, middleware=[CompactFormatMiddleware()])
    asked = {"messages": [HumanMessage(f"How many are in stock? {ASKED}")]}
    agent.invoke(asked, {"callbacks": [cost], "recursion_limit": 12})
    done = outputs(cost)
    assert len(done) > 1 and done[0] == {} and done[-1]["baseline_output"] > 0


def test_some_calls_are_held_out_to_measure_by(
    box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    thrown = iter([0.0] * 20 + [0.9] * 2)
    monkeypatch.setattr("llm_savings.structured.compact._dice", lambda: next(thrown))
    compact = with_compact_output(openai(box), Invoice, many=True, holdout=0.05)
    for n in range(22):
        check(compact.invoke(f"{ASKED} {n}", {"callbacks": [cost]}))
    calls = rows(cost)
    held = [call.settled.usage.output for call in calls[:20] if call.settled]
    assert all(done == {"holdout": True, "form": "plain", "schema": "Invoice"} for done in outputs(cost)[:20])
    assert outputs(cost)[21] == {
        "basis": "measured",
        "baseline_output": round(sum(held) / 20),
        "form": "columns",
        "schema": "Invoice",
        "strict": True,
    }
    found = attribute(calls)
    assert "output" not in found.modelled and found.credits["output"] == cost.saved
    assert_is_the_bill(cost, box)


def test_shadow_and_switched_off(box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch) -> None:
    check(with_compact_output(openai(box), Invoice, many=True, shadow=True).invoke(ASKED, {"callbacks": [cost]}))
    (done,) = outputs(cost)
    assert done["shadow"] is True and done["would_be_output"] < done["baseline_output"]
    assert cost.saved == 0
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    check(with_compact_output(openai(box), Invoice, many=True).invoke(ASKED, {"callbacks": [cost]}))
    assert len(rows(cost)) == 1, "nothing is metered"


@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-5-mini", "o3", "gpt-4.1"])
def test_no_parameter_is_refused(box: Sandbox, cost: CostCallback, name: str) -> None:
    wanted: dict[str, Any] = {"verbosity": "low", "reasoning_effort": "low", "max_words": 200}
    for schema in (Invoice, str):
        with_compact_output(openai(box, model=name), schema, **wanted).invoke(ASKED, {"callbacks": [cost]})
    assert_is_the_bill(cost, box)


def test_a_model_of_anybodys_is_asked_through_its_own_structured_output() -> None:
    class Own(FakeListChatModel):
        def with_structured_output(self, schema: Any, **_: Any) -> Any:
            asked.append(schema)
            return self

    asked: list[Any] = []
    model = Own(responses=['{"number":["7"],"lines.sku":[[]],"lines.quantity":[[]],"lines.unit_price":[[]],'
                           '"paid":[null],"note":[""]}'])  # fmt: skip
    assert with_compact_output(model, Invoice, many=True).invoke(ASKED) == [
        Invoice(number="7", lines=[], paid=None, note="")
    ]
    assert asked[0]["title"] == "Invoice" and "lines.sku" in asked[0]["properties"]
    with pytest.raises(ConfigError, match="structured output"):
        with_compact_output(FakeListChatModel(responses=["{}"]), Invoice).invoke(ASKED)
    with pytest.raises(ConfigError, match="expected a chat model"):
        with_compact_output("gpt-4o", Invoice)  # type: ignore[arg-type]


def test_a_model_that_chooses_another_is_asked_through_it(box: Sandbox, cost: CostCallback) -> None:
    class Chooses(FakeListChatModel):
        def with_structured_output(self, schema: Any, *, include_raw: bool = False, **_: Any) -> Any:
            chosen = openai(box).with_structured_output(schema, include_raw=include_raw)
            return RunnableLambda(lambda asked, config: chosen.invoke(asked, config))

    compact = with_compact_output(Chooses(responses=[]), Invoice, many=True)
    check(compact.invoke(ASKED, {"callbacks": [cost]}))
    assert outputs(cost)[0]["form"] == "columns" and cost.saved > 0
    assert_is_the_bill(cost, box)


async def test_an_error_of_the_provider_is_the_callers(box: Sandbox) -> None:
    compact = with_compact_output(openai(box), Invoice, many=True)
    for _ in range(2):
        box.fail("500")
        with pytest.raises(Exception, match="server had an error"):
            await compact.ainvoke(ASKED)
    assert len(box.bill().rows) == 0


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("asked", ["simple", "complex"])
async def test_a_routed_model_answers_in_columns_too(box: Sandbox, cost: CostCallback, way: str, asked: str) -> None:
    routed = RoutedChatModel(tiers={"simple": openai(box), "complex": anthropic(box)})
    compact = with_compact_output(routed, Invoice, many=True)
    config: Any = {"callbacks": [cost], "metadata": {"at_least": asked}}
    question = "Hi: list the invoices."
    check(compact.invoke(question, config) if way == "invoke" else await compact.ainvoke(question, config))
    settled = [call.settled for call in rows(cost) if call.settled]
    assert {"routing", "output"} <= set(settled[0].strategies)
    assert {one.strategies["routing"]["tier"] for one in settled} >= {asked}
    assert_is_the_bill(cost, box)
