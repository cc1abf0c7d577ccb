"""Prompt caching through the real ChatBedrockConverse and boto3: requests as Amazon takes them, answered here.

The answers count what the sandbox's cache holds, by rules of its own.
"""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from llm_savings import CostCallback
from llm_savings.langchain import PromptCachingMiddleware, with_prompt_caching
from llm_savings.sandbox.prompt_cache import Block, PromptCache
from llm_savings.tokens import count

aws: Any = pytest.importorskip("langchain_aws", reason="langchain-aws is not installed")
boto3: Any = pytest.importorskip("boto3", reason="boto3 is not installed")

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
MANUAL = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 120
QUESTIONS = ["Where is my parcel?", "Do you sell hats?", "환불은 언제 되나요?", "Can I pay by card?"]


class Bedrock:
    """Answers a boto3 client in the place of the network, after boto3 has checked and written the request."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "bedrock-runtime", region_name="us-east-1", aws_access_key_id="AKIA0", aws_secret_access_key="no"
        )
        self.client.meta.events.register("before-call.bedrock-runtime", self._answer)
        self.bodies: list[dict[str, Any]] = []
        self.usages: list[dict[str, int]] = []
        self._cache = PromptCache().of("one")

    def _answer(self, model: Any, params: Any, **_: Any) -> Any:
        body = json.loads(params["body"])
        self.bodies.append(body)
        said = [*body.get("toolConfig", {}).get("tools", ()), *body.get("system", ())]
        said += [block for message in body["messages"] for block in message["content"]]
        blocks: list[Block] = []
        for block in said:
            if "cachePoint" in block:
                ttl = {"5m": 300.0, "1h": 3600.0}[block["cachePoint"].get("ttl", "5m")]
                blocks[-1] = Block(blocks[-1].content, blocks[-1].tokens, ttl)
            else:
                text = json.dumps(block)
                blocks.append(Block(text, count(text)))
        split = self._cache.marked("claude", blocks, minimum=1024, lookback=20)
        usage = {
            "inputTokens": split.fresh,
            "outputTokens": 5,
            "totalTokens": split.total + 5,
            "cacheReadInputTokens": split.read,
            "cacheWriteInputTokens": split.short + split.long,
        }
        self.usages.append(usage)
        answer: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        if model.name == "ConverseStream":
            answer["stream"] = [
                {"messageStart": {"role": "assistant"}},
                {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Yes."}}},
                {"contentBlockStop": {"contentBlockIndex": 0}},
                {"messageStop": {"stopReason": "end_turn"}},
                {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}},
            ]
        else:
            answer |= {"output": {"message": {"role": "assistant", "content": [{"text": "Yes."}]}}}
            answer |= {"stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        return SimpleNamespace(status_code=200), answer

    def model(self, name: str = CLAUDE, **given: Any) -> Any:
        return aws.ChatBedrockConverse(model=name, client=self.client, bedrock_client=object(), max_tokens=9, **given)

    @property
    def reads(self) -> list[int]:
        return [usage["cacheReadInputTokens"] for usage in self.usages]


@pytest.fixture
def bedrock() -> Bedrock:
    return Bedrock()


@tool
def order_status(order_id: str) -> str:
    """What has become of an order."""
    return f"Order {order_id} was sent on Monday. " * 40


def asking(question: str) -> list[Any]:
    return [SystemMessage(MANUAL), HumanMessage(question)]


def bare(body: dict[str, Any]) -> dict[str, Any]:
    """A request without its marks."""

    def without(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [block for block in blocks if "cachePoint" not in block]

    new = copy.deepcopy(body)
    new["system"] = without(new.get("system", []))
    for message in new["messages"]:
        message["content"] = without(message["content"])
    if "toolConfig" in new:
        new["toolConfig"]["tools"] = without(new["toolConfig"]["tools"])
    return new


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch"])
async def test_a_shared_system_prompt_is_written_once_and_read_from_then_on(
    bedrock: Bedrock, cost: CostCallback, mode: str
) -> None:
    model = with_prompt_caching(bedrock.model())
    for question in QUESTIONS:
        config: Any = {"callbacks": [cost]}
        if mode == "invoke":
            model.invoke(asking(question), config)
        elif mode == "ainvoke":
            await model.ainvoke(asking(question), config)
        elif mode == "stream":
            list(model.stream(asking(question), config))
        elif mode == "astream":
            assert [piece async for piece in model.astream(asking(question), config)]
        else:
            model.batch([asking(question)], config)
    assert bedrock.reads[:2] == [0, 0] and min(bedrock.reads[2:]) > 1500
    assert bedrock.bodies[1]["system"][1] == {"cachePoint": {"type": "default"}}
    row = list(cost.ledger.calls())[-1]
    assert row.settled is not None and row.settled.strategies["prompt_cache"]["marks"]
    # $3.30, $0.33 and $4.125 a million in the United States, $16.50 for answers.
    prices = {"inputTokens": "3.3", "cacheReadInputTokens": "0.33", "cacheWriteInputTokens": "4.125"}
    prices |= {"outputTokens": "16.5"}
    bill = sum(Decimal(price) * usage[name] for usage in bedrock.usages for name, price in prices.items())
    assert cost.spent == bill / 1_000_000 and cost.saved > 0


def test_what_leaves_is_the_same_but_for_the_marks(bedrock: Bedrock) -> None:
    call = {"name": "order_status", "args": {"order_id": "A-17"}, "id": "t1", "type": "tool_call"}
    talk = [*asking("Where is it? " * 60), AIMessage("", tool_calls=[call])]
    talk.append(ToolMessage("It was sent on Monday. " * 60, tool_call_id="t1"))
    before = copy.deepcopy(talk)
    plain = bedrock.model().bind_tools([order_status], tool_choice="auto")
    marking = with_prompt_caching(plain)
    plain.invoke(talk)
    for _ in range(3):
        marking.invoke(talk)
    assert talk == before
    assert len({json.dumps(bare(body), sort_keys=True) for body in bedrock.bodies}) == 1
    assert "cachePoint" in json.dumps(bedrock.bodies[-1]) and bedrock.reads[-1] > 2000
    assert marking.bound.client is bedrock.client  # nothing of the model itself is changed


def test_marks_of_ones_own_stay_and_count(bedrock: Bedrock) -> None:
    point = {"cachePoint": {"type": "default"}}
    model = with_prompt_caching(bedrock.model())
    for question in QUESTIONS:
        content = [{"text": MANUAL}, point, {"text": f"Part two. {MANUAL}"}, point]
        model.invoke([SystemMessage(content), HumanMessage(question)])
    for body in bedrock.bodies:
        assert json.dumps(body).count("cachePoint") <= 4
        assert [block for block in body["system"] if "cachePoint" in block][:2] == [point] * 2
    assert bedrock.reads[-1] > 4000


def test_nova_gets_marks_only_where_it_takes_them(bedrock: Bedrock) -> None:
    model = with_prompt_caching(bedrock.model(NOVA)).bind_tools([order_status])
    talk: list[Any] = asking(QUESTIONS[0])
    for turn in range(5):
        talk.append(model.invoke(talk))
        call = {"name": "order_status", "args": {"order_id": str(turn)}, "id": f"t{turn}", "type": "tool_call"}
        talk[-1] = AIMessage("", tool_calls=[call])
        talk.append(ToolMessage(f"{turn}: it was sent on Monday. " * 60, tool_call_id=f"t{turn}"))
    assert any("cachePoint" in json.dumps(body) for body in bedrock.bodies)
    for body in bedrock.bodies:
        assert "cachePoint" not in json.dumps(body["toolConfig"])
        for message in body["messages"]:
            for before, block in zip(message["content"], message["content"][1:], strict=False):
                assert not ("cachePoint" in block and {"toolResult", "toolUse"} & before.keys())


def test_agents_and_shadow(bedrock: Bedrock) -> None:
    agent: Any = create_agent(
        bedrock.model(), [order_status], system_prompt=MANUAL, middleware=[PromptCachingMiddleware()]
    )
    for question in QUESTIONS:
        agent.invoke({"messages": [HumanMessage(question)]})
    assert bedrock.reads[-1] > 1500
    shadow = with_prompt_caching(bedrock.model(), shadow=True)
    answer = [shadow.invoke(asking(question)) for question in QUESTIONS][-1]
    assert "cachePoint" not in json.dumps(bedrock.bodies[-1])
    assert answer.response_metadata["llm_savings"]["prompt_cache"]["shadow"] is True


def test_a_defect_of_ours_costs_no_call(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("llm_savings.marked.plan_breakpoints", broken)
    assert with_prompt_caching(bedrock.model()).invoke(asking("Hi")).content
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert with_prompt_caching(bedrock.model()).invoke(asking("Hi")).content
