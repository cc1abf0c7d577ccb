"""`--lang ko`: the terminal says in Korean all that it says in English, in columns that line up."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from llm_savings import Budget, Ledger, PriceBook, Usage
from llm_savings.bounds import Size
from llm_savings.cli import main
from llm_savings.ledger import Sent
from llm_savings.meter import Answer, Meter, settle

NOW = datetime.now(UTC)
PRICES = PriceBook()
# What is not said in Korean: names of the calls, commands, units and what the price book calls itself.
NAMES = re.compile(
    r"gpt-\S+|my-own|costs\.db|kim|김철수|sdk|feature|faq|each|default|user=\S+|UTC|USD|litellm|LLM_SAVINGS_PRICES"
    r"|llm-savings [a-z -]+|--(since|html FILE|help)|\b[0-9a-f]{12}\b|abcdef|kB"
)


def put(book: Ledger, number: int, model: str, answer: Answer) -> None:
    days = timedelta(days=number % 3, hours=1)
    user, tags = ("kim", "김철수", None)[number % 3], {"feature": "배송 문의" if number % 2 else "faq"}
    call = Sent(call_id=str(number), host="sdk", requested_model=model, started_at=NOW - days, user=user, tags=tags)
    book.settle(call, settle(PRICES, call, answer, "hit" if answer.hit else "error" if number % 19 == 0 else "ok"))


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ko") / "costs.db"
    book = Ledger(path)
    for number in range(60):
        model = ("gpt-4o", "gpt-4o-mini")[number % 2]
        strategies = {"prompt_cache": {"prefix": "abcdef", "held": 2048}} if number % 3 == 0 else {}
        if number % 5 == 0:
            strategies["routing"] = {"baseline_model": "gpt-4o", "shadow": number % 10 == 0}
        used = Usage(input=3000, output=50, cache_read=2048 if number % 6 == 0 else 0)
        hit, estimated = number % 7 == 0, number % 13 == 0
        put(book, number, model, Answer(model=model, usage=used, hit=hit, strategies=strategies, estimated=estimated))
    put(book, 98, "my-own", Answer(model="my-own", usage=Usage(input=1000, output=10)))
    book.sent(Sent(call_id="lost", host="sdk", requested_model="gpt-4o", bound=Decimal("0.25"), started_at=NOW))
    meter = Meter(book, budget=Budget(daily="5", per="user", name="each"))
    meter.begin(
        Sent(call_id="held", host="sdk", requested_model="gpt-4o", user="kim", bound=Decimal("0.5")),
        Size(prompt=100, max_tokens=100),
    )
    book.close()
    return str(path)


def run(*arguments: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("by", ["model", "day", "user", "host", "total", "tag:feature", "strategy", "prefix"])
def test_everything_is_said_in_korean_and_lines_up(costs: str, by: str) -> None:
    told, english = (run("report", "--ledger", costs, "--by", by, "--lang", lang) for lang in ("ko", "en"))
    plain = told.replace(costs, "").replace("\n", " ")
    assert not re.findall(r"[A-Za-z]{2,}", NAMES.sub("", plain)), told
    assert len(re.findall("^• ", told, re.M)) == len(re.findall("^• ", english, re.M)) > 0
    assert all(cell_len(line) <= 80 for line in told.splitlines())
    table = None
    for line in told.splitlines():
        if set(line.strip()) == {"─"}:
            table = cell_len(line)
        elif not line.strip() or line.startswith("•"):
            table = None
        elif table is not None:
            assert cell_len(line) == table, line
    figures = re.compile(r"\$\d[\d,]*(?:\.\d+)?|\d+\.\d%|\d,\d{3}\b")
    korean_table, english_table = (figures.findall(text.partition("•")[0]) for text in (told, english))
    assert korean_table == english_table != []


def test_english_is_the_default_and_json_keeps_its_keys(costs: str) -> None:
    assert run("report", "--ledger", costs) == run("report", "--ledger", costs, "--lang", "en")
    korean, english = (json.loads(run("report", "--ledger", costs, "--json", "--lang", lang)) for lang in ("ko", "en"))
    assert korean.pop("findings")[0] != english.pop("findings")[0]
    assert korean == english


def test_an_empty_period_says_so_in_korean(costs: str) -> None:
    told = run("report", "--ledger", costs, "--since", "2090-01-01", "--lang", "ko")
    assert "이 기간의 기록이 없습니다." in told.replace("\n", "")


def test_what_is_unknown_is_said_so_in_korean(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "a.db")
    put(book, 1, "my-own", Answer(model="my-own", usage=Usage(input=1000, output=10)))
    book.close()
    for by in ("model", "strategy", "prefix"):
        told = run("report", "--ledger", str(tmp_path / "a.db"), "--by", by, "--lang", "ko")
        assert "알 수 없음" in told and "unknown " not in told


def test_an_audit_speaks_korean_too(tmp_path: Path) -> None:
    log, page = tmp_path / "log.jsonl", tmp_path / "a.html"
    system = {"role": "system", "content": "지금은 2026-11-28 12:00:01입니다. " + "[b]배송[/b] 규정입니다. " * 400}
    rows = [
        {"model": "gpt-4o", "messages": [system, {"role": "user", "content": f"질문 {n}"}], "response": "네",
         "usage": {"prompt_tokens": 3000, "completion_tokens": 100}, "created": 1_790_000_000 + n}
        for n in range(3)
    ]  # fmt: skip
    log.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    told = run("audit", str(log), "--lang", "ko", "--html", str(page))
    for said in ("아꼈을 금액", "최소", "예상", "최대", "실제 지출 대비", "정가에서 예상 지출까지", "→ "):
        assert said in told
    assert "네트워크 없이 열립니다" in told.replace("\n", "")
    for said in ("at worst", "What would", "needs no network", "estimated"):
        assert said not in told
