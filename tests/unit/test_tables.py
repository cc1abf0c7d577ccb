"""Users' own files: nothing but a line feed ends a line, and what is no text is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_savings.cli import main
from llm_savings.cli.batch import _rows
from llm_savings.cli.route import _lines
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.storage.tables import records_of, rows_of, text_of, values_of

ODD = "위\u2028아래\x0b\x85끝"


def test_a_cell_may_hold_any_other_line_end(tmp_path: Path) -> None:
    text = f'prompt,best\n"한 줄\n두 줄",simple\n\n{ODD},complex\n'
    assert list(rows_of(text))[-1] == (5, [ODD, "complex"])
    (tmp_path / "judged.csv").write_text("\ufeff" + text, "utf-8")
    assert _lines(str(tmp_path / "judged.csv")) == [
        {"prompt": "한 줄\n두 줄", "best": "simple"},
        {"prompt": ODD, "best": "complex"},
    ]
    assert [line for line, _ in records_of(text)] == [3, 5]


def test_so_may_a_line_of_json(tmp_path: Path) -> None:
    rows = [{"prompt": ODD}, {"prompt": "b"}]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert list(values_of(text)) == [(1, rows[0]), (3, rows[1])]
    with pytest.raises(LogFormatError, match="line 3: no JSON"):
        list(values_of("1\n\n{"))
    (tmp_path / "judged.jsonl").write_text(text, "utf-8")
    assert _lines(str(tmp_path / "judged.jsonl")) == rows
    asked = [{"model": "gpt-4o", "messages": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in asked), "utf-8")
    done = CliRunner().invoke(main, ["lint", str(tmp_path / "asked.jsonl")])
    assert (done.exit_code, done.output) == (0, "Nothing found: the beginnings of these prompts can be cached.\n")


@pytest.mark.parametrize("command", [["lint"], ["route", "calibrate"], ["cache", "tune"]])
def test_what_is_no_text_is_told_without_a_traceback(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\xc4")
    done = CliRunner().invoke(main, [*command, str(tmp_path / "bytes")])
    assert isinstance(done.exception, SystemExit) and "cannot be read as UTF-8 text" in " ".join(done.output.split())
    with pytest.raises(ConfigError, match="cannot be read as UTF-8"):
        text_of(tmp_path / "bytes")


def test_a_quote_that_is_never_closed_is_no_csv(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text('review\n"' + "좋아요 " * 500, "utf-8")
    with pytest.raises(LogFormatError, match="line 2: no CSV"):
        list(rows_of(text_of(tmp_path / "reviews.csv")))
    with pytest.raises(ConfigError, match=r"reviews\.csv is no CSV"):
        list(_rows(str(tmp_path / "reviews.csv"), "utf-8"))
