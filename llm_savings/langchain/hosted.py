# pyright: standard
"""What a provider charged for beside tokens: the tools that it ran itself, as the answer's blocks show them.

Sources: the pricing pages of OpenAI (web search, file search, code interpreter), Anthropic (web search) and Google
(grounding), read in November 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage

# Charged by the call, by the container or by another model's tokens; no usage carries any of them.
_UNPRICED = frozenset({"file_search_call", "code_interpreter_call", "image_generation_call"})
_UNPRICED_NAMES = frozenset({"file_search", "code_interpreter", "image_generation"})


def web_searches(messages: Sequence[AIMessage]) -> int:
    """How many web searches an answer used. OpenAI charges for searching, not for opening a page it has found."""
    return sum(map(_is_search, _blocks(messages)))


def beyond_prices(messages: Sequence[AIMessage]) -> bool:
    """Whether the provider ran something whose charge is in no usage, so that tokens alone would be too little."""
    for message in messages:
        grounding = message.response_metadata.get("grounding_metadata")
        if isinstance(grounding, Mapping) and grounding.get("web_search_queries"):
            return True
    return any(
        block.get("type") in _UNPRICED
        or (block.get("type") == "server_tool_call" and block.get("name") in _UNPRICED_NAMES)
        for block in _blocks(messages)
    )


def _is_search(block: Mapping[str, Any]) -> bool:
    kind, name = block.get("type"), block.get("name")
    # A tool of the caller's may have the same name; its block has another type.
    if kind != "web_search_call" and not (kind in ("server_tool_use", "server_tool_call") and name == "web_search"):
        return False
    # "args" where LangChain has translated the block.
    action = block.get("action") or block.get("args")
    return not isinstance(action, Mapping) or action.get("type", "search") == "search"


def _blocks(messages: Sequence[AIMessage]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        # Older output versions of ChatOpenAI keep these blocks beside the content.
        held = [message.content, message.additional_kwargs.get("tool_outputs")]
        for block in [block for blocks in held if isinstance(blocks, list) for block in blocks]:
            if isinstance(block, Mapping):
                yield block
