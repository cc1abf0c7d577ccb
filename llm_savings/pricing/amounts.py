"""Exact amounts of US dollars: how prices are read, and how far they are rounded."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import Final

EXACT: Final = Context(prec=60, traps=[Inexact])
"""For sums of money: an operation that would round raises instead, whatever the caller's decimal context is."""

WIDE: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""For what has to be rounded: the same whatever the caller's decimal context is."""

_15_DIGITS = Context(prec=15, rounding=ROUND_HALF_EVEN)
_PICO = Decimal("1e-12")
_ONE = Decimal(1)
_MILLION = Decimal(1_000_000)


def money(value: object) -> Decimal:
    """A price as the exact decimal that was meant: 0.1 is a tenth, 5.0000000000000004e-8 is 5e-8.

    Raises:
        ValueError: Not a number, negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(f"{value!r} is not a price")
    try:
        price = Decimal(repr(value) if isinstance(value, float) else value)
    except ArithmeticError:
        raise ValueError(f"{value!r} is not a price") from None
    if not price.is_finite() or price < 0:
        raise ValueError(f"{value!r} is not a price")
    return _15_DIGITS.plus(price) if len(price.as_tuple().digits) > 15 else price


def scaled(rate: Decimal, numerator: Decimal, denominator: Decimal) -> Decimal:
    """`rate * numerator / denominator` in USD, rounded to 12 decimals (but never down to nothing)."""
    exact = WIDE.divide(WIDE.multiply(rate, numerator), denominator)
    found = exact.quantize(_PICO, context=WIDE).normalize(WIDE)
    return found if found or not exact else _15_DIGITS.plus(exact)


def rounded(count: int, rate: Decimal, places: Decimal) -> Decimal:
    """`count * rate` in USD, rounded to so many places.

    Example:
        >>> rounded(3, Decimal("0.0333"), Decimal("0.01"))
        Decimal('0.10')
    """
    return WIDE.quantize(WIDE.multiply(count, rate), places)


def in_picodollars(usd: Decimal) -> Decimal:
    """An amount as the ledger can keep it, rounded half to even where it has more than 12 decimals.

    Prices that were converted from another currency give such amounts. A call's is off by half a picodollar at most.
    """
    kept = WIDE.quantize(usd, _PICO)
    return usd if kept == usd else kept


def per_token(usd_per_million: Decimal) -> Decimal:
    """USD per million tokens -> USD per token."""
    return scaled(usd_per_million, Decimal(1), _MILLION)
