"""The report's page and its findings: what is shown is what the ledger says, at any size and in both languages."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_savings import Budget, Ledger, PriceBook, Usage
from llm_savings.bounds import Size
from llm_savings.cli import main
from llm_savings.ledger import Line, Sent, Settled, total
from llm_savings.meter import Answer, Meter, settle
from llm_savings.report import dollars
from llm_savings.report.dashboard import report_page, trouble_page
from llm_savings.report.overview import overview
from llm_savings.report.terminal import price_note
from llm_savings.report.texts import LANGS, Said, say

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRICES = PriceBook()
EVIL = "<img src=x onerror=alert(1)>"


def put(book: Ledger, number: int, answer: Answer, **sent: object) -> None:
    days = timedelta(days=number % 40, hours=1)
    call = Sent(
        **{"call_id": str(number), "host": "sdk", "requested_model": "gpt-4o", "started_at": NOW - days, **sent}
    )  # type: ignore[arg-type]
    book.settle(call, settle(PRICES, call, answer, "hit" if answer.hit else "ok"))


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    """Forty days of every kind of call, with names that attack a page."""
    ledger = Ledger(tmp_path / "costs.db")
    for number in range(200):
        used = Usage(input=100 + number, output=50, cache_read=2048 if number % 5 == 0 else 0)
        model = ("gpt-4o", "gpt-4o-mini")[number % 2]
        strategies = {"prompt_cache": {"prefix": "abc", "held": 2048}} if number % 3 == 0 else {}
        if model == "gpt-4o-mini":
            strategies["routing"] = {"baseline_model": "gpt-4o"}
        if number % 11 == 0:
            used = Usage(input=3000, output=50)
        answer = Answer(model=model, usage=used, hit=number % 7 == 0, strategies=strategies, estimated=number % 13 == 0)
        put(ledger, number, answer, user=("kim", EVIL)[number % 2], tags={"feature": EVIL, EVIL: "x"})
    ledger.sent(Sent(call_id="lost", host="sdk", requested_model=EVIL, bound=Decimal("0.25"), started_at=NOW))
    put(ledger, 1000, Answer(model="my-own", usage=Usage(input=1)), requested_model="my-own")
    meter = Meter(ledger, budget=Budget(daily="5", per="user", name="each"))
    sent = Sent(call_id="budgeted", host="sdk", requested_model="gpt-4o", user=EVIL, bound=Decimal("0.5"))
    meter.begin(sent, Size(prompt=100, max_tokens=100))
    return ledger


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def cells(html: str, table: str) -> dict[str, list[str]]:
    """A table's rows by their first cell, as text."""
    found = re.search(rf'<table id="{table}".*?</table>', html, re.S)
    assert found
    rows = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", found[0]))
    plain = ([re.sub(r"<[^>]+>", "", cell) for cell in row] for row in rows)
    return {row[0]: row[1:] for row in plain}


def test_the_sums_shown_are_the_ledgers(book: Ledger) -> None:
    found = overview(book, at=NOW, prices=PRICES)
    html = report_page(found, "costs.db")
    lines = book.summary("model", since=found.since)
    whole = total(lines)
    share = f"{whole.saved / whole.baseline:.0%}"
    assert f"{dollars(whole.actual)} spent, {dollars(whole.saved)} saved ({share})" in html
    shown = cells(html, "by-0-table")
    for line in lines:
        if line.key != "my-own":
            assert shown[escape(line.key)][0] == f"{line.calls:,}"
            known = line.unknown + line.unpriced < line.calls
            assert shown[escape(line.key)][1] == (dollars(line.actual) if known else "unknown")
    assert shown["total"][1:3] == [dollars(whole.actual), dollars(whole.saved)]
    assert shown["my-own"][1] == "unknown"
    assert found.told.attribution.actual == whole.actual
    assert found.told.attribution.saved == whole.saved
    assert sum(found.told.unsure[key].calls for key in found.told.unsure) == (
        whole.estimated + whole.unknown + whole.unpriced
    )
    assert found.told.unsure[EVIL, "unknown"].bound == Decimal("0.25")
    assert [found.periods[name].calls for name in ("today", "week", "month")] == [
        book.summary("total", since=NOW.replace(hour=0) - timedelta(days=days))[0].calls for days in (0, 6, 29)
    ]


