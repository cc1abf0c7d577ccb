"""Both callbacks on one ledger: a call of ChatLiteLLM is one row, a call of LiteLLM's own is one row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_checks import WAYS, Way, litellm_anthropic, litellm_openai, openai, rows

from llm_savings import Ledger
from llm_savings.langchain import CostCallback
from llm_savings.litellm import CostLogger
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


LISTS = (
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


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


async def quiet(ledger: Ledger, expected: int) -> None:
    """Wait for LiteLLM's logging, which runs behind the answer."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        calls = list(ledger.calls())
        if len(calls) >= expected and all(call.settled for call in calls):
            return
        await asyncio.sleep(0.02)
