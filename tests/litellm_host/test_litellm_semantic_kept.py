"""What LiteLLM's key hides separates here, and what is no answer is not kept."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import litellm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm_checks import CLAUDE, GPT, WEATHER, Metered, called, failing
from litellm_semantic import requests, settle, user

from llm_savings.litellm.cache_answers import answers_all, body_of, is_whole, kind_of_body, reply_of, text_of
from llm_savings.litellm.cache_requests import request_of
from llm_savings.semantic_cache.entries import Which
from llm_savings.semantic_cache.scope import Policy, Question, read

RED, BLUE = (f"data:image/png;base64,iVBORw0KGgo{end}=" for end in ("RED", "BLUE"))


def image(url: str) -> list[dict[str, Any]]:
    return user([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}])


def deleting(name: str) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "delete", "arguments": json.dumps({"file": name})}}
    return [
        *user("Clean up"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
        *user("Go on"),
    ]


DEFECTS = {
    "images": (image(RED), image(BLUE)),
    "tool arguments": (deleting("a.txt"), deleting("b.txt")),
    "roles": (
        user("Go on", {"role": "user", "content": "Yes"}, {"role": "assistant", "content": "No"}),
        user("Go on", {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "No"}),
    ),
    "system prompts": (
        user("Hi", {"role": "system", "content": "Be kind."}),
        user("Hi", {"role": "system", "content": "Be rude."}),
    ),
    "where one turn ends": (
        user("b", {"role": "user", "content": "a"}),
        user("a b"),
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
async def test_litellms_semantic_caches_confuse_these(semantic: Metered, name: str) -> None:
    one, two = DEFECTS[name]
    calls = [lambda m=m: semantic.acomplete(messages=m) for m in (one, two, one, two)]
    assert await requests(semantic, *calls) == 2


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_a_refreshed_answer_keeps_its_system_prompt(semantic: Metered, model: str) -> None:
    # Some of LiteLLM's handlers take the system prompt out of the messages on their way.
    asked = user("Hi", {"role": "system", "content": "Be kind."})
    calls = [lambda: semantic.complete(model, messages=asked, cache={"no-cache": True})]
    calls.append(lambda: semantic.complete(model, messages=asked))
    assert await requests(semantic, *calls) == 1
    assert await requests(semantic, lambda: semantic.complete(model, messages=user("Hi"))) == 1


async def test_an_image_by_reference_is_not_cached(semantic: Metered) -> None:
    from llm_savings.semantic_cache.found import last_lookup

    for _ in range(2):
        await semantic.acomplete(messages=image("https://example.com/today.png"))
        found = last_lookup.get()
        assert found is not None and found.evidence()["reason"] == "image by reference"
    assert semantic.box.requests() == 2


async def test_the_order_of_keywords_does_not_count(semantic: Metered) -> None:
    to = semantic.to(GPT) | {"messages": user("hi"), "max_tokens": 50, "seed": 7}
    turned = dict(reversed(to.items()))
    aside = {"timeout": 9, "metadata": {"run": 1}, "user": "kim", "stream": True, "max_retries": 1, "num_retries": 2}
    calls = [lambda g=g: litellm.acompletion(**g) for g in (to, turned, to | {"metadata": {"run": 2}})]
    assert await requests(semantic, *calls) == 1
    [_ async for _ in await litellm.acompletion(**to | aside)]
    assert litellm.completion(to["model"], to["messages"], **{k: to[k] for k in to if k not in ("model", "messages")})
    assert semantic.box.requests() == 1


async def test_whatever_may_change_an_answer_separates(semantic: Metered) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"temperature": 0.2},
        {"max_tokens": 77},
        {"seed": 3},
        {"stop": ["x"]},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"response_format": {"type": "json_object"}, "messages": user("Say it in JSON: hi")},
        {"extra_body": {"logit_bias": {"1": 1}}},
        {"extra_headers": {"x-gateway": "b"}},
        {"presence_penalty": 1.0},
        {"api_base": semantic.box.openai_url.replace("127.0.0.1", "localhost")},
        {"model": "openai/gpt-4o"},
        {"mock_response": "this"},
        {"mock_response": "that"},
    ]
    calls = [lambda c=c: semantic.complete(**c) for c in changes]
    assert await requests(semantic, *calls) == len(changes) - 2
    assert await requests(semantic, *calls) == 0
    assert [semantic.complete(**c).choices[0].message.content for c in changes[-2:]] == ["this", "that"]


async def test_a_high_temperature_wants_to_be_surprised(semantic: Metered) -> None:
    calls = [lambda: semantic.complete(temperature=1.5)] * 2
    assert await requests(semantic, *calls) == 2


async def test_the_users_own_client_says_where_it_sends_to(semantic: Metered) -> None:
    import openai

    def ask(**given: Any) -> Any:
        client = openai.OpenAI(base_url=semantic.box.openai_url, **given)
        return semantic.complete(client=client, api_key=None, api_base=None)

    calls = [lambda k=k: ask(api_key=k) for k in ("sk-1", "sk-2", "sk-1", "sk-2")]
    assert await requests(semantic, *calls) == 2
    await failing(lambda: semantic.complete(client=object()))  # whatever it is, it is not cached


# What is no answer


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_what_was_cut_short_is_not_kept(semantic: Metered, way: str, model: str) -> None:
    calls = [lambda: getattr(semantic, way)(model, max_tokens=3)] * 2
    assert await requests(semantic, *calls) == 2


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("kind", ["cut", "garbage"])
async def test_a_stream_that_broke_is_not_kept(semantic: Metered, way: str, model: str, kind: str) -> None:
    semantic.box.fail(kind)
    with suppress(Exception):  # or it ends as if it were whole
        await called(lambda: getattr(semantic, way)(model, max_retries=0, max_tokens=400))
    await settle()
    assert list(litellm.cache.answers.entries(Which())) == []


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_tool_calls_are_not_kept_unless_allowed(semantic: Metered, way: str) -> None:
    ask = {"messages": user("What is the weather in Seoul?"), "tools": [WEATHER]}
    calls = [lambda: getattr(semantic, way)(**ask)] * 2
    assert await requests(semantic, *calls) == 2


async def test_errors_are_not_kept(semantic: Metered) -> None:
    semantic.box.fail("500")
    await failing(lambda: semantic.complete(max_retries=0))
    assert semantic.complete().choices
    assert litellm.cache.stats().entries == 1


def choice(**message: Any) -> dict[str, Any]:
    ended = message.pop("ended", "stop")
    return {"object": "chat.completion", "choices": [{"finish_reason": ended, "index": 0, "message": message}]}


def item(**said: Any) -> dict[str, Any]:
    return {"object": "response", "status": said.pop("status", "completed"), "output": said.pop("output", [said])}


def block(ended: str | None = "end_turn", **said: Any) -> dict[str, Any]:
    return {"type": "message", "stop_reason": ended, "content": [said] if said else []}


TEXT, CALL = (
    {"type": "text", "text": "hi"},
    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
)
OUTPUT = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
WHOLE = [
    choice(role="assistant", content="hi"),
    {"object": "text_completion", "choices": [{"finish_reason": "stop", "text": "hi"}]},
    item(**OUTPUT),
    item(output=[{"type": "reasoning", "summary": []}, OUTPUT]),
    block(**TEXT),
]
CALLING = [
    choice(role="assistant", content=None, tool_calls=[CALL], ended="tool_calls"),
    choice(role="assistant", content="I look", tool_calls=[CALL]),
    choice(role="assistant", content=None, function_call={"name": "f"}, ended="function_call"),
    item(type="function_call", name="f", arguments="{}"),
    item(output=[{"type": "web_search_call"}, OUTPUT]),
    block("tool_use", type="tool_use", id="1", name="f", input={}),
]
NEVER = [
    choice(role="assistant", content=""),
    choice(role="assistant", content=None),
    choice(role="assistant", content=" ", reasoning_content="hm"),
    choice(role="assistant", content="hi", ended="length"),
    choice(role="assistant", content="hi", ended="content_filter"),
    choice(role="assistant", content="hi", ended=None),
    choice(role="assistant", content="Sorry", refusal="I cannot"),
    choice(role="assistant", content="Sorry", provider_specific_fields={"refusal": "I cannot"}),
    {
        "object": "chat.completion",
        "choices": [*choice(content="a")["choices"], *choice(content="", ended="stop")["choices"]],
    },
    choice(role="assistant", content="hi") | {"error": {"message": "no"}},
    {"object": "text_completion", "choices": [{"finish_reason": "length", "text": "hi"}]},
    {"object": "text_completion", "choices": [{"finish_reason": "stop", "text": ""}]},
    item(**OUTPUT, status="incomplete"),
    item(output=[]),
    item(type="message", content=[{"type": "refusal", "refusal": "no"}]),
    block(),
    block("max_tokens", **TEXT),
    block("refusal", **TEXT),
    block(None, **TEXT),
    block(type="thinking", thinking="hm"),
]


@pytest.mark.parametrize("body", [*WHOLE, *CALLING, *NEVER], ids=lambda body: json.dumps(body)[:60])
@pytest.mark.parametrize("tools", [False, True])
def test_what_is_an_answer(body: dict[str, Any], tools: bool) -> None:
    kind = kind_of_body(body)
    assert kind is not None
    assert is_whole(body, kind, tools=tools) is (body in WHOLE or (tools and body in CALLING))


@pytest.mark.parametrize(
    ("ask", "body", "complete"),
    [
        ({}, {"choices": [{}]}, True),
        ({"n": 2}, {"choices": [{}]}, False),
        ({"n": 2}, {"choices": [{}, {}]}, True),
        ({"logprobs": True}, {"choices": [{"logprobs": None}]}, False),
        ({"logprobs": True}, {"choices": [{"logprobs": {"content": []}}]}, True),
        ({"n": None, "logprobs": 0}, {"choices": [{}]}, True),
        ({"n": 2}, {"output": []}, True),
    ],
)
def test_what_has_all_that_was_asked(ask: dict[str, Any], body: dict[str, Any], complete: bool) -> None:
    assert answers_all(body, ask) is complete


@pytest.mark.parametrize("result", [None, 1, "{", "[]", {"data": []}, {"choices": []}])
def test_what_is_nothing_of_the_kind(result: Any) -> None:
    body = body_of(result)
    assert body is None or kind_of_body(body) is None


BLOCKS = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "text", "text": "안녕,\u2028see:", "citations": [{"type": "char_location", "cited_text": "x"}]},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "ü"]}},
    {"type": "text", "text": ""},
]


def test_anthropics_events_make_the_same_message_again() -> None:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": BLOCKS}
    message |= {"stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 9}}
    replayed = reply_of(message, stream=True)
    assert body_of(replayed) == message
    (events,) = replayed.values()
    # As Anthropic's own servers write them: nothing is escaped, and a text may hold other line ends.
    raw = [json.dumps(json.loads(e.partition("data:")[2]), ensure_ascii=False) for e in events]
    assert body_of({next(iter(replayed)): [f"event: x\r\ndata: {one}\r\n\r\n".encode() for one in raw]}) == message
    assert body_of({next(iter(replayed)): events[:-1]}) is None, "a stream without its end is no message"
    assert text_of(json.dumps(message)).startswith("안녕") or "안녕" in text_of(json.dumps(message))


# The scope, through the rim

PARAMETERS = st.dictionaries(
    st.sampled_from(("seed", "max_tokens", "top_p", "stop", "tools", "extra_body", "n", "logit_bias", "something_new")),
    st.one_of(st.integers(0, 3), st.sampled_from(("a", "b")), st.lists(st.integers(0, 2), max_size=2)),
    max_size=4,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("system", "user", "assistant")), "content": st.sampled_from("abc")}
    ),
    max_size=3,
)
CALLS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5")),
        "api_base": st.sampled_from((None, "http://one/v1", "http://two/v1")),
        "api_key": st.sampled_from(("sk-1", "sk-2")),
        "parameters": PARAMETERS,
        "before": TURNS,
        "cache": st.sampled_from((None, {"namespace": "one"}, {"namespace": "two"})),
    }
)
ASIDE = st.fixed_dictionaries(
    {
        "user": st.sampled_from((None, "kim", "lee")),
        "stream": st.booleans(),
        "timeout": st.integers(1, 9),
        "metadata": st.dictionaries(st.sampled_from(("run", "tags", "trace")), st.integers()),
        "litellm_call_id": st.uuids().map(str),
        "num_retries": st.integers(0, 3),
        "caching": st.booleans(),
        "ids": st.uuids().map(str),
    }
)


def scope(call: dict[str, Any], aside: dict[str, Any] | None = None) -> str:
    more = dict(aside or {})
    named = more.pop("ids", None)
    turns = [turn | ({"id": named} if named else {}) for turn in (*call["before"], *user("And?"))]
    given = {name: value for name, value in call.items() if name not in ("parameters", "before")}
    arguments = {**given, **call["parameters"], "messages": turns, **more}
    if aside:
        arguments = dict(reversed(arguments.items()))
    found = read(request_of(arguments, "chat"), "space", canonical=str, policy=Policy(tools=True))
    assert isinstance(found, Question), found
    return found.scope


def meant(call: dict[str, Any]) -> str:
    return json.dumps([call | {"parameters": sorted(call["parameters"].items())}], sort_keys=True)


@settings(max_examples=300)
@given(CALLS, CALLS)
def test_no_call_shares_a_scope_with_another(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert (scope(one) == scope(two)) is (meant(one) == meant(two))


@given(CALLS, ASIDE)
def test_order_ids_and_metadata_do_not_count(call: dict[str, Any], aside: dict[str, Any]) -> None:
    assert scope(call) == scope(call, aside)
