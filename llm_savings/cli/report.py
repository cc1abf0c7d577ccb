"""`llm-savings report` and `llm-savings export`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, get_args

import click

from llm_savings import settings
from llm_savings.attribution import Attribution, View, attribute
from llm_savings.cli.pages import serve_page, write_page, write_rows
from llm_savings.cli.shared import JSON, LANG, LEDGER, SINCE, UNTIL, Console, existing, instant, print_json, print_notes
from llm_savings.errors import SavingsError
from llm_savings.foreseen import Foreseen, foresee
from llm_savings.ledger import Ledger, Line, masked, total
from llm_savings.ledger import export as export_calls
from llm_savings.pricing import PriceBook
from llm_savings.report import budget_document, budget_notes, budget_states, calls_table, notes
from llm_savings.report.dashboard import report_page
from llm_savings.report.overview import findings, overview, period_lines, read
from llm_savings.report.prefixes import PrefixLine, by_prefix, prefixes_document, prefixes_notes, prefixes_table
from llm_savings.report.strategies import (
    shadow_document,
    shadow_notes,
    shadow_table,
    strategies_document,
    strategies_notes,
    strategies_table,
)
from llm_savings.report.terminal import periods_table, price_note
from llm_savings.report.texts import Lang, Said, say

_TZ = click.option("--tz", default="UTC", show_default=True, help="The zone whose days are meant, as Asia/Seoul.")

_AT_ONCE = 1_000  # calls that are told of at once
_MANY = 20_000  # calls that the plain report reads one by one; sums are quick at any size


@click.command(epilog="Example: llm-savings report --by tag:feature --since 7d --tz Asia/Seoul")
@LEDGER
@click.option(
    "--by", default="model", show_default=True, help="model, day, user, host, total, tag:NAME, strategy, prefix."
)
@click.option(
    "--view",
    default="waterfall",
    show_default=True,
    type=click.Choice(get_args(View)),
    help="With --by strategy: how a dollar that two strategies save is shared out.",
)
@SINCE
@UNTIL
@_TZ
@JSON
@click.option(
    "--csv", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True), help="Write the rows as CSV; - for here."
)
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page that needs no network.")
@click.option("--serve", is_flag=True, help="Serve the page, live, to the browser on this machine.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="With --serve: the port; any by default.")
@LANG
def report(
    ledger: str | None, by: str, view: View, since: str | None, until: str | None, tz: str, as_json: bool, **to: Any
) -> None:
    """What the calls in a ledger cost, and what is not known of them."""

    def days() -> dict[str, Any]:
        return {"tz": tz, "since": instant(since, tz), "until": instant(until, tz)}

    start, end = instant(since, tz), instant(until, tz)
    if as_json and to["csv"] == "-":
        raise click.UsageError("--json and --csv - both write to the same place; give --csv a file")
    book = Ledger(existing(ledger))
    where = masked(ledger or settings.default_ledger())
    if to["serve"]:
        serve_page(to["port"], book, where, lang=to["lang"], period=days)
        return
    if to["html"]:
        html = report_page(overview(book, **days()), where, lang=to["lang"])
        click.echo(write_page(to["html"], html, lang=to["lang"]), err=as_json)
    if to["csv"] and (said := write_rows(to["csv"], _rows(book, by, view, start, end, tz))):
        click.echo(said, err=as_json)
    if (to["html"] or to["csv"]) and not as_json:
        return
    if by == "strategy":
        found, would, prices = Attribution(), Foreseen(), PriceBook()
        calls = iter(book.calls(since=start, until=end))
        while some := list(islice(calls, _AT_ONCE)):
            found, would = found + attribute(some, prices, view=view), would + foresee(some, prices)
        _strategies(found, would, view, as_json, to["lang"])
        return
    if by == "prefix":
        _prefixes(by_prefix(book.calls(since=start, until=end)), as_json, to["lang"])
        return
    lines = book.summary(by, since=start, until=end, tz=tz)
    whole, periods, prices = total(lines), period_lines(book, tz, datetime.now(UTC)), PriceBook()
    found = _findings(book, whole, start, end, prices) if by == "model" else []
    if as_json:
        document = _document(ledger, by, tz, start, end, lines) | _budgets(book)
        document["periods"] = {name: _line(line) for name, line in periods.items()}
        document["findings"] = [said.text(to["lang"] or "en") for said in found]
        date = prices.date and str(prices.date)
        document["prices"] = {"source": prices.source, "date": date, "stale": prices.stale}
        print_json(document)
        return
    console = Console(lang=to["lang"])
    if not lines:
        console.print(say("report.empty_period" if since or until else "report.empty_in", where))
        console.print(say("report.empty_more"))
        return
    console.print(periods_table(periods))
    console.print(calls_table(lines, by=by, title=f"{where} · {tz}", width=console.width))
    if any(said.key == "finding.hits" for said in found):
        whole = replace(whole, hits=0)  # the finding says more of them
    print_notes(console, [*notes(whole), *_budget_notes(book), *found, price_note(prices)])


def _findings(
    book: Ledger, whole: Line, since: datetime | None, until: datetime | None, prices: PriceBook
) -> list[Said]:
    if whole.calls > _MANY:
        return [say("finding.too_many", _MANY)]
    return findings(read(book.calls(since=since, until=until), UTC, prices), whole, prices)


def _rows(
    book: Ledger, by: str, view: View, since: datetime | None, until: datetime | None, tz: str
) -> list[dict[str, Any]]:
    if by == "prefix":
        return prefixes_document(by_prefix(book.calls(since=since, until=until)))
    if by == "strategy":
        found = strategies_document(attribute(book.calls(since=since, until=until), view=view), view=view)
        steps = {"baseline": found["baseline"], **found["credits"], "overhead": found["overhead"]}
        return [{"step": name, "usd": amount} for name, amount in {**steps, "actual": found["actual"]}.items()]
    return [_line(line) for line in book.summary(by, since=since, until=until, tz=tz)]


def _strategies(found: Attribution, would: Foreseen, view: View, as_json: bool, lang: Lang | None) -> None:
    of_shadow = shadow_notes(would)
    if as_json:
        document = strategies_document(found, view=view)
        print_json(document | ({"shadow": shadow_document(would)} if of_shadow else {}))
        return
    console = Console(lang=lang)
    console.print(strategies_table(found, view=view))
    if of_shadow:
        console.print(shadow_table(would))
    print_notes(console, [*strategies_notes(found, view=view), *of_shadow, price_note(PriceBook())])


def _prefixes(found: list[PrefixLine], as_json: bool, lang: Lang | None) -> None:
    if as_json:
        print_json(prefixes_document(found))
        return
    console = Console(lang=lang)
    console.print(prefixes_table(found))
    print_notes(console, [*prefixes_notes(found), price_note(PriceBook())])


@click.command(epilog="Example: llm-savings export calls.csv --since 2026-11-01 --tz Asia/Seoul")
@click.argument("path", type=click.Path(dir_okay=False))
@LEDGER
@SINCE
@UNTIL
@_TZ
def export(path: str, ledger: str | None, since: str | None, until: str | None, tz: str) -> None:
    """Write the ledger's calls to PATH: .csv, .jsonl or .parquet, by its ending."""
    book = Ledger(existing(ledger))
    count = export_calls(book.calls(since=instant(since, tz), until=instant(until, tz)), path)
    click.echo(f"{count:,} calls written to {path}")


