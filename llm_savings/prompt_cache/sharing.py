"""`Sharing`: what one process learns of prefixes, the others learn too, through a log that they all write and read.

Nobody waits for it. A thread writes what was learned here in batches and learns what others wrote, twice a second; a
plan reads this process's own memory and nothing else. While the log is away, every process goes on by itself.
"""

from __future__ import annotations

import atexit
import logging
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from llm_savings.prompt_cache.lessons import Lesson, packed, unpacked
from llm_savings.prompt_cache.logs import PAGE, Log
from llm_savings.storage.forks import watch
from llm_savings.storage.urls import masked

_log = logging.getLogger("llm_savings.prompt_cache")

_EVERY = 0.5  # seconds
_AWAY = 5.0
_WAITING = 5_000  # lessons kept for a log that is away; beyond them the oldest are given up
_LONGEST = 64 * 1024  # bytes of a lesson: some 8,000 blocks
_STEP = 20  # lessons learned before this thread lets others go on


class Sharing:
    """Carries lessons between one memory and a log.

    Args:
        log: Where processes meet.
        target: Its path or URL, for messages.
        family: Four bytes that tell apart hashes made with different keys: those of others mean nothing here.
        learn: Takes a lesson of another process.
        lock: The memory's, which no fork may copy while it is held.
    """

    def __init__(
        self, log: Log, target: str, *, family: bytes, learn: Callable[[Lesson], None], lock: threading.Lock
    ) -> None:
        self._store, self._target, self._family, self._learn = log, masked(target), family, learn
        self._waiting: deque[Lesson] = deque(maxlen=_WAITING)
        self._leaving: list[bytes] = []  # what is being written
        self._place = 0
        self._away = self._foreign = False
        self._memory_lock = lock
        self._lock = threading.Lock()  # of the log
        self._begin()
        watch(self)
        _all.add(self)
        self._start()

    def tell(self, lesson: Lesson) -> None:
        """Take a lesson for the others; at once, without waiting for anything."""
        self._waiting.append(lesson)
        if self._thread is None:
            self._start()

    def settle(self, seconds: float) -> bool:
        """Wait until what the log held at the start has been learned, at most so long; whether it has."""
        return self._read.wait(seconds)

    def flush(self) -> bool:
        """Write what is waiting and learn what others wrote, now; whether the log could be reached."""
        with self._lock:
            try:
                self._write()
                self._follow()
            except Exception as error:  # noqa: BLE001 (whatever a store does, calls go on)
                self._lost(error)
                return False
            self._read.set()
            if self._away:
                self._away = False
                _log.info("memory %s can be reached again", self._target)
            return True

    def close(self) -> None:
        """Write what is waiting, and let go of the log."""
        self._stop.set()
        if not self._away:
            self.flush()
        with self._lock:
            self._store.close()
        self._thread = None

    def before_fork(self) -> None:
        """See `forks.Forkable`. No open file crosses a fork."""
        self._lock.acquire()
        self._store.close()
        self._memory_lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`. What waits here is the parent's to write."""
        self._memory_lock.release()
        self._lock.release()
        if child:
            self._waiting.clear()
            self._leaving.clear()
            self._begin()

    def _begin(self) -> None:
        self._worker = self._family + secrets.token_bytes(8)
        self._thread: threading.Thread | None = None
        self._stop, self._read = threading.Event(), threading.Event()

    def _start(self) -> None:
        self._stop = threading.Event()
        given = (weakref.ref(self), self._stop)
        thread = threading.Thread(target=_carry_on, args=given, name="llm-savings-prefixes", daemon=True)
        with suppress(RuntimeError):  # the interpreter is ending
            thread.start()
            self._thread = thread

    def _write(self) -> None:
        while self._leaving or self._waiting:
            while self._waiting and len(self._leaving) < PAGE:
                if len(raw := packed(self._waiting.popleft())) <= _LONGEST:
                    self._leaving.append(raw)
            if self._leaving:
                self._store.add(self._worker, self._leaving)
                self._leaving.clear()

    def _follow(self) -> None:
        while found := self._store.since(self._place):
            for number, (place, worker, raw) in enumerate(found, start=1):
                self._place = place
                if worker[: len(self._family)] != self._family:
                    self._tell_of_keys()
                elif worker != self._worker:
                    with suppress(ValueError, IndexError):  # of another version
                        self._learn(unpacked(raw))
                if number % _STEP == 0:
                    time.sleep(0.001)
            if len(found) < PAGE:
                return

    def _tell_of_keys(self) -> None:
        if not self._foreign:
            self._foreign = True
            _log.warning(
                "memory %s: others hash prompts with another key, so nothing is shared with them; give all machines "
                "the same LLM_SAVINGS_HASH_KEY",
                self._target,
            )

    def _lost(self, error: Exception) -> None:
        level = logging.DEBUG if self._away else logging.WARNING
        self._away = True
        text = "memory %s cannot be used: %s. Prompts are marked by what this process knows."
        _log.log(level, text, self._target, str(error))

    def _pause(self) -> float:
        return _AWAY if self._away else _EVERY


def _carry_on(reference: weakref.ref[Sharing], stop: threading.Event) -> None:
    pause = 0.0
    while not stop.wait(pause):
        sharing = reference()
        if sharing is None:
            return
        sharing.flush()
        pause = sharing._pause()  # pyright: ignore[reportPrivateUsage]
        del sharing


_all: weakref.WeakSet[Sharing] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for sharing in list(_all):
        with suppress(Exception):
            sharing.close()
