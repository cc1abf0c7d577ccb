"""The log of lessons in a PostgreSQL database, shared by machines. Importing this needs psycopg."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from llm_savings.errors import CacheError
from llm_savings.prompt_cache.logs import TABLE, append, following
from llm_savings.storage.patient import connect, is_over
from llm_savings.storage.urls import masked, told

_TIMEOUT = 2.0
_LOCK = "SELECT pg_advisory_xact_lock(7311805553)"


class PostgresLog:
    """A table in a PostgreSQL database. Needs `pip install "llm-savings[postgres]"`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._db: Any = None

    def add(self, worker: bytes, lessons: Sequence[bytes]) -> None:
        """See `Log.add`."""
        with self._translated(), (db := self._here()).transaction():
            db.execute(_LOCK)  # whoever reads a place has then read all before it
            append(db, "%s", worker, lessons)

    def since(self, place: int) -> list[tuple[int, bytes, bytes]]:
        """See `Log.since`."""
        with self._translated():
            db = self._here()
            return following(lambda sql, given: db.execute(sql, given).fetchall(), "%s", place)

    def close(self) -> None:
        """See `Log.close`."""
        if self._db is not None:
            with suppress(psycopg.Error):
                self._db.close()
        self._db = None

    def _here(self) -> Any:
        if self._db is None or is_over(self._db):
            db = connect(self._url, _TIMEOUT)
            try:
                db.execute("SET synchronous_commit = off")  # a power cut may take the last second's lessons
                if db.execute("SELECT to_regclass('llm_savings_prefixes')").fetchone() == (None,):
                    with db.transaction():
                        db.execute(_LOCK)
                        db.execute(TABLE.format(integer="BIGINT", binary="BYTEA"))
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise CacheError(f"{masked(self._url)}: {told(error, self._url)}") from None
