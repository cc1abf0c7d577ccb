"""`llm-savings budget`, as a user types it."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_savings import Budget, BudgetExceededError, Ledger, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.cli import main
from llm_savings.ledger import Sent
from llm_savings.meter import Answer


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, ["budget", *arguments], input=answer)


def pay(meter: Meter, name: str, user: str = "kim") -> None:
    """$0.001 of gpt-4o."""
    sent = Sent(call_id=name, host="sdk", requested_model="gpt-4o", provider="openai", user=user)
    live = meter.begin(sent, Size(100, 75))
    meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=100, output=75)))


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        meter = Meter(ledger, budget=Budget(total="0.0095", monthly="0.005", per="user", tz="Asia/Seoul"))
        for i in range(4):
            pay(meter, f"a{i}")
        pay(meter, "b", user="이영희")
    return str(path)


def counters(path: str) -> dict[str, int]:
    with Ledger(path) as ledger:
        return {key: counter.spent // 10**9 for key, counter in ledger.budgets.counters().items()}


def test_show(path: str) -> None:
    shown = run("show", "--ledger", path)
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert "default · from a program · per user · Asia/Seoul" in lines[0]
    assert max(map(len, lines)) <= 80
    first = next(i for i, line in enumerate(lines) if "monthly" in line)
    assert lines[first].split()[:4] == ["monthly", "██████░░", "$0.004000", "$0.001000"]
    assert lines[first + 1].split()[:4] == ["user=kim", "80%", "$0.00", "$0.005000"]
    assert "never" in shown.output
    assert "user=이영희" in shown.output


def test_a_terminal_without_our_signs_shows_the_rest(path: str) -> None:
    for command in (("budget", "show"), ("report",)):
        shown = CliRunner(charset="ascii").invoke(main, [*command, "--ledger", path])
        assert shown.exit_code == 0
        assert "user=???" in shown.output
        assert "$0.004000" in shown.output


def test_show_json(path: str) -> None:
    document = json.loads(run("show", "default", "--json", "--all", "--ledger", path).output)
    (budget,) = document["budgets"]
    assert budget["plan"]["monthly"] == "0.005"
    first = budget["limits"][0]
    assert (first["period"], first["scope"], Decimal(first["spent"])) == ("monthly", "user=kim", Decimal("0.004"))
    assert first["resets_at"].endswith("T00:00:00+09:00")


def test_show_of_nothing(path: str, tmp_path: Path) -> None:
    for shown in (run("show"), run("show", "--all")):
        assert shown.exit_code == 0
        assert shown.output.startswith("No budgets in ")
        assert "llm-savings budget set default --daily 50" in shown.output
    assert json.loads(run("show", "--json").output)["budgets"] == []
    assert not list(tmp_path.rglob("data/**/costs.db"))
    run("set", "fresh", "--daily", "5", "--ledger", path)
    assert "Nobody has spent any of it" not in run("show", "fresh", "--ledger", path).output  # everybody's: $0 of $5
    run("set", "fresh", "--per", "user", "--ledger", path)
    assert "Nobody has spent any of it" in run("show", "fresh", "--ledger", path).output
    run("set", "one", "--per-call", "0.5", "--ledger", path)
    assert "$0.500000 a call" in run("show", "one", "--ledger", path).output


def test_show_of_counters_whose_program_is_gone(path: str) -> None:
    run("set", "default", "--remove", "--ledger", path)
    shown = run("show", "--ledger", path).output
    assert "no program has said its limits" in shown
    assert "$0.004000" in shown


def test_what_is_set_here_holds_in_programs(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.gate._GLANCE_SECONDS", 0.0)
    meter = Meter(path)
    pay(meter, "free")
    asked = ("--daily", "0.001", "--monthly", "900", "--per", "user", "--tz", "Asia/Seoul", "--alert", "0.5")
    told = run("set", "예산", *asked, "--alert", "0.8", "--strict", "--output-cap", "99", "--ledger", path)
    assert told.exit_code == 0, told.output
    first = told.output.splitlines()[0]
    assert first == "Budget 예산: daily $0.001, monthly $900, Asia/Seoul, per user, strict, alerts at 50%, 80%."
    with Ledger(path) as ledger:
        plan, pinned = ledger.budgets.plans()["예산"]
    assert pinned
    assert Budget.from_plan(plan) == Budget(
        daily="0.001", monthly=900, per="user", tz="Asia/Seoul", alerts=(0.5, 0.8), strict=True, output_cap=99,
        name="예산",
    )  # fmt: skip
    pay(meter, "paid")
    with pytest.raises(BudgetExceededError, match="예산, daily, user=kim"):
        pay(meter, "too much")
    assert "예산 · set here · per user · Asia/Seoul · strict" in run("show", "예산", "--ledger", path).output
    meter.ledger.close()


def test_what_is_not_given_stays(path: str) -> None:
    run("set", "default", "--monthly", "7", "--total", "9", "--ledger", path)
    changed = json.loads(run("set", "default", "--total", "none", "--no-strict", "--json", "--ledger", path).output)
    assert changed["plan"] == {**Budget(monthly=7, per="user", tz="Asia/Seoul").plan()}
    changed = json.loads(run("set", "default", "--per", "none", "--alert", "none", "--json", "--ledger", path).output)
    assert changed["plan"] == Budget(monthly=7, tz="Asia/Seoul", alerts=()).plan()


def test_set_makes_a_ledger_before_the_first_program(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    assert run("set", "default", "--daily", "5", "--ledger", str(path)).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert "set here" in run("show", "--ledger", str(path)).output


def test_remove_gives_back_to_the_programs(path: str) -> None:
    run("set", "default", "--daily", "0.0001", "--ledger", path)
    assert run("set", "default", "--remove", "--ledger", path).output.startswith("Forgot budget default.")
    with Ledger(path) as ledger:
        pay(Meter(ledger, budget=Budget(daily=1)), "c")
        assert ledger.budgets.plans()["default"][1] is False


def test_reset_asks_and_starts_anew(path: str) -> None:
    month = f"default|monthly|{datetime.now(UTC).astimezone(Budget(daily=1, tz='Asia/Seoul').zone):%Y-%m}|user="
    before = counters(path)
    assert before == {
        f"{month}kim": 4, f"{month}이영희": 1, "default|total|ever|user=kim": 4, "default|total|ever|user=이영희": 1
    }  # fmt: skip
    for answer in ("n\n", "", "\n"):
        refused = run("reset", "default", "--ledger", path, answer=answer)
        assert refused.exit_code == 1
        assert "user=kim: $0.004000 spent, $0.00 held" in refused.output
        assert "Start 4 counters anew at $0?" in refused.output
    assert counters(path) == before
    done = run("reset", "default", "--scope", "user=kim", "--period", "monthly", "--ledger", path, answer="y\n")
    assert "Started 1 counter of budget default anew." in done.output
    assert counters(path) == {key: n for key, n in before.items() if key != f"{month}kim"}
    done = run("reset", "default", "--yes", "--json", "--ledger", path)
    assert json.loads(done.output) == {"counters": 3}
    assert counters(path) == {}
    assert "all is new" in run("reset", "default", "--yes", "--ledger", path).output


def test_recount_mends_a_counter_that_makes_no_sense(path: str) -> None:
    before = counters(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE budget_counters SET spent_pusd = -5 WHERE key LIKE '%kim'")
    for command in (("show",), ("reset", "default", "--yes")):
        refused = run(*command, "--ledger", path)
        assert refused.exit_code == 1
        assert "llm-savings budget reset --recount" in refused.output
    report = CliRunner().invoke(main, ["report", "--ledger", path])  # what is known is still told
    assert report.exit_code == 0
    assert "Budgets cannot be told" in report.output
    document = json.loads(CliRunner().invoke(main, ["report", "--ledger", path, "--json"]).output)
    assert document["budgets"] is None
    assert "makes no sense" in document["budgets_error"] or "no sum of calls" in document["budgets_error"]
    assert run("reset", "--recount", "--ledger", path).output == "Added up 4 counters anew from the calls.\n"
    assert counters(path) == before


def test_report_tells_of_budgets(path: str) -> None:
    shown = " ".join(CliRunner().invoke(main, ["report", "--ledger", path]).output.split())
    assert "Budget default, monthly, user=kim: $0.004000 of $0.005000 (80%), $0.0" in shown
    assert " an hour, forecast $0.0" in shown
    document = json.loads(CliRunner().invoke(main, ["report", "--ledger", path, "--json"]).output)
    assert [budget["name"] for budget in document["budgets"]] == ["default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nobody"), "there is no budget 'nobody' in"),
        (("show", "nobody"), "it has default"),
        (("set", "default"), "nothing to set"),
        (("set", "default", "--daily", "-5"), "budget.daily is '-5'"),
        (("set", "default", "--daily", "fifty"), "budget.daily is 'fifty'; expected a positive number of dollars"),
        (("set", "default", "--daily", "6"), "more than budget.monthly"),
        (("set", "new", "--tz", "Asia/Seoul"), "a budget needs a limit"),
        (("set", "new", "--daily", "5", "--tz", "Mars"), "budget.tz is 'Mars'"),
        (("set", "new", "--daily", "5", "--alert", "80"), "budget.alerts has 80"),
        (("set", "new", "--daily", "5", "--on-unavailable", "maybe"), "budget.on_unavailable is 'maybe'"),
        (("set", "new", "--daily", "5", "--output-cap", "0"), "budget.output_cap is 0"),
        (("set", "a|b", "--daily", "5"), "budget.name is 'a|b'"),
        (("set", "nobody", "--remove"), "there is no budget 'nobody'"),
        (("set", "default", "--remove", "--daily", "5"), "--remove takes no other options"),
        (("reset",), "name the budget"),
        (("reset", "nobody"), "there is no budget 'nobody'"),
        (("reset", "default", "--recount"), "--recount adds up all counters"),
    ],
)
def test_errors_are_one_line_and_change_nothing(path: str, arguments: tuple[str, ...], message: str) -> None:
    with Ledger(path) as ledger:
        before = ledger.budgets.plans()
    shown = run(*arguments, "--ledger", path)
    assert shown.exit_code == 1
    assert message in shown.output
    assert shown.output.count("\n") == 1
    assert "Traceback" not in shown.output
    with Ledger(path) as ledger:
        assert ledger.budgets.plans() == before


def test_a_mistyped_path_is_no_ledger(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.db")
    for command in (("show",), ("reset", "default"), ("set", "default", "--remove")):
        shown = run(*command, "--ledger", missing)
        assert shown.exit_code == 1
        assert "there is no such file" in shown.output
    assert not Path(missing).exists()


def test_help_has_examples() -> None:
    for command in ("show", "set", "reset"):
        assert "Example:" in run(command, "--help").output
