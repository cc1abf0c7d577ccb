"""`submit_batch` for LiteLLM: a list of completion kwargs at half price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm_checks import until
from litellm_semantic import with_cache
from pydantic import BaseModel

from llm_savings import Budget, BudgetExceededError
from llm_savings.errors import BatchError, ConfigError
from llm_savings.litellm import CostLogger, open_batch, submit_batch
from llm_savings.sandbox import Sandbox


class Review(BaseModel):
    sentiment: str


MODELS = ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]


def calls(box: Sandbox, model: str, many: int = 5, **more: Any) -> list[dict[str, Any]]:
    base = box.openai_url if model.startswith("openai") else box.anthropic_url
    turns = [[{"role": "system", "content": "짧게"}, {"role": "user", "content": f"리뷰 {n % 3}"}] for n in range(many)]
    common = {"model": model, "api_base": base, "api_key": "sk-secret", "max_tokens": 60, **more}
    return [{**common, "messages": messages} for messages in turns]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("more", [{}, {"response_format": Review}, {"stop": ["개"], "metadata": {"x": object()}}])
def test_the_same_answers_as_completion(
    box: Sandbox, costs: CostLogger, tmp_path: Path, model: str, more: dict[str, Any]
) -> None:
    asked = calls(box, model, **more)
    handle = submit_batch(asked, journal=tmp_path / "j.db")
    found = handle.collect(poll=0.01)
    bill = box.bill()
    assert len(bill.rows) == 3 and {row.tier for row in bill.rows} == {"batch"}
    assert (costs.calls, costs.spent) == (3, bill.total)
    assert {call.sent.host for call in costs.ledger.calls()} == {"litellm"}
    for call, answer in zip(asked, found, strict=True):
        wanted = litellm.completion(**call)
        assert answer.choices[0].message.content == wanted.choices[0].message.content
        assert answer.choices[0].finish_reason == wanted.choices[0].finish_reason
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
            wanted.usage.prompt_tokens,
            wanted.usage.completion_tokens,
        )
    assert "sk-secret" not in Path(handle.job.costs._journal.path).read_bytes().decode("latin-1")


@pytest.mark.parametrize("model", MODELS)
def test_open_it_again(
    box: Sandbox, costs: CostLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    box.batches(seconds=0.3)
    handle = submit_batch(calls(box, model), journal=tmp_path / "j.db")
    for maker, url in (("OPENAI", box.openai_url), ("ANTHROPIC", box.anthropic_url)):
        monkeypatch.setenv(f"{maker}_API_KEY", "x")
        monkeypatch.setenv(f"{maker}_BASE_URL", url)
    again = open_batch(handle.id[:8], journal=tmp_path / "j.db")
    assert len(again.collect(poll=0.02)) == 5 and costs.spent == box.bill().total


def test_tools_come_back_as_tool_calls(box: Sandbox, costs: CostLogger, tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "description": "날씨", "parameters": parameters}}]
    for model in MODELS:
        (answer,) = submit_batch(calls(box, model, 1, tools=tools), journal=tmp_path / "j.db").collect(poll=0.01)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)


def test_errors_are_litellms_own(box: Sandbox, costs: CostLogger, tmp_path: Path) -> None:
    asked = calls(box, MODELS[0], 2)
    asked[1]["extra_body"] = {"nonsense": 1}
    handle = submit_batch(asked, journal=tmp_path / "j.db")
    first, second = handle.collect(poll=0.01, return_exceptions=True)
    assert first.choices and isinstance(second, litellm.BadRequestError)
    with pytest.raises(litellm.BadRequestError):
        handle.collect(poll=0.01)


def test_budgets_and_bad_input(box: Sandbox, tmp_path: Path) -> None:
    litellm.callbacks = [CostLogger(":memory:", budget=Budget(daily="0.0000001"))]
    with pytest.raises(BudgetExceededError):
        submit_batch(calls(box, MODELS[0]), journal=tmp_path / "j.db")
    with pytest.raises(ConfigError, match="groq's"):
        submit_batch([{"model": "groq/llama-3.1-8b-instant", "messages": []}], journal=tmp_path / "j.db")
    with pytest.raises(BatchError, match="nothing to send"):
        submit_batch([], journal=tmp_path / "j.db")
    assert not box.bill().rows


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("more", [{}, {"response_format": Review}])
def test_what_the_cache_has_is_not_sent_and_answers_are_put_into_it(
    box: Sandbox, costs: CostLogger, tmp_path: Path, model: str, more: dict[str, Any]
) -> None:
    cache = with_cache()
    asked = calls(box, model, **{**more, "max_tokens": 2000})
    live = litellm.completion(**asked[0])
    cache.answers.flush()
    handle = submit_batch(asked, journal=tmp_path / "j.db", cached=True)
    found = handle.collect(poll=0.01)
    assert [row.tier for row in box.bill().rows] == ["standard", "batch", "batch"]
    assert [answer._hidden_params.get("cache_hit", False) for answer in found] == [True, False, False, True, False]
    assert found[0].choices[0].message.content == live.choices[0].message.content
    for _ in until():  # LiteLLM tells of the live call in a thread of its own
        if costs.calls == 4:
            break
    assert costs.spent == box.bill().total
    statuses = [call.settled.status for call in costs.ledger.calls() if call.settled]
    assert sorted(statuses) == ["hit", "ok", "ok", "ok"]
    again = [litellm.completion(**call) for call in asked]
    assert len(box.bill().rows) == 3
    assert [a.choices[0].message.content for a in again] == [f.choices[0].message.content for f in found]
    assert "sk-secret" not in Path(handle.job.costs._journal.path).read_bytes().decode("latin-1")


def test_there_must_be_a_cache_to_be_asked(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cached=True, but litellm\.cache is no SemanticCache"):
        submit_batch(calls(box, MODELS[0]), journal=tmp_path / "j.db", cached=True)
