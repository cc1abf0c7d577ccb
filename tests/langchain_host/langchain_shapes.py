"""A schema and a tool that tests of several files ask models for."""

from __future__ import annotations

from langchain_core.tools import tool
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def order_status(order_id: str) -> str:
    """Where an order is."""
    return f"Order {order_id} is on its way."
