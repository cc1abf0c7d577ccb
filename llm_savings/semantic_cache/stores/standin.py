"""Stand-in: a dictionary."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

from llm_savings.semantic_cache.entries import Entry, Near, Weight, Which


class DictStore:
    local = True

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Entry, Any]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.RLock()

    def get(self, entry_id: str, now: Any) -> Entry | None:
        with self._lock:
            found = self._entries.get(entry_id)
            alive = found and (found[0].expires_at is None or found[0].expires_at > now)
            return found[0] if found and alive else None

    def nearest(self, scope: str, vector: Any, count: int, now: Any) -> list[Near]:
        with self._lock:
            found = [
                Near(e, float(v @ vector))
                for e, v in self._entries.values()
                if e.scope == scope and v is not None and self.get(e.id, now)
            ]
        return sorted(found, key=lambda near: -near.cosine)[:count]

    def put(self, entry: Entry, vector: Any) -> None:
        with self._lock:
            self._entries[entry.id] = entry, vector

    def used(self, uses: Any) -> None:
        with self._lock:
            for name, (hits, at, expires) in uses.items():
                if name in self._entries:
                    e, v = self._entries[name]
                    e = replace(e, hits=e.hits + hits, used_at=at, expires_at=expires or e.expires_at)
                    self._entries[name] = e, v

    def remove(self, which: Which) -> int:
        with self._lock:
            going = [e.id for e in self.entries(which)]
            for name in going:
                del self._entries[name]
            return len(going)

    def entries(self, which: Which) -> Any:
        def meant(e: Entry) -> bool:
            return (
                (which.ids is None or e.id in which.ids)
                and (which.namespace is None or e.namespace == which.namespace)
                and (which.scope is None or e.scope == which.scope)
                and (which.model is None or e.model == which.model)
                and (which.tag is None or which.tag in e.tags)
                and (which.user is None or e.user == which.user)
                and (which.before is None or e.created_at < which.before)
                and (which.expired_at is None or (e.expires_at is not None and e.expires_at <= which.expired_at))
            )

        return [e for e, _ in list(self._entries.values()) if meant(e)]

    def size(self) -> tuple[int, int]:
        return len(self._entries), sum(e.size for e, _ in self._entries.values())

    def weights(self) -> list[Weight]:
        return [Weight(e.id, e.size, e.hits, 0, 0) for e, _ in self._entries.values()]

    def add(self, owner: str, deltas: Any) -> None:
        with self._lock:
            self._counts.setdefault(owner, Counter()).update(deltas)

    def counts(self, owner: str) -> dict[str, int]:
        with self._lock:
            return dict(self._counts.get(owner, {}))

    def owners(self, prefix: str = "") -> list[str]:
        return sorted(o for o in self._counts if o.startswith(prefix))

    def close(self) -> None:
        pass
