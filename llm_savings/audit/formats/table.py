"""Tables of one call a row: CSV, or flat JSON lines, by a map of columns that is given or guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from llm_savings.audit.formats.shape import Format
from llm_savings.audit.prompts import answer, messages
from llm_savings.audit.values import Document, Values, count, mode, name, part, seconds, yes
from llm_savings.errors import ConfigError

# What a record's field may be called, in the order of preference; compared without capitals and punctuation.
NAMES: Mapping[str, str] = {
    "model": "model model_name model_id response_model request_model deployment 모델 모델명",
    "input_tokens": "input_tokens prompt_tokens tokens_in prompt_token_count 입력_토큰 입력토큰",
    "output_tokens": "output_tokens completion_tokens tokens_out completion_token_count 출력_토큰 출력토큰",
    "cached_tokens": "cached_tokens cache_read_tokens cached_input_tokens cache_read_input_tokens 캐시_토큰",
    "written_tokens": "cache_write_tokens cache_creation_tokens cache_creation_input_tokens",
    "at": "timestamp started_at start_time created_at created time datetime date ts at 시각 시간 일시 날짜",
    "seconds": "latency_s latency_seconds duration_s seconds latency duration response_time",
    "milliseconds": "latency_ms duration_ms response_time_ms",
    "cost": "cost_usd usd total_cost cost spend amount price 비용 금액",
    "currency": "currency 통화",
    "provider": "provider custom_llm_provider vendor 공급자",
    "prompt": "messages prompt question query request_text 질문 프롬프트",
    "answer": "answer response completion response_text 답변 응답",
    "user": "user user_id end_user customer_id 사용자",
    "session": "session session_id conversation_id thread_id trace_id 대화",
    "tenant": "tenant team team_id api_key_id organization_id 팀",
    "feature": "feature tag tags use_case 기능 태그",
    "response_id": "response_id request_id call_id id",
    "mode": "mode service_tier tier",
    "hit": "cache_hit hit cached",
    "status": "status status_code 상태",
    "error": "error error_message 오류",
    "streamed": "stream streamed streaming",
}
"""The fields that a column map names, each with the headers that are taken for it when none is given."""

_PRICED = re.compile(r"(?:total_)?(?:cost|spend|amount|price)_([a-z]{3})")
_FAILURES = ("error", "failure", "failed", "fail", "오류", "실패")


def table(headers: Iterable[str], columns: Mapping[str, str] | None = None) -> Format:
    """The format of a table with these columns.

    Args:
        headers: The columns' names.
        columns: Field -> header, where it should not be guessed; `NAMES` has the fields. A dot goes into an object:
            `{"input_tokens": "usage.prompt"}`.

    Raises:
        ConfigError: The map names a field that there is not.
    """
    for field in columns or {}:
        if field not in NAMES:
            raise ConfigError(f"columns has {field!r}; expected some of {', '.join(NAMES)}")
    plain: dict[str, str] = {}
    for header in headers:
        plain.setdefault(re.sub(r"[\W_]+", "_", header.strip().lower()).strip("_"), header)
    found = {field: plain[name] for field, names in NAMES.items() for name in reversed(names.split()) if name in plain}
    currency: str | None = None
    for key, header in plain.items():
        if "cost" not in found and (match := _PRICED.fullmatch(key)):
            found["cost"], currency = header, match[1].upper()
    if columns:
        found = {field: header for field, header in found.items() if header not in columns.values()} | dict(columns)
    # An answer's text alone makes no log of calls, and neither does a model's name.
    needs = tuple((found.get(field, "/".join(NAMES[field].split()[:3])),) for field in ("model", "input_tokens"))
    if "input_tokens" not in found and found.get("prompt", "messages") != "messages":
        needs = (needs[0], (found["prompt"],))
    needs = tuple((group[0].partition(".")[0],) for group in needs)
    return Format("table", needs, lambda document, values: _read(document, values, found, currency), utc=False)


def _read(document: Document, values: Values, found: Mapping[str, str], currency: str | None) -> dict[str, Any]:
    row = {
        field: document[header] if header in document else _inside(document, header) for field, header in found.items()
    }
    get = row.get
    prompt, out = count(row, "input_tokens"), count(row, "output_tokens")
    made: dict[str, Any] = {"model": name(row, "model")}
    if prompt is not None or out is not None:
        read, written = (count(row, "cached_tokens") or 0, count(row, "written_tokens") or 0)
        made["usage"] = values.inclusive(prompt or 0, out or 0, read=read, written=written)
    made["at"] = values.moment(get("at"))
    if (took := seconds(get("seconds"))) is None:
        took = seconds(get("milliseconds"), unit=1000)
    made["seconds"] = took
    if cost := get("cost"):
        made["cost"] = values.usd(cost, get("currency") or currency)
    for field in ("provider", "user", "session", "tenant", "response_id"):
        if field in row:
            made[field] = name(row, field)
    if given := get("prompt"):
        made["messages"] = messages(given)
    if said := get("answer"):
        made["answer"], made["tool_calls"] = answer(said)
    if feature := name(row, "feature"):
        made["tags"] = part(row, "feature") or {"feature": feature}
    if "mode" in row:
        made["mode"] = mode(get("mode"))
    if "hit" in row:
        made["hit"] = yes(get("hit"))
    status = get("status")
    code = seconds(status)
    if get("error") or (code is not None and code >= 400) or str(status).lower() in _FAILURES:
        made["failed"] = True
    if "streamed" in row:
        made["streamed"] = yes(get("streamed"))
    return made


def _inside(document: Document, path: str) -> Any:
    held: Any = document
    for key in path.split("."):
        if not isinstance(held, dict):
            return None
        held = part(held, key) or held.get(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType, reportUnknownVariableType]
    return held  # pyright: ignore[reportUnknownVariableType]
