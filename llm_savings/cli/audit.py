"""`llm-savings audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from llm_savings.cli.shared import print_json, print_notes
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy


@click.command(epilog="Example: llm-savings audit spend_logs.jsonl.gz --can-wait feature=nightly --html audit.html")
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--format", "kind", help="The logs' format, where it is not seen from them.")
@click.option("--column", "columns", multiple=True, metavar="NAME=HEADER", help="A table's column; repeatable.")
@click.option("--only", multiple=True, type=click.Choice(get_args(Strategy)), help="Only this strategy; repeatable.")
@click.option("--small", multiple=True, metavar="MODEL=SMALLER", help="What routing may choose instead; repeatable.")
@click.option("--can-wait", multiple=True, metavar="TAG[=VALUE]", help="Calls that a batch would do for; repeatable.")
@click.option("--ttl-hours", type=click.FloatRange(min=0.01), default=24, show_default=True, help="Of cached answers.")
@click.option("--max-error", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Of the cache.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--html", metavar="PATH", help="Write the audit as a page.")
def audit(logs: tuple[str, ...], **options: Any) -> None:
    """Say what each strategy would have saved of the calls in LOGS. Nothing leaves this machine."""
    from llm_savings.audit import audit as audited
    from llm_savings.audit import read_logs
    from llm_savings.audit.show import advice, audit_page, sentences, spans_table
    from llm_savings.ledger.export import fresh
    from llm_savings.report.strategies import strategies_table

    log = read_logs(list(logs), format=options["kind"], columns=_pairs("--column", options["columns"]) or None)
    console = Console(quiet=options["as_json"])
    columns = (TextColumn("replaying {task.completed:,.0f} calls"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=options["as_json"]), transient=True) as progress:
        task = progress.add_task("", total=None)
        found = audited(log, choices=_choices(options), each=lambda: progress.advance(task))
    if options["html"]:
        fresh(Path(options["html"]))
        Path(options["html"]).write_text(audit_page(found), encoding="utf-8")
    if options["as_json"]:
        print_json(found.document())
        return
    for line in sentences(found):
        console.print(line, markup=False, highlight=False)
    console.print(strategies_table(found.attribution, title="From the list price down to what would have been paid"))
    console.print(spans_table(found))
    for name, langchain, litellm in advice(found):
        console.print(f"→ {name}: {langchain}\n  in LiteLLM: {litellm}", markup=False, highlight=False)
    for one in found.findings:
        cost = f", ${one.usd_per_1000:.4f} per 1,000 calls" if one.usd_per_1000 else ""
        console.print(f"! {one.place}: {one.reason}{cost}. {one.fix}", markup=False, highlight=False)
    written = [f"Written to {options['html']}. It needs no network."] if options["html"] else []
    print_notes(console, [*found.notes, *written])


def _choices(options: dict[str, Any]) -> Any:
    from datetime import timedelta

    from llm_savings.audit import ALL, Choices, tagged_to_wait
    from llm_savings.audit.records import Record

    wanted = [tag.partition("=") for tag in options["can_wait"]]

    def can_wait(record: Record) -> bool:
        return any(name in record.tags and (not equal or record.tags[name] == value) for name, equal, value in wanted)

    return Choices(
        strategies=frozenset(options["only"]) or ALL,
        small_models=_pairs("--small", options["small"]),
        can_wait=can_wait if wanted else tagged_to_wait,
        max_error=options["max_error"],
        ttl=timedelta(hours=options["ttl_hours"]),
    )


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, equal, value = one.partition("=")
        if not equal or not name:
            raise ConfigError(f"{option} is {one!r}; expected NAME=VALUE")
        found[name] = value
    return found
