"""What a job may cost, will probably cost and has cost: shown before, held in budgets, written line by line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, cast

from llm_savings import settings, tokens
from llm_savings.batch.journal import Journal
from llm_savings.batch.outcomes import usage_of
from llm_savings.batch.records import JobRow
from llm_savings.batch.text import loads
from llm_savings.bounds import limits
from llm_savings.errors import BatchError, SavingsError, UnboundedCallError, UsageError
from llm_savings.ledger import Mode, Sent
from llm_savings.ledger.records import from_picodollars
from llm_savings.meter import Answer, Live, Meter
from llm_savings.pricing.amounts import EXACT, rounded
from llm_savings.usage import Usage

_SAMPLE = 200  # requests that are counted for the expected cost
_ENOUGH = 20  # answers from which a usual length is told
_UNLIMITED = 512  # output tokens that a request without a limit is guessed to get
_PER_BYTE = 0.25  # prompt tokens, about, where none can be counted
_NOTHING = Usage()
_MICRO = Decimal("0.000001")


class LineFailedError(BatchError):
    """One request of a batch ended without an answer; it was not billed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job may cost.

    Attributes:
        inputs: How many inputs there are.
        requests: How many different requests they are.
        upper_bound: USD that the job cannot exceed, or None when nothing bounds it.
        expected: USD that it will probably cost, or None when it cannot be told.
        real_time: USD that all inputs would probably cost one by one, without a batch.
        basis: Where the expected output comes from: "history" (earlier answers of this model), or "guess" (half of
            what the requests allow).
    """

    inputs: int
    requests: int
    upper_bound: Decimal | None
    expected: Decimal | None
    real_time: Decimal | None
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON, amounts as text."""
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Estimate:
        """The estimate that `as_dict` wrote."""
        money = ("upper_bound", "expected", "real_time")
        read: dict[str, Any] = {k: Decimal(v) if k in money and v is not None else v for k, v in found.items()}
        return cls(**read)


def estimate(journal: Journal, job: JobRow, meter: Meter) -> Estimate:
    """A job's estimate from its requests and from what earlier ones of its model used.

    The prompt's tokens are taken from its bytes, at the rate that the provider has billed before, else as counted here
    in a sample; the answers' from earlier answers of this model in the journal, or in the ledger with this feature.
    """
    sql = (
        "SELECT COUNT(*) AS n, SUM(length(body)) AS bytes, SUM(bound) AS bound, SUM(bound IS NULL) AS unbounded "
        "FROM requests WHERE job = ? AND state = 'waiting'"
    )
    found = journal.rows(sql, job.job)[0]
    inputs, requests = journal.rows("SELECT COUNT(*) FROM inputs WHERE job = ?", job.job)[0][0], found["n"]
    upper = None if found["unbounded"] else from_picodollars(found["bound"] or 0)
    if not requests:
        return Estimate(inputs, 0, Decimal(0), Decimal(0), None, "history")
    usual = _usual_usage(journal, job, meter, found["bytes"] / requests)
    costs: list[Decimal | None] = []
    asked: Mode = "standard" if job.options.get("shadow") else "batch"
    for mode, many in ((asked, requests), ("standard", inputs)):
        try:
            one = meter.prices.price(usual[0], job.model, mode=cast("Mode", mode), provider=job.provider)
            costs.append(rounded(many, one, _MICRO))
        except SavingsError:
            costs.append(None)
    return Estimate(inputs, requests, upper, costs[0], costs[1], usual[1])


