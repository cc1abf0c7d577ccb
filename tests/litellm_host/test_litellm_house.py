"""It never gets in the way: switched off, broken, killed, or left running for long."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import FAQ, Metered, called, until

from llm_savings import Ledger
from llm_savings.litellm import CostLogger
from llm_savings.litellm.attempts import Attempt
from llm_savings.sandbox import Sandbox

WAYS = ("complete", "acomplete", "stream", "astream")


def test_hooks_have_litellms_parameter_names() -> None:
    own = {name for name in vars(CostLogger) if "log_" in name or "_hook" in name}
    assert own == {
        "async_pre_call_deployment_hook",
        "log_pre_api_call",
        "log_post_api_call",
        "log_success_event",
        "log_failure_event",
        "async_log_success_event",
        "async_log_failure_event",
    }
    for name in own:
        theirs = inspect.signature(getattr(CustomLogger, name)).parameters
        assert list(inspect.signature(getattr(CostLogger, name)).parameters) == list(theirs)


class Reports(CustomLogger):
    """Counts LiteLLM's reports of successes; goes after the logger in `litellm.callbacks`."""

    count = 0

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.count += 1

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.count += 1

    async def came(self) -> None:
        """Waits for the first, so that it does not come in the middle of the next test."""
        for _ in until():
            await asyncio.sleep(0.005)
            if self.count:
                return


@pytest.mark.parametrize("way", WAYS)
async def test_switched_off_it_does_nothing(metered: Metered, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    reports = Reports()
    litellm.callbacks.append(reports)
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    await called(lambda: getattr(metered, way)())
    await reports.came()
    assert (reports.count, metered.box.requests()) == (1, 1)
    assert list(metered.costs.ledger.calls()) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_defect_is_logged_and_the_call_goes_on(
    metered: Metered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("defect")

    reports = Reports()
    litellm.callbacks.append(reports)
    monkeypatch.setattr("llm_savings.litellm.costs.call_sent", broken)
    with caplog.at_level(logging.ERROR, "llm_savings"):
        await called(lambda: getattr(metered, way)())
        await reports.came()
    assert metered.box.requests() == 1
    assert "not metered" in caplog.text
    assert "return policy" not in caplog.text


async def test_other_loggers_may_copy_what_they_share(metered: Metered) -> None:
    copied: list[Any] = []

    class Copying(CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            copied.append(copy.deepcopy({key: value for key, value in kwargs.items() if "savings" in key}))
            copied.append(repr(kwargs))

    litellm.callbacks.append(Copying())
    metered.complete()
    metered.check_bill([await metered.row()])
    assert len(copied) == 2


async def test_nothing_piles_up(metered: Metered) -> None:
    for _ in range(5):
        metered.complete()
        await metered.acomplete()
        metered.stream()
        await metered.astream()
    metered.box.fail("429", times=None, retry_after=0)
    for _ in range(3):
        with pytest.raises(litellm.RateLimitError):
            metered.complete(max_retries=0)
    await metered.rows(23)
    for _ in until():
        await asyncio.sleep(0.005)
        alive = sum(isinstance(thing, Attempt) for thing in gc.get_objects())
        if not alive:
            break
    assert alive == 0


def test_its_repr(costs: CostLogger) -> None:
    assert str(costs) == "CostLogger(':memory:'): 0 calls, $0.00 spent, $0.00 saved"
    assert repr(costs) == "CostLogger(':memory:')"  # LiteLLM asks for it in every call
    assert "CostLogger" in costs._repr_html_()
    assert costs.lines == []
    hidden = CostLogger.__new__(CostLogger)
    assert not hasattr(hidden, "nonsense")


_SCRIPT = """
import asyncio, sys
import litellm
from llm_savings.litellm import CostLogger
litellm.callbacks = [CostLogger(sys.argv[1])]
ask = {"model": "openai/gpt-4o-mini", "api_base": sys.argv[2], "api_key": "x"}
ask["messages"] = [{"role": "user", "content": "hi"}]
async def main():
    await litellm.acompletion(**ask)
    if "die" in sys.argv:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
litellm.completion(**ask)
list(litellm.completion(stream=True, **ask))
"""


def run(path: Path, box: Sandbox, *extra: str) -> int:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _SCRIPT, str(path), box.openai_url, *extra]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, timeout=120).returncode


def test_a_program_that_ends_at_once_loses_nothing(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    assert run(path, box) == 0
    rows = list(Ledger(path).calls())
    assert [row.basis for row in rows] == ["measured"] * 3
    assert sum(row.settled.actual or 0 for row in rows if row.settled) == box.bill().total


def test_a_program_killed_on_delivery_leaves_an_unknown(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    assert run(path, box, "die") == -9
    (row,) = Ledger(path).calls()
    assert (row.status, row.basis) == ("sent", "unknown")
    assert row.sent.bound is not None
    assert box.bill().total <= row.sent.bound


async def test_an_unwritable_ledger_does_not_stop_a_call(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"this is no database" * 1_000)
    costs = CostLogger(path)
    litellm.callbacks = [costs]
    answer = await Metered(costs, box).acomplete()
    assert answer.choices[0].message.content
    for _ in until():
        await asyncio.sleep(0.005)
        if costs.calls:
            break
    assert costs.spent == box.bill().total
    assert path.read_bytes().startswith(b"this is no database")
    assert FAQ[0]["content"].encode() not in b"".join(
        file.read_bytes() for file in tmp_path.iterdir() if file.is_file()
    )
