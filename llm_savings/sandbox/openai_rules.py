"""What OpenAI accepts: parameters as data, and checks that answer as OpenAI does.

Source: https://platform.openai.com/docs/api-reference (November 2026)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .answers import Tool
from .catalog import Model
from .shape import check_strict
from .wire import JSON, WireError, check_types, find_key, is_array, is_object, mapping, sequence

CHAT_PARAMETERS = {
    "audio": "object",
    "frequency_penalty": "number",
    "function_call": "string|object",
    "functions": "array",
    "logit_bias": "object",
    "logprobs": "boolean",
    "max_completion_tokens": "integer",
    "max_tokens": "integer",
    "messages": "array",
    "metadata": "object",
    "modalities": "array",
    "model": "string",
    "moderation": "object",
    "n": "integer",
    "parallel_tool_calls": "boolean",
    "prediction": "object",
    "presence_penalty": "number",
    "prompt_cache_key": "string",
    "prompt_cache_options": "object",
    "prompt_cache_retention": "string",
    "reasoning_effort": "string",
    "response_format": "object",
    "safety_identifier": "string",
    "seed": "integer",
    "service_tier": "string",
    "stop": "string|array",
    "store": "boolean",
    "stream": "boolean",
    "stream_options": "object",
    "temperature": "number",
    "tool_choice": "string|object",
    "tools": "array",
    "top_logprobs": "integer",
    "top_p": "number",
    "user": "string",
    "verbosity": "string",
    "web_search_options": "object",
}
RESPONSES_PARAMETERS = {
    "access_programs": "object",
    "background": "boolean",
    "background_options": "object",
    "context_management": "array",
    "conversation": "string|object",
    "image": "object",
    "include": "array",
    "input": "string|array",
    "instructions": "string",
    "max_output_tokens": "integer",
    "max_tool_calls": "integer",
    "metadata": "object",
    "model": "string",
    "moderation": "object",
    "parallel_tool_calls": "boolean",
    "previous_response_id": "string",
    "prompt": "object",
    "prompt_cache_key": "string",
    "prompt_cache_options": "object",
    "prompt_cache_retention": "string",
    "reasoning": "object",
    "safety_identifier": "string",
    "service_tier": "string",
    "store": "boolean",
    "stream": "boolean",
    "stream_options": "object",
    "temperature": "number",
    "text": "object",
    "tool_choice": "string|object",
    "tools": "array",
    "top_logprobs": "integer",
    "top_p": "number",
    "truncation": "string",
    "user": "string",
}
EMBEDDING_PARAMETERS = {
    "dimensions": "integer",
    "encoding_format": "string",
    "input": "string|array",
    "model": "string",
    "user": "string",
}
ROLES = ("developer", "system", "user", "assistant", "tool", "function")
PARTS = ("text", "image_url", "refusal")
TIERS = ("auto", "default", "flex", "priority")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


def check_body(body: JSON, allowed: dict[str, str], required: tuple[str, ...]) -> None:
    """Refuse unknown parameters, wrong types, missing ones, and Anthropic's cache marks."""
    for name in body:
        if name not in allowed:
            message = f"Unrecognized request argument supplied: {name}"
            raise WireError(400, message, code="unrecognized_request_argument", param=name)
    check_types(body, allowed)
    for name in required:
        if body.get(name) in (None, "", []):
            message = f"Missing required parameter: '{name}'."
            raise WireError(400, message, code="missing_required_parameter", param=name)
    found = find_key(body, "cache_control")
    if found is not None:
        raise WireError(400, f"Unknown parameter: '{found}'.", code="unknown_parameter", param=found)
    tier = body.get("service_tier")
    if tier is not None and tier not in TIERS:
        raise _bad_value("service_tier", tier, TIERS)


def check_model_parameters(body: JSON, model: Model) -> None:
    """Refuse what reasoning models do not take, what only they take, and marks where the cache needs none."""
    _check_breakpoints(body, model)
    if model.reasoning:
        if body.get("max_tokens") is not None:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            )
            raise WireError(400, message, code="unsupported_parameter", param="max_tokens")
        if body.get("temperature") not in (None, 1) and body.get("reasoning_effort") != "none":
            message = (
                f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. "
                "Only the default (1) value is supported."
            )
            raise WireError(400, message, code="unsupported_value", param="temperature")
        effort = body.get("reasoning_effort")
        if effort is not None and effort not in EFFORTS:
            raise _bad_value("reasoning_effort", effort, EFFORTS)
    elif body.get("reasoning_effort") is not None:
        message = "Unrecognized request argument supplied: reasoning_effort"
        raise WireError(400, message, code="unrecognized_request_argument", param="reasoning_effort")


