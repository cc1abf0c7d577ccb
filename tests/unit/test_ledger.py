"""The same ledger over memory, SQLite and PostgreSQL: one row a call, exact sums, private files."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import stat
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import ConfigError, Ledger, LedgerError, RecordError, Usage
from llm_savings.ledger import Sent, Settled, export, last_days, masked, tenant_hash, total
from llm_savings.ledger import schema as ledger_schema
from llm_savings.ledger.records import from_picodollars, to_picodollars
from llm_savings.periods import window
from llm_savings.report import plain_text

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        target = ":memory:"
    elif request.param == "sqlite":
        target = str(tmp_path / "costs.db")
    else:
        psycopg = pytest.importorskip("psycopg")
        url = request.getfixturevalue("postgres_url")
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        target = url.replace("/postgres?", f"/{name}?")
    with Ledger(target) as ledger:
        yield ledger


def sent(call_id: str = "c1", **changes: object) -> Sent:
    values: dict[str, object] = {
        "call_id": call_id,
        "host": "sdk",
        "requested_model": "gpt-4o",
        "started_at": NOON,
        "bound": Decimal("0.5"),
    }
    return Sent(**(values | changes))  # type: ignore[arg-type]


def done(**changes: object) -> Settled:
    values: dict[str, object] = {
        "status": "ok",
        "basis": "measured",
        "model": "gpt-4o-2024-08-06",
        "mode": "standard",
        "usage": Usage(input=100, output=20, reasoning=5),
        "actual": Decimal("0.00045"),
        "baseline": Decimal("0.0009"),
    }
    return Settled(**(values | changes))  # type: ignore[arg-type]


def test_only_unknown_calls_are_reconciled_and_once(ledger: Ledger) -> None:
    bases = ("unknown", "suspect", "measured", "estimated", "unpriced")
    ends = {basis: done(basis=basis, actual=Decimal(1) if basis in bases[2:4] else None) for basis in bases}
    calls = {basis: sent(basis) for basis in bases}
    for basis, call in calls.items():
        ledger.settle(call, ends[basis])
    ledger.sent(sent("lost"))
    found = done(actual=Decimal("0.25"), strategies={"reconciled": {"source": "bill", "by": "id"}})
    both = [*((call, found) for call in calls.values()), (sent("lost"), found), (sent("never seen"), found)]
    assert ledger.reconcile(both) == 3
    kept = list(ledger.calls())
    assert {call.sent.call_id for call in kept if call.settled == found} == {"unknown", "suspect", "lost"}
    assert all(call.settled == ends[call.sent.call_id] for call in kept if call.settled != found)
    assert ledger.reconcile(iter(both)) == 0
    ledger.settle(sent("lost"), done(actual=Decimal(9)))  # the end that was thought lost comes after all: too late
    assert list(ledger.calls()) == kept


def test_reconciling_writes_a_batch_whole_or_not_at_all(ledger: Ledger) -> None:
    for name in "ab":
        ledger.sent(sent(name))
    with pytest.raises(RecordError):
        ledger.reconcile([(sent("a"), done()), (sent("b"), done(actual=Decimal("NaN")))])
    assert [call.status for call in ledger.calls()] == ["sent", "sent"]
    assert ledger.reconcile((sent(name), done()) for name in "ab") == 2


def test_a_row_is_written_ahead_and_comes_back_as_it_went(ledger: Ledger) -> None:
    call = sent(
        provider="openai", tags={"feature": "문의"}, user="kim", session="s1", tenant=tenant_hash("key"), stream=True
    )
    ledger.sent(call)
    before = ledger.get("c1")
    assert before is not None
    assert (before.sent, before.settled, before.basis, before.status) == (call, None, "unknown", "sent")
    end = done(strategies={"routing": {"tier": "simple"}}, response_id="chatcmpl-1", latency=0.25)
    ledger.settle(call, end)
    after = ledger.get("c1")
    assert after is not None
    assert after.sent == call
    assert after.settled == end
    assert ledger.get("nobody") is None


def test_writing_twice_changes_nothing(ledger: Ledger) -> None:
    call = sent()
    for _ in range(2):
        ledger.sent(call)
    ledger.settle(call, done())
    ledger.settle(call, done(actual=Decimal(99)))
    ledger.sent(call)
    ledger.settle(sent(bound=Decimal(7)), done(actual=Decimal(7)))
    rows = list(ledger.calls())
    assert len(rows) == 1
    assert rows[0].settled is not None
    assert rows[0].settled.actual == Decimal("0.00045")


def test_a_settlement_without_its_first_half_is_a_whole_row(ledger: Ledger) -> None:
    ledger.settle(sent(user="lee"), done(mode="flex"))
    row = ledger.get("c1")
    assert row is not None
    assert row.settled == done(mode="flex")
    assert row.sent.user == "lee"


def test_sums_keep_measured_estimated_unknown_and_unpriced_apart(ledger: Ledger) -> None:
    ledger.settle(sent("a"), done())
    ledger.settle(sent("b"), done(basis="estimated", actual=Decimal("0.001"), baseline=Decimal("0.001")))
    ledger.settle(sent("c"), done(status="hit", actual=Decimal(0), baseline=Decimal("0.0005")))
    ledger.settle(sent("d"), done(basis="unpriced", actual=None, baseline=None))
    ledger.settle(sent("e"), done(basis="suspect", actual=None, baseline=None, usage=Usage()))
    ledger.settle(sent("f"), done(status="error", actual=Decimal(0), baseline=None, usage=Usage()))
    ledger.sent(sent("g", bound=Decimal("0.25")))
    ledger.sent(sent("h", bound=None))
    (line,) = ledger.summary("total")
    assert (line.calls, line.hits, line.errors, line.estimated) == (8, 1, 1, 1)
    assert (line.unknown, line.unbounded, line.unpriced) == (3, 1, 1)
    assert line.actual == Decimal("0.00145")
    assert line.estimated_usd == Decimal("0.001")
    assert line.baseline == Decimal("0.0009") + Decimal("0.001") + Decimal("0.0005")
    assert line.saved == line.baseline - line.actual
    assert line.unknown_bound == Decimal("0.75")
    # A hit consumed no tokens; a, b and d did.
    assert line.usage == Usage(input=300, output=60, reasoning=15)


def test_groups_by_model_user_host_and_tag(ledger: Ledger) -> None:
    ledger.settle(sent("a", user="kim", tags={"feature": "faq", "team": "x"}), done())
    ledger.settle(sent("b", user="lee", tags={"feature": "faq"}, host="litellm"), done(model="gpt-4o-mini"))
    ledger.sent(sent("c"))
    keys = {by: sorted(line.key for line in ledger.summary(by)) for by in ("model", "user", "host", "tag:feature")}
    assert keys == {
        "model": ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini"],
        "user": ["", "kim", "lee"],
        "host": ["litellm", "sdk"],
        "tag:feature": ["", "faq"],
    }
    faq = next(line for line in ledger.summary("tag:feature") if line.key == "faq")
    assert faq.calls == 2
    assert total(ledger.summary("model")).calls == 3


def test_days_are_the_users_days(ledger: Ledger) -> None:
    # 15:00 UTC is midnight in Seoul; Kathmandu is 5:45 ahead.
    for i, hour in enumerate((14, 15, 18)):
        ledger.settle(sent(f"c{i}", started_at=NOON.replace(hour=hour, minute=30 * (i == 2))), done())
    days = {tz: [(d.key, d.calls) for d in ledger.summary("day", tz=tz)] for tz in ("UTC", "Asia/Seoul")}
    assert days == {"UTC": [("2026-11-23", 3)], "Asia/Seoul": [("2026-11-23", 1), ("2026-11-24", 2)]}
    assert [d.calls for d in ledger.summary("day", tz="Asia/Kathmandu")] == [2, 1]
    since = last_days(1, "Asia/Seoul", NOON.replace(hour=20))
    assert since == datetime(2026, 11, 23, 15, tzinfo=UTC)
    assert total(ledger.summary(since=since)).calls == 2
    assert len(list(ledger.calls(since=since, until=since + timedelta(hours=1)))) == 1


def test_sums_beyond_64_bits_are_exact(ledger: Ledger) -> None:
    huge = Decimal("9000000.000000000001")
    for i in range(3):
        ledger.settle(sent(f"c{i}"), done(actual=huge, baseline=huge))
    assert ledger.summary("total")[0].actual == huge * 3


def test_erasing_a_user_keeps_the_amounts(ledger: Ledger) -> None:
    ledger.settle(sent("a", user="kim", session="s", tags={"feature": "faq"}), done(response_id="r"))
    ledger.settle(sent("b", user="lee"), done())
    before = ledger.summary("total")[0].actual
    assert ledger.erase(user="kim") == 1
    row = ledger.get("a")
    assert row is not None
    assert row.settled is not None
    assert (row.sent.user, row.sent.session, row.sent.tags, row.settled.response_id) == (None, None, {}, None)
    assert ledger.summary("total")[0].actual == before
    assert ledger.erase(user="kim'; DROP TABLE calls; --") == 0


def test_hostile_text_is_only_text(ledger: Ledger) -> None:
    nasty = "'; DROP TABLE calls; --\u202e<script>\U0001f600"
    ledger.settle(sent(nasty, user=nasty, tags={nasty: nasty}), done(model=nasty))
    row = ledger.get(nasty)
    assert row is not None
    assert (row.sent.user, row.sent.tags) == (nasty, {nasty: nasty})


def test_text_that_no_database_takes_is_mended(ledger: Ledger) -> None:
    ledger.settle(sent("nul\0", user="half \ud83d", tags={"a\ud83d": "b\0"}), done(model="m\0"))
    (row,) = ledger.calls()
    assert row.sent.call_id == "nul\ufffd"
    assert row.sent.user == "half ?"
    assert row.settled is not None


@pytest.mark.parametrize("by", ["color", "tag:", ""])
def test_unknown_groups_are_refused(by: str) -> None:
    with pytest.raises(ConfigError, match="by is"):
        Ledger(":memory:").summary(by)


def test_a_day_begins_where_a_budget_says_so_though_the_clocks_go_back_over_midnight() -> None:
    zone = ZoneInfo("America/St_Johns")  # on 2010-11-07 at 0:01 it was 23:01 again
    begins = last_days(1, zone, datetime(2010, 11, 7, 12, tzinfo=zone))
    assert begins == window("daily", begins, zone).begins == datetime(2010, 11, 7, 3, 30, tzinfo=UTC)


def test_unknown_zone_and_naive_times_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'Mars/Olympus'.*IANA"):
        Ledger(":memory:").summary("day", tz="Mars/Olympus")
    with pytest.raises(RecordError, match="no time zone"):
        Ledger(":memory:").sent(sent(started_at=datetime(2026, 1, 1)))


@given(st.decimals(min_value=-(9 * 10**6), max_value=9 * 10**6, places=12))
def test_picodollars_are_exact(usd: Decimal) -> None:
    assert from_picodollars(to_picodollars(usd)) == usd


@pytest.mark.parametrize("usd", [Decimal("NaN"), Decimal("Infinity"), Decimal(10**8)])
def test_amounts_that_are_none_are_refused(usd: Decimal) -> None:
    ledger = Ledger(":memory:")
    with pytest.raises(RecordError):
        ledger.settle(sent(), done(actual=usd))
    with pytest.raises(RecordError):
        ledger.sent(sent("c2", bound=usd))
    ledger.settle(sent("good"), done())  # what cannot be kept does not hold up what can
    assert [call.sent.call_id for call in ledger.calls()] == ["good"]


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        ledger.sent(sent())
        ledger.flush()
        ledger.sent(sent("c2"))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.is_file()}
    assert set(modes.values()) == {0o600}
    assert "costs.db-wal" in modes
    assert any(".journal" in name for name in modes)


def test_erased_text_is_gone_from_the_files(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        ledger.settle(sent(user="holmes-the-detective"), done())
        ledger.erase(user="holmes-the-detective")
        assert all(b"holmes" not in p.read_bytes() for p in tmp_path.iterdir() if p.is_file())


def test_default_path_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ledger().target.startswith(str(tmp_path / "data"))
    monkeypatch.setenv("LLM_SAVINGS_LEDGER", str(tmp_path / "mine.db"))
    assert Ledger().target == str(tmp_path / "mine.db")


def test_bad_targets_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; create it"):
        Ledger(tmp_path / "no" / "such" / "costs.db")
    with pytest.raises(ConfigError, match="unknown kind of URL") as error:
        Ledger("mysql://me:hunter2@host/db")
    assert "hunter2" not in str(error.value)


def test_passwords_never_show() -> None:
    ledger = Ledger("postgresql://me:hunter2@127.0.0.1:1/costs")
    assert "hunter2" not in repr(ledger)
    for plain in (
        "postgresql://db/costs",
        "postgresql://me@db:5432/costs?user=a@b",
        "postgresql://a:1,b:2/db",
        "a:b@c",
    ):
        assert masked(plain) == plain
    for secret in ("hunter2", "hun#ter2", "hun/ter2", "hun?ter2", "p[x", "a@b:c", "1234"):
        assert masked(f"postgresql://me:{secret}@db:1/costs") == "postgresql://me:***@db:1/costs"
    in_query = "postgresql://db/costs?user=me&password=hunter2&sslpassword=hunter3&port=1"
    assert masked(in_query) == "postgresql://db/costs?user=me&password=***&sslpassword=***&port=1"
    with pytest.raises(LedgerError) as error:
        list(ledger.calls())
    assert "hunter2" not in str(error.value)


def test_tenants_are_keyed_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = tenant_hash("sk-secret")
    assert here == tenant_hash("sk-secret")
    assert "secret" not in here
    assert len(tenant_hash("\ud800")) == 24  # half of a surrogate pair
    monkeypatch.setenv("LLM_SAVINGS_HASH_KEY", "another machine's key")
    assert tenant_hash("sk-secret") != here


def test_threads_agree_on_a_new_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        hashes = set(threads.map(tenant_hash, ["sk-secret"] * 64))
    assert hashes == {tenant_hash("sk-secret")}
    (key,) = (tmp_path / "data").rglob("hash.key*")
    assert (key.stat().st_size, stat.S_IMODE(key.stat().st_mode)) == (32, 0o600)


def test_a_newer_schema_is_refused_and_an_older_one_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        ledger.settle(sent(), done())
    migrations = (*ledger_schema.MIGRATIONS, ("ALTER TABLE calls ADD COLUMN added TEXT",))
    with monkeypatch.context() as patch:
        patch.setattr("llm_savings.ledger.schema.MIGRATIONS", migrations)
        for module in ("schema", "sqlite"):
            patch.setattr(f"llm_savings.ledger.{module}.VERSION", len(migrations))
        with Ledger(path) as ledger:
            ledger.settle(sent("c2"), done())
            assert len(list(ledger.calls())) == 2
    with sqlite3.connect(path) as db:
        assert "added" in [row[1] for row in db.execute("PRAGMA table_info(calls)")]
    with pytest.raises(LedgerError, match="upgrade llm-savings"):
        list(Ledger(path).calls())


def test_two_processes_share_a_file_and_a_fork_opens_its_own(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    ledger.sent(sent("parent"))
    if (child := os.fork()) == 0:
        status = 1
        try:
            for i in range(50):
                ledger.settle(sent(f"child{i}"), done())
            status = 0
        finally:
            os._exit(status)
    for i in range(50):
        ledger.settle(sent(f"parent{i}"), done())
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(ledger.calls())) == 101


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_export(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    ledger = Ledger(":memory:")
    ledger.settle(sent("a", user="=HYPERLINK(1)", tags={"feature": "배송"}), done())
    ledger.sent(sent("-b"))
    path = tmp_path / f"calls.{kind}"
    path.write_text("old")
    assert export(ledger.calls(), path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if kind == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0]["user"] == "'=HYPERLINK(1)"
        assert rows[1]["call_id"] == "'-b"
    elif kind == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert rows[0]["user"] == "=HYPERLINK(1)"
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
    assert Decimal(rows[0]["actual_usd"]) == Decimal("0.00045")
    assert int(rows[0]["input_tokens"]) == 100
    assert not rows[1]["actual_usd"]


def test_export_formats_are_named() -> None:
    with pytest.raises(ConfigError, match="'xlsx'; expected csv, jsonl or parquet"):
        export([], "calls.xlsx")


def test_ledgers_of_one_file_are_one_and_those_of_memory_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "costs.db")
    same = {Ledger(target).identity for target in ("costs.db", "./costs.db", tmp_path / "costs.db", "link.db")}
    assert same == {str((tmp_path / "costs.db").resolve())}
    assert Ledger(":memory:").identity != Ledger(":memory:").identity
    assert Ledger("other.db").identity not in same
    pytest.importorskip("psycopg")
    urls = [f"postgresql://me:{password}@db/costs" for password in ("secret", "renewed")]
    assert {Ledger(url).identity for url in urls} == {"postgresql://me:***@db/costs"}


def test_what_a_hit_on_a_model_without_a_price_saved_is_unknown(ledger: Ledger) -> None:
    free = {"status": "hit", "actual": Decimal(0)}
    ledger.settle(sent("one"), done(**free, model="nobody-knows", baseline=None))
    (alone,) = ledger.summary("total")
    assert alone.known and not alone.valued and alone.unvalued == 1
    assert plain_text([alone]).startswith("1 call, $0.00 spent, unknown saved")
    ledger.settle(sent("two"), done(**free))
    (both,) = ledger.summary("total")
    assert both.valued and both.unvalued == 1 and both.saved == Decimal("0.0009")
    assert "What 1 of these saved is unknown" in plain_text([both])
