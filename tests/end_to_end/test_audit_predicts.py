"""What the audit expects of a log without savings is what the strategies then really save, by the provider's bill."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings.audit import Choices, audit

HERE = Path(__file__).parent
WORKLOADS = {"shop": None, "second": HERE / "workload_second.jsonl"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_audit_predicts_what_is_then_saved(name: str, tmp_path: Path) -> None:
    workload, log = WORKLOADS[name], tmp_path / "before.jsonl"
    command = [str(Path(sys.executable).with_name("llm-savings")), "demo", "--json", "--log", str(log)]
    command += ["--workload", str(workload)] if workload else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    real = json.loads(done.stdout)
    found = audit(log, choices=Choices(ttl=timedelta(days=7)))  # what the demo sets, too

    before, after = Decimal(real["before"]), Decimal(real["after"])
    assert found.spent == before
    assert abs(found.saved.expected - (before - after)) <= Decimal("0.05") * (before - after)
    for strategy, usd in real["strategies"]["credits"].items():
        # Within 10% of itself; of a strategy that hardly matters, within 0.5% of what was spent.
        allowed = max(Decimal("0.10") * abs(Decimal(usd)), Decimal("0.005") * before)
        assert abs(found.attribution.credits[strategy] - Decimal(usd)) <= allowed, strategy
    low, expected, high = found.saved
    assert low <= before - after <= high + Decimal("0.05") * before
    assert low <= expected <= high
