"""Records that both hosts' tests of compact answers ask for."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field

from llm_savings.structured import MaxWords, count_words


class Line(BaseModel):
    sku: str
    quantity: int = Field(ge=1, le=9)
    unit_price: Decimal


class Invoice(BaseModel):
    number: str
    lines: list[Line]
    paid: bool | None
    note: Annotated[str, MaxWords(3)]


class Loose(BaseModel):
    name: str
    counts: dict[str, int]


def check(found: Any) -> None:
    """Whether these are invoices, down to the types of their values."""
    assert found and all(type(one) is Invoice and type(one.lines[0].unit_price) is Decimal for one in found)
    assert all(one.lines and count_words(one.note) <= 3 for one in found)