@pytest.mark.parametrize("lang", [None, "ko"])
def test_names_from_outside_are_text_in_the_whole_report(book: Ledger, lang: str | None) -> None:
    html = report_page(overview(book, at=NOW), EVIL, lang=lang)  # type: ignore[arg-type]
    assert "<img" not in html
    assert html.count(escape(EVIL)) >= 8  # model, user, tag's name and value, budget, ledger, unsure
    assert "<img" not in trouble_page(EVIL)


def test_findings_say_what_costs_most_first(book: Ledger) -> None:
    found = [said.key for said in overview(book, at=NOW).findings]
    assert found[0] == "finding.short"
    assert {"finding.lost", "finding.read", "finding.hits"} <= set(found)
    said = next(said for said in overview(book, at=NOW).findings if said.key == "finding.short")
    assert "gpt-4o-mini, which is in use already" in said.text()
    assert "gpt-4o-mini" in said.text("ko")


def test_days_are_those_of_the_zone(book: Ledger) -> None:
    put(
        book,
        5000,
        Answer(model="gpt-4o", usage=Usage(input=10, output=1)),
        started_at=datetime(2026, 11, 20, 15, 30, tzinfo=UTC),
    )
    found = overview(book, at=NOW, tz="Asia/Seoul")
    assert list(found.told.days) == [line.key for line in found.lines["day"]]
    for line in found.lines["day"]:
        assert found.told.days[line.key].actual == line.actual


def test_a_large_ledger_makes_a_small_page() -> None:
    ledger = Ledger(":memory:")
    for number in range(3000):
        day = timedelta(days=number % 365)
        call = Sent(
            call_id=str(number),
            host="sdk",
            requested_model=f"model-{number % 100}-{'한' * 60}",
            user=f"user-{number % 1000}",
            tags={f"tag{number % 30}": f"value {number}" * 5},
            started_at=NOW - day,
        )
        usd = Decimal(number).scaleb(-5)
        ledger.settle(call, Settled(status="ok", basis="estimated", usage=Usage(input=9, output=9), actual=usd))
    found = overview(ledger, at=NOW, since=NOW - timedelta(days=365))
    html = report_page(found, "costs.db")
    assert len(html.encode()) < 1_000_000
    assert "50 more rows, added up" in html
    assert "950 more rows, added up" in html
    users = cells(html, "by-2-table")
    assert len(users) == 1 + 50 + 2
    assert users["total"][1] == dollars(found.whole.actual)


def test_empty_and_unreadable_ledgers_are_told(tmp_path: Path) -> None:
    assert "Nothing recorded yet" in report_page(overview(Ledger(":memory:")), "x")
    target = tmp_path / "page.html"
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"garbage" * 1000)
    shown = run("report", "--ledger", str(broken), "--html", str(target))
    assert shown.exit_code == 1
    assert "not a database" in shown.output
    assert not target.exists()


def test_a_budget_that_cannot_be_told_does_not_hide_the_calls(book: Ledger) -> None:
    book._store.execute('UPDATE budget_plans SET plan = \'{"daily": "-1"}\'')
    html = report_page(overview(book, at=NOW), "x")
    assert "Budgets cannot be told" in html
    assert "By model" in html


def test_the_command_writes_a_page_that_only_its_owner_reads(book: Ledger, tmp_path: Path) -> None:
    book.close()
    target = tmp_path / "page.html"
    shown = run("report", "--ledger", book.target, "--html", str(target), "--lang", "ko", "--tz", "Asia/Seoul")
    assert shown.exit_code == 0, shown.output
    assert "네트워크 없이 열립니다" in shown.output
    assert target.stat().st_mode & 0o777 == 0o600
    assert '<html lang="ko"' in target.read_text("utf-8")


def test_the_plain_report_tells_periods_and_findings(book: Ledger) -> None:
    book.close()
    shown = " ".join(run("report", "--ledger", book.target).output.split())
    for text in ("Today", "7 days", "30 days", "Budget each, daily", "which is in use already", "Prices: litellm"):
        assert text in shown
    document = json.loads(run("report", "--ledger", book.target, "--json").output)
    assert document["periods"].keys() == {"today", "week", "month"}
    assert any("in use already" in said for said in document["findings"])
    assert document["prices"]["date"]


