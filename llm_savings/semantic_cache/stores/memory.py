"""The cache in this process's memory alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from llm_savings.errors import CacheError, RecordError
from llm_savings.ledger.records import to_picodollars
from llm_savings.semantic_cache.entries import Dimensions, Entry, Near, Vector, Weight, Which, counters_of
from llm_savings.semantic_cache.stores import rows
from llm_savings.semantic_cache.stores.nearby import Nearby
from llm_savings.storage.forks import Guarded

_FEW = 32  # vectors that take no longer to be read again than to be kept as a matrix, which takes more room
_BACK = timedelta(minutes=1)  # by which clocks are set back


@dataclass(slots=True)
class _Kept:
    key: int
    entry: Entry


class MemoryStore(Guarded):
    """Entries in a dictionary, which a fork copies; see `Store` for its methods."""

    local = True
    path = ":memory:"

    def __init__(self, *, dimensions: Dimensions) -> None:
        self._length = dimensions
        self._kept: dict[str, _Kept] = {}  # in the order they were stored
        self._near: dict[str, dict[int, _Kept]] = {}  # those with a vector: scope -> key -> what is kept
        self._loose: dict[str, dict[int, rows.Small]] = {}  # the vectors of scopes that have no index
        self._scopes: dict[str, Nearby] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._size = self._key = 0
        super().__init__()

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """See `Store.get`."""
        rows.instant(now)
        found = self._kept.get(entry_id)
        return None if found is None or _is_over(found.entry, now) else found.entry

    def holds(self, scope: str) -> bool:
        """See `Store.holds`."""
        return scope in self._near

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """See `Store.nearest`."""
        asked = rows.unit(vector, rows.dimensions_of(self._length))
        with self._lock:
            near = self._near.get(scope)
            if not near:
                return []
            nearby, wanted = self._nearby(scope), count * 2
            while True:
                keys, cosines = nearby.search(asked, wanted)
                alive: list[Near] = []
                for key, cosine in zip(keys, cosines, strict=True):
                    entry = near[key].entry
                    until = entry.expires_at
                    if until is None or until > now:
                        alive.append(Near(entry.text, cosine, lambda entry=entry: entry))
                        if len(alive) == count:
                            return alive
                    elif not entry.sliding and until + _BACK < now:  # it never comes back: no later lookup looks at it
                        nearby.remove(key)
                if len(keys) < wanted:
                    return alive
                wanted *= 4

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `Store.put`."""
        try:
            to_picodollars(entry.cost)
        except RecordError as error:
            raise CacheError(f"entry {entry.id!r}: {error}") from None
        for moment in (entry.created_at, entry.expires_at, entry.used_at):
            if moment is not None:
                rows.instant(moment)
        small = None if vector is None else rows.small(rows.unit(vector, rows.dimensions_of(self._length)))
        with self._lock:
            self._forget(entry.id)
            self._key += 1
            kept = self._kept[entry.id] = _Kept(self._key, entry)
            if small is not None:
                self._near.setdefault(entry.scope, {})[self._key] = kept
                if (nearby := self._scopes.get(entry.scope)) is not None:
                    nearby.add([self._key], small[None])
                else:
                    loose = self._loose.setdefault(entry.scope, {})
                    loose[self._key] = small
                    if len(loose) > _FEW:
                        self._nearby(entry.scope)
            self._size += self._weighs(kept)

    def used(self, uses: Mapping[str, tuple[int, datetime, datetime | None]]) -> None:
        """See `Store.used`."""
        with self._lock:
            for name, (hits, last, expiry) in uses.items():
                if (kept := self._kept.get(name)) is None:
                    continue
                entry = kept.entry
                until = entry.expires_at
                if until is not None and expiry is not None:
                    until = max(until, expiry)
                last = last if entry.used_at is None else max(entry.used_at, last)
                kept.entry = replace(entry, hits=entry.hits + hits, used_at=last, expires_at=until)

    def remove(self, which: Which) -> int:
        """See `Store.remove`."""
        with self._lock:
            going = [entry.id for entry in self._meant(which)]
            for name in going:
                self._forget(name)
                self._counters.pop(counters_of(name), None)
        return len(going)

    def entries(self, which: Which) -> Iterator[Entry]:
        """See `Store.entries`."""
        with self._lock:
            found = list(self._meant(which))
        return iter(found)

    def size(self) -> tuple[int, int]:
        """See `Store.size`."""
        with self._lock:
            return len(self._kept), self._size

    def weights(self) -> list[Weight]:
        """See `Store.weights`."""
        with self._lock:
            return [
                Weight(
                    name,
                    self._weighs(kept),
                    one.hits,
                    to_picodollars(one.cost) or 0,
                    rows.instant(one.used_at or one.created_at),
                )
                for name, kept in self._kept.items()
                for one in (kept.entry,)
            ]

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """See `Store.add`."""
        with self._lock:
            counters = self._counters.setdefault(owner, {})
            for name, delta in deltas.items():
                counters[name] = counters.get(name, 0) + delta

    def counts(self, owner: str) -> dict[str, int]:
        """See `Store.counts`."""
        with self._lock:
            return dict(self._counters.get(owner, ()))

    def owners(self, prefix: str = "") -> list[str]:
        """See `Store.owners`."""
        with self._lock:
            return sorted(owner for owner, counters in self._counters.items() if owner.startswith(prefix) and counters)

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            for held in (self._scopes, self._kept, self._near, self._loose, self._counters):
                held.clear()
            self._size = 0

    def _nearby(self, scope: str) -> Nearby:
        nearby = self._scopes.get(scope)
        if nearby is None:
            loose = self._loose[scope]
            nearby = Nearby(rows.dimensions_of(self._length))
            nearby.add(list(loose), np.array(list(loose.values())))
            if len(loose) > _FEW:
                self._scopes[scope] = nearby
                del self._loose[scope]
        return nearby

    def _meant(self, which: Which) -> Iterable[Entry]:
        if which.ids is None:
            found = [kept.entry for kept in self._kept.values()]
        else:
            found = [self._kept[name].entry for name in dict.fromkeys(which.ids) if name in self._kept]
        return (entry for entry in found if _is_meant(entry, which))

    def _forget(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        self._size -= self._weighs(kept)
        scope = kept.entry.scope
        near = self._near.get(scope, {})
        if near.pop(kept.key, None) is None:
            return
        if not near:
            for held in (self._near, self._loose, self._scopes):
                held.pop(scope, None)
        elif (nearby := self._scopes.get(scope)) is not None:
            nearby.remove(kept.key)
        else:
            del self._loose[scope][kept.key]

    def _weighs(self, kept: _Kept) -> int:
        """Bytes that an entry takes, with its vector if it has one."""
        has = kept.key in self._near.get(kept.entry.scope, ())
        return kept.entry.size + (rows.dimensions_of(self._length) if has else 0)


def _is_over(entry: Entry, now: datetime) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now


def _is_meant(entry: Entry, which: Which) -> bool:
    for given, has in (
        (which.namespace, entry.namespace),
        (which.scope, entry.scope),
        (which.model, entry.model),
        (which.user, entry.user),
    ):
        if given is not None and given != has:
            return False
    if which.tag is not None and which.tag not in entry.tags:
        return False
    if which.before is not None and entry.created_at >= which.before:
        return False
    return which.expired_at is None or _is_over(entry, which.expired_at)
