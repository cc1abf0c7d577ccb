"""`llm-savings demo`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_savings.attribution import attribute
from llm_savings.cli.pages import write_page
from llm_savings.cli.shared import Console, print_json, print_notes
from llm_savings.errors import ConfigError, SavingsError
from llm_savings.evidence import Strategy
from llm_savings.ledger import Ledger, total
from llm_savings.report import calls_table, dollars, notes
from llm_savings.report.dashboard import report_page
from llm_savings.report.overview import overview
from llm_savings.report.strategies import strategies_notes, strategies_table

if TYPE_CHECKING:
    from llm_savings.demo.drive import Target
    from llm_savings.demo.workload import Workload

_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@click.command(
    epilog="Example: llm-savings demo --strategy semantic_cache --strategy routing, "
    "or with a key: llm-savings demo --provider openai --model gpt-4o-mini"
)
@click.option("--workload", type=click.Path(exists=True, dir_okay=False), help="Your own requests, as JSON lines.")
@click.option("--strategy", "only", multiple=True, type=click.Choice(get_args(Strategy)), help="Only this; repeatable.")
@click.option("--ledger", metavar="PATH", help="Keep the demo's ledger in this file; by default it is thrown away.")
@click.option("--log", metavar="PATH", help="Write the run without savings as a log for llm-savings audit.")
@click.option("--html", metavar="PATH", help="Write the report as a page.")
@click.option("--json", "as_json", is_flag=True, help="The outcome for machines.")
@click.option("--provider", default="sandbox", show_default=True, type=click.Choice(["sandbox", *_KEYS]))
@click.option("--model", help="With a real provider: the model to use.")
@click.option("--yes", is_flag=True, help="With a real provider: do not ask before spending.")
def demo(workload: str | None, only: tuple[Strategy, ...], ledger: str | None, provider: str, **options: Any) -> None:
    """Run a shop's workload through LangChain and LiteLLM, before and after, and compare with the provider's bill."""
    from llm_savings.demo.workload import load

    if provider != "sandbox":
        for_sandbox = {"--strategy": only, **{f"--{name}": options[name] for name in ("log", "html")}}
        for_sandbox["--json"] = options["as_json"]
        if wrong := [name for name, given in for_sandbox.items() if given]:
            raise click.UsageError(f"{wrong[0]} goes with the local provider only, not with --provider {provider}")
    work = load(workload)
    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(ledger or Path(folder, "demo.db"))
        if any(True for _ in book.calls()):
            raise ConfigError(f"--ledger {book.target!r} has calls in it; the demo needs a new file")
        if provider == "sandbox":
            fine = _against_sandbox(work, book, frozenset(only or get_args(Strategy)), options)
        else:
            _for_real(work, book, provider, options["model"], options["yes"])
            fine = True
        book.close()
    if not fine:
        sys.exit(1)


def _against_sandbox(work: Workload, book: Ledger, on: frozenset[Strategy], options: dict[str, Any]) -> bool:
    from llm_savings.demo.check import check, kept, spared_seconds
    from llm_savings.demo.drive import Target
    from llm_savings.demo.log import write_log
    from llm_savings.demo.show import before_after, checks_table, compare, outcome, verdict
    from llm_savings.demo.workload import write_knowledge
    from llm_savings.sandbox import Sandbox

    console = Console(quiet=options["as_json"])
    console.print(
        f"Workload {work.name!r}: {len(work.requests)} requests, sent twice to a local provider.",
        markup=False,
        highlight=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        knowledge = Path(folder, "knowledge.jsonl")
        write_knowledge(knowledge, work)
        box = Sandbox.spawn(knowledge=knowledge)
    with box:
        target = Target(openai_url=box.openai_url, anthropic_url=box.anthropic_url, pass_time=box.advance)
        fresh = _run("as it is today", work, target, None, on, console)
        before = box.bill()
        if options["log"]:
            write_log(options["log"], work, fresh, before)
        box.reset()
        answers = _run("with llm-savings", work, target, book, on, console)
        after = box.bill()
    groups, found = check(fresh, answers, book.calls()), attribute(book.calls())
    whole, agreement = total(book.summary("model")), compare(book, after)
    page = options["html"] and report_page(overview(book), f"demo, {work.name}")
    written = page and write_page(options["html"], page, lang=None)
    if options["as_json"]:
        print_json(outcome(before, found, groups, agreement))
        return agreement.exact
    console.print(before_after(before, after))
    console.print(strategies_table(found, title="The ledger: who saved what"))
    console.print(calls_table(book.summary("tag:feature"), by="tag:feature", title="The ledger, by feature"))
    console.print(checks_table(groups))
    print_notes(console, (*strategies_notes(found), *notes(whole)))
    console.print(f"• Hits spare {spared_seconds(book.calls()):.0f} s of waiting (modelled).", highlight=False)
    hard, dear = kept(book.calls())
    if hard and found.actual:
        console.print(
            f"• What limits it: {dear / found.actual:.0%} of what is paid is for {hard} calls that routing leaves with "
            "the stronger model, not sure that a smaller one would do.",
            highlight=False,
        )
    if before.total > found.actual:
        console.print(
            f"• The provider's bill: {dollars(before.total)} before, {dollars(after.total)} after, "
            f"{1 - after.total / before.total:.1%} less. (What it caches by itself, it did before as well.)",
            highlight=False,
        )
    if written:
        click.echo(written)
    console.print(verdict(agreement, whole), style="bold green" if agreement.exact else "bold red", highlight=False)
    return agreement.exact


def _for_real(work: Workload, book: Ledger, provider: str, model: str | None, yes: bool) -> None:
    from llm_savings.demo.drive import Target

    if not os.environ.get(_KEYS[provider]):
        raise ConfigError(f"--provider {provider} needs a key; set {_KEYS[provider]}")
    if not model:
        raise ConfigError(f"--provider {provider} needs --model, such as --model gpt-4o-mini")
    if not yes:
        click.confirm(
            f"Send {len(work.requests)} requests to {provider} ({_at_most(work, provider, model)})?", abort=True
        )
    openai, anthropic = (model, None) if provider == "openai" else (None, model)
    target = Target(openai_model=openai, anthropic_model=anthropic)
    try:
        _run(f"{provider}, metered", work, target, book, frozenset(), Console())
    except SavingsError:
        raise
    except Exception as error:  # a wrong key, no network, an unknown model: each package has its own classes for them
        spent = dollars(total(book.summary("total")).actual)
        raise click.ClickException(f"{provider} gave no answer: {_reason(error)} (spent so far: {spent})") from error
    console = Console()
    models = book.summary("model")
    console.print(calls_table(models, by="model", title="The ledger, by model"))
    print_notes(console, notes(total(models)))


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    body: object = getattr(error, "body", None)
    told = cast("dict[str, object]", body).get("message") if isinstance(body, dict) else None
    return f"{type(error).__name__}: {' '.join(str(told or error).split())[:300]}"


def _at_most(work: Workload, provider: str, model: str) -> str:
    from llm_savings.bounds import Size, upper_bound
    from llm_savings.pricing import PriceBook
    from llm_savings.tokens import MESSAGE_OVERHEAD
    from llm_savings.tokens import upper_bound as token_bound

    prices = PriceBook()
    sizes = [
        Size(token_bound([request.system, request.prompt]) + 3 * MESSAGE_OVERHEAD, request.max_tokens)
        for request in work.requests
    ]
    bounds = [upper_bound(prices, model, size, provider=provider) for size in sizes]
    known = [bound for bound in bounds if bound is not None]
    return f"at most {dollars(sum(known, start=known[0] * 0))}" if len(known) == len(bounds) else "cost unknown"


def _run(
    title: str, work: Workload, target: Target, book: Ledger | None, on: frozenset[Strategy], console: Console
) -> dict[str, str]:
    """Send the workload and show how far it is; the answers by request."""
    from llm_savings.demo.drive import Driver

    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=len(work.requests))
        driver = Driver(target, book, on)
        driver.run(work, lambda done: progress.advance(task, done))
    return driver.answers
