"""Budgets where LiteLLM does more than send: its cache, LangChain above it, other hooks, many calls at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_litellm import ChatLiteLLM
from litellm.integrations.custom_logger import CustomLogger
from litellm_budgets import (
    ASK,
    GONE,
    SMALL,
    check,
    drained,
    metered,
    reports,
    routed,
    spend,
    ways,
)
from litellm_checks import FAQ, GPT, Metered, called, failing

from llm_savings import Budget, CostCallback, errors
from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("all_reported")


# Cached answers


@pytest.fixture
def cached() -> None:
    for name in ("fastapi", "orjson"):
        pytest.importorskip(name, reason=f"litellm.cache needs {name}, of litellm[proxy]")
    litellm.cache = litellm.Cache()


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    "way", ["sync chat", "sync stream", "async chat", "async stream", "sync embedding", "async embedding"]
)
async def test_a_hit_is_answered_when_the_money_is_gone(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.0001"))
    call = ways(on)[way]
    await drained(call)
    await on.rows(1)
    bill = box.bill().total
    on = metered(box, GONE)
    for _ in range(2):
        assert await drained(call)
    assert box.requests() == 1
    rows = await on.rows(2)
    assert [row.status for row in rows] == ["hit", "hit"]
    assert (on.costs.spent, on.costs.saved) == (0, 2 * bill)
    assert all(not c.spent and not c.reserved for c in on.costs.ledger.budgets.counters().values())
    litellm.cache = litellm.Cache()
    error = await failing(call)
    assert isinstance(error, errors.BudgetExceededError), repr(error)
    assert box.requests() == 1


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("way", ["sync chat", "sync stream", "async chat", "async stream"])
async def test_a_hit_frees_what_was_held(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.0001"))
    await drained(ways(on)[way])
    await on.rows(1)
    for _ in range(20):
        await drained(ways(on)[way])
    rows = await on.rows(21)
    assert [row.status for row in rows] == ["ok"] + ["hit"] * 20
    (counter,) = on.costs.ledger.budgets.counters().values()
    assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (box.bill().total, 0)


# LangChain over LiteLLM


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_through_both_hosts_a_call_is_held_once(box: Sandbox, tmp_path: Path, way: str) -> None:
    budget, path = Budget(total="0.00005"), tmp_path / "costs.db"
    on, cost = metered(box, budget, ledger=path), CostCallback(path, budget=budget)
    chat = ChatLiteLLM(**on.to(GPT), max_tokens=20, max_retries=0, streaming="stream" in way)

    async def call() -> Any:
        answer = getattr(chat, way)(FAQ[0]["content"], config={"callbacks": [cost]})
        if way == "stream":
            return list(answer)
        return [piece async for piece in answer] if way == "astream" else await called(lambda: answer)

    count, error = await spend(on, call)
    assert count >= 2
    assert isinstance(error, errors.BudgetExceededError)
    assert box.requests() == count
    rows = await on.rows(count)
    assert {row.sent.host for row in rows} == {"langchain"}
    (counter,) = on.costs.ledger.budgets.counters().values()
    assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (box.bill().total, 0)


async def test_a_budget_that_the_other_host_does_not_keep_is_told(box: Sandbox, tmp_path: Path) -> None:
    metered(box, Budget(total="1"), ledger=tmp_path / "costs.db")
    chat = ChatLiteLLM(**Metered(None, box).to(GPT), max_retries=0)  # type: ignore[arg-type]
    cost = CostCallback(tmp_path / "costs.db")
    for way in ("invoke", "ainvoke"):
        error = await failing(lambda way=way: getattr(chat, way)("hello", config={"callbacks": [cost]}))
        assert isinstance(error, errors.BudgetUnavailableError), repr(error)
        assert "give both the same budget" in str(error)
    assert box.requests() == 0


# The event loop, concurrency, several loggers


async def test_the_ledger_does_not_hold_up_the_event_loop(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    on = metered(box, Budget(total="1"))
    waiting: list[bool] = []  # of each hold, whether it could have waited here, where the event loop is
    here, reserve = threading.get_ident(), on.costs.ledger.reserve

    def watched(*given: Any, now: bool = False) -> Any:
        found = reserve(*given, now=now)
        waiting.append(threading.get_ident() == here and not now)
        return found

    monkeypatch.setattr(on.costs.ledger, "reserve", watched)
    calls = [call for way, call in ways(on).items() if way.startswith("async")]
    rest = {name: value for name, value in on.to(GPT).items() if name != "model"}
    calls.append(partial(litellm.acompletion, GPT, FAQ, max_tokens=20, **rest))
    for call in (*calls, routed(on, "acompletion")):
        await drained(call)
    box.fail("429", retry_after=0)
    await failing(partial(calls[0], max_retries=0))
    await on.rows(len(calls) + 2)
    assert waiting == [False] * (len(calls) + 2)


async def test_a_file_that_others_hold_is_waited_for_in_a_thread(box: Sandbox, tmp_path: Path) -> None:
    on = metered(box, Budget(total="1"), ledger=tmp_path / "costs.db")
    await litellm.acompletion(**on.to(GPT), **ASK)  # the file is open from here on
    await on.rows(1)
    other = sqlite3.connect(tmp_path / "costs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    call = asyncio.create_task(litellm.acompletion(**on.to(GPT), **ASK))
    for _ in range(40):  # the loop goes on meanwhile
        await asyncio.sleep(0.005)
    assert not call.done() and box.requests() == 1
    other.execute("COMMIT")
    other.close()
    await call
    await check(on, 2)
    assert not any("#" in row.sent.call_id for row in on.costs.ledger.calls())


@pytest.mark.parametrize("way", ["acompletion", "completion"])
async def test_many_at_once_never_pass_the_limit(box: Sandbox, tmp_path: Path, way: str) -> None:
    on = metered(box, Budget(total="0.0003"), ledger=tmp_path / "costs.db")

    async def one() -> bool:
        ask = {**on.to(GPT), **ASK}
        try:
            await (litellm.acompletion(**ask) if way == "acompletion" else asyncio.to_thread(litellm.completion, **ask))
        except errors.BudgetExceededError:
            return False
        return True

    answered = sum(await asyncio.gather(*(one() for _ in range(60))))
    assert 18 <= answered == box.requests() < 60
    assert box.bill().total <= Decimal("0.0003")
    await check(on, answered)


async def test_two_loggers_with_budgets(box: Sandbox, tmp_path: Path) -> None:
    rich, poor = CostLogger(tmp_path / "rich.db", budget=Budget(total="1")), CostLogger(":memory:", budget=SMALL)
    twin = CostLogger(tmp_path / "rich.db", budget=Budget(total="1"))
    for order in ([rich, twin, poor], [poor, twin, rich]):
        litellm.callbacks = [*order, reports]
        for call in (litellm.completion, litellm.acompletion):
            before = box.requests()
            for _ in range(400):
                try:
                    await called(lambda call=call: call(**Metered(rich, box).to(GPT), **ASK))
                except errors.BudgetExceededError:
                    break
            assert box.requests() - before < 6
    for logger in (rich, poor):
        for _ in range(200):
            (counter,) = logger.ledger.budgets.counters().values()
            if not counter.reserved:
                break
            await asyncio.sleep(0.02)
        assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (box.bill().total, 0)


async def test_a_request_that_grew_is_held_again(box: Sandbox) -> None:
    class Adding(CustomLogger):
        async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
            return {**kwargs, "messages": [{"role": "system", "content": "Be polite. " * 100}, *kwargs["messages"]]}

    on = metered(box, Budget(total="0.0001"))
    litellm.callbacks = [on.costs, Adding(), reports]
    await litellm.acompletion(**on.to(GPT), **ASK)
    rows = await on.rows(2)
    on.check_bill(rows)
    assert sorted((row.status, row.settled.actual) for row in rows if row.settled) == [
        ("error", 0),
        ("ok", box.bill().total),
    ]
    (counter,) = on.costs.ledger.budgets.counters().values()
    assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (box.bill().total, 0)


async def test_a_call_that_never_leaves_frees_what_it_held(box: Sandbox) -> None:
    on = metered(box, Budget(total="1"))
    error = await failing(lambda: litellm.acompletion(**on.to(GPT), **ASK, tools="nonsense", temperature={"a": 1}))
    assert not isinstance(error, errors.BudgetError)
    for _ in range(200):
        counters = on.costs.ledger.budgets.counters().values()
        if not any(counter.reserved for counter in counters):
            break
        await asyncio.sleep(0.02)
    assert [(counter.spent, counter.reserved) for counter in counters] in ([(0, 0)], [])


async def test_without_a_budget_nothing_changes(box: Sandbox) -> None:
    on = metered(box)
    await litellm.acompletion(**on.to(GPT), **ASK)
    litellm.completion(**on.to(GPT), **ASK)
    for row in await on.rows(2):
        assert row.sent.reserved is None and row.sent.budgets == ()


async def test_switched_off_nothing_is_stopped(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    on = metered(box, GONE)
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    await litellm.acompletion(**on.to(GPT), **ASK)
    litellm.completion(**on.to(GPT), **ASK)
    assert box.requests() == 2