def test_rows_as_csv_are_exact_and_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    names = ("=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "＝1", '=HYPERLINK("http://x")', 'plain, "한국"')
    with Ledger(path) as ledger:
        for number, name in enumerate(names):
            put(ledger, number, Answer(model="gpt-4o", usage=Usage(input=1000, output=number)), user=name)
        lines = ledger.summary("user")
    target = tmp_path / "rows.csv"
    assert "8 rows written" in run("report", "--ledger", str(path), "--by", "user", "--csv", str(target)).output
    rows = list(csv.DictReader(target.read_text("utf-8-sig").splitlines()))
    assert not [row["key"] for row in rows if row["key"].lstrip().startswith(("=", "+", "-", "@", "＝"))]
    assert {row["key"].removeprefix("'") for row in rows} == set(names)
    assert [Decimal(row["spent"]) for row in rows] == [line.actual for line in lines]
    assert target.stat().st_mode & 0o777 == 0o600
    for by, first in (("strategy", "step"), ("prefix", "prefix")):
        assert run("report", "--ledger", str(path), "--by", by, "--csv", str(target)).exit_code == 0
        assert target.read_text("utf-8-sig").startswith(first)


def test_a_line_of_nothing_known_is_unknown_in_the_headline() -> None:
    ledger = Ledger(":memory:")
    ledger.sent(Sent(call_id="1", host="sdk", requested_model="gpt-4o", started_at=NOW))
    html = report_page(overview(ledger, at=NOW), "x", lang="ko")
    assert "알 수 없음 지출" in html
    assert Line("x").saved == 0


def test_prices_of_an_unknown_day_are_not_said_to_be_of_none(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"mine": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}')
    undated = price_note(PriceBook.from_file(tmp_path / "map.json"))
    assert undated == say("note.prices_old", Said("note.undated", (str(tmp_path / "map.json"),)))
    assert "None" not in "".join(undated.text(lang) for lang in LANGS)
    assert price_note(PriceBook()).key == "note.prices"


def test_the_plain_report_stays_quick_on_a_large_ledger(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    book.close()
    monkeypatch.setattr(sys.modules["llm_savings.cli.report"], "_MANY", 3)
    shown = " ".join(run("report", "--ledger", book.target).output.split())
    assert "More than 3 calls: findings are told with --since" in shown
    assert "in use already" not in shown


def test_days_without_a_call_are_in_the_chart_and_budgets_say_their_zone(tmp_path: Path) -> None:
    with Ledger(tmp_path / "costs.db") as ledger:
        for number in (0, 3):
            put(ledger, number, Answer(model="gpt-4o", usage=Usage(input=100, output=10)))
        meter = Meter(ledger, budget=Budget(daily="5", tz="Asia/Seoul", name="kim"))
        sent = Sent(call_id="x", host="sdk", requested_model="gpt-4o", started_at=NOW, bound=Decimal("0.001"))
        meter.begin(sent, Size(prompt=100, max_tokens=100))
        html = report_page(overview(ledger, at=NOW, prices=PRICES), "costs.db")
    assert [*cells(html, "days-table")][1:] == ["2026-11-28", "2026-11-27", "2026-11-26", "2026-11-25"]
    assert cells(html, "days-table")["2026-11-26"] == ["$0.00"]
    assert "kim · daily · Asia/Seoul</span><b>&lt;1%</b>" in html


def test_many_short_calls_are_not_priced_as_a_long_one(tmp_path: Path) -> None:
    """From 100,000 tokens of one prompt on this model costs five times as much; here all prompts together have more."""
    with Ledger(tmp_path / "costs.db") as ledger:
        for number in range(400):
            put(ledger, number, Answer(model="gpt-4o-mini", usage=Usage(input=300, output=100)))
        put(ledger, 400, Answer(model="claude-haiku-5-5", usage=Usage(input=300, output=100)))
        said = overview(ledger, at=NOW, since=NOW - timedelta(days=90), prices=PRICES).findings
    assert not [one for one in said if one.key == "finding.short"]  # $0.042 against $0.032: not three times as much
    with Ledger(tmp_path / "more.db") as ledger:
        for number in range(400):
            put(ledger, number, Answer(model="gpt-4.1-mini", usage=Usage(input=300, output=100)))
        put(ledger, 400, Answer(model="claude-haiku-5-5", usage=Usage(input=300, output=100)))
        found = overview(ledger, at=NOW, since=NOW - timedelta(days=90), prices=PRICES).findings
    (short,) = [one for one in found if one.key == "finding.short"]
    assert short.args == ("400", "gpt-4.1-mini", dollars(Decimal("0.112")), "claude-haiku-5-5", "$0.032000")
