"""What is written in any form comes back as the same objects, types and all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structured_models import cases, same

from llm_savings import tokens
from llm_savings.structured.answers import read
from llm_savings.structured.forms import Target, compact_json, smallest

slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], print_blob=True)


def check(case: tuple[Any, list[Any]], *, many: bool = True) -> None:
    model, objects = case
    target = Target(model, many=many)
    for value in [objects] if many else objects:
        for short in (False, True):
            for form in target.forms(short=short):
                for one in (form, *target.kept(form)):
                    found = read(one, one.write(value))
                    assert found.fault is None, (one.name, found.says)
                    assert same(found.value, value), one.name


@given(cases())
@settings(slow, max_examples=150)
def test_lists_of_records(case: tuple[Any, list[Any]]) -> None:
    check(case)


@given(cases(most=1))
@settings(slow, max_examples=100)
def test_single_objects(case: tuple[Any, list[Any]]) -> None:
    check(case, many=False)


@given(cases(), st.booleans())
@settings(slow, max_examples=60)
def test_the_form_chosen_is_never_larger_than_compact_json(case: tuple[Any, list[Any]], short: bool) -> None:
    model, objects = case
    target = Target(model, many=True)
    form = smallest(target, objects, short=short)
    plain = compact_json({"items": target.dumped(objects)})
    assert tokens.count(form.write(objects)) <= tokens.count(plain)


@pytest.mark.soak
@given(cases())
@settings(slow, max_examples=10_000)
def test_ten_thousand_round_trips(case: tuple[Any, list[Any]]) -> None:
    check(case)
