"""`llm-savings reconcile`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from llm_savings.cli.shared import JSON, LEDGER, Console, existing, instant, print_json, print_notes
from llm_savings.ledger import Ledger
from llm_savings.reconcile import KINDS, WINDOW, Kind, Line, Reconciliation, read_export
from llm_savings.reconcile import reconcile as compare
from llm_savings.report.money import dollars, tokens
from llm_savings.report.tables import plain_table


@click.command(epilog="Example: llm-savings reconcile completions_usage.csv --settle")
@click.argument("usage_export", type=click.Path(exists=True, dir_okay=False))
@LEDGER
@click.option("--format", "kind", type=click.Choice(KINDS), help="What the export is, if its fields do not tell.")
@click.option("--since", metavar="WHEN", help="Leave out what was before: 7d, 2026-11-01 or 2026-11-01T09:00+09:00.")
@click.option("--until", metavar="WHEN", help="As --since; leave out what was from then on.")
@click.option("--tz", default="UTC", show_default=True, help="The zone of --since and --until; lines are days in UTC.")
@click.option(
    "--window",
    type=click.FloatRange(min=0),
    default=WINDOW.total_seconds(),
    show_default=True,
    help="Seconds after its start in which a call may still be billed; more than your longest call takes.",
)
@click.option("--settle", is_flag=True, help="Write into the ledger what unknown calls turned out to have cost.")
@JSON
def reconcile(usage_export: str, ledger: str | None, kind: Kind | None, **options: Any) -> None:
    """Compare the ledger with a provider's USAGE_EXPORT, by day and model.

    Understood are OpenAI's usage (completions, embeddings) and costs, Anthropic's messages usage and costs, each as
    the API's JSON or the dashboard's CSV, grouped by model (costs: by line item, or description), and the bill that
    llm-savings sandbox --bill saves.

    Export whole days, some hours after they ended: providers count late. Only calls whose cost is unknown are ever
    changed, and only with --settle.
    """
    since, until = (instant(options[name], options["tz"]) for name in ("since", "until"))
    export = read_export(usage_export, kind).between(since, until)
    window = timedelta(seconds=options["window"])
    book = Ledger(existing(ledger))
    early = export.start - window if export.kind == "bill" else export.start  # a bill says when a call ended
    found = compare(book.calls(since=early, until=export.end), export, window=window)
    settled = book.reconcile(found.settlements) if options["settle"] else None
    if options["as_json"]:
        print_json(_document(found, settled))
        return
    console = Console()
    if found.lines:
        console.print(_table(found))
    print_notes(console, _notes(found, settled))


_COLOURS = {"agrees": "green", "differs": "red"}
_SAID = {
    "agrees": "agree",
    "differs": "differ",
    "explained": "are explained by what unknown calls may have cost",
    "unpriced": "have tokens whose price is not known here (see llm-savings prices --help)",
}


def _table(found: Reconciliation) -> Table:
    title = f"{found.kind}, {found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC"
    heads = ("day", "model", "ledger", "provider", "difference", "unknown", "")
    table = plain_table(*heads, title=title, left=("model",))
    table.columns[0].no_wrap, table.columns[1].no_wrap, table.columns[1].min_width = True, False, 8
    for line in found.lines:
        # Text, not markup: a model named "[red]" is shown, not obeyed.
        cells = [Text(cell) for cell in (str(line.day), line.model or "(all)", *_amounts(line))]
        table.add_row(*cells, Text(line.verdict, style=_COLOURS.get(line.verdict, "")))
    table.add_section()
    table.add_row(Text("total"), "", *map(Text, _amounts(found.total)), "", style="bold")
    return table


def _amounts(line: Line) -> tuple[str, str, str, str]:
    return dollars(line.ledger), dollars(line.provider), dollars(line.difference), tokens(line.unknown)


def _notes(found: Reconciliation, settled: int | None) -> list[str]:
    whole = found.total
    said: list[str] = []
    if not found.lines:
        said.append("Neither the export nor the ledger has anything in this time.")
    else:
        verdicts = Counter(line.verdict for line in found.lines)
        how = ", ".join(f"{count:,} {_SAID[verdict]}" for verdict, count in sorted(verdicts.items()))
        said.append(f"Of {len(found.lines):,} lines {how}.")
    for number, why in ((whole.estimated, "estimated"), (whole.unpriced, "not priced")):
        if number:
            said.append(f"{number:,} calls in the ledger are {why}: a difference may be theirs.")
    if found.unclaimed:
        said.append(
            f"{found.unclaimed:,} billed requests ({dollars(found.unclaimed_usd)}) are in no call of the ledger."
        )
    said += [f"{count:,} calls not compared: {why}." for why, count in found.absent.items()]
    said += [f"{count:,} unknown calls stay unknown: {why}." for why, count in found.left.items()]
    if found.settlements:
        free = sum(1 for _, end in found.settlements if not end.actual)
        charged = len(found.settlements) - free
        said.append(f"Unknown calls found: {charged:,} cost {dollars(found.settled_usd)}, {free:,} cost nothing.")
    if settled is not None:
        said.append(f"{settled:,} calls settled in the ledger.")
    elif found.settlements:
        said.append("Nothing was written; --settle writes it into the ledger.")
    return said


def _document(found: Reconciliation, settled: int | None) -> dict[str, Any]:
    return {
        "format": found.kind,
        "since": found.start.isoformat(),
        "until": found.end.isoformat(),
        "currency": "USD",
        "lines": [_line(line) | {"day": line.day.isoformat(), "model": line.model} for line in found.lines],
        "total": _line(found.total),
        "settlements": [
            {
                "call_id": sent.call_id,
                "usd": format(end.actual, "f") if end.actual is not None else None,
                "basis": end.basis,
                "by": end.strategies["reconciled"]["by"],
            }
            for sent, end in found.settlements
        ],
        "left": dict(found.left),
        "absent": dict(found.absent),
        "unclaimed": found.unclaimed,
        "unclaimed_usd": format(found.unclaimed_usd, "f"),
        "settled": settled,
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "calls": line.calls,
        "ledger": format(line.ledger, "f"),
        "provider": None if line.provider is None else format(line.provider, "f"),
        "difference": None if line.difference is None else format(line.difference, "f"),
        "verdict": line.verdict,
        "unknown": line.unknown,
        "unknown_bound": format(line.bound, "f"),
        "unbounded": line.unbounded,
        "estimated": line.estimated,
        "unpriced": line.unpriced,
    }
