"""Budgets in every mode of LiteLLM: zero requests after the limit, and counters, ledger and bill that agree."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import litellm
import openai
import pytest
from langchain_litellm import ChatLiteLLM
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import CLAUDE, EMBED, FAQ, GPT, Metered, called, failing, until

from llm_savings import Budget, CostCallback, errors
from llm_savings.litellm import CostLogger
from llm_savings.litellm.stops import stop_of
from llm_savings.sandbox import Sandbox

ASK = {"messages": FAQ, "max_tokens": 20}
# At $0.15 and $0.60 a million tokens FAQ and 20 tokens are held at $0.0000141 and may cost about $0.0000138.
SMALL = Budget(total="0.00005")
GONE = Budget(total="0.000000001")


class Reports(CustomLogger):
    """Which calls have left, and of which LiteLLM has told the end."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.ended = set[str](), set[str]()

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self.left.add(kwargs["litellm_call_id"])

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.ended.add(kwargs["litellm_call_id"])

    log_failure_event = log_success_event

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.ended.add(kwargs["litellm_call_id"])

    async_log_failure_event = async_log_success_event


reports = Reports()


@pytest.fixture(autouse=True)
async def _all_reported() -> AsyncIterator[None]:
    """No report of a test's calls comes in the middle of the next test."""
    reports.__init__()
    yield
    for _ in until(5):
        if reports.left <= reports.ended:
            break
        await asyncio.sleep(0.005)


def metered(box: Sandbox, *budgets: Budget, ledger: str | Path = ":memory:") -> Metered:
    costs = CostLogger(ledger, budget=budgets)
    litellm.callbacks = [costs, reports]
    return Metered(costs, box)


async def drained(call: Callable[[], Any]) -> Any:
    """The answer of a call; all pieces of a stream."""
    answer = call()
    if inspect.isawaitable(answer):
        answer = await answer
        return [piece async for piece in answer] if hasattr(answer, "__aiter__") else answer
    return list(answer) if hasattr(answer, "__next__") else answer


def ways(on: Metered) -> dict[str, Callable[[], Any]]:
    """Every way to call the SDK; each may leave a stream to be read."""
    gpt, claude, embed, over = (on.to(model) for model in (GPT, CLAUDE, EMBED, "openai/responses/gpt-4o-mini"))
    found: dict[str, Callable[[], Any]] = {}
    for name, a in (("sync", ""), ("async", "a")):
        complete, text = getattr(litellm, f"{a}completion"), getattr(litellm, f"{a}text_completion")
        respond = partial(getattr(litellm, f"{a}responses"), input="hello", max_output_tokens=20)
        complete, text = partial(complete, **ASK), partial(text, prompt="hello", max_tokens=20)
        found |= {
            f"{name} chat": partial(complete, **gpt),
            f"{name} chat claude": partial(complete, **claude),
            f"{name} stream": partial(complete, **gpt, stream=True),
            f"{name} stream claude": partial(complete, **claude, stream=True),
            f"{name} chat over responses": partial(complete, **over),
            f"{name} text": partial(text, **gpt),
            f"{name} text stream": partial(text, **gpt, stream=True),
            f"{name} embedding": partial(getattr(litellm, f"{a}embedding"), **embed, input=["a parcel " * 20]),
            f"{name} responses": partial(respond, **gpt),
            f"{name} responses stream": partial(respond, **gpt, stream=True),
            f"{name} responses claude": partial(respond, **claude),
        }
    found["async anthropic claude"] = partial(litellm.anthropic.messages.acreate, **claude, **ASK)
    found["async anthropic gpt"] = partial(litellm.anthropic.messages.acreate, **gpt, **ASK)
    found["async with fallbacks"] = partial(litellm.acompletion, **gpt, **ASK, fallbacks=[GPT])
    return found


WAYS = list(ways(Metered(None, type("Box", (), {"openai_url": "", "anthropic_url": ""})())))  # type: ignore[arg-type]


async def spend(on: Metered, call: Callable[[], Any]) -> tuple[int, Exception]:
    """Calls until nothing fits even when all has been settled: how many were answered, and the error."""
    count, before, error = 0, -1, None
    while count != before:
        before = count
        try:
            while count < 400:
                await drained(call)
                count += 1
        except Exception as stopped:
            error = stopped
        await on.rows(count)
    assert error is not None, "nothing stops it"
    return count, error


async def check(on: Metered, calls: int) -> None:
    """The provider's bill, the ledger and the counters are one and the same."""
    rows = await on.rows(calls)
    on.check_bill(rows)
    bill = on.box.bill().total
    counters = on.costs.ledger.budgets.counters()
    assert {(Decimal(c.spent).scaleb(-12), c.reserved) for c in counters.values()} == {(bill, 0)}
    assert on.costs.spent == bill


