# pyright: standard
"""Anthropic's Message Batches.

Source: https://docs.claude.com/en/docs/build-with-claude/batch-processing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import anthropic
from anthropic.types.messages import MessageBatch

from llm_savings.batch.provider import Look, Result, Rules, is_retryable, lines_of, rules_of, spooled
from llm_savings.batch.records import Chunk
from llm_savings.batch.text import loads

_SKEW = 300  # seconds that the provider's clock may be off
_PATH = "/v1/messages/batches"
_ENDS = {"canceled": "cancelled", "expired": "expired"}
_FINAL = ("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large")


class AnthropicBatches:
    """Batches through a client of the anthropic package.

    Args:
        client: An `anthropic.Anthropic`; by default one made from the environment.
    """

    name = "anthropic"
    is_certain = False

    def __init__(self, client: anthropic.Anthropic | None = None) -> None:
        self._client = client or anthropic.Anthropic()
        self._batches = self._client.messages.batches

    @property
    def rules(self) -> Rules:
        """See `Provider.rules`."""
        return rules_of("anthropic")

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """See `Provider.wire`."""
        return f'{{"custom_id":"{custom_id}","params":'.encode() + body + b"},"

    def upload(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """See `Provider.upload`. The batch is created from the requests themselves."""
        return ""

    def create(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """See `Provider.create`. Sent from a file: a quarter of a gigabyte needs no memory."""
        with spooled(_request(lines)) as file:
            options: Any = {"max_retries": 0, "headers": {"Content-Type": "application/json"}}
            return self._client.post(_PATH, content=file, cast_to=MessageBatch, options=options).id

    def find(self, chunk: Chunk) -> list[str]:
        """See `Provider.find`. Batches carry no name: its time and its size must do until its results confirm it."""
        intent = chunk.intent or 0
        found: list[tuple[float, str]] = []
        for batch in self._batches.list(limit=100):  # the newest first
            counts = batch.request_counts
            away = abs(batch.created_at.timestamp() - intent)
            if batch.created_at.timestamp() < intent - _SKEW:
                break
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if total == chunk.count and away <= _SKEW and batch.id not in chunk.strangers:
                found.append((away, batch.id))
        return [name for _, name in sorted(found)]

    def look(self, batch: str) -> Look:
        """See `Provider.look`."""
        found = self._batches.retrieve(batch)
        counts = found.request_counts
        end: Any = None
        if found.processing_status == "ended":
            end = "cancelled" if counts.canceled else "expired" if counts.expired else "completed"
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Look(done=done, end=end, output=found.results_url and batch)

    def results(self, chunk: Chunk) -> Iterator[Result]:
        """See `Provider.results`."""
        if chunk.output:
            with self._batches.with_streaming_response.results(chunk.output) as answer:
                for line in lines_of(answer.iter_bytes()):
                    yield _result(line["custom_id"], line["result"])

    def cancel(self, batch: str) -> None:
        """See `Provider.cancel`."""
        with suppress(anthropic.ConflictError, anthropic.BadRequestError):  # it has ended meanwhile
            self._batches.cancel(batch)

    def forget(self, chunk: Chunk) -> None:
        """See `Provider.forget`."""
        if chunk.batch:
            with suppress(anthropic.NotFoundError):
                self._batches.delete(chunk.batch)

    def direct(self, endpoint: str, body: bytes) -> Result:
        """See `Provider.direct`."""
        try:
            answer = self._client.post(endpoint, body=loads(body), cast_to=object, options={"max_retries": 0})
        except anthropic.APIStatusError as error:
            return _result("", {"type": "errored", "error": error.body, "status": error.status_code})
        return Result("", answer if isinstance(answer, Mapping) else {})


def _request(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The body of the request: lines as `wire` makes them, the last one's comma left out."""
    yield b'{"requests":['
    before = b""
    for line in lines:
        yield before
        before = line
    yield before.removesuffix(b",") + b"]}"


def _result(name: str, result: Mapping[str, Any]) -> Result:
    kind = result["type"]
    if kind == "succeeded":
        return Result(name, result["message"])
    if kind != "errored":
        return Result(name, None, _ENDS.get(kind, str(kind)), retryable=True)
    error = result.get("error") or {}
    inner = error.get("error") if isinstance(error, Mapping) else None
    named = inner.get("type") if isinstance(inner, Mapping) else None
    status = result.get("status")
    retryable = named not in _FINAL if status is None else is_retryable(status)
    return Result(name, None, "provider" if retryable else "invalid", status, error, retryable)
