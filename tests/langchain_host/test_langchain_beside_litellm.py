"""Both callbacks on one ledger: a call of ChatLiteLLM is one row, a call of LiteLLM's own is one row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_checks import WAYS, Way, litellm_anthropic, litellm_openai, openai, rows, stream

from llm_savings import Ledger, PriceBook
from llm_savings.attribution import attribute
from llm_savings.demo.drive import LISTS
from llm_savings.langchain import CostCallback
from llm_savings.litellm import CostLogger, SemanticCache
from llm_savings.sandbox import Sandbox


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "costs.db")


@pytest.fixture
def logger(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[CostLogger]:
    logger = CostLogger(str(ledger.target))
    before = {name: list(getattr(litellm, name)) for name in LISTS}
    monkeypatch.setattr(litellm, "callbacks", [logger])
    yield logger
    for name, kept in before.items():
        setattr(litellm, name, kept)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", [litellm_openai, litellm_anthropic])
async def test_one_call_is_one_row(client: Any, way: Way, box: Sandbox, ledger: Ledger, logger: CostLogger) -> None:
    cost = CostCallback(ledger)
    await way(client(box), ["a", "b"], {"callbacks": [cost]})
    asked: Any = [{"role": "user", "content": "hi"}]
    litellm.completion("openai/gpt-4o-mini", asked, api_base=box.openai_url, api_key="x")
    await litellm.acompletion("openai/gpt-4o-mini", asked, api_base=box.openai_url, api_key="x")
    await quiet(ledger, 4)
    bill = box.bill()
    assert len(bill.rows) == 4
    assert sorted(call.sent.host for call in rows(cost)) == ["langchain", "langchain", "litellm", "litellm"]
    assert sorted(call.settled.actual for call in rows(cost) if call.settled) == sorted(row.usd for row in bill.rows)
    assert cost.spent + logger.spent == bill.total


@pytest.mark.parametrize("way", WAYS[:4])
async def test_a_hidden_retry_is_one_row_more(way: Way, box: Sandbox, ledger: Ledger, logger: CostLogger) -> None:
    cost = CostCallback(ledger)
    box.fail("500-after", retry_after=0.01)
    await way(litellm_openai(box), ["a"], {"callbacks": [cost]})
    await quiet(ledger, 2)
    assert sorted(call.basis for call in rows(cost)) == ["measured", "unknown"]
    assert cost.spent == box.bill().rows[1].usd
    assert logger.calls == 0


async def test_a_retry_is_of_the_call_that_is_made_again(box: Sandbox, ledger: Ledger, logger: CostLogger) -> None:
    # LiteLLM's stream is still open, in the same context and for the same model.
    cost = CostCallback(ledger)
    asked: Any = [{"role": "user", "content": "hi"}]
    pieces = litellm.completion("openai/gpt-4o-mini", asked, api_base=box.openai_url, api_key="x", stream=True)
    next(pieces)
    box.fail("500-after", retry_after=0.01)
    openai(box, max_retries=2).invoke("hi", config={"callbacks": [cost]})
    list(pieces)
    await quiet(ledger, 3)
    known = sorted((call.sent.host, call.basis) for call in rows(cost))
    assert known == [("langchain", "measured"), ("langchain", "unknown"), ("litellm", "measured")]
    assert len(box.bill().rows) == 3


async def test_two_ledgers_in_memory_have_the_call_each(
    box: Sandbox, logger: CostLogger, cost: CostCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CostLogger(":memory:")
    monkeypatch.setattr(litellm, "callbacks", [other])
    litellm_openai(box).invoke("a", {"callbacks": [cost]})
    await quiet(other.ledger, 1)
    assert [call.sent.host for call in rows(cost)] == ["langchain"]
    assert [call.sent.host for call in other.ledger.calls()] == ["litellm"]
    assert cost.spent == other.spent == box.bill().total


@pytest.fixture
def _litellms_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastapi", "orjson"):
        pytest.importorskip(name, reason=f"litellm.cache needs {name}, of litellm[proxy]")
    monkeypatch.setattr(litellm, "cache", litellm.Cache())


@pytest.mark.usefixtures("_litellms_cache")
@pytest.mark.parametrize("hosts", ["LangChain", "both"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", [litellm_openai, litellm_anthropic])
async def test_what_litellms_cache_answers_is_a_hit(
    client: Any, way: Way, hosts: str, box: Sandbox, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    if hosts == "both":
        request.getfixturevalue("logger")
    cost = CostCallback(ledger)
    for count in (1, 2):
        await way(client(box), ["a"], {"callbacks": [cost]})
        await quiet(ledger, count)
        await asyncio.sleep(0.05)  # for a second report that must not come
    paid, hit = rows(cost)
    price = box.bill().total
    assert box.requests() == 1
    assert [(call.status, call.settled.actual) for call in (paid, hit) if call.settled] == [("ok", price), ("hit", 0)]
    assert {call.sent.host for call in (paid, hit)} == {"langchain"}
    assert (cost.spent, cost.saved, cost.calls) == (price, price, 2)


@pytest.mark.usefixtures("_litellms_cache")
@pytest.mark.parametrize("way", WAYS)
async def test_what_our_cache_answers_as_litellms_is_credited_to_it(
    way: Way, box: Sandbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "cache", SemanticCache(audit_rate=0))  # else a few hits are asked again
    cost, model = CostCallback(ledger), litellm_openai(box)
    for count, question in enumerate(("배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"), start=1):
        await way(model, [question], {"callbacks": [cost]})
        await quiet(ledger, count)
    paid, hit = rows(cost)
    assert paid.settled and hit.settled
    assert (paid.status, hit.status, box.requests()) == ("ok", "hit", 1)
    found = hit.settled.strategies["semantic_cache"]
    assert (found["cache"], found["tier"]) == ("hit", "semantic")
    assert attribute([paid, hit], PriceBook()).credits["semantic_cache"] == cost.saved == box.bill().total


@pytest.mark.usefixtures("_litellms_cache")
async def test_a_hit_that_is_left_early_is_free(box: Sandbox, ledger: Ledger) -> None:
    cost, model = CostCallback(ledger), litellm_openai(box)
    await stream(model, ["a"], {"callbacks": [cost]})
    pieces = model.stream("a", {"callbacks": [cost]})
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert [call.status for call in rows(cost)] == ["ok", "hit"]
    assert cost.spent == box.bill().total


@pytest.mark.usefixtures("_litellms_cache")
async def test_a_hit_of_litellms_own_is_its_own(box: Sandbox, ledger: Ledger, logger: CostLogger) -> None:
    cost = CostCallback(ledger)
    asked: Any = {"messages": [{"role": "user", "content": "b"}], "api_base": box.openai_url, "api_key": "x"}
    litellm_openai(box).invoke("a", {"callbacks": [cost]})
    for count in (2, 3):
        litellm.completion("openai/gpt-4o-mini", **asked)
        await quiet(ledger, count)
    assert [(call.sent.host, call.status) for call in rows(cost)] == [
        ("langchain", "ok"),
        ("litellm", "ok"),
        ("litellm", "hit"),
    ]


async def quiet(ledger: Ledger, expected: int) -> None:
    """Wait for LiteLLM's logging, which runs behind the answer."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        calls = list(ledger.calls())
        if len(calls) >= expected and all(call.settled for call in calls):
            return
        await asyncio.sleep(0.02)
