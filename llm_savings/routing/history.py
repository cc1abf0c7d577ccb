"""A conversation that one provider wrote, as another one takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

_THOUGHTS = frozenset(("thinking", "redacted_thinking", "reasoning", "reasoning_content"))
_KEYS = frozenset(
    ("cache_control", "thinking_blocks", "reasoning_content", "reasoning", "provider_specific_fields", "signature")
)
_MARKS = frozenset(("cachePoint",))


def portable(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A copy of a conversation without what only one provider understands: thoughts and cache marks.

    Args:
        messages: As the OpenAI protocol writes them, with other providers' content blocks. They are not changed.

    Example:
        >>> portable([{"role": "assistant", "content": [
        ...     {"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "42"}]}])
        [{'role': 'assistant', 'content': [{'type': 'text', 'text': '42'}]}]
    """
    return [_message(each) for each in messages]


def portable_content(content: Any) -> Any:
    """The same for the content of one message."""
    if not isinstance(content, list):
        return content
    return [
        {key: value for key, value in cast("Mapping[str, Any]", block).items() if key not in _KEYS}
        if isinstance(block, Mapping)
        else block
        for block in cast("list[Any]", content)
        if not (isinstance(block, Mapping) and _is_foreign(cast("Mapping[str, Any]", block)))
    ]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if key not in _KEYS}
    if "content" in kept:
        kept["content"] = portable_content(kept["content"])
    return kept


def _is_foreign(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _THOUGHTS or bool(_MARKS & block.keys())
