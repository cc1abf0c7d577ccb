"""`llm-savings cache`, as it is typed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_savings.cli import main
from llm_savings.errors import ConfigError
from llm_savings.ledger import tenant_hash
from llm_savings.semantic_cache import AnswerCache, Hit, Request, Settings


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cache", *map(str, arguments)])


def asking(text: str, user: str | None = None) -> Request:
    return Request(model="gpt-4o", messages=[{"role": "user", "content": text}], parameters={}, user=user)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cache.db"
    with AnswerCache(path, Settings(audit_rate=0), text_of=str) as cache:
        for text, tag in (("What is RAG?", "source:a.pdf"), ("[red]Who[/red] is Kim?", "people")):
            miss = cache.lookup(asking(text, tenant_hash("kim")))
            assert miss.question is not None
            cache.keep(miss.question, "x", tags=[tag], cost=Decimal("0.002"), latency=1.0)
        assert isinstance(cache.lookup(asking("what is RAG")), Hit)
    return path


def test_stats_say_what_was_hit_missed_and_saved(path: Path) -> None:
    result = run("stats", path)
    assert result.exit_code == 0, result.output
    assert "hit: canonical" in result.output and "miss: new scope" in result.output
    assert "1 of 3 lookups were answered (33.3%)" in result.output
    assert "$0.002000" in result.output and "2 answers are kept" in result.output


def test_stats_for_machines(path: Path) -> None:
    found = json.loads(run("stats", path, "--json").output)
    assert found["lookups"] == 3 and found["hits"] == {"canonical": 1}
    assert Decimal(found["saved_usd"]) == Decimal("0.002")
    assert found["wrong_per_lookup"] is None
    assert [domain["language"] for domain in found["domains"]] == ["en"]


def test_a_namespace_without_lookups_says_so(path: Path) -> None:
    assert "Nothing was looked up yet." in run("stats", path, "--namespace", "b").output


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--tag", "people"], 1),
        (["--source", "a.pdf"], 1),
        (["--model", "gpt-4o"], 2),
        (["--model", "gpt-4"], 0),
        (["--user", "kim"], 2),
        (["--before", "1h"], 0),
        (["--all"], 2),
        (["--namespace", "b"], 0),
    ],
)
def test_answers_are_removed(path: Path, options: list[str], count: int) -> None:
    assert run("invalidate", path, *options, "--dry-run").output == f"{count} answers would be removed\n"
    assert run("invalidate", path, *options).output == f"{count} answers removed\n"
    with AnswerCache(path, text_of=str) as cache:
        assert cache.stats().entries == 2 - count


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "/nowhere/cache.db"], "there is no such file"),
        (["stats", ":memory:"], "there is no such file"),
        (["stats", "mysql://x"], "unknown kind of URL"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


def test_nothing_named_removes_nothing(path: Path) -> None:
    assert "name what to remove, or --all" in run("invalidate", path).output
    assert "exclude each other" in run("invalidate", path, "--tag", "a", "--source", "b").output


def pairs(tmp_path: Path, count: int = 120) -> Path:
    places = ["Seoul", "Busan", "Paris", "Berlin", "London", "Tokyo", "Lima", "Oslo", "Cairo", "Rome"]
    lines = ["a,b,same"]
    for number in range(count):
        place, other = places[number % 10], places[(number + 1 + number // 10 % 9) % 10]
        same = number % 2 == 0
        lines.append(f"How do I get to {place}?,How can I get to {place if same else other}?,{'yes' if same else 'no'}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_tuning_shows_the_curve_and_writes_what_a_cache_reads(tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    result = run("tune", pairs(tmp_path, 600), "--max-error", "0.05", "--out", out)
    assert result.exit_code == 0, result.output
    assert "en: 600 pairs, 300 of them the same" in result.output and "95% interval" in result.output
    thresholds = json.loads(out.read_text("utf-8"))["thresholds"]
    assert 0 < thresholds["en"] <= 1
    cache = AnswerCache(None, Settings(tuned=out, max_error=0.05), text_of=str)
    assert cache._shipped(0.05, "en") == thresholds["en"]
    with pytest.raises(ConfigError, match="max_error"):
        AnswerCache(None, Settings(tuned=out, max_error=0.01), text_of=str)


def test_tuning_for_machines(tmp_path: Path) -> None:
    found = json.loads(run("tune", pairs(tmp_path), "--json").output)
    assert found["languages"]["en"]["pairs"] == 120
    assert all(0 <= step["low"] <= step["precision"] <= step["high"] <= 1 for step in found["languages"]["en"]["curve"])


def test_tuning_names_the_line_that_is_no_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,same\nx,y,perhaps\n", "utf-8")
    result = run("tune", path)
    assert result.exit_code == 1 and "line 2" in result.output and "perhaps" in result.output
    path.write_text("a,b,same\nx,y,yes\n", "utf-8")
    assert "too few pairs" in run("tune", path).output


@pytest.mark.parametrize("text", ["", "[]", '{"max_error": 0.01}', '{"max_error": 0.01, "thresholds": {"en": 2}}'])
def test_a_file_that_was_not_tuned_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="tuned="):
        AnswerCache(None, Settings(tuned=path), text_of=str)


def test_a_file_that_is_no_cache_is_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("소중한 메모", "utf-8")
    for words in (("stats", notes), ("invalidate", notes, "--all")):
        done = run(*words)
        assert done.exit_code == 1 and "is no cache's file" in done.output
    assert notes.read_text("utf-8") == "소중한 메모" and [*tmp_path.iterdir()] == [notes]
