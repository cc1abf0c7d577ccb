"""`Journal`: every job, request, batch and answer in one SQLite file, written before anything happens elsewhere.

A commit waits for the disk (`synchronous=FULL`), so what the journal says survives a power cut as well as kill -9: a
batch that was created without the journal saying so beforehand does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from llm_savings.batch.records import Chunk, Ending, Entry, JobRow, LineState, Taken
from llm_savings.errors import BatchError, ConfigError
from llm_savings.storage.forks import watch
from llm_savings.storage.sqlite import connect, patiently, prepare, transaction, wipe_log

_PATIENCE = 10.0  # seconds that other processes are given to finish a transaction
_VERSION = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  job INTEGER PRIMARY KEY, id TEXT UNIQUE, provider TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,
  host TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL, user TEXT, options TEXT NOT NULL,
  ledger TEXT, budgets TEXT, estimate TEXT, most_tokens INTEGER
);
CREATE TABLE IF NOT EXISTS requests (
  id INTEGER PRIMARY KEY, job INTEGER NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, tokens INTEGER NOT NULL,
  bound INTEGER, state TEXT NOT NULL DEFAULT 'waiting', tries INTEGER NOT NULL DEFAULT 0, chunk INTEGER,
  source TEXT, kind TEXT, status INTEGER, retryable INTEGER, result BLOB, prompt INTEGER, completion INTEGER,
  billed INTEGER NOT NULL DEFAULT 0, UNIQUE (key, job)
);
CREATE INDEX IF NOT EXISTS by_state ON requests (job, state);
CREATE TABLE IF NOT EXISTS inputs (
  job INTEGER NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, name TEXT, memo BLOB,
  PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS by_name ON inputs (job, name) WHERE name IS NOT NULL;
CREATE TABLE IF NOT EXISTS chunks (
  id INTEGER PRIMARY KEY, job INTEGER NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL, tokens INTEGER NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, intent REAL, file TEXT, batch TEXT, created REAL, done INTEGER NOT NULL DEFAULT 0,
  ended TEXT, output TEXT, errors TEXT, strangers TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS by_job ON chunks (job);
"""


