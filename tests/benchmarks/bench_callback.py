"""What `CostCallback` adds to a call of LangChain, beside what litellm's completion_cost takes to price one.

Run it as a script. A fake chat model answers at once; the same call is timed with and without the callback, in turn,
and the difference of the two is what the callback adds: reading the events, bounding and pricing the call, and two
durable writes to a file. Calls without the callback are made as if llm-savings were not there, so without the mark that
it has LangChain leave on every call. A callback that does nothing is measured in the same way: what LangChain itself
spends on having one, under asyncio two trips to a thread.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

import litellm
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tracers.context import _configure_hooks

from llm_savings.langchain import CostCallback

CALLS = 3_000
HOOKS = list(_configure_hooks)  # before a CostCallback adds its own
PROMPT = [SystemMessage("You answer briefly and kindly. " * 40), HumanMessage("Where is my refund?")]


class Instant(BaseChatModel):
    """Answers at once, as ChatOpenAI would report it."""

    model: str = "gpt-4o"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        usage = {
            "prompt_tokens": 212,
            "completion_tokens": 40,
            "total_tokens": 252,
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
            "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 0},
        }
        message = AIMessage(
            "In five days.", usage_metadata={"input_tokens": 212, "output_tokens": 40, "total_tokens": 252}
        )
        output = {"token_usage": usage, "model_name": "gpt-4o-2024-08-06", "id": "chatcmpl-1"}
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output=output)

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model, "ls_max_tokens": 100}

    @property
    def _llm_type(self) -> str:
        return "instant"


class Idle(BaseCallbackHandler):
    """A callback that does nothing: what LangChain itself spends on having one."""

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Said, since LangChain would try it and then `on_llm_start`."""


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e6


def compare(calls: dict[str, Callable[[], Any]], times: int = CALLS) -> dict[str, list[float]]:
    """Microseconds of each call, taken in turn so that a busy moment hits all of them."""
    hooks = list(_configure_hooks)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(100 + times):
        for name, call in calls.items():
            _configure_hooks[:] = hooks if name == "metered" else HOOKS
            taken[name].append(timed(call))
    _configure_hooks[:] = hooks
    return {name: all_of_them[100:] for name, all_of_them in taken.items()}


def show(name: str, taken: list[float], base: list[float]) -> None:
    added = sorted(one - other for one, other in zip(taken, base, strict=True))
    print(f"{name:<44} p50 {statistics.median(added):8.1f} us   p99 {added[int(len(added) * 0.99)]:8.1f} us")


def main() -> None:
    model = Instant()
    with tempfile.TemporaryDirectory() as folder:
        cost = CostCallback(Path(folder, "costs.db"))
        idle = Idle()
        config, idling = {"callbacks": [cost]}, {"callbacks": [idle]}

        def plain() -> Any:
            return model.invoke(PROMPT)

        taken = compare({"plain": plain, "metered": lambda: model.invoke(PROMPT, config=config)})
        show("invoke: CostCallback adds", taken["metered"], taken["plain"])
        taken = compare({"plain": plain, "idle": lambda: model.invoke(PROMPT, config=idling)})
        show("invoke: a callback that does nothing adds", taken["idle"], taken["plain"])
        answer = litellm.mock_completion("gpt-4o", [{"role": "user", "content": "x"}], mock_response="In five days.")
        priced = [timed(lambda: litellm.completion_cost(answer, model="gpt-4o")) for _ in range(CALLS)][100:]
        print(
            f"{'litellm.completion_cost takes':<44} p50 {statistics.median(priced):8.1f} us   "
            f"p99 {sorted(priced)[int(len(priced) * 0.99)]:8.1f} us"
        )
        with asyncio.Runner() as runner:
            turns = compare(
                {
                    "plain": lambda: runner.run(model.ainvoke(PROMPT)),
                    "idle": lambda: runner.run(model.ainvoke(PROMPT, config=idling)),
                    "metered": lambda: runner.run(model.ainvoke(PROMPT, config=config)),
                },
                CALLS // 4,
            )
        show("ainvoke: CostCallback adds", turns["metered"], turns["plain"])
        show("ainvoke: a callback that does nothing adds", turns["idle"], turns["plain"])
        show("ainvoke: CostCallback adds to that", turns["metered"], turns["idle"])
        rows = cost.ledger.summary("total")[0]
        expected = CALLS + 100 + CALLS // 4 + 100
        print(
            f"rows {rows.calls:,} of {expected:,}, ${rows.actual} spent, "
            f"{rows.unknown} unknown, {rows.unpriced} unpriced"
        )
        cost.ledger.close()


if __name__ == "__main__":
    main()
