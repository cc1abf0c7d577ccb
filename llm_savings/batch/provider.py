"""What a job needs of a provider. Each provider is one module that speaks this protocol through its own SDK."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import IO, Any, Literal, Protocol

from llm_savings.batch.records import Chunk
from llm_savings.batch.text import loads


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of a provider's batches; data/batch_rules.toml says what each means."""

    requests: int
    bytes: int
    custom_id: int
    endpoints: tuple[str, ...]
    queue_full: tuple[str, ...] = ()


@lru_cache(maxsize=8)
def rules_of(provider: str) -> Rules:
    """The rules of a provider, by the name of its section in the data file."""
    sheet = tomllib.loads(files("llm_savings.data").joinpath("batch_rules.toml").read_text("utf-8"))
    found = sheet[provider]
    lists = {name: tuple(found[name]) for name in ("endpoints", "queue_full")}
    return Rules(requests=found["requests"], bytes=found["bytes"], custom_id=found["custom_id"], **lists)


End = Literal["completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Look:
    """A batch as it is at the provider.

    Attributes:
        done: Requests that have ended, well or badly.
        end: How the batch ended, or None while it is at work.
        output: Where answers are, if there are any.
        errors: Where errors are, if they are kept apart.
        problem: Why it failed as a whole.
        queue_full: It failed because too many tokens are queued; later, or smaller, it may work.
    """

    done: int
    end: End | None = None
    output: str | None = None
    errors: str | None = None
    problem: str = ""
    queue_full: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request.

    Attributes:
        custom_id: The request's name in the batch.
        body: The provider's answer, in its own format; None when there is none.
        kind: Of a failure: "invalid" (the provider refused the request), "provider" (its own fault), "expired" or
            "cancelled".
        status: The HTTP status of a failure, if there was one.
        error: The error in the provider's own format.
        retryable: Whether sending it again may help. What failed was not billed.
    """

    custom_id: str
    body: Mapping[str, Any] | None = None
    kind: str = ""
    status: int | None = None
    error: Mapping[str, Any] | None = None
    retryable: bool = False


class Provider(Protocol):
    """One provider's batches. Errors are the SDK's own; those of HTTP carry a `status_code`."""

    @property
    def name(self) -> str:
        """The provider as the price book knows it."""
        ...

    @property
    def rules(self) -> Rules:
        """Its limits."""
        ...

    @property
    def is_certain(self) -> bool:
        """Whether what `find` finds is surely the chunk's."""
        ...

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """A request as it stands in a batch, with what separates it from the next."""
        ...

    def upload(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """Hand in what a batch is made from, where that is a step of its own; "" where it is not."""
        ...

    def create(self, chunk: Chunk, lines: Iterable[bytes]) -> str:
        """Create the batch, trying exactly once, and return its id."""
        ...

    def find(self, chunk: Chunk) -> list[str]:
        """The batches at the provider that are, or may be, this chunk's, the most likely one first."""
        ...

    def look(self, batch: str) -> Look:
        """The batch as it is now."""
        ...

    def results(self, chunk: Chunk) -> Iterator[Result]:
        """What became of a batch's requests, streamed, in any order."""
        ...

    def cancel(self, batch: str) -> None:
        """Ask the provider to stop; what is done stays done and is billed."""
        ...

    def forget(self, chunk: Chunk) -> None:
        """Delete everything that the provider keeps of a chunk. What is not there any more is no error."""
        ...

    def direct(self, endpoint: str, body: bytes) -> Result:
        """Send one request to the real-time interface, trying exactly once."""
        ...


def spooled(parts: Iterable[bytes]) -> IO[bytes]:
    """A file without a name, gone with the process, that holds these bytes, to be sent without memory for them."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.writelines(parts)
    file.seek(0)
    return file


def lines_of(pieces: Iterable[bytes]) -> Iterator[Any]:
    """The JSON values of lines that come in pieces. Only a line feed ends a line: Korean text may hold U+2028."""
    rest: list[bytes] = []
    for piece in pieces:
        first, *more = piece.split(b"\n")
        rest.append(first)
        for line in more:
            if whole := b"".join(rest).strip():
                yield loads(whole)
            rest = [line]
    if whole := b"".join(rest).strip():
        yield loads(whole)


def is_retryable(status: int | None) -> bool:
    """Whether a request that ended with this HTTP status may work another time."""
    return status is None or status in (408, 409, 429) or status >= 500
