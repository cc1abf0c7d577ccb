"""LiteLLM's StandardLoggingPayload and the rows of its table LiteLLM_SpendLogs.

Sources: `litellm.types.utils.StandardLoggingPayload`, `litellm.proxy._types.SpendLogsPayload` and schema.prisma of
litellm 1.106. Totals include what the provider cached; `metadata.usage_object` has the parts, in both of them. In the
table `cache_hit` is text, JSON columns may be text, and a prompt that is not kept is `{}`.
"""

from __future__ import annotations

from typing import Any

from llm_savings import labels
from llm_savings.audit.bodies import request, response
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.prompts import answer, messages
from llm_savings.audit.values import Document, Values, count, mode, name, part, sequence, unpacked, yes
from llm_savings.usage import Usage


def _read(document: Document, values: Values) -> dict[str, Any]:
    metadata = part(document, "metadata")
    at, took = values.span(document.get("startTime"), document.get("endTime"))
    cost = document.get("response_cost", document.get("spend"))
    found: dict[str, Any] = {
        "model": name(document, "model", "model_group"),
        "usage": _usage(document, metadata),
        "at": at,
        "seconds": took,
        "provider": name(document, "custom_llm_provider"),
        "cost": values.usd(cost),
        "response_id": name(document, "id", "request_id", "litellm_call_id"),
        "user": name(document, "end_user", "user") or labels.text(metadata, labels.USER_KEYS),
        "session": name(document, "session_id", "trace_id"),
        "tenant": name(document, "team_id", "api_key")
        or name(metadata, "user_api_key_team_id", "user_api_key_hash", "user_api_key"),
        "hit": yes(document.get("cache_hit")),
        "failed": document.get("status") == "failure" or bool(document.get("error_str")),
        "streamed": yes(document.get("stream")),
    }
    if tags := sequence(document.get("request_tags")) or metadata:
        found["tags"] = labels.labels(tags if isinstance(tags, list) else (), metadata)
    sent = part(document, "proxy_server_request")
    sent = part(sent, "body") or sent
    if given := unpacked(document.get("messages")) or sent.get("messages"):
        found["messages"] = messages(given, sent.get("system"))
    if parameters := part(document, "model_parameters") or sent:
        asked = request(parameters)
        found |= {key: asked[key] for key in ("parameters", "tools", "streamed", "mode") if key in asked}
        found["user"] = found["user"] or asked.get("user")
    if said := unpacked(document.get("response")):
        if isinstance(said, dict):
            told = response(said)  # pyright: ignore[reportUnknownArgumentType]
            found |= {key: told[key] for key in ("answer", "tool_calls", "mode") if key in told}
        else:
            found["answer"], found["tool_calls"] = answer(said)
    if (tier := mode(part(document, "hidden_params").get("service_tier"))) != "standard":
        found["mode"] = tier
    return found


def _usage(document: Document, metadata: Document) -> Usage | None:
    if whole := part(metadata, "usage_object"):
        return Usage.from_litellm(whole)
    prompt, completion = count(document, "prompt_tokens"), count(document, "completion_tokens")
    if prompt is None and completion is None:
        return None
    return Usage.from_openai({"prompt_tokens": prompt, "completion_tokens": completion})


_EVERY = (("model",), ("startTime",), ("prompt_tokens", "total_tokens"))
PAYLOADS = Format("litellm", (*_EVERY, ("response_cost",), ("call_type", "custom_llm_provider")), _read)
SPEND_LOGS = Format("litellm-spend-logs", (*_EVERY, ("spend",), ("request_id",)), _read)
