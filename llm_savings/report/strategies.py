"""Who saved what, in a terminal and for machines."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from llm_savings.attribution import LADDER, Attribution, View
from llm_savings.foreseen import Foreseen
from llm_savings.report.money import dollars
from llm_savings.report.tables import plain_table
from llm_savings.report.texts import Said, say

_WIDTH = 32


def strategies_table(found: Attribution, *, view: View = "waterfall", title: str | None = None) -> Table:
    """The way from the baseline down to the bill, a row a strategy. Only the rows of `if_removed` do not add up.

    Example:
        >>> strategies_table(Attribution()).row_count
        2
    """
    table = plain_table("", "USD", "share", "", title=title)

    def whole(usd: Decimal) -> str:
        return dollars(usd if found.known else None)

    scale = max(found.baseline, found.actual)
    table.add_row(
        say("strategy.baseline").text(), whole(found.baseline), "", _bar(Decimal(0), found.baseline, scale, "dim")
    )
    level = found.actual if view == "if_removed" else found.baseline
    for strategy in LADDER:
        usd = found.credits.get(strategy)
        if usd is None:
            continue
        if view != "if_removed":
            level -= usd
        bar = _bar(level, level + usd, scale, "green" if usd >= 0 else "red")
        table.add_row(say(f"strategy.{strategy}").text(), dollars(-usd), _share(-usd, found.baseline), bar)
    if found.overhead:
        bar = _bar(found.actual - found.overhead, found.actual, scale, "red")
        table.add_row(
            say("strategy.overhead").text(), dollars(found.overhead), _share(found.overhead, found.baseline), bar
        )
    table.add_section()
    paid, share = _bar(Decimal(0), found.actual, scale, "bold"), _share(found.actual, found.baseline)
    table.add_row(say("strategy.paid").text(), whole(found.actual), share.removeprefix("+"), paid, style="bold")
    return table


def steps(found: Attribution) -> list[tuple[str, Decimal, Decimal, Decimal]]:
    """The bars of a waterfall: the step's name, where its bar begins and ends, and what it adds to the bill (USD).

    Example:
        >>> [name for name, *_ in steps(Attribution(Decimal(3), Decimal(2), {"batch": Decimal(1)}))]
        ['baseline', 'batch', 'paid']
    """
    level, told = found.baseline, [("baseline", Decimal(0), found.baseline, found.baseline)]
    for strategy in LADDER:
        if (credit := found.credits.get(strategy)) is not None:
            told.append((strategy, level - credit, level, -credit))
            level -= credit
    if found.overhead:
        told.append(("overhead", found.actual - found.overhead, found.actual, found.overhead))
    return [*told, ("paid", Decimal(0), found.actual, found.actual)]


def strategies_notes(found: Attribution, *, view: View = "waterfall") -> list[str]:
    """What a reader must know of the figures, in sentences."""
    return [said.text() for said in credit_notes(found, view=view)]


def credit_notes(found: Attribution, *, view: View = "waterfall") -> list[Said]:
    """The same, in either language."""
    said: list[Said] = []
    if found.baseline > 0:
        said.append(say("note.saved", dollars(found.saved), f"{found.saved / found.baseline:.1%}"))
    if view == "if_removed":
        said.append(say("note.if_removed"))
    if modelled := sum(found.modelled.values(), Decimal(0)):
        said.append(say("note.modelled", dollars(modelled)))
    if found.repriced:
        said.append(say("note.repriced", found.repriced))
    if found.unknown:
        said.append(say("note.unknown_credit", found.unknown))
    if found.unpriced:
        said.append(say("note.unpriced_credit", found.unpriced))
    return said


def shadow_table(found: Foreseen) -> Table:
    """What strategies in shadow would have saved, a row a strategy.

    Example:
        >>> shadow_table(Foreseen()).row_count
        1
    """
    table = plain_table("", "calls", "USD", "share", title=say("shadow.title").text())
    for strategy, usd in found.credits.items():
        name = say(f"strategy.{strategy}").text()
        table.add_row(name, f"{found.changed[strategy]:,}", dollars(-usd), _share(-usd, found.actual))
    table.add_section()
    all_of_it = ("", f"{found.calls:,}", dollars(-found.saved), _share(-found.saved, found.actual))
    table.add_row(*all_of_it, style="bold")
    return table


def shadow_document(found: Foreseen) -> dict[str, Any]:
    """The same for machines: exact amounts as decimal text, in USD."""
    return {
        "calls": found.calls,
        "actual": format(found.actual, "f"),
        "would_save": {name: format(usd, "f") for name, usd in found.credits.items()},
        "changed": dict(found.changed),
        "unpriced": found.unpriced,
    }


def strategies_document(found: Attribution, *, view: View = "waterfall") -> dict[str, Any]:
    """All of it for machines: exact amounts as decimal text, in USD; null where nobody knows any."""
    baseline, actual, saved = (
        format(usd, "f") if found.known else None for usd in (found.baseline, found.actual, found.saved)
    )
    return {
        "view": view,
        "baseline": baseline,
        "credits": {name: format(usd, "f") for name, usd in found.credits.items()},
        "modelled": {name: format(usd, "f") for name, usd in found.modelled.items()},
        "overhead": format(found.overhead, "f"),
        "actual": actual,
        "saved": saved,
        "calls": found.calls,
        "unknown": found.unknown,
        "unpriced": found.unpriced,
        "repriced": found.repriced,
    }


def _bar(start: Decimal, end: Decimal, scale: Decimal, style: str) -> Text:
    if scale <= 0:
        return Text("")
    low, high = (round(_WIDTH * min(max(edge, Decimal(0)), scale) / scale) for edge in sorted((start, end)))
    return Text(" " * low + "█" * (high - low), style)


def _share(usd: Decimal, whole: Decimal) -> str:
    return f"{usd / whole:+.1%}" if whole > 0 else ""
