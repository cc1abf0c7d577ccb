"""What a job decides and keeps when it comes back: pure decisions, and the journal by itself."""

from __future__ import annotations

import os
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import Budget, Meter, PriceBook
from llm_savings.batch import Journal, Options, list_jobs, open_job, submit
from llm_savings.batch.decisions import ending, is_passing, next_move, room, shrunk, was_refused
from llm_savings.batch.money import Costs
from llm_savings.batch.provider import Result, rules_of
from llm_savings.batch.records import Chunk
from llm_savings.errors import BatchError, ConfigError

PRICES = PriceBook()


class Broken:
    """A provider that fails at a step."""

    name, is_certain, rules = "openai", True, rules_of("openai")

    def __init__(self, error: BaseException | None = None) -> None:
        self.error, self.created = error, 0

    def wire(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        return custom_id.encode() + body

    def upload(self, chunk: Chunk, lines: Any) -> str:
        return "file"

    def create(self, chunk: Chunk, lines: Any) -> str:
        if self.error is not None:
            raise self.error
        self.created += 1
        return f"batch-{self.created}"

    def look(self, batch: str) -> Any:
        raise ConnectionError

    def find(self, chunk: Chunk) -> list[str]:
        return []


class HttpError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


def chunk(state: Any, number: int = 1, tokens: int = 100) -> Chunk:
    return Chunk(number, 1, f"job-{number}", "/v1/chat/completions", state, 5, tokens)


def send(folder: Path, provider: Any, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "안녕"}], "max_tokens": 9}
    return submit([body], provider=provider, model="gpt-4o-mini", journal=folder / "j.db", **more)


def test_what_was_about_to_be_created_is_looked_for_first() -> None:
    moves = [next_move(chunk(state)) for state in ("planned", "creating", "open", "ended", "collected")]
    assert moves == ["create", "reconcile", "look", "collect", None]


@pytest.mark.parametrize(
    ("error", "refused", "passing"),
    [
        (HttpError(400), True, False),
        (HttpError(401), True, False),
        (HttpError(429), True, True),
        (HttpError(408), False, True),
        (HttpError(500), False, True),
        (ConnectionResetError(), False, True),
        (TimeoutError(), False, True),
        (ValueError(), False, False),
    ],
)
def test_only_a_refusal_says_that_there_is_no_batch(error: Exception, refused: bool, passing: bool) -> None:
    assert (was_refused(error), is_passing(error)) == (refused, passing)


def test_the_queue() -> None:
    busy, full = chunk("open", 1, 300), chunk("ended", 2, 200)
    assert room([busy, full], None) is None and room([busy, full], 1000) == 700 and room([busy], 100) == 0
    assert shrunk(full, [busy, full]) == 300  # what is at work fits
    assert shrunk(full, [full]) == 100 and shrunk(chunk("ended", 1, 1), []) == 1


