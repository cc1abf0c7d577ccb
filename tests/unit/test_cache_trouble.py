"""How long a cache's store is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_savings.errors import CacheError
from llm_savings.semantic_cache import tally, trouble


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


def test_hits_that_could_not_be_written_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_DELAY", 60.0)
    now, written = datetime(2026, 11, 2, tzinfo=UTC), list[dict[str, Any]]()

    class Store:
        away = True

        def used(self, uses: dict[str, Any]) -> None:
            if self.away:
                raise CacheError("away")
            written.append(uses)

        def add(self, owner: str, deltas: dict[str, int]) -> None:
            raise CacheError("away")

    store: Any = Store()
    found = tally.Tally(store)
    found.used("a", now, now + timedelta(seconds=9))
    found.used("b", now, None)
    found.flush()
    found.used("a", now + timedelta(seconds=1), now + timedelta(seconds=10))
    store.away = False
    found.add("stats:", {"lookups": 1})  # what fails after it takes nothing back
    found.flush()
    found.flush()
    assert written == [{"a": (2, now + timedelta(seconds=1), now + timedelta(seconds=10)), "b": (1, now, None)}]
