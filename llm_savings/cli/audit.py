"""`llm-savings audit`."""

from __future__ import annotations

from textwrap import indent
from typing import Any, get_args

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from llm_savings.cli.pages import write_page
from llm_savings.cli.shared import JSON, LANG, SINCE, UNTIL, Console, instant, print_json, print_notes
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy
from llm_savings.ledger import zone


@click.command(epilog="Example: llm-savings audit spend_logs.jsonl.gz --can-wait feature=nightly --html audit.html")
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--format", "kind", help="The logs' format, where it is not seen from them.")
@click.option("--column", "columns", multiple=True, metavar="NAME=HEADER", help="A table's column; repeatable.")
@click.option("--only", multiple=True, type=click.Choice(get_args(Strategy)), help="Only this strategy; repeatable.")
@click.option("--small", multiple=True, metavar="MODEL=SMALLER", help="What routing may choose instead; repeatable.")
@click.option("--can-wait", multiple=True, metavar="TAG[=VALUE]", help="Calls that a batch would do for; repeatable.")
@click.option("--ttl-hours", type=click.FloatRange(min=0.01), default=24, show_default=True, help="Of cached answers.")
@click.option("--max-error", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Of the cache.")
@SINCE
@UNTIL
@click.option("--tz", default="UTC", show_default=True, help="The zone of times that name none, as Asia/Seoul.")
@JSON
@click.option("--html", metavar="PATH", help="Write the audit as a page.")
@LANG
def audit(logs: tuple[str, ...], **options: Any) -> None:
    """Say what each strategy would have saved of the calls in LOGS. Nothing leaves this machine."""
    from llm_savings.audit import audit as audited
    from llm_savings.audit import read_logs
    from llm_savings.audit.show import advice, audit_page, quality, sentences, spans_table, uncached
    from llm_savings.report.strategies import strategies_table
    from llm_savings.report.texts import say

    named, tz = _pairs("--column", options["columns"]), options["tz"]
    since, until = (instant(options[when], tz) for when in ("since", "until"))
    log = read_logs(list(logs), format=options["kind"], columns=named or None, tz=zone(tz))
    console = Console(lang=options["lang"], quiet=options["as_json"])
    columns = (TextColumn("replaying {task.completed:,.0f} calls"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=options["as_json"]), transient=True) as progress:
        task = progress.add_task("", total=None)
        found = audited(log, choices=_choices(options), each=lambda: progress.advance(task), since=since, until=until)
    said = ""
    if options["html"]:
        said = write_page(options["html"], audit_page(found, lang=options["lang"]), lang=options["lang"])
    if options["as_json"]:
        print_json(found.document())
        return
    for line in sentences(found):
        console.print(line)
    console.print(strategies_table(found.attribution, title=say("audit.funnel")))
    console.print(spans_table(found))
    if risks := list(quality(found)):
        console.print(say("audit.quality"), style="italic")
        print_notes(console, risks)
    for name, langchain, litellm in advice(found):
        print_notes(console, [say(f"strategy.{name}")], mark="\n→")
        for host, code in (("LangChain", langchain), ("LiteLLM", litellm)):
            console.print(indent(f"# {host}\n{code}", "  "), markup=False, highlight=False, soft_wrap=True)
    console.print()
    print_notes(console, uncached(found), mark="!")
    print_notes(console, [*found.notes, *filter(None, [said])])


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
