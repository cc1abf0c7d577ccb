"""For hosts: their own code makes a job's requests and reads its answers, over a transport that reaches no network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llm_savings.batch.outcomes import Answered, Outcome
from llm_savings.batch.text import kept

Transport = Callable[[Any], tuple[int, bytes]]
"""From a request of httpx to a status and the bytes of an answer."""


class NotedError(BaseException):
    """A request is noted and goes no further. Not an Exception, which an SDK would take for a lost connection."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A request as it would have left.

    Attributes:
        endpoint: The path that a batch of such requests is for.
        body: What it carries.
        beta: Anthropic's header of the same purpose.
    """

    endpoint: str
    body: Mapping[str, Any]
    beta: str | None

    def line(self) -> Mapping[str, Any]:
        """The request as an input of `submit`."""
        return {"body": self.body, "url": self.endpoint}


class Notebook:
    """A transport that notes the last request, in place of sending it."""

    def __init__(self) -> None:
        self._found: Noted | None = None

    def __call__(self, request: Any) -> tuple[int, bytes]:
        """Note it.

        Raises:
            NotedError: Always.
        """
        path = request.url.path
        names = ("responses", "messages", "embeddings")
        endpoint = next((name for name in names if path.endswith(f"/{name}")), "chat/completions")
        self._found = Noted(f"/v1/{endpoint}", json.loads(request.read()), request.headers.get("anthropic-beta"))
        raise NotedError

    def of(self, ask: Callable[[], object]) -> Noted:
        """The request that `ask` would have sent."""
        self._found = None
        with suppress(NotedError):
            ask()
        assert self._found is not None  # noqa: S101 (what sends nothing has no answer either)
        return self._found


def response(outcome: Outcome) -> tuple[int, bytes]:
    """What the provider would have answered in real time.

    Raises:
        BatchError: It never answered: the request expired, or was cancelled.
    """
    if isinstance(outcome, Answered):
        return 200, kept(outcome.body)
    if outcome.error is None or outcome.kind not in ("invalid", "provider"):
        raise outcome.raised()
    return outcome.status or (400 if outcome.kind == "invalid" else 500), kept(outcome.error)


def client_over(client: Any, transport: Transport) -> Any:
    """A copy of an SDK's client that asks a transport of ours, once."""
    return client.with_options(http_client=http_over(client, transport), max_retries=0)


def http_over(client: Any, transport: Transport) -> Any:
    """An HTTP client of the kind that an SDK's client uses, over a transport of ours."""
    kinds = type(client._client).__mro__
    httpx: Any = sys.modules[next(k.__module__ for k in kinds if k.__name__ == "Client").partition(".")[0]]
    return httpx_over(httpx, transport)


def httpx_over(httpx: Any, transport: Transport) -> Any:
    """The same of a given httpx."""

    def handle(request: Any) -> Any:
        status, content = transport(request)
        return httpx.Response(status, content=content, headers={"content-type": "application/json"})

    return httpx.Client(transport=httpx.MockTransport(handle))
