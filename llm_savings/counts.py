"""Counts in a usage object, whoever made it: what is there is a whole number of tokens, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from llm_savings.errors import UsageError

_MOST = 10**12  # no call has so many tokens


def mapping(raw: Any, dialect: str) -> Mapping[str, Any]:
    """The fields of a usage object: a mapping, or an SDK's own object.

    Raises:
        UsageError: It is neither.
    """
    if type(raw) is dict or isinstance(raw, Mapping):  # told at once, as it nearly always is one
        return raw  # pyright: ignore[reportUnknownVariableType] (a cast takes time, and this is a part of every call)
    for method in ("model_dump", "to_dict"):
        if callable(dump := getattr(raw, method, None)):
            return cast("Mapping[str, Any]", dump())
    if hasattr(raw, "__dict__"):
        return dict(raw.__dict__)
    raise UsageError(f"{dialect} usage is {type(raw).__name__}; expected a mapping or an SDK object")


def part(u: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of these parts that is given; empty if none is.

    Raises:
        UsageError: It has no fields.
    """
    for name in names:
        if (value := u.get(name)) is not None:
            return value if type(value) is dict else mapping(value, name)  # pyright: ignore[reportUnknownVariableType]
    return {}


def count(u: Mapping[str, Any], *names: str) -> int:
    """The first of these counts that is given; 0 if none is.

    Raises:
        UsageError: It is no whole number of tokens.

    Example:
        >>> count({"prompt_tokens": None, "input_tokens": 12.0}, "prompt_tokens", "input_tokens")
        12
    """
    for name in names:
        if (value := u.get(name)) is not None:
            break
    else:
        return 0
    if type(value) is int and 0 <= value <= _MOST:
        return value
    if type(value) is float and value.is_integer():  # some JSON writers make every number a float
        value = int(value)
    if type(value) is not int:
        raise UsageError(f"{name} is {value!r}; expected a whole number of tokens")
    if value < 0:
        raise UsageError(f"{name} is {value}; a token count cannot be negative")
    if value > _MOST:
        raise UsageError(f"{name} is {value}; no call has so many tokens")
    return value
