"""Helicone's requests, as its API and its export tool give them (JSON, or CSV with bodies as JSON text).

Sources: HeliconeRequest at docs.helicone.ai/rest/request/post-v1requestquery-clickhouse, and the columns of
@helicone/export. Its counts of cached and audio tokens stand beside `prompt_tokens`, and its cost is the sum of all of
them (packages/cost of Helicone/helicone). A provider's own usage in the answer's body is used where it is there.
"""

from __future__ import annotations

from typing import Any

from llm_savings.audit.bodies import request, response
from llm_savings.audit.formats.shape import Format
from llm_savings.audit.values import Document, Values, count, name, part, seconds, yes
from llm_savings.usage import Usage

_NO_REFERENCE = ("", "00000000-0000-0000-0000-000000000000")


def _read(document: Document, values: Values) -> dict[str, Any]:
    found = request(part(document, "request_body"))
    told = response(part(document, "response_body"))
    properties = part(document, "request_properties", "properties")
    status = seconds(document.get("response_status"))
    provider = name(document, "provider")
    took = seconds(document.get("delay_ms") or document.get("latency"), unit=1000)
    found |= told | {
        "model": name(document, "response_model", "model_override", "request_model", "model")
        or told.get("model")
        or found.get("model"),
        "usage": told.get("usage") or _usage(document),
        "at": values.moment(document.get("request_created_at")),
        "seconds": took,
        "provider": provider.lower() if provider else None,
        "cost": values.usd(next((c for c in (document.get("costUSD"), document.get("cost")) if c is not None), None)),
        "response_id": told.get("response_id") or name(document, "response_id", "request_id"),
        "user": name(document, "request_user_id", "helicone_user") or found.get("user"),
        "session": name(properties, "Helicone-Session-Id"),
        "tags": {key: str(value) for key, value in properties.items() if not key.startswith("Helicone-")},
        "hit": yes(document.get("cached")) or (document.get("cache_reference_id") or "") not in _NO_REFERENCE,
        "failed": told.get("failed", False) or (status is not None and status >= 400),
    }
    return found


def _usage(document: Document) -> Usage | None:
    prompt, completion = count(document, "prompt_tokens"), count(document, "completion_tokens")
    if prompt is None and completion is None:
        return None
    return Usage(
        prompt or 0,
        count(document, "prompt_cache_read_tokens") or 0,
        count(document, "prompt_cache_write_tokens") or 0,
        audio_input=count(document, "prompt_audio_tokens") or 0,
        output=completion or 0,
        audio_output=count(document, "completion_audio_tokens") or 0,
    )


FORMAT = Format(
    "helicone", (("request_created_at",), ("request_id", "response_id"), ("prompt_tokens", "request_body")), _read
)
