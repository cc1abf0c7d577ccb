from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, wait
from typing import Any

import litellm
import pytest
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.thread_pool_executor import executor
from litellm_budgets import reports
from litellm_checks import Metered, until
from litellm_semantic import with_cache

from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


@pytest.fixture
def own_box() -> Iterator[Sandbox]:
    """The same for one test alone, for requests that may still be billed after the test."""
    with Sandbox(pause=0.002) as box:
        yield box


@pytest.fixture(autouse=True)
def _litellm_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LiteLLM copies `callbacks` into five other lists and keeps them there; and it reports from threads of its own."""
    reporting: list[Future[Any]] = []

    def submitted(*given: Any, **named: Any) -> Future[Any]:
        reporting.append(submit(*given, **named))
        return reporting[-1]

    submit = executor.submit
    monkeypatch.setattr(executor, "submit", submitted)
    for name in _LISTS:
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "cache", None)
    monkeypatch.setattr(litellm, "num_retries", None)
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    for name in ("LiteLLM", "LiteLLM Router"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    yield
    wait(reporting, timeout=5)  # else the next test's logger would hear of this test's calls
    for name in _LISTS:
        getattr(litellm, name).clear()


@pytest.fixture
def costs() -> CostLogger:
    """A logger on a ledger in memory, switched on."""
    logger = CostLogger(":memory:")
    litellm.callbacks = [logger]
    return logger


@pytest.fixture
def metered(costs: CostLogger, box: Sandbox) -> Metered:
    """The logger and the sandbox, with the ways to call and to check."""
    return Metered(costs, box)


@pytest.fixture
def metered_alone(costs: CostLogger, own_box: Sandbox) -> Metered:
    return Metered(costs, own_box)


@pytest.fixture
async def all_reported() -> AsyncIterator[None]:
    """No report of a test's calls under budgets comes in the middle of the next test."""
    reports.__init__()
    yield
    for _ in until(5):
        if reports.left <= reports.ended:
            break
        await asyncio.sleep(0.005)


@pytest.fixture
async def semantic(metered: Metered) -> AsyncIterator[Metered]:
    """The logger and the sandbox, with a semantic cache in memory."""
    with_cache()
    yield metered
    litellm.cache = None
    await GLOBAL_LOGGING_WORKER.flush()  # no report of this test's calls comes in the middle of the next test
