"""The cache in a PostgreSQL with pgvector, shared by machines. Importing this needs psycopg and pgvector."""
# ruff: noqa: S608 - SQL is put together from this package's own constants; every value is a parameter

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from time import monotonic
from typing import Any
from zlib import crc32

import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector

from llm_savings.errors import CacheError
from llm_savings.semantic_cache.entries import COUNTERS, Dimensions, Entry, Near, Vector, Which, counters_of
from llm_savings.semantic_cache.stores import rows
from llm_savings.semantic_cache.stores.matrix import WORD, span_of
from llm_savings.storage.patient import PatientConnection, is_over
from llm_savings.storage.urls import masked, passwords

_VERSION = 3
_COUNTERS = "llm_savings_cache_counters"
_PAGE = 1_000
_EXACT = 500  # entries that are compared one by one in no more time than the graph takes; see `_worth`
_MOST = 50_000  # entries of a scope that are counted
_MANY = 20_000  # of so many the graph must be asked for more, to find as many of the nearest
_NARROW, _WIDE = 4, 24  # see `_breadth`
_PARTS = {0: (0, 1, 2), 1: (1, 0), 2: (2, 0)}  # which graphs hold what is like a vector of this part; see `_part`
_LOOK = 100  # one entry in so many has whoever stores it look whether its scope is large
_AT_ONCE = 16  # entries moved into the graph by one statement: a millisecond or more each, and a busy server ten times
_REMEMBERED = 60.0  # seconds for which a scope counts as large or small
_SETTINGS = (
    "SET hnsw.iterative_scan = relaxed_order;"
    "SET hnsw.ef_search = 40;"
    "SET enable_sort = off;"  # the graph where the query allows it, whatever the table's statistics
    "SET enable_bitmapscan = off;"  # another scan marks what is gone as it comes by
    "SET jit = off;"  # before PostgreSQL 18 the price of what is off would have each query compiled
    "SET plan_cache_mode = force_generic_plan;"  # to plan a lookup anew takes a third of its time
    "SET synchronous_commit = off"  # a power cut may take the last second's answers
)
_SERVER_SECONDS = 0.5  # longer than a statement may take: a server's own word is better than none


