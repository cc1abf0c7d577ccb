"""What the semantic cache keeps: one answer to one question in one scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Dimensions = int | Callable[[], int]
"""How long a vector is; an embedder that is elsewhere may first have to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer in the cache.

    Attributes:
        id: Names the scope and the canonical form of the question: the same question in the same scope has the same id.
        scope: A digest of everything but the question that the answer depends on. Nothing crosses a scope.
        namespace: Whose answers these are, in the operator's words; part of the scope as well.
        model: The model that answered, as it was asked for.
        text: The question: the last user turn.
        answer: The host's answer, as the host's rim wrote it (JSON).
        created_at: When it was stored, UTC.
        expires_at: From when on it is no answer any more, UTC; None for never.
        sliding: Whether a hit gives it its whole time to live again.
        tags: Labels for invalidation. A source document is the tag "source:NAME".
        user: Who asked first, as a keyed hash, so that it can be erased.
        cost: USD that asking the model took, and that a hit saves; None when unknown.
        latency: Seconds that asking the model took, or None.
        hits: How often it was served.
        used_at: When it was last served or stored, UTC.
    """

    id: str
    scope: str
    namespace: str
    model: str
    text: str
    answer: str
    created_at: datetime
    expires_at: datetime | None = None
    sliding: bool = False
    tags: tuple[str, ...] = ()
    user: str | None = None
    cost: Decimal | None = None
    latency: float | None = None
    hits: int = 0
    used_at: datetime | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes, without its vector."""
        return len(self.text.encode("utf-8", "replace")) + len(self.answer.encode("utf-8", "replace")) + 200


class Near(NamedTuple):
    """A stored answer whose question is close to the one asked.

    Attributes:
        text: The question.
        cosine: Of the two questions' vectors, -1 to 1.
        read: Gives the entry. Of five that are near four are never looked at.
        counts: The entry's counters, where reading them with it costs nothing; else None.
    """

    text: str
    cosine: float
    read: Callable[[], Entry]
    counts: Mapping[str, int] | None = None

    @property
    def entry(self) -> Entry:
        """The stored answer."""
        return self.read()


COUNTERS = "entry:"
"""What the owner of an entry's counters begins with; its id follows."""


def counters_of(entry_id: str) -> str:
    """The owner of an entry's counters."""
    return COUNTERS + entry_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which entries are meant: those that all given conditions hold for. Nothing given means every entry.

    Attributes:
        ids: One of these.
        namespace: Of this namespace.
        scope: Of this scope.
        model: Answered by this model.
        tag: With this tag.
        user: First asked by this user (a keyed hash).
        before: Stored before this instant (aware, UTC).
        expired_at: No answers any more at this instant.
    """

    ids: tuple[str, ...] | None = None
    namespace: str | None = None
    scope: str | None = None
    model: str | None = None
    tag: str | None = None
    user: str | None = None
    before: datetime | None = None
    expired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """What eviction looks at: what an entry takes and what it has saved.

    Attributes:
        id: The entry's.
        size: Bytes, with its vector.
        hits: How often it was served.
        cost: USD a hit saves, as whole picodollars; 0 when unknown.
        used_us: When it was last served or stored, UTC microseconds since 1970.
    """

    id: str
    size: int
    hits: int
    cost: int
    used_us: int
