"""`llm-savings demo`, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from llm_savings import Ledger
from llm_savings.ledger import total


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("llm-savings")), "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_demo_ends_with_the_ledger_equal_to_the_bill(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    done = demo("--ledger", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ledger = provider's bill" in done.stdout
    shown = " ".join(done.stdout.split())
    assert "all 317 calls equal to the last decimal" in shown
    assert "0 unknown, 0 unpriced, 0 estimated." in shown
    with Ledger(path) as ledger:
        assert {line.key: line.calls > 0 for line in ledger.summary("host")} == {"langchain": True, "litellm": True}
        assert total(ledger.summary()).calls == 317
        assert [line.key for line in ledger.summary("tag:day")]
        assert len(ledger.summary("user")) == 40
    again = demo("--ledger", str(path))
    assert again.returncode == 1
    assert "has calls in it" in again.stderr


def test_a_workload_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    lines = [{"workload": "mine"}, {"prompt": "환불 되나요?", "feature": "support", "stream": True}, {"prompt": "2+2?"}]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    done = demo("--workload", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 2 calls equal" in " ".join(done.stdout.split())
