"""`llm-savings`: the commands, and how an error is told without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from llm_savings import __version__
from llm_savings.cli.audit import audit
from llm_savings.cli.batch import batch
from llm_savings.cli.budget import budget
from llm_savings.cli.cache import cache
from llm_savings.cli.check import check
from llm_savings.cli.demo import demo
from llm_savings.cli.lint import lint_command
from llm_savings.cli.prices import prices
from llm_savings.cli.reconcile import reconcile
from llm_savings.cli.report import export, report
from llm_savings.cli.route import route
from llm_savings.cli.sandbox import sandbox
from llm_savings.cli.scenario import scenario
from llm_savings.cli.tokens import token_table
from llm_savings.errors import SavingsError

_WHOLE = "\u2011"  # a hyphen at which no line ends


class _Formatter(click.HelpFormatter):
    """Help whose lines end between words alone, so that an option in an example can be copied."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _WHOLE))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, told.replace("-", _WHOLE)) for name, told in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(_WHOLE, "-")


class _Context(click.Context):
    formatter_class = _Formatter


class _Commands(click.Group):
    """Commands whose own errors end in one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        if change := getattr(sys.stdout, "reconfigure", None):
            change(errors="replace")  # a terminal that has no such sign shows "?"
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            sys.exit(0)  # `llm-savings report | head`
        except (SavingsError, OSError) as error:  # OSError: a file that cannot be written or read
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="llm-savings")
def main() -> None:
    """Know and cut what your LangChain and LiteLLM calls cost."""


_SAVING = (route, cache, lint_command, batch, token_table)
for command in (demo, audit, check, report, budget, *_SAVING, scenario, reconcile, export, prices, sandbox):
    main.add_command(command)


def _told_whole(command: click.Command) -> None:
    command.context_class = _Context
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _told_whole(inner)


_told_whole(main)