def _budget_notes(book: Ledger) -> list[Said]:
    try:
        return budget_notes(budget_states(book))
    except SavingsError as error:  # a counter or plan that makes no sense: the calls are known all the same
        return [say("report.budgets_trouble", str(error))]


def _budgets(book: Ledger) -> dict[str, Any]:
    try:
        return {"budgets": [budget_document(state) for state in budget_states(book)]}
    except SavingsError as error:
        return {"budgets": None, "budgets_error": str(error)}


def _document(
    ledger: str | None, by: str, tz: str, since: datetime | None, until: datetime | None, lines: list[Line]
) -> dict[str, Any]:
    return {
        "ledger": masked(ledger or settings.default_ledger()),
        "by": by,
        "tz": tz,
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "currency": "USD",
        "lines": [_line(line) for line in lines],
        "total": _line(total(lines)),
    }


def _line(line: Line) -> dict[str, Any]:
    """A line for machines; amounts that nobody knows are null, not 0."""

    def amount(usd: Decimal, known: bool) -> str | None:
        return format(usd, "f") if known else None

    return {
        "key": line.key,
        "calls": line.calls,
        "hits": line.hits,
        "errors": line.errors,
        "estimated": line.estimated,
        "unknown": line.unknown,
        "unbounded": line.unbounded,
        "unpriced": line.unpriced,
        "unvalued": line.unvalued,
        "tokens": line.usage.as_dict(),
        "spent": amount(line.actual, line.known),
        "estimated_usd": format(line.estimated_usd, "f"),
        "baseline": amount(line.baseline, line.valued),
        "saved": amount(line.saved, line.valued),
        "unknown_bound": format(line.unknown_bound, "f"),
    }
