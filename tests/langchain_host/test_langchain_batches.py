"""`submit_batch` gives what `.batch()` gives, for half the money, in another process if need be."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from llm_savings import Budget, BudgetExceededError
from llm_savings.batch import Options
from llm_savings.errors import BatchError, ConfigError
from llm_savings.langchain import CostCallback, SemanticCache, open_batch, submit_batch, track_costs
from llm_savings.sandbox import Sandbox

PROMPT = ChatPromptTemplate.from_messages([("system", "리뷰를 분류해 주세요."), ("user", "{review}")])
REVIEWS = [{"review": f"배송이 {n % 4}일 걸렸어요"} for n in range(6)]


class Review(BaseModel):
    """A review's mood."""

    sentiment: Literal["긍정", "부정"]
    reason: str


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return city


def models(box: Sandbox, most: int = 60) -> dict[str, BaseChatModel]:
    openai: dict[str, Any] = {"model": "gpt-4o-mini", "base_url": box.openai_url, "api_key": "x", "max_tokens": most}
    return {
        "openai": ChatOpenAI(**openai),
        "responses": ChatOpenAI(**openai, use_responses_api=True),
        "anthropic": ChatAnthropic(model="claude-haiku-4-5", base_url=box.anthropic_url, api_key="x", max_tokens=most),
    }


CHAINS: dict[str, Any] = {
    "model": lambda model: PROMPT | model,
    "text": lambda model: PROMPT | model | StrOutputParser(),
    "stop": lambda model: PROMPT | model.bind(stop=["걸"]) | StrOutputParser(),
    "tools": lambda model: PROMPT | model.bind_tools([get_weather]),
    "schema": lambda model: PROMPT | model.with_structured_output(Review),
    "function": lambda model: PROMPT | model.with_structured_output(Review, method="function_calling"),
    "raw": lambda model: PROMPT | model.with_structured_output(Review, include_raw=True),
    "configured": lambda model: PROMPT | model.with_config(tags=["nightly"]) | StrOutputParser(),
}


def shape(value: Any) -> str:
    """What a result is, but for ids and times that every request has for itself."""
    text = re.sub(r"(lc_run-|chatcmpl|msg|call|toolu|resp|rs|fc|req)[-_][-0-9a-f]{8,}", "ID", repr(value))
    return re.sub(r"'created_at': [\d.]+", "", text)


@pytest.mark.parametrize("chain_name", CHAINS)
@pytest.mark.parametrize("model_name", ["openai", "responses", "anthropic"])
def test_the_same_results_as_batch(
    box: Sandbox, cost: CostCallback, tmp_path: Path, model_name: str, chain_name: str
) -> None:
    if (model_name, chain_name) == ("responses", "stop"):
        pytest.skip("the Responses API has no stop sequences")
    chain = CHAINS[chain_name](models(box)[model_name])
    handle = submit_batch(chain, REVIEWS, config={"callbacks": [cost]}, journal=tmp_path / "j.db")
    found = handle.collect(poll=0.01)
    bill = box.bill()
    assert len(bill.rows) == 4 and {row.tier for row in bill.rows} == {"batch"}  # two reviews come twice
    assert cost.spent == bill.total and cost.calls == 4
    assert len(list(cost.ledger.calls())) == 4
    assert [shape(value) for value in found] == [shape(value) for value in chain.batch(REVIEWS)]


