# pyright: standard
"""LangChain's messages: their text, for counting tokens, and their way out of storage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.load import loads as _loads
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

_unwarned: Callable[..., Any] = getattr(_loads, "__wrapped__", _loads)  # without the notice that it is in beta

# Blocks of text; blocks that repeat the message's tool calls.
_WORDS = ("text", "thinking", "reasoning", "tool_result")
_CALLS = ("tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta")


def loads(written: str) -> Any:
    """What LangChain's `dumps` wrote; of classes, LangChain's own core only."""
    return _unwarned(written, allowed_objects="core")


def readable(message: BaseMessage) -> str | None:
    """A message's text, or None when it holds an image or another thing whose tokens cannot be counted."""
    parts = [*_calls(message)]
    for block in [message.content] if isinstance(message.content, str) else message.content:
        if isinstance(block, str):
            parts.append(block)
        elif (kind := block.get("type")) in _WORDS:
            parts.append(str(block.get("text") or block.get("thinking") or json.dumps(block, default=str)))
        elif kind not in _CALLS:
            return None
    return "\n".join(parts)


def answered(message: BaseMessage) -> str:
    """What a model answered: the arguments of the first tool that it calls, as JSON, or its text without thoughts."""
    if isinstance(message, AIMessage) and message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"], default=str, ensure_ascii=False)
    return str(message.text)


def _calls(message: BaseMessage) -> Iterator[str]:
    if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
        for chunk in message.tool_call_chunks:
            yield f"{chunk.get('name') or ''} {chunk.get('args') or ''}"
    elif isinstance(message, AIMessage):
        for call in message.tool_calls:
            yield f"{call['name']} {json.dumps(call['args'], default=str, ensure_ascii=False)}"
