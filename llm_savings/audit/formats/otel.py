"""OpenTelemetry's GenAI spans: OTLP as JSON (spans taken out of resourceSpans), or one span a line.

Sources: the GenAI semantic conventions of OpenTelemetry, current and legacy names (`gen_ai.usage.prompt_tokens`,
`gen_ai.system`, `gen_ai.prompt.0.content`). `gen_ai.usage.input_tokens` should include the cached tokens; some
instrumentations pass on Anthropic's count, which does not, and show it where the cached tokens are more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from llm_savings import labels
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.prompts import answer, messages, tools
from llm_savings.audit.values import NOT_A_CALL, Document, Unusable, Values, count, mode, name, part, sequence
from llm_savings.usage import Usage

_CALLS = ("chat", "text_completion", "completion", "generate_content", "embeddings")
_PROVIDERS = {
    "aws.bedrock": "bedrock",
    "azure.ai.openai": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure_ai",
    "gcp.gemini": "gemini",
    "gcp.vertex_ai": "vertex_ai",
    "x_ai": "xai",
    "mistral_ai": "mistral",
}
_PREFIX = "gen_ai.usage."
_READ = ("cache_read.input_tokens", "cache_read_input_tokens", "cache_read_tokens", "input_tokens.cached")
_WRITTEN = (
    "cache_creation.input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "cache_write_input_tokens",
)
_REASONING = ("reasoning.output_tokens", "output_tokens.reasoning", "reasoning_tokens")
_INDEXED = re.compile(r"gen_ai\.(prompt|completion)\.(\d+)\.(role|content|finish_reason|tool_calls.*)")
_TURN = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_ASKED = "gen_ai.request."


def spans(document: Document) -> Iterator[dict[str, Any]]:
    """The spans of an OTLP export, one by one."""
    for resource in sequence(document.get("resourceSpans")):
        for scope in _of(resource, "scopeSpans", "instrumentationLibrarySpans"):
            yield from _of(scope, "spans")


def _of(holder: Any, *keys: str) -> list[Any]:
    if not isinstance(holder, dict):
        return []
    held = cast("dict[str, Any]", holder)
    return next((items for key in keys if (items := sequence(held.get(key)))), list[Any]())


def attributes(given: Any) -> dict[str, Any]:
    """Attributes as a mapping, from OTLP's list of typed values or from a mapping."""
    if isinstance(given, Mapping):
        return dict(cast("Mapping[str, Any]", given))
    found: dict[str, Any] = {}
    for item in sequence(given):
        if isinstance(item, dict) and isinstance((one := cast("dict[str, Any]", item)).get("key"), str):
            found[one["key"]] = _value(one.get("value"))
    return found


def _value(given: Any) -> Any:
    kind, value = (
        next(iter(cast("dict[str, Any]", given).items())) if given and isinstance(given, dict) else ("", given)
    )
    if kind == "intValue":
        return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else value
    if kind == "arrayValue":
        return [_value(item) for item in _of(value, "values")]
    if kind == "kvlistValue":
        return attributes(_of(value, "values"))
    return value


