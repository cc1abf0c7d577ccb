"""A ledger that may be read and not written: an archive, another user's file, a disk mounted read-only."""

from __future__ import annotations

import _strptime  # noqa: F401 (the report's; whom `told` works as may not read Python's own files everywhere)
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_savings import Budget, Ledger, LedgerError
from llm_savings.cli import main
from llm_savings.ledger import Sent, Settled

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
_NOBODY = 65534


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Not below pytest's own folder, where only root may look."""
    path = Path(tempfile.mkdtemp(prefix="llm-savings-ro-"))
    path.chmod(0o777)
    for name in ("DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(path / "home"))
    yield path
    path.chmod(0o777)
    shutil.rmtree(path)


def write(path: Path) -> None:
    with Ledger(path) as ledger:
        call = Sent(call_id="a", host="sdk", requested_model="gpt-4o")
        ledger.settle(call, Settled(status="ok", basis="measured", actual=Decimal("0.25")))
        ledger.budgets.plan("default", Budget(daily=5).plan())


def told(work: Callable[[], str]) -> str:
    """What a process says that is not root, whom no mode of a file would hold back."""
    hear, say = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            os.write(say, work().encode())
        except BaseException as error:
            os.write(say, repr(error).encode())
        finally:
            os._exit(0)
    os.close(say)
    with os.fdopen(hear) as pipe:
        heard = pipe.read()
    os.waitpid(pid, 0)
    return heard


@pytest.mark.parametrize("kept", ["file", "folder", "both"])
def test_a_ledger_that_may_only_be_read(folder: Path, kept: str) -> None:
    path = folder / "costs.db"
    write(path)
    path.chmod(0o666 if kept == "folder" else 0o444)
    folder.chmod(0o777 if kept == "file" else 0o555)

    def look() -> str:
        ledger = Ledger(path)
        report = CliRunner().invoke(main, ["report", "--ledger", str(path)])
        assert "Budget default, daily: $0.00 of $5.00" in report.output, report.output
        return f"{ledger.summary('total')[0].actual:f} {[call.sent.call_id for call in ledger.calls()]} {report.output}"

    heard = told(look)
    assert heard.startswith("0.250000000000 ['a'] ")
    assert "$0.25" in heard
    assert [file.name for file in folder.iterdir()] == ["costs.db"], "nothing is left that its owner could not write to"


def test_what_a_killed_writer_left_in_the_log_is_read_too(folder: Path) -> None:
    path = folder / "costs.db"
    if (pid := os.fork()) == 0:
        ledger = Ledger(path)
        ledger.sent(Sent(call_id="a", host="sdk", requested_model="gpt-4o"))
        ledger.flush()
        os._exit(0)  # nothing is closed
    os.waitpid(pid, 0)
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    assert told(lambda: str([call.sent.call_id for call in Ledger(path).calls()])) == "['a']"


def test_what_a_killed_writer_left_where_nobody_may_look_is_told(folder: Path) -> None:
    path = folder / "costs.db"
    write(path)
    if (pid := os.fork()) == 0:
        ledger = Ledger(path)
        ledger.sent(Sent(call_id="b", host="sdk", requested_model="gpt-4o"))
        os._exit(0)
    os.waitpid(pid, 0)
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)

    def look() -> str:
        said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("llm_savings").addHandler(handler)
        ledger = Ledger(path)
        return f"{[[call.sent.call_id for call in ledger.calls()] for _ in range(2)]} {said}"

    heard = told(look)
    assert heard.startswith("[['a'], ['a']] ")
    assert heard.count("missing from the ledger") == 1


def test_what_a_newer_version_wrote_is_not_guessed_at(folder: Path) -> None:
    path = folder / "costs.db"
    write(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    path.chmod(0o444)

    def look() -> str:
        with pytest.raises(LedgerError, match="upgrade llm-savings"):
            list(Ledger(path).calls())
        return "refused"

    assert told(look) == "refused"


def test_a_ledger_that_is_not_there_is_not_empty(folder: Path) -> None:
    folder.chmod(0o555)

    def look() -> str:
        with pytest.raises(LedgerError, match="unable to open"):
            list(Ledger(folder / "none.db").calls())
        return "refused"

    assert told(look) == "refused"
