"""The sandbox refuses what the providers refuse, in their own words' shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_savings.sandbox import Sandbox
from llm_savings.sandbox.openai_rules import CHAT_PARAMETERS, EMBEDDING_PARAMETERS, RESPONSES_PARAMETERS

CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
HI: dict[str, Any] = {"role": "user", "content": "Hi"}
ASKED: dict[str, Any] = {"model": "gpt-4o", "messages": [HI]}
CLAUDE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [HI]}
MARK = {"type": "ephemeral"}
KEYS = {"authorization": "Bearer k", "x-api-key": "k", "anthropic-version": "2023-06-01"}
TOOL_TURN = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {}}]}
SCHEMA_FORM = {"type": "json_schema", "json_schema": {"name": "x", "strict": True}}
OPEN_OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}


def marked(count: int) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "a", "cache_control": MARK}] * count


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def http(box: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=box.url, headers=KEYS) as client:
        yield client


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "gpt-9"}, "model_not_found", None),
        ({"model": "claude-haiku-4-5"}, "model_not_found", None),
        ({"model": None}, "missing_required_parameter", "model"),
        ({"messages": []}, "missing_required_parameter", "messages"),
        ({"max_tokns": 5}, "unrecognized_request_argument", "max_tokns"),
        ({"cache_control_injection_points": []}, "unrecognized_request_argument", "cache_control_injection_points"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"max_tokens": True}, "invalid_type", "max_tokens"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 99_999}, "invalid_value", "max_tokens"),
        ({"temperature": 2.5}, "invalid_value", "temperature"),
        ({"n": 0}, "invalid_value", "n"),
        ({"service_tier": "vip"}, "invalid_value", "service_tier"),
        ({"reasoning_effort": "low"}, "unrecognized_request_argument", "reasoning_effort"),
        ({"model": "o3", "max_tokens": 9}, "unsupported_parameter", "max_tokens"),
        ({"model": "gpt-5", "temperature": 0}, "unsupported_value", "temperature"),
        ({"messages": ["Hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        ({"messages": [{**HI, "cache_control": MARK}]}, "unknown_parameter", "messages[0].cache_control"),
        (
            {"messages": [{"role": "user", "content": marked(1)}]},
            "unknown_parameter",
            "messages[0].content[0].cache_control",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}]}, None, "messages[0].role"),
        ({"messages": [HI, TOOL_TURN, HI]}, None, "messages[2]"),
        ({"tool_choice": "required"}, None, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "missing_required_parameter", "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": OPEN_OBJECT}}]},
            "invalid_function_parameters",
            "tools[0].function.parameters",
        ),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": SCHEMA_FORM}, "missing_required_parameter", "response_format.json_schema.schema"),
        (
            {"response_format": {**SCHEMA_FORM, "json_schema": {"name": "x", "strict": True, "schema": OPEN_OBJECT}}},
            None,
            "response_format",
        ),
        ({"messages": [{"role": "user", "content": "word " * 130_000}]}, "context_length_exceeded", "messages"),
    ],
)
def test_openai_refuses(box: Sandbox, http: httpx.Client, change: dict[str, Any], code: str, param: str) -> None:
    box.reset()
    body = {name: value for name, value in {**ASKED, **change}.items() if value is not None}
    answer = http.post(CHAT, json=body)
    error = answer.json()["error"]
    assert answer.status_code == (404 if code == "model_not_found" else 400), error
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert box.bill().rows == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "gpt-4o"}, "model: gpt-4o"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "at least one message"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"n": 2}, "n: Extra inputs are not permitted"),
        ({"messages": [{"role": "system", "content": "x"}]}, "Input should be 'user' or 'assistant'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message must use the user role"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "does not match any"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]}, "unexpected"),
        ({"system": marked(5)}, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        ({"system": marked(4), "cache_control": MARK}, "Found 5"),
        ({"system": [{"type": "text", "text": "a", "cache_control": {"type": "eternal"}}]}, "system.0.cache_control"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "'5m' or '1h'"),
        ({"tools": [{"name": "f"}]}, "input_schema: Field required"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "no tools of the provider's own"),
        ({"tool_choice": {"type": "any"}}, "only be specified while providing tools"),
        ({"messages": [{"role": "user", "content": "단어 " * 150_000}]}, "prompt is too long"),
    ],
)
def test_anthropic_refuses(box: Sandbox, http: httpx.Client, change: dict[str, Any], words: str) -> None:
    box.reset()
    body = {name: value for name, value in {**CLAUDE, **change}.items() if value is not None}
    answer = http.post(MESSAGES, json=body)
    error = answer.json()
    assert error["type"] == "error"
    if "model" in change:
        assert (answer.status_code, error["error"]["type"]) == (404, "not_found_error")
    else:
        assert (answer.status_code, error["error"]["type"]) == (400, "invalid_request_error")
    assert words in error["error"]["message"]
    assert answer.headers["request-id"] == error["request_id"]
    assert box.bill().rows == ()


@pytest.mark.parametrize(
    "change",
    [
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": [5, "a"]},
        {"input": [10**9]},
        {"input": ["a"] * 2_049},
        {"input": "word " * 9_000},
        {"model": "gpt-4o"},
        {"dimensions": 0},
        {"dimensions": 4_000},
        {"encoding_format": "hex"},
        {"normalize": True},
    ],
)
def test_embeddings_refuse(http: httpx.Client, change: dict[str, Any]) -> None:
    body = {"model": "text-embedding-3-small", "input": "a", **change}
    assert http.post(EMBEDDINGS, json=body).status_code == (404 if "model" in change else 400)


def test_an_embedding_model_does_not_chat(http: httpx.Client) -> None:
    assert http.post(CHAT, json={**ASKED, "model": "text-embedding-3-small"}).status_code == 404


@pytest.mark.parametrize("path", [CHAT, MESSAGES, EMBEDDINGS, "/v1/responses"])
def test_keys(box: Sandbox, path: str) -> None:
    body = CLAUDE if path == MESSAGES else ASKED
    version = {"anthropic-version": "2023-06-01"}
    assert httpx.post(box.url + path, json=body, headers=version).status_code == 401
    assert httpx.get(box.url + "/v1/models").status_code == 401
    if path in (CHAT, MESSAGES):
        for key in ({"authorization": "Bearer any"}, {"x-api-key": "any"}):
            assert httpx.post(box.url + path, json=body, headers={**version, **key}).status_code == 200
    if path == MESSAGES:
        missing = httpx.post(box.url + path, json=body, headers={"x-api-key": "k"})
        assert (missing.status_code, missing.json()["error"]["message"]) == (
            400,
            "anthropic-version: header is required",
        )


def test_a_wrong_place_is_named(box: Sandbox) -> None:
    with openai.OpenAI(base_url=box.url, api_key="k", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="a base URL that ends in /v1"):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(POST /images/generations\)"):
            client.images.generate(prompt="a cat")


def test_a_dated_name_is_the_same_model(http: httpx.Client) -> None:
    first, second = (http.post(CHAT, json={**ASKED, "model": m}).json() for m in ("gpt-4o", "gpt-4o-2024-08-06"))
    assert (first["choices"], first["usage"], first["model"]) == (second["choices"], second["usage"], second["model"])


def test_the_allowed_parameters_are_those_of_the_real_client() -> None:
    """The client is generated from the provider's own description, so a list that lags behind shows here."""
    from openai.types import embedding_create_params
    from openai.types.chat import completion_create_params
    from openai.types.responses import response_create_params

    def names(*params: Any) -> set[str]:
        return {name for one in params for name in one.__annotations__}

    chat = completion_create_params
    assert names(chat.CompletionCreateParamsBase, chat.CompletionCreateParamsStreaming) <= set(CHAT_PARAMETERS)
    responses = response_create_params
    assert names(responses.ResponseCreateParamsBase, responses.ResponseCreateParamsStreaming) <= set(
        RESPONSES_PARAMETERS
    )
    assert names(embedding_create_params.EmbeddingCreateParams) <= set(EMBEDDING_PARAMETERS)


NAMES = ["role", "content", "type", "text", "tool_calls", "name", "function", "id", "schema", "input", "format"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, EMBEDDINGS, "/v1/responses", "/v1/messages/count_tokens"])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_breaks_it(http: httpx.Client, path: str, data: st.DataObject) -> None:
    """Anything at all in place of one or two members is answered or refused, never a failure of the sandbox."""
    body: dict[str, Any] = {
        CHAT: ASKED,
        EMBEDDINGS: {"model": "text-embedding-3-small", "input": "a"},
        "/v1/responses": {"model": "gpt-4o", "input": "Hi"},
    }.get(path, CLAUDE)
    names = [*body, "tools", "tool_choice", "system", "response_format", "metadata", "stop", "text", "output_config"]
    changes = data.draw(st.dictionaries(st.sampled_from(names), json_values, min_size=1, max_size=2))
    assert http.post(path, json={**body, **changes}).status_code in (200, 400, 404)
    turn = data.draw(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4))
    place = "input" if path == "/v1/responses" else "messages"
    if place in body:
        turns = [{"role": "user", "content": "Hi", **turn}, turn]
        assert http.post(path, json={**body, place: turns}).status_code in (200, 400, 404)
