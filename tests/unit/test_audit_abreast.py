"""An audit comes out the same whether or not another process reads ahead of it, and as the real cache has it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_savings.audit import Choices, Record, audit, frames, order, read_logs, working
from llm_savings.audit.order import in_order
from llm_savings.routing import ComplexityRouter
from llm_savings.semantic_cache import AnswerCache, Hit, Request, Settings
from llm_savings.semantic_cache.match import Question as Words
from llm_savings.semantic_cache.match import prepare

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
RULES = {
    "en": "You answer for a shop. Orders before two leave the same day. " * 90,
    "ko": "달빛상점의 상담 도우미입니다. 두 시 전에 주문하면 그날 나갑니다. " * 90,
}
ASKED = {
    "en": ["How long does delivery take?", "how long does delivery take", "What is the delivery time?", "Is it in red?",
           "Can I return shoes?", "Can I send shoes back?", "Prove that order {0} was late and compare both policies."],
    "ko": ["배송은 얼마나 걸리나요?", "배송 얼마나 걸려요?", "배송비는 얼마인가요?", "신발을 반품할 수 있나요?",
           "신발 반품 되나요?", "주문 {0}번은 언제 오나요?"],
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """LiteLLM's payloads: questions again and in other words, three providers, talks, batches, failures, bad lines."""
    dice, path = Random(3), tmp_path / "log.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(400):
            language = dice.choice(["en", "ko"])
            model = dice.choice(["gpt-4o", "claude-sonnet-4-5", "gpt-4.1-mini", "of-nobody"])
            used = {"prompt_tokens": 2600, "completion_tokens": dice.randrange(5, 60)}
            asked = [{"role": "user", "content": dice.choice(ASKED[language]).format(n % 40)}]
            if n % 9 == 0:
                asked = [{"role": "user", "content": "And why?"}, {"role": "assistant", "content": "Because."}, *asked]
            row: dict[str, Any] = {
                "id": f"call-{n}",
                "model": model,
                "messages": [{"role": "system", "content": RULES[language]}, *asked],
                "response": {"choices": [{"message": {"role": "assistant", "content": f"Answer {n % 40}."}}]},
                **used,
                "metadata": {"usage_object": used},
                "request_tags": ["nightly"] if n % 17 == 0 else [],
                "startTime": (START + timedelta(seconds=20 * n - 300 * (n % 31 == 0))).timestamp(),
                "call_type": "completion",
                "custom_llm_provider": "anthropic" if "claude" in model else "openai",
                "session_id": f"talk-{n // 7}" if n % 3 == 0 else None,
                "team_id": dice.choice(["a", "b"]),
                "model_parameters": {"max_tokens": 800, "temperature": 0},
                "response_cost": None,
                "status": "failure" if n % 23 == 0 else "success",
            }
            file.write(json.dumps(row) + "\n" + ("{broken\n" if n % 100 == 50 else ""))
    return path


def told(log: Path, monkeypatch: pytest.MonkeyPatch, *, forks: bool, near: int = 1_000) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        patch.setattr(working, "_MUCH", 0)
        patch.setattr(order, "_NEAR", near)
        patch.setattr(frames, "can_fork", lambda: forks)
        counted: list[None] = []
        found = audit(log, each=lambda: counted.append(None))
    assert len(counted) == found.seen.calls == 400
    return found.document()


