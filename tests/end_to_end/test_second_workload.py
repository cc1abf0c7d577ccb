"""A workload that no strategy was developed on: an IT help desk, in Korean and English. test_demo.py runs it."""

from __future__ import annotations

import second_intents
import write_second_workload

from llm_savings.demo.workload import load
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
