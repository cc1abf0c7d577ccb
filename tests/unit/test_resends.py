"""Clients that send again by themselves: each listener hears of it once, off the event loop, and nothing breaks."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llm_savings import resends

Heard = list[tuple[str, str | None]]
whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class SyncAPIClient:
    slept = 0

    def _sleep_for_retry(self, *, options: Any, response: Any) -> str:
        type(self).slept += 1
        return "slept"


class AsyncAPIClient:
    async def _sleep_for_retry(self, *, options: Any, response: Any) -> str:
        return "slept"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A client that is not imported yet."""
    module = ModuleType("imaginary._base_client")
    module.SyncAPIClient = type("SyncAPIClient", (), dict(vars(SyncAPIClient)))  # type: ignore[attr-defined]
    module.AsyncAPIClient = type("AsyncAPIClient", (), dict(vars(AsyncAPIClient)))  # type: ignore[attr-defined]
    monkeypatch.setattr(resends, "_unwatched", {module.__name__})
    monkeypatch.setattr(resends, "_listeners", [])
    yield module
    sys.modules.pop(module.__name__, None)


def asked(status: int | None = 500, model: Any = "gpt-4o") -> dict[str, Any]:
    response = None if status is None else SimpleNamespace(status_code=status)
    return {"options": SimpleNamespace(json_data={"model": model}), "response": response}


def test_each_listener_is_told_once_however_often_it_asks(client: ModuleType) -> None:
    first: Heard = []
    second: Heard = []

    def one(error: BaseException, model: str | None) -> None:
        first.append((str(error), model))

    def two(error: BaseException, model: str | None) -> None:
        second.append((str(error), model))

    resends.watch(one)  # before the import
    sys.modules[client.__name__] = client
    for _ in range(3):
        resends.watch(one)
        resends.watch(two)
    assert client.SyncAPIClient()._sleep_for_retry(**asked()) == "slept"
    assert first == second == [("HTTP 500", "gpt-4o")]
    assert client.SyncAPIClient.slept == 1
    assert client.SyncAPIClient._sleep_for_retry.__name__ == "_sleep_for_retry"
    assert not hasattr(client.SyncAPIClient._sleep_for_retry, "__wrapped__")


def test_a_client_that_is_half_imported_is_watched_later(client: ModuleType) -> None:
    heard: list[BaseException] = []

    def listener(error: BaseException, _: str | None) -> None:
        heard.append(error)

    later = client.AsyncAPIClient
    del client.AsyncAPIClient
    sys.modules[client.__name__] = client
    resends.watch(listener)
    client.AsyncAPIClient = later  # type: ignore[attr-defined]
    resends.watch(listener)
    client.SyncAPIClient()._sleep_for_retry(**asked())
    assert [getattr(error, "status_code", None) for error in heard] == [500]


def test_only_what_may_have_been_billed_is_told(client: ModuleType) -> None:
    heard: list[BaseException] = []
    sys.modules[client.__name__] = client
    resends.watch(lambda error, _: heard.append(error))
    wait = client.SyncAPIClient()._sleep_for_retry
    wait(**asked(429))
    wait(**asked(None))
    assert not heard
    try:
        raise TimeoutError
    except TimeoutError as error:
        wait(**asked(None, model=None))
        assert heard == [error]


async def test_the_event_loop_goes_on_and_the_context_is_the_requests(client: ModuleType) -> None:
    heard: list[tuple[str, str, bool]] = []
    loops_thread = threading.get_ident()

    def listener(error: BaseException, _: str | None) -> None:
        heard.append((type(error).__name__, whose.get(), threading.get_ident() == loops_thread))

    sys.modules[client.__name__] = client
    resends.watch(listener)

    async def request(name: str) -> None:
        whose.set(name)
        try:
            raise TimeoutError
        except TimeoutError:
            assert await client.AsyncAPIClient()._sleep_for_retry(**asked(None)) == "slept"

    await asyncio.gather(request("mine"), request("yours"))
    assert sorted(heard) == [("TimeoutError", "mine", False), ("TimeoutError", "yours", False)]


def test_another_event_loop_than_asyncios_will_do(client: ModuleType) -> None:
    heard: list[BaseException] = []
    sys.modules[client.__name__] = client
    resends.watch(lambda error, _: heard.append(error))
    with pytest.raises(StopIteration, match="slept"):
        client.AsyncAPIClient()._sleep_for_retry(**asked()).send(None)
    assert len(heard) == 1


async def test_a_defect_is_logged_and_the_request_is_sent_again(
    client: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(error: BaseException, _: str | None) -> None:
        raise ZeroDivisionError

    sys.modules[client.__name__] = client
    resends.watch(broken)
    assert client.SyncAPIClient()._sleep_for_retry(**asked()) == "slept"
    assert await client.AsyncAPIClient()._sleep_for_retry(**asked()) == "slept"
    assert [record.message for record in caplog.records] == ["a retry was not metered"] * 2


def test_a_release_without_the_method_goes_unwatched(client: ModuleType) -> None:
    del client.SyncAPIClient._sleep_for_retry
    del client.AsyncAPIClient._sleep_for_retry
    sys.modules[client.__name__] = client
    resends.watch(lambda *_: None)
    assert not hasattr(client.SyncAPIClient, "_sleep_for_retry")
