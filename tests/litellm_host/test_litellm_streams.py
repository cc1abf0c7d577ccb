"""Streams: their usage is asked for without anybody noticing; abandoned ones are not lost."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import CLAUDE, FAQ, GPT, Metered, called, counts, failing, until

from llm_savings.tokens import count


class Wire(CustomLogger):
    """Keeps what LiteLLM is about to send; goes after the logger in `litellm.callbacks`."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self.sent.append(copy.copy(kwargs["additional_args"]["complete_input_dict"]))


def shape(chunks: list[Any]) -> list[Any]:
    """What the user sees of a stream, without ids and times."""
    return [
        [(choice.delta.model_dump(), choice.finish_reason) for choice in chunk.choices]
        + [getattr(chunk, "usage", None)]
        for chunk in chunks
    ]


@pytest.mark.parametrize("model", [GPT, "openai/gpt-5-mini", "litellm_proxy/gpt-4o-mini", "hosted_vllm/gpt-4o-mini"])
async def test_the_user_sees_the_same_chunks(metered: Metered, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    seen = shape(metered.stream(model)), shape(await metered.astream(model))
    for row in await metered.rows(2):
        assert row.basis in ("measured", "unpriced")
        assert counts(row)["input"] > 0
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert (shape(metered.stream(model)), shape(await metered.astream(model))) == seen
    await metered.rows(2)


@pytest.mark.parametrize("asked", [True, False])
async def test_the_users_own_options_are_left_alone(metered: Metered, asked: bool) -> None:
    wire = Wire()
    litellm.callbacks.append(wire)
    options = {"include_usage": asked}
    chunks = metered.stream(stream_options=options)
    await metered.astream(stream_options=options)
    assert options == {"include_usage": asked}
    assert [sent.get("stream_options") for sent in wire.sent] == [options, options]
    assert not any("stream_options" in (sent.get("extra_body") or {}) for sent in wire.sent)
    assert any(getattr(chunk, "usage", None) for chunk in chunks) == asked
    # Without a usage from the provider LiteLLM counts by itself, and does not say so.
    for row in await metered.rows(2):
        assert row.basis == ("measured" if asked else "estimated")


async def test_nothing_of_the_users_is_changed(metered: Metered) -> None:
    given: dict[str, Any] = {
        "messages": copy.deepcopy(FAQ),
        "extra_body": {"store": False},
        "metadata": {"tags": ["a:b"]},
    }
    before = copy.deepcopy(given)
    metered.stream(**given)
    await metered.astream(**given)
    assert given["messages"] == before["messages"]
    assert given["extra_body"] == before["extra_body"]
    assert given["metadata"]["tags"] == before["metadata"]["tags"]
    metered.check_bill(await metered.rows(2))


async def test_only_chat_streams_are_asked(metered: Metered) -> None:
    wire = Wire()
    litellm.callbacks.append(wire)
    metered.complete()
    list(litellm.responses(input="hello", stream=True, **metered.to(GPT)))
    metered.stream(CLAUDE)
    assert not any("stream_options" in json.dumps(sent, default=str) for sent in wire.sent)


async def test_without_asking_a_stream_is_counted_here(metered: Metered) -> None:
    metered.costs.stream_usage = False
    text = "".join(chunk.choices[0].delta.content or "" for chunk in metered.stream())
    row = await metered.row()
    assert (row.status, row.basis) == ("ok", "estimated")
    billed = metered.box.bill().rows[0].usage
    assert counts(row) == {"input": billed["prompt_tokens"], "output": count(text, "gpt-4o-mini")}


async def test_hidden_thoughts_cannot_be_counted(metered: Metered) -> None:
    metered.costs.stream_usage = False
    metered.stream("openai/o3")
    row = await metered.row()
    assert (row.status, row.basis) == ("ok", "unknown")
    metered.check_bill([row])


class _Strict(BaseHTTPRequestHandler):
    """An old server that knows no stream_options: refuses them, or under /ignores takes no notice."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "stream_options" in body and not self.path.startswith("/ignores"):
            self._answer(400, "application/json", '{"error": {"message": "Unrecognized argument: stream_options"}}')
            return
        pieces = [{"role": "assistant", "content": "Hello"}, {"content": " there"}, {}]
        lines = [
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "gpt-4o-mini",
                "choices": [{"index": 0, "delta": piece, "finish_reason": None if piece else "stop"}],
            }
            for piece in pieces
        ]
        self._answer(
            200, "text/event-stream", "".join(f"data: {json.dumps(x)}\n\n" for x in lines) + "data: [DONE]\n\n"
        )

    def _answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def strict_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Strict)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_a_server_that_refuses_is_asked_once(metered: Metered, strict_url: str) -> None:
    error = await failing(lambda: metered.stream(api_base=f"{strict_url}/v1"))
    assert isinstance(error, litellm.BadRequestError)
    assert len(metered.stream(api_base=f"{strict_url}/v1")) == 3
    assert len(await metered.astream(api_base=f"{strict_url}/v1")) == 3
    refused, *counted = await metered.rows(3)
    assert (refused.status, refused.settled and refused.settled.actual) == ("error", 0)
    assert {row.basis for row in counted} == {"estimated"}
    assert counts(counted[0])["output"] == count("Hello there", "gpt-4o-mini")


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["ours", "the users"])
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_server_that_takes_no_notice(metered: Metered, strict_url: str, way: str, options: Any) -> None:
    await called(lambda: getattr(metered, way)(api_base=f"{strict_url}/ignores/v1", **options))
    row = await metered.row()
    assert (row.status, row.basis) == ("ok", "estimated")  # LiteLLM counts by itself, and does not say so
    assert counts(row)["output"] == count("Hello there", "gpt-4o-mini")


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_an_abandoned_stream_is_billed_for_what_came(metered_alone: Metered, model: str) -> None:
    metered = metered_alone
    text = ""
    for number, chunk in enumerate(metered.complete(model, stream=True)):
        text += chunk.choices[0].delta.content or ""
        if number == 12:
            break
    row = await metered.row()
    assert (row.status, row.basis) == ("abandoned", "estimated")
    assert counts(row)["output"] == count(text, model) > 5
    for _ in until():
        await asyncio.sleep(0.01)
        if bill := metered.box.bill().total:  # once the provider has noticed
            break
    assert row.settled and row.settled.actual and row.sent.bound
    assert 0 < row.settled.actual < bill <= row.sent.bound


async def test_an_abandoned_stream_of_messages_is_billed_for_what_came(metered_alone: Metered) -> None:
    """LiteLLM reports it as a whole answer, with the tokens that Anthropic tells before the first word."""
    metered = metered_alone
    metered.box.fail("slow", seconds=0.02)
    asked = {"messages": [{"role": "user", "content": "Explain refunds at length"}], "max_tokens": 200}
    pieces: Any = await litellm.anthropic_messages(**metered.to(CLAUDE), **asked, stream=True)
    came = b""
    async for piece in pieces:
        came += piece
        if came.count(b"content_block_delta") > 12:
            break
    await pieces.aclose()
    row = await metered.row()
    assert (row.status, row.basis) == ("abandoned", "estimated")
    said = "".join(
        json.loads(line[5:]).get("delta", {}).get("text", "") for line in came.split(b"\n") if line[:5] == b"data:"
    )
    assert counts(row)["output"] >= count(said, CLAUDE) > 3
    assert row.sent.bound and metered.box.bill().total <= row.sent.bound


async def test_an_abandoned_async_stream_is_unknown_at_its_bound(metered_alone: Metered) -> None:
    metered = metered_alone

    async def leave() -> None:
        pieces = await metered.acomplete(stream=True)
        await anext(pieces)
        await pieces.aclose()

    await leave()
    row = await metered.row()
    assert (row.status, row.basis) == ("abandoned", "unknown")
    metered.check_bill([row])


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_a_cut_stream_is_unknown_at_its_bound(metered: Metered, way: str, model: str) -> None:
    metered.box.fail("cut")
    await failing(lambda: getattr(metered, way)(model))
    row = await metered.row()
    assert (row.status, row.basis) == ("error", "unknown")
    metered.check_bill([row])


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_ends_without_saying_so_is_told_as_litellm_takes_it(metered: Metered, way: str) -> None:
    metered.box.fail("garbage")
    try:  # up to litellm 1.109 such a stream of Anthropic's ends as if it were whole; later it is an error
        await called(lambda: getattr(metered, way)(CLAUDE))
        told = ("ok", "estimated")
    except litellm.exceptions.MidStreamFallbackError:
        told = ("error", "unknown")
    row = await metered.row()
    assert (row.status, row.basis) == told
