"""What the sandbox's models say: known answers, plausible unknown ones, and JSON of the shape asked for."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from llm_savings.errors import ConfigError
from llm_savings.sandbox import Sandbox
from llm_savings.sandbox.answers import Answers, Ask, Tool
from llm_savings.sandbox.count import anthropic_tokens, openai_tokens
from llm_savings.sandbox.knowledge import BUNDLED, Knowledge
from llm_savings.sandbox.pattern import matching
from llm_savings.sandbox.shape import Shaper
from llm_savings.sandbox.wire import WireError, heard, pieces

HANGUL = re.compile(r"[가-힣]")
ENTRIES: list[dict[str, Any]] = [
    {
        "id": "faq-en-001",
        "kind": "faq",
        "lang": "en",
        "prompts": ["How long does delivery take?", "When will my order arrive?"],
        "answer": "Two to three business days.",
        "hard": False,
    },
    {
        "id": "code-en-001",
        "kind": "code",
        "lang": "en",
        "prompts": ["What does a*b mean?"],
        "answer": "A product.",
        "hard": False,
    },
    {
        "id": "code-en-002",
        "kind": "code",
        "lang": "en",
        "prompts": ["What does a/b mean?"],
        "answer": "A quotient.",
        "hard": False,
    },
    {
        "id": "hard-ko-001",
        "kind": "analysis",
        "lang": "ko",
        "prompts": ["두 요금제 중 어느 쪽이 더 싼가요?"],
        "answer": "연간 요금제가 더 쌉니다.",
        "hard": True,
        "wrong": "월간 요금제가 더 쌉니다.",
    },
    {
        "id": "json-en-001",
        "kind": "analysis",
        "lang": "en",
        "prompts": ["Extract the city"],
        "answer": '{"city": "Seoul"}',
        "hard": False,
    },
]


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "knowledge.jsonl"
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ENTRIES), "utf-8")
    return path


@pytest.fixture
def answers(known: Path) -> Answers:
    return Answers(Knowledge(known))


def say(answers: Answers, prompt: str, *, small: bool = False, **more: Any) -> str:
    return answers.reply(Ask(prompt, prompt, small, **more)).text


@pytest.mark.parametrize(
    "prompt",
    [
        "How long does delivery take?",
        "  how LONG does delivery\ttake ",
        "How long does delivery take!!",
        "When will my order arrive",
    ],
)
def test_a_known_prompt_is_found_however_it_is_typed(answers: Answers, prompt: str) -> None:
    assert say(answers, prompt) == "Two to three business days."


def test_decomposed_hangul_is_the_same_text(answers: Answers) -> None:
    prompt = unicodedata.normalize("NFD", "두 요금제 중 어느 쪽이 더 싼가요?")
    assert say(answers, prompt) == "연간 요금제가 더 쌉니다."


def test_punctuation_still_tells_two_known_prompts_apart(answers: Answers) -> None:
    assert say(answers, "What does a*b mean?") == "A product."
    assert say(answers, "What does a/b mean?") == "A quotient."


def test_a_small_model_is_wrong_on_hard_prompts_only(answers: Answers) -> None:
    assert say(answers, "두 요금제 중 어느 쪽이 더 싼가요?", small=True) == "월간 요금제가 더 쌉니다."
    assert say(answers, "When will my order arrive?", small=True) == "Two to three business days."


def test_small_models_by_name(known: Path) -> None:
    import httpx

    right = set()
    headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    turn = {"role": "user", "content": "두 요금제 중 어느 쪽이 더 싼가요?"}
    with Sandbox(knowledge=known) as box, httpx.Client(base_url=box.url, headers=headers) as http:
        for model in ("gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "o3"):
            text = http.post("/v1/chat/completions", json={"model": model, "messages": [turn]}).text
            right |= {model} if "연간" in text else set()
        for model in ("claude-sonnet-4-5", "claude-haiku-4-5", "claude-3-haiku-20240307"):
            text = http.post("/v1/messages", json={"model": model, "max_tokens": 99, "messages": [turn]}).text
            right |= {model} if "연간" in text else set()
    assert right == {"gpt-4o", "gpt-5", "o3", "claude-sonnet-4-5"}


def test_a_line_of_knowledge_ends_where_its_line_end_is(tmp_path: Path) -> None:
    path, prompt = tmp_path / "own.jsonl", "first\u2028second"
    row = {"id": "a", "prompts": [prompt], "answer": "third\u0085fourth"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    found = Knowledge(path).find(prompt)
    assert found is not None and found.answer == row["answer"]


def test_knowledge_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes("안녕".encode("cp949"))
    with pytest.raises(ConfigError, match="cannot be read"):
        Knowledge(path)


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"id": "a"}', '{"id": "a", "kind": "b", "prompts": 3}'])
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(f"\n{line}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"broken\.jsonl, line 2"):
        Knowledge(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Sandbox(knowledge=tmp_path / "absent.jsonl")
    with pytest.raises(ConfigError, match="cannot be read"):
        Sandbox.spawn(knowledge=tmp_path / "absent.jsonl")


def test_the_bundled_file_answers_all_its_prompts() -> None:
    if not BUNDLED.exists():
        pytest.skip("no bundled knowledge")
    knowledge = Knowledge()
    for line in BUNDLED.read_text("utf-8").splitlines():
        entry = json.loads(line)
        for prompt in entry["prompts"]:
            found = knowledge.find(prompt)
            assert found is not None and found.id == entry["id"], prompt


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("How can I pause my plan?", r"plan"),
        ("Write a SQL query for monthly totals", r"```sql\nSELECT"),
        ("파이썬 함수를 작성해 주세요", r"```python\ndef "),
        ("Summarize this quarter's numbers", r"\n- .+\n- "),
        ("Translate to Korean: good morning", r"[가-힣]"),
        ("다음을 영어로 번역해 주세요: 안녕하세요", r"This is a translation"),
    ],
)
def test_unknown_prompts_get_a_plausible_kind_of_answer(answers: Answers, prompt: str, expected: str) -> None:
    assert re.search(expected, say(answers, prompt))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_any_prompt_has_an_answer_in_its_language(prompt: str) -> None:
    answers = Answers(Knowledge())
    text = say(answers, prompt)
    assert text.strip()
    assert say(answers, prompt) == text
    assert bool(HANGUL.search(text)) >= bool(HANGUL.search(prompt)) or "translat" in text


def test_seeds_differ_and_processes_do_not(answers: Answers, known: Path) -> None:
    prompt = "How can I pause my plan?"
    assert len({say(Answers(Knowledge(known), seed), prompt) for seed in range(8)}) > 4
    code = (
        "from llm_savings.sandbox.answers import *; from llm_savings.sandbox.knowledge import *;"
        f"p={prompt!r}; print(Answers(Knowledge()).reply(Ask(p, p, False)).text)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == say(answers, prompt)


def test_answers_vary_in_length() -> None:
    tokens = openai_tokens()
    lengths = [tokens(say(Answers(Knowledge()), f"Tell me about topic {n}")) for n in range(60)]
    assert min(lengths) < 50 < 90 < max(lengths)


# ---- shapes


def test_a_known_answer_fills_the_answer_field(answers: Answers) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
    }
    made = json.loads(say(answers, "두 요금제 중 어느 쪽이 더 싼가요?", small=True, schema=schema))
    assert made["answer"] == "월간 요금제가 더 쌉니다."


def test_a_known_json_answer_is_used_when_it_fits(answers: Answers) -> None:
    def schema(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}

    assert json.loads(say(answers, "Extract the city", schema=schema("city"))) == {"city": "Seoul"}
    assert list(json.loads(say(answers, "Extract the city", schema=schema("country")))) == ["country"]


strings: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "string"}),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 9), "maxLength": st.integers(9, 30)}),
    st.sampled_from(["date", "date-time", "email", "uuid", "uri", "ipv4"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.sampled_from([r"^[A-Z]{2}-\d{4}$", r"^(red|green)$", r"^\+?\d{3,5}$", r"^[가-힣]{2,4}$", r"^a(b|c)*d?$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
)
numbers: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        lambda low, size, kind: {"type": kind, "minimum": low, "maximum": low + size},
        st.integers(-99, 99),
        st.integers(0, 50),
        st.sampled_from(["integer", "number"]),
    ),
    st.builds(
        lambda low, size: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + size},
        st.integers(-9, 9),
        st.sampled_from([0.25, 1, 7]),
    ),
    st.builds(
        lambda low, size: {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + size},
        st.integers(-9, 9),
        st.integers(2, 9),
    ),
    st.sampled_from([3, 5]).map(lambda step: {"type": "integer", "multipleOf": step, "minimum": 1, "maximum": 40}),
    st.just({"type": "integer"}),
    st.just({"type": "number", "maximum": -4}),
)
leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    strings,
    numbers,
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({"enum": ["low", "high", 3, None]}),
    st.just({"const": {"fixed": True}}),
    st.just({"$ref": "#/$defs/node"}),
)


def larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def an_object(members: dict[str, dict[str, Any]], optional: bool) -> dict[str, Any]:
        required = list(members)[1:] if optional else list(members)
        return {"type": "object", "properties": members, "required": required, "additionalProperties": False}

    return st.one_of(
        st.builds(an_object, st.dictionaries(st.sampled_from(["name", "answer", "이름", "a_1"]), inner), st.booleans()),
        st.builds(
            lambda item, low, more: {"type": "array", "items": item, "minItems": low, "maxItems": low + more},
            inner,
            st.integers(0, 3),
            st.integers(0, 2),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        inner.map(lambda item: {"anyOf": [item, {"type": "null"}]}),
        inner.map(lambda item: {"type": "object", "additionalProperties": item, "minProperties": 1}),
        inner.map(lambda item: {"allOf": [item]}),
    )


NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value", "next", "children"],
    "additionalProperties": False,
}


@settings(max_examples=300, deadline=None)
@given(schema=st.recursive(leaves, larger, max_leaves=8), seed=st.integers(0, 2**32))
def test_every_shape_fits_its_schema(schema: dict[str, Any], seed: int) -> None:
    root = {**schema, "$defs": {"node": NODE}}
    value = Shaper(root, answer="Yes.", prompt="What is in box 12?", dice=random.Random(seed)).value()
    jsonschema.validate(json.loads(json.dumps(value)), root, format_checker=jsonschema.FormatChecker())


def test_unique_items_and_tuples() -> None:
    schema = {
        "type": "object",
        "properties": {
            "set": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        },
        "required": ["set", "pair"],
    }
    value = Shaper(schema, answer="", prompt="x", dice=random.Random(3)).value()
    jsonschema.validate(value, schema)
    assert len(value["pair"]) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_limits_in_the_description_are_kept(seed: int) -> None:
    from anthropic import transform_schema

    class Order(BaseModel):
        amount: int = Field(ge=7, le=9, description="How many")
        weight: float = Field(gt=2.5, lt=3)
        codes: list[Annotated[str, Field(pattern=r"^\d{5}$")]] = Field(min_length=2, max_length=3)
        note: str = Field(max_length=4)

    schema = transform_schema(Order)
    value = Shaper(schema, answer="", prompt="some words", dice=random.Random(seed)).value()
    Order.model_validate(value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "string", "pattern": r"(?<=x)y"},
        {"type": "array", "minItems": "many"},
    ],
)
def test_a_schema_without_a_value_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        Shaper(schema, answer="", prompt="x", dice=random.Random(1)).value()


@settings(deadline=None)
@given(
    st.sampled_from([r"\d+", r"[a-f0-9]{8}", r"x|yy|z{3}", r"(ab)+?c*", r"[^a]b", r"\w+@\w+\.com", r"[]a]+"]),
    st.randoms(),
)
def test_patterns_are_matched(pattern: str, dice: random.Random) -> None:
    made = matching(f"^({pattern})$", dice)
    assert made is not None and re.fullmatch(pattern, made)


# ---- pieces, tools, tokens


@settings(deadline=None)
@given(st.text(max_size=200))
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_the_tool_that_fits_the_prompt_is_called(answers: Answers) -> None:
    tools = (Tool("get_weather", "Weather in a city", {}), Tool("cancel_order", "Cancel an order", {}))
    calls = answers.reply(Ask("Please cancel my order", "", False, tools=tools)).calls
    assert [call.name for call in calls] == ["cancel_order"]
    assert answers.reply(Ask("Please cancel my order", "", False, tools=tools, tool_result="done")).calls == ()


def test_a_model_hears_the_same_with_and_without_marks() -> None:
    mark = {"type": "ephemeral"}
    assert heard("Hi") == heard([{"type": "text", "text": "Hi", "cache_control": mark}])
    image = {"type": "image", "source": {"data": "x"}}
    assert heard([image]) == heard([{**image, "cache_control": mark}]) != heard([{**image, "source": {"data": "y"}}])


@settings(deadline=None)
@given(st.text(alphabet="가나다abc 👍é\n", max_size=40), st.integers(0, 30))
def test_clipping_never_breaks_a_character(text: str, limit: int) -> None:
    for tokens in (openai_tokens(), anthropic_tokens()):
        short = tokens.clip(text, limit)
        assert text.startswith(short)
        assert short == text or tokens(text) > limit


def test_the_two_tokenizers_differ_in_both_languages() -> None:
    for text in ("The quick brown fox jumps over the lazy dog, isn't that so?", "오늘 날씨가 정말 좋네요."):
        assert openai_tokens()(text) != anthropic_tokens()(text)


def test_the_dice_are_fair_enough() -> None:
    schema = {"enum": ["a", "b"]}
    made = Counter(Shaper(schema, answer="", prompt="x", dice=random.Random(n)).value() for n in range(100))
    assert min(made.values()) > 25
