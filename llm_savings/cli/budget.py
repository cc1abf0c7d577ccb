"""`llm-savings budget show`, `set` and `reset`."""

from __future__ import annotations

from typing import Any

import click

from llm_savings import settings
from llm_savings.budget import Budget
from llm_savings.cli.shared import JSON, LEDGER, Console, existing, print_json
from llm_savings.errors import ConfigError
from llm_savings.ledger import Ledger, masked
from llm_savings.periods import PERIODS
from llm_savings.report import (
    BudgetState,
    Standing,
    budget_document,
    budget_states,
    budget_table,
    budget_title,
    dollars,
)

_NONE = "none"


@click.group()
def budget() -> None:
    """Limits on spending: where they stand, set them, start them anew."""


@budget.command(
    short_help="What is spent, held and left, and when it runs out.",
    epilog="Example: llm-savings budget show, or one of them: llm-savings budget show default --all",
)
@click.argument("name", required=False)
@LEDGER
@click.option("--all", "past", is_flag=True, help="Past periods as well.")
@JSON
def show(name: str | None, ledger: str | None, past: bool, as_json: bool) -> None:
    """What is spent, held and left of every budget, or of NAME; how fast it goes, and when it runs out."""
    states = budget_states(Ledger(existing(ledger)))
    where = masked(ledger or settings.default_ledger())
    if name is not None:
        states = [_named(name, states, where)]
    if as_json:
        found = [budget_document(state, past=past) for state in states]
        print_json({"ledger": where, "currency": "USD", "budgets": found})
        return
    console = Console()
    if not states:
        console.print(f"No budgets in {where}.", markup=False, highlight=False)
        console.print("Set one: llm-savings budget set default --daily 50", markup=False, highlight=False)
    for state in states:
        _show(console, state, past)


def _show(console: Console, state: BudgetState, past: bool) -> None:
    past = past or state.plan is None  # its counters are all that is known
    if state.standings or past:
        console.print(budget_table(state, past=past))
        return
    console.print(budget_title(state), markup=False, highlight=False)
    counted = state.plan and any(state.plan.amount(period) for period in PERIODS)
    nothing = "Nobody has spent any of it in this period." if counted else "It limits single calls, and counts nothing."
    console.print(f"• {nothing}\n", markup=False, highlight=False)


@budget.command(
    "set",
    short_help="Set or change a budget for every program on the ledger.",
    epilog="Example: llm-savings budget set default --daily 50 --monthly 900 --per user --tz Asia/Seoul --alert 0.8. "
    "Take a limit away: --monthly none. Give it back to the programs: llm-savings budget set default --remove",
)
@click.argument("name")
@LEDGER
@click.option("--per-call", metavar="USD", help="What a single call may cost at most.")
@click.option("--hourly", metavar="USD")
@click.option("--daily", metavar="USD")
@click.option("--weekly", metavar="USD")
@click.option("--monthly", metavar="USD")
@click.option("--total", metavar="USD")
@click.option("--per", metavar="WHAT", help="user, model, session, tenant or a tag's name: the limits are each one's.")
@click.option("--tz", metavar="ZONE", help="Whose hours and days are meant, as Asia/Seoul.")
@click.option("--alert", "alerts", metavar="SHARE", multiple=True, help="Alert at this share, as 0.8. More than once.")
@click.option("--strict/--no-strict", default=None, help="Refuse calls without max_tokens.")
@click.option("--on-unavailable", metavar="refuse|allow", help="What calls do while the ledger is away.")
@click.option("--output-cap", type=int, metavar="TOKENS", help="To hold for a call without max_tokens, at first.")
@click.option("--remove", is_flag=True, help="Forget the budget; what programs say holds again.")
@JSON
def set_(name: str, ledger: str | None, remove: bool, as_json: bool, **given: Any) -> None:
    """Set budget NAME in the ledger: it holds in every program there, whatever that says itself.

    What is not given stays as it is.
    """
    book = Ledger(existing(ledger) if remove else ledger)
    where = masked(ledger or settings.default_ledger())
    given = {option: value for option, value in given.items() if value not in (None, ())}
    if remove:
        if given:
            raise ConfigError("--remove takes no other options")
        if not book.budgets.plan(name, None):
            raise ConfigError(f"there is no budget {name!r} in {where}")
        _say(as_json, {"name": name, "removed": True}, f"Forgot budget {name}. What programs say of it holds.")
        return
    if not given:
        raise ConfigError("nothing to set; see llm-savings budget set --help for an example")
    plan = _changed(book.budgets.plans().get(name, ({}, False))[0], given, name)
    book.budgets.plan(name, plan.plan(), pinned=True)
    _say(as_json, {"name": name, "plan": plan.plan()}, f"{_told(plan)}\nEvery program on {where} follows within 30 s.")


