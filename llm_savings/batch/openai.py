# pyright: standard
"""OpenAI's files and batches, and whoever else speaks that protocol: Azure OpenAI, vLLM, a proxy.

Source: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import openai

from llm_savings.batch.provider import Look, Result, Rules, is_retryable, lines_of, rules_of, spooled
from llm_savings.batch.records import Chunk
from llm_savings.batch.text import loads

# Where a batch carries the name of its chunk.
_KEY = "llm_savings"
_SKEW = 300  # seconds that the provider's clock may be behind ours
_ENDS = {"completed": "completed", "expired": "expired", "cancelled": "cancelled", "failed": "failed"}
_CODES = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


class OpenAIBatches:
    """Batches through a client of the openai package.

    Args:
        client: An `openai.OpenAI` or `openai.AzureOpenAI`; by default one made from the environment.
    """

    def __init__(self, client: openai.OpenAI | None = None) -> None:
        self._client = client or openai.OpenAI()
        # A create that failed may have been accepted: whoever tries again must look first.
        self._once = self._client.with_options(max_retries=0)
        self._azure = isinstance(self._client, openai.AzureOpenAI)
        self.name = "azure" if self._azure else "openai"

    is_certain = True

    @property
    def rules(self) -> Rules:
        """See `Provider.rules`."""
        return rules_of("openai")

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """See `Provider.wire`."""
        head = f'{{"custom_id":"{custom_id}","method":"POST","url":"{self._path(endpoint)}","body":'
        return head.encode() + body + b"}\n"

    def upload(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """See `Provider.upload`. A file that is there already from a try before is used again."""
        name = f"{chunk.name}.jsonl"
        with spooled(lines) as file:
            size = file.seek(0, 2)
            file.seek(0)
            if chunk.intent is not None:
                for found in self._client.files.list(purpose="batch"):
                    if found.filename == name and found.bytes == size:
                        return found.id
            return self._client.files.create(file=(name, file, "application/jsonl"), purpose="batch").id

    def create(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """See `Provider.create`."""
        endpoint: Any = self._path(chunk.endpoint)
        batch = self._once.batches.create(
            input_file_id=chunk.file or "",
            endpoint=endpoint,
            completion_window="24h",
            metadata={_KEY: chunk.name},
        )
        return batch.id

    def find(self, chunk: Chunk) -> list[str]:
        """See `Provider.find`. Metadata makes it certain."""
        found: list[str] = []
        for batch in self._client.batches.list(limit=100):  # the newest first
            if (batch.metadata or {}).get(_KEY) == chunk.name:
                found.append(batch.id)
            elif chunk.intent is not None and batch.created_at < chunk.intent - _SKEW:
                break
        return found[::-1]

    def look(self, batch: str) -> Look:
        """See `Provider.look`."""
        found = self._client.batches.retrieve(batch)
        counts = found.request_counts
        problems = [] if found.errors is None else found.errors.data or []
        told = "; ".join(f"{p.message}" + (f" (line {p.line})" if p.line else "") for p in problems[:3])
        return Look(
            done=counts.completed + counts.failed if counts else 0,
            end=_ENDS.get(found.status),  # type: ignore[arg-type]
            output=found.output_file_id,
            errors=found.error_file_id,
            problem=told or found.status,
            queue_full=any(problem.code in self.rules.queue_full for problem in problems),
        )

    def results(self, chunk: Chunk) -> Iterator[Result]:
        """See `Provider.results`."""
        return chain.from_iterable(self._read(file) for file in (chunk.output, chunk.errors) if file)

    def cancel(self, batch: str) -> None:
        """See `Provider.cancel`."""
        with suppress(openai.ConflictError, openai.BadRequestError):  # it has ended meanwhile
            self._client.batches.cancel(batch)

    def forget(self, chunk: Chunk) -> None:
        """See `Provider.forget`. OpenAI keeps the batch itself, which holds no text."""
        for file in (chunk.file, chunk.output, chunk.errors):
            if file:
                with suppress(openai.NotFoundError):
                    self._client.files.delete(file)

    def direct(self, endpoint: str, body: bytes) -> Result:
        """See `Provider.direct`."""
        try:
            answer = self._once.post(endpoint.removeprefix("/v1"), body=loads(body), cast_to=object)
        except openai.APIStatusError as error:
            status = error.status_code
            kind = "provider" if is_retryable(status) else "invalid"
            return Result("", kind=kind, status=status, error=_mapping(error.body), retryable=is_retryable(status))
        return Result("", _mapping(answer))

    def _path(self, endpoint: str) -> str:
        return endpoint.removeprefix("/v1") if self._azure else endpoint

    def _read(self, file: str) -> Iterator[Result]:
        with self._client.files.with_streaming_response.content(file) as answer:
            for line in lines_of(answer.iter_bytes()):
                yield _result(line)


def _result(line: Mapping[str, Any]) -> Result:
    name, answer, error = line["custom_id"], line.get("response"), line.get("error")
    if answer and answer["status_code"] < 400:
        return Result(name, answer["body"])
    if answer:
        status = answer["status_code"]
        kind = "provider" if is_retryable(status) else "invalid"
        return Result(name, None, kind, status, _mapping(answer.get("body")), is_retryable(status))
    code = str((error or {}).get("code"))
    return Result(name, None, _CODES.get(code, "provider"), None, _mapping({"error": error}), retryable=True)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"error": value}
