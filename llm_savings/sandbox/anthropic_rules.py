"""What Anthropic accepts: parameters as data, and checks that answer as Anthropic does.

Source: https://docs.claude.com/en/api/messages (November 2026)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .answers import Tool
from .wire import JSON, WireError, check_types, is_array, is_object, mapping, sequence

MESSAGE_PARAMETERS = {
    "cache_control": "object",
    "container": "string|object",
    "context_management": "object",
    "inference_geo": "string",
    "max_tokens": "integer",
    "mcp_servers": "array",
    "messages": "array",
    "metadata": "object",
    "model": "string",
    "output_config": "object",
    "output_format": "object",
    "service_tier": "string",
    "speed": "string",
    "stop_sequences": "array",
    "stream": "boolean",
    "system": "string|array",
    "temperature": "number",
    "thinking": "object",
    "tool_choice": "object",
    "tools": "array",
    "top_k": "integer",
    "top_p": "number",
}
COUNT_PARAMETERS = {
    name: MESSAGE_PARAMETERS[name]
    for name in ("cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools")
}
BLOCKS = ("text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking")
MAX_MARKS = 4


def check_body(body: JSON, allowed: dict[str, str], required: tuple[str, ...]) -> None:
    """Refuse unknown members, wrong types and missing ones."""
    for name in body:
        if name not in allowed:
            raise WireError(400, f"{name}: Extra inputs are not permitted")
    check_types(body, allowed)
    for name in required:
        if body.get(name) is None:
            raise WireError(400, f"{name}: Field required")


def check_messages(turns: list[Any]) -> None:
    """Refuse turns that Anthropic refuses: roles, empty texts, unknown blocks, tool results that nobody asked for."""
    if not turns:
        raise WireError(400, "messages: at least one message is required")
    asked: set[str] = set()
    for number, turn in enumerate(turns):
        place = f"messages.{number}"
        role, content = mapping(turn).get("role"), mapping(turn).get("content")
        if role not in ("user", "assistant"):
            raise WireError(400, f"{place}.role: Input should be 'user' or 'assistant', got {role!r}")
        if not (isinstance(content, str) or is_array(content)):
            raise WireError(400, f"{place}.content: Input should be a valid string or list")
        last_answer = role == "assistant" and number == len(turns) - 1
        if not content and not last_answer:
            raise WireError(400, f"{place}: all messages must have non-empty content")
        blocks = sequence(content)
        for index, block in enumerate(blocks):
            _check_block(mapping(block), f"{place}.content.{index}", asked)
        if role == "assistant":
            asked = {str(block.get("id")) for block in blocks if block["type"] == "tool_use"}
        elif missing := asked - {str(block.get("tool_use_id")) for block in blocks}:
            text = "`tool_use` ids were found without `tool_result` blocks immediately after"
            raise WireError(400, f"{place}: {text}: {', '.join(sorted(missing))}")
        else:
            asked = set()
    if mapping(turns[0])["role"] != "user":
        raise WireError(400, "messages: first message must use the user role")


def check_marks(body: JSON) -> None:
    """Refuse malformed cache marks, more than four of them, and an hour's after one of five minutes.

    Source: https://docs.claude.com/en/docs/build-with-claude/prompt-caching
    """
    marks, short = 0, False
    holders = list(_holders(body))
    for place, holder in [*holders[1:], holders[0]]:  # the one at the top stands for the last block
        mark = holder.get("cache_control")
        if mark is None:
            continue
        marks += 1
        if holder.get("type") in ("thinking", "redacted_thinking"):
            raise WireError(400, f"{place}.cache_control: Extra inputs are not permitted")
        if mapping(mark).get("type") != "ephemeral":
            raise WireError(400, f"{place}.cache_control.type: Input should be 'ephemeral'")
        if mapping(mark).get("ttl", "5m") not in ("5m", "1h"):
            raise WireError(400, f"{place}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
        long = mapping(mark).get("ttl") == "1h"
        if long and short:
            text = "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
            raise WireError(400, f"{place}.cache_control.ttl: {text}.")
        short = short or not long
    if marks > MAX_MARKS:
        raise WireError(400, f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {marks}.")


def read_tools(body: JSON) -> tuple[Tool, ...]:
    """The client's tools; a tool that runs at the provider cannot run here."""
    tools: list[Tool] = []
    for number, entry in enumerate(sequence(body.get("tools"))):
        tool = mapping(entry)
        if tool.get("type", "custom") != "custom":
            raise WireError(400, f"tools.{number}.type: the sandbox runs no tools of the provider's own")
        name, schema = tool.get("name"), tool.get("input_schema")
        if not isinstance(name, str) or not name:
            raise WireError(400, f"tools.{number}.custom.name: Field required")
        if not is_object(schema):
            raise WireError(400, f"tools.{number}.custom.input_schema: Field required")
        tools.append(Tool(name, str(tool.get("description") or ""), mapping(schema)))
    return tuple(tools)


