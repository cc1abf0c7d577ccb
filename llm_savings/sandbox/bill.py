"""The provider's own bill: what it served, at its hand-typed prices, in exact decimals.

Nothing here may import llm_savings.usage, pricing or ledger: the bill is what they are checked against.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from .catalog import Model
from .wire import JSON, dumps, mapping

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class BillRow:
    """One billed request.

    Attributes:
        id: The response id that the client got: `chatcmpl-...`, `resp_...`, `msg_...`. Embeddings carry no id in
            their body.
        endpoint: The path, such as `/v1/chat/completions`.
        model: The model as the request named it.
        stream: Whether the request streamed.
        usage: The raw usage, as the client got it (or would have).
        usd: What it costs, exactly.
        at: When it was billed (UTC).
        outcome: `ok`; `error-after` (the work was done, the answer lost); `cut` (the answer was cut by a fault);
            `garbage` (the answer was unreadable); `abandoned` (the client left before the end).
        user: OpenAI's `user` or Anthropic's `metadata.user_id`.
        tier: The service tier that was billed: `standard`, `flex`, `priority` or `batch`.
        request_id: The id in the answer's header (`x-request-id`, Anthropic's `request-id`), for clients that hide
            the response id: LiteLLM replaces Anthropic's with its own.
    """

    id: str
    endpoint: str
    model: str
    stream: bool
    usage: dict[str, Any]
    usd: Decimal
    at: datetime
    outcome: str
    user: str | None = None
    tier: str = "standard"
    request_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON: money as a string, the time in ISO 8601."""
        return {
            "id": self.id,
            "request_id": self.request_id,
            "at": self.at.isoformat(),
            "endpoint": self.endpoint,
            "model": self.model,
            "tier": self.tier,
            "stream": self.stream,
            "outcome": self.outcome,
            "user": self.user,
            "usage": self.usage,
            "usd": format(self.usd, "f"),
        }

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> BillRow:
        """The row that `as_dict` wrote."""
        typed: dict[str, Any] = {"usd": Decimal(row["usd"]), "at": datetime.fromisoformat(row["at"])}
        return cls(**{**row, **typed})


@dataclass(frozen=True, slots=True)
class Bill:
    """Everything billed so far.

    Example:
        >>> from decimal import Decimal
        >>> Bill(()).total == Decimal(0)
        True
    """

    rows: tuple[BillRow, ...]

    @property
    def total(self) -> Decimal:
        """The sum in USD, exactly."""
        return sum((row.usd for row in self.rows), Decimal(0))

    def __getitem__(self, response_id: str) -> BillRow:
        """The row of a response id or request id.

        Raises:
            KeyError: Nothing was billed under that id.
        """
        for row in self.rows:
            if response_id in (row.id, row.request_id):
                return row
        raise KeyError(response_id)

    def to_jsonl(self) -> str:
        """JSON lines, one row a line, oldest first."""
        return "".join(dumps(row.as_dict()) + "\n" for row in self.rows)

    def export(self, since: datetime) -> str:
        """The bill for `llm-savings reconcile`: JSON lines below one that says from when until now it is complete."""
        head = {"object": "sandbox.bill", "since": since.isoformat(), "until": now().isoformat()}
        return dumps(head) + "\n" + self.to_jsonl()

    @classmethod
    def from_jsonl(cls, text: str) -> Bill:
        """The bill that `to_jsonl` wrote."""
        return cls(tuple(BillRow.from_dict(json.loads(line)) for line in text.split("\n") if line.strip()))


def cost(model: Model, tier: str, usage: JSON) -> Decimal:
    """USD for a raw usage, read in its provider's dialect.

    OpenAI's input counts include tokens read from the cache and written to it; Anthropic's `input_tokens` exclude both.
    Sources: platform.openai.com/docs/guides/prompt-caching, docs.claude.com/en/docs/build-with-claude/prompt-caching.
    """
    if model.provider == "anthropic":
        split = mapping(usage.get("cache_creation"))
        write_5m = split.get("ephemeral_5m_input_tokens", 0)
        write_1h = split.get("ephemeral_1h_input_tokens", 0)
        read = usage["cache_read_input_tokens"]
        fresh = usage["input_tokens"]
        output = usage["output_tokens"]
    else:
        chat = "prompt_tokens" in usage
        details = mapping(usage.get("prompt_tokens_details" if chat else "input_tokens_details"))
        write_5m, write_1h = details.get("cache_write_tokens") or 0, 0
        read = details.get("cached_tokens", 0)
        fresh = usage["prompt_tokens" if chat else "input_tokens"] - read - write_5m
        output = usage.get("completion_tokens" if chat else "output_tokens", 0)
    rates = model.rates_for(tier, fresh + read + write_5m + write_1h)
    lines: Iterable[tuple[int, Decimal | None]] = (
        (fresh, rates.input),
        (read, rates.cache_read),
        (write_5m, rates.cache_write_5m),
        (write_1h, rates.cache_write_1h),
        (output, rates.output),
    )
    total = Decimal(0)
    for tokens, rate in lines:
        if tokens:
            if rate is None:
                raise LookupError(f"models.toml has no price for what {model.name} was used for: {usage}")
            total += tokens * rate
    return (total / _MILLION).normalize()


def now() -> datetime:
    """The time for a row (UTC)."""
    return datetime.now(UTC)
