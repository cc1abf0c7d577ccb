"""Reading answers: what is said in them, what is only counted, and what cannot be known."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
import pytest
from litellm_checks import FAQ, Metered, until

from llm_savings.litellm.answers import answer_of, count, raw_answer, response_id
from llm_savings.meter import Answer
from llm_savings.usage import Usage


def response(usage: litellm.Usage, text: str = "Hello") -> litellm.ModelResponse:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return litellm.ModelResponse(id="msg", model="claude-sonnet-4-5", choices=[choice], usage=usage)


def marked(*lives: str | None) -> list[dict[str, Any]]:
    marks = [{"type": "ephemeral"} | ({"ttl": life} if life else {}) for life in lives]
    return [{"role": "system", "content": [{"type": "text", "text": "x", "cache_control": mark} for mark in marks]}]


@pytest.mark.parametrize(
    ("messages", "written", "sure"),
    [
        (marked(None), {"cache_write_5m": 400}, True),
        (marked("5m", None), {"cache_write_5m": 400}, True),
        (marked("1h"), {"cache_write_1h": 400}, True),
        (marked("1h", "5m"), {"cache_write_5m": 400}, False),
        (FAQ, {"cache_write_5m": 400}, True),
    ],
)
def test_cache_writes_without_a_split(messages: Any, written: dict[str, int], sure: bool) -> None:
    usage = litellm.Usage(prompt_tokens=500, completion_tokens=5, total_tokens=505, cache_creation_input_tokens=400)
    details = {"model": "claude-sonnet-4-5", "custom_llm_provider": "bedrock", "messages": messages}
    answer = answer_of(details, response(usage))
    assert answer.usage == Usage(input=100, output=5, **written)
    assert answer.estimated != sure


def test_counts_that_contradict_each_other_are_suspect() -> None:
    usage = litellm.Usage(prompt_tokens=5, completion_tokens=5, total_tokens=10)
    usage.prompt_tokens_details = litellm.types.utils.PromptTokensDetailsWrapper(cached_tokens=50)
    answer = answer_of({"model": "gpt-4o", "messages": FAQ}, response(usage))
    assert answer.suspect
    assert answer.usage is None


async def test_suspect_counts_never_become_a_price(metered: Metered) -> None:
    odd = response(litellm.Usage(prompt_tokens=5, completion_tokens=5, total_tokens=10))
    odd.usage.prompt_tokens_details = litellm.types.utils.PromptTokensDetailsWrapper(cached_tokens=50)  # type: ignore[attr-defined]
    kwargs = {"litellm_call_id": "1", "call_type": "completion", "model": "gpt-4o", "litellm_params": {}}
    metered.costs.log_success_event(kwargs, odd, None, None)
    row = await metered.row()
    assert (row.basis, row.settled and row.settled.actual) == ("suspect", None)
    assert metered.costs.spent == 0


def test_redacted_text_is_not_counted() -> None:
    assert count("gpt-4o", "openai", (FAQ, None), "redacted-by-litellm") is None
    assert count("gpt-4o", "openai", ([{"role": "user", "content": "redacted-by-litellm"}], None), "Hi") is None
    assert count("gpt-4o", "openai", (None, None), "Hi") is None
    assert count("gpt-4o", "openai", (FAQ, None), "Hi") == Usage(input=13, output=1)


def test_tools_count_as_input() -> None:
    plain = count("gpt-4o", "openai", (FAQ, None), "Hi")
    with_tools = count("gpt-4o", "openai", (FAQ, [{"type": "function", "function": {"name": "날씨"}}]), "Hi")
    assert plain and with_tools
    assert with_tools.input > plain.input
    assert with_tools.output == plain.output


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (
            {"model": "m", "id": "1", "service_tier": "flex", "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            Usage(input=3, output=2),
        ),
        ({"model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}, Usage(input=3, output=2)),
        (
            {
                "type": "message",
                "usage": {"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 2},
            },
            Usage(input=3, cache_read=9, output=2),
        ),
        ({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}, Usage(input=3, output=2)),
        ({"usage": {"inputTokens": 3, "outputTokens": 2}}, Usage(input=3, output=2)),
    ],
    ids=["openai", "responses", "anthropic", "gemini", "bedrock"],
)
def test_a_providers_own_json(body: dict[str, Any], usage: Usage) -> None:
    answer = raw_answer(json.dumps(body))
    assert answer is not None
    assert (answer.usage, answer.estimated) == (usage, False)
    assert answer.mode == ("flex" if "service_tier" in body else None)


@pytest.mark.parametrize("text", ["", "Error code: 500", "[1]", "null", '{"error": {}}', '{"usage": null}'])
def test_what_is_no_answer(text: str) -> None:
    assert raw_answer(text) is None


@pytest.mark.parametrize("own", ["chatcmpl-1", "resp_1", "resp_bGl0ZWxsbT", "resp_bGl0ZWxsbT!!", None])
def test_ids_are_the_providers(own: str | None) -> None:
    assert response_id("openai", {"id": own}) == own
    assert response_id("anthropic", {"id": own}) is None


def test_an_answer_without_anything_is_unknown() -> None:
    assert answer_of({}, object()) == Answer(usage=None, estimated=True)


async def test_a_cancelled_call_is_unknown_at_its_bound(metered_alone: Metered) -> None:
    metered = metered_alone
    metered.box.fail("stall", seconds=0.5)
    call = asyncio.create_task(metered.acomplete(max_retries=0))
    for _ in until():
        await asyncio.sleep(0.01)
        if metered.box.requests():
            break
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    rows = await metered.rows(1, sent=1)
    assert rows[0].basis == "unknown"
    metered.check_bill(rows)
