"""A store or an embedder that fails is said once, and left alone for a while; calls go on without it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from llm_savings.errors import CacheError

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
        self._lock = threading.Lock()

    def lasts(self) -> bool:
        """Whether it is being left alone right now."""
        return time.monotonic() < self._until

    @contextmanager
    def caught(self, what: str) -> Generator[None]:
        """Whatever goes wrong inside ends here: a defect of the cache is not the caller's."""
        try:
            yield
        except CacheError as error:
            with self._lock:
                self._until = time.monotonic() + self._pause
                self._pause = min(_LONGEST, 2 * self._pause)
            self.warn("it", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.warn(what, error)
        else:
            if self._pause > _FIRST and not self.lasts():
                self._pause = _FIRST
                self._told.discard("it")

    def warn(self, what: str, error: Exception) -> None:
        """Say it once. Without the text of foreign errors, which may quote a prompt."""
        with self._lock:
            if what in self._told:
                return
            self._told.add(what)
        said = str(error) if isinstance(error, CacheError) else type(error).__name__
        _log.warning("%s: %s failed (%s); calls go on without", self._name, what, said)
        _log.debug("%s: %s", self._name, what, exc_info=error)
