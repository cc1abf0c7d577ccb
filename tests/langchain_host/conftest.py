from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from langchain_core.globals import set_llm_cache

from llm_savings.langchain import CostCallback
from llm_savings.sandbox import Sandbox

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # LangChain keeps one async connection pool a base URL, and a pool belongs to the event loop that made it.
    for item in items:
        if item.path.parent == HERE and isinstance(item, pytest.Function) and iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture
def own_box() -> Iterator[Sandbox]:
    """The same for one test alone, for requests that may still be billed after the test."""
    with Sandbox() as box:
        yield box


@pytest.fixture
def cost() -> CostCallback:
    return CostCallback(":memory:")


@pytest.fixture(autouse=True)
def _no_cache_is_left() -> Iterator[None]:
    yield
    set_llm_cache(None)
