"""The provider's own bill: exact, independent, and written before an answer is complete."""

from __future__ import annotations

import ast
import http.client
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_savings.sandbox
from llm_savings.sandbox import Bill, BillRow, Sandbox
from llm_savings.sandbox.bill import cost
from llm_savings.sandbox.catalog import Rates, find, models

FOLDER = Path(llm_savings.sandbox.__file__).parent
MILLION = 1_000_000


def chat_usage(prompt: int, cached: int, output: int) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {"prompt_tokens": prompt, "prompt_tokens_details": details, "completion_tokens": output}


def claude_usage(fresh: int, read: int, write_5m: int, write_1h: int, output: int) -> dict[str, Any]:
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
    }


@pytest.mark.parametrize(
    ("model", "tier", "usage", "usd"),
    [
        ("gpt-4o", "standard", chat_usage(2_000, 1_024, 300), "0.00672"),  # 976 x 2.5 + 1,024 x 1.25 + 300 x 10
        ("gpt-4o", "priority", chat_usage(1_000, 0, 100), "0.00595"),  # 1,000 x 4.25 + 100 x 17
        ("gpt-4o-mini", "standard", chat_usage(200, 0, 300), "0.00021"),
        ("o3", "flex", chat_usage(1_000, 0, 1_000), "0.005"),
        ("gpt-5.4", "standard", chat_usage(272_000, 0, 0), "0.68"),  # at the threshold: not yet above it
        ("gpt-5.4", "standard", chat_usage(272_001, 0, 10), "1.36023"),  # all of it at the long rates
        ("gpt-5.4", "flex", chat_usage(300_000, 0, 0), "0.75"),
    ],
)
def test_openai_prices_by_hand(model: str, tier: str, usage: dict[str, Any], usd: str) -> None:
    assert cost(find("openai", model), tier, usage) == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("claude-sonnet-4-5", claude_usage(1_000, 0, 0, 0, 1_000), "0.018"),
        ("claude-sonnet-4-5", claude_usage(100, 5_000, 2_000, 1_000, 0), "0.0153"),  # 300 + 1,500 + 7,500 + 6,000
        ("claude-3-haiku-20240307", claude_usage(1_000, 0, 0, 0, 1_000), "0.0015"),
        ("claude-haiku-5-5", claude_usage(50_000, 50_001, 0, 0, 0), "0.02750005"),  # cached tokens count for the tier
    ],
)
def test_anthropic_prices_by_hand(model: str, usage: dict[str, Any], usd: str) -> None:
    assert cost(find("anthropic", model), "standard", usage) == Decimal(usd)


def test_the_responses_dialect_costs_the_same_as_the_chat_one() -> None:
    chat = chat_usage(2_000, 1_024, 300)
    responses = {"input_tokens": 2_000, "input_tokens_details": {"cached_tokens": 1_024}, "output_tokens": 300}
    model = find("openai", "gpt-4o")
    assert cost(model, "standard", chat) == cost(model, "standard", responses)


def test_what_has_no_price_is_refused() -> None:
    with pytest.raises(LookupError, match="no price"):
        cost(find("openai", "text-embedding-3-small", embedding=True), "standard", chat_usage(10, 5, 0))


@settings(deadline=None)
@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_cost_is_exact_and_adds_up(prompt: int, more: int, output: int) -> None:
    model = find("openai", "gpt-4o")
    first = cost(model, "standard", chat_usage(prompt, 0, 0))
    second = cost(model, "standard", chat_usage(more, 0, output))
    assert first + second == cost(model, "standard", chat_usage(prompt + more, 0, output))
    assert first * 400_000 == prompt  # 2.5 dollars a million


