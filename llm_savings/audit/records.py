"""What an audit knows of one past call, whatever log it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from llm_savings.ledger.records import Mode
from llm_savings.usage import Usage

Message = Mapping[str, Any]
"""A message in OpenAI's shape: {"role": ..., "content": ...}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One past call. What the log does not tell is None or empty, and never guessed.

    Attributes:
        source: The file it was read from.
        line: Its line there (1-based; of a file that is one JSON document, its place in the list).
        model: The model that answered, as the log names it.
        usage: Tokens consumed, in disjoint buckets; None where the log has no counts.
        at: When the request left, UTC, aware; None where the log does not tell.
        seconds: How long the answer took.
        provider: The host's name of the provider.
        mode: The price list that applied.
        cost: USD that the log says it cost.
        messages: The prompt in OpenAI's shape, the system prompt first; None where the log has no prompts.
        tools: Definitions of tools, in OpenAI's shape.
        parameters: What else was asked for: temperature, max_tokens, response_format, ...
        answer: The text of the answer; None where the log has none.
        tool_calls: Whether the answer called tools.
        response_id: The provider's or the log's id of the call.
        user: Who caused it.
        session: The conversation or trace it belongs to.
        tenant: The team or key it belongs to.
        tags: Labels, such as {"feature": "faq"}; a label without a name has itself as its name and "" as its value.
        hit: A cache had answered it already.
        failed: It ended in an error.
        streamed: The answer was a stream.
    """

    source: str
    line: int
    model: str
    usage: Usage | None = None
    at: datetime | None = None
    seconds: float | None = None
    provider: str | None = None
    mode: Mode = "standard"
    cost: Decimal | None = None
    messages: Sequence[Message] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    answer: str | None = None
    tool_calls: bool = False
    response_id: str | None = None
    user: str | None = None
    session: str | None = None
    tenant: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    hit: bool = False
    failed: bool = False
    streamed: bool = False


_MADE = ("usage", "at", "cost")
_REST = [one.name for one in fields(Record) if one.name not in _MADE]
_rest = attrgetter(*_REST)


def plain(record: Record) -> tuple[Any, ...]:
    """A record as plain values."""
    usage, at, cost = record.usage, record.at, record.cost
    return (
        None if usage is None else tuple(vars(usage).values()),
        None if at is None else at.isoformat(),
        None if cost is None else str(cost),
        *_rest(record),
    )


def of_plain(values: Sequence[Any]) -> Record:
    """The record that `plain` gave these values for."""
    usage, at, cost, *rest = values
    return Record(
        usage=None if usage is None else Usage(*usage),
        at=None if at is None else datetime.fromisoformat(at),
        cost=None if cost is None else Decimal(cost),
        **dict(zip(_REST, rest, strict=True)),
    )
