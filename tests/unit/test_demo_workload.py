"""Workload files, the user's own included: read as written, refused by line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_savings import LogFormatError
from llm_savings.demo import load

HEADER = {"workload": "mine", "systems": {"s": "Be brief."}}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_the_bundled_workload() -> None:
    work = load()
    assert len(work.requests) > 300
    assert {r.feature for r in work.requests} == {"support", "translation", "coding", "analysis", "extraction"}
    assert {r.day for r in work.requests} == {"2026-11-02", "2026-11-03", "2026-11-04"}


def test_a_users_own_needs_only_prompts(tmp_path: Path) -> None:
    work = load(write(tmp_path / "w.jsonl", HEADER, {"prompt": "안녕", "at": 5, "system": "s"}, {"prompt": "hi"}))
    assert [(r.prompt, r.system, r.max_tokens) for r in work.requests] == [("hi", "", 500), ("안녕", "Be brief.", 500)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "line 1: the workload is empty"),
        (({"prompt": "x"},), "line 1: the header has no"),
        ((HEADER, "{broken"), "line 2: not JSON"),
        ((HEADER, "[" * 100_000), "line 2: not JSON"),
        ((HEADER, "[1]"), "line 2: expected a JSON object"),
        ((HEADER, {"prompt": 7}), "line 2: prompt is 7; expected str"),
        ((HEADER, {"prompt": "x", "answer": 7}), "line 2: answer is 7; expected str"),
        ((HEADER, {"prompt": "x", "at": -1}), "line 2: at is -1; expected 0 to"),
        ((HEADER, {"prompt": "x", "at": 10**15}), "line 2: at is 10"),
        ((HEADER, {"prompt": "x", "max_tokens": 0}), "line 2: max_tokens is 0; expected 1 to"),
        ((HEADER, {"prompt": "x", "id": "a"}, {"prompt": "y", "id": "a"}), "line 3: id is 'a', which an earlier line"),
        (({"workload": "x", "systems": ["s"]},), r"line 1: systems is \['s'\]"),
        ((HEADER, {"prompt": "x", "max_tokens": "many"}), "line 2: max_tokens is 'many'; expected int"),
        ((HEADER, {"prompt": "x", "system": "nobody"}), "line 2: system is 'nobody'"),
    ],
)
def test_a_bad_line_is_named(lines: tuple[object, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match=message):
        load(write(tmp_path / "w.jsonl", *lines))


def test_a_line_ends_where_its_line_end_is(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    lines = [json.dumps(HEADER), json.dumps({"prompt": "a\u2028b"}, ensure_ascii=False)]
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")  # as a Windows editor leaves it
    assert load(path).requests[0].prompt == "a\u2028b"


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LogFormatError, match="not UTF-8"):
        load(path)
