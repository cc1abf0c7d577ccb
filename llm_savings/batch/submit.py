"""Jobs come into being: checked, written down, shown with their price, held in budgets, and only then sent."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from llm_savings import settings
from llm_savings.batch import decisions
from llm_savings.batch.inputs import Given, InputError, Reader, raw, target
from llm_savings.batch.job import Job
from llm_savings.batch.journal import Journal, RepeatedError
from llm_savings.batch.money import Costs, Estimate, estimate
from llm_savings.batch.provider import Provider, Result
from llm_savings.batch.records import Ending, JobRow
from llm_savings.batch.text import loads
from llm_savings.errors import BatchError, BudgetError, ConfigError
from llm_savings.ledger import Host, Ledger
from llm_savings.meter import Meter

_log = logging.getLogger("llm_savings.batch")

_PAGE = 500  # answers written in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job is to be done.

    Attributes:
        name: Makes a job of its own out of the same requests; without it they are the job that was submitted before.
            With `reuse`, only those are sent that failed then.
        max_cost: USD; a job that may cost more is not sent.
        confirm: Asked with the estimate before anything is sent; the job is not sent unless it returns True.
        attempts: How often a request is sent that failed or expired at the provider.
        deadline: When answers are needed: a moment (aware), or a time from now.
        real_time: After the deadline, ask the real-time interface for what is left, at its full price. The upper bound
            is then that of the full price.
        reuse: Take over answers that earlier jobs in the journal have to the same requests.
        known: Gives the answer that you already have to a request's body, in the provider's format, or None. What it
            knows is not sent, and is a hit at $0 in the ledger.
        shadow: Change nothing: ask the real-time interface for everything, at its full price, and record that it could
            have waited.
        split: Make several batches of what is too large for one, of any size; False: refuse it.
        queued_tokens: Prompt tokens that your account may have in its queue for this model, if you know it; otherwise
            the job finds out.
        user: Who causes the cost; `erase_user` finds jobs by it.
        tags: Labels of the calls in the ledger, such as {"feature": "reviews"}.
        patience: Seconds after which a create that left no trace at the provider counts as never received.
        host: Whose calls these are in the ledger; for rims.
    """

    name: str = ""
    max_cost: Decimal | str | int | float | None = None
    confirm: Callable[[Estimate], bool] | None = None
    attempts: int = 3
    deadline: datetime | timedelta | None = None
    real_time: bool = False
    reuse: bool = False
    known: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = None
    shadow: bool = False
    split: bool = True
    queued_tokens: int | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    patience: float = 10.0
    host: Host = "sdk"

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigError(f"options.attempts is {self.attempts!r}; expected a positive whole number")
        deadline: Any = self.deadline
        if not isinstance(deadline, datetime | timedelta | None):
            raise ConfigError(f"options.deadline is {deadline!r}; expected a datetime, or a timedelta from now")
        if isinstance(self.deadline, datetime) and self.deadline.tzinfo is None:
            raise ConfigError("options.deadline has no time zone; pass an aware datetime, or a timedelta from now")
        if self.real_time and self.deadline is None:
            raise ConfigError("options.real_time needs a deadline; say when answers are needed, as timedelta(hours=20)")
        if self.queued_tokens is not None and (type(self.queued_tokens) is not int or self.queued_tokens < 1):
            raise ConfigError(f"options.queued_tokens is {self.queued_tokens!r}; expected a positive number of tokens")
        if type(self.patience) not in (int, float) or not self.patience >= 0:
            raise ConfigError(f"options.patience is {self.patience!r}; expected seconds, 0 or more")

    def cap(self) -> Decimal | None:
        """`max_cost` as an exact amount.

        Raises:
            ConfigError: It is no positive amount.
        """
        if self.max_cost is None:
            return None
        try:
            found = Decimal(str(self.max_cost))
        except InvalidOperation:
            found = Decimal(0)
        if not found.is_finite() or found <= 0:
            raise ConfigError(f"options.max_cost is {self.max_cost!r}; expected a positive number of dollars, as '5'")
        return found

    def kept(self, now: float) -> dict[str, Any]:
        """What the journal keeps of them."""
        deadline = self.deadline
        if isinstance(deadline, timedelta):
            deadline = now + deadline.total_seconds()
        elif deadline is not None:
            deadline = deadline.timestamp()
        return {
            "attempts": self.attempts,
            "deadline": deadline,
            "real_time": self.real_time,
            "shadow": self.shadow,
            "patience": self.patience,
            "tags": dict(self.tags),
        }


