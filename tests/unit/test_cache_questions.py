"""Scope and text of a request, case by case: what tells two requests apart, and what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llm_savings.semantic_cache.scope import Policy, Question, Refusal, Request, read

PIXEL = "data:image/png;base64,iVBORw0KGgo="
HELLO = {"role": "user", "content": "Hello?"}


def reading(
    messages: Sequence[Mapping[str, Any]] = (HELLO,), *, tools: bool = True, space: str = "s", **changed: Any
) -> Question | Refusal:
    parameters = changed.pop("parameters", {})
    request = Request(model=changed.pop("model", "gpt-4o"), messages=messages, parameters=parameters, **changed)
    return read(request, space, canonical=str.casefold, policy=Policy(tools=tools))


def question(*given: Any, **changed: Any) -> Question:
    found = reading(*given, **changed)
    assert isinstance(found, Question), found
    return found


def refusal(*given: Any, **changed: Any) -> str:
    found = reading(*given, **changed)
    assert isinstance(found, Refusal), found
    return found.reason


def user(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": list(blocks)}]


TEXT = {"type": "text", "text": "What is this?"}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def stored(kind: str, number: str, **more: Any) -> dict[str, Any]:
    """LangChain's block of a file that the provider has."""
    return {"type": kind, "source_type": "id", "id": number, **more}


def called(name: str, arguments: Any, call_id: str = "call_1") -> list[Any]:
    return [
        HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": "done"},
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"model": "gpt-4o-mini"}),
        ({}, {"namespace": "b"}),
        ({}, {"space": "t"}),
        ({}, {"parameters": {"temperature": 0}}),
        ({"parameters": {"temperature": 0}}, {"parameters": {"temperature": False}}),
        ({"parameters": {"stop": ["a"]}}, {"parameters": {"stop": ["b"]}}),
        ({"parameters": {"stop": ["a", "b"]}}, {"parameters": {"stop": ["b", "a"]}}),
        # A property of a tool may be called as a message's noise is.
        (
            {"parameters": {"tools": [{"properties": {"id": {"type": "string"}}}]}},
            {"parameters": {"tools": [{"properties": {"id": {"type": "integer"}}}]}},
        ),
        (
            {"parameters": {"tools": [{"properties": {"index": {"type": "string"}}}]}},
            {"parameters": {"tools": [{"properties": {}}]}},
        ),
        ({"parameters": {"base_url": "http://a"}}, {"parameters": {"base_url": "http://b"}}),
        ({"parameters": {"schema": b"a"}}, {"parameters": {"schema": b"b"}}),
    ],
)
def test_settings_tell_scopes_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert question(**one).scope != question(**other).scope


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([HELLO], [{"role": "system", "content": "be kind"}, HELLO]),
        ([{"role": "system", "content": "be kind"}, HELLO], [{"role": "developer", "content": "be kind"}, HELLO]),
        ([HELLO, HELLO], [{"role": "user", "content": "Hi?"}, HELLO]),
        ([HELLO, {"role": "assistant", "content": "a"}, HELLO], [HELLO, {"role": "assistant", "content": "b"}, HELLO]),
        (user(TEXT, image(PIXEL)), user(TEXT, image(PIXEL + "A"))),
        (user(TEXT, image(PIXEL)), user(image(PIXEL), TEXT)),
        (user(TEXT, image(PIXEL)), user(TEXT)),
        (user(TEXT, {"type": "file", "file_id": "a"}), user(TEXT, {"type": "file", "file_id": "b"})),
        (user(TEXT, stored("image", "a")), user(TEXT, stored("image", "b"))),
        (user(TEXT, stored("file", "a", filename="1.pdf")), user(TEXT, stored("file", "b", filename="1.pdf"))),
        ([{"type": "item_reference", "id": "a"}, HELLO], [{"type": "item_reference", "id": "b"}, HELLO]),
        (called("delete", '{"path": "a.txt"}'), called("delete", '{"path": "b.txt"}')),
        (called("delete", {"path": "a.txt"}), called("delete", {"path": "b.txt"})),
        (called("delete", "{}"), called("keep", "{}")),
        (
            [{"role": "user", "content": "Hello?", "name": "kim"}],
            [{"role": "user", "content": "Hello?", "name": "lee"}],
        ),
    ],
)
def test_messages_tell_scopes_apart(one: list[Any], other: list[Any]) -> None:
    assert question(one).scope != question(other).scope


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([HELLO], [{"content": "Hello?", "role": "user"}]),
        ([HELLO], [{**HELLO, "id": "m1", "response_metadata": {"a": 1}, "usage_metadata": {"b": 2}}]),
        ([HELLO], user({"type": "text", "text": "Hello?"})),
        ([HELLO], user({"type": "text", "text": "Hello?", "cache_control": {"type": "ephemeral"}})),
        ([HELLO], user("Hello?")),
        (called("f", "{}", "call_a"), called("f", "{}", "call_b")),
        ([{**HELLO, "name": None}], [HELLO]),
        (
            user({"type": "text", "text": "Hello?", "id": "lc_1"}),
            user({"type": "text", "text": "Hello?", "id": "lc_2"}),
        ),
        (user(TEXT, {**image(PIXEL), "id": "lc_1"}), user(TEXT, {**image(PIXEL), "id": "lc_2"})),
    ],
)
def test_noise_does_not(one: list[Any], other: list[Any]) -> None:
    assert question(one) == question(other)


