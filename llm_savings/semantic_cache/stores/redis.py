"""The cache in Redis 8 or Redis Stack, shared by machines. Importing this needs redis-py."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from llm_savings.errors import CacheError, ConfigError
from llm_savings.semantic_cache.entries import COUNTERS, Dimensions, Entry, Near, Vector, Weight, Which, counters_of
from llm_savings.semantic_cache.stores import rows
from llm_savings.storage.urls import masked, passwords

_PREFIX = "llm-savings:cache:1:"
_PAGE = 1_000
_REMOVED = 50  # at once: mending the graph takes the server a millisecond or more each
_FOREVER = 2**53  # later than any expiry, and exact as the index's numbers are
_KEPT = 30 * 86_400  # seconds an entry's counters outlive their last addition: Redis removes expired entries alone
_READ = ("row", "hits", "used_us", "expires_us")

# Text is indexed by its digest: no question of escaping, and no limit to its length.
_TAGS = ("scope", "namespace", "model", "user", "id", "tags")
_SCHEMA = (
    *(part for name in _TAGS for part in (name, "TAG")),
    *("seq", "NUMERIC", "SORTABLE", "created_us", "NUMERIC", "expires_us", "NUMERIC", "size", "NUMERIC", "SORTABLE"),
)

_PUT = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'seq', redis.call('INCR', KEYS[2]), unpack(ARGV, 2))
if ARGV[1] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[1]) end
"""
_USED = """
local function later(field, moment)
  if moment ~= '' and tonumber(redis.call('HGET', KEYS[1], field) or 0) < tonumber(moment) then
    redis.call('HSET', KEYS[1], field, moment)
    return true
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'hits', ARGV[1])
  later('used_us', ARGV[2])
  if later('expires_us', ARGV[3]) then redis.call('PEXPIREAT', KEYS[1], ARGV[4]) end
end
"""


