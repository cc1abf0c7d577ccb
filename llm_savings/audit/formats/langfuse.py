"""Langfuse's observations: of its API (camelCase), of its exports (snake_case), as JSON or CSV.

Sources: ObservationsView in Langfuse's OpenAPI description; langfuse.com/docs/model-usage-and-cost. Usage types do not
overlap: `input` is without what stands beside it as cached, which is priced apart (issues 12306 and 10592 of
langfuse/langfuse). Some integrations report an `input` that includes it all the same: then the parts are more than the
`total` that they gave.
"""

from __future__ import annotations

from typing import Any

from llm_savings import labels
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.prompts import answer, messages, tools
from llm_savings.audit.values import NOT_A_CALL, Document, Unusable, Values, count, mode, name, part, sequence, unpacked
from llm_savings.usage import Usage

_CALLS = ("GENERATION", "EMBEDDING")
_READ = ("input_cached_tokens", "cache_read_input_tokens", "input_cache_read", "cached_tokens", "cache_read")
_WRITTEN = ("input_cache_creation", "cache_creation_input_tokens", "cache_creation", "input_cache_write")
_REASONING = ("output_reasoning_tokens", "output_reasoning", "reasoning_tokens", "reasoning")


def _read(document: Document, values: Values) -> dict[str, Any]:
    if str(document.get("type")).upper() not in _CALLS:
        raise Unusable(NOT_A_CALL)
    at, took = values.span(
        document.get("startTime") or document.get("start_time"), document.get("endTime") or document.get("end_time")
    )
    metadata = part(document, "metadata")
    parameters = part(document, "modelParameters", "model_parameters")
    prompt = unpacked(document.get("input"))
    costs = part(document, "costDetails", "cost_details")
    said, called = answer(document.get("output"))
    found: dict[str, Any] = {
        "model": name(document, "providedModelName", "provided_model_name", "model", "internalModelId"),
        "usage": _usage(part(document, "usageDetails", "usage_details", "usage"), document),
        "at": at,
        "seconds": took,
        "mode": mode(parameters.get("service_tier"), metadata.get("service_tier")),
        "cost": values.usd(
            next((c for key in _COSTS if (c := document.get(key)) not in (None, "")), costs.get("total"))
        ),
        "messages": messages(prompt),
        "parameters": parameters,
        "answer": said,
        "tool_calls": called,
        "response_id": name(document, "id"),
        "user": name(document, "userId", "user_id") or labels.text(metadata, labels.USER_KEYS),
        "session": name(document, "sessionId", "session_id", "traceId", "trace_id"),
        "tags": labels.labels(sequence(document.get("tags") or document.get("traceTags")), metadata),
        "failed": document.get("level") == "ERROR",
        "streamed": bool(document.get("completionStartTime") or document.get("completion_start_time")),
    }
    if isinstance(prompt, dict) and "tools" in prompt:
        found["tools"] = tools(prompt["tools"])  # pyright: ignore[reportUnknownArgumentType]
    return found


_COSTS = ("totalCost", "total_cost", "calculatedTotalCost", "calculated_total_cost")


def _usage(u: Document, document: Document) -> Usage | None:
    whole = count(u, "input", "input_tokens", "prompt_tokens", "promptTokens")
    out = count(u, "output", "output_tokens", "completion_tokens", "completionTokens")
    if whole is None and out is None:
        whole, out = count(document, "promptTokens", "inputUsage"), count(document, "completionTokens", "outputUsage")
        if whole is None and out is None:
            return None
    plain, out = whole or 0, out or 0
    cached = count(u, *_READ) or 0
    short, long = count(u, "input_cache_creation_5m") or 0, count(u, "input_cache_creation_1h") or 0
    short += max((count(u, *_WRITTEN) or 0) - short - long, 0)
    audio, reasoning = count(u, "input_audio_tokens", "input_audio") or 0, count(u, *_REASONING) or 0
    spoken = count(u, "output_audio_tokens", "output_audio") or 0
    inside, beside = cached + short + long + audio, reasoning + spoken
    total = count(u, "total", "total_tokens")
    if total is not None and inside + beside and plain + out == total:  # the parts are inside after all
        plain, out = plain - inside, out - beside
        if plain < 0 or out < 0:
            raise Unusable("tokens that contradict themselves or are too many")
    return Usage(plain, cached, short, long, audio, output=out + reasoning, audio_output=spoken, reasoning=reasoning)


FORMAT = Format(
    "langfuse",
    (
        ("type",),
        ("traceId", "trace_id"),
        ("startTime", "start_time"),
        ("usageDetails", "usage_details", "usage", "promptTokens"),
    ),
    _read,
)
