"""Five schemas with 20 records each, in English and Korean, and the article's answer about a review."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from llm_savings.structured import MaxWords


class Product(BaseModel):
    name: str
    brand: str
    price: Decimal
    stock: int
    category: Literal["kitchen", "office", "garden"]
    available: bool


class Party(BaseModel):
    name: str
    city: str


class Line(BaseModel):
    sku: str
    description: str
    quantity: int
    unit_price: Decimal


class Invoice(BaseModel):
    number: str
    issued: date
    customer: Party
    lines: list[Line]
    paid: bool


class Review(BaseModel):
    product: str = Field(description="상품 이름")
    sentiment: Literal["긍정", "부정", "중립"]
    rating: int = Field(ge=1, le=5)
    key_phrase: Annotated[str, MaxWords(5)]
    refund_wanted: bool


class Reporter(BaseModel):
    name: str
    team: str | None = None


class Ticket(BaseModel):
    id: int
    title: str
    priority: Literal["low", "normal", "high", "urgent"]
    reporter: Reporter
    opened: datetime
    tags: list[str]
    assignee: str | None = None


class Entity(BaseModel):
    text: str
    type: Literal["person", "organisation", "place", "date"]
    start: int
    end: int
    confidence: float


class Sentiment(BaseModel):
    """What the article's third strategy answers with."""

    sentiment: Literal["positive", "negative", "neutral"]
    confidence: float
    key_phrase: Annotated[str, MaxWords(5)]


_THINGS = ("Mug", "Desk lamp", "Pruning shears", "Notebook", "Cutting board", "Watering can", "Stapler")
_BRANDS = ("Hanbit", "Norden", "Acme", "Olea")
_KINDS: tuple[Literal["kitchen", "office", "garden"], ...] = ("kitchen", "office", "garden")
_CITIES = ("Seoul", "Busan", "Berlin", "Austin")
_SAID = ("정말 좋은 제품", "배송이 너무 늦음", "가격 대비 만족", "색상이 사진과 다름", "재구매 의사 있음")
_GOODS = ("머그컵", "무선 청소기", "책상 조명", "캠핑 의자")
_FEELINGS: tuple[Literal["긍정", "부정", "중립"], ...] = ("긍정", "부정", "중립")
_TITLES = ("Login fails after update", "결제 페이지가 열리지 않음", "Export misses columns", "Slow search on mobile")
_PRIORITIES: tuple[Literal["low", "normal", "high", "urgent"], ...] = ("low", "normal", "high", "urgent")
_ENTITIES: tuple[tuple[str, Literal["person", "organisation", "place", "date"]], ...] = (
    ("Kim Minji", "person"),
    ("한국전력", "organisation"),
    ("Rotterdam", "place"),
    ("14 March 2026", "date"),
)


def _product(n: int) -> Product:
    return Product(
        name=f"{_THINGS[n % 7]} {n + 1}",
        brand=_BRANDS[n % 4],
        price=Decimal(990 + 350 * n) / 100,
        stock=(7 * n) % 40,
        category=_KINDS[n % 3],
        available=n % 5 != 0,
    )


def _invoice(n: int) -> Invoice:
    lines = [
        Line(
            sku=f"SKU-{100 + 7 * n + m}",
            description=f"{_THINGS[(n + m) % 7]}, {('blue', 'white', 'oak')[m]}",
            quantity=1 + (n + m) % 4,
            unit_price=Decimal(450 + 125 * m + 10 * n) / 100,
        )
        for m in range(1 + n % 3)
    ]
    customer = Party(name=f"{_BRANDS[n % 4]} Trading", city=_CITIES[n % 4])
    return Invoice(
        number=f"2026-{1000 + n}", issued=date(2026, 1 + n % 12, 1 + n), customer=customer, lines=lines, paid=n % 2 == 0
    )


def _review(n: int) -> Review:
    return Review(
        product=_GOODS[n % 4],
        sentiment=_FEELINGS[n % 3],
        rating=1 + n % 5,
        key_phrase=_SAID[n % 5],
        refund_wanted=n % 4 == 1,
    )


def _ticket(n: int) -> Ticket:
    return Ticket(
        id=4000 + n,
        title=_TITLES[n % 4],
        priority=_PRIORITIES[n % 4],
        reporter=Reporter(name=("Lee", "Park", "Smith")[n % 3], team=None if n % 3 else "billing"),
        opened=datetime(2026, 3, 1 + n, 9, 30),
        tags=["web", "login", "ios"][: n % 4],
        assignee="Choi" if n % 2 else None,
    )


def _entity(n: int) -> Entity:
    text, kind = _ENTITIES[n % 4]
    return Entity(text=text, type=kind, start=17 * n, end=17 * n + len(text), confidence=(80 + n) / 100)


SAMPLES: dict[str, tuple[type[BaseModel], list[Any], bool]] = {
    "flat products": (Product, [_product(n) for n in range(20)], False),
    "nested invoices": (Invoice, [_invoice(n) for n in range(20)], True),
    "Korean reviews": (Review, [_review(n) for n in range(20)], False),
    "tickets": (Ticket, [_ticket(n) for n in range(20)], True),
    "entities": (Entity, [_entity(n) for n in range(20)], False),
}
"""Name -> the model, its records, and whether it has records or lists within."""

ARTICLE = Sentiment(sentiment="positive", confidence=0.92, key_phrase="정말 좋은 제품")
ARTICLE_SENTENCE = (
    "이 텍스트는 긍정적인 감성을 나타내며, '정말 좋은 제품'이라는 표현에서 작성자가 제품에 만족했음을 "
    "약 92%의 확신으로 알 수 있습니다."
)
"""The article's own example of prose, with the same three facts, in one sentence."""
