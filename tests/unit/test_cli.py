"""The commands, as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from llm_savings import ComplexityRouter, ConfigError, Ledger, Usage
from llm_savings.cli import main
from llm_savings.cli.shared import instant
from llm_savings.ledger import Sent, Settled


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "costs.db"
    with Ledger(path) as book:
        for i, (model, tag) in enumerate([("gpt-4o", "faq"), ("gpt-4o", "[red]x[/red]"), ("gpt-4o-mini", "faq")]):
            call = Sent(
                call_id=str(i),
                host="sdk",
                requested_model=model,
                tags={"feature": tag},
                started_at=datetime(2026, 11, 23, 14 + i, 30, tzinfo=UTC),
            )
            used = Usage(input=1000, output=100)
            end = Settled(status="ok", basis="measured", model=model, usage=used, actual=Decimal("0.0035"))
            book.settle(call, end)
        book.sent(Sent(call_id="lost", host="sdk", requested_model="gpt-4o", bound=Decimal("0.25")))
    return str(path)


def test_report(ledger: str) -> None:
    shown = run("report", "--ledger", ledger)
    assert shown.exit_code == 0
    assert "gpt-4o-mini" in shown.output
    assert "$0.0105" in shown.output
    assert "at most $0.250000" in shown.output
    assert "Prices: litellm" in shown.output


def test_report_by_tag_shows_hostile_tags_as_text(ledger: str) -> None:
    assert "[red]x[/red]" in run("report", "--ledger", ledger, "--by", "tag:feature").output


def test_report_shows_hostile_names_as_text(ledger: str, tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    path = tmp_path / "[" / "bold].db"
    path.write_bytes(Path(ledger).read_bytes())
    shown = run("report", "--ledger", str(path), "--by", "tag:[/x]")
    assert shown.exit_code == 0
    assert "[/x]" in shown.output
    assert "[/bold].db" in shown.output.replace("\n", "")


def test_every_column_of_a_large_report_fits_80(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as book:
        call = Sent(call_id="a", host="sdk", requested_model="anthropic.claude-sonnet-4-5-20250929-v1:0")
        used = Usage(input=123_456_789, cache_read=5_555_555, output=9_999_999)
        usd, list_price = Decimal("12345.67"), Decimal("23456.78")
        book.settle(call, Settled(status="ok", basis="estimated", usage=used, actual=usd, baseline=list_price))
    shown = run("report", "--ledger", str(path)).output
    heads, row = (next(line for line in shown.splitlines() if word in line) for word in ("unsure", "9,999,999"))
    assert heads.split()[-3:] == ["spent", "saved", "unsure"]
    assert row.split()[-4:] == ["9,999,999", "$12,345.67", "$11,111.11", "1"]
    assert "1 call estimated ($12,345.67)" in shown


@pytest.mark.parametrize(("columns", "has"), [("80", False), ("100", True)])
def test_a_dated_models_name_stays_whole_at_80(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str, has: bool
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with Ledger(tmp_path / "costs.db") as book:
        call = Sent(call_id="a", host="sdk", requested_model="claude-sonnet-4-5-20250929")
        used = Usage(input=223_456, cache_read=55_555, output=9_999)
        paid, listed = Decimal("0.234704"), Decimal("0.717388")
        book.settle(call, Settled(status="ok", basis="estimated", usage=used, actual=paid, baseline=listed))
    shown = run("report", "--ledger", str(tmp_path / "costs.db")).output
    assert "claude-sonnet-4-5-20250929" in shown
    assert ("unsure" in shown) == has
    assert "1 call estimated" in shown


def test_hits_are_told_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "costs.db") as book:
        call = Sent(call_id="a", host="sdk", requested_model="gpt-4o")
        book.settle(call, Settled(status="hit", basis="measured", usage=Usage(input=9), actual=Decimal(0)))
    for by, times in (("model", 1), ("day", 1)):
        shown = run("report", "--ledger", str(tmp_path / "costs.db"), "--by", by).output
        assert len(re.findall(r"answered (?:by a cache|\d+ of \d+ calls)", shown)) == times


def test_a_batch_without_a_key_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "rows.csv").write_text("review\ngood\n")
    options = ("--model", "gpt-4o-mini", "--prompt-template", "{review}", "--journal", str(tmp_path / "jobs.db"))
    shown = run("batch", "submit", str(tmp_path / "rows.csv"), *options, "--ledger", ":memory:", "--yes")
    assert shown.exit_code == 1
    assert "OPENAI_API_KEY" in shown.output
    assert "Traceback" not in shown.output
    assert isinstance(shown.exception, SystemExit)


def test_rows_go_to_standard_output(ledger: str) -> None:
    shown = run("report", "--ledger", ledger, "--csv", "-").output
    assert shown.startswith("key,calls,") and "gpt-4o-mini,1," in shown and "written" not in shown


def test_route_fit_wants_prompts(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,review\n1,good\n")
    shown = run("route", "fit", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "router.npz"))
    assert "no line has a prompt" in shown.output
    assert isinstance(shown.exception, SystemExit)
    with pytest.raises(ConfigError, match="0 judged answers"):
        ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"}).fit([], [])


def test_a_model_of_unknown_cost_is_not_shown_as_free(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as book:
        call = Sent(call_id="a", host="sdk", requested_model="my-own")
        book.settle(call, Settled(status="ok", basis="unpriced", usage=Usage(input=10, output=1)))
    shown = run("report", "--ledger", str(path)).output
    assert "unknown" in next(line for line in shown.splitlines() if "my-own" in line)
    assert "$0" not in shown


@pytest.fixture
def unpriced(tmp_path: Path) -> str:
    """A ledger of which not one price is known."""
    path = tmp_path / "own.db"
    with Ledger(path) as book:
        end = Settled(status="ok", basis="unpriced", model="my-own", usage=Usage(input=10, output=10))
        book.settle(Sent(call_id="a", host="sdk", requested_model="my-own", tags={"x": "y"}), end)
    return str(path)


def test_what_nobody_knows_is_null_for_machines(unpriced: str, tmp_path: Path) -> None:
    told = json.loads(run("report", "--ledger", unpriced, "--json").output)
    for line in (*told["lines"], told["total"], told["periods"]["today"]):
        assert (line["spent"], line["baseline"], line["saved"], line["unpriced"]) == (None, None, None, 1)
    rows = run("report", "--ledger", unpriced, "--csv", "-").output.splitlines()
    assert dict(zip(rows[0].split(","), rows[1].split(","), strict=True))["spent"] == ""
    told = json.loads(run("report", "--ledger", unpriced, "--by", "strategy", "--json").output)
    assert (told["baseline"], told["actual"], told["saved"], told["unpriced"]) == (None, None, None, 1)
    assert "$0.00" not in run("report", "--ledger", unpriced, "--by", "strategy").output
    page = tmp_path / "page.html"
    run("report", "--ledger", unpriced, "--html", str(page))
    assert "$0.00" not in page.read_text("utf-8").partition("<footer>")[0]


def test_files_and_json_at_once(ledger: str, tmp_path: Path) -> None:
    """What is written is said beside the document, which stays one."""
    page, rows = tmp_path / "page.html", tmp_path / "rows.csv"
    done = run("report", "--ledger", ledger, "--json", "--html", str(page), "--csv", str(rows))
    assert json.loads(done.stdout)["total"]["calls"] == 4
    assert page.exists() and rows.exists()
    assert f"Written to {page}" in done.stderr and f"2 rows written to {rows}" in done.stderr
    both = run("report", "--ledger", ledger, "--json", "--csv", "-")
    assert both.exit_code == 2 and "give --csv a file" in both.output


def test_what_shadow_and_hits_are_worth_at_no_known_price(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    shadow = {"routing": {"shadow": True, "model": "my-small", "baseline_model": "my-own"}}
    with Ledger(path) as book:
        used = Usage(input=10, output=10)
        for name, status, known in (("a", "ok", shadow), ("b", "hit", {"semantic_cache": {"cache": "hit"}})):
            basis, actual = ("unpriced", None) if status == "ok" else ("measured", Decimal(0))
            end = Settled(status=status, basis=basis, model="my-own", usage=used, actual=actual, strategies=known)  # type: ignore[arg-type]
            book.settle(Sent(call_id=name, host="sdk", requested_model="my-own"), end)
    told = run("report", "--ledger", str(path), "--by", "strategy").output
    assert "In shadow 1 call had no known price" in told and "unknown" in told
    shown = json.loads(run("report", "--ledger", str(path), "--by", "strategy", "--json").output)
    assert (shown["shadow"]["calls"], shown["shadow"]["unpriced"]) == (0, 1)
    assert "A cache answered 1 of 2 calls (50.0%) for $0, worth unknown." in " ".join(
        run("report", "--ledger", str(path)).output.split()
    )


def test_who_stops_reading_is_no_error() -> None:
    command = [str(Path(sys.executable).with_name("llm-savings")), "scenario", "--article"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout is not None and done.stderr is not None
        done.stdout.close()
        assert (done.stderr.read(), done.wait(60)) == (b"", 0)


def test_no_output_takes_the_place_of_a_database(ledger: str, tmp_path: Path) -> None:
    link = tmp_path / "costs.csv"
    link.symlink_to(ledger)
    for words in (["report", "--html", ledger], ["report", "--csv", ledger], ["export", str(link)]):
        done = run(*words, "--ledger", ledger)
        assert done.exit_code == 1 and "is a database; name another file to write" in done.output
    assert len([*Ledger(ledger).calls()]) == 4


def test_a_live_pages_last_hours_are_the_last_of_now(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []

    def served(port: int, book: Ledger, where: str, **how: Any) -> None:
        asked.extend(how["period"]()["since"] for _ in range(2))

    monkeypatch.setattr("llm_savings.cli.report.serve_page", served)
    assert run("report", "--ledger", ledger, "--serve", "--since", "1h").exit_code == 0
    assert asked[0] < asked[1]


@pytest.mark.parametrize(
    "words",
    [
        ("batch", "list", "--journal"),
        ("batch", "status", "abc", "--journal"),
        ("route", "evaluate"),
        ("route", "fit", "judged.jsonl", "--out", "router.npz", "--ledger"),
        ("cache", "stats"),
        ("budget", "show", "--ledger"),
    ],
)
def test_reading_makes_no_file_at_a_mistyped_path(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judged.jsonl").write_text('{"prompt": "hi", "thumb": "up", "call_id": "a"}\n', "utf-8")
    done = run(*words, "typo.db")
    assert done.exit_code == 1 and "'typo.db': there is no such file" in done.output
    assert not Path("typo.db").exists()


def test_the_sandbox_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def served(**how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llm_savings.sandbox.serve", served)
    done = run("sandbox")
    assert (done.exit_code, done.output) == (0, "Ended.\n")


def test_what_goes_with_the_local_provider_only(tmp_path: Path) -> None:
    for option in (["--json"], ["--html", "x.html"], ["--log", "x.jsonl"], ["--strategy", "batch"]):
        done = run("demo", "--provider", "openai", *option)
        assert done.exit_code == 2 and f"{option[0]} goes with the local provider only" in done.output


def test_input_that_is_no_text_or_too_deep_is_one_line(tmp_path: Path) -> None:
    deep, other = tmp_path / "deep.json", tmp_path / "other.txt"
    deep.write_text("[" * 100_000, "utf-8")
    other.write_bytes("안녕".encode("cp949"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n", "utf-8")
    for words in (
        ("lint", str(deep)),
        ("sandbox", "--port", "0", "--knowledge", str(other)),
        ("batch", "submit", str(rows), "--model", "gpt-4o", "--prompt-template", f"@{other}"),
        ("tokens", "os:path", "--sample", str(rows)),
        ("report", "--since", "0001-01-01", "--tz", "Asia/Seoul"),
        ("report", "--until", "9999-12-31T23:00-05:00"),
    ):
        done = run(*words)
        assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit), (words, done.exception)
        assert "Error: " in done.output


def test_report_json_by_the_users_days(ledger: str) -> None:
    shown = run("report", "--ledger", ledger, "--by", "day", "--tz", "Asia/Seoul", "--until", "2026-11-25", "--json")
    document = json.loads(shown.output)
    lines = {line["key"]: line for line in document["lines"]}
    assert lines["2026-11-23"]["calls"] == 1
    assert lines["2026-11-24"]["spent"] == "0.007000000000"
    assert document["total"]["tokens"] == {"input": 3000, "output": 300}


def test_report_of_nothing(tmp_path: Path) -> None:
    shown = run("report")
    assert shown.exit_code == 0
    assert "Nothing recorded in" in shown.output
    assert "costs.db" in shown.output.replace("\n", "")  # where it would be, not ":memory:"
    assert json.loads(run("report", "--json").output)["ledger"].endswith("costs.db")
    assert not list(tmp_path.rglob("costs.db"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "--ledger", "/no/such/file.db"), "there is no such file"),
        (("report", "--tz", "Mars"), "IANA zone name"),
        (("report", "--by", "color"), "expected 'model', 'day'"),
        (("report", "--since", "yesterday"), "expected 24h, 7d"),
        (("prices", "nobody-knows-it"), "no price for nobody-knows-it"),
        (("export", "/no/such/folder/calls.csv"), "No such file or directory"),
        (("export", "calls.xlsx"), "expected csv, jsonl or parquet"),
        (("demo", "--provider", "openai"), "set OPENAI_API_KEY"),
        (("sandbox", "--port", "99999"), "0<=x<=65535"),
        (("sandbox", "--latency", "-1"), "x>=0"),
        (("batch", "status", "nobody"), "llm-savings batch list"),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments: tuple[str, ...], message: str) -> None:
    shown = run(*arguments)
    assert shown.exit_code != 0
    assert message in shown.output
    assert "Traceback" not in shown.output


def test_a_corrupt_ledger_is_an_error_not_an_empty_report(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"garbage" * 1000)
    shown = run("report", "--ledger", str(path))
    assert shown.exit_code == 1
    assert "not a database" in shown.output


def test_export(ledger: str, tmp_path: Path) -> None:
    target = tmp_path / "calls.jsonl"
    assert "4 calls written" in run("export", str(target), "--ledger", ledger).output
    assert len(target.read_text().splitlines()) == 4


def test_prices_of_the_articles_models() -> None:
    shown = run("prices")
    assert shown.exit_code == 0
    for name, price in (("gpt-4o", "2.50"), ("gpt-4o-mini", "0.60"), ("claude-3-5-sonnet", "15.00"), ("haiku", "1.25")):
        assert name in shown.output
        assert price in shown.output
    assert "llama-3.1-70b on your own machines" in shown.output


def test_prices_json_and_mode() -> None:
    document = json.loads(run("prices", "gpt-4o", "--mode", "batch", "--json").output)
    assert Decimal(document["models"]["gpt-4o"]["output"]) == Decimal("0.000005")


def _commands(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _commands(inner, *names, name)


@pytest.mark.parametrize("names", _commands(main))
def test_no_line_of_help_ends_within_a_name(names: tuple[str, ...]) -> None:
    for width in (70, 80, 90, 100):
        told = CliRunner().invoke(main, [*names, "--help"], env={"COLUMNS": str(width)}, terminal_width=width).output
        assert not [line for line in told.splitlines() if line.endswith("-")]


def test_help_has_examples() -> None:
    for command in ("report", "reconcile", "export", "demo", "sandbox"):
        assert "Example:" in run(command, "--help").output


def test_instants() -> None:
    assert instant("2026-11-01", "Asia/Seoul") == datetime(2026, 10, 31, 15, tzinfo=UTC)
    assert instant("2026-11-01T09:00+09:00", "UTC") == datetime(2026, 11, 1, tzinfo=UTC)
    assert instant(None, "UTC") is None
    day = instant("24h", "UTC")
    assert day is not None
    assert abs(datetime.now(UTC) - day - timedelta(hours=24)) < timedelta(minutes=1)
    with pytest.raises(ConfigError):
        instant("2026-13-01", "UTC")


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "saved.db"
    routed = {"routing": {"baseline_model": "gpt-4o"}}
    used = Usage(input=1000, output=1000)
    with Ledger(path) as book:
        for status, usd in (("ok", Decimal("0.00075")), ("hit", Decimal(0))):
            sent = Sent(call_id=status, host="sdk", requested_model="gpt-4o-mini")
            book.settle(sent, Settled(status=status, basis="measured", usage=used, actual=usd, strategies=routed))
    return str(path)


def test_report_by_strategy(saved: str) -> None:
    shown = run("report", "--ledger", saved, "--by", "strategy")
    assert shown.exit_code == 0, shown.output
    for line in (
        r"with nothing saved +\$0.025000",
        r"routing +-\$0.023500 +-94.0%",
        r"semantic cache +-\$0.000750 +-3.0%",
    ):
        assert re.search(line, shown.output), shown.output
    assert "$0.024250 saved, 97.0% of what it would have cost." in shown.output
    assert max(map(len, shown.output.splitlines()[:9])) <= 80


def test_report_by_strategy_for_machines(saved: str) -> None:
    found = json.loads(run("report", "--ledger", saved, "--by", "strategy", "--view", "if_removed", "--json").output)
    assert Decimal(found["credits"]["semantic_cache"]) == Decimal("0.00075")
    assert Decimal(found["credits"]["routing"]) == Decimal("0.01175")
    assert (Decimal(found["baseline"]), found["calls"]) == (Decimal("0.025"), 2)
    assert "'best' is not one of" in run("report", "--ledger", saved, "--view", "best").output


def test_report_by_strategy_of_nothing(saved: str) -> None:
    shown = run("report", "--ledger", saved, "--by", "strategy", "--since", "2100-01-01")
    assert (shown.exit_code, "$0.00" in shown.output) == (0, True)
