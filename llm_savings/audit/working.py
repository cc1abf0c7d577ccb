"""The calls of an audit on their way to the replay: read by this process, or by another one that works ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from llm_savings.audit import frames
from llm_savings.audit.ahead import Ahead
from llm_savings.audit.order import in_order
from llm_savings.audit.reading import Log, Unread
from llm_savings.audit.records import Message, Record, of_plain, plain
from llm_savings.audit.replay import Replay

_LONG, _SHARED = 500, 1_000  # characters of texts that may come again, and how many of them are remembered
_LOOKED_AT = 50  # calls that tell whether a log has prompts
_MUCH = 500_000  # bytes of logs from which on another process is worth its start


@dataclass(slots=True)
class Reading:
    """The calls in order of time, and what can be said of each ahead.

    Attributes:
        records: As a log has them.
        replay: What they are for.
        each: Called once a record.
        since: Only calls from then on.
        until: Only calls before then.
    """

    records: Iterable[Record]
    replay: Replay
    each: Callable[[], object] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __iter__(self) -> Iterator[tuple[Record, Ahead | None]]:
        return self._abreast() if self._pays() else self._alone()

    def _pays(self) -> bool:
        """Whether there is so much to be read that another process is worth its start: prompts, and many."""
        log = self.records
        much = isinstance(log, Log) and log.size > _MUCH and frames.can_fork()
        return much and any(record.messages for record in islice(log, _LOOKED_AT))

    def _alone(self) -> Iterator[tuple[Record, Ahead | None]]:
        for record in in_order(self._chosen(self.each), self._late):
            yield record, None

    def _abreast(self) -> Iterator[tuple[Record, Ahead | None]]:
        """With another process, which reads. What ends that one too early, this one meets when it goes on by itself."""
        given = 0
        try:
            for values, ahead in frames.abreast(self._plain):
                if values is None:
                    self._told(*ahead)
                    return
                given += 1
                if self.each is not None:
                    self.each()
                yield of_plain(values), ahead and Ahead.of(ahead)
        except ChildProcessError:
            self.replay.seen.late = 0
        for number, record in enumerate(in_order(self._chosen(None), self._late)):
            ahead = self.replay.foresight.read(record)  # from the first on: routing remembers conversations
            if number >= given:
                if self.each is not None:
                    self.each()
                yield record, ahead

    def _plain(self) -> Iterator[tuple[Any, Any]]:
        """In the other process: all as plain values, and at last what is told of the log."""
        see, log, texts = self.replay.foresight.read, self.records, dict[str, str]()
        for record in in_order(self._chosen(None), self._late):
            ahead = see(record)
            if record.messages:
                record = replace(record, messages=[_shared(message, texts) for message in record.messages])
            yield plain(record), ahead and ahead.plain()
        if isinstance(log, Log):
            unread = dict(log.unread.counts), log.unread.lines
            yield None, (self.replay.seen.late, log.read, unread, dict(log.notes), log.refused)

    def _told(self, late: int, read: int, unread: Any, notes: Any, refused: Any) -> None:
        self.replay.seen.late = late
        if isinstance(log := self.records, Log):
            log.read, log.unread = read, Unread(Counter(unread[0]), unread[1])
            log.notes, log.refused = Counter(notes), refused

    def _late(self) -> None:
        self.replay.seen.late += 1

    def _chosen(self, each: Callable[[], object] | None) -> Iterator[Record]:
        for record in self.records:
            if each is not None:
                each()
            early = self.since is not None and record.at is not None and record.at < self.since
            if not early and (self.until is None or record.at is None or record.at < self.until):
                yield record


def _shared(message: Message, texts: dict[str, str]) -> Message:
    """The same message with the very text that came before, if it did: of these only one crosses over at a time."""
    text = message.get("content")
    if not isinstance(text, str) or len(text) < _LONG:
        return message
    if len(texts) > _SHARED:
        texts.clear()
    return {**message, "content": texts.setdefault(text, text)}
