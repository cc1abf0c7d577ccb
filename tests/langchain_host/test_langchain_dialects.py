"""The ways in which LangChain's clients pass a provider's counts on, and lose some of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_canned import (
    TEXT,
    Canned,
    anthropic_message,
    anthropic_stream,
    openai_chat,
    openai_response,
    openai_stream,
)
from langchain_checks import only, rows
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI

from llm_savings import Usage
from llm_savings.langchain import CostCallback
from llm_savings.langchain.answers import read_answer
from llm_savings.langchain.hosted import hosted_tools
from llm_savings.langchain.requests import Start
from llm_savings.meter import Answer
from llm_savings.pricing import PriceBook

WRITTEN = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3000,
    "cache_read_input_tokens": 2000,
    "output_tokens": 7,
    "service_tier": "standard",
}


def writes(five: int, hour: int) -> dict[str, Any]:
    return {
        **WRITTEN,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
    }


def marked(*ttls: str | None) -> list[Any]:
    blocks = [
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}
        for ttl in ttls
    ]
    return [SystemMessage(blocks), HumanMessage("Where is my refund?")]


def anthropic(box: Canned) -> ChatAnthropic:
    return ChatAnthropic(model="claude-sonnet-4-5", base_url=box.url, api_key="x", max_retries=0)


def litellm_anthropic(box: Canned) -> ChatLiteLLM:
    return ChatLiteLLM(model="anthropic/claude-sonnet-4-5", api_base=box.url, api_key="x", max_retries=0)


def openai(box: Canned, **given: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": "gpt-4o", "base_url": box.url, "api_key": "x", "max_retries": 0} | given)


def litellm_openai(box: Canned, **given: Any) -> ChatLiteLLM:
    return ChatLiteLLM(**{"model": "openai/gpt-4o", "api_base": box.url, "api_key": "x", "max_retries": 0} | given)


def outcome(cost: CostCallback) -> tuple[str, Decimal | None, Usage]:
    row = only(cost)
    assert row.settled is not None
    return row.basis, row.settled.actual, row.settled.usage


SPLITS = [(3000, 0), (0, 3000), (1000, 2000), (1, 2999)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("client", [anthropic, litellm_anthropic])
def test_cache_writes_keep_their_time_to_live(client: Any, split: tuple[int, int], cost: CostCallback) -> None:
    with Canned(anthropic_message(writes(*split))) as box:
        client(box).invoke(marked(None), config={"callbacks": [cost]})
    usage = Usage(input=10, cache_read=2000, cache_write_5m=split[0], cache_write_1h=split[1], output=7)
    # $3 a million in, $0.30 read, $3.75 and $6 written, $15 out, by hand.
    by_hand = (10 * 3 + 2000 * Decimal("0.3") + split[0] * Decimal("3.75") + split[1] * 6 + 7 * 15) / 1_000_000
    assert outcome(cost) == ("measured", by_hand, usage)
    assert cost.saved == Decimal(5010 * 3 + 7 * 15) / 1_000_000 - by_hand


@pytest.mark.parametrize("split", SPLITS)
def test_litellms_streams_lose_the_split_and_their_cost_brings_it_back(
    split: tuple[int, int], cost: CostCallback
) -> None:
    with Canned(anthropic_stream(writes(*split))) as box:
        list(litellm_anthropic(box).stream(marked("1h", None), config={"callbacks": [cost]}))
    usage = Usage(input=10, cache_read=2000, cache_write_5m=split[0], cache_write_1h=split[1], output=7)
    basis, _, found = outcome(cost)
    assert (basis, found) == ("measured", usage)


@pytest.mark.parametrize(
    ("ttls", "basis", "hour"),
    [
        ([None], "measured", False),
        (["5m"], "measured", False),
        (["1h"], "measured", True),
        (["1h", "1h"], "measured", True),
        (["1h", "5m"], "estimated", True),
        ([], "estimated", False),  # written, and no mark in sight: another hand put one there
    ],
)
def test_anthropics_streams_lose_the_split_and_the_marks_tell(
    ttls: list[str | None], basis: str, hour: bool, cost: CostCallback
) -> None:
    with Canned(anthropic_stream(writes(3000, 0))) as box:
        list(anthropic(box).stream(marked(*ttls) if ttls else "hello", config={"callbacks": [cost]}))
    usage = Usage(input=10, cache_read=2000, output=7) + (
        Usage(cache_write_1h=3000) if hour else Usage(cache_write_5m=3000)
    )
    found = outcome(cost)
    assert (found[0], found[2]) == (basis, usage)


def test_marks_on_tools_and_on_the_request_are_seen(cost: CostCallback) -> None:
    with Canned(anthropic_stream(writes(0, 3000))) as box:
        model = anthropic(box)
        tool = {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        list(model.bind(tools=[tool]).stream("hello", config={"callbacks": [cost]}))
        mark = {"type": "ephemeral", "ttl": "1h"}
        list(model.bind(cache_control=mark).stream("hello", config={"callbacks": [cost]}))
    for row in rows(cost):
        assert row.settled is not None
        assert (row.basis, row.settled.usage.cache_write_1h) == ("measured", 3000)


def test_an_unknown_cost_of_litellms_decides_nothing(cost: CostCallback) -> None:
    # With prices of the user's own, LiteLLM's cost is on another list; the marks decide.
    prices = PriceBook().with_overrides(
        {"claude-sonnet-4-5": {"input": "1", "output": "1", "cache_write_5m": "1.1", "cache_write_1h": "1.7"}}
    )
    own = CostCallback(":memory:", prices=prices)
    with Canned(anthropic_stream({**writes(0, 3000), "cache_read_input_tokens": 0})) as box:
        list(litellm_anthropic(box).stream(marked("1h"), config={"callbacks": [own]}))
    row = only(own)
    assert row.settled is not None and row.settled.usage.cache_write_1h == 3000


@pytest.mark.parametrize("client", [openai, litellm_openai])
def test_several_choices_are_billed_once(client: Any, cost: CostCallback) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 14, "total_tokens": 25}
    with Canned(openai_chat(usage, texts=("a", "b"))) as box:
        client(box, n=2, max_tokens=20).generate([[HumanMessage("hello")]], callbacks=[cost])
    assert outcome(cost) == ("measured", Decimal("0.0001675"), Usage(input=11, output=14))
    bound = only(cost).sent.bound
    assert bound is not None and bound >= Decimal(2 * 20 * 10) / 1_000_000


def answered(*usages: tuple[int, int], **meta: Any) -> Answer:
    """What is read of an answer whose client gives nothing but LangChain's own usage, once a choice."""
    messages = [
        AIMessage(
            "hi",
            id="run-1",
            usage_metadata={"input_tokens": i, "output_tokens": o, "total_tokens": i + o},
            response_metadata=meta,
        )
        for i, o in usages
    ]
    result = LLMResult(generations=[[ChatGeneration(message=message) for message in messages]])
    return read_answer(result, Start(None, "hello", {"run_id": uuid4()}), PriceBook())


