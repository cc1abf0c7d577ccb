"""Batch jobs through the real clients of OpenAI and Anthropic: each request billed once, each input one outcome."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from llm_savings import Budget, BudgetExceededError, Meter, PriceBook
from llm_savings.batch import (
    Answered,
    Failed,
    Job,
    Journal,
    Options,
    answer_format,
    asubmit,
    erase_user,
    list_jobs,
    open_job,
    submit,
)
from llm_savings.batch.provider import Result, Rules, rules_of
from llm_savings.errors import BatchError
from llm_savings.sandbox import Sandbox

PRICES = PriceBook()
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
PATHS = {"openai": "/v1/batches", "anthropic": "/v1/messages/batches"}


class Desk:
    """One provider's client, with a journal and a ledger."""

    def __init__(self, box: Sandbox, provider: str, folder: Path, **budget: str) -> None:
        self.box, self.provider, self.model = box, provider, MODELS[provider]
        self.client: Any
        if provider == "openai":
            self.client = openai.OpenAI(base_url=box.openai_url, api_key="x", timeout=2)
        else:
            self.client = anthropic.Anthropic(base_url=box.anthropic_url, api_key="x", timeout=2)
        self.journal = Journal(folder / "batches.db")
        self.meter = Meter(folder / "costs.db", prices=PRICES, budget=Budget(**budget) if budget else None)

    def submit(self, requests: Any, **options: Any) -> Job:
        given = Options(**{"patience": 0.3, **options})
        return submit(
            requests, provider=self.client, model=self.model, journal=self.journal, meter=self.meter, options=given
        )

    def batches(self) -> list[Any]:
        """What the provider has, the oldest first."""
        source = self.client.batches if self.provider == "openai" else self.client.messages.batches
        return list(source.list(limit=100))[::-1]

    def pass_the_deadline(self, job: Job) -> None:
        row = self.journal.job(job.id)
        self.journal.change_job(row, options={**row.options, "deadline": time.time() - 1})

    def check(self, requests: int) -> None:
        """Each of so many requests is on the bill once, at half price, and in the ledger at what was billed."""
        bill = self.box.bill()
        assert len(bill.rows) == requests and {row.tier for row in bill.rows} <= {"batch"}
        calls = [call for call in self.meter.ledger.calls() if call.settled and call.settled.status == "ok"]
        assert len(calls) == requests
        billed = {row.id: row.usd for row in bill.rows}
        for call in calls:
            assert call.settled is not None and call.settled.actual is not None and call.sent.bound is not None
            assert call.settled.actual == billed.pop(call.settled.response_id or "") <= call.sent.bound
            assert call.sent.mode == "batch" and call.settled.baseline == 2 * call.settled.actual
        assert self.meter.spent == bill.total


@pytest.fixture(params=["openai", "anthropic"])
def desk(request: pytest.FixtureRequest, box: Sandbox, tmp_path: Path) -> Desk:
    return Desk(box, request.param, tmp_path)


@pytest.fixture
def gpt(box: Sandbox, tmp_path: Path) -> Desk:
    return Desk(box, "openai", tmp_path)


def ask(number: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"리뷰 {number}: 배송이 빨라요"}], "max_tokens": 40, **more}


def answers(job: Job) -> list[Answered]:
    found = list(job.results())
    assert all(isinstance(outcome, Answered) for outcome in found), found
    return found  # type: ignore[return-value]


def test_every_input_has_its_own_answer_in_order(desk: Desk) -> None:
    requests = [ask(number % 7) for number in range(20)]
    job = desk.submit([{"custom_id": f"r{n}", "body": body} for n, body in enumerate(requests)])
    status = job.wait(poll=0.01)
    assert status.done and (status.inputs, status.requests, status.answered) == (20, 7, 7)
    found = answers(job)
    assert [outcome.custom_id for outcome in found] == [f"r{n}" for n in range(20)]
    assert [found[n].text for n in range(7, 14)] == [found[n].text for n in range(7)]
    assert all(f"리뷰 {n}" in found[n].text or found[n].text for n in range(7))
    desk.check(7)
    assert status.spent == status.saved == desk.box.bill().total
    assert job.estimate.upper_bound is not None and status.spent <= job.estimate.upper_bound


