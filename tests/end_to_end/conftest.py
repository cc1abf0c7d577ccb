from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_savings.sandbox import Sandbox


@pytest.fixture(scope="module")
def _sandbox() -> Iterator[Sandbox]:
    """A provider for each module: LangChain's async pool for an address belongs to the event loop that made it."""
    with Sandbox() as box:
        yield box
