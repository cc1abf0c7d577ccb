"""A callback's figures as text and as a table for notebooks."""

from __future__ import annotations

from decimal import Decimal
from html import escape

from llm_savings.ledger import Ledger, Line, total

_HEADS = ("Model", "Calls", "Tokens in", "Tokens out", "Spent", "Saved", "Unknown", "Unpriced")


def as_text(name: str, ledger: Ledger, lines: list[Line]) -> str:
    """One line with the sums, and one for each model when there are several.

    Example:
        >>> print(as_text("CostCallback", Ledger(":memory:"), []))
        CostCallback(':memory:'): no calls yet
    """
    where = repr(ledger).removeprefix("Ledger")
    if not lines:
        return f"{name}{where}: no calls yet"
    rows = [f"{name}{where}: {_sums(total(lines))}"]
    if len(lines) > 1:
        rows += [f"  {line.key}: {_sums(line)}" for line in lines]
    return "\n".join(rows)


def as_html(ledger: Ledger, lines: list[Line]) -> str:
    """A small table by model."""
    rows = [_row(line, line.key) for line in lines]
    if len(lines) > 1:
        rows.append(_row(total(lines), "Total"))
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    caption = escape(repr(ledger).removeprefix("Ledger(").removesuffix(")").strip("'\""))
    return f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def usd(amount: Decimal) -> str:
    """Dollars with cents, and as many more decimals as a small amount needs for three significant digits.

    Example:
        >>> usd(Decimal("1234.5")), usd(Decimal("0.00002999")), usd(Decimal("-0.5"))
        ('$1,234.50', '$0.0000300', '-$0.50')
    """
    size = abs(amount)
    places = 2 if not size or size >= Decimal("0.1") else 2 - size.adjusted()
    return f"{'-' if amount < 0 else ''}${size:,.{places}f}"


def _sums(line: Line) -> str:
    parts = [f"{line.calls:,} {'call' if line.calls == 1 else 'calls'}", f"{usd(line.actual)} spent"]
    if line.saved:
        parts.append(f"{usd(line.saved)} saved")
    if line.hits:
        parts.append(f"{line.hits:,} from a cache")
    if line.errors:
        parts.append(f"{line.errors:,} failed")
    if line.estimated:
        parts.append(f"{line.estimated:,} estimated ({usd(line.estimated_usd)})")
    if line.unknown:
        parts.append(f"{line.unknown:,} unknown ({_bound(line)})")
    if line.unpriced:
        parts.append(f"{line.unpriced:,} unpriced")
    return ", ".join(parts)


def _row(line: Line, name: str) -> tuple[str, ...]:
    return (
        name or "-",
        f"{line.calls:,}",
        f"{line.usage.prompt:,}",
        f"{line.usage.completion:,}",
        usd(line.actual),
        usd(line.saved),
        f"{line.unknown:,} ({_bound(line)})" if line.unknown else "0",
        f"{line.unpriced:,}",
    )


def _bound(line: Line) -> str:
    if line.unbounded == line.unknown:
        return "no bound"
    return f"at most {usd(line.unknown_bound)}" + (f", {line.unbounded:,} without a bound" if line.unbounded else "")