def test_the_same_requests_are_the_same_job(desk: Desk) -> None:
    job = desk.submit([ask(1), ask(2)])
    job.wait(poll=0.01)
    again = desk.submit([ask(1), ask(2)])
    assert again.id == job.id and [o.text for o in answers(again)] == [o.text for o in answers(job)]
    desk.check(2)
    other = desk.submit([ask(1), ask(3)], reuse=True)
    other.wait(poll=0.01)
    assert [outcome.source for outcome in answers(other)] == ["earlier", "batch"]
    desk.check(3)
    desk.submit([ask(1), ask(2)], name="once more").wait(poll=0.01)
    desk.check(5)
    assert len(list_jobs(desk.journal)) == 3


@pytest.mark.parametrize("kind", ["500-after", "stall"])
def test_an_error_after_acceptance_makes_no_second_batch(desk: Desk, kind: str) -> None:
    desk.client = desk.client.with_options(timeout=0.3)
    desk.box.fail(kind, path=PATHS[desk.provider], **({"seconds": 1.0} if kind == "stall" else {}))
    job = desk.submit([ask(n) for n in range(5)])
    assert job.wait(poll=0.05, timeout=20).done
    assert len(desk.batches()) == 1
    desk.check(5)


@pytest.mark.parametrize("kind", ["500", "429", "disconnect"])
def test_an_error_before_acceptance_is_tried_again(desk: Desk, kind: str) -> None:
    desk.box.fail(kind, path=PATHS[desk.provider], times=2)
    job = desk.submit([ask(n) for n in range(5)])
    assert job.wait(poll=0.05, timeout=20).done
    assert len(desk.batches()) == 1
    desk.check(5)


def test_trouble_while_waiting_and_collecting_passes(desk: Desk) -> None:
    desk.box.batches(seconds=0.3)
    job = desk.submit([ask(n) for n in range(5)])
    batch = desk.batches()[0].id
    for path in (f"{PATHS[desk.provider]}/{batch}", f"{PATHS[desk.provider]}/{batch}/results"):
        desk.box.fail("500", path=path, times=2)
        desk.box.fail("disconnect", path=path, times=2)
    assert job.wait(poll=0.05, timeout=20).done
    desk.check(5)


def test_only_failed_and_expired_lines_are_sent_again(gpt: Desk) -> None:
    gpt.box.batches(line_errors=0.02, expire_after=0.5)
    gpt.client = gpt.client.with_options(timeout=60)
    job = gpt.submit([ask(n % 9_990, max_tokens=16) for n in range(10_000)], attempts=6)
    status = job.wait(poll=0.01, timeout=60)
    assert (status.requests, status.answered, status.failed) == (9_990, 9_990, 0)
    assert Counter(type(outcome) for outcome in job.results()) == {Answered: 10_000}
    gpt.check(9_990)
    first, *more = gpt.batches()
    assert first.status == "expired" and first.request_counts.total == 9_990
    left = first
    for batch in more:  # each has just the lines that the one before it did not answer
        assert batch.request_counts.total == left.request_counts.failed
        left = batch
    assert left.request_counts.failed == 0 and len(more) >= 2


