"""A PostgreSQL connection that is given up when the server stops answering. Importing this needs psycopg."""

from __future__ import annotations

import select
import time
from collections.abc import Generator
from typing import Any

import psycopg

_SERVER_SECONDS = 0.5  # longer than a statement may take: a server's own word is better than none


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits for each answer no longer than `patience` seconds, and is closed when none has come.

    A server that was stopped, or a machine that hangs, takes a statement and heeds no timeout that it was told.
    """

    patience = 2.0

    def wait(self, gen: Any, *given: Any, **named: Any) -> Any:
        """See `psycopg.Connection.wait`, through which every statement goes."""
        return super().wait(self._until(gen, time.monotonic() + self.patience), *given, **named)

    def _until(self, gen: Any, deadline: float) -> Generator[Any, Any, Any]:
        ready = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield wanted  # nothing is ready every tenth of a second, so that Ctrl-C is noticed
            if not ready and time.monotonic() > deadline:
                self.pgconn.finish()  # what it would still say belongs to no statement of ours
                raise psycopg.OperationalError(f"no answer in {self.patience:g} seconds")


def connect(url: str, seconds: float) -> Any:
    """Open a connection on which no statement takes longer than so many seconds; each commits alone.

    Raises:
        psycopg.Error: There is no such server, or it does not answer.
    """
    milliseconds = round(seconds * 1000)
    db = PatientConnection.connect(
        url,
        autocommit=True,
        connect_timeout=2,  # libpq's smallest
        # A machine that stands still in the middle of a transaction must not keep the others from their budgets.
        options=f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}",
        # A machine that is gone without a word is noticed after this, not after a quarter of an hour.
        tcp_user_timeout=milliseconds,
    )
    db.patience = seconds + _SERVER_SECONDS
    return db


def is_over(db: Any) -> bool:
    """Whether the server has hung up, or says something unasked, which is mostly why it is about to."""
    if db.closed:
        return True
    if not hasattr(select, "poll"):  # Windows, where any number may be selected
        return bool(select.select([db.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(db.fileno(), select.POLLIN)
    return bool(poll.poll(0))