class RedisStore:
    """A Redis with vector search. Needs `pip install "llm-savings[redis]"`.

    One hash an entry. Redis removes an entry itself when it expires, so that `entries` and `remove` may miss those.
    """

    local = False

    def __init__(self, url: str, *, dimensions: Dimensions) -> None:
        self._url, self._length = url, dimensions
        self._ready = False
        try:
            self._redis: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url,
                protocol=2,
                decode_responses=False,
                socket_connect_timeout=2.0,
                socket_timeout=1.0,
                # Once more, for a connection that the server has closed meanwhile.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )
        except ValueError as error:
            raise ConfigError(f"cache {masked(url)!r}: {self._hidden(error)}") from None
        self._put, self._used = self._redis.register_script(_PUT), self._redis.register_script(_USED)

    @cached_property
    def _dimensions(self) -> int:
        return rows.dimensions_of(self._length)

    @property
    def _index(self) -> str:
        return f"{_PREFIX}{self._dimensions}"

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """See `Store.get`."""
        rows.instant(now)
        with self._using() as server:
            found = server.hmget(self._key(entry_id), _READ)
        entry = _entry_of(found) if found[0] is not None else None
        return entry if entry is not None and (entry.expires_at is None or entry.expires_at > now) else None

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """See `Store.nearest`."""
        asked = rows.unit(vector, self._dimensions).tobytes()
        wanted, moment = count * 2, rows.instant(now)
        while True:
            with self._using() as server:
                _, *found = server.execute_command(
                    "FT.SEARCH", self._index, f"@scope:{{{_digest(scope)}}}=>[KNN {wanted} @vector $asked AS far]",
                    "PARAMS", 2, "asked", asked, "SORTBY", "far", "RETURN", 5, "far", *_READ,
                    "LIMIT", 0, wanted, "DIALECT", 2,
                )  # fmt: skip
            pairs = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in found[1::2] if fields]
            nearest: list[Near] = []
            for fields in pairs:
                row = _row_of([fields.get(name.encode()) for name in _READ])
                if row[7] is None or row[7] > moment:
                    nearest.append(rows.near_of(row, 1 - float(fields[b"far"])))
                if len(nearest) == count:
                    return nearest
            if len(found) < 2 * wanted:
                return nearest
            wanted *= 4

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `Store.put`."""
        size = 0 if vector is None else 4 * self._dimensions
        row = dict(zip(rows.COLUMNS, rows.row_of(entry, size), strict=True))
        expires = _FOREVER if row["expires_us"] is None else row["expires_us"]
        fields: dict[str, Any] = {
            "row": json.dumps([row[name] for name in rows.COLUMNS[:-1]], ensure_ascii=False),
            "scope": _digest(entry.scope),
            "namespace": _digest(entry.namespace),
            "model": _digest(entry.model),
            "id": _digest(entry.id),
            "tags": ",".join(map(_digest, entry.tags)),
            "created_us": row["created_us"],
            "expires_us": expires,
            "hits": row["hits"],
            "used_us": row["used_us"] or 0,
            "size": row["size"],
        }
        if entry.user is not None:
            fields["user"] = _digest(entry.user)
        if vector is not None:
            fields["vector"] = rows.unit(vector, self._dimensions).tobytes()
        given = [part for pair in fields.items() for part in pair]
        ends = "" if expires == _FOREVER else -(-expires // 1000)
        with self._using():
            self._put(keys=[self._key(entry.id), f"{_PREFIX}seq"], args=[ends, *given])

    def used(self, uses: Mapping[str, tuple[int, datetime, datetime | None]]) -> None:
        """See `Store.used`."""
        with self._using() as server, server.pipeline(transaction=False) as pipe:
            for name, (hits, last, expiry) in uses.items():
                until = None if expiry is None else rows.instant(expiry)
                ends = ("", "") if until is None else (until, -(-until // 1000))
                self._used(keys=[self._key(name)], args=[hits, rows.instant(last), *ends], client=pipe)
            pipe.execute()

    def remove(self, which: Which) -> int:
        """See `Store.remove`."""
        count = 0
        for page in self._pages(which, ("row",)):
            ids = [json.loads(fields[b"row"])[0] for fields in page]
            for start in range(0, len(ids), _REMOVED):
                some = ids[start : start + _REMOVED]
                with self._using() as server:
                    count += server.unlink(*(f"{self._index}:{name}" for name in some))
                    server.unlink(*(f"{_PREFIX}counters:{counters_of(name)}" for name in some))
        return count

    def entries(self, which: Which) -> Iterator[Entry]:
        """See `Store.entries`."""
        for page in self._pages(which, _READ):
            for fields in page:
                yield _entry_of([fields.get(name.encode()) for name in _READ])

    def size(self) -> tuple[int, int]:
        """See `Store.size`."""
        with self._using() as server:
            _, *found = server.execute_command(
                "FT.AGGREGATE", self._index, "*", "GROUPBY", 0, "REDUCE", "COUNT", 0, "REDUCE", "SUM", 1, "@size"
            )
        return (int(found[0][1]), int(float(found[0][3]))) if found else (0, 0)

    def weights(self) -> list[Weight]:
        """See `Store.weights`."""
        found: list[Weight] = []
        for page in self._pages(Which(), (*_READ, "size")):
            for fields in page:
                row = _row_of([fields.get(name.encode()) for name in _READ])
                by = dict(zip(rows.COLUMNS, row, strict=False))
                used = by["created_us"] if by["used_us"] is None else by["used_us"]
                found.append(rows.weight_of((by["id"], int(fields[b"size"]), by["hits"], by["cost_pusd"] or 0, used)))
        return found

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """See `Store.add`."""
        key = f"{_PREFIX}counters:{rows.plain(owner)}"
        with self._using() as server, server.pipeline(transaction=False) as pipe:
            for name, delta in deltas.items():
                pipe.hincrby(key, rows.plain(name), delta)
            if owner.startswith(COUNTERS):
                pipe.expire(key, _KEPT)
            pipe.execute()

    def counts(self, owner: str) -> dict[str, int]:
        """See `Store.counts`."""
        with self._using() as server:
            found = server.hgetall(f"{_PREFIX}counters:{rows.plain(owner)}")
        return {rows.original(name.decode()): int(value) for name, value in found.items()}

    def owners(self, prefix: str = "") -> list[str]:
        """See `Store.owners`."""
        start = f"{_PREFIX}counters:"
        with self._using() as server:
            keys = [key.decode() for key in server.scan_iter(f"{start}*", count=_PAGE)]
        return sorted(owner for key in keys if (owner := rows.original(key[len(start) :])).startswith(prefix))

    def close(self) -> None:
        """See `Store.close`."""
        self._redis.close()

    def _key(self, entry_id: str) -> str:
        return f"{self._index}:{rows.plain(entry_id)}"

    def _pages(self, which: Which, fields: Sequence[str]) -> Iterator[list[dict[bytes, bytes]]]:
        """Fields of the entries meant, some at a time, in the order they were stored (of many ids, some by some)."""
        ids = iter(which.ids or ())
        while True:
            some = None if which.ids is None else list(islice(ids, _PAGE))
            if some == []:
                return
            query, last = _query(which, some), 0
            while True:
                with self._using() as server:
                    _, *found = server.execute_command(
                        "FT.SEARCH", self._index, f"{query} @seq:[({last} +inf]", "SORTBY", "seq",
                        "RETURN", len(fields) + 1, "seq", *fields, "LIMIT", 0, _PAGE, "DIALECT", 2,
                    )  # fmt: skip
                page = [dict(zip(pair[::2], pair[1::2], strict=True)) for pair in found[1::2] if pair]
                page = [pair for pair in page if b"row" in pair]  # what expired this moment has no fields any more
                if page:
                    last = int(page[-1][b"seq"])
                    yield page
                if len(found) < 2 * _PAGE or not page:
                    break
            if some is None:
                return

    @contextmanager
    def _using(self) -> Generator[Any]:
        try:
            if not self._ready:
                self._make_index()
                self._ready = True
            yield self._redis
        except redis.ResponseError as error:
            text = str(error).lower()
            if "no such index" in text or "unknown index" in text:
                self._ready = False  # somebody has emptied the database
            raise CacheError(f"cache {masked(self._url)}: {self._hidden(error)}") from None
        except (redis.RedisError, OSError) as error:
            raise CacheError(f"cache {masked(self._url)}: {self._hidden(error)}") from None

    def _make_index(self) -> None:
        vector = ["vector", "VECTOR", "HNSW", 12, "TYPE", "FLOAT32", "DIM", self._dimensions, "DISTANCE_METRIC"]
        vector += ["COSINE", "M", 16, "EF_CONSTRUCTION", 64, "EF_RUNTIME", 96]
        vector[3] = len(vector) - 4
        try:
            self._redis.execute_command(
                "FT.CREATE", self._index, "ON", "HASH", "PREFIX", 1, f"{self._index}:", "STOPWORDS", 0,
                "SCHEMA", *_SCHEMA, *vector,
            )  # fmt: skip
        except redis.ResponseError as error:
            text = str(error).lower()
            if "unknown command" in text:
                raise CacheError(
                    f"cache {masked(self._url)}: this Redis has no vector search; use Redis 8 or Redis Stack"
                ) from None
            if "already exists" not in text:
                raise

    def _hidden(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in passwords(self._url):
            text = text.replace(secret, "***")
        return text


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _row_of(found: Sequence[bytes | None]) -> list[Any]:
    """The values of `rows.SELECTED` from those of `_READ`."""
    row = json.loads(found[0] or b"null")
    hits, used, expires = (int(value or 0) for value in found[1:])
    row[7], row[13], row[14] = None if expires == _FOREVER else expires, hits, used or None
    return row


def _entry_of(found: Sequence[bytes | None]) -> Entry:
    return rows.entry_of(_row_of(found))


def _query(which: Which, ids: Sequence[str] | None) -> str:
    parts = [
        f"@{name}:{{{_digest(value)}}}"
        for name, value in (
            ("namespace", which.namespace),
            ("scope", which.scope),
            ("model", which.model),
            ("user", which.user),
            ("tags", which.tag),
        )
        if value is not None
    ]
    if ids is not None:
        parts.append(f"@id:{{{'|'.join(map(_digest, ids))}}}")
    if which.before is not None:
        parts.append(f"@created_us:[-inf ({rows.instant(which.before)}]")
    if which.expired_at is not None:
        parts.append(f"@expires_us:[-inf {rows.instant(which.expired_at)}]")
    return " ".join(parts)
