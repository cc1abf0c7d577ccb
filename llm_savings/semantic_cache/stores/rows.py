"""How entries become rows and vectors become bytes, the same in every database."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from llm_savings.errors import CacheError, RecordError
from llm_savings.ledger.records import from_picodollars, microseconds, to_picodollars
from llm_savings.semantic_cache.entries import Dimensions, Entry, Near, Vector, Weight, Which

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Small = NDArray[np.int8]

COLUMNS = (
    "id",
    "scope",
    "namespace",
    "model",
    "text",
    "answer",
    "created_us",
    "expires_us",
    "sliding",
    "tags",
    "user_hash",
    "cost_pusd",
    "latency",
    "hits",
    "used_us",
    "size",
)
SELECTED = ", ".join(COLUMNS[:-1])
TABLE = """id TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL,
  namespace TEXT NOT NULL,
  model TEXT NOT NULL,
  text TEXT NOT NULL,
  answer TEXT NOT NULL,
  created_us BIGINT NOT NULL,
  expires_us BIGINT,
  sliding SMALLINT NOT NULL,
  tags TEXT,
  user_hash TEXT,
  cost_pusd BIGINT,
  latency DOUBLE PRECISION,
  hits BIGINT NOT NULL,
  used_us BIGINT,
  size BIGINT NOT NULL"""
WEIGHTS = "id, size, hits, COALESCE(cost_pusd, 0), COALESCE(used_us, created_us)"

# A database refuses NUL, or half of a surrogate pair; the escape sign itself is escaped too, so that all comes back.
_STRANGE = re.compile("[\0\x1b\ud800-\udfff]")
_ESCAPED = re.compile("\x1b([0-9a-f]{4})")


def plain(text: str) -> str:
    """Text that every database takes, and that `original` turns back."""
    return _STRANGE.sub(lambda found: f"\x1b{ord(found[0]):04x}", text)


def original(text: str) -> str:
    """What `plain` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "\x1b" in text else text


def instant(moment: Any) -> int:
    """UTC microseconds since 1970 of an aware datetime."""
    try:
        return microseconds(moment)
    except RecordError as error:
        raise CacheError(str(error)) from None


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(0, 0, micros)


def row_of(entry: Entry, dimensions: int) -> tuple[Any, ...]:
    """An entry as the values of `COLUMNS`."""
    try:
        cost = to_picodollars(entry.cost)
    except RecordError as error:
        raise CacheError(f"entry {entry.id!r}: {error}") from None
    tags = json.dumps([plain(tag) for tag in entry.tags], ensure_ascii=False) if entry.tags else None
    return (
        plain(entry.id),
        plain(entry.scope),
        plain(entry.namespace),
        plain(entry.model),
        plain(entry.text),
        plain(entry.answer),
        instant(entry.created_at),
        None if entry.expires_at is None else instant(entry.expires_at),
        int(entry.sliding),
        tags,
        None if entry.user is None else plain(entry.user),
        cost,
        entry.latency,
        entry.hits,
        None if entry.used_at is None else instant(entry.used_at),
        entry.size + dimensions,
    )


def entry_of(row: Sequence[Any]) -> Entry:
    """An entry from the values of `SELECTED`."""
    name, scope, namespace, model, text, answer, created, expires, sliding, tags, user, cost, latency, hits, used = row
    return Entry(
        id=original(name),
        scope=original(scope),
        namespace=original(namespace),
        model=original(model),
        text=original(text),
        answer=original(answer),
        created_at=_moment(created),
        expires_at=None if expires is None else _moment(expires),
        sliding=bool(sliding),
        tags=() if tags is None else tuple(original(tag) for tag in cast("list[str]", json.loads(tags))),
        user=None if user is None else original(user),
        cost=from_picodollars(cost),
        latency=latency,
        hits=hits,
        used_at=None if used is None else _moment(used),
    )


def near_of(row: Sequence[Any], cosine: float, counts: Mapping[str, int] | None = None) -> Near:
    """A near entry from the values of `SELECTED`."""
    return Near(original(row[4]), cosine, partial(entry_of, row), counts)


def weight_of(row: Sequence[Any]) -> Weight:
    """What eviction looks at, from the values of `WEIGHTS`."""
    return Weight(original(row[0]), *row[1:])


def condition(which: Which, *, ids: str, tag: str, mark: str) -> tuple[str, list[Any]]:
    """The SQL condition for the entries meant, and its parameters.

    Args:
        which: The entries meant.
        ids: This database's condition for one of many ids, given as a list.
        tag: Its condition for a tag in the JSON list `tags`.
        mark: Its placeholder.
    """
    given: list[tuple[str, Any]] = []
    if which.ids is not None:
        given.append((ids, [plain(name) for name in which.ids]))
    for column, value in (
        ("namespace", which.namespace),
        ("scope", which.scope),
        ("model", which.model),
        ("user_hash", which.user),
    ):
        if value is not None:
            given.append((f"{column} = {mark}", plain(value)))
    if which.tag is not None:
        given.append((tag, plain(which.tag)))
    if which.before is not None:
        given.append((f"created_us < {mark}", instant(which.before)))
    if which.expired_at is not None:
        given.append((f"expires_us <= {mark}", instant(which.expired_at)))
    return " AND ".join(sql for sql, _ in given) or "1 = 1", [value for _, value in given]


def dimensions_of(given: Dimensions) -> int:
    """How long vectors are; a function is asked now.

    Raises:
        CacheError: Whoever was asked does not know.
    """
    return given if isinstance(given, int) else given()


class Paged(ABC):
    """What a store reads of its table page by page, of rows that begin with seq."""

    def entries(self, which: Which) -> Iterator[Entry]:
        """See `Store.entries`."""
        for page in self._pages(f"seq, {SELECTED}", which):
            for _, *row in page:
                yield entry_of(row)

    def weights(self) -> list[Weight]:
        """See `Store.weights`."""
        return [weight_of(row) for page in self._pages(f"seq, {WEIGHTS}", Which()) for _, *row in page]

    @abstractmethod
    def _pages(self, columns: str, which: Which) -> Iterator[list[Any]]:
        """Rows of the entries meant, some at a time; `columns` begin with seq."""


def unit(vector: Vector, dimensions: int) -> Vector:
    """A vector scaled to length 1.

    Raises:
        CacheError: It has another shape, no direction, or a value that is no number.
    """
    vector = np.asarray(vector, dtype=np.float32)
    if vector.shape != (dimensions,):
        raise CacheError(f"a vector has shape {vector.shape}; this store holds ({dimensions},)")
    length = math.sqrt(vector.dot(vector))
    if not 1e-6 < length < 1e6:  # NaN is neither
        raise CacheError(f"a vector has length {length}; expected a finite one that points somewhere")
    return vector / np.float32(length)


def small(vector: Vector) -> Small:
    """A vector as whole numbers of -127 to 127, its largest as far as they go: cosines stay within about 0.002."""
    return np.rint(vector * (127 / float(np.abs(vector).max()))).astype(np.int8)
