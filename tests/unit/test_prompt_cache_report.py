"""`llm-savings report --by prefix`: hit rates per stable beginning, and the money lost when it was gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llm_savings import Ledger, PriceBook, Usage
from llm_savings.cli.main import main
from llm_savings.ledger import Sent, Settled
from llm_savings.report.overview import overview
from llm_savings.report.prefixes import by_prefix

MODEL = "claude-sonnet-4-5"  # $3 in, $3.75 written, $0.30 read, per million


def kept(path: Path, *rows: tuple[Usage, dict[str, Any]], model: str = MODEL) -> Ledger:
    ledger = Ledger(str(path))
    prices = PriceBook()
    for number, (usage, evidence) in enumerate(rows):
        sent = Sent(
            call_id=f"{number}", host="sdk", requested_model=model, started_at=datetime(2026, 11, 27, tzinfo=UTC)
        )
        usd = prices.price(usage, model) if model in prices else None
        basis = "measured" if usd is not None else "unpriced"
        strategies = {"prompt_cache": evidence} if evidence else {}
        ledger.settle(
            sent, Settled(status="ok", basis=basis, model=model, usage=usage, actual=usd, strategies=strategies)
        )
    return ledger


def test_reads_writes_and_losses_are_summed_by_prefix(tmp_path: Path) -> None:
    ledger = kept(
        tmp_path / "costs.db",
        (Usage(input=100, cache_write_5m=10_000, output=50), {"prefix": "aa", "held": 0}),
        (Usage(input=100, cache_read=10_000, output=50), {"prefix": "aa", "held": 9_900}),
        (Usage(input=100, cache_write_5m=10_000, output=50), {"prefix": "aa", "held": 9_900}),  # it was gone
        (Usage(input=10_100, output=50), {"prefix": "aa", "held": 9_900, "shadow": True}),
        (Usage(input=500, output=50), {}),
    )
    aa, unknown = by_prefix(ledger.calls())
    assert (aa.prefix, aa.calls, aa.hits, aa.read, aa.written) == ("aa", 4, 1, 10_000, 20_000)
    assert aa.hit_rate == pytest.approx(10_000 / 40_400)
    # One read saves $0.027; two writes cost $0.0075 each beyond plain input.
    assert aa.saved == Decimal("0.027") - 2 * Decimal("0.0075")
    assert aa.lost == 9_900 * Decimal("3.45") / 1_000_000
    assert (unknown.prefix, unknown.saved, unknown.lost) == ("", 0, 0)


def test_what_has_no_price_is_counted(tmp_path: Path) -> None:
    ledger = kept(tmp_path / "costs.db", (Usage(input=100), {"prefix": "bb"}), model="my-llama")
    (line,) = by_prefix(ledger.calls())
    assert (line.unpriced, line.saved) == (1, 0)


def test_amounts_without_a_price_are_unknown_not_0(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    kept(path, (Usage(input=5_000, output=50), {"prefix": "aa", "held": 9_900}), model="my-own").close()
    told = CliRunner().invoke(main, ["report", "--ledger", str(path), "--by", "prefix"]).output
    assert told.count("unknown") == 2 and "$0.00" not in told and "1 call used something without a known price" in told
    (row,) = json.loads(CliRunner().invoke(main, ["report", "--ledger", str(path), "--by", "prefix", "--json"]).output)
    assert (row["saved"], row["lost_to_invalidation"], row["unpriced"]) == (None, None, 1)


def test_the_command_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    kept(path, (Usage(input=100, cache_read=10_000, output=50), {"prefix": "0123456789abcdef", "held": 9_900}))
    shown = CliRunner().invoke(main, ["report", "--ledger", str(path), "--by", "prefix"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert "0123456789abcdef" in shown.output
    assert "99.0%" in shown.output
    told = CliRunner().invoke(main, ["report", "--ledger", str(path), "--by", "prefix", "--json"])
    (line,) = json.loads(told.output)
    assert (line["hits"], line["read_tokens"], Decimal(line["saved"])) == (1, 10_000, Decimal("0.027"))
    assert Decimal(line["lost_to_invalidation"]) == 0


def test_a_cache_that_cost_more_than_it_saved_is_told_as_a_loss(tmp_path: Path) -> None:
    ledger = kept(
        tmp_path / "costs.db",
        *[(Usage(input=100, cache_write_5m=10_000, output=50), {"prefix": "aa"})] * 3,
        (Usage(input=9_000, cache_read=1_000, output=50), {"prefix": "aa"}),
    )
    found = overview(ledger, since=datetime(2026, 11, 1, tzinfo=UTC)).findings
    (said,) = [said for said in found if said.key.startswith("finding.read")]
    # Three writes cost $0.0075 each beyond plain input; one read takes $0.0027 off.
    assert said.text().endswith("writing to it cost $0.019800 more than reading from it took off.")
    assert "$0.019800" in said.text("ko")
