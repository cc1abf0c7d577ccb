"""The rules of the house that a machine can check."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import llm_savings

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "llm_savings").rglob("*.py"))


def run(*command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | extra)


def test_importing_the_package_loads_neither_host_nor_anything_heavy() -> None:
    code = (
        "import sys, llm_savings; heavy = {'litellm', 'langchain_core', 'numpy', 'pydantic', 'tiktoken', 'rich', "
        "'openai', 'httpx', 'sqlite3', 'psycopg'}; print(sorted(heavy & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_metering_without_a_host_loads_no_host() -> None:
    code = (
        "import sys; from llm_savings import Meter, PriceBook, Usage, Ledger; from llm_savings.meter import Answer; "
        "from llm_savings.ledger import Sent; m = Meter(':memory:'); "
        "m.answered(m.begin(Sent(call_id='1', host='sdk', requested_model='gpt-4o')), "
        "Answer(model='gpt-4o', usage=Usage(input=1))); assert m.spent > 0; "
        "print(sorted({'litellm', 'langchain_core'} & set(sys.modules)))"
    )
    done = run(sys.executable, "-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_public_surface_resolves_and_is_sorted() -> None:
    assert llm_savings.__all__ == sorted(llm_savings.__all__)
    for name in llm_savings.__all__:
        assert getattr(llm_savings, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        llm_savings.Nonsense  # noqa: B018


def test_the_arrows_point_one_way() -> None:
    pytest.importorskip("importlinter")
    done = run(str(Path(sys.executable).with_name("lint-imports")))
    assert done.returncode == 0, done.stdout


def test_ruff_is_content() -> None:
    pytest.importorskip("ruff")
    for command in (("check",), ("format", "--check")):
        done = run(sys.executable, "-m", "ruff", *command, ".")
        assert done.returncode == 0, done.stdout


def test_types_are_strict() -> None:
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    done = run(str(Path(sys.executable).with_name("basedpyright")), "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout[-3000:]


def test_files_are_short() -> None:
    assert SOURCES
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > 500}
    assert not long


def test_nothing_unpickles_or_evaluates() -> None:
    forbidden = re.compile(r"\b(pickle|marshal|shelve|dill)\b|\b(eval|exec)\(|yaml\.(unsafe_)?load\(")
    found = [f"{p.name}: {m[0]}" for p in SOURCES for m in forbidden.finditer(p.read_text("utf-8"))]
    assert not found


def test_no_float_makes_money() -> None:
    # Amounts are Decimal from end to end: nothing in the core turns one into a float.
    core = [ROOT / "llm_savings" / name for name in ("pricing", "ledger", "report", "reconcile")] + [
        ROOT / "llm_savings/meter.py"
    ]
    files = [p for path in core for p in (path.rglob("*.py") if path.is_dir() else [path])]
    assert not [p.name for p in files if "float(" in p.read_text("utf-8")]


def test_the_suite_cannot_reach_the_network() -> None:
    from pytest_socket import SocketConnectBlockedError

    with pytest.raises(SocketConnectBlockedError), socket.socket() as outside:
        outside.settimeout(1)
        outside.connect(("192.0.2.1", 80))


def test_tokens_are_counted_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_savings import tokens

    tokens.encoding.cache_clear()
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    assert tokens.count("Hello, world", "gpt-4o") == 3
    assert tokens.count("안녕하세요", "gpt-3.5-turbo") > 0
    assert "TIKTOKEN_CACHE_DIR" not in os.environ