# Limits that a schema for an answer may not have. Anthropic's own client moves them to the description.
_NOT_IN_FORMAT = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "prefixItems", "oneOf", "patternProperties", "maxWords",
)  # fmt: skip


def check_format(schema: JSON, place: str = "output_config.format.schema") -> None:
    """Refuse a schema for the answer that Anthropic refuses: open objects and limits.

    Source: https://docs.claude.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations
    """
    for name in schema:
        if name in _NOT_IN_FORMAT:
            raise WireError(400, f"{place}: For '{schema.get('type')}' type, property '{name}' is not supported")
    if is_array(schema.get("type")):
        raise WireError(400, f"{place}.type: Input should be a valid string")
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise WireError(400, f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    for key in ("properties", "$defs"):
        for name, inner in mapping(schema.get(key)).items():
            check_format(mapping(inner), f"{place}.{name}")
    for inner in (schema.get("items"), *sequence(schema.get("anyOf"))):
        if is_object(inner):
            check_format(inner, place)


def read_choice(body: JSON, tools: tuple[Tool, ...]) -> tuple[str, bool]:
    """Which tool to call (see `Ask.choice`), and whether several may be called at once."""
    choice = mapping(body.get("tool_choice"))
    kind = choice.get("type", "auto")
    if kind not in ("auto", "any", "none", "tool"):
        raise WireError(400, f"tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none', got {kind!r}")
    if kind in ("any", "tool") and not tools:
        raise WireError(400, "tool_choice may only be specified while providing tools")
    several = choice.get("disable_parallel_tool_use") is not True
    if kind != "tool":
        return "required" if kind == "any" else str(kind), several
    if not any(tool.name == choice.get("name") for tool in tools):
        raise WireError(400, f"tool_choice.name: Tool '{choice.get('name')}' not found in provided tools")
    return str(choice["name"]), several


def text_of(content: object) -> list[str]:
    """The texts of a content, whether it is a string or blocks; tool results and calls are not among them."""
    if isinstance(content, str):
        return [content]
    texts: list[str] = []
    for block in sequence(content):
        if mapping(block).get("type") in ("text", "document", "thinking"):
            source = mapping(mapping(block).get("source")).get("data")
            texts.append(str(mapping(block).get("text") or mapping(block).get("thinking") or source or ""))
    return texts


def _check_block(block: JSON, place: str, asked: set[str]) -> None:
    kind = block.get("type")
    if kind not in BLOCKS:
        names = ", ".join(f"'{name}'" for name in BLOCKS)
        raise WireError(400, f"{place}: Input tag {kind!r} found using 'type' does not match any of: {names}")
    if kind == "text":
        text = block.get("text")
        if not isinstance(text, str):
            raise WireError(400, f"{place}.text.text: Field required")
        if not text:
            raise WireError(400, "messages: text content blocks must be non-empty")
    if kind == "tool_use" and not isinstance(block.get("name"), str):
        raise WireError(400, f"{place}.tool_use.name: Field required")
    if kind == "tool_result" and str(block.get("tool_use_id")) not in asked:
        text = "unexpected `tool_use_id` found in `tool_result` blocks"
        raise WireError(400, f"{place}: {text}: {block.get('tool_use_id')}")


def _holders(body: JSON) -> Iterator[tuple[str, JSON]]:
    """Everything that may carry a cache mark, in the order in which the prompt is built."""
    yield "", body
    for number, tool in enumerate(sequence(body.get("tools"))):
        yield f"tools.{number}", mapping(tool)
    for number, block in enumerate(sequence(body.get("system"))):
        yield f"system.{number}", mapping(block)
    for turn_number, turn in enumerate(sequence(body.get("messages"))):
        for number, block in enumerate(sequence(mapping(turn).get("content"))):
            yield f"messages.{turn_number}.content.{number}", mapping(block)
            for inner_number, inner in enumerate(sequence(mapping(block).get("content"))):
                yield f"messages.{turn_number}.content.{number}.content.{inner_number}", mapping(inner)
