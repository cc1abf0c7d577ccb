"""Budgets in LiteLLM's proxy, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest
from litellm_checks import CLAUDE, FAQ, GPT, Metered
from litellm_proxy import KEY, need_proxy, running

from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

need_proxy()

_PLUGIN = """
import os
from llm_savings import Budget
from llm_savings.litellm import CostLogger
costs = CostLogger(os.environ["COSTS"], budget=Budget(total="0.0001", per="user"))
"""
_CONFIG = """
model_list:
  - model_name: small
    litellm_params: {model: %(gpt)s, api_base: "%(openai)s", api_key: sk-test}
  - model_name: other
    litellm_params: {model: %(claude)s, api_base: "%(anthropic)s", api_key: sk-test}
litellm_settings:
  callbacks: [shop_costs.costs]
  num_retries: 2
general_settings: {master_key: %(key)s}
router_settings:
  fallbacks: [{small: [other]}]
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def proxy(shared: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, CostLogger]]:
    """A client of a proxy whose calls are under a budget, and what it writes into."""
    folder = tmp_path_factory.mktemp("proxy")
    given = {"gpt": GPT, "claude": CLAUDE, "openai": shared.openai_url, "anthropic": shared.anthropic_url, "key": KEY}
    with running(folder, _CONFIG % given, {"shop_costs": _PLUGIN}, COSTS=str(folder / "costs.db")) as client:
        yield client, CostLogger(folder / "costs.db")


@pytest.mark.parametrize("stream", [False, True])
async def test_no_request_after_the_limit(
    proxy: tuple[httpx.Client, CostLogger], shared: Sandbox, stream: bool
) -> None:
    client, costs = proxy
    before, rows_before = shared.requests(), len(list(costs.ledger.calls()))
    kim, lee = (f"{name}-{stream}" for name in ("kim", "lee"))

    def ask(user: str, model: str = "small") -> httpx.Response:
        body = {"model": model, "messages": FAQ, "max_tokens": 20, "user": user, "stream": stream}
        return client.post("/v1/chat/completions", json=body)

    answered = 0
    while (answer := ask(kim)).status_code == 200:
        answered += 1
        assert answered < 20
    assert answered >= 3
    assert answer.status_code == 422, answer.text
    assert f"default, total, user={kim}" in answer.json()["error"]["message"]
    assert ask(kim, "other").status_code == 422
    assert client.post("/v1/responses", json={"model": "small", "input": "hi", "user": kim}).status_code == 422
    assert shared.requests() == before + answered
    assert ask(lee).status_code == 200  # nobody else is stopped, and no deployment cools down
    on = Metered(costs, shared)
    on.check_bill(await on.rows(rows_before + answered + 1))
    counters = costs.ledger.budgets.counters().values()
    assert sum(Decimal(c.spent).scaleb(-12) for c in counters) == shared.bill().total
    assert not any(c.reserved for c in counters)