@pytest.fixture
def alone(log: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found = told(log, monkeypatch, forks=False)
    assert found["served"] > found["by_meaning"] > 0
    assert min(found["routed"], found["waited"]) > 10
    assert sum(found["unread"].values()) == 4
    return found


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@forking
def test_another_process_changes_nothing(log: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(log, monkeypatch, forks=True) == alone


@pytest.mark.parametrize("forks", [False, pytest.param(True, marks=forking)])
def test_a_log_that_has_to_be_sorted_comes_out_the_same(
    forks: bool, log: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[bool] = []
    monkeypatch.setattr(working, "in_order", lambda *given: again.append(True) or in_order(*given))
    assert told(log, monkeypatch, forks=forks, near=5) == alone
    assert forks or again  # some calls are later than five places


@forking
@pytest.mark.parametrize("after", [0, 1, 200])
def test_a_process_that_dies_changes_nothing(
    after: int, log: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = working.Reading._plain

    def dies(reading: working.Reading) -> Iterator[Any]:
        yield from islice(whole(reading), after)
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(working.Reading, "_plain", dies)
    assert told(log, monkeypatch, forks=True) == alone


@pytest.mark.parametrize("switch", ["LLM_SAVINGS_SHADOW", "LLM_SAVINGS_DISABLED"])
def test_an_audit_tries_what_the_environment_holds_back(
    switch: str, log: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(switch, "1")
    assert told(log, monkeypatch, forks=hasattr(os, "fork")) == alone


@forking
def test_what_the_users_function_raises_is_raised(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def can_wait(record: Record) -> bool:
        return {"a": True}[record.tenant or ""]

    monkeypatch.setattr(working, "_MUCH", 0)
    monkeypatch.setattr(frames, "can_fork", lambda: True)
    with pytest.raises(KeyError, match="b"):
        audit(log, choices=Choices(can_wait=can_wait))


def test_the_hits_are_those_of_the_real_cache(log: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    """One call after the other, through the hosts' own parts and a cache in a file."""
    choices, now = Choices(), [START]
    cache = AnswerCache(
        tmp_path / "cache.db",
        Settings(ttl=choices.ttl, wait=0),
        text_of=str,
        chance=Random(0).random,
        clock=lambda: now[0],
    )
    routers = {
        large: ComplexityRouter({"simple": small, "complex": large})
        for large, small in (("gpt-4o", "gpt-4o-mini"), ("claude-sonnet-4-5", "claude-haiku-4-5"))
    }
    tiers: list[str] = []
    for record in in_order(read_logs(log), lambda: None):
        if record.failed or record.model == "of-nobody" or choices.can_wait(record):
            continue
        now[0], model = record.at or now[0], record.model
        if router := routers.get(model):
            model = router.route(record.messages, max_tokens=800, conversation=record.session).model
        asked = Request(
            model=model, messages=record.messages or (), parameters=record.parameters, namespace=record.tenant or ""
        )
        found = cache.lookup(asked)
        if isinstance(found, Hit):
            tiers.append(found.tier)
        elif found.question is not None:
            cache.keep(found.question, record.answer or "")
    cache.close()
    assert (len(tiers), tiers.count("semantic")) == (alone["served"], alone["by_meaning"])


@forking
def test_who_stops_early_leaves_no_process_behind() -> None:
    before = set(psutil.Process().children())  # other tests may have some
    values = frames.abreast(lambda: ((n, b"") for n in range(10_000_000)))
    assert list(islice(values, 3)) == [(0, b""), (1, b""), (2, b"")]
    assert set(psutil.Process().children()) - before
    values.close()
    assert not set(psutil.Process().children()) - before


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(st.tuples(plain, st.binary()), max_size=4), st.integers(1, 40))
@example([(-(2**63) - 1, b""), (2**64, b""), ("\ud800", b"x")], 1)
def test_values_come_back_and_one_that_is_cut_off_does_not(values: list[tuple[Any, bytes]], lost: int) -> None:
    file = BytesIO()
    for value, beside in values:
        frames.write(file, value, beside=beside)
    assert list(frames.read(BytesIO(file.getvalue()))) == values
    short = list(frames.read(BytesIO(file.getvalue()[:-lost])))
    assert short == values[: len(short)]
    assert len(short) < len(values) or not values


@given(
    st.text(max_size=200) | st.sampled_from(["Flights to Seoul on 5 March, v2.1, 20%", "배송은 3일 안에 안 오나요?"])
)
def test_a_question_that_was_read_elsewhere_is_the_same(text: str) -> None:
    read = prepare(text)
    assert Words.of_plain(json.loads(json.dumps(read.plain()))) == read


def test_what_is_not_plain_is_sorted_on_disk_as_its_text() -> None:
    half = [{"role": "user", "content": "half \ud800 a pair"}]
    records = [
        Record(source="l", line=1, model="m", at=START, parameters={"since": START.date()}),
        Record(source="l", line=2, model="m", at=START, messages=half),
    ]
    one, other = in_order(records, lambda: None, room=1)
    assert one.parameters == {"since": "2026-11-02"}
    assert other.messages == half
