"""What the journal holds: jobs, the chunks that they are sent in, inputs on their way in and results on theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

JobState = Literal["new", "open", "cancelled", "done"]
ChunkState = Literal["planned", "creating", "open", "ended", "collected"]
LineState = Literal["waiting", "sent", "direct", "ok", "failed"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the journal has it.

    Attributes:
        job: Its number in this journal.
        id: Its name everywhere, made from its content; custom ids and metadata at the provider carry it.
        created: Seconds since 1970.
        options: What it was submitted with, as JSON values.
        ledger: The file of the ledger that its costs go to.
        budgets: The budgets' counters that its requests are charged to.
        most_tokens: Prompt tokens that one batch may have, once the provider has refused more.
    """

    job: int
    id: str
    provider: str
    model: str
    endpoint: str
    host: str
    created: float
    state: JobState
    user: str | None
    options: Mapping[str, Any]
    ledger: str | None = None
    budgets: tuple[str, ...] = ()
    estimate: Mapping[str, Any] = field(default_factory=dict[str, Any])
    most_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a job that is, or will be, one batch at the provider.

    Attributes:
        name: What the batch and its file are called at the provider.
        count: Its requests.
        tokens: Their prompt tokens, about.
        tries: How often a batch may have been created for it.
        intent: When it was last about to be created (seconds since 1970).
        file: The provider's id of what was uploaded.
        batch: The provider's id of the batch.
        done: Requests that had ended when somebody looked last.
        ended: How the batch ended.
        output: Where the answers are.
        errors: Where the errors are.
        strangers: Batches that looked like this chunk's and were not.
    """

    id: int
    job: int
    name: str
    endpoint: str
    state: ChunkState
    count: int
    tokens: int
    tries: int = 0
    intent: float | None = None
    file: str | None = None
    batch: str | None = None
    created: float | None = None
    done: int = 0
    ended: str | None = None
    output: str | None = None
    errors: str | None = None
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One input on its way into the journal.

    Attributes:
        number: Its place in the input, from 1.
        key: The identity of its request; equal requests have one.
        body: The request, as it is sent.
        tokens: Its prompt tokens, about.
        bound: Picodollars that it cannot exceed, or None.
        name: The user's own custom_id.
        memo: What a rim keeps with it.
    """

    number: int
    key: str
    body: bytes
    tokens: int
    bound: int | None
    name: str | None = None
    memo: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A request on its way to the real-time interface.

    Attributes:
        bound: Picodollars that it cannot exceed, or None.
        tries: How often it was sent there, this time included.
    """

    key: str
    body: bytes
    bound: int | None
    tries: int


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a request, on its way into the journal; tokens are None where they are not known."""

    key: str
    state: LineState
    source: str
    kind: str = ""
    status: int | None = None
    retryable: bool = False
    result: bytes = b""
    prompt: int | None = None
    completion: int | None = None
