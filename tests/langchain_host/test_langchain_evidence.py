"""What a strategy says in a run's metadata is kept with the call's row, in every mode."""

from __future__ import annotations

from decimal import Decimal

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI

from llm_savings import CostCallback
from llm_savings.attribution import attribute
from llm_savings.evidence import AT_END, noted
from llm_savings.sandbox import Sandbox

ROUTED = noted({"user_id": "kim"}, "routing", {"tier": "simple", "baseline_model": "gpt-4o"})


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch"])
async def test_the_row_says_what_routing_did(box: Sandbox, mode: str) -> None:
    cost = CostCallback(":memory:")
    await _called(box, mode, {"callbacks": [cost], "metadata": ROUTED})
    (call,) = cost.ledger.calls()
    assert call.settled is not None and call.settled.strategies["routing"]["tier"] == "simple"
    found = attribute([call])
    assert found.credits["routing"] == cost.saved > Decimal(0)


async def _called(box: Sandbox, mode: str, config: RunnableConfig) -> None:
    model = ChatOpenAI(model="gpt-4o-mini", base_url=box.openai_url, api_key="sk-x", stream_usage=True)
    if mode == "invoke":
        model.invoke("Where is my refund?", config)
    elif mode == "ainvoke":
        await model.ainvoke("Where is my refund?", config)
    elif mode == "stream":
        list(model.stream("Where is my refund?", config))
    elif mode == "astream":
        [chunk async for chunk in model.astream("Where is my refund?", config)]
    else:
        model.batch(["Where is my refund?"], config)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch"])
async def test_the_answer_tells_the_rest(box: Sandbox, mode: str) -> None:
    cost, heard = CostCallback(":memory:"), []

    def longer(text: str, output: int) -> dict[str, int]:
        heard.append(text)
        return {"baseline_output": 2 * output}

    await _called(box, mode, {"callbacks": [cost], "metadata": noted(None, "output", {AT_END: longer})})
    (call,) = cost.ledger.calls()
    assert call.settled is not None and heard[0]
    output = call.settled.usage.output
    assert call.settled.strategies == {"output": {"baseline_output": 2 * output}}
    assert cost.saved == attribute([call]).credits["output"] == output * Decimal("0.0000006")
