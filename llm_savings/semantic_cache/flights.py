"""Single-flight: while one call asks the model, others with the same question wait for its answer.

A failure is not shared: when the leading call fails, one of those that wait becomes the leader. Nobody waits for a call
that cannot go on while it waits: its own thread's or task's, or one on the event loop that it would block. Waits end
after a time in any case.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from llm_savings.storage.forks import Guarded


@dataclass(slots=True, eq=False)
class _Flight:
    thread: int
    task: asyncio.Task[object] | None
    since: float
    held: bool = False
    landed: threading.Event = field(default_factory=threading.Event)
    waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = field(
        default_factory=list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]
    )


_REMEMBERED = 1_000  # landings; a lookup takes less time than so many calls
_LANDED = _Flight(0, None, 0.0)
_LANDED.landed.set()


class Flights(Guarded):
    """The questions that are being asked right now in this process.

    Args:
        patience: Seconds that a follower waits for its leader, and after which a leader is given up.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._flights: dict[str, _Flight] = {}
        self._recent: OrderedDict[str, float] = OrderedDict()  # when calls landed, the last one last
        super().__init__()

    def after_fork(self, *, child: bool) -> None:
        """See `Forkable`. What the parent has under way never lands here."""
        super().after_fork(child=child)
        if child:
            self._flights = {}

    def wait(self, key: str, since: float = inf) -> bool:
        """Wait for a call under way with this key; True if there was one, so that it pays to look again.

        False: the caller leads, and must end with `land`, whatever happens.

        Args:
            key: Of the question.
            since: When the caller began to look (`time.monotonic`): what landed later, it may have missed.
        """
        thread = threading.get_ident()
        flight = self._join(key, since, None, lambda other: other.thread == thread)
        if flight is None:
            return False
        flight.landed.wait(self.patience)
        return True

    async def await_(self, key: str, since: float = inf) -> bool:
        """As `wait`, on an event loop."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        flight = self._join(key, since, task, lambda other: other.task is task)
        if flight is None:
            return False
        future = loop.create_future()
        with self._lock:
            if flight.landed.is_set():
                return True
            flight.waiting.append((loop, future))
        with suppress(TimeoutError):
            await asyncio.wait_for(future, self.patience)
        return True

    def hold(self, key: str) -> None:
        """The call goes on after its task has ended: its answer is a stream, or is being stored."""
        with self._lock:
            if (flight := self._flights.get(key)) is not None:
                flight.held = True

    def land(self, key: str) -> None:
        """The call has ended, with an answer or without one. Doing it again changes nothing."""
        with self._lock:
            flight = self._flights.pop(key, None)
            if flight is not None:
                self._recent[key] = time.monotonic()
                self._recent.move_to_end(key)
                if len(self._recent) > _REMEMBERED:
                    self._recent.popitem(last=False)
        if flight is not None:
            self._landed(flight)

    def _join(
        self, key: str, since: float, task: asyncio.Task[object] | None, own: Callable[[_Flight], bool]
    ) -> _Flight | None:
        """The call to wait for, or None if the caller leads or must not wait."""
        now = time.monotonic()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and now - flight.since <= self.patience:
                return None if own(flight) else flight
            if self._recent.get(key, -inf) > since:
                return _LANDED
            flight = self._flights[key] = _Flight(threading.get_ident(), task, now)
        if task is not None:
            # A task that fails or is cancelled may never say so.
            task.add_done_callback(lambda _: self._left(key, flight))
        return None

    def _left(self, key: str, flight: _Flight) -> None:
        with self._lock:
            if flight.held:
                return
            if self._flights.get(key) is flight:
                del self._flights[key]
        self._landed(flight)

    def _landed(self, flight: _Flight) -> None:
        with self._lock:
            flight.landed.set()
            waiting, flight.waiting = flight.waiting, []
        for loop, future in waiting:
            with suppress(RuntimeError):  # its loop was closed while it waited
                loop.call_soon_threadsafe(_done, future)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