def test_what_failed_is_sent_again_only_where_that_may_help() -> None:
    assert ending(Result("job-k", None, "provider", 500, None, True), again=True).state == "sent"
    assert ending(Result("job-k", None, "provider", 500, None, True)).state == "failed"
    assert ending(Result("job-k", None, "invalid", 400, None, False), again=True).state == "failed"
    found = ending(Result("job-k", {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
    assert (found.key, found.state, found.prompt, found.completion) == ("k", "ok", 3, 4)
    assert ending(Result("job-k", {"usage": {"prompt_tokens": -1}})).prompt is None


def test_a_refusal_leaves_a_job_that_can_be_sent_later(tmp_path: Path) -> None:
    meter = Meter(":memory:", prices=PRICES, budget=Budget(total="1"))
    with pytest.raises(BatchError, match="the provider refuses: HTTP 401"):
        send(tmp_path, Broken(HttpError(401)), meter=meter)
    (row,) = list_jobs(tmp_path / "j.db")
    assert row.state == "open"
    again = Broken()
    assert send(tmp_path, again, meter=meter).id == row.id and again.created == 1
    assert len(list(meter.ledger.calls())) == 1


def test_a_submit_that_was_killed_before_sending_gives_back_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(":memory:", prices=PRICES, budget=Budget(total="1"))

    def die(*given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    journal = Journal(tmp_path / "j.db")
    change = journal.change_job
    journal.change_job = lambda job, **c: die() if c.get("state") == "open" else change(job, **c)  # type: ignore[method-assign]
    forget, journal.forget = journal.forget, lambda job: None  # type: ignore[method-assign]
    monkeypatch.setattr(Costs, "release", lambda *given: None)  # who is killed gives nothing back
    body = {"messages": [{"role": "user", "content": "안녕"}], "max_tokens": 9}
    given: Any = {"provider": Broken(), "model": "gpt-4o-mini", "journal": journal, "meter": meter}
    with pytest.raises(KeyboardInterrupt):
        submit([body], **given)
    (held,) = meter.ledger.budgets.counters().values()
    assert held.reserved > 0
    with pytest.raises(BatchError, match="never sent"):
        open_job(list_jobs(journal)[0].id, provider=Broken(), journal=journal, meter=meter)
    monkeypatch.undo()
    journal.forget = forget  # type: ignore[method-assign]
    with pytest.raises(BatchError, match="not confirmed"):
        submit([body], **given, options=Options(confirm=lambda told: False))
    (held,) = meter.ledger.budgets.counters().values()
    assert (held.reserved, held.spent) == (0, 0) and not list_jobs(journal)


def test_a_journal_is_its_owners_and_of_one_release(tmp_path: Path) -> None:
    send(tmp_path, Broken(), meter=Meter(":memory:", prices=PRICES))
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(BatchError, match="newer release"):
        list_jobs(tmp_path / "j.db")
    with pytest.raises(ConfigError, match="folder does not exist"):
        Journal(tmp_path / "nowhere" / "j.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to be taken for one " * 9)
    with pytest.raises(BatchError, match=r"text\.db"):
        list_jobs(tmp_path / "text.db")


def test_jobs_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    meter = Meter(":memory:", prices=PRICES)
    job = send(tmp_path, Broken(), meter=meter)
    for name, problem in (("", "several|no job"), ("zz", "no job whose id begins with 'zz'"), ("%", "no job")):
        with pytest.raises(BatchError, match=problem):
            open_job(name, provider=Broken(), journal=tmp_path / "j.db", meter=meter)
    assert open_job(job.id[:6], provider=Broken(), journal=tmp_path / "j.db", meter=meter).id == job.id


def test_a_child_process_opens_the_journal_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    send(tmp_path, Broken(), meter=Meter(":memory:", prices=PRICES))
    assert len(journal.jobs()) == 1
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(journal.jobs()) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(journal.jobs()) == 1


def test_what_needs_no_metering_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    meter = Meter(":memory:", prices=PRICES, budget=Budget(total="0.000000001"))
    send(tmp_path, Broken(), meter=meter)
    assert not list(meter.ledger.calls()) and meter.spent == Decimal(0)


def test_providers_are_named_or_given() -> None:
    import anthropic
    import openai

    from llm_savings.batch.submit import provider_of

    azure = openai.AzureOpenAI(api_key="x", api_version="2025-04-01-preview", azure_endpoint="https://a.example")
    assert provider_of(openai.OpenAI(api_key="x")).name == "openai"
    assert provider_of(azure).name == "azure"
    assert b'"url":"/chat/completions"' in provider_of(azure).wire("a", "/v1/chat/completions", b"{}")
    assert provider_of(anthropic.Anthropic(api_key="x")).name == "anthropic"
    with pytest.raises(ConfigError, match=r"pass its sync twin, OpenAI\(\)"):
        provider_of(openai.AsyncOpenAI(api_key="x"))
    with pytest.raises(ConfigError, match="expected 'openai', 'azure', 'anthropic'"):
        provider_of("gemini")
