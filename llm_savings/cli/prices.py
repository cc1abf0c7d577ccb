"""`llm-savings prices`."""

from __future__ import annotations

from decimal import Decimal

import click
from rich.text import Text

from llm_savings.cli.shared import Console, print_json
from llm_savings.errors import UnknownModelError
from llm_savings.pricing import PriceBook, update
from llm_savings.report.tables import plain_table
from llm_savings.report.terminal import price_note

# The five of the article that this package's first user started from. The last is anybody's own machine.
_DEFAULT = ("gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet-20241022", "claude-3-haiku-20240307", "llama-3.1-70b")
_SELF_HOSTED = "llama-3.1-70b"
_HEADS = {
    "input": "input",
    "cache_read": "read",
    "cache_write_5m": "write 5m",
    "cache_write_1h": "write 1h",
    "output": "output",
}


@click.command(
    epilog="Example: llm-savings prices gpt-4o claude-sonnet-4-5 --mode batch. "
    "A price of your own: LLM_SAVINGS_PRICES=prices.toml, with lines such as "
    '"llama-3.1-70b" = {input = "0.10", output = "0.10"} (USD per million tokens), '
    '{gpu_hour = "2.50", tokens_per_second = 2400}, or "my-deployment" = "azure/gpt-4o".'
)
@click.argument("models", nargs=-1)
@click.option(
    "--mode", default="standard", show_default=True, type=click.Choice(["standard", "batch", "flex", "priority"])
)
@click.option("--json", "as_json", is_flag=True, help="For machines: USD per token as decimal text.")
@click.option("--update", "fetch", is_flag=True, help="Fetch LiteLLM's newest price map first (uses the network).")
def prices(models: tuple[str, ...], mode: str, as_json: bool, fetch: bool) -> None:
    """What the price book says of MODELS, in USD per million tokens."""
    if fetch:
        click.echo(f"Fetched {update()}", err=as_json)
    book = PriceBook()
    rows = {name: _rates(book, name, mode) for name in models or _DEFAULT}
    if as_json:
        known = {
            name: rates and {key: format(rate, "f") for key, rate in rates.items()} for name, rates in rows.items()
        }
        print_json({"source": book.source, "date": book.date and str(book.date), "mode": mode, "models": known})
    else:
        _show(book, rows, mode)
    missing = [name for name, rates in rows.items() if rates is None and name in models]
    if missing:
        raise UnknownModelError(f"no price for {', '.join(missing)}; see llm-savings prices --help for adding one")


def _rates(book: PriceBook, model: str, mode: str) -> dict[str, Decimal] | None:
    try:
        return book.rates(model, mode=mode)
    except UnknownModelError:
        return None


def _show(book: PriceBook, rows: dict[str, dict[str, Decimal] | None], mode: str) -> None:
    title = f"USD per million tokens, {mode} (read, write: the provider's prompt cache)"
    table = plain_table("model", *_HEADS.values(), title=title)
    table.columns[0].min_width = 20
    for name, rates in rows.items():
        cells = [_cell(rates.get(bucket) if rates else None) for bucket in _HEADS]
        table.add_row(Text(name), *cells)
    console = Console()
    console.print(table)
    if _SELF_HOSTED in rows and rows[_SELF_HOSTED] is None:
        console.print(f"{_SELF_HOSTED} on your own machines costs what they cost: register it (see --help).")
    console.print(price_note(book))


def _cell(rate: Decimal | None) -> str:
    if rate is None:
        return "–"
    text = format((rate * 1_000_000).normalize(), "f")
    return text if len(text.partition(".")[2]) >= 2 else f"{Decimal(text):.2f}"
