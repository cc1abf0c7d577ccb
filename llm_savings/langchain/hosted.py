# pyright: standard
"""What a provider charged for beside tokens: the tools that it ran itself, as the answer's blocks show them.

Sources: the pricing pages of OpenAI (web search, file search, code interpreter), Anthropic (web search) and Google
(grounding), read in November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage

# Charged by the call, by the container or by another model's tokens; no usage carries any of them.
_UNPRICED = frozenset({"file_search_call", "code_interpreter_call", "image_generation_call"})
_UNPRICED_NAMES = frozenset({"file_search", "code_interpreter", "image_generation"})


def hosted_tools(messages: Sequence[AIMessage]) -> tuple[int, bool]:
    """What a provider's own tools did for an answer.

    Returns:
        How many web searches were charged (OpenAI charges for searching, not for opening a page it has found), and
        whether something else ran whose charge is in no usage, so that the tokens alone would be too little.
    """
    searches, beyond = 0, False
    for message in messages:
        if grounding := message.response_metadata.get("grounding_metadata"):
            beyond = beyond or (isinstance(grounding, Mapping) and bool(grounding.get("web_search_queries")))
        # Older output versions of ChatOpenAI keep these blocks beside the content.
        for blocks in (message.content, message.additional_kwargs.get("tool_outputs")):
            if isinstance(blocks, list):
                for block in blocks:
                    if isinstance(block, Mapping):
                        searches += _is_search(block)
                        beyond = beyond or _is_beyond(block)
    return searches, beyond


def _is_beyond(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    return kind in _UNPRICED or (kind == "server_tool_call" and block.get("name") in _UNPRICED_NAMES)


def _is_search(block: Mapping[str, Any]) -> bool:
    kind, name = block.get("type"), block.get("name")
    # A tool of the caller's may have the same name; its block has another type.
    if kind != "web_search_call" and not (kind in ("server_tool_use", "server_tool_call") and name == "web_search"):
        return False
    # "args" where LangChain has translated the block.
    action = block.get("action") or block.get("args")
    return not isinstance(action, Mapping) or action.get("type", "search") == "search"
