"""What may be sent, what may not, and what fits into one batch."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_savings import Meter, PriceBook
from llm_savings.batch import InputError, Options, answer_format, submit
from llm_savings.batch.decisions import fill
from llm_savings.batch.inputs import Reader, Target
from llm_savings.batch.outcomes import text_of
from llm_savings.batch.provider import Rules, lines_of, rules_of
from llm_savings.errors import BatchError, ConfigError

PRICES = PriceBook()


class Deaf:
    """A provider that nothing may be sent to."""

    name, is_certain = "openai", True
    rules = rules_of("openai")

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        return custom_id.encode() + body

    def __getattr__(self, name: str) -> Any:
        if name == "create":
            return lambda *given: pytest.fail("something was sent")
        raise AttributeError(name)


class DeafClaude(Deaf):
    name = "anthropic"
    rules = rules_of("anthropic")


def say(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def line(number: int, **changes: Any) -> dict[str, Any]:
    body = say(str(number), model="gpt-4o-mini")
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def refused(tmp_path: Path, requests: Any, provider: Any = None, **options: Any) -> str:
    with pytest.raises(BatchError) as error:
        submit(
            requests,
            provider=provider or Deaf(),
            model=options.pop("model", None),
            journal=tmp_path / "j.db",
            meter=Meter(":memory:", prices=PRICES),
            options=Options(**options),
        )
    return str(error.value)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({**line(2), "custom_id": "r1"}, "line 2: custom_id is used twice"),
        ({**line(2), "custom_id": "x" * 513}, "line 2: custom_id has 513 characters; expected 512 at most"),
        ({**line(2), "custom_id": 7}, "line 2: custom_id is 7; expected text"),
        (line(2, url="/v1/embeddings"), "line 2: url is '/v1/embeddings', but a job has one endpoint"),
        (line(2, method="GET"), "line 2: method is 'GET'"),
        (line(2, body=[1]), "line 2: body is a list; expected a JSON object"),
        (line(2, body=say(model="gpt-4o")), "line 2: model is 'gpt-4o', but a job has one model, here 'gpt-4o-mini'"),
        (line(2, body={"model": "gpt-4o-mini"}), "line 2: messages is missing"),
        (line(2, body={"messages": ["hi"]}), "line 2: messages[0] has no role"),
        (line(2, body=say(stream=True)), "line 2: stream is on"),
        (line(2, body=say("\ud800")), "line 2: request cannot be sent as JSON"),
        (line(2, body=say("a" * 200_000_000)), "line 2: request has 200,0"),
        (7, "line 2: request is a int"),
    ],
)
def test_one_clear_error_before_anything_is_sent(tmp_path: Path, second: Any, problem: str) -> None:
    assert problem in refused(tmp_path, [line(1), second])


def test_a_malformed_line_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(line(1)) + "\n\n" + '{"custom_id": "배송", "body": {\n', "utf-8")
    assert refused(tmp_path, path).startswith("line 3: JSON cannot be read")
    assert "no_such_file.jsonl: No such file" in refused(tmp_path, str(tmp_path / "no_such_file.jsonl"))
    path.write_text("")
    assert "the input is empty" in refused(tmp_path, path)


def test_models_are_known_and_named(tmp_path: Path) -> None:
    assert "model 'gpt-99' is not known" in refused(tmp_path, ["hi"], model="gpt-99")
    assert "line 1: model is missing" in refused(tmp_path, ["hi"])
    assert "max_tokens is None" in refused(tmp_path, ["hi"], DeafClaude(), model="claude-haiku-4-5")
    assert "65 characters; expected 64" in refused(
        tmp_path, [{"custom_id": "x" * 65, "params": say(max_tokens=5)}], DeafClaude(), model="claude-haiku-4-5"
    )


def test_a_job_that_may_cost_too_much_is_not_sent(tmp_path: Path) -> None:
    requests = [say(max_tokens=1000)]
    assert "options.max_cost is $0.0001" in refused(tmp_path, requests, model="gpt-4o-mini", max_cost="0.0001")
    assert "not confirmed" in refused(tmp_path, requests, model="gpt-4o-mini", confirm=lambda told: False)
    hosted = [say(tools=[{"type": "web_search"}])]
    assert "no bound is known" in refused(tmp_path, hosted, model="gpt-4o-mini", max_cost="9")


def too_large(tmp_path: Path, size: int, provider: Any) -> str:
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        for number in range(30):
            file.write(json.dumps(line(number, body=say(f"{number}" + "a" * size, model="gpt-4o-mini"))) + "\n")
    assert path.stat().st_size > 30 * size
    return refused(tmp_path, path, provider, split=False)


def test_what_is_too_large_for_one_batch_is_refused_where_it_may_not_be_split(tmp_path: Path) -> None:
    deaf = Deaf()
    deaf.rules = replace(deaf.rules, bytes=2_000_000)
    problem = too_large(tmp_path, 100_000, deaf)
    assert "has 30 requests and 3,00" in problem and "takes 50,000 and 2,000,000" in problem


@pytest.mark.soak
def test_a_file_of_300_megabytes_is_refused_where_it_may_not_be_split(tmp_path: Path) -> None:
    problem = too_large(tmp_path, 10_000_000, Deaf())
    assert "has 30 requests and 300,00" in problem and "takes 50,000 and 200,000,000" in problem


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"max_cost": "free"},
        {"max_cost": -1},
        {"real_time": True},
        {"queued_tokens": 0},
        {"queued_tokens": "many"},
        {"deadline": "tomorrow"},
        {"patience": None},
        {"patience": -1},
    ],
)
def test_wrong_options_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"options\.{next(iter(wrong))}"):
        submit(["hi"], provider=Deaf(), model="gpt-4o", journal=tmp_path / "j.db", options=Options(**wrong))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), max_size=30), st.integers(1, 9), st.integers(70, 200))
def test_a_batch_is_as_large_as_it_may_be_and_no_larger(sizes: list[tuple[int, int]], most: int, room: int) -> None:
    rules = Rules(requests=most, bytes=room, custom_id=64, endpoints=())
    left = [(number, *size) for number, size in enumerate(sizes, 1)]
    while left:
        plan = fill(left, rules, None)
        if plan is None:
            assert left[0][1] + 64 > room  # the reader refuses such a line
            return
        part, left = left[: plan.count], left[plan.count :]
        assert plan.until == part[-1][0] and plan.tokens == sum(tokens for _, _, tokens in part)
        size = sum(length for _, length, _ in part)
        assert len(part) <= most and size + 64 <= room
        if left:
            assert len(part) == most or size + left[0][1] + 64 > room
    assert fill([], rules, None) is None


def test_the_published_limits_hold_to_the_request_and_the_byte() -> None:
    rules = rules_of("openai")
    assert (rules.requests, rules.bytes) == (50_000, 200_000_000)
    assert (rules_of("anthropic").requests, rules_of("anthropic").bytes) == (100_000, 256_000_000)
    many = [(number, 200, 50) for number in range(1, 50_002)]
    assert fill(many, rules, None).count == 50_000  # type: ignore[union-attr]
    exactly = [(1, 100_000_000, 1), (2, 100_000_000 - 64, 1), (3, 1, 1)]
    assert fill(exactly, rules, None).count == 2  # type: ignore[union-attr]
    assert fill([(1, 100_000_000, 1), (2, 100_000_000 - 63, 1)], rules, None).count == 1  # type: ignore[union-attr]
    assert fill(many, rules, 1000).count == 20  # type: ignore[union-attr]


values = st.recursive(st.text() | st.integers(-(2**53), 2**53) | st.none(), lambda inner: st.lists(inner, max_size=3))


@given(st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=5), st.integers(1, 7))
def test_lines_come_back_whole_however_they_are_cut(found: list[dict[str, Any]], size: int) -> None:
    data = "".join(json.dumps(value, ensure_ascii=size % 2 == 0) + "\n" for value in found)
    raw = data.encode("utf-8", "surrogatepass")
    assert list(lines_of(raw[at : at + size] for at in range(0, len(raw), size))) == found


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200), st.integers(1, 500))
def test_the_bound_holds_for_any_text(text: str, most: int) -> None:
    from llm_savings import tokens
    from llm_savings.ledger.records import to_picodollars

    read = Reader(Target("openai", "gpt-4o", "/v1/chat/completions"), rules_of("openai"), PRICES).read
    entry = read(1, say(text, max_tokens=most))
    worst = (tokens.count(text) + 8) * Decimal("1.25e-6") + most * Decimal("5e-6")
    assert entry.bound is not None and entry.bound >= (to_picodollars(worst) or 0)
    assert read(2, say(text, max_tokens=most)).key == entry.key
    assert read(3, say(text, max_tokens=most + 1)).key != entry.key


def test_the_order_of_a_schema_is_kept() -> None:
    class Review(BaseModel):
        sentiment: str
        about: str = "배송"

    found = answer_format(Review)["response_format"]["json_schema"]
    assert found["name"] == "Review" and found["strict"] is True
    assert found["schema"] == {
        "type": "object",
        "properties": {"sentiment": {"type": "string"}, "about": {"type": "string"}},
        "required": ["sentiment", "about"],
        "additionalProperties": False,
    }
    assert list(answer_format(Review, "anthropic")) == ["output_config"]
    read = Reader(Target("openai", "gpt-4o", "/v1/chat/completions"), rules_of("openai"), PRICES).read
    assert read(1, say(z=1, a=2)).body.index(b'"z"') < read(1, say(z=1, a=2)).body.index(b'"a"')


def test_inner_classes_of_a_schema_are_strict_too() -> None:
    class Point(BaseModel):
        title: str  # a field of this name is no title of the schema's
        default: int = 3

    class Review(BaseModel):
        points: list[Point]

    schema = answer_format(Review)["response_format"]["json_schema"]["schema"]
    point = schema["$defs"]["Point"]
    assert point["required"] == ["title", "default"] and point["additionalProperties"] is False
    assert point["properties"] == {"title": {"type": "string"}, "default": {"type": "integer"}}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "좋아요"}}]},
        {"type": "message", "content": [{"type": "text", "text": "좋아"}, {"type": "text", "text": "요"}]},
        {"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "좋아요"}]}]},
        {"choices": [{"message": {"content": None, "tool_calls": [{"function": {"arguments": "좋아요"}}]}}]},
        {
            "choices": [
                {"message": {"content": None, "tool_calls": [{"type": "custom", "custom": {"input": "좋아요"}}]}}
            ]
        },
        {"output": [{"type": "reasoning"}, {"type": "function_call", "name": "f", "arguments": "좋아요"}]},
        {"output": [{"type": "custom_tool_call", "name": "f", "input": "좋아요"}]},
    ],
)
def test_the_text_of_an_answer_in_any_dialect(body: dict[str, Any]) -> None:
    assert text_of(body) == "좋아요"
    assert text_of({"data": [{"embedding": [0.1]}]}) == ""


def test_the_error_is_a_value_error_too() -> None:
    assert issubclass(InputError, ValueError)
