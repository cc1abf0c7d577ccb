"""For hosts: their own code makes a job's requests and reads its answers, over a transport that reaches no network.

So parameters are mapped, answers parsed and errors raised exactly as the host does it in real time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llm_savings.batch.job import Job, Status
from llm_savings.batch.outcomes import Answered, Outcome
from llm_savings.batch.text import kept
from llm_savings.errors import BatchError

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
    kinds = type(client._client).__mro__  # releases of the SDKs use one httpx or another
    httpx = sys.modules[next(k.__module__ for k in kinds if k.__name__ == "Client").partition(".")[0]]
    return client.with_options(http_client=httpx_over(httpx, transport), max_retries=0)


def httpx_over(httpx: Any, transport: Transport) -> Any:
    """A client of that httpx over a transport of ours."""

    def handle(request: Any) -> Any:
        status, content = transport(request)
        return httpx.Response(status, content=content, headers={"content-type": "application/json"})

    return httpx.Client(transport=httpx.MockTransport(handle))


def with_beta(client: Any, first: Noted) -> Any:
    """The client for a job with such requests: Anthropic's beta header goes with the batch, not with its lines."""
    return client.with_options(default_headers={"anthropic-beta": first.beta}) if first.beta else client


class Handle:
    """A job on behalf of a host, whose results are in the host's own form.

    Attributes:
        job: The job behind it: its estimate, typed outcomes, `erase`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def id(self) -> str:
        """What `open_batch` takes."""
        return self.job.id

    def status(self) -> Status:
        """How far it is."""
        return self.job.status()

    def cancel(self) -> Status:
        """Stop; what is answered is kept."""
        return self.job.cancel()

    def collect(
        self,
        *,
        return_exceptions: bool = False,
        timeout: float | None = None,
        poll: float = 30.0,
        progress: bool | Callable[[Status], object] = False,
    ) -> list[Any]:
        """What the host would have returned in real time, in the order of the inputs: waits for it.

        Args:
            return_exceptions: Put an input's error in its place, instead of raising the first one.
            timeout: Seconds to wait at most.
            poll: Seconds between two looks at the provider, at most.
            progress: Show a bar in the terminal, or call this with the status after every look.

        Raises:
            BatchError: The time is over, or an input has no answer.
        """
        status = self.job.wait(timeout=timeout, poll=poll, progress=progress)
        if not status.done:
            raise BatchError(f"batch {self.id} is not done: {status.answered:,} of {status.requests:,} answered")
        return self._collected(return_exceptions=return_exceptions)

    async def acollect(
        self, *, return_exceptions: bool = False, timeout: float | None = None, poll: float = 30.0
    ) -> list[Any]:
        """`collect` for asyncio. The host's code runs in a thread."""
        await self.job.awaited(timeout=timeout, poll=poll)
        return await asyncio.to_thread(self.collect, return_exceptions=return_exceptions, timeout=0.0)

    def _collected(self, *, return_exceptions: bool) -> list[Any]:
        """The results, now that the job is done."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"
