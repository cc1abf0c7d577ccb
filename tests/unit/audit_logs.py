"""One call in each format that logs come in, written by hand to the documented shapes, and what a record says of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llm_savings.usage import Usage

AT = datetime(2026, 11, 2, 1, 30, tzinfo=UTC)
PROMPT = [{"role": "system", "content": "짧게 답하세요."}, {"role": "user", "content": "환불은 언제 되나요?"}]
TOOL = {
    "type": "function",
    "function": {"name": "refund", "parameters": {"type": "object"}, "description": "Gives money back"},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1793583000,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "3일 안에요."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
        "completion_tokens_details": {"reasoning_tokens": 40},
    },
}
USED = Usage(input=86, cache_read=1920, output=300, reasoning=40)
ASKED = {"model": "gpt-4o", "messages": PROMPT, "tools": [TOOL], "temperature": 0.2, "user": "kim", "stream": True}
ANTHROPIC_ASKED = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 500,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "refund", "description": "Gives money back", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "Refund order 7"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "refund", "input": {"order": 7}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "done"}]},
    ],
}
ANTHROPIC_TOLD = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "text", "text": "Once more."},
        {"type": "tool_use", "id": "t2", "name": "refund", "input": {"order": 8}},
    ],
    "usage": {
        "input_tokens": 12,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 4000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 3000},
        "output_tokens": 30,
        "service_tier": "priority",
    },
}
ANTHROPIC_PROMPT = [
    {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    },
    {"role": "user", "content": "Refund order 7"},
    {
        "role": "assistant",
        "content": [],
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "refund", "arguments": '{"order":7}'}}],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "done"},
]


def _otlp(value: Any) -> dict[str, Any]:
    kinds = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    if type(value) is int:
        return {"intValue": str(value)}  # as the JSON encoding of 64-bit integers has it
    if isinstance(value, list):
        return {"arrayValue": {"values": [_otlp(item) for item in value]}}
    return {kinds[type(value)]: value}


OTEL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "aws.bedrock",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.request.temperature": 0.2,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.reasoning.output_tokens": 40,
    "gen_ai.conversation.id": "c1",
    "user.id": "kim",
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "짧게 답하세요."}]),
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "환불은 언제 되나요?"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "3일 안에요."}], "finish_reason": "stop"}]
    ),
}
SPAN = {
    "traceId": "5b8e",
    "spanId": "eee1",
    "name": "chat gpt-4o",
    "kind": 3,
    "startTimeUnixNano": "1793583000000000000",
    "endTimeUnixNano": "1793583001500000000",
    "attributes": [{"key": key, "value": _otlp(value)} for key, value in OTEL.items()],
    "status": {},
}
_TOLD = {"messages": PROMPT, "answer": "3일 안에요.", "usage": USED, "at": AT, "user": "kim"}
_SHORT = {"seconds": 1.5, "session": "c1", "model": "gpt-4o"}

LITELLM = {
    "id": "chatcmpl-1",
    "trace_id": "t",
    "session_id": "c1",
    "call_type": "acompletion",
    "stream": True,
    "status": "success",
    "custom_llm_provider": "openai",
    "model": "gpt-4o",
    "model_group": "smart",
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "response_cost": 0.005615,
    "startTime": 1793583000.0,
    "endTime": 1793583001.5,
    "cache_hit": None,
    "end_user": "kim",
    "request_tags": ["feature:faq", "User-Agent: curl"],
    "metadata": {"user_api_key_team_id": "support", "usage_object": CHAT["usage"]},
    "messages": PROMPT,
    "response": CHAT,
    "model_parameters": {"temperature": 0.2, "tools": [TOOL], "service_tier": "flex"},
    "hidden_params": {},
    "error_str": None,
}
SPEND = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.005615,
    "total_tokens": 2306,
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "startTime": "2026-11-02T10:30:00+09:00",
    "endTime": "2026-11-02T10:30:01.500+09:00",
    "model": "gpt-4o",
    "custom_llm_provider": "openai",
    "user": "kim",
    "metadata": json.dumps({"usage_object": CHAT["usage"]}),
    "cache_hit": "True",
    "request_tags": '["feature:faq"]',
    "team_id": "support",
    "messages": {},
    "response": {},
    "proxy_server_request": json.dumps(ASKED),
    "session_id": "c1",
    "status": "success",
}
LANGFUSE = {
    "id": "obs1",
    "traceId": "t",
    "sessionId": "c1",
    "userId": "kim",
    "type": "GENERATION",
    "name": "answer",
    "startTime": "2026-11-02T01:30:00.000Z",
    "endTime": "2026-11-02T01:30:01.500Z",
    "completionStartTime": None,
    "providedModelName": "gpt-4o",
    "modelParameters": {"temperature": 0.2},
    "input": PROMPT,
    "output": {"role": "assistant", "content": "3일 안에요."},
    "usageDetails": {
        "input": 86, "input_cached_tokens": 1920, "output": 260, "output_reasoning_tokens": 40, "total": 2306,
    },
    "costDetails": {"total": 0.005615},
    "level": "DEFAULT",
    "tags": ["feature:faq"],
    "metadata": {},
}  # fmt: skip
LANGSMITH = {
    "id": "run1",
    "trace_id": "t",
    "name": "ChatOpenAI",
    "run_type": "llm",
    "session_id": "the project, not a conversation",
    "status": "success",
    "error": None,
    "start_time": "2026-11-02T01:30:00.000000",
    "end_time": "2026-11-02T01:30:01.500000",
    "inputs": {
        "messages": [
            [
                {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "SystemMessage"],
                 "kwargs": {"content": "짧게 답하세요.", "type": "system"}},
                {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"],
                 "kwargs": {"content": "환불은 언제 되나요?", "type": "human"}},
            ]
        ]
    },
    "outputs": {
        "generations": [
            [
                {
                    "text": "3일 안에요.",
                    "type": "ChatGeneration",
                    "message": {
                        "lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "AIMessage"],
                        "kwargs": {"content": "3일 안에요.", "type": "ai", "id": "chatcmpl-1",
                                   "response_metadata": {"model_name": "gpt-4o", "service_tier": "default"}},
                    },
                }
            ]
        ]
    },
    "extra": {
        "metadata": {"ls_provider": "openai", "ls_model_name": "gpt-4o", "thread_id": "c1", "user_id": "kim",
                     "feature": "faq"},
        "invocation_params": {"model": "gpt-4o", "temperature": 0.2, "tools": [TOOL]},
    },
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_token_details": {"cache_read": 1920},
    "completion_token_details": {"reasoning": 40},
    "total_cost": "0.005615",
    "tags": ["seq:step:1"],
}  # fmt: skip
HELICONE = {
    "response_id": "r1",
    "response_created_at": "2026-11-02T01:30:01.500Z",
    "response_status": 200,
    "request_id": "q1",
    "request_created_at": "2026-11-02T01:30:00.000Z",
    "request_model": "gpt-4o",
    "response_model": "gpt-4o",
    "request_body": ASKED,
    "response_body": CHAT,
    "request_user_id": "kim",
    "request_properties": {"Helicone-Session-Id": "c1", "feature": "faq"},
    "provider": "OPENAI",
    "delay_ms": 1500,
    "prompt_tokens": 86,
    "prompt_cache_read_tokens": 1920,
    "prompt_cache_write_tokens": 0,
    "completion_tokens": 300,
    "costUSD": 0.005615,
    "cache_reference_id": "00000000-0000-0000-0000-000000000000",
}
LEDGER = {
    "call_id": "7", "host": "sdk", "status": "ok", "basis": "measured", "requested_model": "smart", "model": "gpt-4o",
    "provider": "openai", "mode": "flex", "started_at": "2026-11-02T01:30:00+00:00", "bound_usd": "0.02",
    "actual_usd": "0.005615", "baseline_usd": "0.005615", "user": "kim", "session": "c1", "tenant": None,
    "tags": '{"feature": "faq"}', "strategies": None, "response_id": "chatcmpl-1", "error": None, "stream": False,
    "latency_s": 1.5, "input_tokens": 86, "cache_read_tokens": 1920, "output_tokens": 300, "reasoning_tokens": 40,
}  # fmt: skip

_COST = Decimal("0.005615")
_FAQ = {"feature": "faq"}
CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "litellm": (
        LITELLM, "litellm",
        _TOLD | _SHORT | {"cost": _COST, "tags": _FAQ, "mode": "flex", "tenant": "support", "tools": [TOOL],
                          "provider": "openai", "streamed": True, "response_id": "chatcmpl-1"},
    ),
    "spend logs": (
        SPEND, "litellm-spend-logs",
        _TOLD | _SHORT | {"cost": _COST, "tags": _FAQ, "hit": True, "tenant": "support", "answer": None,
                          "parameters": {"temperature": 0.2}},
    ),
    "langfuse": (LANGFUSE, "langfuse", _TOLD | _SHORT | {"cost": _COST, "tags": _FAQ, "response_id": "obs1"}),
    "langfuse, with the cached in its input": (
        LANGFUSE | {"usageDetails": {"input": 2006, "input_cached_tokens": 1920, "output": 300,
                                     "output_reasoning_tokens": 40, "total": 2306}},
        "langfuse", _TOLD,
    ),
    "langsmith": (
        LANGSMITH, "langsmith",
        _TOLD | _SHORT | {"cost": _COST, "tags": _FAQ, "provider": "openai", "tools": [TOOL],
                          "parameters": {"temperature": 0.2}, "response_id": "chatcmpl-1"},
    ),
    "helicone": (HELICONE, "helicone",
                 _TOLD | _SHORT | {"cost": _COST, "tags": _FAQ, "provider": "openai", "hit": False, "streamed": True}),
    "helicone without bodies": (
        HELICONE | {"request_body": None, "response_body": None}, "helicone",
        {"usage": Usage(input=86, cache_read=1920, output=300), "messages": None, "model": "gpt-4o", "user": "kim"},
    ),
    "chat": (
        {"request": ASKED, "response": CHAT, "latency_ms": 1500, "tags": ["feature:faq"], "session_id": "c1"},
        "openai",
        _TOLD | {"model": "gpt-4o-2024-08-06", "tools": [TOOL], "tags": _FAQ, "seconds": 1.5, "session": "c1",
                 "parameters": {"temperature": 0.2}, "streamed": True},
    ),
    "both in one": (
        CHAT | ASKED | {"latency_ms": 1500, "tags": ["feature:faq"], "session_id": "c1", "trace": "t9"}, "openai",
        {"messages": PROMPT, "usage": USED, "at": AT, "answer": "3일 안에요.", "parameters": {"temperature": 0.2},
         "tools": [TOOL], "tags": _FAQ, "session": "c1", "streamed": True},
    ),
    "an answer alone": (CHAT, "openai", {"usage": USED, "at": AT, "answer": "3일 안에요.", "messages": None}),
    "anthropic": (
        {"timestamp": "2026-11-02T01:30:00Z", "request": ANTHROPIC_ASKED, "response": ANTHROPIC_TOLD}, "openai",
        {"messages": ANTHROPIC_PROMPT, "tools": [TOOL], "tool_calls": True, "answer": "Once more.", "mode": "priority",
         "usage": Usage(input=12, cache_write_5m=1000, cache_write_1h=3000, output=30), "at": AT,
         "parameters": {"max_tokens": 500}},
    ),
    "batch request": (
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": ASKED}, "batch-input",
        {"mode": "batch", "messages": PROMPT, "usage": None, "response_id": "1"},
    ),
    "batch answer": (
        {"id": "b", "custom_id": "1", "response": {"status_code": 200, "request_id": "q", "body": CHAT}, "error": None},
        "batch-output", {"mode": "batch", "usage": USED, "failed": False, "at": AT},
    ),
    "anthropic's batch answer": (
        {"custom_id": "1", "result": {"type": "succeeded", "message": ANTHROPIC_TOLD}}, "batch-output",
        {"mode": "batch", "tool_calls": True, "failed": False},
    ),
    "otel": (
        SPAN, "otel",
        _TOLD | {"model": "gpt-4o-2024-08-06", "provider": "bedrock", "session": "c1", "seconds": 1.5,
                 "parameters": {"temperature": 0.2}},
    ),
    "otel, legacy": (
        {"trace_id": "t", "span_id": "s", "start_time": "2026-11-02T01:30:00Z", "end_time": None, "kind": "CLIENT",
         "attributes": {"gen_ai.system": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5",
                        "gen_ai.usage.prompt_tokens": 12, "gen_ai.usage.completion_tokens": 30,
                        "gen_ai.usage.cache_read_input_tokens": 500, "gen_ai.prompt.0.role": "user",
                        "gen_ai.prompt.0.content": "hi", "gen_ai.completion.0.content": "hello"},
         "status": {"status_code": "ERROR"}},
        "otel",
        {"usage": Usage(input=12, cache_read=500, output=30), "messages": [{"role": "user", "content": "hi"}],
         "answer": "hello", "failed": True, "provider": "anthropic", "at": AT},
    ),
    "ledger": (
        LEDGER, "ledger",
        _SHORT | {"usage": USED, "at": AT, "cost": _COST, "tags": _FAQ, "mode": "flex", "user": "kim"},
    ),
    "table": (
        {"Model": "gpt-4o", "Prompt Tokens": 2006, "Completion Tokens": 300, "cached_tokens": 1920,
         "Timestamp": 1793583000123, "latency (ms)": 1500, "user": "kim", "status": "500"},
        "table",
        {"usage": Usage(input=86, cache_read=1920, output=300), "at": AT.replace(microsecond=123000), "seconds": 1.5,
         "failed": True},
    ),
    "표": (
        {"모델": "gpt-4o", "입력 토큰": 100, "출력 토큰": 7, "시각": "2026-11-02T10:30:00+09:00", "질문": "안녕?"},
        "table",
        {"usage": Usage(input=100, output=7), "at": AT, "messages": [{"role": "user", "content": "안녕?"}]},
    ),
}  # fmt: skip
"""What it is -> an entry, the format's name, and what the record of it says."""