class RepeatedError(BatchError):
    """Two inputs have one custom_id; `number` is the second one's."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"custom_id {name!r} is used twice; every input needs its own")
        self.number = number


class Journal:
    """The file that jobs live in. Safe for threads and processes.

    Args:
        path: A SQLite file, made where there is none; by default `LLM_SAVINGS_BATCHES`, or a file in the user's data
            folder.

    Raises:
        ConfigError: The path cannot be one.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is None:
            path = os.environ.get("LLM_SAVINGS_BATCHES") or _default_path()
        self.path = str(Path(path).absolute())
        if not Path(self.path).parent.is_dir():
            raise ConfigError(f"journal {self.path!r}: its folder does not exist; create it")
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        watch(self)

    def before_fork(self) -> None:
        """See `forks.Forkable`."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        """See `forks.Forkable`. A child opens the file anew; closing its parent's would undo the parent's locks."""
        if child:
            _left_open.append(self._db)
            self._db, self._lock = None, threading.RLock()
        else:
            self._lock.release()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All that is written inside, on the disk when this ends, or nothing.

        Raises:
            BatchError: The file cannot be written.
        """
        with self._lock:
            try:
                with transaction(db := self._open(), _PATIENCE):
                    yield db
            except sqlite3.Error as error:
                raise BatchError(f"journal {self.path}: {error}") from error

    def rows(self, sql: str, *given: Any) -> list[sqlite3.Row]:
        """The rows of a query, all at once.

        Raises:
            BatchError: The file cannot be read.
        """
        with self._lock:
            try:
                return patiently(self._open(), sql, _PATIENCE, given).fetchall()
            except sqlite3.Error as error:
                raise BatchError(f"journal {self.path}: {error}") from error

    def add(self, row: JobRow, entries: Iterable[Entry], *, salt: str) -> JobRow:
        """Write a job with all its inputs, in state "new", or find the one that has the same.

        Args:
            row: The job; its `job` and `id` are given here.
            entries: Its inputs, streamed. What they raise leaves nothing behind.
            salt: What makes jobs of the same inputs different ones.

        Raises:
            RepeatedError: Two inputs have one custom_id.
        """
        digest = hashlib.blake2b(json.dumps([row.provider, row.model, row.endpoint, salt]).encode(), digest_size=10)
        with self.transaction() as db:
            sql = f"INSERT INTO jobs ({', '.join(_HEAD)}) VALUES ({', '.join('?' * len(_HEAD))})"  # noqa: S608
            job = db.execute(sql, [_text(getattr(row, name)) for name in _HEAD]).lastrowid
            assert job is not None  # noqa: S101 (a row was inserted)
            left = iter(entries)
            while page := list(islice(left, 500)):
                for entry in page:
                    digest.update(f"{entry.key}\0{entry.name}\0".encode())
                _insert(db, job, page)
            found = db.execute("SELECT id FROM jobs WHERE id = ?", (digest.hexdigest(),)).fetchone()
            if found:
                _delete(db, job)
            else:
                db.execute("UPDATE jobs SET id = ? WHERE job = ?", (digest.hexdigest(), job))
        return self.job(digest.hexdigest())

    def job(self, name: str) -> JobRow:
        """A job by its id, or by a beginning of it that no other has.

        Raises:
            BatchError: There is none, or there are several.
        """
        rows = self.rows("SELECT * FROM jobs WHERE id = ? OR substr(id, 1, ?) = ? LIMIT 2", name, len(name), name)
        if len(rows) != 1 or not name:
            what = "several jobs whose id begins" if rows else "no job whose id begins"
            raise BatchError(
                f"journal {self.path} has {what} with {name!r}; see list_jobs(), or llm-savings batch list"
            )
        return _job(rows[0])

    def jobs(self) -> list[JobRow]:
        """Every job, the newest first."""
        return [_job(row) for row in self.rows("SELECT * FROM jobs WHERE id IS NOT NULL ORDER BY job DESC")]

    def change_job(self, job: JobRow, **changes: Any) -> JobRow:
        """Note something about a job."""
        self._change("jobs", "job", job.job, changes)
        return replace(job, **changes)

    def forget(self, job: JobRow) -> None:
        """Delete a job and all that belongs to it, also from the disk."""
        with self.transaction() as db:
            _delete(db, job.job)
        with self._lock:
            wipe_log(self._open(), _PATIENCE)

    def chunks(self, job: JobRow) -> list[Chunk]:
        """A job's batches, the oldest first."""
        return [_chunk(job, row) for row in self.rows("SELECT * FROM chunks WHERE job = ? ORDER BY id", job.job)]

    def change_chunk(self, chunk: Chunk, **changes: Any) -> Chunk:
        """Note something about a batch."""
        self._change("chunks", "id", chunk.id, changes)
        return replace(chunk, **changes)

    def waiting(self, job: JobRow) -> Iterator[tuple[int, str, bytes, int]]:
        """Requests that wait to be sent: number, key, body and about how many prompt tokens. Streamed."""
        sql = (
            "SELECT id, key, body, tokens FROM requests INDEXED BY by_state "
            "WHERE job = ? AND state = 'waiting' AND id > ? ORDER BY id LIMIT 500"
        )
        return ((r["id"], r["key"], r["body"], r["tokens"]) for r in self._paged(sql, "id", job.job))

    def plan(self, job: JobRow, until: int, count: int, tokens: int) -> None:
        """Make one chunk of the waiting requests up to a number."""
        with self.transaction() as db:
            sql = "INSERT INTO chunks (job, state, count, tokens) VALUES (?, 'planned', ?, ?)"
            chunk = db.execute(sql, (job.job, count, tokens)).lastrowid
            db.execute(
                "UPDATE requests SET state = 'sent', chunk = ?, tries = tries + 1 "
                "WHERE job = ? AND state = 'waiting' AND id <= ?",
                (chunk, job.job, until),
            )

    def lines(self, chunk: Chunk) -> Iterator[tuple[str, bytes]]:
        """The keys and bodies of a chunk's requests that have not ended. Streamed."""
        sql = (
            "SELECT id, key, body FROM requests INDEXED BY by_state "
            "WHERE job = ? AND state = 'sent' AND chunk = ? AND id > ? ORDER BY id LIMIT 500"
        )
        return ((row["key"], row["body"]) for row in self._paged(sql, "id", chunk.job, chunk.id))

    def end(self, job: JobRow, endings: Sequence[Ending]) -> None:
        """Write what became of requests. What has ended stays as it is."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE requests SET state = ?, source = ?, kind = ?, status = ?, retryable = ?, result = ?, "
                "prompt = ?, completion = ? WHERE job = ? AND key = ? AND state IN ('waiting', 'sent', 'direct')",
                [
                    (e.state, e.source, e.kind, e.status, e.retryable, e.result, e.prompt, e.completion, job.job, e.key)
                    for e in endings
                ],
            )

    def give_back(self, chunk: Chunk, most: int, kind: str) -> None:
        """Let what a chunk has left wait again, and be a failure of this kind where it was sent so often already."""
        with self.transaction() as db:
            db.execute(
                "UPDATE requests SET state = 'failed', source = 'batch', kind = COALESCE(NULLIF(kind, ''), ?), "
                "retryable = 1 WHERE job = ? AND state = 'sent' AND chunk = ? AND tries >= ?",
                (kind, chunk.job, chunk.id, most),
            )
            again = "UPDATE requests SET state = 'waiting', kind = NULL WHERE job = ? AND state = 'sent' AND chunk = ?"
            db.execute(again, (chunk.job, chunk.id))
            db.execute("UPDATE chunks SET state = 'collected' WHERE id = ?", (chunk.id,))

    def refuse(self, chunk: Chunk) -> None:
        """Let all of a chunk that the provider never took wait again, as if it had not been sent."""
        with self.transaction() as db:
            db.execute(
                "UPDATE requests SET state = 'waiting', tries = tries - 1 "
                "WHERE job = ? AND state = 'sent' AND chunk = ?",
                (chunk.job, chunk.id),
            )
            db.execute("UPDATE chunks SET state = 'collected' WHERE id = ?", (chunk.id,))

    def take(self, job: JobRow, state: LineState) -> Iterator[Taken]:
        """The requests in a state one by one, each of which is "direct" as soon as it is given."""
        pick = (
            "SELECT id, key, body, bound, CASE WHEN source = 'real-time' THEN tries + 1 ELSE 1 END AS sent "
            "FROM requests INDEXED BY by_state WHERE job = ? AND state = ? AND id > ? ORDER BY id LIMIT 1"
        )
        last = 0
        while True:
            with self.transaction() as db:
                if (row := db.execute(pick, (job.job, state, last)).fetchone()) is None:
                    return
                last = row["id"]
                sql = "UPDATE requests SET state = 'direct', source = 'real-time', tries = ? WHERE id = ?"
                db.execute(sql, (row["sent"], last))
            yield Taken(row["key"], row["body"], row["bound"], row["sent"])

    def fail_waiting(self, job: JobRow, kind: str) -> None:
        """Let nothing wait any more."""
        with self.transaction() as db:
            sql = (
                "UPDATE requests SET state = 'failed', source = 'batch', kind = ?, retryable = 1 "
                "WHERE job = ? AND state IN ('waiting', 'direct')"
            )
            db.execute(sql, (kind, job.job))

    def reuse(self, job: JobRow) -> int:
        """Take over answers that earlier jobs have from this provider to the same requests; how many."""
        taken = ("result", "prompt", "completion")
        had = (
            "FROM requests o JOIN jobs j ON j.job = o.job "
            "WHERE o.key = requests.key AND o.state = 'ok' AND j.provider = ?"
        )
        with self.transaction() as db:
            sql = (
                f"UPDATE requests SET state = 'ok', source = 'earlier', billed = 1, ({', '.join(taken)}) = "  # noqa: S608
                f"(SELECT {', '.join('o.' + name for name in taken)} {had} LIMIT 1) "
                f"WHERE job = ? AND state = 'waiting' AND EXISTS (SELECT 1 {had})"
            )
            return db.execute(sql, (job.provider, job.job, job.provider)).rowcount

    def bounds(self, job: JobRow) -> Iterator[tuple[str, int | None]]:
        """The keys and bounds of the requests that are to be sent. Streamed."""
        sql = (
            "SELECT id, key, bound FROM requests INDEXED BY by_state "
            "WHERE job = ? AND state = 'waiting' AND id > ? ORDER BY id LIMIT 500"
        )
        return ((row["key"], row["bound"]) for row in self._paged(sql, "id", job.job))

    def unbilled(self, job: JobRow) -> Iterator[list[sqlite3.Row]]:
        """Requests that have ended and are not in the ledger, some hundreds at a time; marked once these are used."""
        sql = (
            "SELECT id, key, state, source, kind, result, bound FROM requests "
            "WHERE job = ? AND state IN ('ok', 'failed') AND billed = 0 LIMIT 500"
        )
        while page := self.rows(sql, job.job):
            yield page
            with self.transaction() as db:
                db.executemany("UPDATE requests SET billed = 1 WHERE id = ?", [(row["id"],) for row in page])

    def outcomes(self, job: JobRow) -> Iterator[sqlite3.Row]:
        """Every input, in order, with what became of its request. Streamed."""
        sql = (
            "SELECT i.number, i.name, i.memo, r.key, r.state, r.source, r.kind, r.status, r.retryable, r.result "
            "FROM inputs i JOIN requests r ON r.job = i.job AND r.key = i.key "
            "WHERE i.job = ? AND i.number > ? ORDER BY i.number LIMIT 500"
        )
        return self._paged(sql, "number", job.job)

    def history(self, job: JobRow) -> tuple[int, int, int, int]:
        """Of the latest answers of a model in other jobs that told: how many, their bytes, prompt and output tokens."""
        sql = (
            "SELECT COUNT(*), COALESCE(SUM(length(body)), 0), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0) "
            "FROM (SELECT r.body, r.prompt, r.completion FROM requests r JOIN jobs j ON j.job = r.job WHERE "
            "j.model = ? AND j.endpoint = ? AND j.job <> ? AND r.state = 'ok' AND r.prompt IS NOT NULL "
            "ORDER BY r.id DESC LIMIT 2000)"
        )
        many, size, prompt, completion = self.rows(sql, job.model, job.endpoint, job.job)[0]
        return many, size, prompt, completion

    def counts(self, job: JobRow) -> tuple[int, dict[str, int]]:
        """How many inputs a job has, and how many requests in each state."""
        states = self.rows("SELECT state, COUNT(*) AS n FROM requests WHERE job = ? GROUP BY state", job.job)
        inputs = self.rows("SELECT COUNT(*) AS n FROM inputs WHERE job = ?", job.job)
        return inputs[0]["n"], {row["state"]: row["n"] for row in states}

    def known_batches(self) -> set[str]:
        """Every batch that is some chunk's."""
        return {row[0] for row in self.rows("SELECT batch FROM chunks WHERE batch IS NOT NULL")}

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            db = connect(self.path)
            prepare(db, _PATIENCE)
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA cache_size=-16384")  # 16 MB: keys come in no order
            db.row_factory = sqlite3.Row
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                db.close()
                raise BatchError(f"journal {self.path} was written by a newer release of llm-savings; upgrade it")
            if version < _VERSION:
                with transaction(db, _PATIENCE):
                    for statement in filter(str.strip, _TABLES.split(";")):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db = db
        return self._db

    def _change(self, table: str, key: str, number: int, changes: Mapping[str, Any]) -> None:
        with self.transaction() as db:
            names = ", ".join(f"{name} = ?" for name in changes)
            values = [_text(value) for value in changes.values()]
            db.execute(f"UPDATE {table} SET {names} WHERE {key} = ?", (*values, number))  # noqa: S608

    def _paged(self, sql: str, place: str, *given: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query that goes on after the last one's `place`; no cursor stays open in between."""
        last = 0
        while page := self.rows(sql, *given, last):
            yield from page
            last = page[-1][place]


_HEAD = ("provider", "model", "endpoint", "host", "created", "state", "user", "options", "ledger")
_left_open: list[sqlite3.Connection | None] = []


def _insert(db: sqlite3.Connection, job: int, page: Sequence[Entry]) -> None:
    db.executemany(
        "INSERT INTO requests (job, key, body, tokens, bound) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key, job) DO NOTHING",
        [(job, e.key, e.body, e.tokens, e.bound) for e in page],
    )
    try:
        rows = [(job, e.number, e.key, e.name, e.memo) for e in page]
        db.executemany("INSERT INTO inputs VALUES (?, ?, ?, ?, ?)", rows)
    except sqlite3.IntegrityError as error:
        sql = "SELECT COUNT(*) FROM inputs WHERE job = ? AND number >= ?"
        inserted: int = db.execute(sql, (job, page[0].number)).fetchone()[0]
        wrong = page[inserted]
        raise RepeatedError(wrong.number, wrong.name or "") from error


def _delete(db: sqlite3.Connection, job: int) -> None:
    for table in ("jobs", "requests", "inputs", "chunks"):
        db.execute(f"DELETE FROM {table} WHERE job = ?", (job,))  # noqa: S608


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def _job(row: sqlite3.Row) -> JobRow:
    found: dict[str, Any] = dict(row)
    found["options"], found["estimate"] = json.loads(row["options"]), json.loads(row["estimate"] or "{}")
    found["budgets"] = tuple(json.loads(row["budgets"] or "[]"))
    return JobRow(**found)


def _chunk(job: JobRow, row: sqlite3.Row) -> Chunk:
    found: dict[str, Any] = {**dict(row), "strangers": tuple(json.loads(row["strangers"]))}
    return Chunk(name=f"{job.id}-{row['id']}", endpoint=job.endpoint, **found)


def _default_path() -> str:
    import platformdirs

    folder = Path(platformdirs.user_data_dir("llm-savings", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder / "batches.db")
