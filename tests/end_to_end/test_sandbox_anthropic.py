"""The sandbox behind the real `anthropic` clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import pytest

from llm_savings.sandbox import Sandbox
from llm_savings.sandbox.count import anthropic_tokens, openai_tokens

TOOL: Any = {
    "name": "get_order",
    "description": "Look up an order by its number",
    "input_schema": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}
EVENTS = {
    "message_start",
    "content_block_start",
    "ping",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
}


@pytest.fixture
def client(box: Sandbox) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=box.anthropic_url, api_key="any", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, prompt: Any = "How do refunds work?", **more: Any) -> anthropic.types.Message:
    asked: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 1000, **more}
    turns: Any = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return client.messages.create(messages=turns, **asked)


def test_an_answer_is_on_the_bill_under_its_id_and_usage(box: Sandbox, client: anthropic.Anthropic) -> None:
    answer = ask(client, metadata={"user_id": "kim"})
    row = box.bill()[answer.id]
    assert row.usage == answer.usage.model_dump(exclude_none=True)
    assert (row.model, row.outcome, row.user) == ("claude-sonnet-4-5", "ok", "kim")
    assert row.usd == (answer.usage.input_tokens * Decimal(3) + answer.usage.output_tokens * 15) / 1_000_000
    assert answer.model == "claude-sonnet-4-5-20250929"
    assert answer.stop_reason == "end_turn"
    assert answer.usage.cache_read_input_tokens == answer.usage.cache_creation_input_tokens == 0
    assert answer.usage.cache_creation is not None


async def test_the_async_client(box: Sandbox) -> None:
    async with anthropic.AsyncAnthropic(base_url=box.anthropic_url, api_key="any", max_retries=0) as client:
        answers = await asyncio.gather(
            *(
                client.messages.create(
                    model="claude-haiku-4-5", max_tokens=200, messages=[{"role": "user", "content": f"Question {n}"}]
                )
                for n in range(20)
            )
        )
    assert {answer.id for answer in answers} == {row.id for row in box.bill().rows}


@pytest.mark.parametrize("prompt", ["Explain caching in plain words", "환불 규정을 알려 주세요"])
def test_a_stream_says_and_costs_the_same_as_a_whole_answer(
    box: Sandbox, client: anthropic.Anthropic, prompt: str
) -> None:
    whole = ask(client, prompt)
    with client.messages.stream(
        model="claude-sonnet-4-5", max_tokens=1000, messages=[{"role": "user", "content": prompt}]
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].type == whole.content[0].type == "text"
    assert final.content[0].text == whole.content[0].text
    assert final.usage == whole.usage
    assert box.bill()[final.id].usage == box.bill()[whole.id].usage


def test_the_documented_order_of_events(client: anthropic.Anthropic) -> None:
    turn: Any = {"role": "user", "content": "Hello"}
    events = list(client.messages.create(model="claude-haiku-4-5", max_tokens=90, messages=[turn], stream=True))
    kinds = [event.type for event in events]
    assert set(kinds) <= EVENTS
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    start, end = events[0], events[-2]
    assert start.type == "message_start" and end.type == "message_delta"
    assert start.message.usage.input_tokens > 0
    assert start.message.usage.output_tokens == 1
    assert end.usage.output_tokens > 1


def test_tokens_are_counted_another_way_than_openai_counts_them(client: anthropic.Anthropic) -> None:
    text = "구독을 해지하면 언제 환불되나요? Tokenizers disagree about 한국어."
    assert anthropic_tokens()(text) != openai_tokens()(text)
    counted = client.messages.count_tokens(model="claude-haiku-4-5", messages=[{"role": "user", "content": text}])
    assert counted.input_tokens == ask(client, text, model="claude-haiku-4-5").usage.input_tokens
    assert counted.input_tokens > anthropic_tokens()(text)


def test_system_text_and_blocks_cost_the_same(client: anthropic.Anthropic) -> None:
    as_text = ask(client, system="You help customers.")
    as_block = ask(client, system=[{"type": "text", "text": "You help customers."}])
    assert (as_text.usage, as_text.content) == (as_block.usage, as_block.content)
    assert as_text.usage.input_tokens > ask(client).usage.input_tokens


def test_cache_marks_are_accepted_and_cost_nothing_yet(client: anthropic.Anthropic) -> None:
    marked = ask(
        client, system=[{"type": "text", "text": "Help.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    )
    plain = ask(client, system="Help.")
    assert (marked.usage, marked.content) == (plain.usage, plain.content)


def test_a_tool_call_and_the_turn_after_it(client: anthropic.Anthropic) -> None:
    turns: list[Any] = [{"role": "user", "content": "Where is order 4711?"}]
    first = ask(client, turns, tools=[TOOL])
    assert first.stop_reason == "tool_use"
    (call,) = first.content
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("get_order", {"order_id": "4711"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "shipped"}]}
    turns += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(client, turns, tools=[TOOL])
    assert second.stop_reason == "end_turn"
    assert second.content[0].type == "text" and "shipped" in second.content[0].text
    assert first.usage.input_tokens > ask(client, turns[:1]).usage.input_tokens + 346  # the hidden tool prompt


def test_tool_choice(client: anthropic.Anthropic) -> None:
    assert ask(client, tools=[TOOL], tool_choice={"type": "none"}).content[0].type == "text"
    assert ask(client, tools=[TOOL], tool_choice={"type": "any"}).content[0].type == "tool_use"
    assert ask(client, tools=[TOOL], tool_choice={"type": "tool", "name": "get_order"}).content[0].type == "tool_use"
    with pytest.raises(anthropic.BadRequestError, match="not found in provided tools"):
        ask(client, tools=[TOOL], tool_choice={"type": "tool", "name": "other"})


def test_streamed_tool_calls_add_up(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 500, "tools": [TOOL]}
    turn: Any = {"role": "user", "content": "Where is order 4711?"}
    with client.messages.stream(messages=[turn], **asked) as stream:
        final = stream.get_final_message()
    assert final.content[0].type == "tool_use"
    assert final.content[0].input == {"order_id": "4711"}


@pytest.mark.parametrize("prompt", ["Tell me a long story", "긴 이야기를 들려 주세요"])
def test_the_limit_cuts_the_answer(client: anthropic.Anthropic, prompt: str) -> None:
    whole, short = ask(client, prompt), ask(client, prompt, max_tokens=12)
    assert short.stop_reason == "max_tokens"
    assert short.usage.output_tokens == 12
    assert whole.content[0].type == short.content[0].type == "text"
    assert whole.content[0].text.startswith(short.content[0].text)
    nothing = ask(client, prompt, max_tokens=1)
    assert (nothing.content, nothing.usage.output_tokens) == ([], 1)


def test_a_stop_sequence_is_named(client: anthropic.Anthropic) -> None:
    whole = ask(client)
    assert whole.content[0].type == "text"
    stop = whole.content[0].text[20:24]
    short = ask(client, stop_sequences=["\0", stop])
    assert (short.stop_reason, short.stop_sequence) == ("stop_sequence", stop)
    assert short.content[0].type == "text"
    assert short.content[0].text == whole.content[0].text.partition(stop)[0]


def test_a_json_schema_is_met(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    with pytest.raises(anthropic.BadRequestError, match="additionalProperties"):
        ask(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    schema["additionalProperties"] = False
    answer = ask(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.content[0].type == "text"
    assert isinstance(json.loads(answer.content[0].text)["age"], int)


def test_models(client: anthropic.Anthropic) -> None:
    assert "claude-sonnet-4-5-20250929" in {model.id for model in client.models.list()}
    assert client.models.retrieve("claude-haiku-4-5").id == "claude-haiku-4-5-20251001"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-9")
