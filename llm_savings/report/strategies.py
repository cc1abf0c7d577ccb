"""Who saved what, in a terminal and for machines."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from llm_savings.attribution import LADDER, Attribution, View
from llm_savings.foreseen import Foreseen
from llm_savings.report.money import amount, dollars
from llm_savings.report.tables import add_row, plain_table
from llm_savings.report.texts import Said, columns, say

_WIDTH = 32
_ENDS = {"baseline": "dim", "paid": "bold"}


def strategies_table(found: Attribution, *, view: View = "waterfall", title: str | Said | None = None) -> Table:
    """The way from the baseline down to the bill, a row a strategy. Only the rows of `if_removed` do not add up.

    Example:
        >>> strategies_table(Attribution()).row_count
        2
    """
    table = plain_table("", *columns("usd", "share"), "", title=title)
    scale = max(found.baseline, found.actual)
    for step, low, high, added in steps(found, view=view):
        share = _share(added, found.baseline)
        if step == "paid":
            table.add_section()
            share = share.removeprefix("+")
        is_end = step in _ENDS
        bar = _bar(low, high, scale, _ENDS.get(step) or ("red" if added > 0 else "green"))
        usd = amount(added if found.known or not is_end else None)
        cells = (say(f"strategy.{step}"), usd, "" if step == "baseline" else share, bar)
        add_row(table, *cells, style="bold" if step == "paid" else "")
    return table


def steps(found: Attribution, *, view: View = "waterfall") -> list[tuple[str, Decimal, Decimal, Decimal]]:
    """The bars of a waterfall: the step's name, where its bar begins and ends, and what it adds to the bill (USD).

    Example:
        >>> [name for name, *_ in steps(Attribution(Decimal(3), Decimal(2), {"batch": Decimal(1)}))]
        ['baseline', 'batch', 'paid']
    """
    level, told = found.baseline, [("baseline", Decimal(0), found.baseline, found.baseline)]
    for strategy in LADDER:
        if (credit := found.credits.get(strategy)) is not None:
            level = found.actual if view == "if_removed" else level - credit
            told.append((strategy, level, level + credit, -credit))
    if found.overhead:
        told.append(("overhead", found.actual - found.overhead, found.actual, found.overhead))
    return [*told, ("paid", Decimal(0), found.actual, found.actual)]


def strategies_notes(found: Attribution, *, view: View = "waterfall") -> list[Said]:
    """What a reader must know of the figures, in sentences."""
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
    table = plain_table("", *columns("calls", "usd", "share"), title=say("shadow.title"))
    for strategy, usd in found.credits.items():
        name = say(f"strategy.{strategy}")
        add_row(table, name, f"{found.changed[strategy]:,}", dollars(-usd), _share(-usd, found.actual))
    table.add_section()
    saved = amount(-found.saved if found.calls else None)
    add_row(table, "", f"{found.calls:,}", saved, _share(-found.saved, found.actual), style="bold")
    return table


def shadow_notes(found: Foreseen) -> list[Said]:
    """What a reader must know of them, in sentences; nothing where no strategy was in shadow."""
    said = [say("note.shadow")] if found.calls or found.unpriced else []
    return [*said, *([say("shadow.unpriced", found.unpriced)] if found.unpriced else [])]


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
