"""What is to be done next, decided without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_savings.batch.outcomes import usage_of
from llm_savings.batch.provider import Look, Result, Rules
from llm_savings.batch.records import Chunk, Ending
from llm_savings.batch.text import kept
from llm_savings.storage.sqlite import is_busy

_WRAPPER = 64  # bytes around all the requests of one batch
# What a batch says nothing of, by how it ended.
LEFT = {"completed": "missing", "expired": "expired", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The next chunk: the waiting requests up to a number, how many these are, and about how many tokens."""

    until: int
    count: int
    tokens: int


def fill(waiting: Iterable[tuple[int, int, int]], rules: Rules, most_tokens: int | None) -> Plan | None:
    """The next chunk, as large as the provider takes it; None when nothing waits.

    Args:
        waiting: Number, bytes in the batch, and about how many tokens of each request, in order.
        rules: The provider's limits.
        most_tokens: Prompt tokens that the batch may have. A first request with more goes alone.
    """
    until = count = size = tokens = 0
    for number, length, prompt in waiting:
        if count == rules.requests or size + length + _WRAPPER > rules.bytes:
            break
        if count and most_tokens is not None and tokens + prompt > most_tokens:
            break
        until, count, size, tokens = number, count + 1, size + length, tokens + prompt
    return Plan(until, count, tokens) if count else None


def room(chunks: Sequence[Chunk], most_tokens: int | None) -> int | None:
    """Prompt tokens that the provider's queue has room for beside the chunks that are there; None: any number."""
    if most_tokens is None:
        return None
    return max(0, most_tokens - sum(chunk.tokens for chunk in chunks if chunk.state in ("creating", "open")))


def shrunk(refused: Chunk, chunks: Sequence[Chunk]) -> int:
    """Prompt tokens to queue at most, now that the provider's queue was too full for a chunk.

    What is at work of ours evidently fits. With nothing there, half of what was refused is tried.
    """
    beside = sum(chunk.tokens for chunk in chunks if chunk.state == "open" and chunk.id != refused.id)
    return beside or max(1, refused.tokens // 2)


Move = Literal["create", "reconcile", "look", "collect"]


def next_move(chunk: Chunk) -> Move | None:
    """What is to be done with a chunk.

    A chunk that is "creating" when somebody comes along was left so by a kill, or by an error that may have come after
    the provider had accepted it: only looking tells.
    """
    moves: Mapping[str, Move] = {"planned": "create", "creating": "reconcile", "open": "look", "ended": "collect"}
    return moves.get(chunk.state)


def was_refused(error: BaseException) -> bool:
    """Whether an error of a create says for sure that no batch was made: a 4xx that cannot follow work done."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in (408, 409)


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone when it is tried again: a lost connection, a timeout, a 429, a 5xx, a busy file."""
    if error.__cause__ is not None and is_busy(error.__cause__):  # another process writes a large job into the journal
        return True
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (408, 409, 429) or status >= 500
    # Of the SDKs' own: APIConnectionError and APITimeoutError; below them, those of the connection itself.
    return any("Connection" in k.__name__ or "Timeout" in k.__name__ or "Transport" in k.__name__ or "RemoteProtocol"
               in k.__name__ for k in type(error).__mro__)  # fmt: skip


def changes(look: Look) -> dict[str, Any]:
    """What a look at a batch changes in the journal."""
    found: dict[str, Any] = {"done": look.done}
    if look.end is not None:
        found |= {"state": "ended", "ended": look.end, "output": look.output, "errors": look.errors}
    return found


def ending(result: Result, source: str = "batch", *, again: bool = False) -> Ending:
    """What the journal keeps of a result.

    Args:
        result: What the provider said.
        source: Who answered.
        again: Whether a failure that may pass is left open, to be sent again.
    """
    key = result.custom_id.rpartition("-")[2]
    if result.body is not None:
        usage = usage_of(result.body)
        counts = (usage.prompt, usage.completion) if usage else (None, None)
        return Ending(key, "ok", source, result=kept(result.body), prompt=counts[0], completion=counts[1])
    state = "sent" if again and result.retryable else "failed"
    error = b"" if result.error is None else kept(result.error)
    return Ending(key, state, source, result.kind, result.status, result.retryable, error)