def _changed(before: Any, given: dict[str, Any], name: str) -> Budget:
    """The budget as it was, with what is given instead."""
    fields: dict[str, Any] = {**before, **given, "name": name}
    if given.get("alerts") == (_NONE,):
        fields["alerts"] = ()
    return Budget.from_plan({option: value for option, value in fields.items() if value != _NONE})


def _told(plan: Budget) -> str:
    said = plan.plan()
    limits = [f"{option.replace('_', ' ')} ${said[option]}" for option in _LIMITS if option in said]
    rest = [plan.tz, f"per {plan.per}" if plan.per else "", "strict" if plan.strict else ""]
    alerts = f"alerts at {', '.join(f'{share:.0%}' for share in plan.shares)}" if plan.shares else "no alerts"
    return f"Budget {plan.name}: {', '.join(filter(None, [*limits, *rest, alerts]))}."


_LIMITS = ("per_call", "hourly", "daily", "weekly", "monthly", "total")


@budget.command(
    short_help="Start a budget's counters anew.",
    epilog="Example: llm-savings budget reset default --scope user=kim --period daily",
)
@click.argument("name", required=False)
@LEDGER
@click.option("--scope", metavar="WHOSE", help="Only this one's counters, as user=kim.")
@click.option("--period", type=click.Choice(_LIMITS[1:]), help="Only this limit's counters.")
@click.option("--recount", is_flag=True, help="Add every budget's counters up anew from the calls instead.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def reset(
    name: str | None, ledger: str | None, scope: str | None, period: str | None, recount: bool, yes: bool, as_json: bool
) -> None:
    """Start the current counters of budget NAME anew at $0. Calls so far, also those in flight, count no more."""
    book = Ledger(existing(ledger))
    if recount:
        if name or scope or period:
            raise ConfigError("--recount adds up all counters; leave out NAME, --scope and --period")
        count = book.budgets.recount()
        _say(as_json, {"counters": count}, f"Added up {_counters(count)} anew from the calls.")
        return
    if name is None:
        raise ConfigError("name the budget to start anew, as in: llm-savings budget reset default")
    state = _named(name, budget_states(book), masked(ledger or settings.default_ledger()))
    found = [s for s in state.standings or state.past if scope in (None, s.scope) and period in (None, s.period)]
    found = [standing for standing in found if standing.charged]
    if not found:
        _say(as_json, {"counters": 0}, f"Nothing is charged to budget {name} there; all is new.")
        return
    if not yes:
        click.echo("\n".join(map(_line, found)), err=True)
        click.confirm(f"Start {_counters(len(found))} anew at $0?", abort=True, err=True)
    count = book.budgets.reset([standing.key for standing in found])
    _say(as_json, {"counters": count}, f"Started {_counters(count)} of budget {name} anew.")


def _line(standing: Standing) -> str:
    whose = ", ".join(filter(None, (standing.period, standing.label, standing.scope)))
    return f"{whose}: {dollars(standing.spent)} spent, {dollars(standing.held)} held"


def _counters(count: int) -> str:
    return f"{count:,} counter{'' if count == 1 else 's'}"


def _named(name: str, states: list[BudgetState], where: str) -> BudgetState:
    for state in states:
        if state.name == name:
            return state
    known = ", ".join(state.name for state in states)
    raise ConfigError(f"there is no budget {name!r} in {where}" + (f"; it has {known}" if known else ""))


def _say(as_json: bool, for_machines: dict[str, Any], for_people: str) -> None:
    if as_json:
        print_json(for_machines)
    else:
        click.echo(for_people)
