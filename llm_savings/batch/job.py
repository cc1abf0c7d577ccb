"""`Job`: work at half price that survives its process. Everything it does, it does from the journal."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from llm_savings.batch import decisions
from llm_savings.batch.journal import Journal
from llm_savings.batch.money import Costs, Estimate
from llm_savings.batch.outcomes import Outcome, outcome
from llm_savings.batch.provider import Provider
from llm_savings.batch.records import Chunk, Ending, JobRow, Taken
from llm_savings.batch.text import kept
from llm_savings.errors import BatchError
from llm_savings.meter import Meter, may_have_billed
from llm_savings.pricing.amounts import EXACT
from llm_savings.storage.locks import lock_now

if TYPE_CHECKING:
    from pydantic import BaseModel

_log = logging.getLogger("llm_savings.batch")

_PAGE = 500  # results written in one transaction
_AT_ONCE = 8  # real-time requests at the same time
_FIRST_POLL = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """A job, as far as it is.

    Attributes:
        state: "open" (at work), "cancelled" (stopping, or stopped), "done".
        inputs: How many inputs it has.
        requests: How many different requests they are.
        answered: Requests with an answer.
        failed: Requests that ended without one.
        running: Requests that the provider has ended in batches that are not over yet.
        batches: Batches at work.
        spent: USD so far, cached prompt tokens at their full price; NaN when the model has no price, or an answer does
            not tell its tokens.
        saved: USD that the same answers would have cost more in real time.
        seconds_left: A guess from the pace so far, or None.
    """

    id: str
    state: str
    inputs: int
    requests: int
    answered: int
    failed: int
    running: int
    batches: int
    spent: Decimal
    saved: Decimal
    seconds_left: float | None

    @property
    def done(self) -> bool:
        """Whether every request has ended."""
        return self.answered + self.failed == self.requests


class Job:
    """A job in a journal. Made by `submit` and `open_job`.

    Any number of programs may hold the same job; one of them works on it at a time. Killed at any moment, it goes on
    where it was: a batch is never created twice, and no answer is lost.

    Args:
        journal: Where it is.
        row: What the journal says of it.
        provider: Who does the work.
        meter: Whose ledger its costs go to.

    Attributes:
        id: Its id, for `open_job`.
        model: The model asked for.
        provider: The price book's name of the provider.
        costs: Its lines in the ledger.
    """

    def __init__(self, journal: Journal, row: JobRow, provider: Provider, meter: Meter) -> None:
        self.id, self.model, self.provider = row.id, row.model, row.provider
        self._journal, self._row, self._provider = journal, row, provider
        self.costs = Costs(journal, meter)
        self._tried = 0.0  # when a create last ended in an error that says nothing, which may be long after it began

    @property
    def estimate(self) -> Estimate:
        """What it was thought to cost."""
        return Estimate.from_dict(self._row.estimate)

    def status(self, *, refresh: bool = True) -> Status:
        """How far it is.

        Args:
            refresh: Ask the provider, and do what there is to do right now, unless another process is at it; else only
                read the journal. What passes by itself (a lost connection, a 429, a 5xx) is left to the next time.

        Raises:
            BatchError: The provider refuses the job as it is.
        """
        if refresh:
            self._step()
        self._row = self._journal.job(self.id)
        inputs, states = self._journal.counts(self._row)
        chunks = [chunk for chunk in self._journal.chunks(self._row) if chunk.state != "collected"]
        answered, failed, total = states.get("ok", 0), states.get("failed", 0), sum(states.values())
        running = sum(chunk.done for chunk in chunks)
        ended = answered + failed + running
        passed = time.time() - self._row.created
        left = passed * (total - ended) / ended if ended else None
        spent, real_time = self.costs.spent(self._row)
        money = (spent, EXACT.subtract(real_time, spent) if real_time else Decimal(0))
        return Status(self.id, self._row.state, inputs, total, answered, failed, running, len(chunks), *money, left)

    def wait(
        self,
        *,
        timeout: float | None = None,
        poll: float = 30.0,
        progress: bool | Callable[[Status], object] = False,
    ) -> Status:
        """Work on it until it is done. Interrupt it whenever you like; the next one goes on.

        Args:
            timeout: Seconds after which to return all the same.
            poll: Seconds between two looks at the provider, at most; the first ones follow more quickly.
            progress: Show a bar in the terminal, or call this with the status after every look.

        Raises:
            BatchError: The provider refuses the job as it is.
        """
        with _telling(progress) as tell:
            for pause in _pauses(timeout, poll):
                status = self.status()
                tell(status)
                if status.done or pause is None:
                    return status
                time.sleep(pause)
        raise AssertionError("unreachable")

    def results(self, schema: type[BaseModel] | None = None) -> Iterator[Outcome]:
        """One outcome for every input, in the order of the inputs, read from the journal as you go.

        Args:
            schema: Parse each answer with this pydantic model; one that does not fit is a `Failed` of kind "schema"
                with the answer's text.
        """
        return (found for found, _ in self.outcomes(schema))

    def outcomes(self, schema: type[BaseModel] | None = None) -> Iterator[tuple[Outcome, bytes | None]]:
        """The same, each with what a rim has kept with its input."""
        return ((outcome(dict(row), schema), row["memo"]) for row in self._journal.outcomes(self._row))

    def cancel(self) -> Status:
        """Stop: what waits is not sent, and the provider is asked to end what it has. What is answered is kept."""
        with self._alone(patience=60.0):
            self._row = self._journal.job(self.id)
            if self._row.state == "done":
                return self.status(refresh=False)
            self._row = self._journal.change_job(self._row, state="cancelled")
            for chunk in self._journal.chunks(self._row):
                if chunk.state == "open":
                    self._provider.cancel(chunk.batch or "")
            self._work()
        return self.status(refresh=False)

    def erase(self) -> None:
        """Delete it here and, with its files, at the provider. Amounts in the ledger stay.

        Raises:
            BatchError: It is at work; cancel it first.
        """
        with self._alone(patience=60.0):
            row = self._journal.job(self.id)
            chunks = self._journal.chunks(row)
            if row.state == "open" or any(chunk.state in ("creating", "open") for chunk in chunks):
                raise BatchError(f"job {self.id} is at work; cancel it and wait for its end, then erase it")
            for chunk in chunks:
                self._provider.forget(chunk)
            self._journal.forget(row)
            self._row = replace(row, state="done")

    async def astatus(self, *, refresh: bool = True) -> Status:
        """`status` for asyncio."""
        return await asyncio.to_thread(self.status, refresh=refresh)

    async def awaited(
        self, *, timeout: float | None = None, poll: float = 30.0, progress: Callable[[Status], object] | None = None
    ) -> Status:
        """`wait` for asyncio. Cancelling it stops the waiting; a look that is under way ends in its thread."""
        for pause in _pauses(timeout, poll):
            status = await self.astatus()
            if progress is not None:
                progress(status)
            if status.done or pause is None:
                return status
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def acancel(self) -> Status:
        """`cancel` for asyncio."""
        return await asyncio.to_thread(self.cancel)

    def _step(self) -> None:
        try:
            with self._alone() as mine:
                if mine:
                    self._row = self._journal.job(self.id)
                    self._work()
        except Exception as error:
            if not decisions.is_passing(error):
                if isinstance(getattr(error, "status_code", None), int):
                    raise BatchError(f"job {self.id}: the provider refuses: {error}") from error
                raise
            _log.warning("job %s: %s; it goes on when this has passed", self.id, type(error).__name__)

    def _work(self) -> None:
        if self._row.state == "done":
            return
        for chunk in self._journal.chunks(self._row):
            self._advance(chunk)
        if self._row.state == "cancelled":
            self._lost()
            self._journal.fail_waiting(self._row, "cancelled")
        elif self._is_late():
            self._hurry()
        else:
            self._send()
        self.costs.settle(self._row)
        _, states = self._journal.counts(self._row)
        if not states.keys() - {"ok", "failed"} and self._row.state != "cancelled":
            self._row = self._journal.change_job(self._row, state="done")

    def _advance(self, chunk: Chunk) -> None:
        """Take a chunk as far as it goes."""
        while (move := decisions.next_move(chunk)) is not None:
            before = chunk
            chunk = getattr(self, f"_{move}")(chunk)
            if chunk == before or (move == "look" and chunk.state == "open"):
                return

    def _send(self) -> None:
        """Make chunks of what waits, as long as the provider takes them."""
        while True:
            chunks = self._journal.chunks(self._row)
            free = decisions.room(chunks, self._row.most_tokens)
            busy = any(chunk.state in ("creating", "open") for chunk in chunks)
            if (free == 0 and busy) or any(chunk.state == "planned" for chunk in chunks):
                return  # the queue is full, or a chunk could not be sent right now
            frame = len(self._wire("0" * 32, b""))
            sizes = ((n, len(body) + frame, tokens) for n, _, body, tokens in self._journal.waiting(self._row))
            plan = decisions.fill(sizes, self._provider.rules, free)
            if plan is None or (busy and free is not None and plan.tokens > free):
                return
            self._journal.plan(self._row, plan.until, plan.count, plan.tokens)
            self._advance(self._journal.chunks(self._row)[-1])

    def _create(self, chunk: Chunk) -> Chunk:
        # Another batch's results may have answered all of it, where one was taken for the other.
        nothing = next(self._journal.lines(chunk), None) is None
        if nothing or self._row.state == "cancelled" or self._is_late():
            self._journal.refuse(chunk)
            return replace(chunk, state="collected")
        if chunk.file is None:
            planned = self._journal.change_chunk(chunk, intent=time.time())  # a file without its id may be left behind
            file = self._provider.upload(replace(planned, intent=chunk.intent), self._lines(chunk))
            chunk = self._journal.change_chunk(planned, file=file)
        chunk = self._journal.change_chunk(chunk, state="creating", intent=time.time(), tries=chunk.tries + 1)
        try:
            batch = self._provider.create(chunk, self._lines(chunk))
        except Exception as error:
            if decisions.was_refused(error):
                self._journal.change_chunk(chunk, state="planned")
                raise
            if not decisions.is_passing(error):
                raise
            # It may have been accepted all the same. The journal says "creating", so that somebody looks.
            _log.warning("job %s: creating a batch ended in %s; looking for it", self.id, type(error).__name__)
            self._tried = time.time()
            return self._found(chunk) or chunk
        return self._journal.change_chunk(chunk, state="open", batch=batch, created=time.time())

    def _reconcile(self, chunk: Chunk) -> Chunk:
        """Find out whether a batch was made, before another one is."""
        if found := self._found(chunk):
            return found
        if time.time() - max(chunk.intent or 0, self._tried) > self._row.options["patience"]:
            return self._create(chunk)
        return chunk

    def _found(self, chunk: Chunk) -> Chunk | None:
        known = self._journal.known_batches()
        for batch in self._provider.find(chunk):
            if batch not in known:
                return self._journal.change_chunk(chunk, state="open", batch=batch, created=chunk.intent)
        return None

    def _look(self, chunk: Chunk) -> Chunk:
        if chunk.tries > 1 and self._provider.is_certain:
            # More than one create was tried: should the first have arrived very late, it is stopped here.
            for twin in self._provider.find(chunk):
                if twin != chunk.batch:
                    self._provider.cancel(twin)
        look = self._provider.look(chunk.batch or "")
        if look.end == "failed" and look.queue_full:
            most = decisions.shrunk(chunk, self._journal.chunks(self._row))
            _log.info("job %s: the provider's queue is full; from now on %d tokens at most", self.id, most)
            self._row = self._journal.change_job(self._row, most_tokens=most)
            self._journal.refuse(chunk)
            return replace(chunk, state="collected")
        if look.end == "failed":
            self._fail(chunk, look.problem)
        if (self._row.state == "cancelled" or self._is_late()) and look.end is None:
            self._provider.cancel(chunk.batch or "")
        changes = decisions.changes(look)
        return self._journal.change_chunk(chunk, **changes) if changes["done"] != chunk.done or look.end else chunk

    def _fail(self, chunk: Chunk, problem: str) -> None:
        error = kept({"error": {"message": problem}})
        endings = [
            Ending(key, "failed", "batch", "invalid", None, False, error) for key, _ in self._journal.lines(chunk)
        ]
        self._journal.end(self._row, endings)

    def _collect(self, chunk: Chunk) -> Chunk:
        page: list[Ending] = []
        again = self._row.state != "cancelled"
        for number, result in enumerate(self._provider.results(chunk)):
            if not number and not result.custom_id.startswith(f"{self.id}-"):
                # Another program's batch of the same size and time was taken for this one's: look for ours again.
                strangers = (*chunk.strangers, chunk.batch or "")
                return self._journal.change_chunk(chunk, state="creating", batch=None, strangers=strangers)
            page.append(decisions.ending(result, again=again))
            if len(page) == _PAGE:
                self._journal.end(self._row, page)
                page = []
        self._journal.end(self._row, page)
        most = self._row.options["attempts"] if again else 0
        self._journal.give_back(chunk, most, decisions.LEFT.get(chunk.ended or "", "missing"))
        return replace(chunk, state="collected")

    def _is_late(self) -> bool:
        options = self._row.options
        deadline = options["deadline"]
        late = bool(options["real_time"] and deadline is not None and time.time() > deadline)
        return late or bool(options.get("shadow"))

    def _hurry(self) -> None:
        """The deadline is over: what is left goes to the real-time interface, once no batch can answer it any more.

        Some at a time, each marked as sent just before it is. So a process that is killed leaves open only what was on
        its way, of which nobody can tell whether it was answered: this may be paid for twice, and the ledger says so.
        """
        if any(chunk.state != "collected" for chunk in self._journal.chunks(self._row)):
            return
        lost, most = self._lost(), self._row.options["attempts"]
        hopeless = [
            Ending(line.key, "failed", "real-time", "provider", retryable=True) for line in lost if line.tries > most
        ]
        self._journal.end(self._row, hopeless)
        again = (line for line in lost if line.tries <= most)
        todo, turn = itertools.chain(again, self._journal.take(self._row, "waiting")), threading.Lock()

        def work(_: int) -> None:
            while True:
                with turn:  # no request is marked as sent before somebody is there to send it
                    line = None if troubles else next(todo, None)
                if line is None:
                    return
                try:
                    self._ask(line)
                except Exception as error:  # noqa: BLE001 (raised below; nothing more is begun)
                    troubles.append(error)

        troubles: list[Exception] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(work, range(_AT_ONCE)))
        if troubles:
            raise troubles[0]

    def _lost(self) -> list[Taken]:
        """What a process that is gone, or a connection that broke, left open: it may have been answered and billed."""
        lost = list(self._journal.take(self._row, "direct"))
        self.costs.lost(self._row, {line.key: line.bound for line in lost})
        return lost

    def _ask(self, line: Taken) -> None:
        try:
            result = replace(self._provider.direct(self._row.endpoint, line.body), custom_id=line.key)
        except Exception as error:
            if not may_have_billed(error):
                self._journal.end(self._row, [Ending(line.key, "waiting", "real-time")])
            raise
        if result.retryable and result.status != 429:  # it may follow work done
            self.costs.lost(self._row, {line.key: line.bound})
        found = decisions.ending(result, "real-time")
        if found.retryable and line.tries < self._row.options["attempts"]:
            found = replace(found, state="waiting")
        self._journal.end(self._row, [found])

    def _lines(self, chunk: Chunk) -> Iterator[bytes]:
        return (self._wire(key, body) for key, body in self._journal.lines(chunk))

    def _wire(self, key: str, body: bytes) -> bytes:
        return self._provider.wire(f"{self.id}-{key}", self._row.endpoint, body)

    @contextmanager
    def _alone(self, patience: float = 0.0) -> Generator[bool]:
        """Whether nobody else works on this job now; the lock ends with the process, whatever ends that.

        Raises:
            BatchError: With patience: somebody was at it all the time.
        """
        path = Path(f"{self._journal.path}.{self.id}.lock")
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        until = time.monotonic() + patience
        try:
            # On Windows there are no such locks: there two processes must not work on one job at the same time.
            while not (mine := lock_now(handle) is not False) and time.monotonic() < until:
                time.sleep(0.05)
            if patience and not mine:
                raise BatchError(f"job {self.id} is being worked on by another process; try again")
            yield mine
            if mine and self._row.state == "done":
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.provider} {self.model}>"


def _pauses(timeout: float | None, poll: float) -> Iterator[float | None]:
    """Seconds to wait after each look; None when the time is over."""
    until = None if timeout is None else time.monotonic() + timeout
    pause = min(_FIRST_POLL, poll)
    while True:
        left = None if until is None else until - time.monotonic()
        yield None if left is not None and left <= 0 else pause if left is None else min(pause, left)
        pause = min(pause * 1.5, poll)


@contextmanager
def _telling(progress: bool | Callable[[Status], object]) -> Generator[Callable[[Status], object]]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda status: None
    else:
        from llm_savings.batch.bar import bar  # loads rich

        with bar() as tell:
            yield tell
