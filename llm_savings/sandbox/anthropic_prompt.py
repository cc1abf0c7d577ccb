"""Anthropic's prompt as it is counted and cached: tools, then the system prompt, then the messages, block by block.

Source: https://docs.claude.com/en/docs/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .answers import Tool
from .anthropic_rules import text_of
from .count import AnthropicTokens, anthropic_tokens
from .prompt_cache import LONG, SHORT, Block
from .wire import JSON, dumps, is_object, mapping, sequence

# What the wire format itself costs, in the order of what Anthropic reports for real requests. Tools: the system
# prompt that tool use adds (346 tokens with tool_choice auto, 313 with any or tool on Claude 4 and 3.5 models).
# Source: https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview#pricing
PER_REQUEST, PER_MESSAGE, PER_TOOL, PER_CALL, PER_ANSWER = 4, 3, 12, 20, 3
TOOLS_AUTO, TOOLS_FORCED = 346, 313
IMAGE = 1_600


def prompt_blocks(body: JSON, tools: Sequence[Tool], choice: str, schema: object) -> list[Block]:
    """The whole prompt of a request that has been checked, in the order in which it is cached."""
    tokens = anthropic_tokens()
    blocks = [Block("", PER_REQUEST + _explained(tools, choice))]
    for tool, entry in zip(tools, sequence(body.get("tools")), strict=True):
        size = tokens(tool.name) + tokens(tool.description) + tokens(dumps(tool.schema)) + PER_TOOL
        blocks.append(_block(entry, "tool", size))
    if is_object(schema):
        blocks.append(Block(dumps(schema), tokens(dumps(schema)) + PER_TOOL))
    blocks += _blocks(body.get("system"), "system", tokens)
    turns = sequence(body["messages"])
    # Other than tools and system prompt, the messages also depend on these.
    images = any(_images(block) for turn in turns for block in sequence(turn["content"]))
    lead = dumps([body.get("tool_choice"), body.get("thinking"), images])
    for turn in turns:
        first, *others = _blocks(turn["content"], turn["role"], tokens) or [Block("", 0)]
        blocks += [Block(f"{lead} {first.content}", first.tokens + PER_MESSAGE, first.ttl), *others]
        lead = turn["role"]
    automatic = mapping(body.get("cache_control"))
    if automatic and blocks[-1].ttl is None:
        blocks[-1] = Block(blocks[-1].content, blocks[-1].tokens, _ttl(automatic))
    return blocks


def _explained(tools: Sequence[Tool], choice: str) -> int:
    """Tokens of the hidden system prompt that explains tools."""
    return 0 if not tools else TOOLS_AUTO if choice in ("auto", "none") else TOOLS_FORCED


def _blocks(content: object, role: str, tokens: AnthropicTokens) -> list[Block]:
    blocks: list[Block] = []
    entries = [{"type": "text", "text": content}] if isinstance(content, str) else sequence(content)
    for entry in map(mapping, entries):
        size = sum(tokens(text) for text in text_of([entry])) + IMAGE * _images(entry)
        if entry.get("type") == "tool_use":
            size += PER_CALL + tokens(entry["name"]) + tokens(dumps(entry.get("input")))
        elif entry.get("type") == "tool_result":
            size += PER_CALL + sum(tokens(text) for text in text_of(entry.get("content")))
        blocks.append(_block(entry, role, size))
    return blocks


def _block(entry: JSON, role: str, size: int) -> Block:
    inner = [mapping(part).get("cache_control") for part in sequence(entry.get("content"))]
    marks = [mark for mark in (entry.get("cache_control"), *inner) if mark]
    return Block(f"{role} {dumps(_unmarked(entry))}", size, _ttl(mapping(marks[-1])) if marks else None)


def _unmarked(entry: JSON) -> JSON:
    plain: dict[str, Any] = {name: value for name, value in entry.items() if name != "cache_control"}
    if sequence(entry.get("content")):
        plain["content"] = [_unmarked(part) if is_object(part) else part for part in entry["content"]]
    return plain


def _ttl(mark: JSON) -> float:
    return LONG if mark.get("ttl") == "1h" else SHORT


def _images(block: JSON) -> int:
    inner = sequence(block.get("content")) if block.get("type") == "tool_result" else [block]
    return sum(mapping(item).get("type") == "image" for item in inner)
