"""JSON for batches: orjson, which is fast, and the standard library's for the rare text that orjson refuses."""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)  # half of a surrogate pair, as a model that was cut may leave it


def dumps(value: Any) -> bytes:
    """Compact UTF-8, members in the order in which they were given: a model follows that of a schema.

    Raises:
        TypeError: It holds something that JSON has not, or half of a surrogate pair.
    """
    return orjson.dumps(value)


def kept(value: Any) -> bytes:
    """The same for text of others, which may hold half of a surrogate pair."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()
