"""A ledger as Prometheus metrics: the ledger's sums, counters that never fall, few labels, and cheap scrapes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import Budget, ConfigError, Ledger, PriceBook, Usage
from llm_savings.attribution import attribute
from llm_savings.bounds import Size
from llm_savings.ledger import Sent, Settled, total
from llm_savings.meter import Answer, Meter, settle
from llm_savings.prometheus import LedgerCollector

pytest.importorskip("prometheus_client")
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

PRICES = PriceBook()
EVIL = 'fa"q\n\\<b> 태그'


def put(book: Ledger, name: str, answer: Answer, **sent: Any) -> Sent:
    call = Sent(**{"call_id": name, "host": "sdk", "requested_model": "gpt-4o", "user": "kim", **sent})
    book.settle(call, settle(PRICES, call, answer, "hit" if answer.hit else "ok"))
    return call


@pytest.fixture
def book() -> Ledger:
    ledger = Ledger(":memory:")
    for number in range(30):
        strategies = {"routing": {"baseline_model": "gpt-4o"}} if number % 2 else {}
        used = Usage(input=100 + number, output=5, cache_read=10 * (number % 3))
        model = ("gpt-4o", "gpt-4o-mini")[number % 2]
        answer = Answer(model=model, usage=used, hit=number % 5 == 0, strategies=strategies)
        put(ledger, str(number), answer, provider="openai", tags={"feature": EVIL})
    ledger.sent(Sent(call_id="lost", host="sdk", requested_model="gpt-4o", bound=Decimal("0.25")))
    return ledger


def scrape(collector: LedgerCollector) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    registry = CollectorRegistry()
    registry.register(collector)
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def test_the_sums_are_the_ledgers(book: Ledger) -> None:
    found = scrape(LedgerCollector(book, tags=("feature",)))
    whole, shared = total(book.summary()), attribute(book.calls())
    assert sum(found["llm_savings_spent_usd_total"].values()) == pytest.approx(float(whole.actual))
    assert sum(found["llm_savings_baseline_usd_total"].values()) == pytest.approx(float(whole.baseline))
    assert sum(found["llm_savings_calls_total"].values()) == whole.calls - whole.unknown
    assert sum(found["llm_savings_cache_hits_total"].values()) == whole.hits
    for strategy, usd in shared.credits.items():
        key = frozenset({("strategy", strategy)})
        assert found["llm_savings_saved_usd_total"][key] == pytest.approx(float(usd))
    kinds = whole.usage.as_dict()
    for kind, used in kinds.items():
        shown = found["llm_savings_tokens_total"].items()
        assert sum(value for labels, value in shown if ("kind", kind) in labels) == used
    assert found["llm_savings_unknown_calls"][frozenset()] == 1
    assert found["llm_savings_unknown_bound_usd"][frozenset()] == 0.25
    assert all(("feature", EVIL) in labels for labels in found["llm_savings_spent_usd_total"])


def test_nobody_is_named(book: Ledger) -> None:
    meter = Meter(book, budget=Budget(daily="5", per="user"))
    for user in ("kim", "lee"):
        sent = Sent(call_id=user, host="sdk", requested_model="gpt-4o", user=user, bound=Decimal("0.5"))
        meter.begin(sent, Size(prompt=100, max_tokens=100))
    plain = scrape(LedgerCollector(book))
    assert "kim" not in repr(plain)
    ((labels, limit),) = plain["llm_savings_budget_limit_usd"].items()
    assert limit == 5
    assert ("scope", "most used") in labels
    named = scrape(LedgerCollector(book, scopes=True))["llm_savings_budget_held_usd"]
    assert {dict(labels)["scope"] for labels in named} == {"user=kim", "user=lee"}
    assert all(value > 0 for value in named.values())


def test_counters_never_fall_and_learn_what_calls_turned_out_to_cost(book: Ledger) -> None:
    collector = LedgerCollector(book)
    before = scrape(collector)
    call = Sent(call_id="lost", host="sdk", requested_model="gpt-4o", bound=Decimal("0.25"))
    used = Usage(input=10)
    end = Settled(status="ok", basis="measured", model="gpt-4o", usage=used, actual=Decimal(1), baseline=Decimal(1))
    book.reconcile([(call, end)])
    put(book, "new", Answer(model="gpt-4o", usage=used))
    after = scrape(collector)
    for name in before:
        if name.endswith("_total"):
            assert all(after[name][labels] >= value for labels, value in before[name].items())
    assert sum(after["llm_savings_spent_usd_total"].values()) == pytest.approx(float(total(book.summary()).actual))
    assert after["llm_savings_unknown_calls"][frozenset()] == 0
    assert scrape(collector) == after


def test_a_scrape_reads_only_what_is_new(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    collector, read = LedgerCollector(book), list[int]()
    written = book.written

    def counted(*arguments: Any) -> Iterator[Any]:
        for pair in written(*arguments):
            read.append(pair[0])
            yield pair

    monkeypatch.setattr(book, "written", counted)
    scrape(collector)
    assert len(read) == 31
    read.clear()
    put(book, "new", Answer(model="gpt-4o", usage=Usage(input=1)))
    scrape(collector)
    assert len(read) == 2  # the new one, and the one that may still end


def test_rows_that_come_late_with_an_earlier_number_are_counted(book: Ledger) -> None:
    collector = LedgerCollector(book)
    scrape(collector)
    for number, name in ((40, "second"), (35, "first")):
        put(book, name, Answer(model="gpt-4o", usage=Usage(input=number)))
        book.flush()
        book._store.execute("UPDATE calls SET id = ? WHERE call_id = ?", (number, name))
        found = scrape(collector)
    assert sum(found["llm_savings_calls_total"].values()) == 32
    assert found["llm_savings_unknown_calls"][frozenset()] == 1


def test_labels_are_bounded_and_the_largest_keep_their_names() -> None:
    book = Ledger(":memory:")
    for number in range(100):
        usd = Decimal(number)
        call = Sent(call_id=str(number), host="sdk", requested_model=f"m{number}", tags={"feature": f"f{number}"})
        book.settle(call, Settled(status="ok", basis="measured", usage=Usage(input=1), actual=usd, baseline=usd))
    found = scrape(LedgerCollector(book, tags=("feature",), most=5))["llm_savings_spent_usd_total"]
    models = {dict(labels)["model"] for labels in found}
    assert models == {"m95", "m96", "m97", "m98", "m99", "other"}
    assert len({dict(labels)["feature"] for labels in found}) == 6
    assert sum(found.values()) == sum(range(100))


def test_a_ledger_that_cannot_be_read_is_down_and_its_figures_stay(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    book = Ledger(path)
    put(book, "1", Answer(model="gpt-4o", usage=Usage(input=1000)))
    collector = LedgerCollector(book)
    before = scrape(collector)
    assert before["llm_savings_up"][frozenset()] == 1
    book.close()
    for part in tmp_path.glob("costs.db*"):
        part.unlink()
    path.write_bytes(b"garbage" * 1000)
    after = scrape(collector)
    assert after["llm_savings_up"][frozenset()] == 0
    assert after["llm_savings_spent_usd_total"] == before["llm_savings_spent_usd_total"]


def test_what_is_missing_or_wrong_is_named(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for tag in ("a-b", "model", "kind", "단위"):
        with pytest.raises(ConfigError, match="tags has"):
            LedgerCollector(book, tags=(tag,))
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    with pytest.raises(ConfigError, match=r"llm-savings\[prometheus\]"):
        LedgerCollector(book)