def test_choices_that_repeat_the_usage_and_choices_that_share_it() -> None:
    assert answered((11, 14), (11, 14)).usage == Usage(input=11, output=14)
    assert answered((11, 14), (0, 9)).usage == Usage(input=11, output=23)


def test_an_answer_grounded_in_a_search_costs_more_than_its_tokens() -> None:
    assert answered((1, 2), grounding_metadata={"web_search_queries": ["x"]}).unpriced
    assert not answered((1, 2), grounding_metadata={"web_search_queries": []}).unpriced


@pytest.mark.parametrize("client", [openai, litellm_openai])
def test_openais_cached_and_written_tokens(client: Any, cost: CostCallback) -> None:
    usage = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
    }
    with Canned(openai_chat(usage)) as box:
        client(box).invoke("hello", config={"callbacks": [cost]})
    assert outcome(cost) == ("measured", Decimal("0.005615"), Usage(input=86, cache_read=1920, output=300))
    assert cost.saved == Decimal("0.0024")


@pytest.mark.parametrize("client", [openai, litellm_openai])
def test_an_answer_without_usage_is_counted_here(client: Any, cost: CostCallback) -> None:
    with Canned(openai_chat(None)) as box:
        client(box).invoke("Where is my refund?", config={"callbacks": [cost]})
    assert outcome(cost) == ("estimated", Decimal("0.0001"), Usage(input=12, output=7))


