"""What a job gives for each input: an answer, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from llm_savings.batch.text import loads
from llm_savings.errors import BatchError, UsageError
from llm_savings.usage import Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = Literal["invalid", "provider", "expired", "cancelled", "missing", "schema", "waiting"]
"""invalid: the provider refused the request. provider: its own fault, every time it was tried. expired: its day was
over, every time. cancelled: you stopped the job. missing: the provider said nothing of it. schema: the answer does not
fit the schema. waiting: not yet.
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer.

    Attributes:
        number: The input's place, from 1.
        custom_id: The user's own name for it, if it had one.
        body: The provider's answer, in its own format.
        source: "batch"; "real-time"; "earlier", an earlier job's answer to the same request; "cache", one that was
            known (see `Options.known`).
        parsed: The answer as an object of the schema, where one was given.
    """

    number: int
    custom_id: str | None
    body: Mapping[str, Any]
    source: str
    parsed: BaseModel | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        return text_of(self.body)

    @property
    def usage(self) -> Usage | None:
        """What it consumed; inputs with the same request share one answer, which was billed once."""
        return usage_of(self.body)


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, and why.

    Attributes:
        number: The input's place, from 1.
        custom_id: The user's own name for it, if it had one.
        kind: See `Kind`.
        message: What the provider, or the schema, said.
        retryable: Whether the same request may work another time.
        status: The HTTP status, if there was one.
        error: The error in the provider's own format.
        raw: The text of an answer that does not fit the schema.
    """

    number: int
    custom_id: str | None
    kind: Kind
    message: str
    retryable: bool
    status: int | None = None
    error: Mapping[str, Any] | None = None
    raw: str | None = None

    def raised(self) -> BatchError:
        """The failure as an error, for who wants to raise it."""
        return BatchError(f"input {self.number}: {self.kind}: {self.message}")


Outcome = Answered | Failed


def outcome(row: Mapping[str, Any], schema: type[BaseModel] | None = None) -> Outcome:
    """The outcome of a journal's row (see `Journal.outcomes`)."""
    number, name, state = row["number"], row["name"], row["state"]
    if state == "ok":
        answered = Answered(number, name, loads(row["result"]), row["source"])
        return answered if schema is None else _fitted(answered, schema)
    if state != "failed":
        return Failed(number, name, "waiting", "it has not ended yet", retryable=True)
    error = cast("Mapping[str, Any]", loads(row["result"])) if row["result"] else None
    message = _message(error) or _SAYING.get(row["kind"], str(row["kind"]))
    return Failed(number, name, row["kind"], message, bool(row["retryable"]), row["status"], error)


_SAYING = {
    "expired": "the provider did not get to it in time",
    "cancelled": "the job was cancelled before its turn came",
    "missing": "the provider returned neither an answer nor an error for it",
}


def _fitted(answered: Answered, schema: type[BaseModel]) -> Outcome:
    from pydantic import ValidationError

    text = answered.text
    try:
        found = schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{error.error_count()} problem(s): {place or 'the answer'}: {first['msg']}"
        return Failed(answered.number, answered.custom_id, "schema", message, retryable=True, raw=text)
    return Answered(answered.number, answered.custom_id, answered.body, answered.source, found)


def text_of(body: Mapping[str, Any]) -> str:
    """The text of an answer in any of the providers' formats; calls of tools as their JSON."""
    if body.get("choices"):
        message = body["choices"][0]["message"]
        calls = [call.get("function") or call["custom"] for call in message.get("tool_calls") or ()]
        return message.get("content") or "\n".join(call.get("arguments") or call["input"] for call in calls)
    parts: list[str] = []
    for block in body.get("content") or ():  # Anthropic's
        if block.get("type") == "text":
            parts.append(block["text"])
        elif block.get("type") == "tool_use":
            parts.append(json.dumps(block["input"], ensure_ascii=False))
    for item in body.get("output") or ():  # OpenAI's responses
        parts += [part["text"] for part in item.get("content") or () if part.get("type") == "output_text"]
        if item.get("type") in ("function_call", "custom_tool_call"):
            parts.append(item.get("arguments") or item.get("input") or "")
    return "".join(parts)


def usage_of(body: Mapping[str, Any]) -> Usage | None:
    """What an answer consumed, or None where it does not say so or contradicts itself."""
    raw = body.get("usage")
    if not isinstance(raw, Mapping):
        return None
    try:
        return Usage.from_anthropic(raw) if body.get("type") == "message" else Usage.from_openai(raw)
    except UsageError:
        return None


def _message(error: Mapping[str, Any] | None) -> str:
    """What an error in any of the providers' formats says."""
    found: Any = error
    while isinstance(found, Mapping):
        inner = cast("Mapping[str, Any]", found)
        found = inner.get("message") or inner.get("error")
    return str(found) if found else ""
