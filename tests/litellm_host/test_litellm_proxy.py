"""Budgets in LiteLLM's proxy, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

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


@pytest.fixture
def proxy(box: Sandbox, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a proxy whose calls are under a budget."""
    given = {"gpt": GPT, "claude": CLAUDE, "openai": box.openai_url, "anthropic": box.anthropic_url, "key": KEY}
    with running(tmp_path, _CONFIG % given, {"shop_costs": _PLUGIN}, COSTS=str(tmp_path / "costs.db")) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
async def test_no_request_after_the_limit(proxy: httpx.Client, box: Sandbox, tmp_path: Path, stream: bool) -> None:
    def ask(user: str, model: str = "small") -> httpx.Response:
        body = {"model": model, "messages": FAQ, "max_tokens": 20, "user": user, "stream": stream}
        return proxy.post("/v1/chat/completions", json=body)

    answered = 0
    while (answer := ask("kim")).status_code == 200:
        answered += 1
        assert answered < 20
    assert answered >= 3
    assert answer.status_code == 422, answer.text
    assert "default, total, user=kim" in answer.json()["error"]["message"]
    assert ask("kim", "other").status_code == 422
    assert proxy.post("/v1/responses", json={"model": "small", "input": "hi", "user": "kim"}).status_code == 422
    assert box.requests() == answered
    assert ask("lee").status_code == 200  # nobody else is stopped, and no deployment cools down
    costs = CostLogger(tmp_path / "costs.db")
    on = Metered(costs, box)
    on.check_bill(await on.rows(answered + 1))
    counters = costs.ledger.budgets.counters().values()
    assert sum(Decimal(c.spent).scaleb(-12) for c in counters) == box.bill().total
    assert not any(c.reserved for c in counters)