@pytest.mark.parametrize("way", WAYS)
async def test_no_request_after_the_limit(box: Sandbox, way: str) -> None:
    limit = "0.00001" if "embedding" in way else "0.0005" if "claude" in way else "0.00005"
    on = metered(box, Budget(total=limit))
    count, error = await spend(on, ways(on)[way])
    assert count >= 2
    assert box.requests() == count
    assert isinstance(error, errors.BudgetExceededError), repr(error)
    assert isinstance(error, litellm.BudgetExceededError)
    assert not isinstance(error, openai.RateLimitError)
    await check(on, count)
    assert box.bill().total <= Decimal(limit)


@pytest.mark.parametrize("way", WAYS)
async def test_one_row_and_one_hold_a_call(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="1"), Budget(per_call="0.01", daily="2", name="other"))
    await drained(ways(on)[way])
    (row,) = await on.rows(1)
    assert row.settled and row.settled.actual is not None
    assert row.sent.reserved is not None and row.sent.reserved >= row.settled.actual
    assert len(row.sent.budgets) == 2
    await check(on, 1)


@pytest.mark.parametrize("way", ["sync chat", "async chat", "async stream"])
async def test_what_the_error_says(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(daily="0.00002", per="user"))
    ask = {**on.to(GPT), **ASK, "user": "kim", "stream": "stream" in way}
    call = litellm.acompletion if "async" in way else litellm.completion
    await drained(lambda: call(**ask))
    await on.rows(1)
    error = await failing(lambda: call(**ask))
    assert isinstance(error, errors.BudgetExceededError) and isinstance(error, litellm.BudgetExceededError)
    assert (error.spent, error.reserved, error.limit) == (box.bill().total, 0, Decimal("0.00002"))
    assert error.resets_at is not None and error.needed is not None
    assert (error.current_cost, error.max_budget) == (float(box.bill().total), 0.00002)
    assert (error.status_code, error.message) == (422, str(error))
    assert "default, daily, user=kim" in str(error) and "return policy" not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.limit) == (type(error), str(error), error.limit)
    assert str(copy.copy(error)) == str(error)
    # everybody else goes on
    await drained(lambda: call(**{**ask, "user": "lee"}))
    missing = await failing(lambda: call(**{**ask, "user": None}))
    assert isinstance(missing, errors.UnscopedCallError) and isinstance(missing, litellm.BudgetExceededError)
    assert box.requests() == 2


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_what_nothing_bounds_is_stopped(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(daily="10", strict=True))
    error = await failing(lambda: getattr(litellm, way)(**on.to(GPT), messages=FAQ))
    assert isinstance(error, errors.UnboundedCallError) and isinstance(error, litellm.BudgetExceededError)
    error = await failing(lambda: getattr(litellm, way)(**on.to("openai/nobody-knows-it"), **ASK))
    assert isinstance(error, errors.UnboundedCallError)
    await called(lambda: getattr(litellm, way)(**on.to(GPT), **ASK))
    assert box.requests() == 1
    assert len(await on.rows(1)) == 1


