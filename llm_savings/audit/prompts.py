"""Prompts and answers in OpenAI's shape, from Anthropic's, Gemini's, LangChain's and OpenTelemetry's.

Sources: the API references of OpenAI (chat completions, responses) and Anthropic (messages); langchain-core's
`dumpd` of messages; the JSON schemas of gen_ai.input.messages and gen_ai.output.messages in the semantic conventions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from llm_savings.audit.values import unpacked

_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "humanmessage": "user", "aimessage": "assistant"}
_TEXTS = frozenset(("text", "input_text", "output_text", "refusal"))
_ROLES_OF_CLASSES = {"SystemMessage": "system", "ToolMessage": "tool", "FunctionMessage": "tool"}


def messages(value: Any, system: Any = None) -> list[dict[str, Any]] | None:
    """A prompt as messages in OpenAI's shape, or None where there is none.

    Args:
        value: Messages, a text, or an object that holds one of them.
        system: A system prompt that is given apart.

    Example:
        >>> messages([{"role": "user", "content": "hi"}], system="Be brief.")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'hi'}]
    """
    found = list(_read(value))
    if not found:
        return None
    system = unpacked(system)
    if system:
        found.insert(0, {"role": "system", "content": _content(system)})
    return found


def answer(value: Any) -> tuple[str | None, bool]:
    """The text of an answer in any such shape, and whether it called tools."""
    if isinstance(value := unpacked(value), str):
        return value, False
    found = list(_read(value))
    texts = [text for message in found if (text := text_of(message.get("content")))]
    return "\n".join(texts) if texts else None, any(message.get("tool_calls") for message in found)


def text_of(content: Any) -> str:
    """The text in a message's content."""
    if isinstance(content, str):
        return content
    blocks = cast("list[Any]", content) if isinstance(content, list) else []
    texts = [cast("dict[str, Any]", block).get("text") for block in blocks if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def tools(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools in OpenAI's shape."""
    found: list[dict[str, Any]] = []
    given = unpacked(value)
    for item in cast("list[Any]", given) if isinstance(given, list) else []:
        if not isinstance(item, dict):
            continue
        tool = cast("dict[str, Any]", item)
        if "function" in tool or "name" not in tool or tool.get("type", "function") not in ("function", "custom"):
            found.append(tool)  # in OpenAI's shape, or a tool of the provider's own
            continue
        function: dict[str, Any] = {
            "name": tool["name"],
            "parameters": tool.get("input_schema") or tool.get("parameters") or dict[str, Any](),
        }
        if tool.get("description"):
            function["description"] = tool["description"]
        found.append({"type": "function", "function": function})
    return found


def _read(value: Any) -> Iterator[dict[str, Any]]:
    value = unpacked(value)
    if isinstance(value, str):
        if value:
            yield {"role": "user", "content": value}
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _read(item)
    elif isinstance(value, dict):
        one = cast("dict[str, Any]", value)
        inner = one.get("kwargs") if one.get("type") == "constructor" else one.get("data")
        if isinstance(inner, dict) and ("id" in one or "type" in one):  # LangChain's own serialization
            yield from _message({"role": _class(one)} | cast("dict[str, Any]", inner))
        elif "role" in one or "parts" in one or one.get("type") in _KINDS or ("content" in one and "type" in one):
            yield from _message(one)
        else:
            for key in ("messages", "input", "prompt", "contents", "message", "content", "text", "output"):
                if one.get(key):
                    yield from _read(one[key])
                    return


_KINDS = frozenset(("function_call", "function_call_output", "human", "ai", "system", "tool"))


def _class(one: Mapping[str, Any]) -> Any:
    path = one.get("id")
    if isinstance(path, list) and path:
        last = str(cast("list[Any]", path)[-1]).removesuffix("Chunk")
        return _ROLES_OF_CLASSES.get(last) or _ROLES.get(last.lower(), "user")
    return one.get("type")


def _message(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = one.get("type")
    if kind == "function_call":  # the responses API's, which stand between its messages
        yield {"role": "assistant", "content": None, "tool_calls": [_call(one.get("call_id"), one)]}
        return
    if kind == "function_call_output":
        yield {"role": "tool", "tool_call_id": one.get("call_id"), "content": _content(one.get("output"))}
        return
    role = one.get("role") or kind
    role = _ROLES.get(role, role) if isinstance(role, str) else "user"
    content = one.get("content") if one.get("content") is not None else one.get("parts")
    calls = [_call(c.get("id"), c) for c in _dicts(one.get("tool_calls"))]
    blocks: list[Any] = []
    for block in cast("list[Any]", content) if isinstance(content, list) else []:
        inner = cast("dict[str, Any]", block) if isinstance(block, dict) else {}
        if inner.get("type") in ("tool_use", "tool_call"):
            calls.append(_call(inner.get("id"), inner))
        elif inner.get("type") in ("tool_result", "tool_call_response"):
            said = inner.get("content") if "content" in inner else inner.get("response", inner.get("result"))
            yield {
                "role": "tool",
                "tool_call_id": inner.get("tool_use_id") or inner.get("id"),
                "content": _content(said),
            }
        else:
            blocks.append(block)
    if isinstance(content, list) and not blocks and content and not calls:
        return  # there was nothing but results of tools
    made: dict[str, Any] = {"role": role, "content": _content(blocks if isinstance(content, list) else content)}
    if calls:
        made["tool_calls"] = list({call["id"] or place: call for place, call in enumerate(calls)}.values())
    for key in ("tool_call_id", "name"):
        if one.get(key):
            made[key] = one[key]
    yield made


def _dicts(value: Any) -> list[dict[str, Any]]:
    value = unpacked(value)
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _call(number: Any, one: Mapping[str, Any]) -> dict[str, Any]:
    inner = one.get("function")
    held = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else one
    given = next((held[key] for key in ("arguments", "input", "args") if held.get(key) is not None), dict[str, Any]())
    arguments = given if isinstance(given, str) else orjson.dumps(given, default=str).decode()
    return {"id": number, "type": "function", "function": {"name": held.get("name"), "arguments": arguments}}


def _content(value: Any) -> Any:
    """Content as a text, or as parts where there is more than text."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        return orjson.dumps(value, default=str).decode()
    parts: list[Any] = []
    for block in cast("list[Any]", value):
        inner = cast("dict[str, Any]", block) if isinstance(block, dict) else {"text": str(block)}
        text = inner.get("text") if inner.get("text") is not None else inner.get("content")
        if inner.get("type", "text") in _TEXTS and isinstance(text, str):
            parts.append(
                {"type": "text", "text": text} | ({"cache_control": c} if (c := inner.get("cache_control")) else {})
            )
        else:
            parts.append(inner)
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return parts[0]["text"]
    return parts
