"""The sandbox behind the real `openai` clients."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import jsonschema
import numpy as np
import openai
import pytest
from pydantic import BaseModel, Field

from llm_savings.sandbox import Sandbox

ORDER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "Look up an order by its number",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    },
}
WEATHER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": {"type": "object"}},
}
CHAT = "/v1/chat/completions"


@pytest.fixture
def client(box: Sandbox) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_an_answer_is_on_the_bill_under_its_id_and_usage(box: Sandbox, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o", messages=user("How do refunds work?"), user="kim")
    row = box.bill()[answer.id]
    assert answer.usage is not None
    assert row.usage == answer.usage.model_dump(exclude_none=True)
    assert (row.model, row.outcome, row.user, row.stream, row.endpoint) == ("gpt-4o", "ok", "kim", False, CHAT)
    by_hand = (answer.usage.prompt_tokens * Decimal("2.50") + answer.usage.completion_tokens * 10) / 1_000_000
    assert row.usd == by_hand == box.bill().total
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.service_tier == "default"


def test_content_is_the_same_each_time_and_ids_are_not(client: openai.OpenAI) -> None:
    first, second = (client.chat.completions.create(model="gpt-4o", messages=user("Say something")) for _ in range(2))
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.id != second.id


def test_another_conversation_gets_another_answer(client: openai.OpenAI) -> None:
    def ask(*earlier: str) -> str | None:
        messages: list[Any] = [{"role": "user", "content": text} for text in (*earlier, "Delete the file")]
        return client.chat.completions.create(model="gpt-4o", messages=messages).choices[0].message.content

    assert ask("I mean a.txt") != ask("I mean b.txt")


async def test_the_async_client_and_many_at_once(box: Sandbox) -> None:
    async with openai.AsyncOpenAI(base_url=box.openai_url, api_key="any", max_retries=0) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="gpt-4o-mini", messages=user(f"Question {n}")) for n in range(40))
        )
    assert {answer.id for answer in answers} == {row.id for row in box.bill().rows}
    assert box.requests() == 40


@pytest.mark.parametrize(
    "prompt", ["Explain caching in plain words", "환불 규정을 알려 주세요", "Write a python function"]
)
def test_a_stream_says_and_costs_the_same_as_a_whole_answer(box: Sandbox, client: openai.OpenAI, prompt: str) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=user(prompt))
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o", messages=user(prompt), stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2].choices[0].finish_reason == "stop"
    streamed = box.bill()[chunks[0].id]
    assert streamed.stream
    assert streamed.usage == box.bill()[whole.id].usage


def test_a_stream_has_no_usage_unless_asked(box: Sandbox, client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=user("Hello"), stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert box.bill()[chunks[0].id].outcome == "ok"


def test_a_tool_call_and_the_turn_after_it(client: openai.OpenAI) -> None:
    messages = user("Where is order 4711?")
    first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER_TOOL, ORDER_TOOL])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_order", {"order_id": "4711"})
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "shipped on Monday"}]
    second = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER_TOOL, ORDER_TOOL])
    assert second.choices[0].finish_reason == "stop"
    assert "shipped on Monday" in (second.choices[0].message.content or "")


def test_tool_choice(client: openai.OpenAI) -> None:
    def called(choice: Any, **more: Any) -> list[str]:
        answer = client.chat.completions.create(
            model="gpt-4o",
            messages=user("Use get_order and get_weather"),
            tools=[ORDER_TOOL, WEATHER_TOOL],
            tool_choice=choice,
            **more,
        )
        return [call.function.name for call in answer.choices[0].message.tool_calls or () if call.type == "function"]

    assert called("none") == []
    assert called("required") == ["get_order", "get_weather"]
    assert called("auto", parallel_tool_calls=False) == ["get_order"]
    assert called({"type": "function", "function": {"name": "get_weather"}}) == ["get_weather"]


def test_streamed_tool_calls_add_up(box: Sandbox, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "gpt-4o", "messages": user("Where is order 4711?"), "tools": [ORDER_TOOL]}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert call.function.name == "get_order"
    assert json.loads(call.function.arguments) == {"order_id": "4711"}
    assert box.bill()[final.id].usage == box.bill()[whole.id].usage


def test_tools_and_names_cost_prompt_tokens(client: openai.OpenAI) -> None:
    def cost(**more: Any) -> int:
        answer = client.chat.completions.create(model="gpt-4o", messages=user("Hi"), **more)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert cost() == 8  # "Hi" and "user", three for the message, three for the answer's start
    assert cost() < cost(tools=[ORDER_TOOL]) < cost(tools=[ORDER_TOOL, WEATHER_TOOL])


class Address(BaseModel):
    city: str
    zip_code: str = Field(pattern=r"^\d{5}$")


class Ticket(BaseModel):
    title: str = Field(max_length=20)
    kind: Literal["bug", "question"]
    score: int = Field(ge=3, le=5)
    address: Address | None
    tags: list[str] = Field(min_length=2, max_length=2)


def test_a_json_schema_is_met(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="gpt-4o", messages=user("A ticket"), response_format=Ticket)
    assert isinstance(answer.choices[0].message.parsed, Ticket)


def test_json_object_mode(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_object"}
    answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello, as JSON"), response_format=form)
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        client.chat.completions.create(model="gpt-4o", messages=user("Hello"), response_format=form)


def test_recursive_schemas_come_to_an_end(client: openai.OpenAI) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name", "children"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "tree", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="gpt-4o", messages=user("A tree"), response_format=form)
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), schema)


@pytest.mark.parametrize("prompt", ["Tell me a long story", "긴 이야기를 들려 주세요"])
@pytest.mark.parametrize("limit", [1, 7, 10])
def test_the_limit_cuts_the_answer(client: openai.OpenAI, prompt: str, limit: int) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=user(prompt))
    short = client.chat.completions.create(model="gpt-4o", messages=user(prompt), max_tokens=limit)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == limit
    assert (whole.choices[0].message.content or "").startswith(short.choices[0].message.content or "")


def test_a_stop_sequence_ends_the_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=user("Tell me more"))
    text = whole.choices[0].message.content or ""
    stop = text[10:14]
    short = client.chat.completions.create(model="gpt-4o", messages=user("Tell me more"), stop=stop)
    assert short.choices[0].message.content == text.partition(stop)[0]
    assert short.choices[0].finish_reason == "stop"


def test_n_alternatives_are_billed_together(box: Sandbox, client: openai.OpenAI) -> None:
    one = client.chat.completions.create(model="gpt-4o", messages=user("Tell me more"))
    three = client.chat.completions.create(model="gpt-4o", messages=user("Tell me more"), n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.choices[0] == one.choices[0]
    assert one.usage is not None and three.usage is not None
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens > one.usage.completion_tokens
    streamed = list(client.chat.completions.create(model="gpt-4o", messages=user("Tell me more"), n=3, stream=True))
    assert box.bill()[streamed[0].id].usage == box.bill()[three.id].usage


def test_reasoning_is_inside_the_output(client: openai.OpenAI) -> None:
    def tokens(**more: Any) -> tuple[int, int, str | None]:
        answer = client.chat.completions.create(model="o3", messages=user("Why is the sky blue?"), **more)
        assert answer.usage is not None and answer.usage.completion_tokens_details is not None
        reasoning = answer.usage.completion_tokens_details.reasoning_tokens or 0
        return reasoning, answer.usage.completion_tokens, answer.choices[0].message.content

    reasoning, output, text = tokens()
    assert 0 < reasoning < output and text
    assert tokens(reasoning_effort="high")[0] > reasoning > tokens(reasoning_effort="low")[0]
    # A cap that is too low is billed and buys nothing.
    assert tokens(max_completion_tokens=50) == (50, 50, "")


def test_service_tiers_have_their_own_prices(box: Sandbox, client: openai.OpenAI) -> None:
    def serve(model: str, tier: Any) -> tuple[Any, Decimal]:
        answer = client.chat.completions.create(model=model, messages=user("Hello"), service_tier=tier)
        return answer.service_tier, box.bill()[answer.id].usd

    standard = serve("o3", "default")[1]
    assert serve("o3", "flex") == ("flex", standard / 2)
    assert serve("o3", "priority") == ("priority", standard * Decimal("1.75"))
    with pytest.raises(openai.BadRequestError, match="flex is not available"):
        serve("gpt-4o", "flex")


def test_responses_whole_and_streamed(box: Sandbox, client: openai.OpenAI) -> None:
    whole = client.responses.create(model="gpt-4o", instructions="Be brief.", input="What is a refund?", user="lee")
    with client.responses.stream(model="gpt-4o", instructions="Be brief.", input="What is a refund?") as stream:
        final = stream.get_final_response()
    assert whole.output_text
    assert final.output_text == whole.output_text
    assert whole.usage is not None
    row = box.bill()[whole.id]
    assert row.usage == whole.usage.model_dump(exclude_none=True)
    assert (row.endpoint, row.user) == ("/v1/responses", "lee")
    assert row.usd == (whole.usage.input_tokens * Decimal("2.50") + whole.usage.output_tokens * 10) / 1_000_000
    assert box.bill()[final.id].usage == row.usage


def test_responses_with_a_tool_a_schema_and_a_limit(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "strict": False, **ORDER_TOOL["function"]}
    first = client.responses.create(model="gpt-5", input="Where is order 4711?", tools=[tool])
    call = next(item for item in first.output if item.type == "function_call")
    assert json.loads(call.arguments) == {"order_id": "4711"}
    turns: list[Any] = [
        {"role": "user", "content": "Where is order 4711?"},
        *first.output,
        {"type": "function_call_output", "call_id": call.call_id, "output": "shipped"},
    ]
    assert "shipped" in client.responses.create(model="gpt-5", input=turns, tools=[tool]).output_text
    assert isinstance(
        client.responses.parse(model="gpt-4o", input="A ticket", text_format=Ticket).output_parsed, Ticket
    )
    short = client.responses.create(model="gpt-4o", input="Tell me a long story", max_output_tokens=16)
    assert (short.status, short.incomplete_details and short.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    with pytest.raises(openai.BadRequestError, match="stores nothing"):
        client.responses.create(model="gpt-4o", input="And then?", previous_response_id=short.id)


def test_embeddings(box: Sandbox, client: openai.OpenAI) -> None:
    texts = ["How do I reset my password?", "how do I reset the password", "우산이 필요할까요?"]
    packed = client.embeddings.create(model="text-embedding-3-small", input=texts)
    plain = client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    vectors = np.array([item.embedding for item in packed.data])
    assert vectors.shape == (3, 1536)
    assert np.allclose(vectors, [item.embedding for item in plain.data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2]
    short = client.embeddings.create(model="text-embedding-3-large", input=texts[0], dimensions=256)
    assert len(short.data[0].embedding) == 256
    rows = box.bill().rows
    assert [row.usage["prompt_tokens"] for row in rows] == [
        packed.usage.prompt_tokens,
        plain.usage.prompt_tokens,
        short.usage.prompt_tokens,
    ]
    assert rows[0].usd == packed.usage.prompt_tokens * Decimal("0.02") / 1_000_000
    assert rows[2].usd == short.usage.prompt_tokens * Decimal("0.13") / 1_000_000


def test_embeddings_of_token_ids_are_those_of_the_text(client: openai.OpenAI) -> None:
    from llm_savings.sandbox.count import _tiktoken

    text = "How do I reset my password?"
    ids = _tiktoken("cl100k_base").encode_ordinary(text)
    by_ids = client.embeddings.create(model="text-embedding-3-small", input=ids)
    by_text = client.embeddings.create(model="text-embedding-3-small", input=text)
    assert by_ids.data == by_text.data
    assert by_ids.usage == by_text.usage


def test_base64_is_little_endian_float32(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(
        model="text-embedding-3-small", input="a b c", encoding_format="base64"
    )
    packed = json.loads(raw.text)["data"][0]["embedding"]
    plain = client.embeddings.create(model="text-embedding-3-small", input="a b c", encoding_format="float")
    assert np.frombuffer(base64.b64decode(packed), dtype="<f4") == pytest.approx(plain.data[0].embedding)


def test_models(client: openai.OpenAI) -> None:
    assert {"gpt-4o", "gpt-4o-mini", "o3", "text-embedding-3-small"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_the_header_id_finds_the_row_too(box: Sandbox, client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="text-embedding-3-small", input="a")
    assert box.bill()[raw.headers["x-request-id"]].endpoint == "/v1/embeddings"
