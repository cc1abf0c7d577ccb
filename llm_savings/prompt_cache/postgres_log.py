"""The log of lessons in a PostgreSQL database, shared by machines. Importing this needs psycopg."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from llm_savings.errors import CacheError
from llm_savings.prompt_cache.logs import TABLE, append, following
from llm_savings.storage.patient import PatientConnection, is_over
from llm_savings.storage.urls import masked, passwords

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
            milliseconds = round(_TIMEOUT * 1000)
            db = PatientConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=round(_TIMEOUT),
                options=f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds} "
                "-c synchronous_commit=off",  # a power cut may take the last second's lessons
                tcp_user_timeout=milliseconds,
            )
            try:
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
            text = str(error).strip()
            for secret in passwords(self._url):
                text = text.replace(secret, "***")
            raise CacheError(f"{masked(self._url)}: {text}") from None
