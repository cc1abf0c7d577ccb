"""What a batch job may have cost is never lost, and never $0 for want of knowing."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from llm_savings import Meter, PriceBook
from llm_savings.batch import Failed, Job, Journal, Options, list_jobs, submit
from llm_savings.batch.anthropic import _result  # pyright: ignore[reportPrivateUsage]
from llm_savings.batch.decisions import ending
from llm_savings.batch.provider import Look, Result, rules_of
from llm_savings.batch.records import Chunk
from llm_savings.errors import BatchError

PRICES = PriceBook()
USAGE = {"prompt_tokens": 1_234_567, "completion_tokens": 7_654_321}


class Desk:
    """A provider that does as it is told."""

    name, is_certain, rules = "openai", False, rules_of("openai")

    def __init__(self, journal: Journal) -> None:
        self.journal, self.meter = journal, Meter(":memory:", prices=PRICES)
        self.usage: Any = USAGE
        self.broken: BaseException | None = None
        self.cancelled: list[str] = []
        self.lines: dict[str, list[str]] = {}

    def submit(self, many: int, **options: Any) -> Job:
        bodies = [{"messages": [{"role": "user", "content": f"{n}번 리뷰"}], "max_tokens": 9} for n in range(many)]
        given: Any = {"provider": self, "model": "gpt-4o-mini", "journal": self.journal, "meter": self.meter}
        return submit(bodies, **given, options=Options(**{"patience": 60.0, **options}))

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        return custom_id.encode() + b"\n"

    def upload(self, chunk: Chunk, lines: Any) -> str:
        return ""

    def create(self, chunk: Chunk, lines: Any) -> str:
        named = [line.decode().strip() for line in lines]
        assert named, "a batch of nothing"
        if self.broken is not None:
            raise self.broken
        self.lines[name := f"batch-{len(self.lines)}"] = named
        return name

    def find(self, chunk: Chunk) -> list[str]:
        return list(self.lines)

    def look(self, batch: str) -> Look:
        return Look(done=0, end="cancelled" if batch in self.cancelled else None)

    def results(self, chunk: Chunk) -> list[Result]:
        return []

    def cancel(self, batch: str) -> None:
        self.cancelled.append(batch)

    def forget(self, chunk: Chunk) -> None:
        return

    def direct(self, endpoint: str, body: bytes) -> Result:
        if self.broken is not None:
            raise self.broken
        return Result("", {"model": "gpt-4o-mini", "choices": [{"message": {"content": "네"}}], "usage": self.usage})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Journal(tmp_path / "j.db"))


def test_what_may_have_been_billed_before_a_cancel_is_unknown_not_free(desk: Desk) -> None:
    desk.broken = TimeoutError()
    job = desk.submit(1, shadow=True)
    assert job.cancel().failed == 1
    calls = list(desk.meter.ledger.calls())
    assert Counter(call.basis for call in calls) == {"unknown": 1, "measured": 1}
    assert all(call.sent.bound for call in calls)


def test_a_create_that_hung_is_looked_for_before_it_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    monkeypatch.setattr("llm_savings.batch.job.time.time", lambda: now[0])

    def create(chunk: Chunk, lines: Any) -> str:
        tried.append(now[0])
        now[0] += 600  # as long as the providers' clients wait
        raise TimeoutError

    tried: list[float] = []
    monkeypatch.setattr(desk, "create", create)
    job = desk.submit(1, patience=10.0)
    assert len(tried) == 1
    now[0] += 9
    job.status()
    assert len(tried) == 1
    now[0] += 2
    job.status()
    assert len(tried) == 2


def test_a_journal_that_another_process_is_writing_passes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.submit(1)
    monkeypatch.setattr("llm_savings.batch.journal._PATIENCE", 0.05)
    desk.cancelled.append("batch-0")
    with closing(sqlite3.connect(desk.journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not job.status().done
        other.execute("ROLLBACK")
    assert len(desk.lines) == 1 and job.status().requests == 1
    assert len(desk.lines) == 2  # the first was cancelled at the provider, and is sent again


def test_another_providers_answers_are_not_taken_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.submit(2, shadow=True)
    assert desk.submit(2, reuse=True, name="again").status().answered == 2
    monkeypatch.setattr(Desk, "name", "azure")  # whose deployments have names of their user's own
    assert desk.submit(2, reuse=True).status().answered == 0


def test_cancelling_from_asyncio(desk: Desk) -> None:
    job = desk.submit(3)
    status = asyncio.run(job.acancel())
    assert desk.cancelled and status.state == "cancelled"
    assert [outcome.kind for outcome in job.results() if isinstance(outcome, Failed)] == ["cancelled"] * 3


def test_an_answer_that_does_not_tell_its_tokens_is_of_unknown_cost(desk: Desk) -> None:
    desk.usage = None
    job = desk.submit(1, shadow=True)
    status = job.status()
    assert status.done and status.spent.is_nan() and status.saved == 0
    (call,) = desk.meter.ledger.calls()
    assert call.basis == "unknown"


def test_answers_that_do_not_tell_their_tokens_teach_nothing(desk: Desk) -> None:
    desk.usage = None
    desk.submit(30, shadow=True)
    told = desk.submit(31, shadow=True, name="another").estimate
    assert told.basis == "guess"


def test_sums_do_not_depend_on_the_programs_decimal_context(desk: Desk) -> None:
    with localcontext(Context(prec=3)):
        job = desk.submit(2, shadow=True)
        status = job.status()
    assert status.spent == 2 * (1_234_567 * Decimal("0.15") + 7_654_321 * Decimal("0.60")) / 1_000_000
    with localcontext(Context(prec=3)):
        assert job.estimate.real_time == desk.submit(2, shadow=True, name="again").estimate.real_time


def test_a_batch_that_another_ones_results_have_answered_is_not_made(desk: Desk) -> None:
    """Two batches of one size whose creates were lost: one was taken for the other, which leaves nothing to send."""
    job = desk.submit(1)
    row = desk.journal.job(job.id)
    (chunk,) = desk.journal.chunks(row)
    desk.journal.change_chunk(chunk, state="creating", batch=None, intent=0.0)
    key = next(key for key, _ in desk.journal.lines(chunk))
    desk.lines.clear()
    desk.journal.end(row, [ending(Result(f"-{key}", {"usage": USAGE}))])
    assert job.status().state == "done"


def test_a_job_with_requests_left_to_send_is_not_erased(desk: Desk) -> None:
    desk.broken = ConnectionError()
    job = desk.submit(1)
    (chunk,) = desk.journal.chunks(desk.journal.job(job.id))
    desk.journal.refuse(chunk)  # as a full queue does
    with pytest.raises(BatchError, match="cancel it"):
        job.erase()
    assert list_jobs(desk.journal)
    desk.broken = None
    job.cancel()
    job.erase()
    assert not list_jobs(desk.journal)


def test_a_ledger_that_fails_half_way_leaves_no_call_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = desk.meter.ledger.sent, list[object]()

    def sent(one: Any) -> None:
        if len(written) == 2:
            monkeypatch.setattr(desk.meter.ledger, "sent", write)
            raise OSError("no room on the disk")
        written.append(one)
        write(one)

    monkeypatch.setattr(desk.meter.ledger, "sent", sent)
    with pytest.raises(OSError, match="no room"):
        desk.submit(4)
    assert not list_jobs(desk.journal)
    assert all(call.basis == "measured" and call.settled.actual == 0 for call in desk.meter.ledger.calls())  # type: ignore[union-attr]


@pytest.mark.parametrize("body", ["Bad Gateway", {"error": "Overloaded"}, {"error": None}, None])
def test_an_error_of_whatever_kind_is_one(body: object) -> None:
    found = _result("", {"type": "errored", "error": body, "status": 502})
    assert (found.kind, found.status, found.retryable) == ("provider", 502, True)
    assert replace(found, custom_id="k").custom_id == "k"
