"""A store or an embedder that fails is said once, and left alone for a while; calls go on without it."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager

from llm_savings.errors import CacheError
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings")
_FIRST, _LONGEST = 1.0, 60.0  # seconds of a pause, doubled while it goes on


class Trouble:
    """What has gone wrong with one store or embedder.

    Args:
        name: Of it, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._until, self._pause = 0.0, _FIRST
        self._told: set[str] = set()
        self._lock = Latch()

    def lasts(self) -> bool:
        """Whether it is being left alone right now."""
        return time.monotonic() < self._until

    def caught(self, what: str, *, reached: bool = True) -> AbstractContextManager[None]:
        """Whatever goes wrong inside ends here: a defect of the cache is not the caller's.

        Args:
            what: What is tried.
            reached: Whether it is reached, so that an end without an error says that it is there again.
        """
        return _Caught(self, what, reached)

    def ended(self, what: str, error: BaseException | None, *, reached: bool = True) -> bool:
        """What was tried has ended, with an error or without; True if the error goes no further."""
        if error is None:
            if reached and self._pause > _FIRST and not self.lasts():
                self._pause = _FIRST
                self._told.discard("it")
        elif isinstance(error, CacheError):
            with self._lock:
                if not self.lasts():  # calls that were under way together are one failure, not many
                    self._until = time.monotonic() + self._pause
                    self._pause = min(_LONGEST, 2 * self._pause)
            self.warn("it", error)
        elif isinstance(error, Exception):  # whatever it is, the user's call goes on
            self.warn(what, error)
        return isinstance(error, Exception)

    def warn(self, what: str, error: Exception) -> None:
        """Say it once. Without the text of foreign errors, which may quote a prompt."""
        with self._lock:
            if what in self._told:
                return
            self._told.add(what)
        said = str(error) if isinstance(error, CacheError) else type(error).__name__
        _log.warning("%s: %s failed (%s); calls go on without", self._name, what, said)
        _log.debug("%s: %s", self._name, what, exc_info=error)


class _Caught(AbstractContextManager[None]):
    """A class, since a lookup enters four of them and a generator takes five times as long."""

    __slots__ = ("_reached", "_trouble", "_what")

    def __init__(self, trouble: Trouble, what: str, reached: bool) -> None:
        self._trouble, self._what, self._reached = trouble, what, reached

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> bool:
        return self._trouble.ended(self._what, error, reached=self._reached)
