"""Logs become records: every format, however packed, and nothing is lost without being counted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from audit_logs import ANTHROPIC_TOLD, ASKED, AT, CASES, CHAT, LANGFUSE, LANGSMITH, LEDGER, LITELLM, PROMPT, SPAN, USED
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import Ledger, Usage
from llm_savings.audit import Log, Record, containers, read_logs
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.ledger import Sent, Settled
from llm_savings.ledger.export import export

FLAT = {"model": "gpt-4o", "prompt_tokens": 10, "completion_tokens": 5, "timestamp": "2026-11-02T01:30:00Z"}


def lines(*documents: Any) -> str:
    return "".join((d if isinstance(d, str) else json.dumps(d, ensure_ascii=False)) + "\n" for d in documents)


def write(folder: Path, text: str | bytes, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def reasons(log: Log) -> dict[str, int]:
    list(log)
    return dict(log.unread.counts)


def as_lines(document: Any) -> bytes:
    return lines("{bad", document, '{"model": NaN}', "[1]", document).encode()


def as_list(document: Any) -> bytes:
    return json.dumps([document, 7, document], indent=1, ensure_ascii=False).encode()


def as_page(document: Any) -> bytes:
    return json.dumps({"data": [document, "x", document], "meta": {"page": 1}}).encode()


def with_mark(document: Any) -> bytes:
    return b"\xef\xbb\xbf" + lines(document, "", "{", document).encode()


def in_utf16(document: Any) -> bytes:
    return lines(document, "{", document).encode("utf-16")


PACKED: list[Callable[[Any], bytes]] = [as_lines, as_list, as_page, with_mark, in_utf16]


@pytest.mark.parametrize("pack", PACKED)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_format_is_read_however_it_is_packed(case: str, zipped: bool, pack: Any, tmp_path: Path) -> None:
    document, format, expected = CASES[case]
    data = pack(document)
    path = write(tmp_path, gzip.compress(data) if zipped else data)
    log = read_logs(path)
    assert log.formats == {str(path): format}
    records = list(log)
    assert len(records) == log.read == 2
    for record in records:
        assert {name: getattr(record, name) for name in expected} == expected
        assert record.source == str(path)
    assert log.unread.total == (3 if pack is as_lines else 1)
    assert not log.refused
    assert list(log) == records  # as often as one likes


@pytest.mark.parametrize("case", ["spend logs", "langfuse", "langsmith", "helicone", "ledger", "table", "표"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_exports_as_csv_say_the_same(case: str, delimiter: str, tmp_path: Path) -> None:
    document, format, expected = CASES[case]
    text = io.StringIO()
    rows = csv.writer(text, delimiter=delimiter)
    rows.writerow(document)
    cells = [json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for v in document.values()]
    rows.writerow(cells)
    rows.writerow(cells[:-1])
    log = read_logs(write(tmp_path, text.getvalue(), "log.csv"))
    assert list(log.formats.values()) == [format]
    (record,) = log
    assert {name: getattr(record, name) for name in expected} == expected
    assert log.unread.counts == {"a row with more or fewer cells than the header": 1}


def test_a_blank_line_may_stand_above_a_tables_header(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("\n\nmodel;input_tokens;output_tokens\ngpt-4o;7;8\n", "utf-8")
    (record,) = read_logs(tmp_path / "calls.csv")
    assert (record.model, record.usage) == ("gpt-4o", Usage(input=7, output=8))


def test_a_table_that_excel_wrote_in_korea_is_read(tmp_path: Path) -> None:
    text = "모델,입력 토큰,출력 토큰,일시,질문\r\ngpt-4o,100,7,2026-11-02T10:30:00+09:00,똠방각하 펲시콜라?\r\n"
    (record,) = read_logs(write(tmp_path, text.encode("cp949"), "log.csv"))
    assert (record.usage, record.at) == (Usage(input=100, output=7), AT)
    assert record.messages == [{"role": "user", "content": "똠방각하 펲시콜라?"}]
    log = read_logs(write(tmp_path, lines(FLAT | {"question": "환불은요?"}).encode() * 3 + b'{"model": "\xff"}\n'))
    assert [record.messages for record in log] == [[{"role": "user", "content": "환불은요?"}]] * 3
    assert log.unread.counts == {"malformed JSON": 1}


@pytest.mark.parametrize("case", ["langsmith", "langfuse", "table"])
def test_parquet_is_read_with_objects_as_columns_or_text(case: str, tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    document, format, expected = CASES[case]
    flat = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in document.items()}
    path = tmp_path / "log.parquet"
    parquet.write_table(pa.Table.from_pylist([flat, flat]), path)
    log = read_logs(path)
    records = list(log)
    assert list(log.formats.values()) == [format]
    assert [r.line for r in records] == [1, 2]
    assert {name: getattr(records[1], name) for name in expected} == expected


def test_an_otlp_export_gives_its_spans_and_counts_those_of_other_things(tmp_path: Path) -> None:
    http = {"traceId": "5b8e", "spanId": "e2", "name": "GET", "attributes": [], "startTimeUnixNano": "1"}
    agent = SPAN | {"attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}]}
    whole = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [SPAN, http]}, {"spans": [agent, SPAN]}]}]}
    for data in (json.dumps(whole), json.dumps(whole, indent=1), lines(whole, whole)):
        log = read_logs(write(tmp_path, data))
        records = list(log)
        assert {r.usage for r in records} == {USED}
        assert len(records) == log.unread.total
        assert list(log.unread.counts) == ["not a call of a model (a chain, a tool, a span of something else)"]


def test_chains_and_spans_beside_the_calls_are_counted_apart(tmp_path: Path) -> None:
    for document, kind in ((LANGSMITH, {"run_type": "chain"}), (LANGFUSE, {"type": "SPAN"})):
        log = read_logs(write(tmp_path, lines(document, document | kind)))
        assert reasons(log) == {"not a call of a model (a chain, a tool, a span of something else)": 1}
        assert log.read == 1


def test_our_own_ledger_is_read_as_file_and_in_all_its_exports(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "costs.db")
    for number, status in enumerate(("ok", "hit", "error")):
        sent = Sent(call_id=str(number), host="sdk", requested_model="gpt-4o", started_at=AT, tags={"feature": "faq"})
        ledger.sent(sent)
        ledger.settle(
            sent,
            Settled(
                status=status, basis="measured", model="gpt-4o", usage=USED, actual=Decimal("0.005615"), latency=1.5
            ),
        )
    ledger.sent(Sent(call_id="9", host="sdk", requested_model="gpt-4o", started_at=AT + timedelta(seconds=1)))
    paths = [tmp_path / f"log.{kind}" for kind in ("jsonl", "csv", "parquet")]
    for path in paths:
        export(ledger.calls(), path)
    ledger.close()
    for path in [*paths, tmp_path / "costs.db"]:
        log = read_logs(path)
        assert list(log.formats.values()) == ["ledger"]
        records = {record.response_id: record for record in log}
        assert (records["1"].hit, records["2"].failed, records["0"].usage) == (True, True, USED)
        assert (records["0"].cost, records["0"].at, records["0"].tags) == (Decimal("0.005615"), AT, {"feature": "faq"})
        assert records["9"].usage is None
        assert records["9"].cost is None


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE calls (id)")
    before = path.read_bytes()
    with pytest.raises(LogFormatError, match="no ledger of llm-savings"):
        read_logs(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["theirs.db"]


def test_a_batch_and_its_answers_are_one_call_each(tmp_path: Path) -> None:
    requests = write(tmp_path, lines(*({"custom_id": str(n), "body": ASKED} for n in range(3))), "in.jsonl")
    told = [{"custom_id": str(n), "response": {"status_code": 200, "body": CHAT}} for n in range(2)]
    answers = write(tmp_path, lines(*told), "out.jsonl")
    log = read_logs([requests, answers])
    records = list(log)
    assert [(r.usage, r.messages, r.mode) for r in records] == [
        (None, PROMPT, "batch"), (USED, PROMPT, "batch"), (USED, PROMPT, "batch"),
    ]  # fmt: skip
    assert log.unread.counts == {"a request of a batch, read with its answer": 2}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt_tokens": -1}, "negative tokens"),
        ({"prompt_tokens": "many"}, "tokens that are no whole number"),
        ({"prompt_tokens": 1.5}, "tokens that are no whole number"),
        ({"prompt_tokens": True}, "tokens that are no whole number"),
        ({"prompt_tokens": [1]}, "tokens that are no whole number"),
        ({"prompt_tokens": 10**30}, "tokens that contradict themselves or are too many"),
        ({"prompt_tokens": math.nan}, "malformed JSON"),
        ({"prompt_tokens": 10**13}, "tokens that contradict themselves or are too many"),
        ({"model": None}, "no model"),
        ({"model": ""}, "no model"),
        ({"model": {"name": "gpt-4o"}}, "no model"),
        ({"model": ["gpt-4o"]}, "no model"),
    ],
)
def test_a_bad_entry_is_counted_with_its_reason_and_line(change: Any, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, lines(FLAT, "", FLAT | change, FLAT))
    log = read_logs(path)
    assert [record.line for record in log] == [1, 4]
    assert log.unread.counts == {reason: 1}
    assert log.unread.lines == {reason: {str(path): [3]}}


def test_tokens_as_text_count_and_parts_beyond_their_whole_do_not(tmp_path: Path) -> None:
    lying = LITELLM | {
        "metadata": {"usage_object": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}}
    }
    log = read_logs(write(tmp_path, lines(LITELLM, lying)))
    assert reasons(log) == {"tokens that contradict themselves or are too many": 1}
    (record,) = read_logs(write(tmp_path, lines(FLAT | {"prompt_tokens": " 12", "completion_tokens": "3.0"})))
    assert record.usage == Usage(input=12, output=3)


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-11-02T10:30:00+09:00", AT),
        ("2026-11-01T20:30:00.000-0500", AT),
        ("2026-11-02 01:30:00 UTC", AT),
        ("20261102T013000Z", AT),
        (1793583000, AT),
        (1793583000.25, AT + timedelta(seconds=0.25)),
        (1793583000_000, AT),
        ("1793583000000", AT),
        (1793583000_000_001, AT + timedelta(microseconds=1)),
        (1793583000_000_000_000, AT),
        (None, None),
    ],
)
def test_times_of_all_kinds_become_utc(time: Any, at: datetime | None, tmp_path: Path) -> None:
    log = read_logs(write(tmp_path, lines(FLAT | {"timestamp": time})))
    (record,) = log
    assert record.at == at
    assert record.at is None or record.at.tzinfo is UTC
    assert not log.notes


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", [1], True, 1e40, -1e40, "9" * 400, {"seconds": 1}])
def test_a_time_that_cannot_be_read_is_left_out_and_said(time: Any, tmp_path: Path) -> None:
    log = read_logs(write(tmp_path, lines(FLAT | {"timestamp": time})))
    (record,) = log
    assert record.at is None
    assert log.notes == {"a time that cannot be read, left out": 1}


def test_a_time_without_a_zone_is_in_the_zone_given(tmp_path: Path) -> None:
    path = write(tmp_path, lines(FLAT | {"timestamp": "2026-11-02T10:30:00"}))
    (record,) = read_logs(path, tz=timezone(timedelta(hours=9), "KST"))
    assert record.at == AT
    log = read_logs(path)
    assert next(iter(log)).at == AT.replace(hour=10)
    assert log.notes == {"a time without a zone, taken as UTC": 1}


def test_a_log_whose_times_are_known_to_be_utc_stays_so(tmp_path: Path) -> None:
    log = read_logs(write(tmp_path, lines(LANGSMITH)), tz=timezone(timedelta(hours=9), "KST"))
    assert [record.at for record in log] == [AT]
    assert not log.notes


@pytest.mark.parametrize(
    ("cost", "usd", "note"),
    [
        ({"cost": 0.1}, Decimal("0.1"), None),
        ({"cost": "$0.10", "currency": "usd"}, Decimal("0.10"), None),
        ({"cost": "0.1", "currency": "KRW"}, None, "a cost in KRW, not in USD: not used"),
        ({"cost_eur": 0.1}, None, "a cost in EUR, not in USD: not used"),
        ({"cost": 0.1, "currency": "<b>"}, None, "a cost in something else, not in USD: not used"),
        ({"cost": "free"}, None, "a cost that is no amount: not used"),
        ({"cost": "NaN"}, None, "a cost that is no amount: not used"),
        ({"cost": -1}, None, "a cost that is no amount: not used"),
    ],
)
def test_only_dollars_are_used(cost: Any, usd: Decimal | None, note: str | None, tmp_path: Path) -> None:
    log = read_logs(write(tmp_path, lines(FLAT | cost)))
    (record,) = log
    assert record.cost == usd
    assert log.notes == ({note: 1} if note else {})


@given(st.lists(st.lists(st.text(alphabet='a1,; "\n-', max_size=4), max_size=4), max_size=10))
def test_no_row_of_a_table_is_lost(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([["model", "input_tokens", "cost"], ["gpt-4o", "7", "0.1"], *filter(any, rows)])
    log = read_logs(write(tmp_path_factory.mktemp("logs"), text.getvalue()))
    assert len(list(log)) + log.unread.total == 1 + sum(map(any, rows))


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "engine,eingabe,out\ngpt-4o,7,3\n", "log.csv")
    with pytest.raises(LogFormatError, match="lacks model"):
        read_logs(path)
    (record,) = read_logs(path, columns={"model": "engine", "input_tokens": "eingabe", "output_tokens": "out"})
    assert (record.model, record.usage) == ("gpt-4o", Usage(input=7, output=3))
    with pytest.raises(LogFormatError, match="no column nothing; it has: engine, eingabe, out"):
        read_logs(path, columns={"model": "engine", "input_tokens": "nothing"})
    with pytest.raises(ConfigError, match="columns has 'tokens'; expected some of model, input_tokens"):
        read_logs(path, columns={"tokens": "eingabe"})
    deep = write(tmp_path, lines({"m": "gpt-4o", "usage": {"prompt": 7}}))
    (record,) = read_logs(deep, columns={"model": "m", "input_tokens": "usage.prompt"})
    assert record.usage == Usage(input=7)


def test_an_unknown_format_says_what_was_tried_and_what_was_missing(tmp_path: Path) -> None:
    path = write(tmp_path, lines({"model": "gpt-4o", "took": 3}))
    with pytest.raises(LogFormatError) as caught:
        read_logs(path)
    said = str(caught.value)
    assert "langsmith (lacks run_type, start_time, inputs|outputs|prompt_tokens)" in said
    assert "table (lacks input_tokens/prompt_tokens/tokens_in)" in said
    with pytest.raises(ConfigError, match="format is 'csv'; expected one of ledger, litellm, "):
        read_logs(path, format="csv")
    assert reasons(read_logs(path, format="langsmith")) == {
        "not a call of a model (a chain, a tool, a span of something else)": 1
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "it is a binary file"),
        (b"Dear diary\n", "neither JSON lines nor JSON nor CSV"),
        (b"{bad}\n", "none of its first 1 lines can be read"),
        (b"model,input_tokens\n", "it has no entries"),
        (b'{"data": []}', "it has no entries"),
        (b"[]", "it has no entries"),
        (b"[", "breaks off"),
        (gzip.compress(lines(FLAT).encode() * 1000)[:-20], "damaged or breaks off"),
        (b"\x1f\x8bnot gzip", "damaged or breaks off"),
        (b"PAR1 but not really", "Parquet file cannot be read"),
        (gzip.compress(b"\0" * 10**6), "it is a binary file"),
    ],
)
def test_what_is_no_log_is_refused_and_the_rest_is_read(data: bytes, said: str, tmp_path: Path) -> None:
    bad = write(tmp_path, data, "bad")
    if said == "damaged or breaks off" and data[2:3] == b"\x08":  # what came before the break is read
        log = read_logs(bad)
        assert len(list(log)) == log.read
        assert said in log.refused[str(bad)]
        return
    with pytest.raises(LogFormatError, match=said):
        read_logs(bad)
    log = read_logs([bad, write(tmp_path, lines(FLAT))])
    assert len(list(log)) == 1
    assert said in log.refused[str(bad)]


def test_a_gzip_bomb_is_refused_and_a_log_that_repeats_itself_is_not(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(containers, "MOST_IN_AN_ENTRY", 2**20)
    bomb = write(tmp_path, gzip.compress(b'{"model": "' + b"a" * 3 * 2**20), "bomb.gz")
    with pytest.raises(LogFormatError, match=r"more than 400 times its size.*gzip bomb"):
        read_logs(bomb)
    said = {"role": "system", "content": "".join(map(str, range(2000)))}
    rows = lines(*(FLAT | {"id": str(n), "prompt": [said], "timestamp": n * 977.7} for n in range(400)))
    log = read_logs(write(tmp_path, gzip.compress(rows.encode()), "same.gz"))
    assert len(list(log)) == 400
    assert not log.refused


def test_an_entry_that_is_too_long_is_counted_and_the_next_one_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(containers, "MOST_IN_AN_ENTRY", 10_000)
    long = FLAT | {"prompt": "x" * 3_000_000}
    log = read_logs(write(tmp_path, lines(FLAT, long, FLAT)))
    assert [record.line for record in log] == [1, 3]
    assert log.unread.total == 1
    log = read_logs(write(tmp_path, json.dumps([FLAT, FLAT, long, FLAT])))
    assert len(list(log)) == 2
    assert "breaks off, is malformed" in next(iter(log.refused.values()))


def test_a_list_longer_than_what_is_read_at_once_streams(tmp_path: Path) -> None:
    many = [FLAT | {"id": str(n), "question": "가" * 3000} for n in range(700)]
    assert len(json.dumps(many, ensure_ascii=False).encode()) > 4 * 2**20
    for data in (json.dumps(many, ensure_ascii=False), json.dumps({"data": many}), json.dumps(many, indent=2)):
        log = read_logs(write(tmp_path, data))
        assert [record.response_id for record in log] == [str(n) for n in range(700)]
    broken = json.dumps(many, ensure_ascii=False)[:1_500_000]
    log = read_logs(write(tmp_path, broken))
    assert len(list(log)) == log.read > 200
    assert log.unread.counts == {"malformed JSON": 1}
    assert "breaks off" in next(iter(log.refused.values()))


def test_a_list_with_an_entry_on_each_line_is_a_list(tmp_path: Path) -> None:
    rows = ",\n".join(json.dumps(FLAT | {"id": str(n)}) for n in range(3))
    for data in (f"[\n{rows}\n]", f"[{rows}]", f'{{"data": [\n{rows}\n]}}', f'{{\n"data": [{rows}]\n}}'):
        log = read_logs(write(tmp_path, data))
        assert [(record.line, record.response_id) for record in log] == [(1, "0"), (2, "1"), (3, "2")]
        assert not log.unread.total + len(log.refused)


def test_a_folder_is_its_files_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "nov"
    folder.mkdir(parents=True)
    write(folder, lines(FLAT), "a.jsonl")
    write(folder, lines(LITELLM), "b.jsonl")
    write(folder, "x", ".hidden")
    log = read_logs(tmp_path / "logs")
    assert sorted(log.formats.values()) == ["litellm", "table"]
    assert len(list(log)) == 2
    with pytest.raises(ConfigError, match=r"nothing\.jsonl: No such file"):
        read_logs(tmp_path / "nothing.jsonl")
    with pytest.raises(LogFormatError, match="no files"):
        read_logs([])


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(containers, "import_module", absent)
    with pytest.raises(ConfigError, match=r'pip install "llm-savings\[parquet\]"'):
        read_logs(write(tmp_path, b"PAR1....PAR1", "log.parquet"))


def test_failed_calls_and_answers_with_tools_are_seen(tmp_path: Path) -> None:
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
    }
    told = CHAT | {"choices": [{"message": called}]}
    error = {"request": ASKED, "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}}
    responses = {
        "model": "gpt-4o", "input": "hi", "instructions": "Be brief.",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yo"}]},
                   {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}],
        "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 2},
    }  # fmt: skip
    one, two, three, four = read_logs(
        write(tmp_path, lines({"request": ASKED, "response": told}, error, responses, ANTHROPIC_TOLD))
    )
    assert (one.tool_calls, one.answer, one.failed) == (True, None, False)
    assert (two.failed, two.usage, two.messages) == (True, None, PROMPT)
    assert (three.answer, three.tool_calls, three.usage) == ("yo", True, Usage(input=15, cache_read=5, output=2))
    assert three.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert (four.answer, four.tool_calls) == ("Once more.", True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SHAPES = [document for document, _, _ in CASES.values()]


@st.composite
def spoiled(draw: Any) -> Any:
    """An entry of some format with something else in some of its fields, or anything."""
    document = dict(draw(st.sampled_from(SHAPES)))
    for key in draw(st.lists(st.sampled_from(sorted(document)), max_size=4)):
        if (inner := document[key]) and isinstance(inner, dict) and draw(st.booleans()):
            document[key] = inner | {draw(st.sampled_from(sorted(inner))): draw(ANYTHING)}
        else:
            document[key] = draw(ANYTHING)
    return draw(st.just(document) | ANYTHING)


@given(st.sampled_from(sorted(CASES)), st.lists(spoiled(), max_size=12), st.randoms())
@settings(max_examples=500)
def test_no_line_is_lost_whatever_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, case: str, garbage: list[Any], random: Any
) -> None:
    good = [CASES[case][0]] * 3
    written = [json.dumps(document) for document in [*good, *garbage]]
    written += [line[: random.randrange(len(line))] for line in written[3:]]
    random.shuffle(written)
    path = write(tmp_path_factory.mktemp("logs"), "\n".join(written))
    log = read_logs(path, format=None if CASES[case][1] == "table" else CASES[case][1])
    records = list(log)
    assert len(records) + log.unread.total == sum(1 for line in written if line.strip())
    assert len(records) == log.read
    assert not log.refused
    for record in records:
        assert_is_sound(record)


def assert_is_sound(record: Record) -> None:
    """Whatever the log held, a record's fields are of their kinds."""
    assert isinstance(record.model, str) and record.model
    assert record.usage is None or isinstance(record.usage, Usage)
    assert record.at is None or record.at.tzinfo is UTC
    assert record.seconds is None or 0 <= record.seconds < math.inf
    assert record.cost is None or (record.cost.is_finite() and record.cost >= 0)
    assert record.mode in ("standard", "batch", "flex", "priority")
    assert record.messages is None or record.messages
    for message in record.messages or ():
        assert isinstance(message["role"], str)
        assert isinstance(message["content"], str | list | None)
        assert all(call["function"].keys() == {"name", "arguments"} for call in message.get("tool_calls", ()))
    assert all(isinstance(tool, dict) for tool in record.tools)
    assert isinstance(record.parameters, dict)
    assert record.answer is None or isinstance(record.answer, str)
    for text in (record.provider, record.response_id, record.user, record.session, record.tenant):
        assert text is None or (isinstance(text, str) and text)
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in record.tags.items())
    for flag in (record.tool_calls, record.hit, record.failed, record.streamed):
        assert isinstance(flag, bool)


@given(st.binary(max_size=300) | st.text(alphabet=',;"\n\r\t\0[]{}: a1\ufeff가', max_size=200).map(str.encode))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.mktemp("logs"), data)
    try:
        assert list(read_logs(path)) is not None
    except LogFormatError as error:
        assert str(path) in str(error)
    assert LEDGER["call_id"] == "7"  # entries are never changed
