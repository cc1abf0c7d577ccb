"""The one look of tables in a terminal."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from llm_savings.report.texts import Said


def plain_table(*heads: str | Said, title: str | Said | None = None, left: Collection[str] = ()) -> Table:
    """An empty table that fits 80 columns. What stands in it from outside is given as `Text`, so no markup is obeyed.

    Args:
        heads: The columns' heads. The first column is words, and gives way where it gets narrow; so are those without
            a head. The others are figures, which stand to the right.
        title: What it shows.
        left: Heads of more columns of words.

    Example:
        >>> [column.justify for column in plain_table("model", "calls", "basis", left=("basis",)).columns]
        ['left', 'right', 'left']
    """
    table = Table(title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    table.title = cast("Text", shown(title)) if title else None  # rich shows whatever it can show
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    for number, head in enumerate(heads):
        words = number == 0 or not head or head in left
        table.add_column(shown(head), justify="left" if words else "right", overflow="fold", no_wrap=number > 0)
    return table


def add_row(table: Table, *cells: str | Said | Text, style: str = "") -> None:
    """Add a row; no markup in it is obeyed."""
    table.add_row(*map(shown, cells), style=style)


def shown(words: str | Said | Text) -> Said | Text:
    """Words as rich takes them, without obeying markup."""
    return Text(words) if isinstance(words, str) else words
