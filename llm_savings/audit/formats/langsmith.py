"""LangSmith's runs: of its API, its SDKs, or its bulk export (where objects are JSON text).

Sources: `langsmith.schemas.Run` of langsmith 0.15 and docs.langchain.com/langsmith/run-data-format. Prompt tokens
include the cached ones, as in LangChain's `usage_metadata`; a run's `session_id` is its project, not a conversation.
"""

from __future__ import annotations

from typing import Any, cast

from llm_savings import labels
from llm_savings.audit.bodies import response, usage
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.prompts import answer, messages, tools
from llm_savings.audit.values import NOT_A_CALL, Document, Unusable, Values, count, mode, name, part, sequence
from llm_savings.usage import Usage

_NOT_PARAMETERS = frozenset(("model", "model_name", "_type", "tools", "functions", "stream", "messages"))


def _read(document: Document, values: Values) -> dict[str, Any]:
    if document.get("run_type") not in ("llm", "chat_model"):
        raise Unusable(NOT_A_CALL)
    extra, inputs, outputs = part(document, "extra"), part(document, "inputs"), part(document, "outputs")
    metadata = part(extra, "metadata") or part(document, "metadata")
    asked = part(extra, "invocation_params")
    at, took = values.span(document.get("start_time"), document.get("end_time"))
    told = _answer(outputs)
    found: dict[str, Any] = {
        "model": told.get("model") or name(metadata, "ls_model_name") or name(asked, "model", "model_name"),
        "usage": _usage(document, metadata) or told.get("usage"),
        "at": at,
        "seconds": took,
        "provider": name(metadata, "ls_provider"),
        "mode": told.get("mode") or mode(asked.get("service_tier")),
        "cost": values.usd(document.get("total_cost")),
        "messages": messages(_prompt(inputs)),
        "tools": tools(asked.get("tools") or asked.get("functions") or inputs.get("tools") or []),
        "parameters": {key: value for key, value in asked.items() if key not in _NOT_PARAMETERS},
        "answer": told.get("answer"),
        "tool_calls": told.get("tool_calls", False),
        "response_id": told.get("response_id") or name(document, "id"),
        "user": labels.text(metadata, labels.USER_KEYS),
        "session": labels.text(metadata, labels.SESSION_KEYS) or name(document, "trace_id"),
        "tags": labels.labels(sequence(document.get("tags")), metadata),
        "failed": bool(document.get("error")) or document.get("status") == "error",
        "streamed": bool(document.get("first_token_time")),
    }
    return found


def _prompt(inputs: Document) -> Any:
    given = inputs.get("messages") or inputs.get("prompts") or inputs
    # LangChain's runs hold a list of prompts, of which a run of one call has one.
    first = given[0] if isinstance(given, list) and given else None  # pyright: ignore[reportUnknownVariableType]
    return first if isinstance(first, list) else given  # pyright: ignore[reportUnknownVariableType]


def _answer(outputs: Document) -> dict[str, Any]:
    generations = sequence(outputs.get("generations"))
    if not generations:
        if "choices" in outputs or "content" in outputs:
            return response(outputs)
        text, called = answer({key: outputs.get(key) for key in ("messages", "output")})
        return {"answer": text, "tool_calls": called}
    first: Any = generations[0]
    if isinstance(first, list) and first:
        first = cast("list[Any]", first)[0]
    held = cast("dict[str, Any]", first) if isinstance(first, dict) else {}
    message = part(held, "message")
    text, called = answer(message or held.get("text"))
    inner = part(message, "kwargs", "data") or message
    sent = part(inner, "response_metadata")
    found: dict[str, Any] = {
        "answer": text or name(held, "text"),
        "tool_calls": called,
        "model": name(sent, "model_name", "model"),
        "response_id": name(inner, "id"),
        "mode": mode(sent.get("service_tier")),
    }
    if counts := part(inner, "usage_metadata"):
        found["usage"] = Usage.from_langchain(counts)
    elif counts := part(part(outputs, "llm_output"), "token_usage", "usage"):
        found["usage"] = usage(counts)
    return found


def _usage(document: Document, metadata: Document) -> Usage | None:
    prompt, completion = count(document, "prompt_tokens"), count(document, "completion_tokens")
    if prompt or completion:  # 0 and 0 is a run of which LangSmith knows nothing
        details = {k.replace("1hr", "1h"): v for k, v in part(document, "prompt_token_details").items()}
        return Usage.from_langchain(
            {
                "input_tokens": prompt,
                "output_tokens": completion,
                "input_token_details": details,
                "output_token_details": part(document, "completion_token_details"),
            }
        )
    counts = part(part(document, "outputs"), "usage_metadata") or part(metadata, "usage_metadata")
    return Usage.from_langchain(counts) if counts else None


FORMAT = Format("langsmith", (("run_type",), ("start_time",), ("inputs", "outputs", "prompt_tokens")), _read)