def test_limits_are_kept_to_the_byte(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = replace(rules_of(desk.provider), requests=7, bytes=3_000)
    monkeypatch.setattr(f"llm_savings.batch.{desk.provider}.rules_of", lambda provider: rules)
    desk.box.batches(max_requests=7, max_bytes=3_000, seconds=0.05)
    requests = [ask(n) for n in range(10)] + [ask(n, user="u" * n * 40) for n in range(10, 30)]
    if desk.provider == "anthropic":
        requests = [ask(n) for n in range(10)] + [ask(n, stop_sequences=["u" * n * 40]) for n in range(10, 30)]
    job = desk.submit(requests)
    assert job.wait(poll=0.02, timeout=20).answered == 30
    desk.check(30)
    if desk.provider == "openai":
        files = [file for file in desk.client.files.list(limit=100) if file.purpose == "batch"][::-1]
        sizes = [file.bytes for file in files if file.filename.startswith(job.id)]
        assert max(sizes) <= 3_000 and desk.batches()[0].request_counts.total == 7
        lines = [desk.client.files.content(file.id).content.splitlines(keepends=True) for file in files]
        for here, then in itertools.pairwise(lines):
            assert len(here) == 7 or sum(map(len, here)) + len(then[0]) + 64 > 3_000


def test_a_full_queue_is_waited_out_in_smaller_batches(gpt: Desk) -> None:
    gpt.box.batches(queued_tokens=900, seconds=0.1)
    job = gpt.submit([ask(n) for n in range(120)])
    status = job.wait(poll=0.03, timeout=30)
    assert status.answered == 120
    gpt.check(120)
    ends = Counter(batch.status for batch in gpt.batches())
    assert ends["failed"] >= 1 and ends["completed"] >= 2
    # Who knows the limit never meets it.
    gpt.box.reset()
    gpt.box.batches(queued_tokens=6000, seconds=0.05)
    gpt.submit([ask(n) for n in range(120)], name="known", queued_tokens=4000).wait(poll=0.02, timeout=30)
    assert Counter(batch.status for batch in gpt.batches())["failed"] == 0


def test_requests_that_the_provider_refuses_fail_alone(desk: Desk) -> None:
    job = desk.submit([ask(1), ask(2, temperature=9), ask(3)])
    job.wait(poll=0.01)
    first, second, third = job.results()
    assert isinstance(first, Answered) and isinstance(third, Answered)
    assert isinstance(second, Failed) and (second.kind, second.retryable) == ("invalid", False)
    assert "temperature" in second.message
    bad = desk.submit([ask(1, temperature=9)])  # an error file and nothing else
    assert bad.wait(poll=0.01).failed == 1
    desk.check(2)


def test_a_batch_that_fails_as_a_whole_says_why(gpt: Desk) -> None:
    # The price book knows more models than this provider.
    model, gpt.model = gpt.model, "gpt-3.5-turbo-0125"
    job = gpt.submit([ask(1)])
    job.wait(poll=0.01)
    (outcome,) = job.results()
    assert isinstance(outcome, Failed) and outcome.kind == "invalid" and "not supported" in outcome.message
    gpt.model = model


def test_cancelling_keeps_what_is_answered(desk: Desk) -> None:
    desk.box.batches(seconds=1.0)
    job = desk.submit([ask(n) for n in range(40)])
    while job.status().running < 5:
        time.sleep(0.02)
    job.cancel()
    status = job.wait(poll=0.02, timeout=20)
    assert status.done and status.answered >= 5 and status.failed == 40 - status.answered > 0
    kinds = Counter(getattr(outcome, "kind", "answered") for outcome in job.results())
    assert kinds == {"answered": status.answered, "cancelled": status.failed}
    desk.check(status.answered)


def test_after_the_deadline_the_rest_is_asked_in_real_time(desk: Desk) -> None:
    desk.box.batches(seconds=2.0)
    job = desk.submit([ask(n) for n in range(30)], deadline=timedelta(hours=1), real_time=True)
    while job.status().running < 3:
        time.sleep(0.02)
    desk.pass_the_deadline(job)
    status = job.wait(poll=0.02, timeout=30)
    assert status.answered == 30
    sources = Counter(outcome.source for outcome in answers(job))
    assert sources["batch"] > 0 and sources["real-time"] > 0
    bill = desk.box.bill()
    assert len(bill.rows) == 30 and desk.meter.spent == bill.total == status.spent
    assert Counter(row.tier for row in bill.rows) == {"batch": sources["batch"], "standard": sources["real-time"]}
    calls = list(desk.meter.ledger.calls())
    assert all(call.settled and call.settled.actual <= (call.sent.bound or 0) for call in calls)  # type: ignore[operator]


def test_real_time_requests_of_a_killed_process_are_asked_again_and_owned_up_to(gpt: Desk) -> None:
    gpt.box.batches(seconds=60)
    job = gpt.submit([ask(n) for n in range(6)], deadline=timedelta(hours=1), real_time=True)
    gpt.pass_the_deadline(job)
    chunk = gpt.journal.chunks(gpt.journal.job(job.id))[0]
    gpt.client.batches.cancel(chunk.batch)
    gpt.journal.refuse(chunk)
    # The process was killed when two of the requests had left.
    assert len(list(itertools.islice(gpt.journal.take(gpt.journal.job(job.id), "waiting"), 2))) == 2
    assert job.wait(poll=0.02, timeout=20).answered == 6
    calls = list(gpt.meter.ledger.calls())
    unknown = [call for call in calls if call.basis == "unknown"]
    assert len(calls) == 8 and len(unknown) == 2 and all(call.sent.bound for call in unknown)
    assert gpt.meter.spent == gpt.box.bill().total and len(gpt.box.bill().rows) == 6


def test_only_what_is_on_its_way_is_open(tmp_path: Path) -> None:
    """What kill -9 can make be paid twice: at most the requests that were being answered."""
    journal, seen = Journal(tmp_path / "j.db"), list[Counter[str]]()
    gate = threading.Barrier(8, timeout=10)

    class Slow:
        name, is_certain, rules = "openai", True, rules_of("openai")

        create = None

        def direct(self, endpoint: str, body: bytes) -> Result:
            gate.wait()
            seen.append(Counter(row[0] for row in journal.rows("SELECT state FROM requests")))
            gate.wait()
            usage = {"prompt_tokens": 9, "completion_tokens": 1}
            return Result("", {"model": "gpt-4o-mini", "choices": [{"message": {"content": "네"}}], "usage": usage})

    meter = Meter(":memory:", prices=PRICES)
    given: Any = {"provider": Slow(), "model": "gpt-4o-mini", "journal": journal, "meter": meter}
    job = submit([ask(n) for n in range(32)], **given, options=Options(shadow=True))
    assert job.status(refresh=False).answered == 32
    assert max(states["direct"] for states in seen) == 8 and seen[0] == {"direct": 8, "waiting": 24}


@pytest.mark.parametrize(("kind", "unknown"), [("429", 0), ("500", 1), ("500-after", 1)])
def test_trouble_in_real_time_is_tried_again_and_owned_up_to(gpt: Desk, kind: str, unknown: int) -> None:
    gpt.box.fail(kind, times=1)
    job = gpt.submit([ask(n) for n in range(3)], shadow=True)
    assert job.wait(poll=0.02, timeout=20).answered == 3
    bases = Counter(call.basis for call in gpt.meter.ledger.calls())
    assert bases == Counter(measured=3, unknown=unknown)
    twice = kind == "500-after"  # accepted, and billed
    assert len(gpt.box.bill().rows) == 3 + twice


def test_a_shadow_asks_in_real_time_and_records(desk: Desk) -> None:
    job = desk.submit([ask(n) for n in range(5)] + [ask(0)], shadow=True)
    status = job.wait(poll=0.02, timeout=20)
    bill = desk.box.bill()
    assert status.answered == 5 and {row.tier for row in bill.rows} == {"standard"} and not desk.batches()
    assert desk.meter.spent == bill.total == status.spent and desk.meter.saved == status.saved == 0
    for call in desk.meter.ledger.calls():
        assert call.settled and call.settled.strategies["batch"] == {"job": job.id, "shadow": True}
        assert call.sent.bound is not None and (call.settled.actual or 0) <= call.sent.bound
    assert job.estimate.expected is not None and job.estimate.real_time is not None
    assert job.estimate.expected > job.estimate.real_time / 2  # five of the six at the full price


def test_what_is_known_is_not_sent(desk: Desk, tmp_path: Path) -> None:
    first = desk.submit([ask(n) for n in range(3)])
    first.wait(poll=0.02, timeout=20)
    known = {ask(n)["messages"][0]["content"]: answer.body for n, answer in enumerate(answers(first))}
    desk.meter = Meter(tmp_path / "more.db", prices=PRICES, budget=Budget(total="1"))
    inputs = [ask(n) for n in range(5)] + [ask(0)]
    job = desk.submit(inputs, known=lambda body: known.get(body["messages"][0]["content"]), name="again")
    assert job.wait(poll=0.02, timeout=20).answered == 5
    assert [answer.source for answer in answers(job)] == ["cache"] * 3 + ["batch"] * 2 + ["cache"]
    assert [answer.body for answer in answers(job)][:3] == [answer.body for answer in answers(first)]
    calls = list(desk.meter.ledger.calls())
    assert Counter(call.settled.status for call in calls if call.settled) == {"ok": 2, "hit": 3}
    hits = [call.settled for call in calls if call.settled and call.settled.status == "hit"]
    assert all(hit.actual == 0 and hit.baseline and hit.baseline > 0 for hit in hits)
    assert desk.meter.spent == sum(row.usd for row in desk.box.bill().rows[3:])
    (counter,) = desk.meter.ledger.budgets.counters().values()
    assert counter.reserved == 0
    assert job.estimate.requests == 2


def test_who_knows_nothing_any_more_is_asked_no_more(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Any] = []

    def known(body: Any) -> Any:
        asked.append(body)
        raise OSError("the store is away")

    assert desk.submit([ask(n) for n in range(3)], known=known).wait(poll=0.02, timeout=20).answered == 3
    assert len(asked) == 1 and "options.known failed (OSError)" in caplog.text


def test_expired_to_the_end_is_a_failure_that_may_be_tried_again(gpt: Desk) -> None:
    gpt.box.batches(expire_after=0.5, expiries=10)
    job = gpt.submit([ask(n) for n in range(8)], attempts=2)
    status = job.wait(poll=0.01)
    assert (status.answered, status.failed) == (6, 2)
    gone = [outcome for outcome in job.results() if isinstance(outcome, Failed)]
    assert {(outcome.kind, outcome.retryable) for outcome in gone} == {("expired", True)}
    gpt.check(6)


class Review(BaseModel):
    sentiment: str
    score: int


def test_answers_are_parsed_and_bad_ones_kept_as_they_came(desk: Desk) -> None:
    fitting = {**ask(1), **answer_format(Review, desk.provider)}
    job = desk.submit([fitting, ask(2)])
    job.wait(poll=0.01)
    good, bad = job.results(Review)
    assert isinstance(good, Answered) and isinstance(good.parsed, Review)
    assert isinstance(bad, Failed) and bad.kind == "schema" and bad.retryable
    plain = list(job.results())[1]
    assert isinstance(plain, Answered) and bad.raw == plain.text


def test_erasing_a_user_erases_the_providers_files(desk: Desk) -> None:
    desk.submit([ask(1)], user="kim").wait(poll=0.01)
    kept = desk.submit([ask(2)], user="lee")
    kept.wait(poll=0.01)
    assert erase_user("kim", provider=desk.client, journal=desk.journal) == 1
    assert [row.id for row in list_jobs(desk.journal)] == [kept.id]
    assert "리뷰 1" not in Path(desk.journal.path).read_bytes().decode("utf-8", "replace")
    if desk.provider == "openai":
        assert len(list(desk.client.files.list())) == 2  # the other job's, sent and received
    else:
        assert len(desk.batches()) == 1
    desk.box.batches(seconds=9)
    busy = desk.submit([ask(3)])
    with pytest.raises(BatchError, match="cancel it"):
        busy.erase()


def test_strangers_batches_are_not_taken_for_ours(box: Sandbox, tmp_path: Path) -> None:
    claude = Desk(box, "anthropic", tmp_path)
    stranger = {"custom_id": "theirs", "params": {**ask(99), "model": claude.model}}
    claude.client.messages.batches.create(requests=[stranger])
    box.fail("500", path=PATHS["anthropic"])  # ours does not arrive, but one of its size and time is there
    job = claude.submit([ask(1)])
    assert job.wait(poll=0.05, timeout=20).answered == 1
    assert len(claude.batches()) == 2 and len(box.bill().rows) == 2
    assert answers(job)[0].body["id"] != box.bill().rows[0].id


def test_a_twin_that_arrives_late_is_stopped(gpt: Desk) -> None:
    gpt.box.batches(seconds=1.0)
    gpt.box.fail("500", path=PATHS["openai"])  # tried again, so the first one might still arrive
    job = gpt.submit([ask(n) for n in range(10)])
    while not gpt.batches():
        job.status()
        time.sleep(0.05)
    (ours,) = gpt.batches()
    gpt.client.batches.create(
        input_file_id=ours.input_file_id, endpoint=ours.endpoint, completion_window="24h", metadata=ours.metadata
    )
    assert job.wait(poll=0.05, timeout=20).answered == 10
    assert [batch.status for batch in gpt.batches()] == ["completed", "cancelled"]
    gpt.check(10)


def test_separators_of_other_kinds_do_not_part_lines(desk: Desk) -> None:
    odd = "첫 줄\u2028둘째\u2029셋째\x85넷째\x1e다섯째"
    job = desk.submit([{"messages": [{"role": "user", "content": odd}], "max_tokens": 60}, ask(1)])
    assert job.wait(poll=0.01).answered == 2
    desk.check(2)


def test_a_budget_holds_a_whole_job_or_nothing_of_it(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "poor").mkdir()
    poor = Desk(desk.box, desk.provider, tmp_path / "poor", daily="0.0001")
    with pytest.raises(BudgetExceededError) as error:
        poor.submit([ask(n) for n in range(50)])
    assert error.value.needed is not None and error.value.needed > Decimal("0.0001")
    assert not poor.batches() and not list(poor.meter.ledger.calls()) and not list_jobs(poor.journal)
    rich = Desk(desk.box, desk.provider, tmp_path, daily="1")
    desk.box.batches(seconds=1.0)
    job = rich.submit([ask(n) for n in range(50)])
    (held,) = rich.meter.ledger.budgets.counters().values()
    assert job.estimate.upper_bound is not None
    assert (held.spent, held.reserved) == (0, int(job.estimate.upper_bound.scaleb(12)))
    assert {call.status for call in rich.meter.ledger.calls()} == {"sent"}
    job.wait(poll=0.02)
    (now,) = rich.meter.ledger.budgets.counters().values()
    assert (now.spent, now.reserved) == (int(desk.box.bill().total.scaleb(12)), 0)
    rich.check(50)


def test_two_processes_do_not_work_on_one_job_at_once(desk: Desk) -> None:
    desk.box.batches(seconds=0.2)
    job = desk.submit([ask(n) for n in range(10)])
    others = [
        open_job(job.id[:10], provider=desk.client, journal=desk.journal.path, meter=desk.meter) for _ in range(4)
    ]
    threads = [threading.Thread(target=other.wait, kwargs={"poll": 0.01, "timeout": 20}) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.batches()) == 1
    desk.check(10)


async def test_the_async_twins_do_the_same(desk: Desk) -> None:
    desk.box.batches(seconds=1.5)
    given: Any = {"provider": desk.client, "model": desk.model, "journal": desk.journal, "meter": desk.meter}
    job = await asubmit([ask(n) for n in range(6)], **given)
    waiting = asyncio.create_task(job.awaited(poll=0.01))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await job.astatus(refresh=False)).answered == 0
    assert (await job.awaited(poll=0.05, timeout=20)).answered == 6
    desk.check(6)


