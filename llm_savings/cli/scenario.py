"""`llm-savings scenario`: the what-if calculator."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from llm_savings.audit import Claim, Range, Scenario, article_claims
from llm_savings.cli.shared import JSON, Console, print_json, print_notes
from llm_savings.report import dollars
from llm_savings.report.strategies import strategies_document, strategies_table
from llm_savings.report.tables import plain_table


def _share(name: str, text: str) -> Any:
    return click.option(name, metavar="SHARE", default="0", help=f"{text} From 0 to 1.")


@click.command(
    epilog="Example: llm-savings scenario --requests 100000 --input 1000 --output 1000 --model gpt-4o "
    "--small gpt-4o-mini --routed 0.7 --shortened 0.3 --batched 0.2 --hits 0.4 --overhead 2"
)
@click.option("--requests", type=int, default=100_000, show_default=True, help="In the period that is meant.")
@click.option("--input", "input_tokens", type=int, default=1000, show_default=True, help="Tokens of one request.")
@click.option("--output", "output_tokens", type=int, default=1000, show_default=True, help="Tokens of one answer.")
@click.option("--model", default="gpt-4o", show_default=True, help="What answers everything without routing.")
@click.option("--small", "small_model", metavar="MODEL", help="What routing sends simple requests to.")
@_share("--routed", "Share of the requests that the small model gets.")
@_share("--shortened", "By what share compact output shortens each answer.")
@click.option("--prefix", "prefix_tokens", type=int, default=0, help="Input tokens that many requests begin with.")
@click.option("--prefix-minimum", type=int, default=1024, show_default=True, help="Fewer tokens are not cached.")
@_share("--prefix-hits", "Share that reads the prefix from the provider's cache; the others write it.")
@_share("--batched", "Share that can wait for a batch.")
@_share("--hits", "Share that the semantic cache answers.")
@click.option(
    "--hits-lean", default="0", help="Hits fall on all traffic alike (0), on the small model's (1), or not (-1)."
)
@click.option("--overhead", metavar="USD", default="0", help="Beside the calls, such as embeddings.")
@click.option(
    "--uncertainty", metavar="SHARE", default="0.25", show_default=True, help="How far the shares may be off."
)
@click.option("--article", is_flag=True, help="The figures of the article that this package started from, and ours.")
@JSON
def scenario(uncertainty: str, article: bool, as_json: bool, **given: Any) -> None:
    """What the strategies would save of a traffic that is known in shares."""
    if article:
        _show_article(article_claims(), as_json)
        return
    asked = Scenario(**given)
    found, spread = asked.attribution(), asked.spread(uncertainty=uncertainty)
    if as_json:
        document = strategies_document(found) | {"range": {n: format(getattr(spread, n), "f") for n in _RANGE}}
        print_json(document)
        return
    console = Console()
    console.print(strategies_table(found, title=f"{asked.requests:,} requests, {asked.model}"))
    print_notes(console, _notes(found.saved, found.baseline, spread, uncertainty))


_RANGE = Range.__dataclass_fields__


def _notes(saved: Decimal, baseline: Decimal, spread: Range, uncertainty: str) -> list[str]:
    said = [f"{dollars(saved)} saved, {saved / baseline:.1%} of what it would have cost."] if baseline else []
    return [
        *said,
        f"With every share up to {Decimal(uncertainty):.0%} off: paid {dollars(spread.low)} to {dollars(spread.high)} "
        f"(90% of 400 draws), {dollars(spread.median)} in the middle.",
        "All of it is modelled: it is as good as the shares.",
    ]


def _show_article(claims: list[Claim], as_json: bool) -> None:
    if as_json:
        rows = [{"what": c.what, "said": str(c.said), "found": format(c.found, "f"), "unit": c.unit} for c in claims]
        print_json(rows)
        return
    table = plain_table("", "the article", "really", "why", left=("why",))
    table.columns[-1].no_wrap, table.columns[-1].style = False, "dim"
    for claim in claims:
        table.add_row(claim.what, _shown(claim.said, claim.unit), _shown(claim.found, claim.unit), claim.why)
    Console().print(table)


def _shown(value: Decimal, unit: str) -> str:
    if unit == "USD":
        return dollars(value)
    return f"{value:.1%}" if unit == "share" else f"{value:.1f}x"
