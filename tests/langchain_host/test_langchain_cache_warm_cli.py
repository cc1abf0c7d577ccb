"""`llm-savings cache warm`: a FAQ file in the cache, where the program's own model looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from langchain_checks import openai
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage, SystemMessage

from llm_savings.cli import main
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.langchain import SemanticCache
from llm_savings.sandbox import Sandbox
from llm_savings.semantic_cache import Which
from llm_savings.semantic_cache.faq import read_faq

CSV = (
    "\ufeffQuestion,answer,tags\n"
    '"Where is my refund?","In five\nworking days.",shop; money\n'
    "배송이 얼마나 걸려요?,이틀,\n"
)
JSONL = '{"질문": "배송이 얼마나 걸려요?", "답변": "이틀", "tags": ["shop", "a;b"]}\n\n{"question": "What is RAG?"}\n'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cache", "warm", *map(str, arguments)])


@pytest.fixture
def program(tmp_path: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the program's own module, whose model answers at the sandbox."""
    (tmp_path / "shop_bot.py").write_text(
        "from langchain_checks import openai\n"
        f"model = openai(type('Box', (), {{'openai_url': {box.openai_url!r}}})())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "shop_bot", raising=False)
    return tmp_path


def test_the_program_finds_what_was_kept(program: Path, box: Sandbox) -> None:
    (program / "faq.csv").write_text(CSV, "utf-8")
    done = run("cache.db", "faq.csv", "--model", "shop_bot:model", "--system", "Be kind.", "--tag", "source:faq.csv")
    assert done.exit_code == 0, done.output
    assert "2 of 2 answers kept" in done.output
    cache = SemanticCache(program / "cache.db")
    set_llm_cache(cache)
    asked = [SystemMessage("Be kind."), HumanMessage("where is my refund")]
    assert openai(box).invoke(asked).content == "In five\nworking days."
    assert box.requests() == 0
    entries = list(cache.answers.entries(Which(tag="money")))
    assert [entry.tags for entry in entries] == [("source:faq.csv", "shop", "money")]
    assert entries[0].expires_at is None
    cache.answers.close()


def test_the_model_answers_what_has_no_answer(program: Path, box: Sandbox) -> None:
    (program / "faq.jsonl").write_text(JSONL, "utf-8")
    for kept in (2, 1):  # what the model has answered is not asked again
        done = run("cache.db", "faq.jsonl", "--model", "shop_bot:model", "--days", 30)
        assert done.exit_code == 0, done.output
        assert f"{kept} of 2 answers kept" in done.output
    assert box.requests() == 1


def test_a_file_is_read_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV, "utf-8")
    (tmp_path / "a.jsonl").write_text(JSONL, "utf-8")
    assert read_faq(tmp_path / "a.csv")[1] == ("배송이 얼마나 걸려요?", "이틀", ())
    assert read_faq(tmp_path / "a.jsonl") == [
        ("배송이 얼마나 걸려요?", "이틀", ("shop", "a;b")),
        ("What is RAG?", None, ()),
    ]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [("a.csv", "q,a\nx,y\n", 2), ("a.jsonl", '{"question": "a"}\n[1]', 2), ("a.jsonl", "{", 1),
     ("a.jsonl", '{"question": "a", "answer": 5}', 1)],
)  # fmt: skip
def test_what_is_no_question_says_its_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(LogFormatError) as raised:
        read_faq(tmp_path / name)
    assert raised.value.line == line


def test_what_cannot_be_done_is_said(program: Path) -> None:
    (program / "faq.csv").write_text(CSV, "utf-8")
    (program / "empty.csv").write_text("question\n", "utf-8")
    for arguments in (
        ("cache.db", "faq.csv", "--model", "shop_bot:none"),
        (":memory:", "faq.csv", "--model", "shop_bot:model"),
        ("cache.db", "empty.csv", "--model", "shop_bot:model"),
    ):
        done = run(*arguments)
        assert done.exit_code and isinstance(done.exception, ConfigError | SystemExit)
        assert "Traceback" not in done.output
    assert not (program / "cache.db").exists()
