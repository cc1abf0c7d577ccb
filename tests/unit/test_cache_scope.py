"""Thousands of changed requests: none ever shares a scope with another, and noise changes nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_savings.semantic_cache.scope import Policy, Question, Request, read

EXAMPLES, WANTED = 700, 10_000

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
values = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.floats(-2, 2).filter(lambda x: x != int(x)) | names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
tools = st.lists(st.fixed_dictionaries({"name": names, "parameters": values}), min_size=1, max_size=2)
images = st.binary(min_size=1, max_size=4).map(lambda raw: f"data:image/png;base64,{raw.hex()}")
turns = st.lists(st.tuples(names, names, st.none() | st.tuples(names, values, names)), max_size=2)
specs = st.fixed_dictionaries(
    {
        "model": names,
        "namespace": names,
        "space": names,
        "system": st.none() | names,
        "turns": turns,
        "image": st.none() | images,
        "name": st.none() | names,
        "parameters": st.dictionaries(names.map(lambda name: f"p{name}"), values, max_size=3),
        "tools": st.none() | tools,
    }
)


def written(spec: Mapping[str, Any], *, noise: random.Random | None = None, question: str = "Hello?") -> Request:
    """The request of a spec; with `noise`, as another client at another time would write it."""

    def noisy(message: dict[str, Any], **more: Any) -> dict[str, Any]:
        if noise is None:
            return message
        extra = {"id": str(noise.random()), "response_metadata": {"x": noise.random()}, "usage_metadata": {"y": 1}}
        return shuffled({**message, **extra, **more})

    def shuffled(value: Any) -> Any:
        if noise is None:
            return value
        if isinstance(value, dict):
            pairs = [(key, shuffled(item)) for key, item in value.items()]
            noise.shuffle(pairs)
            return dict(pairs)
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    messages: list[dict[str, Any]] = []
    if spec["system"] is not None:
        messages.append(noisy({"role": "system", "content": spec["system"]}))
    for number, (asked, answered, call) in enumerate(spec["turns"]):
        messages.append(noisy({"role": "user", "content": asked}))
        if call is not None:
            tool, arguments, result = call
            called = f"call_{number}" if noise is None else f"call_{noise.random()}"
            calls = [{"id": called, "type": "tool_call", "name": tool, "args": arguments}]
            messages.append(noisy({"role": "assistant", "content": None, "tool_calls": calls}))
            messages.append(noisy({"role": "tool", "tool_call_id": called, "content": result}))
        messages.append(noisy({"role": "assistant", "content": answered}))
    content: Any = question
    if spec["image"] is not None:
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": spec["image"]}}]
    elif noise is not None and noise.random() < 0.5:
        content = [{"type": "text", "text": question, "cache_control": {"type": "ephemeral"}}]
    last = {"role": "user", "content": content, "name": spec["name"]}
    messages.append(noisy(last))
    parameters = {**spec["parameters"], "tools": spec["tools"]}
    if noise is not None:
        parameters["nothing"] = None
    return Request(
        model=spec["model"],
        messages=messages,
        parameters=shuffled(parameters),
        namespace=spec["namespace"],
        user=None if noise is None else str(noise.random()),
    )


def asked(request: Request, space: str) -> Question:
    found = read(request, space, canonical=str.casefold, policy=Policy(tools=True))
    assert isinstance(found, Question), found
    return found


SCOPES: dict[str, str] = {}
SEEN = {"mutations": 0}
CHANGED: dict[str, Callable[[Any], Any]] = {
    "model": lambda was: was + "x",
    "namespace": lambda was: was + "x",
    "space": lambda was: was + "x",
    "system": lambda was: (was or "") + "x",
    "turns": lambda was: [*was, ("one", "more", None)],
    "image": lambda was: (was or "data:image/png;base64,") + "00",
    "name": lambda was: (was or "") + "x",
    "parameters": lambda was: {**was, "p": 1 if was.get("p") != 1 else 2},
    "tools": lambda was: [*(was or []), {"name": "one more"}],
}


def of_one_kind(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=list)


@pytest.fixture(scope="module", autouse=True)
def _enough_was_tried() -> Any:
    SCOPES.clear()
    SEEN["mutations"] = 0
    yield
    assert SEEN["mutations"] >= WANTED


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs, specs, st.integers(0, 2**32))
def test_no_two_requests_share_a_scope_unless_they_are_one(
    spec: dict[str, Any], other: dict[str, Any], seed: int
) -> None:
    noise = random.Random(seed)
    first = asked(written(spec), spec["space"])
    again = asked(written(spec, noise=noise), spec["space"])
    assert (again.scope, again.id) == (first.scope, first.id)
    same_scope = asked(written(spec, question="Goodbye!"), spec["space"])
    assert same_scope.scope == first.scope and same_scope.id != first.id
    # One part changed in itself, and one part taken from another request.
    changed = [{**spec, part: change(spec[part])} for part, change in CHANGED.items()]
    changed += [{**spec, part: other[part]} for part in spec]
    for one in changed:
        SEEN["mutations"] += 1
        found = asked(written(one, noise=noise), one["space"])
        # Of all that were ever tried, only the same share a scope.
        assert SCOPES.setdefault(found.scope, of_one_kind(one)) == of_one_kind(one)
        assert (found.scope == first.scope) == (of_one_kind(one) == of_one_kind(spec))