class PostgresStore(rows.Paged):
    """A PostgreSQL with pgvector 0.8 or later. Needs `pip install "llm-savings[postgres]"`.

    One table for each length of vectors. A small scope is searched exactly by way of its own index: a graph over all
    scopes finds mostly others' entries. A new vector is `fresh`; those of a large scope are moved into `vector`, which
    has a graph for each part, by a thread: to put one there takes the server ten times as long as all the rest. Texts
    of two scripts have nothing in common, and in one graph of both a search that begins among the wrong ones never
    leaves them. Each call under way has a connection of its own.
    """

    local = False

    def __init__(self, url: str, *, dimensions: Dimensions, timeout: float = 1.0) -> None:
        self._url, self._timeout, self._length = url, timeout, dimensions
        self._idle: list[Any] = []
        self._pid = os.getpid()
        self._breadths: dict[str, tuple[float, int]] = {}
        self._mover: threading.Thread | None = None
        self._closed = False

    @cached_property
    def _dimensions(self) -> int:
        return rows.dimensions_of(self._length)

    @property
    def _table(self) -> str:
        return f"llm_savings_cache{_VERSION}_{self._dimensions}"

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """See `Store.get`."""
        sql = f"SELECT {rows.SELECTED} FROM {self._table} WHERE id = %s AND (expires_us IS NULL OR expires_us > %s)"
        with self._using() as db:
            found = db.execute(sql, (rows.plain(entry_id), rows.instant(now))).fetchone()
        return rows.entry_of(found) if found else None

    def holds(self, scope: str) -> bool:
        """See `Store.holds`."""
        sql = f"SELECT EXISTS (SELECT 1 FROM {self._table} WHERE scope = %s)"
        with self._using() as db:
            (found,) = db.execute(sql, (rows.plain(scope),)).fetchone() or (True,)
        return bool(found)

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """See `Store.nearest`."""
        asked, name = rows.unit(vector, self._dimensions), rows.plain(scope)
        with self._using() as db:
            sql = self._nearest(count, _part(asked), breadth=self._breadth(db, name))
            given = {"asked": HalfVector(asked), "scope": name, "now": rows.instant(now)}
            found = db.execute(sql, given).fetchall()
        return _nearest_of(found)

    def look(self, entry_id: str, scope: str, vector: Vector, count: int, now: datetime) -> Entry | list[Near]:
        """See `Distant.look`."""
        asked, name = rows.unit(vector, self._dimensions), rows.plain(scope)
        with self._using() as db:
            found = db.execute(
                f"WITH same AS MATERIALIZED (SELECT {rows.SELECTED} FROM {self._table} WHERE id = %(id)s "
                "AND (expires_us IS NULL OR expires_us > %(now)s)) "
                "SELECT NULL::double precision, same.*, NULL::json FROM same UNION ALL SELECT * FROM "
                f"({self._nearest(count, _part(asked), breadth=self._breadth(db, name))}) AS near "
                "WHERE NOT EXISTS (SELECT 1 FROM same)",
                {"id": rows.plain(entry_id), "asked": HalfVector(asked), "scope": name, "now": rows.instant(now)},
            ).fetchall()
        return rows.entry_of(found[0][1:-1]) if found and found[0][0] is None else _nearest_of(found)

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `Store.put`."""
        row = rows.row_of(entry, 0 if vector is None else 2 * self._dimensions)
        unit = None if vector is None else rows.unit(vector, self._dimensions)
        given = (None, 0) if unit is None else (HalfVector(unit), _part(unit))
        columns = (*rows.COLUMNS, "fresh", "part")
        same = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns[1:])
        with self._using() as db:
            db.execute(
                f"INSERT INTO {self._table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "
                f"ON CONFLICT (id) DO UPDATE SET seq = DEFAULT, vector = NULL, {same}",
                (*row, *given),
            )
        large = self._remembered(row[1])
        looks = crc32(row[0].encode()) % (_AT_ONCE if large else _LOOK) == 0
        if looks and not (self._mover and self._mover.is_alive()):
            self._mover = threading.Thread(target=self._move, args=[row[1], large], name="llm-savings-cache-graph")
            self._mover.start()

    def used(self, uses: Mapping[str, tuple[int, datetime, datetime | None]]) -> None:
        """See `Store.used`."""
        changes = sorted(  # all processes in one order, so that none waits for another that waits for it
            (rows.plain(name), hits, rows.instant(last), None if expiry is None else rows.instant(expiry))
            for name, (hits, last, expiry) in uses.items()
        )
        with self._using() as db, db.transaction():
            for name, hits, last, expiry in changes:
                db.execute(
                    f"UPDATE {self._table} SET hits = hits + %s, used_us = GREATEST(used_us, %s), expires_us = "
                    "CASE WHEN expires_us IS NULL THEN NULL ELSE GREATEST(expires_us, %s::bigint) END WHERE id = %s",
                    (hits, last, expiry, name),
                )

    def remove(self, which: Which) -> int:
        """See `Store.remove`."""
        where, parameters = _condition(which)
        count = 0
        for page in self._pages("seq", which):
            with self._using() as db, db.transaction():
                gone = db.execute(
                    f"DELETE FROM {self._table} WHERE seq = ANY(%s) AND {where} RETURNING id",
                    ([seq for (seq,) in page], *parameters),
                ).fetchall()
                owners = [counters_of(name) for (name,) in gone]
                db.execute(f"DELETE FROM {_COUNTERS} WHERE owner = ANY(%s)", (owners,))
            count += len(gone)
        return count

    def size(self) -> tuple[int, int]:
        """See `Store.size`."""
        with self._using() as db:
            return db.execute(f"SELECT COUNT(*), COALESCE(SUM(size), 0)::bigint FROM {self._table}").fetchone()

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """See `Store.add`."""
        with self._using() as db, db.transaction():
            for name, delta in sorted(deltas.items()):
                db.execute(
                    f"INSERT INTO {_COUNTERS} AS old VALUES (%s, %s, %s) "
                    "ON CONFLICT (owner, name) DO UPDATE SET value = old.value + EXCLUDED.value",
                    (rows.plain(owner), rows.plain(name), delta),
                )

    def counts(self, owner: str) -> dict[str, int]:
        """See `Store.counts`."""
        sql = f"SELECT name, value FROM {_COUNTERS} WHERE owner = %s"
        with self._using() as db:
            return {rows.original(name): value for name, value in db.execute(sql, (rows.plain(owner),)).fetchall()}

    def owners(self, prefix: str = "") -> list[str]:
        """See `Store.owners`."""
        with self._using() as db:
            found = db.execute(f"SELECT DISTINCT owner FROM {_COUNTERS}").fetchall()
        return sorted(owner for (name,) in found if (owner := rows.original(name)).startswith(prefix))

    def settle(self) -> None:
        """Wait until nothing is on its way into the graph."""
        if self._mover:
            self._mover.join()

    def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        self.settle()
        self._closed = False
        while self._idle and self._pid == os.getpid():
            self._idle.pop().close()

    def _pages(self, columns: str, which: Which) -> Iterator[list[Any]]:
        """See `rows.Paged`."""
        where, parameters = _condition(which)
        sql = f"SELECT {columns} FROM {self._table} WHERE {where} AND seq > %s ORDER BY seq LIMIT {_PAGE}"
        last = 0
        while True:
            with self._using() as db:
                page = db.execute(sql, (*parameters, last)).fetchall()
            if not page:
                return
            yield page
            last = page[-1][0]

    def _nearest(self, count: int, part: int, *, breadth: int) -> str:
        own = f"FROM {self._table} WHERE scope = %(scope)s AND (expires_us IS NULL OR expires_us > %(now)s)"
        if breadth:
            # The graph gives the nearest only about in order: more are asked for, and sorted. A parameter as the limit
            # would count as a tenth of the table.
            near = "".join(
                f"(SELECT seq, vector <#> %(asked)s AS far {own} AND part = {int(one)} "
                f"ORDER BY far LIMIT {int(breadth * count)}) UNION ALL "
                for one in _PARTS[part]
            )
            near += f"SELECT seq, fresh <#> %(asked)s {own} AND fresh IS NOT NULL"
        else:
            either = "COALESCE(fresh, vector)"
            near = f"SELECT seq, {either} <#> %(asked)s AS far {own} AND {either} IS NOT NULL"
        return (
            f"SELECT far, {rows.SELECTED}, "
            f"(SELECT json_object_agg(name, value) FROM {_COUNTERS} WHERE owner = '{COUNTERS}' || id) "
            f"FROM (SELECT * FROM ({near}) AS found ORDER BY far + 0 LIMIT {int(count)}) AS near "
            f"JOIN {self._table} USING (seq)"
        )

    def _breadth(self, db: Any, scope: str) -> int:
        """How many times as many of a scope the graph is asked for as are wanted; 0 to compare them one by one."""
        breadth = self._remembered(scope)
        return self._remember(scope, self._worth(db, scope, "vector")) if breadth is None else breadth

    def _remembered(self, scope: str) -> int | None:
        until, breadth = self._breadths.get(scope, (0.0, None))
        return breadth if monotonic() <= until else None

    def _remember(self, scope: str, breadth: int) -> int:
        if len(self._breadths) > 10_000:
            self._breadths.clear()
        self._breadths[scope] = monotonic() + _REMEMBERED, breadth
        return breadth

    def _worth(self, db: Any, scope: str, counted: str) -> int:
        """What `_breadth` would be if the graph had those of a scope's rows that have something in this column.

        One by one takes as long as there are rows; the graph as many times longer as most of what it finds is others'.
        """
        own, every = db.execute(
            # A table that nobody has looked over yet has only what the server has seen go in.
            f"SELECT COUNT({counted}), (SELECT GREATEST(reltuples, pg_stat_get_live_tuples(oid)) FROM pg_class "
            "WHERE oid = %s::regclass) "
            f"FROM (SELECT seq, vector FROM {self._table} WHERE scope = %s LIMIT {_MOST}) AS own",
            (self._table, scope),
        ).fetchone()
        if own * own <= _EXACT * max(own, every):
            return 0
        return _WIDE if own > _MANY else _NARROW

    def _move(self, scope: str, known: int | None) -> None:
        """Move what is fresh of a scope into the graph, if it is worth it, as it is where the graph is in use."""
        sql = (
            # Rows that others are at work on are left to the next one: nobody waits here for who waits for this.
            f"UPDATE {self._table} SET vector = fresh, fresh = NULL WHERE seq = ANY(ARRAY(SELECT seq "
            f"FROM {self._table} WHERE scope = %s AND fresh IS NOT NULL LIMIT {_AT_ONCE} FOR UPDATE SKIP LOCKED))"
        )
        with suppress(CacheError):  # those that follow will try again
            breadth = known
            if not breadth:
                with self._using() as db:
                    breadth = self._worth(db, scope, "seq")
            more = breadth > 0
            while more and not self._closed and threading.main_thread().is_alive():
                with self._using() as db:
                    more = db.execute(sql, (scope,)).rowcount == _AT_ONCE
            if breadth and not known:  # what was known is counted anew in its time: the scope grows
                self._remember(scope, breadth)

    @contextmanager
    def _using(self) -> Generator[Any]:
        try:
            db = self._take()
            try:
                yield db
            except BaseException:
                db.close()
                raise
            self._idle.append(db)
        except (psycopg.Error, OSError) as error:
            text = str(error).strip()
            for secret in passwords(self._url):
                text = text.replace(secret, "***")
            raise CacheError(f"cache {masked(self._url)}: {text}") from None

    def _take(self) -> Any:
        if self._pid != os.getpid():  # after a fork; psycopg leaves a parent's connections alone
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            try:
                db = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not is_over(db):
                return db
            db.close()
        return self._connect()

    def _connect(self) -> Any:
        milliseconds = round(self._timeout * 1000)
        db = PatientConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=2,  # libpq's smallest
            options=f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}",
            tcp_user_timeout=milliseconds,
        )
        db.patience = self._timeout + _SERVER_SECONDS
        try:
            self._migrate(db)
            register_vector(db)
            db.execute(_SETTINGS)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: Any) -> None:
        if db.execute("SELECT to_regclass(%s)", (f"{self._table}_fresh",)).fetchone()[0] is None:
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(7311805552)")  # one machine at a time
                self._create(db)
        (version,) = db.execute("SELECT version FROM llm_savings_cache_version").fetchone()
        if version > _VERSION:
            raise CacheError(
                f"cache {masked(self._url)} has schema version {version}, this llm-savings knows {_VERSION}; "
                "upgrade llm-savings"
            )

    def _create(self, db: Any) -> None:
        if db.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            try:
                db.execute("CREATE EXTENSION vector")
            except psycopg.Error as error:
                raise CacheError(
                    f"cache {masked(self._url)}: the extension pgvector is missing and could not be created "
                    f"({str(error).strip()}); let its administrator run: CREATE EXTENSION vector"
                ) from None
        table = self._table
        for statement in (
            "CREATE TABLE IF NOT EXISTS llm_savings_cache_version (version INTEGER PRIMARY KEY)",
            f"INSERT INTO llm_savings_cache_version SELECT {_VERSION} "
            "WHERE NOT EXISTS (SELECT 1 FROM llm_savings_cache_version)",
            f"UPDATE llm_savings_cache_version SET version = {_VERSION} WHERE version < {_VERSION}",
            f"CREATE TABLE IF NOT EXISTS {_COUNTERS} (owner TEXT NOT NULL, name TEXT NOT NULL, "
            "value BIGINT NOT NULL, PRIMARY KEY (owner, name))",
            f"DROP TABLE IF EXISTS llm_savings_cache_{self._dimensions}",  # of version 2, with one graph for all
            f"CREATE TABLE IF NOT EXISTS {table} (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {rows.TABLE}, "
            f"vector halfvec({self._dimensions}), fresh halfvec({self._dimensions}), part SMALLINT NOT NULL)",
            f"CREATE INDEX IF NOT EXISTS {table}_scope ON {table} (scope)",
            f"CREATE INDEX IF NOT EXISTS {table}_fresh ON {table} (scope) WHERE fresh IS NOT NULL",
            *(
                f"CREATE INDEX IF NOT EXISTS {table}_near{part} ON {table} USING hnsw (vector halfvec_ip_ops) "
                f"WHERE part = {part}"
                for part in _PARTS
            ),
        ):
            db.execute(statement)


def _part(unit: Vector) -> int:
    """1 where only the first numbers are not all zero, 2 where only the last ones are, 0 for whole vectors."""
    first, last = span_of(rows.small(unit))
    return 0 if (first > 0) == (WORD * last < len(unit)) else 2 if first else 1


def _nearest_of(found: list[Any]) -> list[Near]:
    nearest = [rows.near_of(row, -far, counts or {}) for far, *row, counts in found]
    return sorted(nearest, key=lambda near: -near.cosine)


def _condition(which: Which) -> tuple[str, list[Any]]:
    return rows.condition(which, ids="id = ANY(%s)", tag="jsonb_exists(tags::jsonb, %s)", mark="%s")
