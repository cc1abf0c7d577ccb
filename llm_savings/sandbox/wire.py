"""What both protocols share: a request that is understood, its answer as events, and an error for the client."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

JSON = dict[str, Any]


class WireError(Exception):
    """An answer other than 200. Each protocol renders it in its provider's format."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.code, self.param, self.retry_after = code, param, retry_after


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of a streamed answer.

    Attributes:
        data: The bytes on the wire.
        text: The text that the model generated for it; a stream that stops here is billed for what came so far.
        complete: The answer is whole before this event, so the request is billed before it leaves.
    """

    data: bytes
    text: str = ""
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A valid request with its answer worked out, not yet sent.

    Attributes:
        id: The id the client sees, and the one on the bill.
        model: The name the client asked for.
        tier: The service tier that is billed: standard, flex, priority or batch.
        usage: The raw usage of the whole answer, in the provider's dialect.
        body: The answer of a request that does not stream.
        events: The answer of one that does.
        partial: The usage when only this much text was generated.
        request_id: The id in the answer's header (`x-request-id` or `request-id`).
    """

    id: str
    endpoint: str
    model: str
    tier: str
    stream: bool
    user: str | None
    usage: JSON
    body: JSON
    events: Callable[[], Iterator[Event]]
    partial: Callable[[str], JSON]
    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def fits_type(value: object, kind: str) -> bool:
    """Whether a JSON value is of a JSON type; a bool is no number."""
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def check_types(body: Mapping[str, Any], allowed: Mapping[str, str], prefix: str = "") -> None:
    """Refuse the first member whose type is not one of `"string|array"`; null stands for an absent member."""
    for name, value in body.items():
        kinds = allowed.get(name, "any")
        if value is None or kinds == "any" or any(fits_type(value, kind) for kind in kinds.split("|")):
            continue
        wanted = kinds.replace("|", " or ")
        message = f"Invalid type for '{prefix}{name}': expected {wanted}, but got {type_name(value)} instead."
        raise WireError(400, message, code="invalid_type", param=f"{prefix}{name}")


def check_range(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    """Refuse a number outside [low, high]."""
    value = body.get(name)
    if value is not None and not low <= value <= high:
        message = f"Invalid '{name}': {value} is not between {low} and {high}."
        raise WireError(400, message, code="invalid_value", param=name)


def check_texts(values: list[Any], name: str) -> None:
    """Refuse anything but non-empty strings."""
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value:
            place = f"{name}[{number}]"
            raise WireError(400, f"Invalid type for '{place}': expected a string.", code="invalid_type", param=place)


def type_name(value: object) -> str:
    """The JSON name of a value's type, for a message."""
    return next(kind for kind in _TYPES if fits_type(value, kind))


def is_object(value: object) -> TypeGuard[JSON]:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a JSON array."""
    return isinstance(value, list)


def mapping(value: object) -> JSON:
    """The value as a JSON object; anything else as an empty one."""
    return value if is_object(value) else {}


def sequence(value: object) -> list[Any]:
    """The value as a JSON array; anything else as an empty one."""
    return value if is_array(value) else []


_UNHEARD = (
    "cache_control",
    "prompt_cache_breakpoint",
    "id",
    "tool_use_id",
    "tool_call_id",
)  # members that a model does not read


def heard(content: object) -> list[str]:
    """What a model gets to read of a message's content; the same for a string and for parts with cache marks."""
    if not is_array(content):
        return [content if isinstance(content, str) else dumps(content)]
    parts = [{name: item for name, item in mapping(part).items() if name not in _UNHEARD} for part in content]
    return [part["text"] if part.get("type") == "text" and "text" in part else dumps(part) for part in parts]


def find_key(value: object, key: str, path: str = "") -> str | None:
    """Where a member of that name first occurs in a JSON value, as `messages[0].content[1].key`."""
    if is_object(value):
        for name, item in value.items():
            here = f"{path}.{name}" if path else name
            if name == key:
                return here
            if found := find_key(item, key, here):
                return found
    elif is_array(value):
        for number, item in enumerate(value):
            if found := find_key(item, key, f"{path}[{number}]"):
                return found
    return None


def dumps(value: object) -> str:
    """Compact JSON, Korean as Korean."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_PIECE = re.compile(r"\s*\S{1,12}|\s+\Z")


def pieces(text: str) -> list[str]:
    """A text in the small pieces in which a stream delivers it; together they are the text."""
    return _PIECE.findall(text)
