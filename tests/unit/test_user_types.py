"""A type checker, run from a user's side, agrees with what the README writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = 'from llm_savings import Budget, SemanticCache\nBudget(dayly="50")\nSemanticCache(max_eror=0.01)\n'


def test_what_a_user_writes_has_the_types_that_he_expects_and_what_he_gets_wrong_is_told(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard", "pythonVersion": "3.11"}))
    (tmp_path / "mine.py").write_text(Path(__file__).with_name("user_types.py").read_text("utf-8"), "utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, "utf-8")
    program = str(Path(sys.executable).with_name("basedpyright"))
    command = [program, "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    found = [one for one in json.loads(done.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    where = [(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found]
    assert sorted(where) == [("wrong.py", 2), ("wrong.py", 3)], found
