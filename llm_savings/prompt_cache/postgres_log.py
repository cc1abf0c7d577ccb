"""The log of lessons in a PostgreSQL database, shared by machines. Importing this needs psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from llm_savings.errors import CacheError
from llm_savings.prompt_cache.logs import MOST_BYTES, PAGE, places
from llm_savings.storage.patient import PatientConnection, is_over
from llm_savings.storage.urls import masked, passwords

_TIMEOUT = 2.0
_TABLE = "llm_savings_prefixes"


class PostgresLog:
    """A table in a PostgreSQL database. Needs `pip install "llm-savings[postgres]"`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._db: Any = None

    def add(self, worker: bytes, lessons: Sequence[bytes]) -> None:
        """See `Log.add`."""
        try:
            with (db := self._here()).transaction():
                # One writer at a time: whoever reads has then seen every place before the last one.
                db.execute("SELECT pg_advisory_xact_lock(7311805553)")
                (last,) = db.execute(f"SELECT COALESCE(MAX(upto), 0) FROM {_TABLE}").fetchone()  # noqa: S608
                ends = list(places(last, lessons))
                sql = f"INSERT INTO {_TABLE} SELECT place, %s, lesson FROM unnest(%s::bigint[], %s::bytea[]) AS new (place, lesson)"  # noqa: S608, E501
                db.execute(sql, (worker, ends, list(lessons)))
                db.execute(f"DELETE FROM {_TABLE} WHERE upto <= %s", (ends[-1] - MOST_BYTES,))  # noqa: S608
        except psycopg.Error as error:
            raise self._plain(error) from None

    def since(self, place: int) -> list[tuple[int, bytes, bytes]]:
        """See `Log.since`."""
        sql = f"SELECT upto, worker, lesson FROM {_TABLE} WHERE upto > %s ORDER BY upto LIMIT %s"  # noqa: S608
        try:
            db = self._here()
            found = db.execute(sql, (place, PAGE)).fetchall()
            if not found and place:
                (last,) = db.execute(f"SELECT COALESCE(MAX(upto), 0) FROM {_TABLE}").fetchone()  # noqa: S608
                if last < place:  # somebody has emptied it
                    found = db.execute(sql, (0, PAGE)).fetchall()
            return found
        except psycopg.Error as error:
            raise self._plain(error) from None

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
                if db.execute("SELECT to_regclass(%s)", (_TABLE,)).fetchone() == (None,):
                    with db.transaction():
                        db.execute("SELECT pg_advisory_xact_lock(7311805553)")
                        db.execute(
                            f"CREATE TABLE IF NOT EXISTS {_TABLE} "
                            "(upto BIGINT PRIMARY KEY, worker BYTEA NOT NULL, lesson BYTEA NOT NULL)"
                        )
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _plain(self, error: Exception) -> CacheError:
        text = str(error).strip()
        for secret in passwords(self._url):
            text = text.replace(secret, "***")
        return CacheError(f"{masked(self._url)}: {text}")
