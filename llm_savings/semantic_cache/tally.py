"""Counters that are written together, a moment later: a lookup does not wait for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime

from llm_savings.errors import CacheError
from llm_savings.semantic_cache.stores import Store
from llm_savings.storage.forks import Guarded

_DELAY = 0.5  # seconds; what kill -9 may lose of the counts, never of the answers
_MOST_OWNERS = 10_000  # while a store is away


class Tally(Guarded):
    """Additions to counters on their way to a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, dict[str, int]] = {}
        self._uses: dict[str, tuple[int, datetime, datetime | None]] = {}
        self._timer: threading.Timer | None = None
        self._writing = threading.Lock()
        super().__init__()

    def after_fork(self, *, child: bool) -> None:
        """See `Forkable`. What waits is the parent's to write."""
        super().after_fork(child=child)
        if child:
            self._waiting, self._uses, self._timer = {}, {}, None
            self._writing = threading.Lock()

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """Add to an owner's counters, soon."""
        with self._lock:
            if owner in self._waiting or len(self._waiting) < _MOST_OWNERS:
                waiting = self._waiting.setdefault(owner, {})
                for name, delta in deltas.items():
                    waiting[name] = waiting.get(name, 0) + delta
            self._soon()

    def used(self, entry_id: str, at: datetime, expires_at: datetime | None) -> None:
        """Note that an answer was served, soon."""
        with self._lock:
            hits, *_ = self._uses.get(entry_id, (0,))
            self._uses[entry_id] = (hits + 1, at, expires_at)
            self._soon()

    def flush(self) -> None:
        """Write what waits, and wait for what another thread is writing; what cannot be written waits on."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            uses, self._uses = self._uses, {}
        try:
            if uses:
                self._store.used(uses)
                uses = {}
            while waiting:
                owner = next(iter(waiting))
                self._store.add(owner, waiting[owner])
                del waiting[owner]
        except CacheError:
            with self._lock:
                for entry_id, use in uses.items():
                    later = self._uses.get(entry_id, (0, *use[1:]))
                    self._uses[entry_id] = (use[0] + later[0], *later[1:])
                self._soon()
            for owner, deltas in waiting.items():
                self.add(owner, deltas)

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_DELAY, self._late)
            self._timer.daemon = True
            self._timer.start()

    def _late(self) -> None:
        with self._lock:
            self._timer = None  # only here: a timer for each flush in between would be one of many that wait
        self.flush()