def test_responses_and_embeddings_have_batches_too(gpt: Desk) -> None:
    job = gpt.submit([{"input": "배송이 언제 와요?", "max_output_tokens": 30}])
    job.wait(poll=0.01)
    assert answers(job)[0].text
    gpt.model = "text-embedding-3-small"
    vectors = gpt.submit([{"input": "배송"}, {"input": "delivery"}])
    vectors.wait(poll=0.01)
    assert all(len(outcome.body["data"][0]["embedding"]) > 100 for outcome in answers(vectors))
    assert gpt.meter.spent == gpt.box.bill().total


def test_the_expected_cost_is_near_what_it_becomes(desk: Desk) -> None:
    """Measured, not promised: half of the jobs are within 15% once a model's answers are known."""
    texts = ["배송이 빨라요", "The box was broken when it came", "가격이 비싸지만 품질이 좋아서 다시 살 것 같아요"]
    away: list[float] = []
    for number in range(11):
        bodies = [ask(0) for _ in range(60)]
        for n, body in enumerate(bodies):
            body["messages"][0]["content"] = f"{texts[n % 3]} {number}-{n} " + "정말 " * (n % (number + 1))
        job = desk.submit(bodies)
        status = job.wait(poll=0.01)
        assert job.estimate.expected is not None and job.estimate.upper_bound is not None
        assert status.spent <= job.estimate.upper_bound
        if number:
            assert job.estimate.basis == "history"
            away.append(abs(float(job.estimate.expected / status.spent) - 1))
    assert statistics.median(away) <= 0.15


def test_no_text_of_prompts_reaches_the_ledger_or_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "llm_savings")
    desk.box.fail("500-after", path=PATHS[desk.provider])
    job = desk.submit([ask(1)], tags={"feature": "reviews"}, user="kim")
    job.wait(poll=0.05)
    (call,) = desk.meter.ledger.calls()
    assert call.sent.tags == {"feature": "reviews"} and call.sent.user == "kim"
    assert call.settled is not None and call.settled.strategies == {"batch": {"job": job.id}}
    assert "배송" not in json.dumps([str(call), caplog.text], ensure_ascii=False)


def test_rules_come_from_the_data_file() -> None:
    assert isinstance(rules_of("openai"), Rules) and "/v1/responses" in rules_of("openai").endpoints
