"""How long a cache's store is left alone."""

from __future__ import annotations

import pytest

from llm_savings.errors import CacheError
from llm_savings.semantic_cache import trouble


def test_calls_that_fail_together_are_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(trouble.time, "monotonic", lambda: now)
    found = trouble.Trouble("cache")
    for _ in range(8):
        found.ended("lookup", CacheError("away"))
    now += 1.5
    assert not found.lasts()
    found.ended("lookup", CacheError("away"))  # it still is: now for longer
    now += 1.5
    assert found.lasts()
