"""One option puts all of the plug-in in shadow: a real proxy, told by variables alone. And the switch that stops it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.router import Router
from litellm_checks import GPT, Metered
from litellm_proxy import need_proxy
from proxy_plugin import EASY, plugged

from llm_savings.ledger import Ledger
from llm_savings.litellm.proxy.options import read_options
from llm_savings.litellm.proxy.plug import ProxySavings

LONG = "You help the customers of a shop. " * 700
TIERS = "{tiers: {simple: mini, complex: big}}"


def test_a_shadow_decides_and_records_and_changes_nothing(tmp_path: Path) -> None:
    need_proxy()
    told = {
        "LLM_SAVINGS_LEDGER": str(tmp_path / "costs.db"),
        "LLM_SAVINGS_SHADOW": "true",
        "LLM_SAVINGS_ROUTING": TIERS,
        "LLM_SAVINGS_BUDGETS": '[{total: "0.2", per: user}]',
    }
    with plugged(tmp_path, "", **told) as proxy:
        heads: list[Any] = []
        for _ in range(2):
            heads.append(proxy.post("ann.shadow.", EASY, "auto").headers)
            time.sleep(0.5)
        assert [head["x-llm-savings-model"] for head in heads] == ["gpt-4o", "gpt-4o"]
        assert heads[1]["x-llm-savings-cache-reason"] == "shadow"
        assert heads[1]["x-llm-savings-strategies"] == "routing;shadow,semantic_cache;shadow"
        claude = proxy.anthropic("ann.shadow.")
        for number in range(3):
            turn: Any = [{"role": "user", "content": f"Where is order {number}?"}]
            said = claude.messages.create(model="claude", max_tokens=60, system=LONG, messages=turn)
            assert not said.usage.cache_creation_input_tokens and not said.usage.cache_read_input_tokens
        assert proxy.box.requests() == 5
        assert proxy.post("ann.shadow.", "n?", "big", max_tokens=16_000, n=2).status_code == 422, "budgets hold"
        rows = proxy.rows("ann", 5)
        first = rows[0].settled
        assert first and (first.strategies["routing"]["chosen"], first.strategies["routing"]["shadow"]) == (
            "simple",
            True,
        )
        assert all(row.settled and row.settled.actual == row.settled.baseline for row in rows)
        last = rows[-1].settled
        assert last and last.strategies["prompt_cache"]["marks"] and last.strategies["prompt_cache"]["shadow"]
        proxy.check_bill()


async def test_switched_off_everything_passes(
    metered: Metered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    ledger = tmp_path / "off.db"
    plug = ProxySavings(read_options(None, {"LLM_SAVINGS_LEDGER": str(ledger), "LLM_SAVINGS_ROUTING": TIERS}))
    litellm.callbacks = [plug]
    router = Router([metered.deployment("mini", GPT), metered.deployment("big", "openai/gpt-4o")])
    assert plug.options.routing is not None
    plug.options.routing.attach(router)
    for _ in range(2):
        answer = await router.acompletion(model="auto", messages=[{"role": "user", "content": EASY}])
        assert answer.model == "gpt-4o-2024-08-06"
        data = {"litellm_logging_obj": None}
        assert await plug.async_post_call_response_headers_hook(data, None, answer) is None
    assert metered.box.requests() == 2 and not list(Ledger(ledger).calls())
    assert str(plug) == repr(plug)  # asked for at every answer: nothing is added up for it
