"""The sandbox behind LangChain's chat models and LiteLLM, unmodified: what they report is what is billed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from llm_savings.sandbox import BillRow, Sandbox

QUESTION = "환불 규정을 알려 주세요"


def openai_chat(box: Sandbox) -> BaseChatModel:
    return ChatOpenAI(model="gpt-4o-mini", base_url=box.openai_url, api_key="k", max_retries=0, stream_usage=True)


def openai_reasoning(box: Sandbox) -> BaseChatModel:
    return ChatOpenAI(model="gpt-5-mini", base_url=box.openai_url, api_key="k", max_retries=0, stream_usage=True)


def openai_responses(box: Sandbox) -> BaseChatModel:
    return ChatOpenAI(model="gpt-4o", base_url=box.openai_url, api_key="k", max_retries=0, use_responses_api=True)


def anthropic_chat(box: Sandbox) -> BaseChatModel:
    return ChatAnthropic(model="claude-sonnet-5-5", base_url=box.anthropic_url, api_key="k", max_retries=0)


def litellm_openai(box: Sandbox) -> BaseChatModel:
    return ChatLiteLLM(model="openai/gpt-4o", api_base=box.openai_url, api_key="k", stream_usage=True, max_retries=0)


def litellm_anthropic(box: Sandbox) -> BaseChatModel:
    return ChatLiteLLM(model="anthropic/claude-haiku-4-5", api_base=box.anthropic_url, api_key="k", max_retries=0)


HOSTS = [openai_chat, openai_reasoning, openai_responses, anthropic_chat, litellm_openai, litellm_anthropic]
hosts = pytest.mark.parametrize("make", HOSTS, ids=lambda make: make.__name__)
# LangChain and LiteLLM keep one pool of connections for all their async calls, which does not outlive its event loop.
one_loop = pytest.mark.asyncio(loop_scope="module")
Make = Callable[[Sandbox], BaseChatModel]


@tool
def get_order(order_id: str) -> str:
    """Look up an order by its number."""
    return f"order {order_id} was shipped on Monday"


class Ticket(BaseModel):
    """A support ticket."""

    title: str
    priority: int = Field(ge=1, le=3)
    tags: list[str]


def billed(row: BillRow) -> tuple[int, int]:
    """Input and output tokens, in either dialect."""
    usage = row.usage
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage["completion_tokens"]
    return usage["input_tokens"], usage["output_tokens"]


def reported(message: Any) -> tuple[int, int]:
    return message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]


@hosts
def test_invoke_and_stream(box: Sandbox, make: Make) -> None:
    model = make(box)
    whole = model.invoke(QUESTION)
    total: AIMessageChunk | None = None
    for chunk in model.stream(QUESTION):
        assert isinstance(chunk, AIMessageChunk)
        total = chunk if total is None else total + chunk
    assert total is not None
    assert total.text == whole.text != ""
    first, second = box.bill().rows
    assert (first.stream, second.stream) == (False, True)
    assert billed(first) == billed(second) == reported(whole) == reported(total)
    assert (first.outcome, second.outcome) == ("ok", "ok")


@one_loop
@hosts
async def test_ainvoke_and_astream(box: Sandbox, make: Make) -> None:
    model = make(box)
    wholes = await asyncio.gather(*(model.ainvoke(f"{QUESTION} {n}") for n in range(5)))
    text = ""
    async for chunk in model.astream(f"{QUESTION} 0"):
        text += chunk.text
    assert text == wholes[0].text
    rows = (await asyncio.to_thread(box.bill)).rows
    assert sorted(map(billed, rows[:5])) == sorted(map(reported, wholes))
    assert len(rows) == 6


@hosts
def test_tools_whole_and_streamed(box: Sandbox, make: Make) -> None:
    model = make(box).bind_tools([get_order])
    called = model.invoke("Where is order 4711?")
    total: Any = None
    for chunk in model.stream("Where is order 4711?"):
        total = chunk if total is None else total + chunk
    for message in (called, total):
        (call,) = message.tool_calls
        assert (call["name"], call["args"]) == ("get_order", {"order_id": "4711"})
    first, second = box.bill().rows
    assert billed(first) == billed(second)


@hosts
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(box: Sandbox, make: Make, method: Any) -> None:
    ticket = make(box).with_structured_output(Ticket, method=method).invoke("My parcel is late")
    assert isinstance(ticket, Ticket)
    assert len(box.bill().rows) == 1


@hosts
def test_an_agent_finishes(box: Sandbox, make: Make) -> None:
    agent: Any = create_agent(make(box), [get_order])
    messages = agent.invoke({"messages": [("user", "Where is order 4711?")]})["messages"]
    assert "order 4711 was shipped on Monday" in messages[-1].text
    assert len(box.bill().rows) == 2


def test_ids_reach_langchain(box: Sandbox) -> None:
    answers = [openai_chat(box).invoke("Hi"), anthropic_chat(box).invoke("Hi")]
    assert [answer.response_metadata["id"] for answer in answers] == [row.id for row in box.bill().rows]


def test_embeddings_through_langchain(box: Sandbox) -> None:
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=box.openai_url, api_key="k", check_embedding_ctx_length=False
    )
    near, same, far = embeddings.embed_documents(["reset my password", "Reset my password!", "우산"])
    assert near == pytest.approx(same)
    assert sum(a * b for a, b in zip(near, far, strict=True)) < 0.3


DEPLOYMENTS: list[tuple[str, str]] = [("openai/gpt-4o", "openai_url"), ("anthropic/claude-haiku-4-5", "anthropic_url")]
deployments = pytest.mark.parametrize(("model", "url"), DEPLOYMENTS, ids=["openai", "anthropic"])
TURNS = [{"role": "user", "content": QUESTION}]


def usage_of(answer: Any) -> tuple[int, int]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def request_id(answer: Any) -> str:
    headers = answer._hidden_params["additional_headers"]
    return headers.get("llm_provider-x-request-id") or headers["llm_provider-request-id"]


@one_loop
@deployments
async def test_litellm_sdk(box: Sandbox, model: str, url: str) -> None:
    asked: dict[str, Any] = {"model": model, "api_base": getattr(box, url), "api_key": "k", "messages": TURNS}
    whole = await asyncio.to_thread(litellm.completion, **asked)
    later = await litellm.acompletion(**asked)
    stream = await asyncio.to_thread(litellm.completion, **asked, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    parts = [chunk async for chunk in await litellm.acompletion(**asked, stream=True)]
    text = whole.choices[0].message.content
    assert text == later.choices[0].message.content
    for pieces in (chunks, parts):
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
    bill = await asyncio.to_thread(box.bill)
    assert [billed(row) for row in bill.rows] == [usage_of(whole)] * 4
    assert usage_of(chunks[-1]) == usage_of(whole)
    # LiteLLM gives Anthropic's answers an id of its own; the header's id leads to the row all the same.
    assert bill[request_id(whole)] is bill.rows[0]


@one_loop
@deployments
async def test_litellm_router(box: Sandbox, model: str, url: str) -> None:
    where = {"model": model, "api_base": getattr(box, url), "api_key": "k"}
    router = litellm.Router(model_list=[{"model_name": "any", "litellm_params": where}], num_retries=2, retry_after=0)
    whole = await asyncio.to_thread(router.completion, model="any", messages=TURNS)
    later = await router.acompletion(model="any", messages=TURNS)
    stream = await router.acompletion(model="any", messages=TURNS, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == whole.choices[0].message.content == later.choices[0].message.content
    await asyncio.to_thread(box.fail, "500")
    assert usage_of(await router.acompletion(model="any", messages=TURNS)) == usage_of(whole)
    bill = await asyncio.to_thread(box.bill)
    assert [billed(row) for row in bill.rows] == [usage_of(whole)] * 4
    assert await asyncio.to_thread(box.requests) == 5


def test_litellm_responses_and_embeddings(box: Sandbox) -> None:
    answer: Any = litellm.responses(model="openai/gpt-4o", api_base=box.openai_url, api_key="k", input=QUESTION)
    vectors: Any = litellm.embedding(
        model="openai/text-embedding-3-small", api_base=box.openai_url, api_key="k", input=["a b", "c"]
    )
    first, second = box.bill().rows
    assert billed(first) == (answer.usage.input_tokens, answer.usage.output_tokens)
    assert second.usage["prompt_tokens"] == vectors.usage.prompt_tokens == 3


def test_litellm_sees_the_providers_errors(box: Sandbox) -> None:
    asked: dict[str, Any] = {"api_base": box.openai_url, "api_key": "k", "messages": TURNS, "num_retries": 0}
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/gpt-9", **asked)
    box.fail("429", times=None, retry_after=0.01)
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(model="openai/gpt-4o", max_retries=0, **asked)
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(
            model="anthropic/claude-haiku-4-5", max_retries=0, **{**asked, "api_base": box.anthropic_url}
        )
    assert box.bill().rows == ()
