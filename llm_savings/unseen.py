"""Whether a provider may read more than a request carries: then nothing here bounds its prompt.

The same for chat completions, the Responses API, Anthropic's messages, Gemini and Bedrock, whichever host sends them.
Sources: the API references of OpenAI, Anthropic, Google, AWS and xAI, read in November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

# Parameters that stand for text that the provider keeps, or let it search or call servers while it answers.
_PARAMETERS = frozenset({
    "tools", "functions", "previous_response_id", "conversation", "prompt", "cached_content", "cachedContent",
    "container", "mcp_servers", "web_search_options", "search_parameters", "enable_search", "plugins",
    "vector_store_ids", "file_ids", "data_sources",
})  # fmt: skip
_NOT_GIVEN: tuple[object, ...] = (
    None,
    False,
    "",
    [],
)  # but {} is: `web_search_options={}` searches with the usual options
_TOOLS = ("tools", "functions")
# Models that search without being told to.
_SEARCHING = re.compile(r"-search-(?:preview|api)|deep-research|(?:^|/)sonar")
# Types of tools that the caller runs; any other type runs at the provider, which reads pages and files into the prompt.
_OWN_TOOLS = (
    "function", "custom", "bash_", "text_editor_", "computer_", "memory_", "local_shell", "apply_patch",
)  # fmt: skip
_DECLARING = ("name", "function", "function_declarations", "functionDeclarations", "toolSpec")

# Blocks of files: kept by the provider or a server, or here with a length in tokens that their bytes do not tell (a PDF
# may have any number of pages, a film any number of pictures). Gemini and Bedrock name them by key, not by type.
_FILES = frozenset({
    "file", "input_file", "document", "container_upload", "item_reference", "video", "video_url", "input_video",
    "media",
})  # fmt: skip
_FILE_KEYS = frozenset({"document", "image", "video", "file_data", "fileData", "inline_data", "inlineData"})
_REFERENCES = frozenset({"file_id", "file_uri", "fileUri", "file_url", "url"})
# An image by reference is bounded, unless it is none: some hosts take PDFs and films under the name of an image.
_IMAGES = frozenset({"image", "image_url", "input_image"})
_NO_IMAGE = re.compile(r"[^?#]*\.(?:pdf|docx?|pptx?|xlsx?|csv|txt|html?|mp[34g]|mpeg|mov|avi|webm|wav)(?:[?#]|$)", re.I)
_LEAVES = (str, bytes, bytearray, int, float)
_NESTED = ("content", "output", "parts")


def may_read_more(model: str, params: Mapping[str, Any], prompt: Any) -> bool:
    """Whether the prompt that is billed may be longer than what this request carries.

    Args:
        model: The model asked for.
        params: The request's parameters, `tools` and `extra_body` among them.
        prompt: Messages, input items, blocks or text, in the wire format of any provider.

    Example:
        >>> may_read_more("gpt-4o", {"tools": [{"type": "web_search"}]}, [{"role": "user", "content": "hi"}])
        True
    """
    if not _PARAMETERS.isdisjoint(params) and _adds(params):
        return True
    extra = params.get("extra_body")
    return _searches(model) or bool(extra and _adds(extra)) or bool(prompt and _holds_file(prompt))


@lru_cache(maxsize=1024)
def _searches(model: str) -> bool:
    return _SEARCHING.search(model) is not None


def _adds(params: Mapping[str, Any]) -> bool:
    if any(not _is_own(tool) for name in _TOOLS for tool in params.get(name) or ()):
        return True
    return any(params.get(name) not in _NOT_GIVEN for name in _PARAMETERS if name not in _TOOLS)


def _is_own(tool: Any) -> bool:
    """Whether a tool is run by the caller, so that what it reads comes back as a message."""
    if not isinstance(tool, Mapping):
        return True
    kind = cast("Mapping[str, Any]", tool).get("type")
    return str(kind).startswith(_OWN_TOOLS) if kind else any(key in tool for key in _DECLARING)


def _holds_file(value: Any) -> bool:
    if isinstance(value, _LEAVES):
        return False
    if type(value) is dict and "type" not in value and isinstance(cast("dict[str, Any]", value).get("content"), str):
        return False  # a plain message, as nearly all are
    if isinstance(value, Sequence):
        return any(map(_holds_file, cast("Sequence[Any]", value)))
    if not isinstance(value, Mapping):
        return False
    block = cast("Mapping[str, Any]", value)
    if _is_file(block):
        return True
    return any(_holds_file(block[name]) for name in _NESTED if name in block)


def _is_file(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    if not isinstance(kind, str):
        return not _FILE_KEYS.isdisjoint(block)
    if kind in _IMAGES:
        return _is_no_image(block.get("image_url") or block.get("url"))
    if kind in _FILES:
        source = block.get("source")
        inside = cast("Mapping[str, Any]", source).get("type") if isinstance(source, Mapping) else None
        if inside == "content":
            return _holds_file(source)
        return "text" not in (inside, block.get("source_type"))
    return not _REFERENCES.isdisjoint(block) and any(block.get(name) for name in _REFERENCES)


def _is_no_image(given: Any) -> bool:
    url = cast("Mapping[str, Any]", given).get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str):
        return False
    return not url.startswith("data:image/") if url.startswith("data:") else bool(_NO_IMAGE.match(url))
