"""The run without savings as a log: what LiteLLM's logging callbacks would have written of it (`llm-savings audit`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_savings.demo.workload import FIRST_DAY, Request, Workload
from llm_savings.ledger.export import fresh

if TYPE_CHECKING:
    from llm_savings.sandbox import Bill, BillRow

_MIDNIGHT = datetime.combine(FIRST_DAY, time(), UTC)


def write_log(path: str | Path, work: Workload, answers: Mapping[str, str], bill: Bill) -> None:
    """Write one JSON line a request, in LiteLLM's standard logging payload.

    Args:
        path: The file.
        work: What was sent, one request after the other.
        answers: The answers' texts by request.
        bill: The provider's bill of just these requests, in their order.

    Raises:
        ConfigError: The file is a database.
        OSError: The file cannot be written.
        ValueError: The bill is of other requests.
    """
    fresh(Path(path))  # it holds the prompts
    with Path(path).open("w", encoding="utf-8") as file:
        for request, row in zip(work.requests, bill.rows, strict=True):
            file.write(json.dumps(_payload(request, answers[request.id], row), ensure_ascii=False) + "\n")


def _payload(request: Request, answer: str, row: BillRow) -> dict[str, Any]:
    usage = _usage(row.usage)
    begun = _MIDNIGHT + timedelta(seconds=request.at)
    ended = begun + timedelta(seconds=0.5 + usage["completion_tokens"] / 70)
    parameters: dict[str, Any] = {"max_tokens": request.max_tokens, "stream": request.stream}
    if request.feature == "extraction":
        from llm_savings.demo.drive import Orders

        schema = {"name": "Orders", "schema": Orders.model_json_schema()}
        parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    system = [{"role": "system", "content": request.system}] if request.system else []
    return {
        "id": row.id,
        "litellm_call_id": request.id,
        "call_type": "completion",
        "status": "success",
        "stream": request.stream,
        "model": row.model,
        "custom_llm_provider": "anthropic" if "messages" in row.endpoint else "openai",
        "startTime": begun.timestamp(),
        "endTime": ended.timestamp(),
        "end_user": request.user,
        "request_tags": [f"feature:{request.feature}", *(["can-wait"] if request.batchable else [])],
        "messages": [*system, {"role": "user", "content": request.prompt}],
        "response": {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]},
        "model_parameters": parameters,
        "response_cost": float(row.usd),  # LiteLLM's own logs have floats
        "cache_hit": False,
        **{name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
        "metadata": {"usage_object": usage},
    }


def _usage(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts as LiteLLM has them: the prompt's with what was read from and written to a cache."""
    if "prompt_tokens" in raw:
        return dict(raw)
    read, written = raw["cache_read_input_tokens"], raw["cache_creation_input_tokens"]
    prompt = raw["input_tokens"] + read + written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": raw["output_tokens"],
        "total_tokens": prompt + raw["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": read},
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }
