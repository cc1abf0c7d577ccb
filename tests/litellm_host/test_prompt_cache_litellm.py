"""Prompt caching in LiteLLM: marks on the wire in every mode, the provider's bill, nothing where it does not pay."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import litellm
import pytest
from litellm import Router
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.thread_pool_executor import executor
from litellm_checks import Metered, called, failing, until

from llm_savings.attribution import attribute
from llm_savings.ledger import Call
from llm_savings.litellm import PromptCaching
from llm_savings.sandbox import Sandbox
from llm_savings.usage import Usage

CLAUDE = "anthropic/claude-sonnet-4-5"
MANUAL = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 120
QUESTIONS = ["Where is my parcel?", "Do you sell hats?", "환불은 언제 되나요?", "Can I pay by card?"]


@pytest.fixture
def caching(metered: Metered) -> PromptCaching:
    found = PromptCaching(own_servers=[metered.box.openai_url])
    litellm.callbacks = [metered.costs, found]
    return found


def asking(question: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": MANUAL}, {"role": "user", "content": question}]


async def learned(metered: Metered, count: int) -> list[Call]:
    """The rows, once LiteLLM has told everybody of the answers, which it does from another thread."""
    rows = await metered.rows(count)
    for _ in until():
        if not any(found._plans for found in litellm.callbacks if isinstance(found, PromptCaching)):
            break
        await asyncio.sleep(0.005)
    return rows


def reads(box: Sandbox) -> list[int]:
    return [row.usage["cache_read_input_tokens"] for row in box.bill().rows]


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_a_shared_system_prompt_is_written_once_and_read_from_then_on(
    metered: Metered, caching: PromptCaching, way: str
) -> None:
    given = [asking(question) for question in QUESTIONS]
    before = copy.deepcopy(given)
    rows: list[Call] = []
    for messages in given:
        await called(lambda messages=messages: getattr(metered, way)(CLAUDE, messages=messages))
        rows = await learned(metered, len(rows) + 1)
    assert given == before
    read = reads(metered.box)
    assert read[:2] == [0, 0] and read[2] == read[3] > 2000
    metered.check_bill(rows)
    assert rows[-1].settled is not None and rows[-1].settled.strategies["prompt_cache"]["marks"]
    assert attribute(rows).credits["prompt_cache"] == metered.costs.saved > 0


@pytest.mark.parametrize("way", ["complete", "acomplete"])
@pytest.mark.parametrize("model", [CLAUDE, "openai/gpt-5.6"])
async def test_an_answer_is_learned_from_before_litellm_reports_it(
    metered: Metered, caching: PromptCaching, monkeypatch: pytest.MonkeyPatch, way: str, model: str
) -> None:
    """Its first report of a process can come seconds later, when the next requests have long left."""
    late: list[Callable[[], Any]] = []
    took: list[float] = []
    submit, enqueue = executor.submit, GLOBAL_LOGGING_WORKER.ensure_initialized_and_enqueue
    with monkeypatch.context() as held:
        held.setattr(executor, "submit", lambda *report: late.append(partial(submit, *report)))
        held.setattr(
            GLOBAL_LOGGING_WORKER,
            "ensure_initialized_and_enqueue",
            lambda *given, **named: late.append(partial(enqueue, *given, **named)),
        )
        for question in QUESTIONS:
            began = time.monotonic()
            await called(lambda question=question: getattr(metered, way)(model, messages=asking(question)))
            took.append(time.monotonic() - began)
    usages = (row.usage for row in metered.box.bill().rows)
    read = [
        (Usage.from_litellm if "total_tokens" in usage else Usage.from_anthropic)(usage).cache_read for usage in usages
    ]
    assert read[:2] == [0, 0] and read[2] == read[3] > 2000
    await asyncio.sleep(0.1)
    for report in late:
        report()
    rows = await learned(metered, len(QUESTIONS))
    metered.check_bill(rows)
    assert [row.settled.latency < most for row, most in zip(rows, took, strict=True) if row.settled] == [True] * 4


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_a_router(metered: Metered, caching: PromptCaching, way: str) -> None:
    router = Router(model_list=[metered.deployment("chat", CLAUDE)], num_retries=0)
    for count, question in enumerate(QUESTIONS, 1):
        await called(lambda question=question: getattr(router, way)("chat", asking(question), max_tokens=30))
        await learned(metered, count)
    metered.check_bill(await metered.rows(len(QUESTIONS)))
    assert reads(metered.box)[-1] > 2000


async def test_a_fallback_to_another_provider_gets_no_marks(metered: Metered, caching: PromptCaching) -> None:
    router = Router(
        model_list=[metered.deployment("chat", CLAUDE), metered.deployment("spare", "openai/gpt-4o")],
        fallbacks=[{"chat": ["spare"]}],
        num_retries=0,
    )
    for count, question in enumerate(QUESTIONS[:3], 1):
        await router.acompletion("chat", asking(question), max_tokens=30)
        await learned(metered, count)
    metered.box.fail("500", times=2, path="/v1/messages")
    answer = await router.acompletion("chat", asking(QUESTIONS[3]), max_tokens=30)
    assert answer.model.startswith("gpt-4o")  # the sandbox refuses marks at OpenAI


async def test_what_comes_once_is_never_marked(metered: Metered, caching: PromptCaching) -> None:
    for number in range(5):
        await metered.acomplete(CLAUDE, messages=asking("Hi")[1:])
        await metered.acomplete(CLAUDE, messages=[{"role": "user", "content": f"{number} {MANUAL}"}])
        await learned(metered, 2 * number + 2)
    written = [row.usage["cache_creation_input_tokens"] for row in metered.box.bill().rows]
    assert written == [0] * 10


async def test_marks_of_the_callers_own_stay(metered: Metered, caching: PromptCaching) -> None:
    mark = {"type": "ephemeral"}
    own = [{"type": "text", "text": MANUAL, "cache_control": mark}]
    for question in QUESTIONS:
        metered.complete(CLAUDE, messages=[{"role": "system", "content": own}, {"role": "user", "content": question}])
    await metered.rows(len(QUESTIONS))
    read = reads(metered.box)
    assert read[0] == 0 and min(read[1:]) > 2000


async def test_openai_gets_a_key_and_from_5_6_on_breakpoints(metered: Metered, caching: PromptCaching) -> None:
    for model in ("openai/gpt-4o", "openai/gpt-5.6"):
        for question in QUESTIONS:
            metered.complete(model, messages=asking(question), max_completion_tokens=60)
            await learned(metered, metered.box.requests())
    metered.check_bill(await metered.rows(2 * len(QUESTIONS)))
    details = [row.usage["prompt_tokens_details"] for row in metered.box.bill().rows]
    assert details[1]["cached_tokens"] >= 2048
    written = [detail["cache_write_tokens"] for detail in details[4:]]
    assert written[0] == 0 and written[1] > 2000 and written[2:] == [0, 0]
    assert details[-1]["cached_tokens"] == written[1]


async def test_a_foreign_server_gets_nothing_of_openais(metered: Metered) -> None:
    litellm.callbacks = [metered.costs, PromptCaching()]
    for question in QUESTIONS:
        metered.complete("openai/gpt-5.6", messages=asking(question), max_completion_tokens=60)
    await metered.rows(len(QUESTIONS))
    assert "prompt_cache" not in (await metered.rows(len(QUESTIONS)))[-1].settled.strategies  # type: ignore[union-attr]


async def test_in_shadow_nothing_is_sent_but_written_down(metered: Metered) -> None:
    litellm.callbacks = [metered.costs, PromptCaching(shadow=True)]
    rows: list[Call] = []
    for question in QUESTIONS:
        metered.complete(CLAUDE, messages=asking(question))
        rows = await learned(metered, len(rows) + 1)
    assert reads(metered.box) == [0] * len(QUESTIONS)
    assert rows[-1].settled is not None
    said = rows[-1].settled.strategies["prompt_cache"]
    assert said["shadow"] and said["marks"]
    assert metered.costs.saved == Decimal(0)


async def test_disabled_it_does_nothing(
    metered: Metered, caching: PromptCaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    for question in QUESTIONS:
        metered.complete(CLAUDE, messages=asking(question))
    assert reads(metered.box) == [0] * len(QUESTIONS)


async def test_a_defect_of_ours_costs_no_call(
    metered: Metered, caching: PromptCaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("llm_savings.marked.plan_breakpoints", broken)
    metered.complete(CLAUDE, messages=asking("Hi"))
    metered.check_bill([await metered.row()])


class Bedrock(BaseHTTPRequestHandler):
    """Answers as Amazon's Converse does; what is marked is written the first time, and read from then on."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        before, marked = any(map(is_marked, self.bodies)), is_marked(body)
        self.bodies.append(body)
        usage = {"inputTokens": 500 if marked else 3000, "outputTokens": 5, "totalTokens": 3005}
        usage |= {"cacheReadInputTokens" if before else "cacheWriteInputTokens": 2500} if marked else {}
        message = {"role": "assistant", "content": [{"text": "Yes."}]}
        answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def is_marked(body: dict[str, Any]) -> bool:
    return body["system"][1:] == [{"cachePoint": {"type": "default"}}]


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Arguments of a call to a server that stands in for Amazon's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no")
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    Bedrock.bodies.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bedrock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "model": "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "aws_bedrock_runtime_endpoint": f"http://127.0.0.1:{server.server_port}",
    }
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("way", ["async", "router", "wrapped"])
async def test_bedrock_is_marked_before_it_is_signed_and_learned_from(
    metered: Metered, caching: PromptCaching, bedrock: dict[str, Any], way: str
) -> None:
    router = Router(model_list=[{"model_name": "claude", "litellm_params": bedrock}])
    given = [asking(question) for question in QUESTIONS]
    before = copy.deepcopy(given)
    for number, messages in enumerate(given, start=1):
        if way == "async":
            await litellm.acompletion(messages=messages, **bedrock)
        elif way == "router":
            await router.acompletion(model="claude", messages=messages)
        else:
            await asyncio.to_thread(litellm.completion, **caching.marked(messages=messages, **bedrock))
        rows = await learned(metered, number)
    assert given == before
    assert list(map(is_marked, Bedrock.bodies)) == [False, True, True, True]
    settled = rows[-1].settled
    assert settled is not None and settled.usage.cache_read == 2500
    assert settled.strategies["prompt_cache"]["held"] > 1500  # the second answer was learned from


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_an_attempt_that_failed_is_forgotten(metered: Metered, caching: PromptCaching, way: str) -> None:
    metered.box.fail("500")
    await failing(lambda: getattr(metered, way)(CLAUDE, messages=asking("Hi"), max_retries=0))
    await learned(metered, 1)
    assert not caching._plans and not len(caching.memory)
