"""What a provider may read beyond the request, in the dialects of every provider; the same for every host."""

from __future__ import annotations

from typing import Any

import pytest

from llm_savings.unseen import may_read_more

HI = [{"role": "user", "content": "hi"}]
SOURCE = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0"}


def user(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "Read this"}, *blocks]}]


@pytest.mark.parametrize(
    "params",
    [
        {"web_search_options": {}},
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"mcp_servers": [{"type": "url", "url": "https://example.com"}]},
        {"cached_content": "cachedContents/1"},
        {"extra_body": {"search_parameters": {"mode": "on"}}},
        {"extra_body": {"tools": [{"type": "web_search"}]}},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"tools": [{"googleSearch": {}}]},
        {"tools": [{"url_context": {}}]},
        {"functions": [{"type": "web_search"}]},
    ],
)
def test_a_request_that_lets_the_provider_look(params: dict[str, Any]) -> None:
    assert may_read_more("gpt-4o", params, HI)


@pytest.mark.parametrize("model", ["gpt-4o-search-preview", "openai/gpt-5-search-api", "o3-deep-research", "sonar-pro"])
def test_a_model_that_always_looks(model: str) -> None:
    assert may_read_more(model, {}, HI)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0"}},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": SOURCE},
        {"type": "document", "source": {"type": "content", "content": [{"type": "document", "source": SOURCE}]}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": SOURCE}]},
        {"type": "audio", "url": "https://example.com/a.mp3"},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "media", "mime_type": "application/pdf", "file_uri": "gs://mine/a"},
        {"type": "image_url", "image_url": {"url": "https://example.com/A.PDF?page=1"}},
        {"type": "image_url", "image_url": "data:application/pdf;base64,JVBERi0"},
        {"type": "input_image", "image_url": "https://example.com/a.mp4"},
        {"document": {"format": "pdf", "name": "a", "source": {"bytes": "JVBERi0"}}},
        {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
        {"file_data": {"mime_type": "application/pdf", "file_uri": "https://example.com/a"}},
    ],
)
def test_a_file_whose_length_nobody_knows(block: dict[str, Any]) -> None:
    assert may_read_more("gpt-4o", {}, user(block))
    assert may_read_more("gpt-4o", {}, [{"role": "user", "parts": [{"text": "Read this"}, block]}])
    assert may_read_more("gpt-4o", {}, [{"type": "function_call_output", "call_id": "c", "output": [block]}])


def test_an_item_that_the_provider_keeps() -> None:
    assert may_read_more("gpt-4o", {}, [*HI, {"type": "item_reference", "id": "msg_1"}])


@pytest.mark.parametrize(
    "block",
    [
        "hi",
        {"type": "text", "text": "see https://example.com/a.pdf", "annotations": [{"url": "https://example.com"}]},
        {"type": "input_text", "text": "file_id"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/pdf.cgi?id=1"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "words"}]}},
        {"type": "tool_use", "id": "t", "name": "open", "input": {"file_id": "mine", "type": "file"}},
        {"type": "tool_result", "tool_use_id": "t", "content": "words"},
        {"type": ["of", "nobody's"], "content": [b"bytes", 1, 2.5, None]},
    ],
)
def test_what_the_request_carries_itself(block: Any) -> None:
    assert not may_read_more("gpt-4o", {}, user(block))


@pytest.mark.parametrize(
    "params",
    [
        {"web_search_options": None, "mcp_servers": [], "prompt": "", "enable_search": False},
        {"tools": [{"type": "function", "function": {"name": "web_search"}}]},
        {"tools": [{"type": "computer_20250124", "name": "computer"}, {"name": "f", "input_schema": {}}]},
        {"tools": [{"functionDeclarations": []}, {"toolSpec": {}}], "extra_body": {"top_k": 5}},
    ],
)
def test_a_request_that_lets_it_not(params: dict[str, Any]) -> None:
    assert not may_read_more("gpt-4o-mini-2024-07-18", params, HI)
    assert not may_read_more("claude-sonnet-4-5", params, "plain text")