def submit(
    requests: Given,
    *,
    provider: str | Any = "openai",
    model: str | None = None,
    journal: str | Path | Journal | None = None,
    meter: Meter | None = None,
    options: Options | None = None,
) -> Job:
    """Send requests as a batch job, at half price.

    Everything is checked and written to the journal first. Submitting the same requests again, after a kill or a month
    later, finds the same job; it is never paid for twice.

    Args:
        requests: A file of JSON lines (its path), or prompts, request bodies or batch lines of the provider. Lines of
            a file are bodies or lines as well. Equal requests are sent and paid for once.
        provider: "openai", "azure" or "anthropic", with the client made from the environment; or a client of the
            openai or anthropic package; or your own `Provider`.
        model: The one model of the job, where the requests do not name it.
        journal: The journal's path; by default `LLM_SAVINGS_BATCHES`, or a file in the user's data folder.
        meter: Whose ledger, prices and budgets are meant; by default `Meter()`.
        options: See `Options`.

    Raises:
        InputError: An input cannot be sent; the message names its line and field.
        BatchError: The model is not known, the file is too large for one batch and may not be split, it may cost more
            than `max_cost`, it was not confirmed, or the provider refuses it.
        BudgetError: A budget has no room for all of it.
        ConfigError: An option is wrong.

    In every case nothing was sent.

    Example:
        >>> job = submit(["Is this review good or bad? 배송이 빨라요"], model="gpt-4o-mini")   # doctest: +SKIP
        >>> job.wait(progress=True)                                                      # doctest: +SKIP
        >>> [outcome.text for outcome in job.results()]                                  # doctest: +SKIP
        ['긍정']
    """
    options, meter, worker = options or Options(), meter or Meter(), provider_of(provider)
    options = replace(options, shadow=options.shadow or settings.shadow())
    book = _opened(journal)
    cap, now = options.cap(), time.time()
    lines = raw(requests)
    if (first := next(lines, None)) is None:
        raise BatchError("there is nothing to send; the input is empty")
    where = target(first[1], provider=worker.name, rules=worker.rules, model=model, prices=meter.prices)
    reader = Reader(
        where, worker.rules, meter.prices, mode="standard" if options.real_time or options.shadow else "batch"
    )
    row = JobRow(
        job=0,
        id="",
        provider=worker.name,
        model=where.model,
        endpoint=where.endpoint,
        host=options.host,
        created=now,
        state="new",
        user=options.user,
        options=options.kept(now),
        ledger=None if "://" in meter.ledger.target or meter.ledger.target == ":memory:" else meter.ledger.identity,
    )
    entries = (reader.read(*line) for line in itertools.chain([first], lines))
    try:
        row = book.add(row, entries, salt=options.name)
    except RepeatedError as error:
        raise InputError(error.number, "custom_id", "is used twice; every input needs its own") from error
    job = Job(book, row, worker, meter)
    if row.state == "new":
        try:
            job = Job(book, _approved(job.costs, book, row, options, cap, worker), worker, meter)
        except BaseException as error:
            found = book.job(row.id)
            if found.state == "new":  # else another process is sending it
                # What a budget has refused is not held, unless a submit before this one held it.
                job.costs.release(row if isinstance(error, BudgetError) else found)
                book.forget(found)
            raise
    elif row.state == "cancelled":
        raise BatchError(
            f"job {row.id} of these requests was cancelled; give it another options.name to send them again"
        )
    job.status()
    return job


def _approved(
    costs: Costs, book: Journal, row: JobRow, options: Options, cap: Decimal | None, worker: Provider
) -> JobRow:
    """The job, ready to be sent: it may be afforded, it is wanted, and its cost is held."""
    if options.reuse:
        book.reuse(row)
    if options.known is not None:
        _take_over(book, row, options.known)
    if not options.split and not options.shadow:
        _check_one_batch(book, row, worker)
    told = estimate(book, row, costs.meter)
    if cap is not None and (told.upper_bound is None or told.upper_bound > cap):
        bound = "no bound is known" if told.upper_bound is None else f"it may cost ${told.upper_bound:f}"
        raise BatchError(f"options.max_cost is ${cap:f}, but {bound}; nothing was sent")
    if options.confirm is not None and not options.confirm(told):
        raise BatchError("the job was not confirmed; nothing was sent")
    # From the estimate on there may be lines of this job in the ledger; see `Costs.release`.
    row = book.change_job(row, estimate=told.as_dict(), most_tokens=options.queued_tokens)
    return book.change_job(costs.hold(row, told.upper_bound), state="open")


