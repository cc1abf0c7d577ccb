"""A workload that no strategy was developed on: an IT help desk, in Korean and English."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import second_intents
import write_second_workload

from llm_savings.demo.workload import load
from llm_savings.semantic_cache.match.bounds import at_most
from llm_savings.semantic_cache.settings import Settings
from llm_savings.tokens import count


def test_the_file_is_what_its_script_writes() -> None:
    assert write_second_workload.TARGET.read_text("utf-8") == write_second_workload.text()
    work = load(write_second_workload.TARGET)
    assert len({request.day for request in work.requests}) == 3 and all(request.answer for request in work.requests)
    assert count(second_intents.HANDBOOK) > 1500
    wordings = [(one[1], text) for one in second_intents.ASKED for text in one[2]]
    assert len({text for _, text in wordings}) == len(wordings)
    korean = sum(lang == "ko" for lang, _ in wordings) / len(wordings)
    assert 0.4 < korean < 0.6


def test_it_is_saved_on_as_the_bill_says_and_wrong_no_more_than_stated() -> None:
    command = [str(Path(sys.executable).with_name("llm-savings")), "demo", "--json"]
    done = subprocess.run(
        [*command, "--workload", str(write_second_workload.TARGET)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    spent = found["strategies"]
    assert found["ledger_equals_bill"] is True
    assert Decimal(spent["actual"]) == Decimal(found["after"]) < Decimal(found["before"])
    credits = sum(map(Decimal, spent["credits"].values()))
    assert Decimal(spent["baseline"]) - credits + Decimal(spent["overhead"]) == Decimal(spent["actual"])
    assert (spent["unknown"], spent["unpriced"], spent["repriced"]) == (0, 0, 0)
    groups = {group["how"]: (group["answers"], group["wrong"]) for group in found["answers"]}
    assert sum(answers for answers, _ in groups.values()) == len(load(write_second_workload.TARGET).requests)
    # What the same model answers is the same. The cache promises a share of all its lookups; that more of them are
    # wrong than it promises must not be shown, at 95%.
    assert groups["answered by the same model"][1] == groups["answered by a batch"][1] == 0
    lookups = sum(answers for how, (answers, _) in groups.items() if how != "answered by a batch")
    wrong = groups["answered by the cache"][1]
    assert 1 - at_most(lookups - wrong, lookups) <= Settings().max_error
