"""`llm-savings tokens`."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from structured_samples import SAMPLES

from llm_savings import PriceBook, Usage
from llm_savings.cli.main import main
from llm_savings.structured import Target, sizes

REVIEWS = SAMPLES["Korean reviews"][1]


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = tmp_path / "reviews.jsonl"
    lines = (
        review.model_dump(mode="json") | {"prose": "이 리뷰는 긍정적입니다. 다시 구매할 것 같습니다."}
        for review in REVIEWS
    )
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n", "utf-8")
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["tokens", *map(str, arguments)])


def test_the_table_is_that_of_the_library(sample: Path) -> None:
    done = run("structured_samples:Review", "--sample", sample, "--model", "gpt-4o-mini", "--json")
    assert done.exit_code == 0, done.output
    found, own = json.loads(done.output), sizes(Target(type(REVIEWS[0]), many=True), REVIEWS)
    counts = {name: getattr(own, name) for name in ("pretty", "compact", "short", "columns")}
    assert {name: found["tokens"][name] for name in counts} == counts
    assert found["tokens"]["prose"] > 0 and found["strict"] and found["records"] == 20
    usd = PriceBook().price(Usage(output=1000 * own.columns), "gpt-4o-mini")
    assert Decimal(found["usd_per_1000_calls"]["columns"]) == usd


def test_it_is_shown_to_people(sample: Path) -> None:
    done = run("structured_samples:Review", "--sample", sample)
    assert done.exit_code == 0, done.output
    for said in ("prose", "columns", "per 1,000 calls", "It can be strict.", "in one answer"):
        assert said in done.output
    each = run("structured_samples:Review", "--sample", sample, "--each")
    assert "each an answer" in each.output


@pytest.mark.parametrize(
    ("named", "line", "said"),
    [
        ("structured_samples", "{}", "expected such as shop.models:Review"),
        ("structured_samples:Nobody", "{}", "cannot be imported"),
        ("no_such_module:Review", "{}", "cannot be imported"),
        ("structured_samples:Review", "{", "line 1: "),
        ("structured_samples:Review", '{"product": 1}', "does not fit"),
        ("structured_samples:Review", "", "no records"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, sample: Path, named: str, line: str, said: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(line, "utf-8")
    done = run(named, "--sample", other)
    assert done.exit_code == 1 and said in done.output and "Traceback" not in done.output
