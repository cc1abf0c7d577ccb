"""Asking for answers that fit a pydantic model, in each provider's way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pydantic import BaseModel

_DROPPED = ("title", "default")  # tokens that tell the model nothing, and what strict mode does not take


def answer_format(schema: type[BaseModel], provider: str = "openai") -> dict[str, Any]:
    """The parameters that make a request's answer fit a model, to be merged into the request.

    Args:
        schema: The model.
        provider: "openai" and "azure" want `response_format`, "anthropic" wants `output_config`.

    Example:
        >>> class Review(BaseModel):                                    # doctest: +SKIP
        ...     sentiment: Literal["긍정", "부정"]
        >>> requests = [{**body, **answer_format(Review)} for body in bodies]     # doctest: +SKIP
    """
    found = _strict(schema.model_json_schema())
    if provider == "anthropic":
        return {"output_config": {"format": {"type": "json_schema", "schema": found}}}
    named = {"name": schema.__name__, "schema": found, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _strict(value: Any, *, names: bool = False) -> Any:
    """A copy in which every object has just its properties. `names`: the keys are names of the user's own."""
    if isinstance(value, list):
        return [_strict(item) for item in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    given = cast("Mapping[str, Any]", value)
    found = {
        key: _strict(item, names=key in ("properties", "$defs") and not names)
        for key, item in given.items()
        if names or key not in _DROPPED
    }
    if not names and isinstance(found.get("properties"), dict):
        found |= {"additionalProperties": False, "required": list(found["properties"])}
    return found
