"""How large a call can get, in tokens and in USD, before it has been made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from llm_savings.errors import SavingsError
from llm_savings.ledger import Mode
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT
from llm_savings.usage import Usage

_NOTHING = Usage()
_IN = ("input", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
_OUT = ("output", "audio_output", "image_output")


# Where a request says how many output tokens one answer may have and how many answers it asks for, in any interface.
_LIMITS = frozenset({
    "max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "maxTokens", "max_new_tokens",
    "num_predict",
})  # fmt: skip
_CHOICES = frozenset({"n", "best_of", "candidate_count"})


@dataclass(slots=True)  # not frozen, as one is made for every call; see `Sent`
class Size:
    """How large a request can get.

    Attributes:
        prompt: Tokens that the prompt cannot exceed (see `tokens.upper_bound`), or None when nothing bounds it.
        max_tokens: The limit on the output tokens of one answer that the request carries, if any.
        choices: How many answers were asked for.
        count: Counts the prompt's tokens (an estimate for other makers' models than OpenAI's), or returns None where
            they cannot be counted here. Called only when a budget needs it.
    """

    prompt: int | None
    max_tokens: int | None = None
    choices: int = 1
    count: Callable[[], int | None] | None = None


def limits(params: Mapping[str, Any]) -> tuple[int | None, int]:
    """What a request's parameters limit: the output tokens of one answer (None if they do not), and the answers.

    Example:
        >>> limits({"model": "gpt-4o", "max_tokens": 100, "n": 2})
        (100, 2)
    """
    # Two limits in one request are rare, and which one wins differs: the larger is a bound in any case.
    return max(_numbers(params, _LIMITS), default=None), max(_numbers(params, _CHOICES), default=1)


def _numbers(params: Mapping[str, Any], names: frozenset[str]) -> list[int]:
    found = [params[name] for name in names & params.keys()]
    return [value for value in found if type(value) is int and value > 0]  # -1 and 0 are no limit with some servers


@dataclass(frozen=True, slots=True)
class Rates:
    """The dearest that a model's tokens can be, in USD per token, and the most output tokens that it gives."""

    fee: Decimal
    prompt: Decimal
    output: Decimal
    most: int | None


def upper_bound(
    prices: PriceBook, model: str, size: Size, *, mode: Mode = "standard", provider: str | None = None
) -> Decimal | None:
    """USD that a call cannot exceed, or None when its prompt, its model's price or its output limit is not known.

    The prompt is bounded at the dearest rate it could be billed at (a cache write costs more than plain input), the
    output by the request's own limit, else by the model's.
    """
    if size.prompt is None or (rates := dearest(prices, model, size.prompt, mode=mode, provider=provider)) is None:
        return None
    limit = rates.most if size.max_tokens is None else size.max_tokens
    if limit is None:
        return None
    return EXACT.fma(limit * size.choices, rates.output, EXACT.fma(size.prompt, rates.prompt, rates.fee))


def dearest(
    prices: PriceBook, model: str, prompt: int, *, mode: Mode = "standard", provider: str | None = None
) -> Rates | None:
    """The dearest rates that a request with so many tokens in its prompt may be billed at; None when unpriced."""
    tier = prompt if prompt > _LOWEST_TIER else 0
    return _dearest(prices, model, provider, mode, tier, int(time.time() // _QUARTER_HOUR))


# Below this no model in the map is dearer by length (the lowest tier of all begins at 32,000 tokens), so its rates
# are looked up once; prices may depend on the time of day, so once a quarter of an hour.
_LOWEST_TIER = 30_000
_QUARTER_HOUR = 900


@lru_cache(maxsize=512)
def _dearest(
    prices: PriceBook, model: str, provider: str | None, mode: Mode, prompt: int, _quarter: int
) -> Rates | None:
    try:
        rates = prices.rates(model, prompt=prompt, mode=mode, provider=provider)
        fee = prices.price(_NOTHING, model, mode=mode, provider=provider)
    except SavingsError:
        return None
    rate_in, rate_out = (
        max([rates[name] for name in names if name in rates], default=Decimal(0)) for names in (_IN, _OUT)
    )
    return Rates(fee, rate_in, rate_out, prices.limits(model, provider=provider).max_output_tokens)
