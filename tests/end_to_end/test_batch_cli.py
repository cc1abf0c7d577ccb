"""`llm-savings batch`: the article's reviews, from a CSV file to a table of moods."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llm_savings import Ledger
from llm_savings.cli import main
from llm_savings.sandbox import Sandbox

PRAISE = ["배송이 빨라요", "품질이 좋아요", "다시 살래요", "포장이 꼼꼼해요"]
BLAME = ["배송이 늦었어요", "하자가 있어요", "비싸요", "환불했어요"]
TEMPLATE = "다음 리뷰의 감정을 분류해 주세요: {review}"
SCHEMA = '''
from typing import Literal
from pydantic import BaseModel

class Review(BaseModel):
    """A review's mood."""
    sentiment: Literal["긍정", "부정"]
    confidence: float

class Answer(BaseModel):
    """One whose fields are called as the columns of a result."""
    error: str
    tags: list[str]
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with reviews and a schema, and a provider."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop_reviews.py").write_text(SCHEMA, "utf-8")
    dice = random.Random(7)
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "review"])
        for number in range(500):
            rows.writerow([f"r{number}", f"{dice.choice(PRAISE)}, {dice.choice(BLAME)} {number % 450}"])
    for name in ("LLM_SAVINGS_BATCHES", "LLM_SAVINGS_LEDGER"):
        monkeypatch.setenv(name, str(tmp_path / f"{name}.db"))
    with Sandbox() as box:
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        monkeypatch.setenv("OPENAI_BASE_URL", box.openai_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", box.anthropic_url)
        yield box


def run(*words: str, ok: bool = True, typed: str | None = None) -> Result:
    done = CliRunner().invoke(main, ["batch", *words], input=typed)
    assert (done.exit_code == 0) is ok, (done.output, done.exception)
    return done


def read(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def submit(*more: str, model: str = "gpt-4o-mini", **how: Any) -> Result:
    given = ("--prompt-template", TEMPLATE, "--schema", "shop_reviews:Review", "--max-tokens", "40")
    return run("submit", "reviews.csv", "--model", model, *given, "--id-column", "id", *more, **how)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
def test_the_reviews_of_the_article(shop: Sandbox, model: str) -> None:
    shop.batches(line_errors=0.02, expire_after=0.5)
    told = submit(typed="y\n", model=model)
    assert "• 500 inputs, " in told.output and "at most $" in told.output and "in real time about $" in told.output
    job = told.stdout.rsplit("Results:")[0].strip().splitlines()[-1].split()[0]
    done = run("collect", job[:8], "--out", "moods.jsonl", "--schema", "shop_reviews:Review")
    assert "500 results in moods.jsonl, 0 without an answer" in done.output
    rows = [json.loads(line) for line in Path("moods.jsonl").read_text("utf-8").splitlines()]
    assert [row["custom_id"] for row in rows] == [f"r{number}" for number in range(500)]
    assert {row["output"]["sentiment"] for row in rows} <= {"긍정", "부정"}
    assert rows[3]["input"]["review"].endswith(" 3") and "긍정" in Path("moods.jsonl").read_text("utf-8")
    assert (Path("moods.jsonl").stat().st_mode & 0o777) == 0o600
    different = len({row["input"]["review"] for row in rows})
    bill = shop.bill()
    assert len(bill.rows) == different and {row.tier for row in bill.rows} == {"batch"}
    assert sum(call.settled.actual for call in Ledger().calls() if call.settled) == bill.total  # type: ignore[misc]
    # The same command again sends nothing and costs nothing.
    assert job in submit("--yes", model=model).output
    assert len(shop.bill().rows) == different
    run("collect", job, "--out", "moods.csv", "--schema", "shop_reviews:Review")
    table = read("moods.csv")
    assert len(table) == 500 and table[0]["sentiment"] in ("긍정", "부정") and table[0]["review"]


def test_a_table_has_every_answer_and_every_input(shop: Sandbox) -> None:
    """Also of a row with more columns than the first, and of one whose names are ours; no cell is a formula."""
    rows = [{"review": "늦었어요", "number": "7"}, {"review": "=좋아요", "error": "none", "shop": "서울"}]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    given = ("--prompt-template", TEMPLATE, "--schema", "shop_reviews:Review", "--model", "gpt-4o-mini", "--yes")
    job = run("submit", "rows.jsonl", *given).stdout.split()[0]
    run("collect", job, "--out", "whole.csv", "--schema", "shop_reviews:Review")
    first = read("whole.csv")
    assert [row["sentiment"] in ("긍정", "부정") for row in first] == [True, True]
    assert [(row["input_number"], row["number"]) for row in first] == [("7", "1"), ("", "2")]
    assert (first[1]["shop"], first[1]["input_error"], first[1]["error"]) == ("서울", "none", "")
    assert first[1]["review"] == "'=좋아요"
    given = ("--prompt-template", TEMPLATE, "--schema", "shop_reviews:Answer", "--model", "gpt-4o-mini", "--yes")
    job = run("submit", "rows.jsonl", *given).stdout.split()[0]
    run("collect", job, "--out", "whole.csv", "--schema", "shop_reviews:Answer")
    for row in read("whole.csv"):
        assert row["output_error"] and not row["error"] and isinstance(json.loads(row["tags"]), list)


def test_a_table_whose_first_input_has_no_answer(shop: Sandbox) -> None:
    bodies = [
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]} for text in ("나빠요", "좋아요")
    ]
    bodies[0]["max_tokens"] = -1
    form = {"type": "json_schema", "json_schema": {"name": "R", "schema": _schema()}}
    lines = [{"custom_id": f"a{n}", "body": body | {"response_format": form}} for n, body in enumerate(bodies)]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    job = run("submit", "in.jsonl", "--yes").stdout.split()[0]
    run("collect", job, "--out", "moods.csv", "--schema", "shop_reviews:Review", ok=False)
    table = read("moods.csv")
    assert table[0]["error"] and not table[0]["sentiment"] and table[1]["sentiment"] in ("긍정", "부정")


