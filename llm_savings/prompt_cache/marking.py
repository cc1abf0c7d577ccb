"""`apply_plan`: a plan's marks written into copies of the messages, in the provider's own form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from llm_savings.prompt_cache.plan import Plan
from llm_savings.prompt_cache.prompt import Part, tool_name
from llm_savings.prompt_cache.rules import Dialect

_MarkOf = dict[int | None, str]


def apply_plan(
    plan: Plan,
    messages: Sequence[Any],
    tools: Sequence[Any] | None = None,
    *,
    system: Any = None,
    dialect: Dialect | None = None,
) -> tuple[list[Any], list[Any] | None, dict[str, Any]]:
    """Set a plan's marks. What is given is not changed, and the text sent stays the same to the byte.

    Args:
        plan: What `plan_breakpoints` made of the same messages, tools and system text.
        messages: The messages.
        tools: The tool definitions, or None.
        system: System text given apart, or None.
        dialect: How marks are written, where the host translates: LiteLLM turns "anthropic" marks into Bedrock's.

    Returns:
        The messages, the tools, and other parameters of the call to set: "system" where it was given apart,
        "prompt_cache_key" and "prompt_cache_options" on OpenAI.

    Example:
        >>> from llm_savings.prompt_cache import Memory, plan_breakpoints
        >>> talk = [{"role": "user", "content": "Hi"}]
        >>> apply_plan(plan_breakpoints(talk, None, "gpt-4o", memory=Memory()), talk)[0] == talk
        True
    """
    form = dialect or plan.dialect
    marks: dict[tuple[Part, int], _MarkOf] = defaultdict(dict)
    for mark in plan.marks:
        marks[mark.place.part, mark.place.number][mark.place.block] = mark.ttl
    extra: dict[str, Any] = {}
    if system is not None:
        extra["system"] = _content(system, _of_part("system", marks), form)
    sent = [
        _message(message, marks["messages", index], form) if ("messages", index) in marks else message
        for index, message in enumerate(messages)
    ]
    kit = None if tools is None else _blocks(tools, _of_part("tools", marks), form)
    if plan.prompt_cache_key:
        extra["prompt_cache_key"] = plan.prompt_cache_key
    if form == "openai":
        # Without it the provider writes the newest message at 1.25x, reused or not.
        extra["prompt_cache_options"] = {"mode": "explicit", "ttl": "30m"}
    return sent, kit, extra


def _message(message: Any, marks: Mapping[int | None, str], form: Dialect) -> Any:
    fields = cast("dict[str, Any]", message)
    content = fields.get("content")
    calls = cast("list[Any]", fields.get("tool_calls") or [])
    blocks = 1 if isinstance(content, str) else len(cast("list[Any]", content or []))
    in_content = {block: ttl for block, ttl in marks.items() if block is None or block < blocks}
    on_calls = {block - blocks: ttl for block, ttl in marks.items() if block is not None and block >= blocks}
    new = dict(fields)
    if in_content:
        new["content"] = _content(content, in_content, form)
    if on_calls:
        new["tool_calls"] = [_marked(c, on_calls[n], form) if n in on_calls else c for n, c in enumerate(calls)]
    return new


def _content(content: Any, marks: Mapping[int | None, str], form: Dialect) -> Any:
    if not marks:
        return content
    if isinstance(content, str):
        ttl = next(iter(marks.values()))
        block = {"text": content} if form == "bedrock" else {"type": "text", "text": content}
        return [block, _cache_point(ttl)] if form == "bedrock" else [_marked(block, ttl, form)]
    return _blocks(cast("Sequence[Any]", content), marks, form)


def _blocks(blocks: Sequence[Any], marks: Mapping[int | None, str], form: Dialect) -> list[Any]:
    new: list[Any] = []
    for number, block in enumerate(blocks):
        ttl = marks.get(number)
        if ttl is None:
            new.append(block)
        elif form == "bedrock":
            new += [block, _cache_point(ttl)]
        else:
            new.append(_marked(block, ttl, form))
    return new


def _of_part(part: Part, marks: Mapping[tuple[Part, int], _MarkOf]) -> _MarkOf:
    return {number: ttl for (where, number), found in marks.items() if where == part for ttl in found.values()}


def _marked(block: Any, ttl: str, form: Dialect) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "text", "text": block} if isinstance(block, str) else dict(block)
    if form == "openai":
        return {**fields, "prompt_cache_breakpoint": {"mode": "explicit"}}
    return {**fields, "cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl != "5m" else {})}


def _cache_point(ttl: str) -> dict[str, Any]:
    return {"cachePoint": {"type": "default"} | ({"ttl": ttl} if ttl != "5m" else {})}


def steady(tools: Sequence[Any]) -> list[Any]:
    """Copies of tools, sorted by name and with the JSON keys of each sorted, so that equal sets are equal to the byte.

    For tools that are put together anew for every call, from a set or a registry. It changes what is sent, so it is
    never done unasked. Lists inside a tool keep their order.

    Args:
        tools: Tool definitions in any provider's form.

    Example:
        >>> steady([{"name": "b", "description": ""}, {"name": "a"}])
        [{'name': 'a'}, {'description': '', 'name': 'b'}]
    """
    return sorted((_with_sorted_keys(tool) for tool in tools), key=tool_name)


def _with_sorted_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        return {key: _with_sorted_keys(pairs[key]) for key in sorted(pairs)}
    if isinstance(value, list):
        return [_with_sorted_keys(item) for item in cast("list[Any]", value)]
    return value