def test_the_next_morning_in_another_process(box: Sandbox, tmp_path: Path) -> None:
    chain = CHAINS["schema"](models(box)["openai"])
    box.batches(seconds=0.5)
    evening = CostCallback(tmp_path / "costs.db")
    handle = submit_batch(chain, REVIEWS, config={"callbacks": [evening]}, journal=tmp_path / "j.db")
    evening.ledger.close()
    code = """
import sys
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import create_model
from typing import Literal
from llm_savings.langchain import CostCallback, open_batch

url, name, folder = sys.argv[1:]
cost = CostCallback(folder + "/costs.db")
Review = create_model("Review", sentiment=(Literal["긍정", "부정"], ...), reason=(str, ...))
model = ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="x", max_tokens=60)
chain = ChatPromptTemplate.from_messages([("user", "{review}")]) | model.with_structured_output(Review)
handle = open_batch(name, chain, config={"callbacks": [cost]}, journal=folder + "/j.db")
found = handle.collect(poll=0.05)
print(len(found), type(found[0]).__name__, cost.spent)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, box.openai_url, handle.id, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["6", "Review", str(box.bill().total)], done.stderr
    assert len(box.bill().rows) == 4


class Seen(BaseCallbackHandler):
    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def on_chat_model_start(self, *given: Any, **named: Any) -> None:
        self.events["start"] += 1

    def on_llm_end(self, response: Any, **named: Any) -> None:
        self.events["end"] += 1
        assert response.generations[0][0].message.usage_metadata["total_tokens"] > 0

    def on_llm_error(self, *given: Any, **named: Any) -> None:
        self.events["error"] += 1


def test_callbacks_see_each_line_once(box: Sandbox, tmp_path: Path) -> None:
    seen = Seen()
    chain = CHAINS["text"](models(box)["openai"]).with_config(metadata={"feature": "reviews"})
    with track_costs(":memory:", tags={"app": "shop"}) as cost:
        config: Any = {"callbacks": [seen], "tags": ["nightly"], "metadata": {"user_id": "kim"}}
        handle = submit_batch(chain, REVIEWS, config=config, journal=tmp_path / "j.db")
        assert not seen.events  # nothing has been asked yet
        handle.collect(poll=0.01)
        chain.invoke(REVIEWS[0])  # and from then on calls are metered as ever
    assert seen.events == {"start": 6, "end": 6}
    calls = list(cost.ledger.calls())
    assert len(calls) == 5 and cost.spent == box.bill().total
    batched = [call for call in calls if call.sent.mode == "batch"]
    assert {(call.sent.tags["feature"], call.sent.tags["app"], call.sent.user) for call in batched} == {
        ("reviews", "shop", "kim")
    }
    assert {call.sent.host for call in batched} == {"langchain"}


def test_errors_stay_in_their_places(box: Sandbox, tmp_path: Path) -> None:
    # One line is refused by the provider, one answer is refused by the parser side.
    def picky(text: str) -> str:
        if "3일" in text:
            raise ValueError("no")
        return text

    chain = PROMPT | models(box)["openai"] | StrOutputParser() | RunnableLambda(picky)
    inputs = [*REVIEWS[:3], {"review": "배송 " * 200_000}]
    handle = submit_batch(chain, inputs, journal=tmp_path / "j.db")
    found = handle.collect(poll=0.01, return_exceptions=True)
    wanted = chain.batch(inputs, return_exceptions=True)
    assert [type(value) for value in found] == [type(value) for value in wanted]
    assert isinstance(found[-1], Exception)
    with pytest.raises(type(wanted[-1])):
        handle.collect(poll=0.01)


async def test_the_async_twin(box: Sandbox, tmp_path: Path) -> None:
    handle = submit_batch(CHAINS["text"](models(box)["openai"]), REVIEWS, journal=tmp_path / "j.db")
    assert len(await handle.acollect(poll=0.01)) == 6
    with pytest.raises(BatchError, match="is not done"):
        box.batches(seconds=60)
        more = submit_batch(models(box)["openai"], ["안녕"], journal=tmp_path / "j.db")
        await more.acollect(timeout=0.1, poll=0.01)


def test_a_budget_stops_the_whole_batch(box: Sandbox, tmp_path: Path) -> None:
    cost = CostCallback(":memory:", budget=Budget(daily="0.000001"))
    with pytest.raises(BudgetExceededError):
        submit_batch(models(box)["openai"], ["안녕"], config={"callbacks": [cost]}, journal=tmp_path / "j.db")
    assert not box.bill().rows


def test_what_cannot_be_batched_is_named(box: Sandbox, tmp_path: Path) -> None:
    model = models(box)["openai"]
    for chain, problem in (
        (FakeListChatModel(responses=["a"]), "FakeListChatModel cannot be batched"),
        (PROMPT | StrOutputParser(), "no chat model at its top level"),
        (PROMPT | model | StrOutputParser() | model, "2 chat models"),
    ):
        with pytest.raises(ConfigError, match=problem):
            submit_batch(chain, REVIEWS, journal=tmp_path / "j.db")
    with pytest.raises(BatchError, match="nothing to send"):
        submit_batch(model, [], journal=tmp_path / "j.db")
    with pytest.raises(BatchError, match=r"options\.max_cost"):
        submit_batch(model, ["안녕"], journal=tmp_path / "j.db", options=Options(max_cost="0.0000001"))
    handle = submit_batch(model, ["안녕"], journal=tmp_path / "j.db")
    other = ChatOpenAI(model="gpt-4o", base_url=box.openai_url, api_key="x")
    with pytest.raises(ConfigError, match="is one of model 'gpt-4o-mini'"):
        open_batch(handle.id, other, journal=tmp_path / "j.db")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_streaming_model_streams_nothing_here(box: Sandbox, tmp_path: Path, name: str) -> None:
    model = models(box)[name].model_copy(update={"streaming": True})
    handle = submit_batch(model, ["안녕", "Hello"], journal=tmp_path / "j.db")
    assert [m.content for m in handle.collect(poll=0.01)] == [m.content for m in model.batch(["안녕", "Hello"])]


def test_the_users_model_is_left_alone(box: Sandbox, tmp_path: Path) -> None:
    model = models(box)["anthropic"]
    before = dict(vars(model))
    submit_batch(model, ["안녕"], journal=tmp_path / "j.db").collect(poll=0.01)
    after = {name: value for name, value in vars(model).items() if name in before}
    assert after == before and isinstance(model.invoke("안녕"), AIMessage)


@pytest.mark.parametrize("chain_name", ["text", "schema", "function"])
@pytest.mark.parametrize("model_name", ["openai", "anthropic"])
@pytest.mark.parametrize("make", [SemanticCache, InMemoryCache])
def test_what_the_cache_has_is_not_sent_and_answers_are_put_into_it(
    box: Sandbox, cost: CostCallback, tmp_path: Path, make: Any, model_name: str, chain_name: str
) -> None:
    set_llm_cache(make())
    chain = CHAINS[chain_name](models(box, 2000)[model_name])
    live = chain.batch(REVIEWS[:2], {"callbacks": [cost]})
    paid = box.bill().total
    handle = submit_batch(chain, REVIEWS, config={"callbacks": [cost]}, journal=tmp_path / "j.db", cached=True)
    found = handle.collect(poll=0.01)
    bill = box.bill()
    assert [row.tier for row in bill.rows] == ["standard"] * 2 + ["batch"] * 2  # two of four are known
    assert found[:2] == found[4:6] == live
    assert cost.spent == bill.total > paid
    statuses = Counter(call.settled.status for call in cost.ledger.calls() if call.settled)
    assert statuses == {"ok": 4, "hit": 2}
    hits = [call.settled for call in cost.ledger.calls() if call.settled and call.settled.status == "hit"]
    assert all(hit.actual == 0 and (hit.baseline or 0) > 0 for hit in hits)
    assert chain.batch(REVIEWS) == found  # nothing of it is asked again
    assert len(box.bill().rows) == 4
    assert handle.collect() == found and len(box.bill().rows) == 4


def test_only_the_same_words_are_taken_from_the_cache(box: Sandbox, tmp_path: Path) -> None:
    set_llm_cache(SemanticCache(similarity_threshold=0.0))
    model = models(box, 2000)["openai"]
    asked = ["What is your return policy?", "what is your return policy"]
    model.invoke(asked[0])
    assert model.invoke(asked[1]).response_metadata["llm_savings"]["cache"] == "hit"
    handle = submit_batch(model, asked, journal=tmp_path / "j.db", cached=True)
    first, second = handle.collect(poll=0.01)
    assert first.response_metadata["llm_savings"]["tier"] == "exact" and first.usage_metadata["total_tokens"] == 0
    assert second.usage_metadata["total_tokens"] > 0 and len(box.bill().rows) == 2


def test_a_namespace_keeps_its_answers_to_itself(box: Sandbox, tmp_path: Path) -> None:
    set_llm_cache(SemanticCache())
    model, here = models(box, 2000)["openai"], {"metadata": {"cache_namespace": "a"}}
    there: Any = {"metadata": {"cache_namespace": "b"}}
    model.invoke("환불 규정이 뭐야?")
    model.invoke("환불 규정이 뭐야?", here)
    asked = ["환불 규정이 뭐야?"]
    taken = submit_batch(model, asked, config=here, journal=tmp_path / "j.db", cached=True)
    assert taken.collect(poll=0.01)[0].response_metadata["llm_savings"]["cache"] == "hit"
    options = Options(name="b")
    fresh = submit_batch(model, asked, config=there, journal=tmp_path / "j.db", cached=True, options=options)
    assert fresh.collect(poll=0.01)[0].usage_metadata["total_tokens"] > 0 and len(box.bill().rows) == 3
    assert model.invoke(asked[0], there).response_metadata["llm_savings"]["cache"] == "hit"


def test_a_cache_that_fails_is_no_trouble(box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Away(InMemoryCache):
        def lookup(self, prompt: str, llm_string: str) -> Any:
            raise OSError

    model = models(box, 2000)["openai"].model_copy(update={"cache": Away()})
    assert len(submit_batch(model, ["안녕", "네"], journal=tmp_path / "j.db", cached=True).collect(poll=0.01)) == 2
    assert "was not asked for a batch: OSError" in caplog.text