def _schema() -> Any:
    mood = {"type": "string", "enum": ["긍정", "부정"]}
    members = {"sentiment": mood, "confidence": {"type": "number"}}
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def test_status_list_cancel_and_erase(shop: Sandbox) -> None:
    shop.batches(seconds=60)
    job = submit("--yes", "--tag", "feature:reviews").stdout.split()[0]
    now = json.loads(run("status", job, "--json").stdout)
    assert (now["state"], now["inputs"], now["batches"]) == ("open", 500, 1)
    assert "0 of" in run("status", job).output and job[:8] in run("list").output
    told = json.loads(run("list", "--json").output)
    assert (
        told[0]["id"].startswith(job)
        and told[0]["estimate"] == json.loads(run("status", job, "--json").output)["estimate"]
    )
    assert "cancel it" in run("erase", job, ok=False).output
    run("cancel", job)
    done = run("collect", job, "--out", "left.jsonl", ok=False)
    assert "without an answer" in done.output and done.exit_code == 1
    run("erase", job)
    assert job[:8] not in run("list").output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--prompt-template", "{reviw}"], "line 2: reviw is missing; FILE has id, review"),
        (["--prompt-template", "{review.__class__}"], "expected a column's name"),
        (["--prompt-template", '{"a": {review}'], "for braces of its own"),
        (["--prompt-template", TEMPLATE, "--schema", "nowhere:Review"], "expected MODULE:MODEL"),
        (["--prompt-template", TEMPLATE, "--schema", "json:dumps"], "is no pydantic model"),
        (["--prompt-template", TEMPLATE, "--id-column", "name"], "line 2: name is missing"),
        (["--prompt-template", TEMPLATE, "--encoding", "ascii"], "is not ascii text"),
        (["--prompt-template", TEMPLATE, "--max-cost", "0.0001"], "options.max_cost is $0.0001"),
        (["--prompt-template", TEMPLATE, "--model", "gpt-99"], "model 'gpt-99' is not known"),
        (["--prompt-template", TEMPLATE, "--tag", "reviews"], "expected KEY:VALUE"),
        ([], "a CSV file needs --prompt-template"),
    ],
)
def test_one_clear_error_before_anything_is_sent(shop: Sandbox, words: list[str], problem: str) -> None:
    done = run("submit", "reviews.csv", "--model", "gpt-4o-mini", "--yes", *words, ok=False)
    assert problem in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert "gpt" not in run("list").output


def test_no_is_no(shop: Sandbox) -> None:
    assert "not confirmed" in submit(typed="n\n", ok=False).output
    assert not shop.bill().rows


def test_lines_that_are_requests_already(shop: Sandbox) -> None:
    bodies = [{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"리뷰 {n}"}]} for n in range(3)]
    head = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [{"custom_id": f"a{n}", **head, "body": body} for n, body in enumerate(bodies)]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    job = run("submit", "in.jsonl", "--yes", "--wait").stdout.split()[0]
    run("collect", job, "--out", "out.jsonl")
    assert [json.loads(line)["custom_id"] for line in Path("out.jsonl").read_text().splitlines()] == ["a0", "a1", "a2"]
    Path("rows.jsonl").write_text('{"review": "좋아요"}\n[1]\n', "utf-8")
    done = run("submit", "rows.jsonl", "--prompt-template", TEMPLATE, "--model", "gpt-4o-mini", "--yes", ok=False)
    assert "line 2: row is no JSON object" in done.output
