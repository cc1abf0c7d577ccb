"""Nothing of a store crosses a fork: no lock held by a thread that the child lacks, and no open SQLite file.

SQLite's locks belong to a process. A child that inherits an open file believes in locks that it does not have, and
what it writes is lost when its parent closes the file (sqlite.org/howtocorrupt.html, section 2.6).
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something with locks or files that a fork must not copy in the middle of their use."""

    def before_fork(self) -> None:
        """Wait until nobody is at it, and keep everybody out."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """Let everybody in again; in the child, nobody else is left."""
        ...


class Guarded:
    """Something with one lock and nothing else that a fork must not copy in the middle of its use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        watch(self)

    def before_fork(self) -> None:
        """See `Forkable`."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        """See `Forkable`."""
        if child:
            self._lock = threading.Lock()
        else:
            self._lock.release()


class Latch(Guarded):
    """A lock that no fork copies while it is held. Whoever holds it takes no other one that a fork waits for."""

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_watched: WeakSet[Forkable] = WeakSet()
_lock = threading.Lock()
_held: list[Forkable] = []


def watch(thing: Forkable) -> None:
    """Tell a thing of every fork for as long as it lives."""
    with _lock:
        _watched.add(thing)


def _before() -> None:
    _lock.acquire()
    for thing in list(_watched):
        thing.before_fork()
        _held.append(thing)


def _after(*, child: bool) -> None:
    while _held:
        _held.pop().after_fork(child=child)
    _lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before, after_in_parent=lambda: _after(child=False), after_in_child=lambda: _after(child=True)
    )
