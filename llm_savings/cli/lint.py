"""`llm-savings lint`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.padding import Padding
from rich.text import Text

from llm_savings.cli.shared import Console, print_json
from llm_savings.errors import LogFormatError
from llm_savings.prompt_cache import Finding, lint
from llm_savings.storage.tables import text_of, values_of


@click.command(
    "lint",
    epilog="Example: llm-savings lint requests.jsonl --model claude-sonnet-4-5. "
    "FILE holds a request (model, messages, tools, ...), a list of messages, or a log: one request a line "
    "(JSONL) or a JSON list. `-` reads standard input. The exit status is 1 when something was found, 2 when FILE "
    "is no such thing.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", help="The model, where a request does not say.")
@click.option("--provider", help="Its provider, where the model's name does not tell.")
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of findings, amounts as decimal text.")
def lint_command(file: str, model: str | None, provider: str | None, as_json: bool) -> None:
    """Say what keeps the prompts in FILE from being cached, what it costs, and what to do.

    Nothing is rewritten, and no text of a prompt is shown.
    """
    text = sys.stdin.read() if file == "-" else text_of(file)
    try:
        found = lint(_requests(text), model=model, provider=provider)
    except LogFormatError as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    if as_json:
        document = [asdict(finding) | {"usd_per_1000": _amount(finding)} for finding in found]
        print_json(document)
    else:
        _show(found)
    if found:
        sys.exit(1)


def _requests(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [row for _, row in values_of(text)]


def _show(found: list[Finding]) -> None:
    console = Console()
    if not found:
        console.print("Nothing found: the beginnings of these prompts can be cached.")
        return
    for finding in found:
        amount = _amount(finding)
        many = "1 request" if finding.count == 1 else f"{finding.count} requests, the first"
        where = f"{finding.place or 'the whole prompt'}, {many} ({finding.request})"
        cost = "a cost that is not known" if amount is None else f"${amount} per 1,000 calls"
        console.print(Text.assemble((finding.kind, "bold"), f"  {where}, {cost}"))
        console.print(Padding(Text(finding.reason), (0, 0, 0, 2)))
        console.print(Padding(Text(f"→ {finding.fix}"), (0, 0, 1, 2)))


def _amount(finding: Finding) -> str | None:
    return None if finding.usd_per_1000 is None else format(finding.usd_per_1000, "f")