def _usual_usage(journal: Journal, job: JobRow, meter: Meter, size: float) -> tuple[Usage, str]:
    """What a request of so many bytes usually uses, and how that is known."""
    many, sent, prompts, answers = journal.history(job)
    step = max(1, sum(journal.counts(job)[1].values()) // _SAMPLE)
    # What is very long (images, whole books) would take long to count.
    sql = "SELECT body FROM requests WHERE job = ? AND id % ? = 0 AND length(body) < 65536 LIMIT ?"
    sample = journal.rows(sql, job.job, step, _SAMPLE)
    bodies: list[dict[str, Any]] = [loads(row["body"]) for row in sample]
    length = sum(len(row["body"]) for row in sample)
    if many >= _ENOUGH and prompts:
        per_byte = prompts / sent
    else:
        per_byte = sum(_count(body, job.model) for body in bodies) / length if length else _PER_BYTE
    if job.endpoint == "/v1/embeddings":
        return Usage(input=round(per_byte * size)), "history"
    past = [answers / many] if many >= _ENOUGH else []
    if not past:
        found = meter.ledger.outputs((job.model, job.options.get("tags", {}).get("feature")))
        past = [sum(found) / len(found)] if len(found) >= _ENOUGH else []
    most = [min(limits(body)[0] or _UNLIMITED * 2, 1 << 20) for body in bodies]
    usual = past[0] if past else sum(most) / len(most) / 2 if most else _UNLIMITED
    return Usage(input=round(per_byte * size), output=round(usual)), "history" if past else "guess"


def _count(body: Mapping[str, Any], model: str) -> int:
    total = tokens.PER_ANSWER
    for name in ("messages", "input", "system", "instructions", "tools", "response_format", "output_config"):
        total += sum(tokens.count(text, model) for text in _texts(body.get(name)))
    return total + tokens.PER_MESSAGE * len(body.get("messages") or ())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[str, Any]", value).items():
            if name not in ("role", "type"):
                yield from _texts(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _texts(item)


class Costs:
    """A job's lines in a ledger: each one's upper bound ahead, and what it cost when that is known. Each once.

    Args:
        journal: Where the job is.
        meter: Whose ledger and budgets are meant.
    """

    def __init__(self, journal: Journal, meter: Meter) -> None:
        self._journal, self.meter = journal, meter

    def hold(self, job: JobRow, bound: Decimal | None) -> JobRow:
        """Write every request ahead at its upper bound and, where there is a budget, hold it: all of them or none.

        Raises:
            BudgetError: A budget has no room for the whole job, or nothing bounds it. Nothing is held.
        """
        meter = self.meter
        if settings.disabled() or job.budgets:
            return job
        if not meter.gate.budgets():
            for sent in self._ahead(job):
                meter.ledger.sent(sent)
            return job
        if bound is None:
            raise UnboundedCallError(
                "nothing bounds what this job may cost, so no budget can hold it; give every request max_tokens"
            )
        first = next(self._ahead(job), None)
        keys = meter.gate.admit_all(first, lambda: self._ahead(job), bound) if first else ()
        return self._journal.change_job(job, budgets=keys)

    def release(self, job: JobRow) -> None:
        """Give back what is held for a job that will not be sent: a submit before this one was killed in between."""
        if job.estimate and not settings.disabled():
            for sent in self._ahead(job):
                self.meter.failed(self._live(sent), LineFailedError("not sent"), Answer(usage=_NOTHING))

    def settle(self, job: JobRow) -> None:
        """Write what has ended since the last time."""
        meter = self.meter
        for page in self._journal.unbilled(job):
            if settings.disabled():
                continue
            for row in page:
                sent = self._sent(job, row["key"], row["bound"])
                shadow, hit = bool(job.options.get("shadow")), row["source"] == "cache"
                mode: Mode = "standard" if shadow or row["source"] == "real-time" else "batch"
                # Nothing is held for what was known.
                live = meter.late(replace(sent, budgets=(), reserved=None)) if hit else self._live(sent)
                if row["state"] != "ok":
                    meter.failed(live, LineFailedError(row["kind"]), Answer(usage=_NOTHING, mode=mode))
                    continue
                body: dict[str, Any] = loads(row["result"])
                said: dict[str, Any] = {} if mode == "standard" else {"batch": {"job": job.id}}
                said |= {"batch": {"job": job.id, "shadow": True}} if shadow else {}
                said |= {"semantic_cache": {"cache": "hit", "tier": "exact"}} if hit else {}
                answer = Answer(model=body.get("model"), usage=usage_of(body), mode=mode, hit=hit, strategies=said)
                answer.response_id = body.get("id")
                if hit and answer.usage is None:
                    answer.usage = _NOTHING  # what it would have taken is not known, but it is free
                meter.answered(live, answer)

    def lost(self, job: JobRow, bounds: Mapping[str, int | None]) -> None:
        """Write that requests were sent to the real-time interface by a process that is gone: nobody knows their cost.

        What they cost now is another row.
        """
        for key, bound in bounds.items():
            sent = self._sent(job, key, bound)
            sent = replace(sent, call_id=f"{sent.call_id}:{time.time_ns():x}", mode="standard", budgets=())
            self.meter.failed(self.meter.late(sent), LineFailedError("lost"))

    def spent(self, job: JobRow) -> tuple[Decimal, Decimal]:
        """USD that a job's answers cost, and would have cost in real time; cached prompt tokens at their full price."""
        sql = (
            "SELECT source, prompt, completion, COUNT(*) FROM requests WHERE job = ? AND state = 'ok' "
            "AND source NOT IN ('earlier', 'cache') GROUP BY source, prompt, completion"
        )
        total, real_time = Decimal(0), Decimal(0)
        price = partial(self.meter.prices.price, model=job.model, provider=job.provider)
        for source, prompt, completion, many in self._journal.rows(sql, job.job):
            try:
                if prompt is None:
                    raise UsageError("an answer does not tell its tokens")
                usage = Usage(input=prompt, output=completion)
                standard = EXACT.multiply(price(usage, mode="standard"), many)
                batched = standard if source == "real-time" else EXACT.multiply(price(usage, mode="batch"), many)
            except SavingsError:
                return Decimal("NaN"), Decimal(0)
            total, real_time = EXACT.add(total, batched), EXACT.add(real_time, standard)
        return total, real_time

    def _ahead(self, job: JobRow) -> Iterator[Sent]:
        return (self._sent(job, key, bound) for key, bound in self._journal.bounds(job))

    def _live(self, sent: Sent) -> Live:
        passed = max(0.0, time.time() - sent.started_at.timestamp())
        return Live(sent, self.meter.ledger.identity, time.monotonic() - passed)

    def _sent(self, job: JobRow, key: str, bound: int | None) -> Sent:
        usd = from_picodollars(bound)
        return Sent(
            call_id=f"{job.id}:{key}",
            host=cast("Any", job.host),
            requested_model=job.model,
            provider=job.provider,
            mode="batch",
            started_at=datetime.fromtimestamp(job.created, UTC),
            bound=usd,
            tags={**self.meter.tags, **job.options.get("tags", {})},
            user=job.user,
            reserved=usd if job.budgets else None,
            budgets=job.budgets,
        )
