"""What LiteLLM itself logs, read back: its cost is the sandbox's bill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm_checks import CLAUDE, FAQ, GPT, WEATHER, Metered, until

from llm_savings import PriceBook
from llm_savings.audit import Record, read_logs

LONG = [{"type": "text", "text": "Be kind. " * 4000, "cache_control": {"type": "ephemeral"}}]
CALLS: list[Callable[[Metered], Any]] = [
    lambda to: to.complete(GPT),
    lambda to: to.stream(GPT, stream_options={"include_usage": True}),
    lambda to: to.complete("openai/gpt-5-mini", service_tier="flex"),
    lambda to: to.complete(GPT, tools=[WEATHER], tool_choice="required", user="kim"),
    lambda to: to.complete(CLAUDE, messages=[{"role": "system", "content": LONG}, *FAQ]),
    lambda to: to.complete(CLAUDE, messages=[{"role": "system", "content": LONG}, *FAQ]),
]


class Kept(CustomLogger):
    """Payloads as a log of JSON lines has them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.lines.append(json.dumps(kwargs["standard_logging_object"], default=str))


def test_the_payloads_that_litellm_logs_come_to_the_bill(metered: Metered, tmp_path: Path) -> None:
    litellm.callbacks = [kept := Kept()]
    for number, call in enumerate(CALLS, 1):
        call(metered)
        for _ in until():
            if len(kept.lines) == number:
                break
    path = tmp_path / "payloads.jsonl"
    path.write_text("\n".join(kept.lines))
    log = read_logs(path)
    records = list(log)
    assert list(log.formats.values()) == ["litellm"]
    assert not log.unread.counts
    book = PriceBook()
    spent = [_price(book, record) for record in records]
    assert sum(spent) == metered.box.bill().total
    assert [record.streamed for record in records] == [False, True, False, False, False, False]
    assert records[3].tools == [WEATHER] and records[3].tool_calls and records[3].user == "kim"
    assert records[2].mode == "flex"
    assert records[5].usage and records[5].usage.cache_read > 0 and records[4].usage and records[4].usage.cache_write_5m
    assert records[4].messages and records[4].messages[0] == {"role": "system", "content": LONG}
    assert all(record.messages and record.messages[-1] == FAQ[0] and record.at and record.seconds for record in records)
    assert [bool(record.answer) for record in records] == [True, True, True, False, True, True]


def _price(book: PriceBook, record: Record) -> Any:
    assert record.usage
    return book.price(record.usage, record.model, mode=record.mode, at=record.at, provider=record.provider)
