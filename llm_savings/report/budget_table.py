"""Budgets in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce

from rich.table import Table
from rich.text import Text

from llm_savings.report.budgets import BudgetState, Standing, by_use
from llm_savings.report.money import dollars
from llm_savings.report.tables import plain_table
from llm_savings.report.texts import Said, say

_HEAD = ("limit", "used", "spent\nheld", "left\nof", "an hour\nlast hour", "forecast\nruns out", "resets")
_BLOCKS = 8
_MOST = 5  # limits that are told in sentences
_YEAR = timedelta(days=360)


def budget_table(state: BudgetState, *, past: bool = False) -> Table:
    """A budget's limits, two lines a limit: it fits 80 columns. Past periods are below, when asked for."""
    table = plain_table(*_HEAD, title=budget_title(state), left=(_HEAD[1], *_HEAD[5:]))
    table.leading = 1
    for standing in state.standings:
        table.add_row(*_cells(standing, state))
    if past:
        table.add_section()
        for standing in state.past:
            table.add_row(*_cells(standing, state))
    return table


def budget_notes(states: Sequence[BudgetState]) -> list[Said]:
    """The limits that are used most, each in a sentence."""
    ranked = by_use(states)
    said = [_sentence(*pair) for pair in ranked[:_MOST]]
    if len(ranked) > _MOST:
        said.append(say("report.more_limits", len(ranked) - _MOST))
    return said


def budget_title(state: BudgetState) -> str:
    """A budget's name, where its plan is from, and what holds for all of its limits."""
    plan = state.plan
    if plan is None:
        return f"{state.name} · no program has said its limits"
    said = [
        state.name,
        "set here" if state.set_here else "from a program",
        f"per {plan.per}" if plan.per else "",
        plan.tz,
        f"{dollars(plan.per_call_limit)} a call" if plan.per_call_limit else "",
        "strict" if plan.strict else "",
        "calls go on when the ledger is away" if plan.on_unavailable == "allow" else "",
    ]
    return " · ".join(filter(None, said))


def _cells(standing: Standing, state: BudgetState) -> list[Text]:
    past, gone = standing.last_hour is None, standing.runs_out_at
    resets = "–" if past else "\n".join(str(_when(standing.resets_at, standing, state)).rsplit(" ", 1))
    return [
        Text("\n".join(filter(None, (standing.period, standing.label if past else "", standing.scope)))),
        _used(standing, state),
        Text(f"{dollars(standing.spent)}\n{dollars(standing.held)}"),
        Text(f"{_amount(standing.left)}\n{_amount(standing.limit)}"),
        Text(f"{_amount(standing.per_hour)}\n{_amount(standing.last_hour)}"),
        Text(f"{_amount(standing.forecast)}\n{'–' if gone is None else _when(gone, standing, state)}"),
        Text(resets),
    ]


def _used(standing: Standing, state: BudgetState) -> Text:
    share = standing.share
    if share is None:
        return Text("–")
    full = min(int(share * _BLOCKS), _BLOCKS)
    first_alert = min(state.plan.shares, default=1) if state.plan else 1
    style = "red" if share >= 1 else "yellow" if share >= first_alert else "green"
    bar = Text("█" * full, style=style) + Text("░" * (_BLOCKS - full), style="dim")
    return bar + Text(f"\n{standing.percent}")


def _amount(usd: Decimal | None) -> str:
    return "–" if usd is None else dollars(usd)


def _when(moment: datetime | None, standing: Standing, state: BudgetState) -> str | Said:
    if moment is None:
        return "never"
    if moment == standing.at:
        return say("report.now")
    local = moment.astimezone(state.plan.zone if state.plan else UTC)
    if moment - standing.at >= _YEAR:
        return f"{local:%Y-%m-%d}"
    return say("budget.moment", f"{local:%d}", say(f"month.{local.month}"), f"{local:%H:%M}")


def _sentence(standing: Standing, state: BudgetState) -> Said:
    whose = _listed(state.name, say(f"budget.{standing.period}"), *filter(None, [standing.scope]))
    said = [say("budget.limit", whose, dollars(standing.charged), _amount(standing.limit), standing.percent)]
    if standing.rate:
        said.append(say("report.burn", dollars(standing.rate)))
    if standing.forecast is not None:
        until = _when(standing.resets_at, standing, state)
        said.append(say("budget.forecast", dollars(standing.forecast), until))
    if (gone := standing.runs_out_at) is not None:
        said.append(say("report.runs_out", _when(gone, standing, state)))
    return say("budget.zone", _listed(*said), state.plan.tz if state.plan else "UTC")


def _listed(*parts: str | Said) -> str | Said:
    return reduce(lambda some, one: say("budget.and", some, one), parts)
