"""The cache in Redis 8 or Redis Stack, shared by machines. Importing this needs redis-py."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from time import monotonic
from typing import Any

import numpy as np
import orjson
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from llm_savings.errors import CacheError, ConfigError
from llm_savings.semantic_cache.entries import COUNTERS, Dimensions, Entry, Near, Vector, Weight, Which, counters_of
from llm_savings.semantic_cache.stores import rows
from llm_savings.storage.urls import masked, passwords

_PREFIX = "llm-savings:cache:2:"
_PAGE = 1_000
_REMOVED = 10  # at once: mending the graph takes the server a millisecond or more each, and a busy one ten times that
_FOREVER = 2**53  # later than any expiry, and exact as the index's numbers are
_KEPT = 30 * 86_400  # seconds an entry's counters outlive their last addition: Redis removes expired entries alone
_READ = (b"row", b"hits", b"used_us", b"expires_us", b"counts")
_MANY = 10_000  # entries that are compared one by one in no more time than they take to be put into a graph
_LOOK = 1_000  # entries stored, by whomever, between two looks at whether there are many
_DEAR, _BATCH = 4_000, 20  # see `_policy`
_REMEMBERED = 60.0  # seconds for which a scope's share of many entries is taken to stay

# Text is indexed by its digest: no question of escaping, and no limit to its length.
_TAGS = ("scope", "namespace", "model", "user", "id", "tags")
_SCHEMA = (
    *(part for name in _TAGS for part in (name, "TAG")),
    *("seq", "NUMERIC", "SORTABLE", "created_us", "NUMERIC", "expires_us", "NUMERIC", "size", "NUMERIC", "SORTABLE"),
)

_FLAT = ("FLAT", 6)
# Of 100,000 made vectors 96 candidates find 98.4% of the five nearest, 250 find 99.5% in twice the time. A graph built
# with more care would find them with fewer, but be built in the puts.
_GRAPH = ("HNSW", 12, "M", 16, "EF_CONSTRUCTION", 64, "EF_RUNTIME", 250)

# An entry's counters stand in the entry, too, where a search reads them with it.
_PUT = """
local seq, counts = redis.call('INCR', KEYS[2]), redis.call('HGETALL', KEYS[3])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'seq', seq, 'counts', cjson.encode(counts), unpack(ARGV, 2))
if ARGV[1] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[1]) end
return seq
"""
_ADD = """
for n = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[n], ARGV[n + 1]) end
if KEYS[2] then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('HSET', KEYS[2], 'counts', cjson.encode(redis.call('HGETALL', KEYS[1])))
  end
end
"""
_LOOK_UP = """
local own = redis.call('HMGET', KEYS[1], 'row', 'hits', 'used_us', 'expires_us', 'counts')
if own[1] then return {own} end
return redis.call(unpack(ARGV))
"""
# One write: each one makes the server index the entry again.
_USED = """
local old = redis.call('HMGET', KEYS[1], 'hits', 'used_us', 'expires_us')
if old[1] then
  local function later(before, moment)
    return moment ~= '' and tonumber(before) < tonumber(moment) and moment or before
  end
  local used, expires = later(old[2], ARGV[2]), later(old[3], ARGV[3])
  redis.call('HSET', KEYS[1], 'hits', old[1] + ARGV[1], 'used_us', used, 'expires_us', expires)
  if expires ~= old[3] then redis.call('PEXPIREAT', KEYS[1], ARGV[4]) end
