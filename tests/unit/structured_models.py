"""Generated pydantic models with values of theirs, and an equality that types must pass too."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, Optional, Union
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model


class Colour(enum.Enum):
    RED = "red"
    BLUE = "파랑"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", "12", "0", "1.50", "true", "null", "None", '"', "a,b", "[1]", "한국어", "日本", "é😀", "\n", "\\"]
    ),
)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXT),
    (int, st.integers(-(10**20), 10**20)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=st.sampled_from([None, UTC]))),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(-1000), timedelta(1000))),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
]
_UNIONS = [(int, str), (bool, str), (int, float), (int, bool, str), (float, str), (bool, int, float)]


@dataclass(frozen=True)
class Made:
    """A model's type with a strategy for its values."""

    annotation: Any
    values: st.SearchStrategy[Any]


@st.composite
def annotations(draw: st.DrawFn, depth: int = 0) -> Made:
    kinds = ["scalar"] * 6 + ["optional", "union", "list", "dict", "tuple", "set"]
    if depth < 2:
        kinds += ["model", "models", "optional model", "either"] * 2
    kind = draw(st.sampled_from(kinds))
    if kind == "union":
        parts = draw(st.sampled_from(_UNIONS))
        by_type = dict(SCALARS)
        return Made(Union[parts], st.one_of(*(by_type[part] for part in parts)))  # noqa: UP007
    if kind in ("model", "models", "optional model", "either"):
        inner = draw(models(depth + 1))
        if kind == "model":
            return inner
        if kind == "models":
            return Made(list[inner.annotation], st.lists(inner.values, max_size=3))
        if kind == "optional model":
            return Made(Optional[inner.annotation], st.none() | inner.values)  # noqa: UP045
        return Made(inner.annotation | int, st.integers() | inner.values)
    if kind in ("optional", "list", "dict"):
        inner = draw(annotations(depth + 1))
        if kind == "optional":
            return Made(Optional[inner.annotation], st.none() | inner.values)  # noqa: UP045
        if kind == "list":
            return Made(list[inner.annotation], st.lists(inner.values, max_size=3))
        return Made(dict[str, inner.annotation], st.dictionaries(TEXT, inner.values, max_size=3))
    if kind == "tuple":
        return Made(tuple[int, str], st.tuples(st.integers(), TEXT))
    if kind == "set":
        return Made(set[int], st.sets(st.integers(), max_size=3))
    return Made(*draw(st.sampled_from(SCALARS)))


_NAMES = st.sampled_from(
    ["name", "price", "items", "title", "type", "a", "b", "a_b", "properties", "이름", "x1", "answer"]
)


@st.composite
def models(draw: st.DrawFn, depth: int = 0) -> Made:
    names = draw(st.lists(_NAMES, min_size=0 if depth else 1, max_size=4 if depth < 2 else 2, unique=True))
    fields = {name: draw(annotations(depth)) for name in names}
    given = {
        name: (made.annotation, Field(description=draw(st.sampled_from([None, "what it is"]))))
        for name, made in fields.items()
    }
    model = create_model(f"M{depth}", **given)  # type: ignore[call-overload]
    return Made(model, st.builds(model, **{name: made.values for name, made in fields.items()}))


@st.composite
def cases(draw: st.DrawFn, *, most: int = 4) -> tuple[Any, list[Any]]:
    """A model, and some objects of it."""
    made = draw(models())
    return made.annotation, draw(st.lists(made.values, max_size=most))


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return all(same(getattr(one, name), getattr(other, name)) for name in type(one).model_fields)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    return bool(one == other)