def check_messages(messages: list[Any]) -> None:
    """Refuse messages that OpenAI refuses: roles, contents and unanswered or unasked tool calls."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if not is_object(message):
            raise WireError(400, f"Invalid type for '{place}': expected object.", code="invalid_type", param=place)
        role = message.get("role")
        if role not in ROLES:
            raise _bad_value(f"{place}.role", role, ROLES)
        check_types(message, {"name": "string", "tool_call_id": "string", "tool_calls": "array"}, f"{place}.")
        _check_content(message, f"{place}.content")
        if role == "tool":
            if str(message.get("tool_call_id")) not in open_calls:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise WireError(400, f"Invalid parameter: {text}", param=f"{place}.role")
            open_calls.discard(str(message.get("tool_call_id")))
            continue
        if open_calls:
            text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each."
            raise WireError(400, f"{text} No answer to: {', '.join(sorted(open_calls))}", param=place)
        open_calls = {str(mapping(call).get("id")) for call in sequence(message.get("tool_calls"))}


def _check_breakpoints(body: JSON, model: Model) -> None:
    options = find_key(body, "prompt_cache_options")
    mark = find_key(body, "prompt_cache_breakpoint")
    if not model.breakpoints and (found := options or mark):
        message = f"Unsupported parameter: '{found}' is not supported with this model."
        raise WireError(400, message, code="unsupported_parameter", param=found)
    given = mapping(body.get("prompt_cache_options"))
    if given.get("mode", "implicit") not in ("implicit", "explicit"):
        raise _bad_value("prompt_cache_options.mode", given["mode"], ("implicit", "explicit"))
    for ttl in (given.get("ttl"), *_values(body, "prompt_cache_breakpoint", "ttl")):
        if ttl not in (None, "30m"):  # 12h exists; nobody has published its price
            raise _bad_value("ttl", ttl, ("30m",))
    if any(mode != "explicit" for mode in _values(body, "prompt_cache_breakpoint", "mode")):
        raise _bad_value("prompt_cache_breakpoint.mode", None, ("explicit",))


def _values(value: object, key: str, member: str) -> Iterator[object]:
    """A member of every object under that key."""
    for name, item in mapping(value).items():
        if name == key:
            yield mapping(item).get(member)
        else:
            yield from _values(item, key, member)
    for item in sequence(value):
        yield from _values(item, key, member)


def read_tools(body: JSON) -> tuple[Tool, ...]:
    """The tools of a chat request, new style or `functions`."""
    tools: list[Tool] = []
    entries = [(f"tools[{n}].function", mapping(t).get("function")) for n, t in enumerate(sequence(body.get("tools")))]
    entries += [(f"functions[{n}]", function) for n, function in enumerate(sequence(body.get("functions")))]
    for place, entry in entries:
        tools.append(read_function(mapping(entry), place))
    if body.get("tool_choice") not in (None, "none", "auto") and not tools:
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise WireError(400, message, param="tool_choice")
    return tuple(tools)


def read_function(function: JSON, place: str) -> Tool:
    """One function's definition."""
    name = function.get("name")
    if not isinstance(name, str) or not name:
        message = f"Missing required parameter: '{place}.name'."
        raise WireError(400, message, code="missing_required_parameter", param=f"{place}.name")
    schema = mapping(function.get("parameters"))
    if function.get("strict") is True:
        check_strict(schema, f"function '{name}'", f"{place}.parameters", "invalid_function_parameters")
    return Tool(name, str(function.get("description") or ""), schema)


def read_format(wanted: JSON, messages: list[Any]) -> JSON | None:
    """The schema that an answer must fit, or None for plain text."""
    kind = wanted.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        if "json" not in str(messages).casefold():
            message = (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
            raise WireError(400, message, param="messages")
        return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    if kind != "json_schema":
        raise _bad_value("response_format.type", kind, ("text", "json_object", "json_schema"))
    inner = mapping(wanted.get("json_schema")) or wanted  # the Responses API has no inner object
    schema, name = inner.get("schema"), inner.get("name")
    for member, value, usable in (("name", name, isinstance(name, str)), ("schema", schema, is_object(schema))):
        if not usable:
            place = f"response_format.json_schema.{member}"
            message = f"Missing or invalid required parameter: '{place}' is {value!r}."
            raise WireError(400, message, code="missing_required_parameter", param=place)
    if inner.get("strict") is True:
        check_strict(mapping(schema), f"response_format '{name}'", "response_format")
    described = {"description": inner["description"]} if inner.get("description") else {}
    return {**described, **mapping(schema)}


def billed_tier(asked: object, model: Model) -> str:
    """The service tier that serves a request; a model without priority serves it as standard.

    Source: https://platform.openai.com/docs/guides/flex-processing, .../priority-processing
    """
    if asked == "flex" and "flex" not in model.rates:
        message = "Invalid service_tier argument: flex is not available for this model."
        raise WireError(400, message, param="service_tier")
    return str(asked) if asked in ("flex", "priority") and asked in model.rates else "standard"


def _check_content(message: JSON, place: str) -> None:
    content = message.get("content")
    if content is None:
        if message.get("role") != "assistant":
            raise WireError(400, f"Invalid value for '{place}': expected a string, got null.", param=place)
    elif is_array(content):
        for number, part in enumerate(sequence(content)):
            kind = mapping(part).get("type")
            if kind not in PARTS:
                raise _bad_value(f"{place}[{number}].type", kind, PARTS)
            if kind == "text" and not isinstance(part.get("text"), str):
                where = f"{place}[{number}].text"
                raise WireError(400, f"Missing required parameter: '{where}'.", param=where)
    elif not isinstance(content, str):
        message_text = f"Invalid type for '{place}': expected one of a string or array of objects."
        raise WireError(400, message_text, code="invalid_type", param=place)


def _bad_value(place: str, value: object, allowed: tuple[str, ...]) -> WireError:
    names = ", ".join(f"'{name}'" for name in allowed)
    return WireError(
        400, f"Invalid value: {value!r}. Supported values are: {names}.", code="invalid_value", param=place
    )