end
"""


class RedisStore:
    """A Redis with vector search. Needs `pip install "llm-savings[redis]"`.

    One hash an entry. Redis removes an entry itself when it expires, so that `entries` and `remove` may miss those.
    The index, which has another name in use, compares one by one until there are many entries; then the server builds
    a graph of them, and the name passes to it.
    """

    local = False

    def __init__(self, url: str, *, dimensions: Dimensions) -> None:
        self._url, self._length = url, dimensions
        self._ready = False
        self._many = (0.0, 0)
        self._policies: dict[str, tuple[float, str]] = {}
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
        scripts = map(self._redis.register_script, (_LOOK_UP, _PUT, _ADD, _USED))
        self._look, self._put, self._add, self._used = scripts

    @cached_property
    def _dimensions(self) -> int:
        return rows.dimensions_of(self._length)

    @property
    def _index(self) -> str:
        return f"{_PREFIX}{self._dimensions}"

    def get(self, entry_id: str, now: datetime) -> Entry | None:
        """See `Store.get`."""
        moment = rows.instant(now)
        with self._using():
            found = self._ask("HMGET", self._key(entry_id), *_READ)
        return _answer(found, moment)

    def holds(self, scope: str) -> bool:
        """See `Store.holds`."""
        with self._using():
            count, *_ = self._ask("FT.SEARCH", self._index, f"@scope:{{{_digest(scope)}}}", "LIMIT", 0, 0)
        return bool(count)

    def nearest(self, scope: str, vector: Vector, count: int, now: datetime) -> list[Near]:
        """See `Store.nearest`."""
        wanted, moment = count, rows.instant(now)
        while True:
            with self._using():
                found = self._ask(*self._search(scope, vector, wanted))
            nearest = _nearest_of(found, moment)[:count]
            if len(nearest) == count or len(found) <= 2 * wanted:
                return nearest
            wanted *= 4

    def look(self, entry_id: str, scope: str, vector: Vector, count: int, now: datetime) -> Entry | list[Near]:
        """See `Distant.look`."""
        moment = rows.instant(now)
        with self._using():
            found = self._run(self._look, [self._key(entry_id)], *self._search(scope, vector, count))
        if isinstance(found[0], list):
            return _answer(found[0], moment) or self.nearest(scope, vector, count, now)
        nearest = _nearest_of(found, moment)
        some_are_over = len(nearest) < count < len(found) // 2
        return self.nearest(scope, vector, count, now) if some_are_over else nearest

    def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `Store.put`."""
        size = 0 if vector is None else 2 * self._dimensions
        row = dict(zip(rows.COLUMNS, rows.row_of(entry, size), strict=True))
        expires = _FOREVER if row["expires_us"] is None else row["expires_us"]
        fields: dict[str, Any] = {
            "row": orjson.dumps([row[name] for name in rows.COLUMNS[:-1]]),
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
            fields["vector"] = _packed(rows.unit(vector, self._dimensions))
        given = [part for pair in fields.items() for part in pair]
        ends = "" if expires == _FOREVER else -(-expires // 1000)
        keys = [self._key(entry.id), f"{_PREFIX}seq", _counters(counters_of(entry.id))]
        with self._using() as server:
            if self._run(self._put, keys, ends, *given) % _LOOK == 0:
                self._grow(server)

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
        for page in self._pages(which, ()):
            names = [fields[b"key"].decode().removeprefix(self._key("")) for fields in page]
            for start in range(0, len(names), _REMOVED):
                some = names[start : start + _REMOVED]
                with self._using() as server:
                    count += server.unlink(*(self._key("") + name for name in some))
                    server.unlink(*(_counters(COUNTERS) + name for name in some))
        return count

    def entries(self, which: Which) -> Iterator[Entry]:
        """See `Store.entries`."""
        for page in self._pages(which, _READ):
            for fields in page:
                if (row := _row_of(_values(fields))) is not None:
                    yield rows.entry_of(row)

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
        for page in self._pages(Which(), (*_READ, b"size")):
            for fields in page:
                if (row := _row_of(_values(fields))) is None:
                    continue
                by = dict(zip(rows.COLUMNS, row, strict=False))
                used = by["created_us"] if by["used_us"] is None else by["used_us"]
                found.append(rows.weight_of((by["id"], int(fields[b"size"]), by["hits"], by["cost_pusd"] or 0, used)))
        return found

    def add(self, owner: str, deltas: Mapping[str, int]) -> None:
        """See `Store.add`."""
        keys, given = [_counters(owner)], [part for name, n in deltas.items() for part in (rows.plain(name), n)]
        if owner.startswith(COUNTERS):
            keys.append(self._key(owner.removeprefix(COUNTERS)))
        with self._using():
            self._add(keys=keys, args=[_KEPT, *given])

    def counts(self, owner: str) -> dict[str, int]:
        """See `Store.counts`."""
        with self._using() as server:
            found = server.hgetall(_counters(owner))
        return {rows.original(name.decode()): int(value) for name, value in found.items()}

    def owners(self, prefix: str = "") -> list[str]:
        """See `Store.owners`."""
        start = _counters("")
        with self._using() as server:
            keys = [key.decode() for key in server.scan_iter(f"{start}*", count=_PAGE)]
        return sorted(owner for key in keys if (owner := rows.original(key[len(start) :])).startswith(prefix))

    def close(self) -> None:
        """See `Store.close`."""
        self._redis.close()

    def _key(self, entry_id: str) -> str:
        return f"{self._index}:{rows.plain(entry_id)}"

    def _pages(self, which: Which, fields: Sequence[bytes]) -> Iterator[list[dict[bytes, bytes]]]:
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
                named = zip(found[::2], map(_named, found[1::2]), strict=True)
                page = [pair | {b"key": key} for key, pair in named if b"seq" in pair]  # not what expired this moment
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
            if _is_missing(error):
                self._ready = False  # somebody has emptied the database
            raise CacheError(f"cache {masked(self._url)}: {self._hidden(error)}") from None
        except (redis.RedisError, OSError) as error:
            raise CacheError(f"cache {masked(self._url)}: {self._hidden(error)}") from None

    def _ask(self, *command: Any) -> Any:
        """What the server says to a command; the client's own way costs this side twice as much time."""
        pool = self._redis.connection_pool
        connection = pool.get_connection()  # one that the server has closed meanwhile is opened again
        try:
            connection.send_command(*command)
            return connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            connection.disconnect()  # what it would still say belongs to no command of ours
            raise
        finally:
            pool.release(connection)

    def _run(self, script: Any, keys: Sequence[str], *given: Any) -> Any:
        try:
            return self._ask("EVALSHA", script.sha, len(keys), *keys, *given)
        except NoScriptError:
            return script(keys=keys, args=given)

    def _search(self, scope: str, vector: Vector, count: int) -> Sequence[Any]:
        """The command for the nearest of a scope."""
        asked, own = _packed(rows.unit(vector, self._dimensions)), f"@scope:{{{_digest(scope)}}}"
        return (
            "FT.SEARCH", self._index, f"{own}=>[KNN {count} @vector $asked {self._policy(own)} AS far]",
            "PARAMS", 2, "asked", asked, "SORTBY", "far", "RETURN", 1 + len(_READ), "far", *_READ,
            "LIMIT", 0, count, "DIALECT", 2,
        )  # fmt: skip

    def _make_index(self) -> None:
        try:
            if _done(self._redis, "FT.INFO", self._index):
                return
            self._create(flat := f"{self._index}:flat", _FLAT)
            _done(self._redis, "FT.ALIASADD", self._index, flat)
        except redis.ResponseError as error:
            if "unknown command" not in str(error).lower():
                raise
            raise CacheError(
                f"cache {masked(self._url)}: this Redis has no vector search; use Redis 8 or Redis Stack 7.4"
            ) from None

    def _create(self, name: str, algorithm: Sequence[Any]) -> None:
        kind, count, *options = algorithm
        _done(
            self._redis, "FT.CREATE", name, "ON", "HASH", "PREFIX", 1, f"{self._index}:", "STOPWORDS", 0,
            "SCHEMA", *_SCHEMA, "vector", "VECTOR", kind, count, "TYPE", "FLOAT16", "DIM", self._dimensions,
            "DISTANCE_METRIC", "IP", *options,
        )  # fmt: skip

    def _grow(self, server: Any) -> None:
        """Have a graph built of many entries, and let it take over when it is."""
        graph = f"{self._index}:graph"
        if (used := _info(server, self._index))["index_name"] == graph.encode():
            return
        try:
            built = not int(_info(server, graph)["indexing"])
        except redis.ResponseError:
            if int(used["num_docs"]) > _MANY:
                self._create(graph, _GRAPH)
            return
        if built:
            server.execute_command("FT.ALIASUPDATE", self._index, graph)
            _done(server, "FT.DROPINDEX", used["index_name"])

    def _policy(self, own: str) -> str:
        """How many entries are searched for those of one scope, given as a query."""
        server, now = self._redis, monotonic()
        if now > self._many[0]:
            self._many = now + _REMEMBERED, int(_info(server, self._index)["num_docs"])
        every = self._many[1]
        if every <= _MANY:
            return ""
        until, policy = self._policies.get(own, (0.0, ""))
        if now > until:
            (count,) = server.execute_command("FT.SEARCH", self._index, own, "LIMIT", 0, 0, "DIALECT", 2)
            policy = "HYBRID_POLICY ADHOC_BF"
            # One by one takes 0.1 us each; the graph 0.4 ms, and more where most of what it finds is others'.
            if count * count > _DEAR * every:
                size = max(_BATCH, _BATCH * every * every // (count * count))
                policy = f"HYBRID_POLICY BATCHES BATCH_SIZE {size}"
            if len(self._policies) > 10_000:
                self._policies.clear()
            self._policies[own] = now + _REMEMBERED, policy
        return policy

    def _hidden(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in passwords(self._url):
            text = text.replace(secret, "***")
        return text


def _done(server: Any, *command: Any) -> bool:
    """Do, or ask for, what somebody else may have done before; False where there is no such index."""
    try:
        server.execute_command(*command)
    except redis.ResponseError as error:
        if _is_missing(error):
            return False
        if "already exists" not in str(error).lower():
            raise
    return True


def _is_missing(error: redis.ResponseError) -> bool:
    return any(words in str(error).lower() for words in ("no such index", "unknown index"))


def _info(server: Any, index: str) -> dict[str, Any]:
    found = server.execute_command("FT.INFO", index)
    return {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}


def _packed(vector: Vector) -> bytes:
    return vector.astype(np.float16).tobytes()


def _counters(owner: str) -> str:
    return f"{_PREFIX}counters:{rows.plain(owner)}"


def _counts(found: bytes) -> dict[str, int]:
    if found == b"{}":  # of most
        return {}
    parts: list[str] = list(orjson.loads(found))
    return {rows.original(name): int(value) for name, value in zip(parts[::2], parts[1::2], strict=True)}


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _named(fields: Sequence[bytes] | None) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}


def _values(fields: Mapping[bytes, bytes]) -> list[bytes | None]:
    return [fields.get(name) for name in _READ]


def _row_of(found: Sequence[bytes | None]) -> list[Any] | None:
    """The values of `rows.SELECTED` from those of `_READ`; None where there are none, or somebody has spoilt them."""
    try:
        row = orjson.loads(found[0] or b"null")
        hits, used, expires = (int(value or 0) for value in found[1:4])
        row[7], row[13], row[14] = None if expires == _FOREVER else expires, hits, used or None
    except (ValueError, TypeError, IndexError):
        return None
    return row


def _answer(found: Sequence[bytes | None], moment: int) -> Entry | None:
    row = _row_of(found)
    return None if row is None or _is_over(row, moment) else rows.entry_of(row)


def _is_over(row: Sequence[Any], moment: int) -> bool:
    return row[7] is not None and row[7] <= moment


def _nearest_of(found: Sequence[Any], moment: int) -> list[Near]:
    """What a search has found and is still an answer."""
    nearest: list[Near] = []
    for fields in map(_named, found[2::2]):
        if (row := _row_of(_values(fields))) is not None and not _is_over(row, moment):
            nearest.append(rows.near_of(row, 1 - float(fields[b"far"]), _counts(fields[b"counts"])))
    return nearest


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
