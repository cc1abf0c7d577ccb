"""The log of lessons in Redis 6.2 or later, shared by machines. Importing this needs redis-py."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis

from llm_savings.errors import CacheError, ConfigError
from llm_savings.prompt_cache import logs
from llm_savings.storage.urls import masked, told

_KEY = "llm-savings:prefixes:1"
_TIMEOUT = 2.0
# A stream whose entries are numbered by their places. A script is one step: nobody else writes in the middle of it.
_ADD = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local place = last and tonumber(string.match(last[1], '%d+')) or 0
for n = 3, #ARGV do
  place = place + #ARGV[n]
  redis.call('XADD', KEYS[1], string.format('%.0f-0', place), 'worker', ARGV[2], 'lesson', ARGV[n])
end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', math.max(0, place - tonumber(ARGV[1]) + 1)))
"""


class RedisLog:
    """A stream in Redis. Needs `pip install "llm-savings[redis]"`."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._redis: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, protocol=2, decode_responses=False, socket_connect_timeout=_TIMEOUT, socket_timeout=_TIMEOUT
            )
        except ValueError as error:
            raise ConfigError(f"memory {masked(url)!r}: {told(error, url)}") from None
        self._add = self._redis.register_script(_ADD)

    def add(self, worker: bytes, lessons: Sequence[bytes]) -> None:
        """See `Log.add`."""
        with self._translated():
            self._add(keys=[_KEY], args=[logs.MOST_BYTES, worker, *lessons])

    def since(self, place: int) -> list[tuple[int, bytes, bytes]]:
        """See `Log.since`."""
        with self._translated():
            found = self._redis.xrange(_KEY, f"({place}-0" if place else "-", "+", count=logs.PAGE)
            if not found and place and not self._redis.xrevrange(_KEY, "+", f"{place}-0", count=1):
                found = self._redis.xrange(_KEY, "-", "+", count=logs.PAGE)  # somebody has begun a new log
            return [(int(at.split(b"-")[0]), row[b"worker"], row[b"lesson"]) for at, row in found]

    def close(self) -> None:
        """See `Log.close`."""
        with suppress(redis.RedisError):
            self._redis.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise CacheError(f"{masked(self._url)}: {told(error, self._url)}") from None