def test_keys_in_another_order_and_absent_ones_are_the_same() -> None:
    one = {"temperature": 0, "top_p": 1, "stop": None, "tools": [{"name": "f", "description": "d"}]}
    other = {"tools": [{"description": "d", "name": "f"}], "top_p": 1.0, "temperature": 0.0}
    assert question(parameters=one) == question(parameters=other)


def test_two_calls_of_tools_are_linked_to_their_own_results() -> None:
    def turn(first: str, second: str) -> list[Any]:
        calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": i[-1]}} for i in ("c1", "c2")]
        results = [{"role": "tool", "tool_call_id": i, "content": "same"} for i in (first, second)]
        return [HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results]

    assert question(turn("c1", "c2")).scope != question(turn("c2", "c1")).scope


def test_only_the_last_users_words_are_the_question() -> None:
    found = question([{"role": "user", "content": "First"}, {"role": "assistant", "content": "a"}, HELLO])
    assert found.text == "Hello?"
    same = question(
        [{"role": "user", "content": "First"}, {"role": "assistant", "content": "a"}, {**HELLO, "content": "Bye"}]
    )
    assert found.scope == same.scope and found.id != same.id


def test_several_pieces_of_text_stay_where_they_are() -> None:
    one = question(user({"type": "text", "text": "a"}, image(PIXEL), {"type": "text", "text": "b"}))
    other = question(user({"type": "text", "text": "a"}, {"type": "text", "text": "b"}, image(PIXEL)))
    assert one.text == other.text and one.scope != other.scope


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (user(TEXT, image("https://example.com/cat.png")), "image by reference"),
        (user(TEXT, {"type": "image", "source": {"type": "url", "url": "http://example.com/a"}}), "image by reference"),
        (user(TEXT, {"type": "file", "file_uri": "gs://bucket/a"}), "image by reference"),
        (user(TEXT, {"type": "image_url", "image_url": "https://example.com/cat.png"}), "image by reference"),
        ([{"role": "system", "content": "be kind"}], "no user turn"),
        ([], "no user turn"),
        (user(image(PIXEL)), "no text"),
        ([{"role": "user", "content": "  \n"}], "no text"),
        ([{"role": "user", "content": None}], "no text"),
        ([{"role": "system", "content": object()}, HELLO], "opaque content"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(messages: list[Any], reason: str) -> None:
    assert refusal(messages) == reason


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), {1, 2}, str, lambda: 1])
def test_parameters_that_hide_something_are_refused(value: Any) -> None:
    assert refusal(parameters={"response_format": value}) == "opaque response_format"
    assert refusal(parameters={"response_format": {"deep": [value]}}) == "opaque response_format"


def test_urls_that_tools_were_called_with_are_text() -> None:
    question(called("open", {"url": "https://example.com"}))
    question([{"role": "user", "content": "Open https://example.com"}])


def test_turns_of_tools_are_refused_unless_allowed() -> None:
    assert refusal(called("f", "{}"), tools=False) == "tool turn"
    question(called("f", "{}"), tools=True)


def test_more_surprise_than_allowed_is_refused() -> None:
    assert refusal(parameters={"temperature": 1.01}) == "temperature"
    question(parameters={"temperature": 1})


def test_text_that_is_no_unicode_and_numbers_of_any_size_have_a_digest() -> None:
    question([{"role": "user", "content": "\ud800 half"}])
    assert question(parameters={"seed": 2**70}).scope != question(parameters={"seed": 2**70 + 1}).scope
    assert (
        question([{"role": "system", "content": "\ud800"}, HELLO]).scope
        != question([{"role": "system", "content": "\ud801"}, HELLO]).scope
    )


def test_nothing_given_is_changed() -> None:
    messages = called("f", {"a": [1]})
    before = repr(messages)
    question(messages)
    assert repr(messages) == before


def test_domains_are_wider_than_scopes() -> None:
    system = {"role": "system", "content": "be kind"}
    short = question([system, HELLO])
    long = question([system, HELLO, {"role": "assistant", "content": "a"}, HELLO])
    assert short.domain == long.domain and short.scope != long.scope
    assert question([{**system, "content": "be short"}, HELLO]).domain != short.domain
    assert question([system, HELLO], namespace="b").domain != short.domain