def _take_over(book: Journal, row: JobRow, known: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> None:
    """Write down what is known already."""
    found: list[Ending] = []
    for _, key, body, _ in book.waiting(row):
        try:
            if (answer := known(loads(body))) is not None:
                found.append(decisions.ending(Result(f"-{key}", answer), "cache"))
        except Exception as error:  # noqa: BLE001 (whatever it is, the job goes on without)
            _log.warning("options.known failed (%s) and is asked no more", type(error).__name__)
            break
        if len(found) == _PAGE:
            book.end(row, found)
            found = []
    book.end(row, found)


def _check_one_batch(book: Journal, row: JobRow, worker: Provider) -> None:
    sql = "SELECT COUNT(*), COALESCE(SUM(length(body)), 0) FROM requests WHERE job = ? AND state = 'waiting'"
    count, size = book.rows(sql, row.job)[0]
    size += count * len(worker.wire("0" * 53, row.endpoint, b""))
    rules = worker.rules
    if count > rules.requests or size > rules.bytes:
        raise BatchError(
            f"the job has {count:,} requests and {size:,} bytes; one batch of {worker.name} takes {rules.requests:,} "
            f"and {rules.bytes:,}. Leave options.split on, or send less"
        )


async def asubmit(requests: Given, **given: Any) -> Job:
    """`submit` for asyncio; it takes the same arguments. If it is cancelled, submit again: it is the same job."""
    return await asyncio.to_thread(submit, requests, **given)


def open_job(
    name: str,
    *,
    provider: str | Any | None = None,
    journal: str | Path | Journal | None = None,
    meter: Meter | None = None,
) -> Job:
    """A job that was submitted before, in this process or another one.

    Args:
        name: Its id, or a beginning of it.
        provider: As for `submit`; by default the provider that it was submitted to, from the environment.
        journal: As for `submit`.
        meter: As for `submit`; by default one on the ledger that it was submitted with, if that is a file.

    Raises:
        BatchError: There is no such job, or it never got as far as being sent.
    """
    book = _opened(journal)
    row = book.job(name)
    if row.state == "new":
        raise BatchError(f"job {row.id} was never sent: its submit was killed; submit the same requests again")
    return Job(book, row, provider_of(provider or row.provider), meter or Meter(Ledger(row.ledger)))


def list_jobs(journal: str | Path | Journal | None = None) -> list[JobRow]:
    """Every job of a journal, the newest first."""
    return _opened(journal).jobs()


def _opened(journal: str | Path | Journal | None) -> Journal:
    return journal if isinstance(journal, Journal) else Journal(journal)


def erase_user(user: str, *, provider: str | Any | None = None, journal: str | Path | Journal | None = None) -> int:
    """Delete every job of a user, here and at the provider, with its files; how many there were.

    Raises:
        BatchError: One is at work; cancel it first.
    """
    book = _opened(journal)
    found = [row for row in book.jobs() if row.user == user]
    for row in found:
        Job(book, row, provider_of(provider or row.provider), Meter(":memory:")).erase()
    return len(found)


def provider_of(given: str | Any) -> Provider:
    """A provider by its name or by a client of its SDK.

    Raises:
        ConfigError: It is neither, the client is an async one, or there is no key for it.
    """
    maker = given if isinstance(given, str) else type(given).__module__.partition(".")[0]
    for kind in () if isinstance(given, str) else type(given).__mro__:
        if kind.__module__.partition(".")[0] in ("openai", "anthropic"):
            maker = kind.__module__.partition(".")[0]
            if kind.__name__.startswith("Async"):
                raise ConfigError(f"provider is an async client; pass its sync twin, {kind.__name__[5:]}()")
    client: Any = None if isinstance(given, str) else given
    if maker in ("openai", "azure"):
        import openai

        from llm_savings.batch.openai import OpenAIBatches

        try:
            return OpenAIBatches(client or (openai.AzureOpenAI() if maker == "azure" else None))
        except openai.OpenAIError as error:  # no key, or no endpoint
            raise ConfigError(f"provider {maker!r}: {error}") from error
    if maker == "anthropic":
        from llm_savings.batch.anthropic import AnthropicBatches

        return AnthropicBatches(client)
    if hasattr(given, "rules") and hasattr(given, "create"):
        return cast("Provider", given)
    raise ConfigError(f"provider is {given!r}; expected 'openai', 'azure', 'anthropic' or a client of their SDKs")
