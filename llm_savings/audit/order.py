"""Calls of the past in order of time, in bounded memory.

A log that is about in order is put in order as it is read. Any other is sorted: on disk, piece by piece, where it does
not fit into memory.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import IO

from llm_savings.audit import frames
from llm_savings.audit.records import Record, of_plain, plain

ROOM = 64_000_000
"""Characters of prompts and answers that are held in memory at once."""

_EARLY = datetime.min.replace(tzinfo=UTC)
_NEAR = 1_000  # calls that one may be late by, where they are not sorted
_at = attrgetter("at")


class UnsortedError(Exception):
    """A call came when later ones had been given."""


def as_they_come(records: Iterable[Record], late: Callable[[], None], *, room: int = ROOM) -> Iterator[Record]:
    """As `in_order`, without waiting for the last call.

    Args:
        records: As a log has them.
        late: Called for each call that is earlier than one before it in the log.
        room: Characters held at once.

    Raises:
        UnsortedError: A call is more than some hundreds of calls late.

    Example:
        >>> noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
        >>> calls = [Record(source="log", line=n, model="gpt-4o", at=noon.replace(hour=n)) for n in (2, 1)]
        >>> [record.line for record in as_they_come(calls, lambda: None)]
        [1, 2]
    """
    near: list[Record] = []
    held, given = 0, _EARLY
    for record in _timed(records, late):
        if _at(record) < given:
            raise UnsortedError
        near.append(record)
        held += _size(record)
        if len(near) >= 2 * _NEAR or held > room:
            near.sort(key=_at)
            some = near[: (len(near) + 1) // 2]
            del near[: len(some)]
            held, given = sum(map(_size, near)), _at(some[-1])
            yield from map(_untimed, some)
    near.sort(key=_at)
    yield from map(_untimed, near)


def in_order(records: Iterable[Record], late: Callable[[], None], *, room: int = ROOM) -> Iterator[Record]:
    """The calls in order of time. One without a time keeps its place after the one before it.

    Args:
        records: As a log has them.
        late: Called for each call that is earlier than one before it in the log.
        room: Characters held at once; beyond them, sorted pieces go to temporary files that nobody else can read.

    Example:
        >>> noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
        >>> calls = [Record(source="log", line=n, model="gpt-4o", at=noon.replace(hour=n)) for n in (2, 1)]
        >>> [record.line for record in in_order(calls, lambda: None)]
        [1, 2]
    """
    piece: list[Record] = []
    held = 0
    with ExitStack() as files:
        pieces: list[Iterator[Record]] = []
        for record in _timed(records, late):
            piece.append(record)
            held += _size(record)
            if held > room:
                file = _written(files.enter_context(tempfile.TemporaryFile()), piece)
                pieces.append(of_plain(values) for values, _ in frames.read(file))
                piece, held = [], 0
        piece.sort(key=_at)
        yield from map(_untimed, heapq.merge(*pieces, piece, key=_at))


def _timed(records: Iterable[Record], late: Callable[[], None]) -> Iterator[Record]:
    """The calls, each with a time."""
    last = _EARLY
    for record in records:
        if record.at is None:
            record = replace(record, at=last)
        elif record.at < last:
            late()
        last = record.at or last
        yield record


def _untimed(record: Record) -> Record:
    return replace(record, at=None) if record.at == _EARLY else record


def _size(record: Record) -> int:
    said = sum(len(text) if isinstance(text := m.get("content"), str) else 2000 for m in record.messages or ())
    return 1000 + said + len(record.answer or "")


def _written(file: IO[bytes], piece: list[Record]) -> IO[bytes]:
    for record in sorted(piece, key=_at):
        frames.write(file, plain(record), default=str)
    file.seek(0)
    return file
