"""The report in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llm_savings.ledger import Line, total
from llm_savings.report.terminal import figures, notes

# No colours: a notebook has its own, light or dark. Styles stand in the elements, as notebooks strip style sheets.
_LEFT, _RIGHT = (f'style="text-align: {side}; font-variant-numeric: tabular-nums"' for side in ("left", "right"))
_HEAD = ("", "calls", "tokens in", "cached", "tokens out", "spent", "saved")


def html_table(lines: Sequence[Line], *, caption: str = "") -> str:
    """A table with a total row and the notes below; everything from outside is escaped.

    Example:
        >>> "&lt;b&gt;" in html_table([Line("<b>")])
        True
    """
    whole = total(list(lines))
    head = "".join(f'<th scope="col" {_RIGHT if name else _LEFT}>{name}</th>' for name in _HEAD)
    body = "".join(_row(line) for line in lines)
    said = "".join(f"<li>{escape(str(note))}</li>" for note in notes(whole))
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody><tfoot>{_row(whole)}</tfoot></table>" + (f"<ul>{said}</ul>" if said else "")
    )


def _row(line: Line) -> str:
    name = escape(line.key or "(none)")
    return (
        f'<tr><th scope="row" {_LEFT}>{name}</th>'
        + "".join(f"<td {_RIGHT}>{cell}</td>" for cell in figures(line))
        + "</tr>"
    )
