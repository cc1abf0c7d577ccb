"""`llm-savings cache`: what a semantic cache has done, and what it is to forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llm_savings.cli.shared import JSON, Console, imported, instant, must_exist, print_json, print_notes
from llm_savings.errors import ConfigError
from llm_savings.ledger import tenant_hash
from llm_savings.ledger.export import is_sqlite
from llm_savings.report.cache_table import (
    cache_document,
    cache_notes,
    cache_table,
    curve_table,
    errors_table,
    tuning_document,
    tuning_notes,
)
from llm_savings.storage.tables import text_of


@click.group()
def cache() -> None:
    """Look into a semantic cache, and make it forget.

    TARGET is the cache's file, or its postgresql:// or redis:// URL.
    """


_target = click.argument("target")


@cache.command(epilog="Example: llm-savings cache stats cache.db")
@_target
@click.option("--namespace", default="", help="Whose answers; the namespace that the program gave its cache.")
@click.option("--max-error", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="As the program's.")
@JSON
def stats(target: str, namespace: str, max_error: float, as_json: bool) -> None:
    """Hits by tier, misses by reason, what they saved, and how many were wrong."""
    with _opened(target, max_error=max_error) as opened:
        found = opened.stats(namespace)
    if as_json:
        print_json(cache_document(found))
        return
    console = Console()
    if found.lookups:
        console.print(cache_table(found))
    if found.errors:
        console.print(errors_table(found))
    print_notes(console, cache_notes(found))


@cache.command(epilog="Example: llm-savings cache invalidate cache.db --source handbook.pdf")
@_target
@click.option("--tag", help="Answers with this tag.")
@click.option("--source", help="Answers that rest on this document (the tag source:NAME).")
@click.option("--model", help="Answers of this model.")
@click.option("--user", help="Answers to questions that this user asked first.")
@click.option("--namespace", help="Answers of this namespace.")
@click.option("--before", metavar="WHEN", help="Answers older than 24h, 7d, or stored before 2026-11-01.")
@click.option("--all", "everything", is_flag=True, help="All answers.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
def invalidate(target: str, everything: bool, dry_run: bool, **named: str | None) -> None:
    """Remove answers for which everything named holds."""
    from llm_savings.semantic_cache import Which

    given = {name: value for name, value in named.items() if value is not None}
    if not given and not everything:
        raise click.UsageError("name what to remove, or --all")
    if "tag" in given and "source" in given:
        raise click.UsageError("--tag and --source exclude each other")
    which = Which(
        tag=f"source:{given['source']}" if "source" in given else given.get("tag"),
        model=given.get("model"),
        user=tenant_hash(given["user"]) if "user" in given else None,
        namespace=given.get("namespace"),
        before=instant(given.get("before"), "UTC"),
    )
    with _opened(target) as opened:
        count = sum(1 for _ in opened.entries(which)) if dry_run else opened.forget(which)
    click.echo(f"{count:,} answers {'would be ' if dry_run else ''}removed")


@cache.command(epilog="Example: llm-savings cache tune pairs.csv --out tuned.json")
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False))
@click.option("--max-error", type=click.FloatRange(0, 0.5, min_open=True), default=0.01, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the thresholds, for SemanticCache(tuned=FILE).")
@JSON
def tune(pairs: str, max_error: float, out: str | None, as_json: bool) -> None:
    """Fit the cache to your own labelled PAIRS of questions, and show what it would serve of them.

    A CSV file with the columns a, b and same (yes or no). Take pairs as the cache meets them: a question with the
    nearest one asked before it.
    """
    from llm_savings.semantic_cache.match import MatchModel
    from llm_savings.semantic_cache.tuning import read_pairs, tuned_with

    found = tuned_with(MatchModel.load(), read_pairs(pairs), max_error=max_error)
    if out is not None:
        found.save(out)
    if as_json:
        print_json(tuning_document(found))
        return
    console = Console()
    for language, fit in found.fits.items():
        console.print(curve_table(language, fit))
    print_notes(console, tuning_notes(found, out))


@cache.command(epilog="Example: llm-savings cache warm cache.db faq.csv --model shop:model --system-file system.txt")
@_target
@click.argument("faq", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", required=True, metavar="MODULE:NAME", help="The LangChain model, as your program calls it.")
@click.option("--system", help="The system prompt that it is called with.")
@click.option("--system-file", type=click.Path(exists=True, dir_okay=False), help="A file with the system prompt.")
@click.option("--namespace", default="", help="Whose answers; the namespace that the program gives its cache.")
@click.option("--tag", "tags", multiple=True, help="A label for all of them, such as source:faq.csv; may be repeated.")
@click.option("--days", type=click.FloatRange(0, min_open=True), help="How long they are kept; for ever by default.")
def warm(target: str, faq: str, model: str, **given: Any) -> None:
    """Keep the answers of a FAQ file where later calls of a model look, before anybody asks.

    FAQ is a CSV file with the columns question, answer and tags (a;b), or JSON lines with these keys. Where an answer
    is missing the model gives it, which costs as any call does.
    """
    from rich.progress import track

    from llm_savings.langchain import SemanticCache
    from llm_savings.semantic_cache.faq import read_faq

    if given["system"] is not None and given["system_file"] is not None:
        raise click.UsageError("--system and --system-file exclude each other")
    system = given["system"] if given["system_file"] is None else text_of(given["system_file"])
    if target == ":memory:":
        raise ConfigError("TARGET ':memory:' ends with this command; name a file or a server")
    rows, asked, kept = read_faq(faq), imported(model), 0
    opened = SemanticCache(target, namespace=given["namespace"], ttl=given["days"] and given["days"] * 86_400)
    try:
        for row in track(rows, "Warming the cache", console=Console(stderr=True)):
            pair = row.question if row.answer is None else (row.question, row.answer)
            kept += opened.warm([pair], model=asked, system=system, tags=(*given["tags"], *row.tags))
    finally:
        opened.answers.close()
    click.echo(f"{kept:,} of {len(rows):,} answers kept")


def _opened(target: str, **options: Any) -> Any:
    from llm_savings.semantic_cache import AnswerCache, Settings

    must_exist("TARGET", target)
    if "://" not in target and not is_sqlite(Path(target)):  # a program moves its damaged cache aside; this does not
        raise ConfigError(f"TARGET {target!r} is no cache's file")
    return AnswerCache(target, Settings(**options), text_of=str)
