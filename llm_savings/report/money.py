"""How amounts and counts are shown. Rounding is for the eye only; sums are made before."""

from __future__ import annotations

from decimal import Decimal

from llm_savings.report.texts import Said, say


def dollars(usd: Decimal | None) -> str:
    """A dollar amount to the cent; below a dollar, where cents would hide it, to six places or two digits.

    Example:
        >>> dollars(Decimal("1234.567")), dollars(Decimal("0.005615")), dollars(Decimal("0.0000004")), dollars(None)
        ('$1,234.57', '$0.005615', '$0.00000040', 'unknown')
    """
    if usd is None:
        return "unknown"
    places = 2 if abs(usd) >= 1 or usd == 0 else max(6, 1 - usd.adjusted())
    sign = "-" if usd < 0 else ""
    return f"{sign}${abs(usd):,.{places}f}"


def amount(usd: Decimal | None) -> str | Said:
    """The same where it is shown in either language."""
    return say("page.unknown") if usd is None else dollars(usd)


def tokens(count: int) -> str:
    """A count with thousands separators, or in millions from ten million on.

    Example:
        >>> tokens(1234567), tokens(113137658)
        ('1,234,567', '113.1M')
    """
    return f"{count:,}" if count < 10_000_000 else f"{count / 1_000_000:,.1f}M"