def test_typed_prices_agree_with_litellms_map() -> None:
    """A second pair of eyes on the typing; the sandbox itself never reads the map."""
    spec = find_spec("litellm")
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).with_name("model_prices_and_context_window_backup.json").read_text("utf-8")
    listed: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    keys = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cache_read": "cache_read_input_token_cost",
        "cache_write_5m": "cache_creation_input_token_cost",
        "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    }

    def compare(rates: Rates, entry: dict[str, Any], suffix: str) -> int:
        compared = 0
        for kind, key in keys.items():
            ours, theirs = getattr(rates, kind), entry.get(key + suffix)
            if ours is not None and theirs is not None:
                assert ours / MILLION == theirs, (entry, kind, suffix)
                compared += 1
        return compared

    compared = 0
    for model in set(map(id, models().values())):
        known = next(item for item in models().values() if id(item) == model)
        entry = listed.get(known.name, {})
        for tier, rates in known.rates.items():
            compared += compare(rates, entry, "" if tier == "standard" else f"_{tier}")
        for tier, rates in known.long_rates.items():
            long = f"_above_{(known.long_above or 0) // 1000}k_tokens"
            compared += compare(rates, entry, long + ("" if tier == "standard" else f"_{tier}"))
    assert compared > 60


def test_the_sandbox_imports_nothing_that_it_checks() -> None:
    allowed = {"llm_savings.errors"}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in names:
                root = name.split(".")[0]
                assert root not in ("litellm", "langchain_core", "openai", "anthropic"), path
                assert root != "llm_savings" or name in allowed, path


def test_importing_it_is_light() -> None:
    code = "import sys, llm_savings.sandbox; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"starlette", "uvicorn", "numpy", "tiktoken", "tokenizers", "litellm", "openai", "anthropic", "pydantic"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("make", [Sandbox, Sandbox.spawn])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setattr("llm_savings.sandbox.server._NEEDED", ("starlette", "no_such_package"))
    with pytest.raises(ValueError, match=re.escape('no_such_package: pip install "llm-savings[demo]"')):
        make()


def test_rows_survive_json_lines() -> None:
    row = BillRow(
        id="msg_1",
        endpoint="/v1/messages",
        model="claude-haiku-4-5",
        stream=True,
        usage=claude_usage(1, 2, 3, 4, 5),
        usd=Decimal("0.0000001"),
        at=datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=UTC),
        outcome="cut",
        user="한국",
    )
    bill = Bill((row, row))
    assert Bill.from_jsonl(bill.to_jsonl()) == bill
    assert bill.total == Decimal("0.0000002")
    assert json.loads(bill.to_jsonl().splitlines()[0])["usd"] == "0.0000001"
    with pytest.raises(KeyError):
        bill["msg_2"]


def test_the_bill_can_be_downloaded_and_read_in_parts(box: Sandbox) -> None:
    with openai.OpenAI(base_url=box.openai_url, api_key="any") as client:
        for n in range(3):
            client.embeddings.create(model="text-embedding-3-small", input=f"text {n}")
    assert len(box.bill().rows) == 3
    assert box.bill(since=2).rows == box.bill().rows[2:]
    now = datetime.now(UTC)
    assert all(0 <= (now - row.at).total_seconds() < 60 for row in box.bill().rows)
    box.reset()
    assert (box.bill().rows, box.bill().total, box.requests()) == ((), Decimal(0), 0)


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_has_the_answer_is_on_the_bill(box: Sandbox, stream: bool) -> None:
    """Read byte by byte: as soon as the answer is complete on this side, its row is there."""
    asked = {"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": "A long story"}]}
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"))
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    answer = connection.getresponse()
    got, end = b"", b'"finish_reason":"stop"' if stream else b"}"
    while not got.endswith(end) or (not stream and not _is_json(got)):
        got += answer.read(1)
    found = re.search(rb"chatcmpl-\w+", got)
    assert found
    assert box.bill()[found[0].decode()].outcome == "ok"
    connection.close()


def test_fast_clients_share_one_server(box: Sandbox) -> None:
    """Every one of many requests is billed exactly once, and the total is the sum of the parts."""
    from concurrent.futures import ThreadPoolExecutor

    with openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=0) as client:

        def ask(n: int) -> tuple[str, Decimal]:
            answer = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": f"Q {n}"}]
            )
            assert answer.usage is not None
            usage = answer.usage
            return answer.id, usage.prompt_tokens * Decimal("0.15") + usage.completion_tokens * Decimal("0.60")

        with ThreadPoolExecutor(8) as pool:
            answers = dict(pool.map(ask, range(120)))
    bill = box.bill()
    assert {row.id: row.usd * MILLION for row in bill.rows} == answers
    assert bill.total * MILLION == sum(answers.values())


def _is_json(text: bytes) -> bool:
    try:
        return bool(json.loads(text))
    except ValueError:
        return False
