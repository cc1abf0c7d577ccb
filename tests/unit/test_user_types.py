"""A type checker, run from a user's side, agrees with what the README writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def _check(path: Path, folder: Path) -> list[str]:
    pytest.importorskip("basedpyright")
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard", "pythonVersion": "3.11"}))
    program = str(Path(sys.executable).with_name("basedpyright"))
    command = [program, "--project", str(folder), "--pythonpath", sys.executable, "--outputjson", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in found if one["severity"] == "error"]


def test_what_a_user_writes_has_the_types_that_he_expects(tmp_path: Path) -> None:
    written = tmp_path / "mine.py"
    written.write_text(Path(__file__).with_name("user_types.py").read_text("utf-8"), "utf-8")
    assert _check(written, tmp_path) == []


def test_what_a_user_gets_wrong_is_told(tmp_path: Path) -> None:
    written = tmp_path / "wrong.py"
    written.write_text(
        'from llm_savings import Budget, SemanticCache\nBudget(dayly="50")\nSemanticCache(max_eror=0.01)\n', "utf-8"
    )
    assert [found.split(":")[0] for found in _check(written, tmp_path)] == ["2", "3"]
