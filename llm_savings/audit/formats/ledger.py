"""This package's own ledger: what `llm-savings export` writes (JSON lines, CSV, Parquet), or the ledger's file."""

from __future__ import annotations

from typing import Any

from llm_savings.audit.formats.shape import Format
from llm_savings.audit.values import Document, Values, count, mode, name, part, seconds, yes
from llm_savings.usage import FIELDS, Usage

_TOKENS = {field: f"{field}_tokens" for field in FIELDS}


def _read(document: Document, values: Values) -> dict[str, Any]:
    counts = {field: n for field, column in _TOKENS.items() if (n := count(document, column)) is not None}
    status = document.get("status")
    known = document.get("basis") in ("measured", "estimated", "unpriced")
    return {
        "model": name(document, "model", "requested_model"),
        "usage": Usage(**counts) if counts and known else None,
        "at": values.moment(document.get("started_at")),
        "seconds": seconds(document.get("latency_s")),
        "provider": name(document, "provider"),
        "mode": mode(document.get("mode")),
        "cost": values.usd(document.get("actual_usd")),
        "response_id": name(document, "response_id", "call_id"),
        "user": name(document, "user"),
        "session": name(document, "session"),
        "tenant": name(document, "tenant"),
        "tags": {key: str(value) for key, value in part(document, "tags").items()},
        "hit": status == "hit",
        "failed": status == "error",
        "streamed": yes(document.get("stream")),
    }


FORMAT = Format("ledger", (("call_id",), ("basis",), ("requested_model",), ("actual_usd",), ("input_tokens",)), _read)
