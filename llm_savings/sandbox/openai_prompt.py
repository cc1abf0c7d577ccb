"""OpenAI's prompt as it is counted and cached: tools, a schema, then the messages, part by part.

Source: https://platform.openai.com/docs/guides/prompt-caching
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from .answers import Tool
from .catalog import Model
from .count import OpenAITokens, openai_tokens
from .prompt_cache import HALF_HOUR, MARKS, MINIMUM, Account, Block, Split
from .wire import JSON, dumps, mapping, sequence

# What the wire format itself costs. Messages: OpenAI's cookbook, "How to count tokens with tiktoken". Tools: a
# preamble and a frame around each. Images: the fixed low-detail price, and a typical high-detail one.
PER_MESSAGE, PER_NAME, PRIMING = 3, 1, 3
PER_TOOLS, PER_TOOL, PER_CALL = 9, 7, 5
IMAGE_LOW, IMAGE_HIGH = 85, 765


def prompt_blocks(messages: Sequence[Any], tools: Sequence[Tool], schema: JSON | None) -> list[Block]:
    """The whole prompt of a request that has been checked, in the order in which it is cached."""
    tokens = openai_tokens()
    blocks: list[Block] = [Block("", PER_TOOLS)] if tools else []
    for tool in tools:
        size = tokens(tool.name) + tokens(tool.description) + tokens(dumps(tool.schema)) + PER_TOOL
        blocks.append(Block(dumps([tool.name, tool.description, tool.schema]), size))
    if schema is not None:
        blocks.append(Block(dumps(schema), tokens(dumps(schema)) + PER_TOOL))
    for message in messages:
        blocks += _blocks(message, tokens)
    return [*blocks, Block("", PRIMING)]


def cached(account: Account, model: Model, body: JSON, blocks: list[Block]) -> Split:
    """Where the prompt's tokens go, by the rules of this model."""
    total = sum(block.tokens for block in blocks)
    name = f"{model.name} {body.get('prompt_cache_key')}"  # requests of another key end up on another machine
    if not model.breakpoints:
        read = account.automatic(name, "\n".join(block.content for block in blocks), total)
        return Split(total - read, read)
    explicit = mapping(body.get("prompt_cache_options")).get("mode") == "explicit"
    marks = [number for number, block in enumerate(blocks) if block.ttl is not None]
    for number in marks[: -(MARKS - (not explicit))]:  # only the latest are written
        blocks[number] = replace(blocks[number], ttl=None)
    if not explicit:
        blocks[-2] = replace(blocks[-2], ttl=HALF_HOUR)
    return account.marked(name, blocks, minimum=MINIMUM, lookback=None)


def text_of(content: object) -> str:
    """The text of a message's content, whether it is a string or parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in sequence(content) if "text" in part)


def _blocks(message: JSON, tokens: OpenAITokens) -> Iterator[Block]:
    frame = PER_MESSAGE + tokens(message["role"])
    if message.get("name"):
        frame += PER_NAME + tokens(message["name"])
    lead = f"{message['role']} {message.get('name')}"
    content = message.get("content")
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else sequence(content):
        ttl = None if part.get("prompt_cache_breakpoint") is None else HALF_HOUR
        plain = {name: value for name, value in part.items() if name != "prompt_cache_breakpoint"}
        yield Block(f"{lead} {dumps(plain)}", frame + _size(part, tokens), ttl)
        frame, lead = 0, ""
    calls = [mapping(mapping(call).get("function")) for call in sequence(message.get("tool_calls"))]
    size = sum(PER_CALL + tokens(str(call.get("name"))) + tokens(str(call.get("arguments"))) for call in calls)
    if frame or size:
        yield Block(f"{lead} {dumps(calls)}", frame + size)


def _size(part: JSON, tokens: OpenAITokens) -> int:
    if part["type"] == "image_url":
        return IMAGE_LOW if mapping(part.get("image_url")).get("detail") == "low" else IMAGE_HIGH
    return tokens(str(part.get("text", "")))
