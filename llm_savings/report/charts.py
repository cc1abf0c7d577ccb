"""Charts of a page: plain SVG, as wide as the screen, each with words for who cannot see it.

Widths are percentages and heights pixels, so that bars stretch and letters do not. A chart says in its `title` and
`desc` what it shows, and its figures stand in a table below it as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from llm_savings.attribution import LADDER, Attribution
from llm_savings.evidence import Strategy
from llm_savings.pricing.amounts import WIDE
from llm_savings.report.budgets import Standing
from llm_savings.report.money import dollars
from llm_savings.report.page import Markup, Words, element, folded, joined, share, table, usd, words
from llm_savings.report.strategies import steps
from llm_savings.report.texts import say

_ZERO = Decimal(0)
_ROW, _BAR = 46, 14  # pixels
_HIGH, _BELOW = 200, 22
_MOST = Decimal(100)
_ROUND = ("1", "1.2", "1.6", "2", "2.4", "3", "4", "5", "6", "8")


def waterfall(found: Attribution, *, name: str) -> Markup:
    """The way from the baseline down to the bill: a bar for each strategy, and a table of the same.

    Args:
        found: What `attribute` or a scenario gives.
        name: The chart's id in the page: letters and dashes, from code.
    """
    told = steps(found)
    scale = max(max(low, high) for _, low, high, _ in told)
    drawn: list[str] = []
    for number, (step, start, end, added) in enumerate(told):
        low, high = (_part(min(max(edge, _ZERO), scale), scale) for edge in sorted((start, end)))
        style = {"baseline": "track", "paid": "paid"}.get(step, "bad" if added > 0 else "accent")
        top = number * _ROW
        part = f" ({share(added, found.baseline).shown})" if step != "baseline" and found.baseline > 0 else ""
        label = element("text", say(f"strategy.{step}"), f'x="0" y="{top + 14}"')
        amount = element("text", dollars(added) + part, f'x="100%" y="{top + 14}" text-anchor="end"')
        drawn.append(
            f'<g class="bar">{label}{amount}'
            f'<rect x="{low}%" y="{top + 21}" width="{_wide(low, high)}%" height="{_BAR}" rx="2" class="{style}"/></g>'
        )
    what = say("chart.waterfall", dollars(found.baseline), dollars(found.actual))
    rows = [(say(f"strategy.{step}"), usd(added), share(added, found.baseline)) for step, _, _, added in told]
    heads = (say("column.strategy"), say("column.usd"), say("column.share"))
    return _figure(
        drawn, what, len(told) * _ROW, table(heads, rows, caption=what, name=f"{name}-table", plain=True), name=name
    )


def day_stack(days: Mapping[str, Attribution], *, name: str) -> Markup:
    """A bar for each day: what was paid, and above it what each strategy took off; and a table of the same.

    Args:
        days: By ISO date, in order.
        name: The chart's id in the page: letters and dashes, from code.
    """
    if not days:
        return element("p", say("page.nothing"), 'class="lead"')
    used: list[Strategy] = [one for one in LADDER if any(day.credits.get(one) for day in days.values())]
    stacks: dict[str, list[tuple[str, Decimal]]] = {}
    for date, day in days.items():
        taken = ((strategy, max(day.credits.get(strategy, _ZERO), _ZERO)) for strategy in used)
        stacks[date] = [("paid", day.actual), *taken]
    top = _ceiling(max(sum((amount for _, amount in stack), _ZERO) for stack in stacks.values()))
    drawn: list[str] = []
    for part in (0, 1, 2):
        line = _HIGH - part * _HIGH // 2 + 18
        drawn.append(f'<line x1="0" x2="100%" y1="{line}" y2="{line}" class="rule"/>')
        if part:
            at = f'x="-8" y="{line + 4}" class="soft" text-anchor="end"'
            drawn.append(element("text", dollars(top * part / 2), at))
    wide = _MOST / max(len(stacks), 7)
    labelled = {*range(0, len(stacks), max(1, -(-len(stacks) // 4)))}
    for number, (date, stack) in enumerate(stacks.items()):
        left, floor = wide * number, Decimal(_HIGH + 18)
        bars: list[str] = []
        for step, amount in stack:
            high = amount * _HIGH / top if top else _ZERO
            floor -= high
            box = f'x="{left + wide / 8:.3f}%" y="{floor:.2f}" width="{wide * 3 / 4:.3f}%" height="{high:.2f}"'
            said = element("title", say("chart.step", date, say(f"strategy.{step}"), dollars(amount)))
            bars.append(f'<rect {box} class="{_style(step)}">{said}</rect>' if amount else "")
        drawn.append(f'<g class="bar">{"".join(bars)}</g>')
        if number in labelled:
            at = f'x="{left + wide / 8:.3f}%" y="{_HIGH + 18 + _BELOW - 6}" class="soft"'
            drawn.append(element("text", date[5:], at))
    dates = list(stacks)
    what = say("chart.days", dates[0], dates[-1])
    key = '<li><svg aria-hidden="true"><rect width="100%" height="100%" rx="2" class="{}"/></svg>{}</li>'
    keys = "".join(key.format(_style(step), element("span", say(f"strategy.{step}"))) for step in ("paid", *used))
    heads = [say("column.day"), *(say(f"strategy.{step}") for step in ("paid", *used))]
    rows = [
        [date, usd(day.actual if day.known else None), *(usd(day.credits.get(one, _ZERO)) for one in used)]
        for date, day in reversed(list(days.items()))
    ]
    below = table(heads, rows, caption=what, name=f"{name}-table")
    shown = _figure(drawn, what, _HIGH + 18 + _BELOW, below, name=name, style="scaled")
    return joined([Markup(f'<ul class="legend">{keys}</ul>'), shown])


def gauge(standing: Standing, label: Words, more: Sequence[Words]) -> Markup:
    """How much of a limit is spent (solid), held (pale), and where it will be at the period's end (a line)."""
    limit = standing.limit or standing.charged
    spent, charged = (
        _part(min(amount, limit), limit) if limit else _ZERO for amount in (standing.spent, standing.charged)
    )
    style = "bad" if standing.share is not None and standing.share >= 1 else "accent"
    what = say("chart.gauge", dollars(standing.charged), dollars(limit))
    mark = ""
    if standing.forecast is not None and limit:
        at = _part(min(standing.forecast, limit), limit)
        mark = f'<line x1="{at}%" x2="{at}%" y1="-3" y2="15" class="mark"/>'
    said = element("b", standing.percent)
    return Markup(
        f'<div><p>{element("span", label)}{said}</p><svg role="img" height="12">{element("title", what)}'
        '<rect width="100%" height="12" rx="3" class="track"/>'
        f'<rect width="{charged}%" height="12" rx="3" class="held"/>'
        f'<rect width="{spent}%" height="12" rx="3" class="{style}"/>{mark}</svg>'
        f"<p>{' · '.join(map(words, more))}</p></div>"
    )


def _figure(drawn: Sequence[str], what: Words, height: int, below: Markup, *, name: str, style: str = "") -> Markup:
    shown = (
        f'<svg role="img" aria-labelledby="{name}-what" height="{height}" class="{style}">'
        f"{element('title', what, f'id={name}-what')}{''.join(drawn)}</svg>"
    )
    return Markup(f"<figure>{shown}{folded(say('page.as_table'), below, name=f'{name}-figures')}</figure>")


def _part(amount: Decimal, whole: Decimal) -> Decimal:
    return WIDE.quantize(WIDE.divide(amount * 100, whole), Decimal("0.001")) if whole > 0 else _ZERO


def _wide(low: Decimal, high: Decimal) -> Decimal:
    # What is there is seen, however small it is.
    return max(high - low, Decimal("0.3")) if high != low else high - low


def _style(step: str) -> str:
    return "paid" if step == "paid" else f"s{[str(one) for one in LADDER].index(step)}"


def _ceiling(most: Decimal) -> Decimal:
    """The next round amount, whose half is round as well."""
    if most <= 0:
        return _ZERO
    unit = Decimal(1).scaleb(most.adjusted())
    return next((unit * Decimal(nice) for nice in _ROUND if unit * Decimal(nice) >= most), unit * 10)
