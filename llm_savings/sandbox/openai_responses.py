"""OpenAI's Responses: POST /v1/responses, whole and streamed; nothing is stored.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from .answers import Replies, Tool
from .catalog import Model, find
from .count import openai_tokens
from .openai_prompt import cached, prompt_blocks
from .openai_rules import (
    RESPONSES_PARAMETERS,
    billed_tier,
    check_body,
    check_model_parameters,
    read_format,
    read_function,
)
from .openai_wire import Choice, Writing, check_context, read_ask
from .prompt_cache import Account, Split
from .wire import JSON, Event, WireError, Work, check_range, dumps, mapping, pieces, sequence


def respond(body: JSON, answers: Replies, account: Account) -> Work:
    """The work that a Responses request asks for.

    Raises:
        WireError: OpenAI would refuse it, or it needs stored state or a tool of the provider's own.
    """
    check_body(body, RESPONSES_PARAMETERS, required=("model", "input"))
    for name in ("previous_response_id", "conversation", "prompt", "background"):
        if body.get(name):
            raise WireError(400, f"The sandbox stores nothing: '{name}' is not supported.", param=name)
    model = find("openai", body["model"])
    effort = mapping(body.get("reasoning")).get("effort")
    check_model_parameters({**body, "reasoning_effort": effort}, model)
    check_range(body, "max_output_tokens", 16, model.max_output)
    messages = _messages(body)
    tools = _tools(body)
    schema = read_format(mapping(mapping(body.get("text")).get("format")), messages)
    blocks = prompt_blocks(messages, tools, schema)
    check_context(sum(block.tokens for block in blocks), model)
    ask = read_ask(body, messages, model, tools, schema)
    limit = body.get("max_output_tokens") or model.max_output
    choice = Writing(model, openai_tokens(), limit).write(answers.reply(ask), ask, effort or "medium")
    return _work(body, model, cached(account, model, body, blocks), choice)


def _messages(body: JSON) -> list[JSON]:
    """The input as chat messages: instructions first, then turns, calls and their outputs."""
    found: list[JSON] = []
    if body.get("instructions"):
        found.append({"role": "developer", "content": body["instructions"]})
    if isinstance(body["input"], str):
        return [*found, {"role": "user", "content": body["input"]}]
    for number, item in enumerate(sequence(body["input"])):
        entry = mapping(item)
        kind = entry.get("type", "message")
        if kind == "message":
            role = entry.get("role")
            if role not in ("user", "assistant", "system", "developer"):
                place = f"input[{number}].role"
                raise WireError(400, f"Invalid value: {role!r}.", code="invalid_value", param=place)
            found.append({"role": role, "content": _parts(entry.get("content"), f"input[{number}].content")})
        elif kind == "function_call":
            function = {"name": entry.get("name"), "arguments": entry.get("arguments")}
            call = {"id": entry.get("call_id"), "function": function}
            found.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = entry.get("output")
            found.append({"role": "tool", "content": output if isinstance(output, str) else dumps(output)})
        elif kind != "reasoning":
            raise WireError(400, f"Invalid value: {kind!r}.", code="invalid_value", param=f"input[{number}].type")
    return found


def _parts(content: object, place: str) -> Any:
    if isinstance(content, str):
        return content
    parts: list[JSON] = []
    for number, part in enumerate(sequence(content)):
        kind = mapping(part).get("type")
        if kind in ("input_text", "output_text", "text"):
            mark = mapping(part).get("prompt_cache_breakpoint")
            marked = {} if mark is None else {"prompt_cache_breakpoint": mark}
            parts.append({"type": "text", "text": str(mapping(part).get("text", "")), **marked})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": {"detail": mapping(part).get("detail")}})
        else:
            raise WireError(400, f"Invalid value: {kind!r}.", code="invalid_value", param=f"{place}[{number}].type")
    return parts


def _tools(body: JSON) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for number, tool in enumerate(sequence(body.get("tools"))):
        if mapping(tool).get("type") != "function":
            raise WireError(400, "The sandbox runs no tools of the provider's own.", param=f"tools[{number}].type")
        tools.append(read_function(mapping(tool), f"tools[{number}]"))
    return tuple(tools)


def _work(body: JSON, model: Model, split: Split, choice: Choice) -> Work:
    tokens = openai_tokens()
    tier = billed_tier(body.get("service_tier"), model)

    def usage(output: int) -> JSON:
        return {
            "input_tokens": split.total,
            "input_tokens_details": {"cached_tokens": split.read, "cache_write_tokens": split.short},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": min(choice.reasoning, output)},
            "total_tokens": split.total + output,
        }

    cut = choice.finish == "length"
    created = int(time.time())
    response: JSON = {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": model.snapshot,
        "output": _output(model, choice),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": mapping(body.get("reasoning")).get("effort"), "summary": None},
        "service_tier": "default" if tier == "standard" else tier,
        "store": False,
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": "disabled",
        "usage": usage(choice.tokens),
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }
    return Work(
        id=response["id"],
        endpoint="/v1/responses",
        model=body["model"],
        tier=tier,
        stream=body.get("stream") is True,
        user=body.get("user"),
        usage=response["usage"],
        body=response,
        events=_stream(response),
        partial=lambda text: usage(min(choice.tokens, choice.reasoning + tokens(text))),
    )


def _output(model: Model, choice: Choice) -> list[JSON]:
    status = "incomplete" if choice.finish == "length" else "completed"
    items: list[JSON] = []
    if model.reasoning:
        items.append({"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": []})
    for call in choice.answer.calls:
        items.append(
            {
                "id": f"fc_{uuid.uuid4().hex}",
                "type": "function_call",
                "status": status,
                "call_id": f"call_{uuid.uuid4().hex[:24]}",
                "name": call.name,
                "arguments": call.arguments,
            }
        )
    if choice.answer.text:
        part: JSON = {"type": "output_text", "text": choice.answer.text, "annotations": [], "logprobs": []}
        if choice.answer.ended == "refused":
            part = {"type": "refusal", "refusal": choice.answer.text}
        items.append(
            {
                "id": f"msg_{uuid.uuid4().hex}",
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": [part],
            }
        )
    return items


def _stream(response: JSON) -> Callable[[], Iterator[Event]]:
    """response.created, each output item in pieces, response.completed (or incomplete) with the usage."""

    def events() -> Iterator[Event]:
        number = -1

        def event(name: str, payload: JSON, text: str = "", complete: bool = False) -> Event:
            nonlocal number
            number += 1
            data = dumps({"type": name, "sequence_number": number, **payload})
            return Event(f"event: {name}\ndata: {data}\n\n".encode(), text, complete)

        begun: JSON = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        yield event("response.created", {"response": begun})
        yield event("response.in_progress", {"response": begun})
        for index, item in enumerate(response["output"]):
            place: JSON = {"output_index": index, "item_id": item["id"]}
            opened: JSON = dict(item)
            if item["type"] != "reasoning":
                opened |= {"status": "in_progress"}
                opened |= {"content": []} if item["type"] == "message" else {"arguments": ""}
            yield event("response.output_item.added", {"output_index": index, "item": opened})
            if item["type"] == "message":
                part = item["content"][0]
                place["content_index"] = 0
                kind = part["type"]
                member, more = ("refusal", JSON()) if kind == "refusal" else ("text", JSON(logprobs=[]))
                yield event("response.content_part.added", {**place, "part": {**part, member: ""}})
                for piece in pieces(part[member]):
                    yield event(f"response.{kind}.delta", {**place, "delta": piece, **more}, piece)
                yield event(f"response.{kind}.done", {**place, member: part[member], **more})
                yield event("response.content_part.done", {**place, "part": part})
            elif item["type"] == "function_call":
                for piece in pieces(item["arguments"]):
                    yield event("response.function_call_arguments.delta", {**place, "delta": piece}, piece)
                whole = {**place, "name": item["name"], "arguments": item["arguments"]}
                yield event("response.function_call_arguments.done", whole)
            yield event("response.output_item.done", {"output_index": index, "item": item})
        yield event(f"response.{response['status']}", {"response": response}, complete=True)

    return events
