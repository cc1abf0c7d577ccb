"""The report as a file or a live page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import click

from llm_savings.errors import ConfigError
from llm_savings.ledger import Ledger
from llm_savings.ledger.export import fresh, write_csv
from llm_savings.report.dashboard import report_page, trouble_page
from llm_savings.report.overview import overview
from llm_savings.report.serve import LivePage
from llm_savings.report.texts import LANGS, Lang, say

_SECONDS = 10


def write_page(path: str, html: str, *, lang: Lang | None) -> str:
    """Write a page to a file that its owner alone may read, and say so."""
    fresh(Path(path))
    Path(path).write_text(html, encoding="utf-8")
    return say("page.written", path, f"{len(html.encode()) / 1000:,.0f}").text(lang or LANGS[0])


def serve_page(
    port: int, book: Ledger, where: str, *, lang: Lang | None, period: Callable[[], Mapping[str, Any]]
) -> None:
    """Serve the page on this machine until Ctrl-C; what `period` says is asked for each page anew."""

    def make() -> str:
        return report_page(overview(book, **period()), where, lang=lang, live=_SECONDS)

    try:
        server = LivePage(make, partial(trouble_page, lang=lang, live=_SECONDS), port=port)
    except OSError as error:
        raise ConfigError(f"--port {port}: {error.strerror}; name another one, or 0 for any that is free") from error
    with server, suppress(KeyboardInterrupt):
        click.echo(f"{server.url}\nOnly this machine can open it, and only with this address. Ctrl-C ends it.")
        server.serve_forever()
    click.echo("Ended.")


def write_rows(path: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV to a file that its owner alone may read, and say so; what is nested gets a column a name."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    if path == "-":
        write_csv(sys.stdout, columns, flat)
        return ""
    fresh(Path(path))
    with Path(path).open("w", encoding="utf-8-sig", newline="") as file:  # Excel reads Korean by its byte order mark
        count = write_csv(file, columns, flat)
    return f"{count:,} rows written to {path}"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}_{key}": part for key, part in cast("dict[str, Any]", value).items()}
        else:
            found[name] = value
    return found
