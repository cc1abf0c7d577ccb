"""The sandbox misbehaves as ordered, and bills what a provider would."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import psutil
import pytest

from llm_savings.errors import ConfigError
from llm_savings.sandbox import Sandbox
from llm_savings.sandbox.spoil import REFUSAL

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
Ask = Callable[..., Any]


@pytest.fixture
def client(box: Sandbox) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def claude(box: Sandbox) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=box.anthropic_url, api_key="any", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def ask(client: openai.OpenAI) -> Ask:
    def ask(model: str = "gpt-4o", **more: Any) -> Any:
        turn: Any = {"role": "user", "content": "Tell me a long story about rivers"}
        return client.chat.completions.create(model=model, messages=[turn], **more)

    return ask


@pytest.fixture
def ask_claude(claude: anthropic.Anthropic) -> Ask:
    def ask(**more: Any) -> Any:
        turn: Any = {"role": "user", "content": "Tell me a long story about rivers"}
        return claude.messages.create(model="claude-haiku-4-5", max_tokens=500, messages=[turn], **more)

    return ask


def outcomes(box: Sandbox) -> list[str]:
    return [row.outcome for row in box.bill().rows]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_429_names_the_wait_and_costs_nothing(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("429", times=2, retry_after=7)
    with pytest.raises(openai.RateLimitError) as limited:
        ask()
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(anthropic.RateLimitError) as limited_too:
        ask_claude()
    assert limited_too.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
    assert (outcomes(box), box.requests()) == ([], 2)
    ask()
    assert outcomes(box) == ["ok"]


def test_the_clients_own_retries_get_through(box: Sandbox) -> None:
    box.fail("429", times=1, retry_after=0.01)
    box.fail("500", times=1)
    box.fail("disconnect", times=1)
    with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=3) as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    assert (outcomes(box), box.requests()) == (["ok"], 4)


def test_500_before_and_after_the_work(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    for kind, billed in (("500", []), ("500-after", ["error-after", "error-after"])):
        box.reset()
        box.fail(kind, times=2)
        with pytest.raises(openai.InternalServerError):
            ask()
        with pytest.raises(anthropic.InternalServerError):
            ask_claude(stream=True)
        assert outcomes(box) == billed
    lost = box.bill().rows
    whole = ask()
    assert lost[0].usage == whole.usage.model_dump(exclude_none=True)
    assert lost[0].usd == box.bill()[whole.id].usd


def test_garbage_is_billed(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("garbage", times=4)
    for call in (ask, ask_claude):
        with pytest.raises(Exception, match=r".") as unreadable:
            call()
        assert not isinstance(unreadable.value, (openai.APIStatusError, anthropic.APIStatusError))
        with pytest.raises(Exception, match=r"."):
            list(call(stream=True))
    assert outcomes(box) == ["garbage"] * 4
    rows = box.bill().rows
    assert rows[0].usage == rows[1].usage
    assert rows[2].usage == rows[3].usage


def test_a_cut_stream_is_billed_for_what_was_generated(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("cut", times=2)
    text = ""
    with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
        for chunk in ask(stream=True):
            text += chunk.choices[0].delta.content or ""
    claude_text = ""
    with pytest.raises(Exception, match=r"incomplete|closed"):
        for event in ask_claude(stream=True):
            if event.type == "content_block_delta":
                claude_text += event.delta.text
    cut, claude_cut = box.bill().rows
    assert (cut.outcome, claude_cut.outcome) == ("cut", "cut")
    whole, claude_whole = ask(), ask_claude()
    assert text and whole.choices[0].message.content.startswith(text)
    assert claude_text and claude_whole.content[0].text.startswith(claude_text)
    assert cut.usage["prompt_tokens"] == whole.usage.prompt_tokens
    assert 0 < cut.usage["completion_tokens"] < whole.usage.completion_tokens
    assert 0 < claude_cut.usage["output_tokens"] < claude_whole.usage.output_tokens


def test_a_whole_answer_that_is_cut_is_billed_in_full(box: Sandbox, ask: Ask) -> None:
    box.fail("cut")
    with pytest.raises(openai.APIConnectionError):
        ask()
    assert outcomes(box) == ["cut"]
    assert box.bill().rows[0].usage == ask().usage.model_dump(exclude_none=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_told_and_billed_once(box: Sandbox, client: openai.OpenAI, stream: bool) -> None:
    """Whole or streamed, by chat and by Responses, with what the answer was limited to as the most that it costs."""
    turn: Any = {"role": "user", "content": "Tell me a long story about rivers"}
    box.fail("refused", times=4)
    answer: Any = client.chat.completions.create(model="gpt-4o", messages=[turn], stream=stream)
    said = "".join(c.choices[0].delta.refusal or "" for c in answer) if stream else answer.choices[0].message.refusal
    assert said == REFUSAL
    answer = client.responses.create(model="gpt-4o", input="Tell me a story", stream=stream)
    events = list(answer) if stream else []
    whole = events[-1].response if stream else answer
    assert whole.output[0].content[0].refusal == REFUSAL
    assert not stream or "".join(e.delta for e in events if e.type == "response.refusal.delta") == REFUSAL
    client.chat.completions.create(model="gpt-4o", messages=[turn], max_tokens=2)
    with anthropic.Anthropic(base_url=box.anthropic_url, api_key="any", max_retries=0) as claude:
        assert claude.messages.create(model="claude-haiku-4-5", messages=[turn], max_tokens=2).usage.output_tokens == 2
    bill = box.bill().rows
    assert [row.outcome for row in bill] == ["ok"] * 4
    assert bill[2].usage["completion_tokens"] == 2


def test_an_id_with_a_line_end_of_unicode_is_on_the_bill(box: Sandbox, ask: Ask) -> None:
    ask(user="김\u2028철수\u0085")
    assert [row.user for row in box.bill().rows] == ["김\u2028철수\u0085"]


def test_disconnect(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("disconnect", times=2)
    with pytest.raises(openai.APIConnectionError):
        ask()
    with pytest.raises(anthropic.APIConnectionError):
        ask_claude(stream=True)
    assert outcomes(box) == []
    ask()


def test_a_client_that_goes_away_in_the_middle_of_its_request(
    box: Sandbox, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    there = urlsplit(box.openai_url)
    with socket.create_connection((there.hostname, there.port)) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 99\r\n\r\n"
        client.sendall(head.encode() + b'{"model": "gpt-4o"')
        time.sleep(0.1)
    ask()
    assert outcomes(box) == ["ok"]
    assert not caplog.records


def test_a_stall_that_outlasts_the_client_is_billed_all_the_same(box: Sandbox, ask: Ask) -> None:
    box.fail("stall", seconds=0.3)
    with pytest.raises(openai.APITimeoutError):
        ask(timeout=0.1)
    assert outcomes(box) == []  # the work is still going on
    wait_for(lambda: outcomes(box) == ["abandoned"])
    assert box.bill().rows[0].usage == ask().usage.model_dump(exclude_none=True)


def test_a_stall_with_patience(box: Sandbox, ask: Ask) -> None:
    box.fail("stall", seconds=0.2)
    ask()
    box.fail("stall-unbilled", seconds=0.05)
    with pytest.raises(openai.InternalServerError):
        ask()
    assert outcomes(box) == ["ok"]


def test_an_abandoned_stream_is_billed_for_what_was_sent(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("slow", seconds=0.01, times=2)
    with ask(stream=True) as stream:
        chunks = [next(stream) for _ in range(8)]
    wait_for(lambda: outcomes(box) == ["abandoned"])
    with ask_claude(stream=True) as events:
        for _ in range(8):
            next(events)
    wait_for(lambda: outcomes(box) == ["abandoned"] * 2)
    left, claude_left = box.bill().rows
    assert left.id == chunks[0].id
    assert left.stream
    whole, claude_whole = ask(), ask_claude()
    assert 0 < left.usage["completion_tokens"] < whole.usage.completion_tokens
    assert 0 < claude_left.usage["output_tokens"] < claude_whole.usage.output_tokens
    assert left.usd < box.bill()[whole.id].usd


async def test_an_abandoned_async_stream(box: Sandbox) -> None:
    box.fail("slow", seconds=0.01)
    async with openai.AsyncOpenAI(base_url=box.openai_url, api_key="any", max_retries=0) as client:
        turn: Any = {"role": "user", "content": "Tell me a long story about rivers"}
        stream = await client.chat.completions.create(model="o3", messages=[turn], stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    await asyncio.to_thread(wait_for, lambda: outcomes(box) == ["abandoned"])
    usage = box.bill().rows[0].usage
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < reasoning < usage["completion_tokens"]  # the thinking was done before the first word


def test_faults_choose_by_path_and_model(box: Sandbox, ask: Ask, ask_claude: Ask) -> None:
    box.fail("500", times=None, path=CHAT, model="gpt-4o")
    ask_claude()
    ask("gpt-4o-mini")
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            ask("gpt-4o")
    box.reset()
    ask("gpt-4o")


def test_probability_repeats_with_the_seed(box: Sandbox, ask: Ask) -> None:
    def run() -> str:
        box.reset()
        box.fail("500", times=None, probability=0.5)
        fates = ""
        for _ in range(30):
            try:
                ask(max_tokens=1)
                fates += "."
            except openai.InternalServerError:
                fates += "x"
        return fates

    first = run()
    assert 5 < first.count("x") < 25
    assert run() == first


def test_wrong_orders_are_refused(box: Sandbox) -> None:
    for order in ({"kind": "meteor"}, {"kind": "429", "probability": 2}, {"kind": "stall", "minutes": 3}):
        with pytest.raises(ConfigError):
            box.fail(**order)  # type: ignore[arg-type]


def test_the_server_outlives_all_of_it(box: Sandbox, ask: Ask) -> None:
    with httpx.Client(base_url=box.url, headers={"authorization": "Bearer k"}) as raw:
        for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 100_000):
            assert raw.post(CHAT, content=body).status_code == 400
    ask()
    assert outcomes(box) == ["ok"]


# ---- the form with a process of its own


def test_a_spawned_sandbox_is_the_same_thing() -> None:
    with Sandbox.spawn(latency=0.01) as box:
        box.fail("429", path=CHAT)
        with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=1) as client:
            answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
        assert box.bill()[answer.id].outcome == "ok"
        assert box.requests() == 2
        url = box.url
    with pytest.raises(httpx.TransportError):
        httpx.get(url)


@pytest.mark.parametrize("make", [Sandbox, Sandbox.spawn])
def test_closing_waits_for_nobody(make: Any) -> None:
    box = make()
    box.fail("stall", seconds=600, times=None)
    with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=0) as client:
        turn: Any = {"role": "user", "content": "Hi"}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.chat.completions.create, model="gpt-4o", messages=[turn])
            wait_for(box.requests)
            box.close()
            with pytest.raises(openai.APIError):
                waiting.result(timeout=20)


@pytest.mark.parametrize("make", [Sandbox, Sandbox.spawn])
def test_a_port_that_is_taken(box: Sandbox, make: Any) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        make(port=int(box.url.rpartition(":")[2]))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_spawned_sandbox_ends_with_its_parent() -> None:
    code = (
        "import time; from llm_savings.sandbox import Sandbox; box = Sandbox.spawn(); "
        "print(box._server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=20)
    assert gone
