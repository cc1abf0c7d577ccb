"""What several commands take, and how they print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from rich import console

from llm_savings import settings
from llm_savings.errors import ConfigError
from llm_savings.ledger import day_start, last_days, zone
from llm_savings.report.texts import LANGS, Lang, Said

LEDGER = click.option(
    "--ledger",
    metavar="PATH|URL",
    help="The ledger to read: a file or postgresql://. By default LLM_SAVINGS_LEDGER, else the user's own.",
)
SINCE = click.option("--since", metavar="WHEN", help="24h, 7d (today and the six days before), or 2026-11-01.")
UNTIL = click.option("--until", metavar="WHEN", help="As --since; calls before that instant.")
LANG = click.option("--lang", type=click.Choice(LANGS), help="The language; on a page by default the browser's.")
JSON = click.option("--json", "as_json", is_flag=True, help="For machines: exact amounts as decimal text.")


class Console(console.Console):
    """A console that speaks a language, and ends well when nobody reads on: `llm-savings report | head`."""

    def __init__(self, *, lang: Lang | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.lang: Lang = lang or LANGS[0]

    def on_broken_pipe(self) -> None:
        """End, without a word."""
        with suppress(SystemExit):  # as rich ends it, with status 1
            super().on_broken_pipe()
        sys.exit(0)


def print_json(document: Any) -> None:
    """A document for machines."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_notes(console: Console, notes: Iterable[object], *, mark: str = "•") -> None:
    """Sentences below a table; what looks like markup in them is shown, not obeyed."""
    for note in notes:
        said = note.text(console.lang) if isinstance(note, Said) else note
        console.print(f"{mark} {said}", markup=False, highlight=False)


def existing(ledger: str | None) -> str:
    """The ledger to read; reading never makes one at a mistyped path."""
    target = ledger or settings.default_ledger()
    must_exist("--ledger", ledger)
    return target if "://" in target or Path(target).exists() else ":memory:"


def must_exist(name: str, target: str | None) -> None:
    """Refuse a file that was named and is not there.

    Raises:
        ConfigError: There is no such file.
    """
    if target and "://" not in target and not Path(target).exists():
        raise ConfigError(f"{name} {target!r}: there is no such file")


def instant(when: str | None, tz: str) -> datetime | None:
    """The instant that `24h`, `7d` or an ISO date or time means in a zone.

    Raises:
        ConfigError: It is none of these.
    """
    if when is None:
        return None
    if match := re.fullmatch(r"(\d{1,5})([hd])", when.strip()):
        count, now = int(match[1]), datetime.now(UTC)
        return now - timedelta(hours=count) if match[2] == "h" else last_days(count, tz, now)
    try:
        moment = datetime.fromisoformat(when)
        if moment.tzinfo is None:
            moment = day_start(moment.date(), tz) if len(when) == 10 else moment.replace(tzinfo=zone(tz))
        return moment.astimezone(UTC)
    except ConfigError:  # the zone
        raise
    except (ValueError, OverflowError) as error:  # no time, or one before the year 1 or after 9999
        raise ConfigError(f"time {when!r}: expected 24h, 7d, 2026-11-01 or 2026-11-01T09:00+09:00") from error


def imported(named: str) -> Any:
    """What a MODULE:NAME names, found from the current folder too.

    Raises:
        ConfigError: There is no such thing.
    """
    module, _, name = named.partition(":")
    if not (module and name):
        raise ConfigError(f"MODULE:MODEL is {named!r}; expected such as shop.models:Review")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{named} cannot be imported from here: {error}; expected MODULE:MODEL") from error
    return found
