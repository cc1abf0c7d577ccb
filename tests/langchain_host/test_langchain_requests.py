"""What is read from a start event: names, limits, labels, and a bound that no tokenizer passes."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from llm_savings import Meter, tokens
from llm_savings.bounds import Size
from llm_savings.langchain.requests import Start


def start(prompt: Any = "hello", **given: Any) -> Start:
    return Start(None, prompt, {"run_id": uuid4(), "invocation_params": given.pop("params", {}), **given})


TEXTS = st.text(max_size=80) | st.sampled_from(
    ["안녕하세요, 환불은 언제 되나요?", "👩‍👩‍👧‍👦" * 5, "\ud83d", "a" * 500, "   \n\n\t"]
)


@given(st.lists(TEXTS, min_size=1, max_size=5), TEXTS)
def test_the_bound_is_never_too_low(texts: list[str], name: str) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string", "description": texts[0]}}}
    function = {"name": "f", "description": texts[-1], "parameters": schema}
    params = {"tools": [{"type": "function", "function": function}]}
    call = {"name": "f", "args": {name: texts[0]}, "id": "call_1"}
    messages: list[Any] = [
        SystemMessage(texts[0]),
        *(HumanMessage(text) for text in texts),
        AIMessage(texts[-1], tool_calls=[call]),
        ToolMessage(texts[-1], tool_call_id="call_1"),
        HumanMessage([{"type": "text", "text": texts[0]}]),
    ]
    bound = start(messages, params=params).prompt_bound()
    assert bound is not None
    said = [*texts, texts[0], texts[-1], texts[-1], texts[0], json.dumps(call["args"]), json.dumps(function)]
    for encoding in ("o200k_base", "cl100k_base"):
        counter = tokens.encoding(encoding)
        counted = sum(len(counter.encode_ordinary(text.encode("utf-8", "replace").decode())) for text in said)
        assert counted <= bound


class Shape(BaseModel):
    name: str
    description: str


@pytest.mark.parametrize(
    ("params", "bounded"),
    [
        ({}, True),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, True),
        ({"tools": [{"name": "f", "input_schema": {}}]}, True),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, True),
        ({"tools": [{"function_declarations": []}]}, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, False),
        ({"tools": [{"type": "web_search_preview"}]}, False),
        ({"tools": [{"type": "mcp", "server_url": "x"}]}, False),
        ({"tools": [{"google_search": {}}]}, False),
        ({"previous_response_id": "resp_1"}, False),
        ({"response_format": Shape}, True),
    ],
)
def test_what_a_provider_reads_by_itself_has_no_bound(params: dict[str, Any], bounded: bool) -> None:
    assert (start(params=params).prompt_bound() is not None) is bounded


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "source_type": "id", "id": "file-1"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.pdf"}},
    ],
)
@pytest.mark.parametrize("message", [HumanMessage, SystemMessage])
def test_a_file_has_no_bound(message: Any, block: dict[str, Any]) -> None:
    assert (
        start([HumanMessage("hello"), message([{"type": "text", "text": "Read this"}, block])]).prompt_bound() is None
    )


def test_schemas_and_images_count() -> None:
    bare = start([HumanMessage("hello")]).prompt_bound()
    shaped = start([HumanMessage("hello")], params={"response_format": Shape}).prompt_bound()
    url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = start([HumanMessage(["hello", url])]).prompt_bound()
    assert bare and shaped and seen
    assert shaped >= bare + len(json.dumps(Shape.model_json_schema()))
    assert seen >= bare + tokens.IMAGE_BOUND


@pytest.mark.parametrize(
    ("params", "metadata", "limit"),
    [
        ({}, {}, None),
        ({"max_tokens": 5}, {}, 5),
        ({"max_completion_tokens": 5}, {}, 5),
        ({"max_output_tokens": 5}, {"ls_max_tokens": 9}, 5),
        ({}, {"ls_max_tokens": 9}, 9),
        ({"max_tokens": 5, "max_completion_tokens": 50}, {}, 50),
        ({"max_tokens": -1}, {}, None),
        ({"max_tokens": None}, {"ls_max_tokens": True}, None),
    ],
)
def test_the_limit_on_output(params: dict[str, Any], metadata: dict[str, Any], limit: int | None) -> None:
    assert start(params=params, metadata=metadata).size().max_tokens == limit


def test_the_number_of_choices() -> None:
    assert start().size().choices == 1
    assert start(params={"n": None}).size().choices == 1
    assert start(params={"n": 3, "best_of": 5}).size().choices == 5
    assert start(params={"candidate_count": 2}).size().choices == 2


def test_names() -> None:
    event = {"run_id": uuid4(), "invocation_params": {"model": "m"}, "metadata": {"ls_model_name": "named"}}
    assert Start({"id": ["a", "ChatThing"]}, "x", event).model == "named"
    assert Start({"id": ["a", "ChatThing"]}, "x", {**event, "metadata": {}}).model == "m"
    assert Start({"id": ["a", "ChatThing"]}, "x", {"run_id": uuid4()}).model == "ChatThing"
    assert Start(None, "x", {"run_id": uuid4()}).model == "unknown"
    assert start(metadata={"ls_provider": "google_genai"}).provider == "google_genai"


def test_labels_of_a_run_win_over_those_of_the_callback() -> None:
    sent = start(tags=["team:b", "vip", "graph:step:1"], metadata={"team": "a", "feature": "x", "thread_id": "t"}).sent(
        Meter(":memory:", tags={"team": "c", "other": "d"}), Size(1), user="u", session="s"
    )
    assert sent.tags == {"team": "b", "feature": "x", "other": "d", "tags": "vip"}
    assert (sent.user, sent.session) == ("u", "t")


def test_the_tier_asked_for_is_the_mode() -> None:
    for tier, mode in {"flex": "flex", "priority": "priority", "auto": "standard", None: "standard"}.items():
        assert (
            start(params={"service_tier": tier}).sent(Meter(":memory:"), Size(1), user=None, session=None).mode == mode
        )


def test_cache_marks_are_found_wherever_they_are() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert start().cache_ttls() == set()
    assert start([HumanMessage([{"type": "text", "text": "x", **hour}])]).cache_ttls() == {"1h"}
    point = {"location": "message", "role": "system", "control": {"type": "ephemeral"}}
    assert start(params={"cache_control_injection_points": [point]}).cache_ttls() == {"5m"}
    bedrock = [{"cachePoint": {"type": "default", "ttl": "1h"}}, {"cachePoint": {"type": "default"}}]
    assert start([SystemMessage(bedrock)]).cache_ttls() == {"1h", "5m"}
