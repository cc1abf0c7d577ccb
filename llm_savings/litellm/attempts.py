"""One HTTP attempt of a LiteLLM call, and what becomes of attempts that LiteLLM never reports on again.

The state of an attempt lives in LiteLLM's own details of the call, so it goes when they go: nothing piles up here. A
retry of the SDK reuses those details; a retry of the Router has its own.
"""
# pyright: standard

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Self

from llm_savings.errors import BudgetError, UsageError
from llm_savings.ledger import Settled
from llm_savings.litellm.answers import raw_answer, streamed_answer
from llm_savings.meter import Answer, Live, Meter
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings.litellm")
_KEY = "llm_savings"
_claiming = Latch()


@dataclass(slots=True, eq=False)
class Trace:
    """What came back on an attempt so far; it outlives LiteLLM's details, to settle what they leave behind.

    Attributes:
        live: The call in flight.
        asked: What was asked, to be counted if nobody else does.
        raw: The provider's answer as text.
        chunks: The pieces of a stream, as the wrapper that the user reads from collects them.
    """

    live: Live
    asked: tuple[Any, Any] = (None, None)
    raw: str | None = None
    chunks: Sequence[Any] | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class Attempt:
    """One HTTP attempt.

    Attributes:
        owner: The logger that meters it, or another logger of the same ledger that was first.
        trace: None where another host is metering the call.
        number: Which attempt with the same details this is, from 1.
        mock: No request leaves: `mock_response` answers.
        reported: The provider may be expected to report usage.
        known: By what the attempt was held in its budgets, until LiteLLM announces its request.
        stop: Why a budget does not let the request leave.
        told: What its row will say, once somebody wanted to know.
    """

    owner: object
    trace: Trace | None = None
    number: int = 1
    mock: bool = False
    reported: bool = True
    known: Mapping[str, Any] | None = None
    stop: BudgetError | None = None
    told: Settled | None = None
    _claimed: bool = field(default=False, init=False)

    def claim(self) -> Live | None:
        """The call to settle, for the first who asks; LiteLLM may report an end twice, from two threads."""
        with _claiming:
            if self._claimed or self.trace is None:
                return None
            self._claimed = True
            return self.trace.live


class _Attempts(dict[str, Attempt]):
    awaited = False

    # Other loggers may deep-copy or print the details they share with us.
    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<{len(self)} metered>"


def latest(details: dict[str, Any], ledger: str) -> Attempt | None:
    """The latest attempt metered into this ledger with these details."""
    attempts = details.get(_KEY)
    return attempts.get(ledger) if isinstance(attempts, _Attempts) else None


def stop_for(details: dict[str, Any], always: bool) -> BudgetError | None:
    """Why a budget of any ledger does not let the request of these details leave, if one does not.

    Args:
        details: LiteLLM's details of the call.
        always: Tell it also of a call that is awaited.
    """
    attempts = details.get(_KEY)
    if not isinstance(attempts, _Attempts) or (attempts.awaited and not always):
        return None
    return next((attempt.stop for attempt in attempts.values() if attempt.stop is not None), None)


def awaited(details: dict[str, Any]) -> None:
    """Note that these are the details of an async call."""
    details.setdefault(_KEY, _Attempts()).awaited = True


def is_awaited(details: dict[str, Any]) -> bool:
    """Whether these are known to be the details of an async call; only budgets ask before it is sent."""
    attempts = details.get(_KEY)
    return isinstance(attempts, _Attempts) and attempts.awaited


_leaving: ContextVar[tuple[str | None, weakref.ref[_Attempts]] | None] = ContextVar("llm_savings_leaving", default=None)


def keep(details: dict[str, Any], ledger: str, attempt: Attempt) -> None:
    """Make this the latest attempt, and the request that this context is sending."""
    attempts = details.setdefault(_KEY, _Attempts())
    attempts[ledger] = attempt
    _leaving.set((details.get("model"), weakref.ref(attempts)))  # the context may outlive the call by far


def leaving(model: str | None) -> list[Attempt]:
    """The attempts, one a ledger, of the request for this model that this context is sending."""
    asked, found = _leaving.get() or (None, None)
    attempts = found() if found else None
    # Another model is a later request, which is not LiteLLM's.
    return list(attempts.values()) if attempts and model in (None, asked) else []


class Leftovers:
    """Settles attempts whose details are gone without any report of their end.

    LiteLLM says nothing of streams that the user leaves, of answers to `acompletion` after its own retries, and of
    calls with `no-log`. The garbage collector notices; a thread of this object does the rest, because a ledger must
    not be written to from inside the collector.
    """

    def __init__(self, meter: Meter) -> None:
        self._queue: SimpleQueue[Trace | None] = SimpleQueue()
        self._meter, self._lock = meter, Latch()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._queue.put, None).atexit = False

    def watch(self, attempt: Attempt) -> None:
        """Settle this attempt if it is dropped unsettled."""
        if attempt.trace is None:
            return
        # A call in flight at exit stays what it is: sent, and unknown.
        weakref.finalize(attempt, _dropped, attempt.trace, self._queue).atexit = False
        if self._thread is None or not self._thread.is_alive():  # never started, or lost in a fork
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=_settle_all, args=(self._queue, self._meter), name="llm-savings", daemon=True
                    )
                    self._thread.start()


def _dropped(trace: Trace, queue: SimpleQueue[Trace | None]) -> None:
    if not trace.live.done:
        queue.put(trace)  # SimpleQueue.put may be called from a finaliser


def _settle_all(queue: SimpleQueue[Trace | None], meter: Meter) -> None:
    while (trace := queue.get()) is not None:
        try:
            _settle(trace, meter)
        except Exception:  # noqa: BLE001 (this thread must go on)
            _log.exception("call %s was not settled", trace.live.sent.call_id)


def _settle(trace: Trace, meter: Meter) -> None:
    live = trace.live
    if live.sent.stream:
        chunks = trace.chunks or ()
        answer = streamed_answer(live.sent, trace.asked, chunks) if chunks else Answer()
        meter.abandoned(live, answer)
    elif trace.raw:
        try:
            answer = raw_answer(trace.raw)
        except UsageError:
            answer = Answer(suspect=True)
        if answer is not None:
            meter.answered(live, answer)
