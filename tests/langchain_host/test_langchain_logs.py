"""Runs as LangChain's tracers hold them for LangSmith, read back: their cost is the sandbox's bill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_checks import anthropic, openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from llm_savings import PriceBook
from llm_savings.audit import read_logs
from llm_savings.sandbox import Sandbox

TALK = [
    SystemMessage("짧게 답하세요."),
    HumanMessage("주문 7을 환불해 주세요"),
    AIMessage("", tool_calls=[{"id": "t1", "name": "refund", "args": {"order": 7}}]),
    ToolMessage("done", tool_call_id="t1"),
    HumanMessage([{"type": "text", "text": "고마워요"}]),
]
SHOWN = [
    {"role": "system", "content": "짧게 답하세요."},
    {"role": "user", "content": "주문 7을 환불해 주세요"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "refund", "arguments": '{"order":7}'}}],
    },
    {"role": "tool", "content": "done", "tool_call_id": "t1"},
    {"role": "user", "content": "고마워요"},
]


class Kept(BaseTracer):
    """Runs as LangSmith gets them."""

    def __init__(self) -> None:
        super().__init__(_schema_format="original+chat")
        self.lines: list[str] = []

    def _persist_run(self, run: Run) -> None:
        names = (
            "id",
            "trace_id",
            "name",
            "run_type",
            "start_time",
            "end_time",
            "extra",
            "error",
            "inputs",
            "outputs",
            "tags",
        )
        self.lines.append(json.dumps({name: getattr(run, name, None) for name in names}, default=str))


def test_the_runs_of_langchain_come_to_the_bill(box: Sandbox, tmp_path: Path) -> None:
    kept = Kept()
    config: Any = {"callbacks": [kept], "metadata": {"thread_id": "c1", "feature": "faq", "user_id": "kim"}}
    for model in (openai(box), anthropic(box)):
        model.invoke(TALK, config)
        list(model.stream(TALK, config, **({"stream_usage": True})))
    (tmp_path / "runs.jsonl").write_text("\n".join(kept.lines))
    log = read_logs(tmp_path / "runs.jsonl")
    records = list(log)
    assert list(log.formats.values()) == ["langsmith"]
    assert not log.unread.counts
    assert len(records) == 4
    book = PriceBook()
    spent = [book.price(r.usage, r.model, mode=r.mode, at=r.at, provider=r.provider) for r in records if r.usage]
    assert sum(spent) == box.bill().total
    for record in records:
        assert record.messages == SHOWN
        assert record.answer and record.at and record.seconds
        assert (record.session, record.user, record.tags) == ("c1", "kim", {"feature": "faq"})
