"""The article that this package started from, calculated again.

A Korean article on LLM costs gave the figures below for a month of GPT-4o. Its strategies are sound; several of its
sums are not. Each is worked out here from the price book, so that a reader can see why an honest calculator says less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from llm_savings.audit.scenario import Scenario
from llm_savings.pricing import PriceBook
from llm_savings.usage import Usage

ARTICLE = Scenario(
    requests=100_000,
    input_tokens=1000,
    output_tokens=1000,
    model="gpt-4o",
    small_model="gpt-4o-mini",
    routed="0.7",
    shortened="0.3",
    batched="0.2",
    hits="0.4",
    overhead="2",
)
"""The article's traffic and shares. Its prompts of 1,000 tokens are below what OpenAI caches; embeddings are $2."""

_FAQ = Scenario(
    requests=10_000,
    input_tokens=5000,
    output_tokens=0,
    model="claude-sonnet-4-5",
    prefix_tokens=5000,
    prefix_hits="0.95",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure of the article beside the same figure worked out here.

    Attributes:
        what: What it is about.
        said: The article's figure.
        found: Ours; USD, a share or a ratio, as `unit` says.
        unit: "USD", "share" or "times".
        why: Why they differ.
    """

    what: str
    said: Decimal
    found: Decimal
    unit: str
    why: str


def article_claims(prices: PriceBook | None = None) -> list[Claim]:
    """The article's figures and the honest ones.

    Raises:
        UnknownModelError: The price book does not know the article's models.

    Example:
        >>> round(article_claims()[0].found)
        5250
    """
    book = prices or PriceBook()
    chats = Scenario(requests=5000 * 10 * 30, input_tokens=200, output_tokens=300, model="gpt-4o")
    ratio = _per_million(book, "gpt-4o") / _per_million(book, "gpt-4o-mini")
    nothing = replace(ARTICLE, routed=0, shortened=0, batched=0, hits=0, overhead=0)
    routing = replace(nothing, routed="0.8").attribution(book)
    faq = _FAQ.attribution(book)
    cached = replace(nothing, prefix_tokens=1000, prefix_minimum=0, prefix_hits="0.8").attribution(book)
    usd = "USD"
    return [
        Claim(
            "5,000 users x 10 chats x 30 days on GPT-4o", Decimal(82_500), _cost(chats, book), usd,
            "1.5 million chats of 200 + 300 tokens are 300 million in and 450 million out",
        ),
        Claim(
            "the same on GPT-4o mini", Decimal(4950), _cost(replace(chats, model="gpt-4o-mini"), book), usd,
            "the same tokens at $0.15 and $0.60 a million",
        ),
        Claim("GPT-4o against mini", Decimal(60), ratio, "times", "$2.50 : $0.15, and $10 : $0.60"),
        Claim(
            "saved by routing 80% to mini", Decimal("0.85"), routing.saved / routing.baseline, "share",
            "80% x 1 and 20% x 60 were added up to 92 of 60",
        ),
        Claim(
            "saved on a 5,000-token FAQ prompt, 95% hits", Decimal("0.85"), faq.saved / faq.baseline, "share",
            "writing the cache costs 1.25 times the input price",
        ),
        Claim(
            "100,000 requests before", Decimal(1250), ARTICLE.attribution(book).baseline, usd,
            "right, if each has 1,000 tokens in and 1,000 out, not 1,000 in all",
        ),
        Claim(
            "prompt caching for 80% of them, at most", Decimal(850), cached.credits["prompt_cache"], usd,
            "cached input costs GPT-4o half, output is not cached, and below 1,024 tokens nothing is",
        ),
        Claim(
            "after all five", Decimal(80), _multiplied(book), usd,
            "the article's own percentages, multiplied: 85% of 80% off everything, output too",
        ),
        Claim(
            "after all five, hits alike on all traffic", Decimal(80), _cost(ARTICLE, book), usd,
            "nothing to cache in 1,000-token prompts; a hit on mini saves mini's price",
        ),
        Claim(
            "after all five, hits on what mini gets", Decimal(80), _cost(replace(ARTICLE, hits_lean=1), book), usd,
            "simple questions are the ones that repeat, and they were cheap already",
        ),
    ]  # fmt: skip


def _cost(scenario: Scenario, prices: PriceBook) -> Decimal:
    return scenario.attribution(prices).actual


def _per_million(prices: PriceBook, model: str) -> Decimal:
    return prices.price(Usage(input=500_000, output=500_000), model)


def _multiplied(prices: PriceBook) -> Decimal:
    """What is left when savings are multiplied as if each took its percentage off everything."""
    caching = 1 - Decimal("0.8") * Decimal("0.85")
    routing = Decimal("0.3") + Decimal("0.7") * _per_million(prices, "gpt-4o-mini") / _per_million(prices, "gpt-4o")
    rest = (1 - Decimal("0.4")) * (1 - Decimal("0.2") / 2) * (1 - Decimal("0.3"))
    return ARTICLE.attribution(prices).baseline * caching * routing * rest
