"""Budgets in every mode of LiteLLM: zero requests after the limit, and counters, ledger and bill that agree."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from functools import partial

import litellm
import openai
import pytest
from litellm_budgets import (
    ASK,
    GONE,
    ROUTED,
    SMALL,
    WAYS,
    check,
    drained,
    metered,
    reports,
    routed,
    router,
    spend,
    ways,
)
from litellm_checks import FAQ, GPT, called, failing

from llm_savings import Budget, errors
from llm_savings.litellm.stops import stop_of
from llm_savings.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("all_reported")


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
    error = await failing(lambda: getattr(litellm, way)(**on.to(GPT), **ASK, num_retries=3))
    assert isinstance(error, errors.BudgetExceededError)
    assert box.requests() == 0
    assert reports.announced <= 1


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_each_retry_holds_its_own(box: Sandbox, way: str) -> None:
    on = metered(box, Budget(total="0.00004"))
    box.fail("500-after", times=None)
    error = await failing(lambda: getattr(litellm, way)(**on.to(GPT), **ASK, num_retries=4, max_retries=0))
    assert isinstance(error, errors.BudgetExceededError), repr(error)
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
    error = await failing(routed(on, way, num_retries=5, fallbacks=[]))
    assert isinstance(error, errors.BudgetExceededError), repr(error)
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
