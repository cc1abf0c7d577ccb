"""One self-contained page: its blocks, and how they become a file that needs no network, framework or font.

Whatever comes from outside is text: every block escapes what it is given, and only blocks make `Markup`. A sentence of
the catalogue (`Said`) keeps its name in the page, so that the reader may change the language there. The page's policy
lets nothing be loaded and nothing be run but its own script and style, which are named by their hashes.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import sha256
from html import escape, unescape
from importlib import resources
from typing import NewType

from llm_savings import __version__
from llm_savings.report.money import amount, tokens
from llm_savings.report.texts import LANGS, Lang, Said, catalogue, say

Markup = NewType("Markup", str)
"""HTML that is safe to put into a page."""


@dataclass(frozen=True, slots=True)
class Number:
    """A figure in a table.

    Attributes:
        shown: As it is read.
        value: What it is sorted by; None comes last.
        tone: "good", "bad" or "" for its colour.
    """

    shown: str | Said
    value: Decimal | int | None = None
    tone: str = ""


Words = str | Said
Cell = str | Said | Number

ROWS = 50
"""So many rows a table shows at most, unless told otherwise; a page stays small and can be read."""


def usd(sum_: Decimal | None, *, tone: bool = False) -> Number:
    """An amount as a cell; with a tone, red where it is negative and green where it is positive."""
    colour = "" if not tone or not sum_ else "good" if sum_ > 0 else "bad"
    return Number(amount(sum_), sum_, colour)


def count(number: int) -> Number:
    """A count as a cell."""
    return Number(tokens(number), number)


def share(part: Decimal | int, whole: Decimal | int) -> Number:
    """A part of a whole in percent as a cell; empty where there is no whole."""
    return Number(f"{Decimal(part) / Decimal(whole):.1%}", Decimal(part) / Decimal(whole)) if whole > 0 else Number("–")


def words(said: Words) -> Markup:
    """Text, escaped; a sentence of the catalogue keeps its name.

    Example:
        >>> words("<b>"), words(say("column.spent"))
        ('&lt;b&gt;', '<span data-t="column.spent">spent</span>')
    """
    return Markup(escape(said)) if isinstance(said, str) else element("span", said)


def element(tag: str, said: Words, attributes: str = "") -> Markup:
    """One element with text in it. `attributes` is written as it is: never what comes from outside."""
    space = f" {attributes}" if attributes else ""
    if isinstance(said, str):
        return Markup(f"<{tag}{space}>{escape(said)}</{tag}>")
    args = f' data-a="{escape(json.dumps(said.data()[1:], ensure_ascii=False))}"' if said.args else ""
    return Markup(f'<{tag}{space} data-t="{said.key}"{args}>{escape(said.text())}</{tag}>')


def joined(blocks: Iterable[Markup]) -> Markup:
    """Blocks one after another."""
    return Markup("".join(blocks))


def section(title: Words, *blocks: Markup, name: str, lead: Words = "") -> Markup:
    """A part of the page with a heading.

    Args:
        title: The heading.
        blocks: What is in it.
        name: Its id in the page: letters and dashes, from code.
        lead: A sentence below the heading.
    """
    said = element("p", lead, 'class="lead"') if lead else ""
    head = element("h2", title, f'id="{name}"')
    return Markup(f'<section aria-labelledby="{name}">{head}{said}{"".join(blocks)}</section>')


def headline(said: Words, *more: Words) -> Markup:
    """The one sentence that the page is about, and smaller ones below it."""
    rest = "".join(element("p", line) for line in more)
    return Markup(f'<div class="headline">{element("p", said, "class=big")}{rest}</div>')


def cards(items: Iterable[tuple[Words, Words, Words]]) -> Markup:
    """Figures side by side: what it is, how much, and what more there is to say."""
    one = (
        f"<div>{element('dt', label)}<dd>{element('strong', value)}{element('small', more)}</dd></div>"
        for label, value, more in items
    )
    return Markup(f'<dl class="cards">{"".join(one)}</dl>')


def bullets(items: Iterable[Words]) -> Markup:
    """A list of sentences; nothing where there are none."""
    said = "".join(element("li", item) for item in items)
    return Markup(f"<ul>{said}</ul>" if said else "")


def code(text: str) -> Markup:
    """Code or a command, as it is."""
    return Markup(f'<pre tabindex="0"><code>{escape(text)}</code></pre>')


def folded(summary: Words, *blocks: Markup, name: str) -> Markup:
    """Blocks behind a line that opens them."""
    return Markup(f'<details id="{name}">{element("summary", summary)}{"".join(blocks)}</details>')


def table(
    heads: Sequence[Words],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: Words,
    name: str,
    foot: Sequence[Sequence[Cell]] = (),
    plain: bool = False,
) -> Markup:
    """A table that readers sort by its heads. The first cell of each row names the row.

    Args:
        heads: The columns' names.
        rows: Cells: text, sentences, or figures (`usd`, `count`, `share`), which stand to the right.
        caption: What it shows, for who hears the page; who sees it has the section's heading and lead.
        name: Its id in the page: letters and dashes, from code.
        foot: Last rows that stay last.
        plain: Whether its order is what it says, and it is not to be sorted.
    """
    body = [list(row) for row in rows]
    if not body:
        return element("p", say("page.nothing"), 'class="lead"')
    right = [any(isinstance(row[n], Number) for row in body) for n in range(len(heads))]
    head = "".join(
        element("th", said, 'scope="col" class="n"' if right[n] else 'scope="col"') for n, said in enumerate(heads)
    )
    lines = "".join(f"<tr>{_cells(row)}</tr>" for row in body)
    last = "".join(f"<tr>{_cells(row)}</tr>" for row in foot)
    sort = "" if plain else ' class="sorts"'
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-of"><table id="{name}"{sort}>'
        f"{element('caption', caption, f'id={name}-of')}"
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody><tfoot>{last}</tfoot></table></div>"
    )


def _cells(row: Sequence[Cell]) -> str:
    first, *others = row
    return _cell("th", first, ' scope="row"') + "".join(_cell("td", cell) for cell in others)


def _cell(tag: str, cell: Cell, attributes: str = "") -> str:
    if isinstance(cell, Number):
        value = "" if cell.value is None else f' data-v="{cell.value:f}"'
        tone = f" {cell.tone}" if cell.tone else ""
        return f'<{tag}{attributes} class="n{tone}"{value}>{words(cell.shown)}</{tag}>'
    # A name from outside may be written from right to left; it must not turn its neighbours around.
    said = f"<bdi>{escape(cell)}</bdi>" if isinstance(cell, str) else words(cell)
    return f"<{tag}{attributes}>{said}</{tag}>"


def page(
    title: Words,
    *blocks: Markup,
    lang: Lang | None = None,
    live: int | None = None,
    at: datetime | None = None,
) -> str:
    """The whole page, as a file or an answer.

    Args:
        title: Its title and first heading.
        blocks: Its parts, from the functions above and `charts`.
        lang: The language it opens in; None for the browser's.
        live: Seconds after which it asks its server for newer figures; None for a file.
        at: When it is made (aware); now by default.

    Example:
        >>> made = page("<Costs>", section("Today", bullets(["$1"]), name="today"), lang="ko")
        >>> "<Costs>" in made, "본문으로" in made, "http" in made
        (False, True, True)
    """
    style, script = _data("page.css"), _data("page.js")
    policy = _POLICY.format(style=_hash(style), script=_hash(script), connect="'self'" if live else "'none'")
    moment = (at or datetime.now(UTC)).astimezone()
    made = element("p", say("page.made", f"{moment:%Y-%m-%d %H:%M:%S %Z}", __version__))
    skip = element("a", say("page.skip"), 'class="skip" href="#main"')
    head = element("title", title)
    body = (
        f'{skip}<header><p class="brand">llm-savings</p>{element("h1", title)}<div class="switches" hidden>'
        '<button type="button" id="lang"></button><button type="button" id="theme"></button></div></header>'
        f'<p id="status" role="status"></p><main id="main" tabindex="-1">{"".join(blocks)}</main>'
        f"<footer>{made}</footer>"
    )
    html = (
        f'<!doctype html><html lang="{lang or LANGS[0]}" data-lang="{lang or ""}" data-live="{live or ""}"><head>'
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">'
        f"{_in(head, lang or LANGS[0])}<style>{style}</style></head><body>{_in(body, lang or LANGS[0])}"
        f'<script type="application/json" id="sentences">{_sentences(body)}</script>'
        f"<script>{script}</script></body></html>"
    )
    # Half of a surrogate pair, or a NUL, is in no file.
    return html.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_POLICY = (
    "default-src 'none'; style-src {style}; script-src {script}; connect-src {connect}; base-uri 'none'; "
    "form-action 'none'"
)


def _sentences(body: str) -> str:
    """The sentences of a page in all languages, for its script; no markup begins or ends in it."""
    names = {"page.light", "page.dark", "page.away", *re.findall(r'data-t="([^"]+)"', body)}
    for args in re.findall(r'data-a="([^"]*)"', body):
        names.update(_names(json.loads(unescape(args))))
    found = {name: catalogue()[name] for name in sorted(names)}
    return json.dumps(found, ensure_ascii=False).replace("<", r"\u003c")


def _in(body: str, lang: Lang) -> str:
    """The sentences of a page in a language: each stands in an element of its own that says its name."""
    if lang == LANGS[0]:
        return body

    def put(found: re.Match[str]) -> str:
        args = json.loads(unescape(found[3] or "[]"))
        return f"{found[1]}{escape(_said([found[2], *args]).text(lang))}<"

    return re.sub(r'(data-t="([^"]+)"(?: data-a="([^"]*)")?>)[^<]*<', put, body)


def _said(data: list[str | list[str]]) -> Said:
    key, *args = data
    return Said(str(key), tuple(arg if isinstance(arg, str) else _said(list(arg)) for arg in args))


def _names(args: list[str | list[str]]) -> Iterable[str]:
    for arg in args:
        if not isinstance(arg, str):
            yield arg[0]
            yield from _names(list(arg[1:]))


@cache
def _data(name: str) -> str:
    return resources.files("llm_savings").joinpath("data", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
