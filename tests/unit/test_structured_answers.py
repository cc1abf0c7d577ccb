"""An answer is read whole or not at all, whatever a model does to it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from structured_models import cases, same
from structured_samples import SAMPLES

from llm_savings.structured import MaxWords, Target, columnar, read
from llm_savings.structured.answers import fixes_question, fixes_rule, mended, parsed


class Item(BaseModel):
    name: str
    price: float
    stock: int
    phrase: Annotated[str, MaxWords(3)] = ""


ITEMS = [Item(name="Mug", price=9.5, stock=3), Item(name="머그컵", price=12.0, stock=0, phrase="정말 좋은 제품")]
FORM = columnar(Item)
ANSWER = FORM.write(ITEMS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ("```json\n{'a': [True, None]}\n```", {"a": [True, None]}),
        ('Here it is:\n```\n{"a": "x"}\n```', {"a": "x"}),
        ('{"a": "x"\n "b": 2}', {"a": "x", "b": 2}),
        ('{"a": ["가", "나",],}', {"a": ["가", "나"]}),
    ],
)
def test_a_small_fault_is_repaired(text: str, value: Any) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2',
        '{"a": "x',
        '```json\n{"a": [1, 2}\n```',
        '{"a": 1}{"b": 2}',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1,000}',
        '{"a": [1 2]}',
        '{"a": "Mug, "b": 5}',
        '{"a": "he said "hi" to me"}',
        "{a: 1}",
        "I cannot do that.",
        "",
        '{"a": ' + "[" * 100_000,
    ],
)
def test_what_is_not_surely_meant_is_not_guessed(text: str) -> None:
    found = read(FORM, text)
    assert found.fault == "unreadable" and found.value is None
    assert found.says.startswith("the answer is no JSON: ")


@given(cases(most=3), st.data())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_beginning_of_an_answer_is_taken_for_it(case: tuple[Any, list[Any]], data: st.DataObject) -> None:
    target = Target(case[0], many=True)
    for form in target.forms():
        text = form.write(case[1])
        cut = text[: data.draw(st.integers(0, len(text) - 1))]
        assert read(form, cut).fault == "unreadable"


@given(st.data())
@settings(max_examples=150)
def test_a_broken_quote_or_bracket_never_makes_another_object(data: st.DataObject) -> None:
    """One character of the structure is lost or doubled: an error, or the very objects that were meant."""
    model, records, _ = SAMPLES[data.draw(st.sampled_from(list(SAMPLES)))]
    form = columnar(model)
    text = form.write(records[:3])
    between = re.sub(r'"([^"]*)"', lambda found: f'"{" " * len(found[1])}"', text)  # no text here has a quote in it
    place = data.draw(st.sampled_from([n for n, letter in enumerate(between) if letter in '[]{}",:']))
    letter = data.draw(st.sampled_from(["", text[place] * 2, "\n"]))
    found = read(form, text[:place] + letter + text[place + 1 :])
    assert found.fault is not None or same(found.value, records[:3])


def _columns(**changed: Any) -> str:
    return json.dumps(json.loads(ANSWER) | changed, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (_columns(name=["Mug"]), "misfit"),
        (_columns(name="Mug"), "misfit"),
        (_columns(name=None), "misfit"),
        (_columns(name=["Mug", 9.5, "머그컵", 12.0]), "misfit"),
        (_columns(more=[1, 2]), "misfit"),
        (json.dumps({"name": ["Mug"]}), "misfit"),
        (json.dumps([item.model_dump() for item in ITEMS]), "misfit"),
        (_columns(name=[9.5, 12.0], price=["Mug", "머그컵"]), "invalid"),
        (_columns(price=["9.5", "12.0"]), "invalid"),
        (_columns(stock=[3.5, 0]), "invalid"),
        (_columns(stock=[True, False]), "invalid"),
        (_columns(name=[1, 2]), "invalid"),
        (_columns(price=[1e999, 1]), "unreadable"),
        (_columns(phrase=["one two three four", ""]), "invalid"),
        (_columns(name=[None, "Mug"]), "invalid"),
    ],
)
def test_columns_that_do_not_fit_are_told(text: str, fault: str) -> None:
    found = read(FORM, text)
    assert (found.fault, found.value) == (fault, None) and found.says


def test_unequal_lists_within_records_are_told() -> None:
    model, records, _ = SAMPLES["nested invoices"]
    form = columnar(model)
    columns = json.loads(form.write(records))
    columns["lines.sku"][4].append("SKU-1")
    found = read(form, json.dumps(columns))
    assert found.fault == "misfit" and "lines.sku" in found.says


def test_only_what_is_wrong_is_asked_for_again() -> None:
    found = read(FORM, _columns(price=["about 9.5", 12.0], phrase=["", "하나 둘 셋 넷"]))
    assert [one.place for one in found.wrong] == [(0, "price"), (1, "phrase")]
    asked = fixes_question(found.wrong)
    assert '"about 9.5"' in asked and "4 words; at most 3 are allowed" in asked and "Mug" not in asked
    assert list(fixes_rule(found.wrong)["properties"]) == ["v1", "v2"]
    fixed = mended(FORM, found, {"v1": 9.5, "v2": "하나 둘 셋"})
    assert fixed.fault is None
    assert fixed.value == [ITEMS[0], Item(name="머그컵", price=12.0, stock=0, phrase="하나 둘 셋")]
    for fixes in (
        {"v1": None, "v2": "x"},
        {"v1": 9.5},
        {"v1": "9.5", "v2": "x"},
        [9.5, "x"],
        {"v1": 1, "v2": "", "v3": 2},
    ):
        assert mended(FORM, found, fixes).fault == "invalid"


def test_what_is_missing_cannot_be_asked_for_alone() -> None:
    class Nested(BaseModel):
        item: Item | None = None
        size: int = Field(ge=1)

    (rows, *_) = Target(Nested, many=True).forms()
    assert read(rows, '{"items": [{"item": {"name": "Mug"}, "size": 2}]}').wrong == ()
    below = read(rows, '{"items": [{"item": null, "size": 0}]}')
    assert [(one.place, one.value) for one in below.wrong] == [((0, "size"), "0")]
    union = read(rows, '{"items": [{"item": {"name": "Mug", "price": "x", "stock": 1, "phrase": ""}, "size": 2}]}')
    assert [one.place for one in union.wrong] == [(0, "item")]  # as far as the schema leads


def test_an_error_says_nothing_of_the_answer() -> None:
    for text in ('{"name": ["a secret"', _columns(price=["a secret", 1]), _columns(name=["a secret"])):
        assert "secret" not in read(FORM, text).says