def test_litellm_makes_up_the_usage_of_a_stream_that_has_none(cost: CostCallback) -> None:
    with Canned(openai_stream(None)) as box:
        list(litellm_openai(box).stream("Where is my refund?", config={"callbacks": [cost]}))
    assert outcome(cost)[0] == "estimated"


def test_a_stream_with_an_image_and_no_usage_is_unknown(cost: CostCallback) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with Canned(openai_stream(None)) as box:
        question = HumanMessage([{"type": "text", "text": "What is this?"}, image])
        list(openai(box, max_tokens=9).stream([question], config={"callbacks": [cost]}))
    assert outcome(cost)[0] == "unknown"
    bound = only(cost).sent.bound
    assert bound is not None and bound > Decimal("0.001")


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 9}},
        {"prompt_tokens": -5, "completion_tokens": 7, "total_tokens": 2},
    ],
)
def test_counts_that_contradict_themselves_are_suspect(usage: dict[str, Any], cost: CostCallback) -> None:
    with Canned(openai_chat(usage)) as box:
        assert openai(box).invoke("hello", config={"callbacks": [cost]}).text == TEXT
    assert outcome(cost)[:2] == ("suspect", None)
    assert cost.lines[0].unknown == 1


def test_a_model_that_nobody_has_a_price_for(cost: CostCallback) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    with Canned({**openai_chat(usage), "model": "llama-of-ours"}) as box:
        openai(box, model="llama-of-ours").invoke("hello", config={"callbacks": [cost]})
    assert outcome(cost) == ("unpriced", None, Usage(input=5, output=7))
    assert (cost.lines[0].unpriced, cost.spent) == (1, 0)


def test_models_without_usage_or_name_break_nothing(cost: CostCallback) -> None:
    FakeListChatModel(responses=["a"]).invoke("hello", config={"callbacks": [cost]})
    FakeListLLM(responses=["a"]).invoke("hello", config={"callbacks": [cost]})
    list(FakeListLLM(responses=["abc"]).stream("hello", config={"callbacks": [cost]}))
    assert {row.basis for row in rows(cost)} == {"unpriced"}
    assert {row.sent.requested_model for row in rows(cost)} == {"FakeListChatModel", "FakeListLLM"}


class Completions(BaseLLM):
    """A plain LLM that sends several prompts in one request, as OpenAI's completions do."""

    model_name: str = "gpt-3.5-turbo-instruct"
    reports: bool = True

    def _generate(self, prompts: list[str], *_: Any, **__: Any) -> LLMResult:
        usage = {"prompt_tokens": 4 * len(prompts), "completion_tokens": 5 * len(prompts), "total_tokens": 9}
        return LLMResult(
            generations=[[Generation(text="one two")] for _ in prompts],
            llm_output={"token_usage": usage if self.reports else {}, "model_name": self.model_name},
        )

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "llm"}

    @property
    def _llm_type(self) -> str:
        return "completions"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_several_prompts_in_one_request_are_billed_once(asynchronous: bool, cost: CostCallback) -> None:
    prompts = ["a", "b", "c"]
    config: Any = {"callbacks": [cost]}
    await Completions().abatch(prompts, config) if asynchronous else Completions().batch(prompts, config)
    assert [row.status for row in rows(cost)] == ["ok"] * 3
    assert {row.basis for row in rows(cost)} == {"measured"}
    # $1.50 in and $2.00 out a million.
    assert cost.spent == Decimal("0.000048")
    assert sum((row.settled.usage for row in rows(cost) if row.settled), Usage()) == Usage(input=12, output=15)
    assert not cost._open and not cost._batches


