"""Where rows are kept: one SQLite file (or memory), or PostgreSQL. Both speak nearly the same SQL.

A store is strict: what it cannot write, it raises as `LedgerError`. Patience (keeping entries and trying again) is
the outbox's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from llm_savings.errors import ConfigError
from llm_savings.ledger.records import Entry
from llm_savings.ledger.sqlite import SqliteStore
from llm_savings.storage.urls import masked


class Store(Protocol):
    """What the ledger needs of a database."""

    mark: str
    """The placeholder of a parameter in this database's SQL."""

    def write(self, entries: Sequence[Entry], *, patience: float | None = None) -> None:
        """Write all entries, or none. Writing an entry twice changes nothing.

        Args:
            entries: Of different calls.
            patience: As for `transaction`.
        """
        ...

    def transaction(self, *, patience: float | None = None) -> AbstractContextManager[Any]:
        """One transaction: what was written in it is there as a whole, or nothing is.

        Args:
            patience: Seconds to wait for other writers; as long as a write waits by default. With 0 a file that others
                hold, or that is not open yet, is a `BusyError` at once.
        """
        ...

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """The rows of a query, one at a time, keyed by column name."""
        ...

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The few rows of a quick query, through the connection that writes."""
        ...

    def parts(self) -> list[tuple[int, int]]:
        """Ranges of row ids (from, below) that together hold every row and may be read side by side."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        ...

    def forget(self) -> None:
        """Make sure that erased text is gone from the store's own logs as well, as far as it can."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`."""
        ...


def open_store(target: str) -> Store:
    """The store for `:memory:`, a file's path, or a `postgresql://` URL.

    Raises:
        ConfigError: The target cannot be a ledger.
    """
    if target.startswith(("postgresql://", "postgres://")):
        try:
            from llm_savings.ledger.postgres import PostgresStore
        except ImportError as error:
            raise ConfigError(
                f'ledger {masked(target)} needs psycopg; install it with: pip install "llm-savings[postgres]"'
            ) from error
        return PostgresStore(target)
    if "://" in target:
        raise ConfigError(
            f"ledger {masked(target)!r}: unknown kind of URL; use a file path, ':memory:' or postgresql://"
        )
    return SqliteStore(target)