def _read(document: Document, values: Values) -> dict[str, Any]:
    a = attributes(document.get("attributes")) or dict(document)
    turns: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for event in _of(document, "events"):
        if isinstance(event, dict) and str((one := cast("dict[str, Any]", event)).get("name")).startswith("gen_ai."):
            inner = attributes(one.get("attributes"))
            if match := _TURN.fullmatch(one["name"]):
                turns.append({"role": match[1]} | inner)
            elif one["name"] == "gen_ai.choice":
                said.append(part(inner, "message") or {"role": "assistant", "content": inner.get("content")})
            else:
                a = inner | a
    operation = a.get("gen_ai.operation.name")
    model = name(a, "gen_ai.response.model", "gen_ai.request.model")
    if (operation is not None and operation not in _CALLS) or not any(key.startswith("gen_ai.") for key in a):
        raise Unusable(NOT_A_CALL)
    at, took = values.span(
        next((v for key in ("startTimeUnixNano", "start_time", "startTime") if (v := document.get(key))), None),
        next((v for key in ("endTimeUnixNano", "end_time", "endTime") if (v := document.get(key))), None),
    )
    provider = name(a, "gen_ai.provider.name", "gen_ai.system")
    indexed = _indexed(a)
    prompt = a.get("gen_ai.input.messages") or turns or indexed["prompt"] or a.get("gen_ai.prompt")
    text, called = answer(
        a.get("gen_ai.output.messages") or said or indexed["completion"] or a.get("gen_ai.completion")
    )
    status = part(document, "status")
    return {
        "model": model,
        "usage": _usage(a, values),
        "at": at,
        "seconds": took,
        "provider": _PROVIDERS.get(provider, provider) if provider else None,
        "mode": mode(
            a.get("openai.response.service_tier"),
            a.get("gen_ai.openai.response.service_tier"),
            a.get("openai.request.service_tier"),
            a.get("gen_ai.openai.request.service_tier"),
        ),
        "cost": values.usd(a.get("gen_ai.usage.cost")),
        "messages": messages(prompt, a.get("gen_ai.system_instructions")),
        "tools": tools(a.get("gen_ai.tool.definitions") or []),
        "parameters": {
            k.removeprefix(_ASKED): v for k, v in a.items() if k.startswith(_ASKED) and k != f"{_ASKED}model"
        },
        "answer": text,
        "tool_calls": called or "tool_calls" in sequence(a.get("gen_ai.response.finish_reasons")),
        "response_id": name(a, "gen_ai.response.id") or name(document, "spanId", "span_id"),
        "user": name(a, "user.id", "enduser.id"),
        "session": name(a, "gen_ai.conversation.id", "session.id")
        or name(document, "traceId", "trace_id")
        or name(part(document, "context"), "trace_id"),
        "tags": labels.labels(None, a),
        "failed": bool(a.get("error.type"))
        or status.get("code") in (2, "STATUS_CODE_ERROR")
        or status.get("status_code") == "ERROR",
        "streamed": bool(a.get("gen_ai.request.stream") or a.get("llm.is_streaming")),
    }


def _usage(a: Mapping[str, Any], values: Values) -> Usage | None:
    u = {key.removeprefix(_PREFIX): value for key, value in a.items() if key.startswith(_PREFIX)}
    prompt, out = count(u, "input_tokens", "prompt_tokens"), count(u, "output_tokens", "completion_tokens")
    if prompt is None and out is None:
        return None
    read, written, reasoning = (count(u, *names) or 0 for names in (_READ, _WRITTEN, _REASONING))
    return values.inclusive(prompt or 0, out or 0, read=read, written=written, reasoning=reasoning)


def _indexed(a: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Messages of the legacy attributes, one attribute for each field of each message."""
    found: dict[str, dict[int, dict[str, Any]]] = {"prompt": {}, "completion": {}}
    for key, value in a.items():
        if key.startswith(("gen_ai.prompt.", "gen_ai.completion.")) and (match := _INDEXED.fullmatch(key)):
            role = "user" if match[1] == "prompt" else "assistant"
            message = found[match[1]].setdefault(int(match[2]), {"role": role, "content": None})
            if match[3] in ("role", "content"):
                message[match[3]] = value
            elif match[3].endswith(".name"):
                message.setdefault("tool_calls", []).append({"name": value})
    return {kind: [turns[place] for place in sorted(turns)] for kind, turns in found.items()}


FORMAT = Format(
    "otel",
    (
        ("attributes", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.operation.name", "gen_ai.system"),
        (
            "spanId",
            "span_id",
            "context",
            "traceId",
            "trace_id",
            "kind",
            "gen_ai.request.model",
            "gen_ai.response.model",
        ),
    ),
    _read,
)
