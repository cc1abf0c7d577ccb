"""Values of logs as a record has them: whole tokens, exact dollars, instants in UTC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import orjson

from llm_savings.ledger.records import Mode
from llm_savings.usage import Usage

Document = Mapping[str, Any]
"""One entry of a log, as it came."""

_NOTHING: dict[str, Any] = {}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_800  # the seconds at which years have five digits
_MODES: dict[object, Mode] = {"flex": "flex", "priority": "priority", "batch": "batch"}


class Unusable(Exception):
    """An entry gives no record.

    Attributes:
        reason: Why, in words that are the same for all such entries.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


NOT_A_CALL = "not a call of a model (a chain, a tool, a span of something else)"
NO_MODEL = "no model"


@dataclass(slots=True)
class Values:
    """How the values of one log are read.

    Attributes:
        tz: The zone of times that name none; None where that is known to be UTC.
        requests: The bodies of a batch's requests by custom_id, for its answers.
        notes: What was not used, or was taken to mean something, and how often.
    """

    tz: tzinfo | None = UTC
    requests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    notes: Counter[str] = field(default_factory=Counter[str])

    def moment(self, value: Any) -> datetime | None:
        """An instant: ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970 by their size."""
        if value is None or value == "":
            return None
        try:
            if isinstance(value, str):
                found = _number(value) if value.lstrip("-").replace(".", "", 1).isdigit() else _iso(value)
            else:
                found = value if isinstance(value, datetime) else _number(value)
            if found.tzinfo is None:
                if self.tz:
                    self.notes[f"a time without a zone, taken as {self.tz}"] += 1
                found = found.replace(tzinfo=self.tz or UTC)
            return found if found.tzinfo is UTC else found.astimezone(UTC)
        except (ValueError, TypeError, ArithmeticError):
            self.notes["a time that cannot be read, left out"] += 1
            return None

    def usd(self, value: Any, currency: Any = None) -> Decimal | None:
        """An amount in USD; one in another currency, or one that is no amount, is not used."""
        if value is None or value == "":
            return None
        if currency and str(currency).strip().upper() not in ("USD", "US$", "$"):
            named = str(currency).strip().upper()
            kind = named if re.fullmatch("[A-Z]{3}", named) else "something else"
            self.notes[f"a cost in {kind}, not in USD: not used"] += 1
            return None
        try:
            found = Decimal(value.strip().removeprefix("$") if isinstance(value, str) else str(value))
        except InvalidOperation:
            found = Decimal("NaN")
        if isinstance(value, bool) or not found.is_finite() or found < 0:
            self.notes["a cost that is no amount: not used"] += 1
            return None
        return found

    def span(self, start: Any, end: Any) -> tuple[datetime | None, float | None]:
        """When a call began and how many seconds it took."""
        began, ended = self.moment(start), self.moment(end)
        if began is None or ended is None or ended < began:
            return began, None
        return began, (ended - began).total_seconds()

    def inclusive(self, prompt: int, completion: int, *, read: int = 0, written: int = 0, reasoning: int = 0) -> Usage:
        """A usage of which it is not told whether the prompt's tokens include the cached ones.

        They are taken to, as at OpenAI and in OpenTelemetry, unless the cached ones are more.
        """
        if not read and not written and not reasoning:
            return Usage.from_openai({"prompt_tokens": prompt, "completion_tokens": completion})
        reasoning = min(reasoning, completion)
        if read + written > prompt:
            self.notes["cached tokens beside the input tokens, since they are more"] += 1
            return Usage(prompt, read, written, output=completion, reasoning=reasoning)
        if read or written:
            self.notes["cached tokens taken as part of the input tokens"] += 1
        return Usage(prompt - read - written, read, written, output=completion, reasoning=reasoning)


def _number(value: Any) -> datetime:
    if isinstance(value, bool):
        raise TypeError
    number = Decimal(value)
    for unit in (1, 1000, 1000_000, 1000_000_000):
        if abs(number) < _LAST / 2 * unit:  # until the year 5979, so that milliseconds begin in June 1974
            return _EPOCH + timedelta(microseconds=int(number * 1_000_000 / unit))
    raise ValueError


def _iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(text.strip().removesuffix(" UTC") + ("+00:00" if text.endswith(" UTC") else ""))


def count(document: Document, *names: str) -> int | None:
    """Tokens under the first of these names that has any; digits as text count.

    Raises:
        Unusable: It is negative or no whole number.
    """
    for name in names:
        value = document.get(name)
        if type(value) is int and value >= 0:
            return value
        if type(value) is str and value.isdecimal() and len(value) < 20:
            return int(value)
        if value is None or value == "":
            continue
        if isinstance(value, str) and value.strip().removeprefix("-").replace(".", "", 1).isdecimal():
            value = float(value) if "." in value else int(value)
        elif isinstance(value, Decimal):
            value = float(value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise Unusable("tokens that are no whole number")
        if value < 0:
            raise Unusable("negative tokens")
        return value
    return None


def seconds(value: Any, *, unit: int = 1) -> float | None:
    """A duration in units of which `unit` make a second; None if it is none."""
    try:
        found = float(value) / unit
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0 <= found < _LAST and not isinstance(value, bool) else None


def unpacked(value: Any) -> Any:
    """What JSON in a text says; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except ValueError:
            return value
    return value


def part(document: Document, *names: str) -> dict[str, Any]:
    """The first of these that is an object (or JSON text of one, or Parquet's list of pairs), or an empty one."""
    for name in names:
        value = document.get(name)
        if not value:
            continue
        value = unpacked(value)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        if isinstance(value, list) and all(isinstance(pair, tuple) for pair in cast("list[Any]", value)):
            return dict(cast("list[tuple[str, Any]]", value))
    return _NOTHING


def sequence(value: Any) -> list[Any]:
    """A list (or JSON text of one), or an empty one."""
    value = unpacked(value)
    return cast("list[Any]", value) if isinstance(value, list) else []


def name(document: Document, *keys: str) -> str | None:
    """The first of these that is a text with something in it, or a number."""
    for key in keys:
        value = document.get(key)
        if value and type(value) is str:
            return value
        if value is not None and value != "" and not isinstance(value, bool | float | Mapping | Sequence):
            return str(value)
    return None


def yes(value: Any) -> bool:
    """Whether a flag is up, also as text."""
    return (
        value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "1", "t", "yes"))
    )


def mode(*tiers: Any) -> Mode:
    """The price list that the first known service tier stands for."""
    for tier in tiers:
        if isinstance(tier, str) and tier in _MODES:
            return _MODES[tier]
    return "standard"
