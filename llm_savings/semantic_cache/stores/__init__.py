"""Where answers are kept: memory, one SQLite file, PostgreSQL with pgvector, or Redis with vector search.

A store keeps and finds; it decides nothing. It is strict: what it cannot do, it raises as `CacheError`. That the
user's call goes on without a cache is the cache's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable

from llm_savings.errors import ConfigError
from llm_savings.semantic_cache.entries import Dimensions, Entry, Near, Vector, Weight, Which
from llm_savings.storage.urls import masked


class Store(Protocol):
    """What the cache needs of a store. Safe to use from several threads."""

    local: bool
    """Whether it answers without a network, within a millisecond, so that an event loop may wait for it."""

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """The entry of this id, unless it has expired."""
        ...

    def holds(self, scope: str) -> bool:
        """Whether this scope may have entries with vectors; where it has none, no question's vector is needed."""
        ...

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """The entries of this scope whose vectors are nearest, best first, none expired.

        Args:
            scope: Digest of the scope.
            vector: Shape (dimensions,), of unit length.
            count: At most so many.
            now: UTC, aware.
        """
        ...

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """Keep an entry, in place of one with its id. Without a vector it is found by its id alone.

        Durable when this returns, as far as the store is.
        """
        ...

    def used(self, uses: Mapping[str, tuple[int, datetime, datetime | None]]) -> None:
        """Note hits: by id, how many more, the time of the last, and the new expiry of a sliding entry or None."""
        ...

    def remove(self, which: Which) -> int:
        """Remove entries with their vectors and counters, also from the store's own logs as far as possible.

        Returns:
            How many there were.
        """
        ...

    def entries(self, which: Which) -> Iterator[Entry]:
        """The entries meant, expired ones included, in the order they were stored."""
        ...

    def size(self) -> tuple[int, int]:
        """How many entries there are, and about how many bytes they take."""
        ...

    def weights(self) -> list[Weight]:
        """What eviction looks at, of every entry."""
        ...

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """Add to an owner's named counters; additions of several processes all count."""
        ...

    def counts(self, owner: str) -> dict[str, int]:
        """An owner's counters."""
        ...

    def owners(self, prefix: str = "") -> list[str]:
        """Owners of counters whose name begins so, sorted."""
        ...

    def close(self) -> None:
        """Write what is still waiting and let go of the file, the connection or the memory."""
        ...


@runtime_checkable
class Distant(Store, Protocol):
    """A store on a server, which a whole lookup reaches in one journey."""

    def look(self, entry_id: str, scope: str, vector: Vector, count: int, now: datetime) -> Entry | list[Near]:
        """What `get` gives, or where it gives nothing, what `nearest` does."""
        ...


def open_store(target: str, *, dimensions: Dimensions) -> Store:
    """The store for ":memory:", a file's path, or a `postgresql://`, `redis://`, `rediss://` or `unix://` URL.

    Nothing is opened or reached before its first use.

    Args:
        target: Where.
        dimensions: How long the vectors are, or a function that is asked when it must be known.

    Raises:
        ConfigError: The target cannot be a cache, or what it needs is not installed.

    Example:
        >>> open_store(":memory:", dimensions=256).size()
        (0, 0)
    """
    kind = target.partition("://")[0] if "://" in target else ""
    try:
        if target == ":memory:":
            from llm_savings.semantic_cache.stores.memory import MemoryStore

            return MemoryStore(dimensions=dimensions)
        if not kind:
            from llm_savings.semantic_cache.stores.sqlite import SqliteStore

            return SqliteStore(target, dimensions=dimensions)
        if kind in ("postgresql", "postgres"):
            from llm_savings.semantic_cache.stores.postgres import PostgresStore

            return PostgresStore(target, dimensions=dimensions)
        if kind in ("redis", "rediss", "unix"):
            from llm_savings.semantic_cache.stores.redis import RedisStore

            return RedisStore(target, dimensions=dimensions)
    except ImportError as error:
        extra = "redis" if kind in ("redis", "rediss", "unix") else "postgres"
        raise ConfigError(
            f'cache {masked(target)} needs {error.name}; install it with: pip install "llm-savings[{extra}]"'
        ) from error
    raise ConfigError(
        f"cache {masked(target)!r}: unknown kind of URL; use a file path, ':memory:', postgresql:// or redis://"
    )


__all__ = ["Distant", "Entry", "Near", "Store", "Weight", "Which", "open_store"]
