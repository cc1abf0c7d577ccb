"""Requests and answers as they went over the wire: single calls, and the lines of batches.

Sources: the API references of OpenAI (chat completions, responses, batch) and Anthropic (messages, message batches). A
call is a body of a request, of an answer, both in one object, or a pair under `request` and `response`.
"""

from __future__ import annotations

from typing import Any

import orjson

from llm_savings import labels
from llm_savings.audit.bodies import request, response
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.values import Document, Values, name, part, seconds, sequence

_TIMES = ("timestamp", "created_at", "start_time", "startTime", "time", "ts", "at", "created")
_PROMPTS = ("messages", "input", "prompt", "contents")
_ENDS = ("end_time", "endTime", "completed_at")


def _call(document: Document, values: Values) -> dict[str, Any]:
    asked = part(document, "request", "request_body", "body", "kwargs")
    asked = part(asked, "body") or asked or document
    told = part(document, "response", "response_body", "completion")
    status = seconds(told.get("status_code") or document.get("status_code"))
    told = part(told, "body") or told
    if not told and any(key in document for key in ("choices", "usage", "output")):
        told = document
    mixed = asked is document
    found = request({} if mixed and not any(key in document for key in _PROMPTS) else asked, mixed=mixed)
    found |= {key: value for key, value in response(told).items() if value is not None}
    metadata = part(document, "metadata")
    began = next((v for source in (document, told) for key in _TIMES if (v := source.get(key))), None)
    ended = next((v for key in _ENDS if (v := document.get(key))), None)
    found["at"], took = values.span(began, ended)
    milliseconds = seconds(document.get("latency_ms") or document.get("duration_ms"), unit=1000)
    found["seconds"] = next(
        (s for s in (took, milliseconds, seconds(document.get("latency", document.get("duration")))) if s is not None),
        None,
    )
    found["provider"] = name(document, "provider", "custom_llm_provider")
    found["cost"] = values.usd(document.get("cost", document.get("cost_usd")), document.get("currency"))
    found["user"] = name(document, "user", "user_id") or found.get("user")
    found["session"] = labels.text(document, labels.SESSION_KEYS) or labels.text(metadata, labels.SESSION_KEYS)
    found["tags"] = labels.labels(sequence(document.get("tags")), metadata)
    found["failed"] = (
        found.get("failed", False) or bool(document.get("error")) or (status is not None and status >= 400)
    )
    if not found.get("model"):
        found["model"] = name(document, "model")
    return found


def _batch_request(document: Document, values: Values) -> dict[str, Any]:
    body = part(document, "body", "params")
    return request(body) | {"response_id": name(document, "custom_id"), "mode": "batch"}


def _batch_answer(document: Document, values: Values) -> dict[str, Any]:
    result, outer = part(document, "result"), part(document, "response")
    told = part(result, "message") or part(outer, "body")
    number = name(document, "custom_id")
    sent = values.requests.get(number or "")
    found = request(part(orjson.loads(sent), "body", "params")) if sent else {}
    found |= {key: value for key, value in response(told).items() if value is not None}
    status = seconds(outer.get("status_code"))
    found["at"] = values.moment(told.get("created") or told.get("created_at"))
    found["mode"] = "batch"
    found["response_id"] = found.get("response_id") or number
    found["failed"] = (
        bool(document.get("error"))
        or found.get("failed", False)
        or (status is not None and status >= 400)
        or (bool(result) and result.get("type") != "succeeded")
    )
    return found


BATCH_OUTPUT = Format("batch-output", (("custom_id",), ("response", "result")), _batch_answer)
BATCH_INPUT = Format("batch-input", (("custom_id",), ("body", "params")), _batch_request)
CALLS = Format(
    "openai",
    (
        ("messages", "choices", "usage", "request", "response", "request_body", "input", "contents", "content"),
        ("model", "request", "response", "request_body", "body", "kwargs"),
    ),
    _call,
    utc=False,
)