def test_the_run_that_has_the_usage_may_end_last(cost: CostCallback) -> None:
    params = {"model": "gpt-3.5-turbo-instruct"}
    first, second = uuid4(), uuid4()
    for run_id in (first, second):
        cost.on_llm_start({}, ["a"], run_id=run_id, invocation_params=params, batch_size=2)
    whole, rest = Completions()._generate(["a", "a"]).flatten()
    cost.on_llm_end(rest, run_id=second)
    assert cost.calls == 0
    cost.on_llm_end(whole, run_id=first)
    assert {row.basis for row in rows(cost)} == {"measured"}
    assert sum((row.settled.usage for row in rows(cost) if row.settled), Usage()) == Usage(input=8, output=10)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_several_prompts_that_nobody_counted_are_each_estimated(asynchronous: bool, cost: CostCallback) -> None:
    model, config = Completions(reports=False), {"callbacks": [cost]}
    await model.abatch(["a", "b"], config) if asynchronous else model.batch(["a", "b"], config)  # type: ignore[arg-type]
    assert [row.basis for row in rows(cost)] == ["estimated", "estimated"]
    assert all(row.settled and row.settled.actual for row in rows(cost))


def test_one_prompt_of_a_plain_llm(cost: CostCallback) -> None:
    Completions().invoke("a", config={"callbacks": [cost]})
    assert outcome(cost) == ("measured", Decimal("0.000016"), Usage(input=4, output=5))


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
OPENED = {**SEARCH, "id": "ws_2", "action": {"type": "open_page", "url": "https://example.com"}}
SANDBOXED = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "container_id": "c"}
RESPONDED = {
    "input_tokens": 100,
    "output_tokens": 10,
    "total_tokens": 110,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
def test_searches_are_charged_beside_the_tokens(version: str, cost: CostCallback) -> None:
    with Canned(openai_response(RESPONDED, SEARCH, OPENED, {**SEARCH, "id": "ws_3"})) as box:
        model = openai(box, model="gpt-5", use_responses_api=True, output_version=version)
        model.invoke("hello", config={"callbacks": [cost]})
    # $1.25 in and $10 out a million, $10 a thousand searches.
    assert outcome(cost) == ("measured", Decimal("0.020225"), Usage(input=100, output=10, web_searches=2))


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
def test_what_no_usage_carries_is_unpriced(version: str, cost: CostCallback) -> None:
    with Canned(openai_response(RESPONDED, SANDBOXED)) as box:
        model = openai(box, model="gpt-5", use_responses_api=True, output_version=version)
        model.invoke("hello", config={"callbacks": [cost]})
    assert outcome(cost) == ("unpriced", None, Usage(input=100, output=10))


def test_anthropics_searches_are_charged_beside_the_tokens(cost: CostCallback) -> None:
    with Canned(anthropic_message({**WRITTEN, "server_tool_use": {"web_search_requests": 3}})) as box:
        anthropic(box).invoke(marked(None), config={"callbacks": [cost]})
    assert outcome(cost)[2].web_searches == 3
    assert cost.spent > Decimal("0.03")


def test_a_tool_of_ones_own_that_searches_is_not_charged() -> None:
    mine = {"type": "tool_use", "name": "web_search", "id": "t", "input": {}}
    hosted = {"type": "server_tool_use", "name": "web_search", "id": "s", "input": {"query": "x"}}
    assert hosted_tools([AIMessage([mine, {"type": "text", "text": "web_search"}])]) == (0, False)
    assert hosted_tools([AIMessage([mine, hosted])]) == (1, False)


def test_history_with_tool_calls_is_within_the_bound(cost: CostCallback) -> None:
    usage = {"prompt_tokens": 400, "completion_tokens": 7, "total_tokens": 407}
    call = {"name": "order_status", "args": {"order_id": "x" * 900}, "id": "call_1"}
    with Canned(openai_chat(usage)) as box:
        history = [HumanMessage("hi"), AIMessage("", tool_calls=[call])]
        openai(box, max_tokens=7).invoke(history, config={"callbacks": [cost]})
    bound = only(cost).sent.bound
    assert bound is not None and bound > Decimal(900) * Decimal("2.5") / 1_000_000
