"""Lean schemas: fewer tokens, strict where a provider can hold its model to them, and nothing lost that matters."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field
from structured_models import cases
from structured_samples import SAMPLES

from llm_savings.sandbox.anthropic_rules import check_format
from llm_savings.sandbox.shape import check_strict
from llm_savings.structured import MaxWords, Target, columnar, lean_schema, read, sizes
from llm_savings.structured.forms import compact_json
from llm_savings.structured.rules import traits
from llm_savings.tokens import count


class Address(BaseModel):
    street: str
    city: str | None = None


class Order(BaseModel):
    """An order."""

    title: str = Field(description="what  was\nordered", max_length=20)
    price: Decimal
    note: Annotated[str, MaxWords(5)] = ""
    state: Literal["open", "shipped"] = "open"
    shipping: Address
    billing: Address
    rating: int = Field(ge=1, le=5)
    tags: set[str] = set()


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Loose(BaseModel):
    counts: dict[str, int]
    pair: tuple[int, str]
    anything: Any


def test_a_lean_schema_says_what_it_must_and_no_more() -> None:
    lean = lean_schema(Order)
    assert lean.strict and lean.schema["description"] == "An order."
    assert lean.schema["required"] == list(Order.model_fields)
    assert lean.schema["properties"] == {
        "title": {"type": "string", "description": "what was ordered; {maxLength: 20}"},
        "price": {"type": "string", "pattern": r"^-?[\d.]+$"},
        "note": {"type": "string", "description": "<=5 words"},
        "state": {"type": "string", "enum": ["open", "shipped"], "description": "default open"},
        "shipping": {"$ref": "#/$defs/Address"},
        "billing": {"$ref": "#/$defs/Address"},
        "rating": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    assert lean.schema["$defs"]["Address"]["properties"]["city"] == {"type": ["string", "null"]}


def test_each_provider_gets_what_it_understands() -> None:
    lean = lean_schema(Order, provider="anthropic")
    assert lean.strict
    assert lean.schema["properties"]["rating"] == {"type": "integer", "description": "{maximum: 5, minimum: 1}"}
    assert lean.schema["$defs"]["Address"]["properties"]["city"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_a_schema_that_cannot_be_strict_says_why() -> None:
    assert set(lean_schema(Loose).loose) == {"an open object (Counts)", "a tuple", "a value of any type"}
    assert lean_schema(Tree).strict
    assert lean_schema(Tree, provider="anthropic").loose == ("Tree within itself",)


@pytest.mark.parametrize("title", SAMPLES)
def test_a_lean_schema_takes_a_fifth_less_than_the_strict_one_of_openais_client(title: str) -> None:
    model = SAMPLES[title][0]
    assert count(compact_json(lean_schema(model).schema)) <= 0.8 * count(compact_json(to_strict_json_schema(model)))


@pytest.mark.parametrize("title", SAMPLES)
def test_a_lean_schema_takes_a_fifth_less_than_pydantics(title: str) -> None:
    model = SAMPLES[title][0]
    assert count(compact_json(lean_schema(model).schema)) <= 0.8 * count(compact_json(model.model_json_schema()))


@pytest.mark.parametrize("written", ["1.2.3", ".", "", "1-2", "1e"])
def test_what_the_short_pattern_of_a_decimal_lets_pass_is_refused_when_it_is_read(written: str) -> None:
    form = next(Target(Order).forms())
    order = Order(
        title="Mug", price=Decimal("9.50"), rating=5, shipping=Address(street="a"), billing=Address(street="b")
    )
    text = form.write(order)
    assert read(form, text).value == order
    found = read(form, text.replace("9.50", written))
    assert found.fault is not None


@pytest.mark.parametrize("title", SAMPLES)
@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_columns_take_little_beside_the_values(title: str, encoding: str) -> None:
    model, records, nested = SAMPLES[title]
    found = sizes(Target(model, many=True), records, encoding=encoding)
    assert found.structure <= (0.5 if nested else 0.4)
    assert 0.2 < found.saved < 0.6


@given(cases())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_called_strict_is_accepted_as_such(case: tuple[Any, list[Any]]) -> None:
    target = Target(case[0], many=True)
    for form in target.forms(short=True):
        for provider in ("openai", "anthropic"):
            lean = form.schema(provider)
            json.dumps(lean.schema)
            assert lean.schema["type"] == "object"
            if lean.strict:
                check_strict(lean.schema, "a test", "") if provider == "openai" else check_format(lean.schema)


def test_columns_say_what_is_said_of_groups_and_fields() -> None:
    class Buyer(BaseModel):
        name: str = Field(description="full name")
        email: str

    class Sale(BaseModel):
        buyer: Buyer = Field(description="not the seller")
        price: float

    schema = columnar(Sale).schema().schema
    assert list(schema["properties"]) == ["buyer.name", "buyer.email", "price"]
    assert schema["properties"]["buyer.name"]["description"] == "not the seller; full name"
    short = columnar(Sale, short=True).schema().schema["properties"]
    assert short["b"] == {"type": "array", "items": {"type": "string"}, "description": "buyer.email"}


def test_what_has_no_columns_says_so() -> None:
    with pytest.raises(ValueError, match="has no columns"):
        columnar(dict[str, int])


def test_what_the_map_does_not_say_is_not_assumed() -> None:
    unknown = traits("a-model-of-tomorrow")
    assert not unknown.efforts and not unknown.verbosity and not unknown.stops and unknown.structured is None
    assert traits("gpt-5-mini").verbosity and "minimal" in traits("gpt-5-mini").efforts
    assert not traits("gpt-4o-mini").verbosity and not traits("gpt-4o-mini").efforts and traits("gpt-4o").stops
    assert not traits("claude-haiku-4-5").efforts  # an effort would make it think that does not
    assert traits("claude-haiku-4-5").by_tool(strict=False) and not traits("claude-haiku-4-5").by_tool(strict=True)
    assert traits("gpt-3.5-turbo", "openai").by_tool(strict=True)
