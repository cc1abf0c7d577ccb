"""The report as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from llm_savings.ledger import Line, total, zone
from llm_savings.report.budgets import BudgetState, Standing, by_use
from llm_savings.report.charts import day_stack, gauge, waterfall
from llm_savings.report.money import dollars
from llm_savings.report.overview import Overview
from llm_savings.report.page import (
    ROWS,
    Cell,
    Markup,
    Number,
    Words,
    bullets,
    cards,
    count,
    element,
    headline,
    joined,
    page,
    section,
    share,
    table,
    usd,
)
from llm_savings.report.strategies import strategies_notes
from llm_savings.report.terminal import notes, price_note, spent_and_saved
from llm_savings.report.texts import Lang, Said, columns, say

_LIMITS = 12
_FAR = timedelta(days=360)


def report_page(found: Overview, where: str, *, lang: Lang | None = None, live: int | None = None) -> str:
    """The page of a report.

    Args:
        found: What to tell.
        where: The ledger's name, without a password.
        lang: The language it opens in; None for the browser's.
        live: Seconds after which it asks for newer figures; None for a file.
    """
    if not any(line.calls for line in (*found.periods.values(), found.whole)):
        blocks = [headline(say("report.empty"), say("report.empty_more"), where)]
    else:
        blocks = list(_blocks(found, where))
    return page(say("report.title"), *blocks, lang=lang, live=live, at=found.at)


def trouble_page(message: str, *, lang: Lang | None = None, live: int | None = None) -> str:
    """The page where a ledger cannot be read."""
    return page(say("report.title"), headline(say("report.trouble"), message), lang=lang, live=live)


def _blocks(found: Overview, where: str) -> Iterator[Markup]:
    whole, told = found.whole, found.told
    begins, ends = (
        moment and f"{moment.astimezone(zone(found.tz)):%Y-%m-%d %H:%M}" for moment in (found.since, found.until)
    )
    scope = say("report.scope", begins or "", ends or say("report.now"), found.tz, where)
    yield headline(say("report.headline", *_sums(whole)), scope)
    yield cards(
        (say(f"report.{name}"), _sums(line)[0], say("report.card", *_sums(line)[1:], line.calls))
        for name, line in found.periods.items()
    )
    yield section(
        say("report.findings"),
        bullets(found.findings) or element("p", say("report.no_findings"), 'class="lead"'),
        name="findings",
    )
    yield from _budgets(found)
    attribution = told.attribution
    told_of = bullets(strategies_notes(attribution))
    if attribution.known:  # charts of amounts that nobody knows would show $0
        yield section(say("report.strategies"), waterfall(attribution, name="waterfall"), told_of, name="strategies")
        yield section(say("report.days"), day_stack(told.every_day, name="days"), name="by-day")
    else:
        yield section(say("report.strategies"), told_of, name="strategies")
    for number, (by, lines) in enumerate(found.lines.items()):
        if by != "day" and any(line.key for line in lines):
            yield _grouped(by, lines, number)
    yield from _prefixes(found)
    yield _unsure(found)
    yield section(say("report.notes"), bullets([*notes(whole), price_note(found.prices)]), name="notes")


def _sums(line: Line) -> tuple[Words, Words, str]:
    part = f"{line.saved / line.baseline:.0%}" if line.baseline > 0 else "0%"
    return *spent_and_saved(line), part if line.valued else "–"


def _budgets(found: Overview) -> Iterator[Markup]:
    if found.trouble:
        yield section(say("report.budgets"), element("p", say("report.budgets_trouble", found.trouble)), name="budgets")
    ranked = by_use(found.budgets)
    if not ranked:
        return
    drawn = joined(_limit(standing, state) for standing, state in ranked[:_LIMITS])
    more = [say("report.more_limits", len(ranked) - _LIMITS)] if len(ranked) > _LIMITS else []
    yield section(
        say("report.budgets"),
        Markup(f'<div class="limits">{drawn}</div>'),
        bullets(more),
        name="budgets",
        lead=say("report.budgets_lead"),
    )


def _limit(standing: Standing, state: BudgetState) -> Markup:
    def local(name: str) -> list[Said]:
        moment = getattr(standing, name)
        if moment is None or state.plan is None:
            return []
        form = "%m-%d %H:%M" if moment - standing.at < _FAR else "%Y-%m-%d"
        return [say(f"report.{name.removesuffix('_at')}", moment.astimezone(state.plan.zone).strftime(form))]

    said: list[Said] = []
    if standing.left is not None and standing.limit is not None:
        said.append(say("report.left", dollars(standing.left), dollars(standing.limit)))
    if standing.held:
        said.append(say("report.held", dollars(standing.held)))
    if standing.rate:
        said.append(say("report.burn", dollars(standing.rate)))
    if standing.forecast is not None:
        said.append(say("report.forecast", dollars(standing.forecast)))
    said += [*local("runs_out_at"), *local("resets_at")]
    label = " · ".join(filter(None, (standing.budget, standing.period, standing.scope, state.plan and state.plan.tz)))
    return gauge(standing, label, said)


def _grouped(by: str, lines: Sequence[Line], number: int) -> Markup:
    tag = by.removeprefix("tag:")
    what: Said = say(f"column.{by}") if by == tag else say("report.tag", tag)
    heads: list[Words] = [what if by == tag else tag]
    heads += columns("calls", "spent", "saved", "share", "input", "cached", "output")
    rest = list(lines[ROWS:])
    foot: list[list[Cell]] = [_line(say("page.more_rows", len(rest)), total(rest))] if rest else []
    if len(lines) > 1:
        foot.append(_line(say("page.total"), total(list(lines))))
    rows = [_line(line.key or say("page.none"), line) for line in lines[:ROWS]]
    shown = table(heads, rows, caption=say("report.by", what), name=f"by-{number}-table", foot=foot)
    return section(say("report.by", what), shown, name=f"by-{number}", lead=say("report.by_lead"))


def _line(name: Words, line: Line) -> list[Cell]:
    used = line.usage

    return [
        name,
        count(line.calls),
        usd(line.actual if line.known else None),
        usd(line.saved, tone=True) if line.valued else usd(None),
        share(line.saved, line.baseline),
        count(used.prompt),
        count(used.cache_read + used.audio_cache_read),
        count(used.completion),
    ]


def _prefixes(found: Overview) -> Iterator[Markup]:
    if not any(line.prefix or line.read for line in found.told.prefixes):
        return
    heads = columns("prefix", "calls", "input", "cached", "share", "saved", "lost")
    rows: list[list[Cell]] = [
        [
            line.prefix[:12] or say("report.no_plan"),
            count(line.calls),
            count(line.prompt),
            count(line.read),
            share(line.read, line.prompt),
            usd(saved, tone=True),
            usd(lost) if not lost else Number(dollars(lost), lost, "bad"),
        ]
        for line in found.told.prefixes[:ROWS]
        for saved, lost in (line.amounts,)
    ]
    shown = table(heads, rows, caption=say("report.prefixes"), name="prefixes-table")
    yield section(say("report.prefixes"), shown, name="prefixes", lead=say("report.prefixes_lead"))


def _unsure(found: Overview) -> Markup:
    rows = sorted(found.told.unsure.values(), key=lambda row: (-row.bound, -row.calls))
    if not rows:
        return section(say("report.unsure"), element("p", say("report.all_sure"), 'class="lead"'), name="unsure")
    heads = columns("model", "basis", "calls", "bound", "unbounded")
    cells: list[list[Cell]] = [
        [
            row.model,
            say(f"basis.{row.basis}"),
            count(row.calls),
            usd(row.bound if row.unbounded < row.calls else None),
            count(row.unbounded),
        ]
        for row in rows[:ROWS]
    ]
    shown = table(heads, cells, caption=say("report.unsure"), name="unsure-table")
    return section(say("report.unsure"), shown, name="unsure", lead=say("report.unsure_lead"))