def test_every_budget_error_has_a_twin() -> None:
    for kind in (errors.UnboundedCallError, errors.UnscopedCallError, errors.BudgetUnavailableError):
        twin = stop_of(kind("why"))
        assert isinstance(twin, kind) and isinstance(twin, litellm.BudgetExceededError)
        assert str(twin) == "why" and not isinstance(twin, openai.APIError)
        assert str(stop_of(twin)) == "why"


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_a_defect_stops_the_call_where_money_is_at_stake(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    on = metered(box, SMALL)
    monkeypatch.setattr("llm_savings.litellm.costs.call_sent", lambda *_, **__: 1 / 0)
    error = await failing(lambda: getattr(litellm, way)(**on.to(GPT), **ASK))
    assert isinstance(error, errors.BudgetUnavailableError), repr(error)
    assert box.requests() == 0


# Retries and fallbacks


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_a_refusal_is_not_retried(box: Sandbox, way: str) -> None:
    on = metered(box, GONE)
    began = time.monotonic()
    error = await failing(lambda: getattr(litellm, way)(**on.to(GPT), **ASK, num_retries=3))
    assert isinstance(error, errors.BudgetExceededError)
    assert box.requests() == 0
    assert time.monotonic() - began < 5  # LiteLLM's own retries wait for longer


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_each_retry_holds_its_own(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.00004"))
    box.fail("500-after", times=None)
    await failing(lambda: getattr(litellm, way)(**on.to(GPT), **ASK, num_retries=4, max_retries=0))
    assert box.requests() == 2, "two are held at $0.0000141 each, a third has no room"
    rows = await on.rows(2)
    assert {row.basis for row in rows} == {"unknown"}
    (counter,) = on.costs.ledger.budgets.counters().values()
    held = sum(row.sent.reserved or 0 for row in rows)
    assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (held, 0)
    assert box.bill().total <= held


@pytest.mark.parametrize("way", ["sync chat", "async chat", "sync stream", "async stream"])
async def test_a_client_that_sends_again_is_stopped(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.00002"))
    box.fail("500-after", times=None)
    error = await failing(lambda: drained(partial(ways(on)[way], max_retries=2)))
    assert isinstance(error, errors.BudgetExceededError), repr(error)
    assert box.requests() == 1
    (row,) = await on.rows(1)
    assert (row.status, row.basis) == ("error", "unknown")
    (counter,) = on.costs.ledger.budgets.counters().values()
    assert (Decimal(counter.spent).scaleb(-12), counter.reserved) == (row.sent.reserved, 0)


def router(on: Metered, **named: Any) -> litellm.Router:
    models = [on.deployment("small", GPT, max_tokens=20), on.deployment("other", "openai/gpt-4.1-nano", max_tokens=20)]
    return litellm.Router(
        model_list=models, **{"num_retries": 2, "retry_after": 0, "fallbacks": [{"small": ["other"]}], **named}
    )


ROUTED = ("completion", "acompletion", "stream", "astream", "atext_completion", "aembedding", "aresponses")


def routed(on: Metered, way: str, **named: Any) -> Callable[[], Any]:
    route = router(on, **named)
    match way:
        case "stream" | "astream":
            call = route.completion if way == "stream" else route.acompletion
            return lambda: call("small", messages=FAQ, stream=True)
        case "atext_completion":
            return lambda: route.atext_completion("small", prompt="hello")
        case "aembedding":
            route.set_model_list([on.deployment("small", EMBED)])
            return lambda: route.aembedding("small", input=["a parcel " * 20])
        case "aresponses":
            return lambda: route.aresponses(model="small", input="hello", max_output_tokens=20)
        case _:
            return lambda: getattr(route, way)("small", messages=FAQ)


@pytest.mark.parametrize("way", ROUTED)
async def test_a_router_stops(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.00001" if "embedding" in way else "0.00005"))
    count, error = await spend(on, routed(on, way, fallbacks=[]))
    assert count >= 2
    assert box.requests() == count
    assert isinstance(error, errors.BudgetExceededError) and isinstance(error, litellm.BudgetExceededError)
    await check(on, count)


@pytest.mark.parametrize("way", ["completion", "acompletion", "stream", "astream"])
async def test_retries_and_fallbacks_do_not_get_around_it(box: Sandbox, way: str) -> None:
    on = metered(box, GONE)
    call = routed(on, way)
    for _ in range(3):
        error = await failing(call)
        assert isinstance(error, errors.BudgetExceededError), repr(error)
    assert box.requests() == 0
    assert await on.rows(0) == []


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_each_attempt_of_a_router_holds_its_own(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.00004"))
    box.fail("500-after", times=None)
    await failing(routed(on, way, num_retries=5, fallbacks=[]))
    assert box.requests() == 2
    rows = await on.rows(2)
    assert box.bill().total <= sum(row.sent.reserved or 0 for row in rows) <= Decimal("0.00004")


async def test_a_user_without_money_stops_nobody_else(box: Sandbox) -> None:
    on = metered(box, Budget(total="0.00002", per="user"))
    route = router(on, fallbacks=[], allowed_fails=0, cooldown_time=60)
    await route.acompletion("small", messages=FAQ, user="kim")
    await on.rows(1)
    for _ in range(3):
        assert isinstance(
            await failing(lambda: route.acompletion("small", messages=FAQ, user="kim")), errors.BudgetExceededError
        )
    await route.acompletion("small", messages=FAQ, user="lee")
    assert box.requests() == 2


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
    threads: dict[str, list[int]] = {"reserve": [], "settle": []}

    def watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            threads[name].append(threading.get_ident())
            return step(*given, **named)

        return noted

    monkeypatch.setattr(on.costs.ledger, "reserve", watched("reserve", on.costs.ledger.reserve))
    monkeypatch.setattr(on.costs.ledger, "settle", watched("settle", on.costs.ledger.settle))
    calls = [call for way, call in ways(on).items() if way.startswith("async")]
    for call in (*calls, routed(on, "acompletion")):
        await drained(call)
    box.fail("429", retry_after=0)
    await failing(partial(calls[0], max_retries=0))
    await on.rows(len(calls) + 2)
    assert len(threads["reserve"]) == len(threads["settle"]) == len(calls) + 2
    assert threading.get_ident() not in threads["reserve"] + threads["settle"]


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
