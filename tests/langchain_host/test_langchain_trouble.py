"""A callback must never be in the way: broken ledgers, slow ledgers, defects of its own, hosts that end nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_checks import (
    WAYS,
    Way,
    ainvoke,
    anthropic,
    assert_is_the_bill,
    astream,
    openai,
    openai_with_usage,
    rows,
)
from langchain_core.messages import HumanMessage

from llm_savings import ConfigError, Ledger
from llm_savings.langchain import CostCallback, costs
from llm_savings.sandbox import Sandbox


@pytest.mark.parametrize("way", WAYS)
async def test_a_corrupt_ledger_breaks_nothing_and_loses_nothing(
    way: Way, box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"this is no database" * 300)
    cost = CostCallback(path)
    with caplog.at_level(logging.WARNING, "llm_savings"):
        await way(openai_with_usage(box), ["a", "b"], {"callbacks": [cost]})
        assert not cost.ledger.flush()
    assert len(caplog.records) == 1, caplog.text
    assert "records wait" in caplog.text
    assert cost.spent == box.bill().total > 0
    path.unlink()
    assert Ledger(path).flush()
    assert Ledger(path).summary("total")[0].actual == box.bill().total


@pytest.mark.parametrize("way", WAYS)
async def test_a_locked_ledger_breaks_nothing_and_loses_nothing(way: Way, box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    cost = CostCallback(path)
    await way(openai_with_usage(box), ["a"], {"callbacks": [cost]})
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    await way(openai_with_usage(box), ["b"], {"callbacks": [cost]})
    blocker.execute("ROLLBACK")
    blocker.close()
    assert cost.ledger.flush()
    assert_is_the_bill(cost, box)


def test_a_ledger_in_no_folder_is_a_clear_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        CostCallback(tmp_path / "nowhere" / "costs.db")


@pytest.mark.parametrize("way", [ainvoke, astream])
async def test_the_event_loop_goes_on_while_the_ledger_writes(
    way: Way, box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on: list[bool] = []
    loop = asyncio.get_running_loop()

    def waiting_for_the_loop(write: Any) -> Any:
        def slow(*given: Any) -> None:
            # Were this on the loop's own thread, nobody could set the event and the wait would end in False.
            ticked = threading.Event()
            loop.call_soon_threadsafe(ticked.set)
            went_on.append(ticked.wait(5))
            write(*given)

        return slow

    monkeypatch.setattr(cost.ledger, "sent", waiting_for_the_loop(cost.ledger.sent))
    monkeypatch.setattr(cost.ledger, "settle", waiting_for_the_loop(cost.ledger.settle))
    box.fail("500-after", retry_after=0.01)
    await way(anthropic(box, max_retries=1), ["hello"], {"callbacks": [cost]})
    # The call and the attempt before it, each written and settled.
    assert went_on == [True] * 4


@pytest.mark.parametrize("way", WAYS)
async def test_a_defect_of_ours_is_logged_once_and_the_call_goes_on(
    way: Way,
    box: Sandbox,
    cost: CostCallback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    told = costs._Once()
    monkeypatch.setattr(costs, "_once", told)
    monkeypatch.setattr(costs, "read_answer", broken)
    with caplog.at_level(logging.ERROR, "llm_savings"):
        assert await way(openai(box, stream_usage=True), ["a", "b"], {"callbacks": [cost]})
    assert [record.message for record in caplog.records] == ["on_llm_end failed"]
    # The rows are there, at their bounds.
    assert [call.basis for call in rows(cost)] == ["unknown", "unknown"]


def test_runs_that_never_end_do_not_fill_the_memory(cost: CostCallback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_MOST", 3)
    for _ in range(10):
        cost.on_chat_model_start({}, [[HumanMessage("hello")]], run_id=uuid4())
    assert len(cost._open) == 3
    assert [call.status for call in rows(cost)] == ["sent"] * 10


def test_nothing_is_left_behind(box: Sandbox) -> None:
    cost = CostCallback(":memory:")
    openai(box).invoke("hello", config={"callbacks": [cost]})
    assert not cost._open
    gone = weakref.ref(cost)
    del cost
    gc.collect()
    assert gone() is None


def test_prompts_and_keys_are_in_no_row_and_no_log(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cost = CostCallback(tmp_path / "costs.db")
    with caplog.at_level(logging.DEBUG, "llm_savings"):
        openai(box, api_key="sk-very-secret").invoke("my private question", config={"callbacks": [cost]})
        box.fail("429", retry_after=0)
        with pytest.raises(Exception, match="Rate limit"):
            openai(box, api_key="sk-very-secret").invoke("my private question", config={"callbacks": [cost]})
    cost.ledger.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + caplog.text.encode()
    assert b"private" not in kept
    assert b"sk-very" not in kept
