"""The report in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table

from llm_savings.ledger import Line, total
from llm_savings.pricing import PriceBook
from llm_savings.report.money import amount, dollars, tokens
from llm_savings.report.tables import add_row, plain_table
from llm_savings.report.texts import Said, columns, say

_NAME, _OTHERS, _UNSURE = 20, 60, 7  # columns: of a name that always fits, of all beside it, of the last of these


def calls_table(lines: Sequence[Line], *, by: str, title: str | None = None, width: int = 80) -> Table:
    """Calls, tokens and dollars, a row a line and a total below.

    Args:
        lines: What `Ledger.summary` gives.
        by: What they are grouped by, as there.
        title: Above the table.
        width: Columns of the terminal. Where names would be broken for the column of unsure calls alone, that is left
            to the notes.

    Example:
        >>> calls_table([Line("gpt-4o", calls=2)], by="model").row_count
        2
    """
    rows = [*lines, total(list(lines))]
    # A column that is empty for everybody would only cost width; the notes tell what it counts.
    longest = max(cell_len(line.key) for line in rows)
    room = width - longest - _OTHERS
    unsure = any(map(_unsure, rows)) and not -_UNSURE <= room < 0
    names = ("calls", "input", "cached", "out", "spent", "saved", *(["unsure"] if unsure else []))
    tag = by.removeprefix("tag:")
    table = plain_table(tag if tag != by else say(f"column.{by}"), *columns(*names), title=title)
    table.columns[0].min_width = 10
    if unsure or longest > _NAME:  # a report has to fit 80 columns
        table.padding = 0
    for number, line in enumerate(rows):
        last = number == len(rows) - 1
        if last:
            table.add_section()
        name = say("page.total") if last or by == "total" else line.key or say("page.none")
        cells = [name, *figures(line), *([tokens(_unsure(line))] if unsure else [])]
        add_row(table, *cells, style="bold" if last else "")
    return table


def figures(line: Line) -> list[str | Said]:
    """A line's calls, tokens in, cached and out, and what was spent and saved."""
    used = line.usage
    return [
        tokens(line.calls),
        tokens(used.prompt),
        tokens(used.cache_read + used.audio_cache_read),
        tokens(used.completion),
        *spent_and_saved(line),
    ]


def spent_and_saved(line: Line) -> tuple[str | Said, str | Said]:
    """The two amounts of a line; "unknown", not $0.00, where not one of its calls has a known price."""
    return amount(line.actual if line.known else None), amount(line.saved if line.valued else None)


def _unsure(line: Line) -> int:
    return line.estimated + line.unknown + line.unpriced


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def plain_text(lines: Sequence[Line]) -> str:
    r"""The sums and the notes, without a table; where there are several lines, one for each.

    Example:
        >>> plain_text([Line("gpt-4o", calls=2, hits=1)])
        '2 calls, $0.00 spent, $0.00 saved\n  1 call answered by a cache for $0.'
    """

    def sums(line: Line) -> str:
        spent, saved = spent_and_saved(line)
        return f"{_calls(line.calls)}, {spent} spent, {saved} saved"

    whole = total(list(lines))
    several = [f"{line.key or '(none)'}: {sums(line)}" for line in lines] if len(lines) > 1 else []
    return "\n  ".join([sums(whole), *several, *map(str, notes(whole))])


def notes(whole: Line) -> list[Said]:
    """What a reader must know of the figures, in sentences."""
    said: list[Said] = []
    if whole.hits:
        said.append(say("note.hits", whole.hits))
    if whole.unvalued:
        said.append(say("note.unvalued", whole.unvalued))
    if whole.errors:
        said.append(say("note.errors", whole.errors))
    if whole.estimated:
        said.append(say("note.estimated", whole.estimated, dollars(whole.estimated_usd)))
    if whole.unknown:
        some = "_some" if whole.unbounded else ""
        said.append(say(f"note.unknown{some}", whole.unknown, dollars(whole.unknown_bound), whole.unbounded))
    if whole.unpriced:
        said.append(say("note.unpriced", whole.unpriced))
    return said


def price_note(prices: PriceBook) -> Said:
    """How old the prices are."""
    said = say("note.prices", prices.source, str(prices.date)) if prices.date else say("note.undated", prices.source)
    return say("note.prices_old", said) if prices.stale else said


def periods_table(periods: Mapping[str, Line]) -> Table:
    """Today, 7 and 30 days: a row each."""
    table = plain_table("", *columns("calls", "spent", "saved", "share"))
    for name, line in periods.items():
        part = f"{line.saved / line.baseline:.1%}" if line.baseline > 0 else ""
        add_row(table, say(f"report.{name}"), tokens(line.calls), *spent_and_saved(line), part)
    return table
