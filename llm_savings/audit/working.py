"""The calls of an audit on their way to the replay: read by this process, or by another one that works ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, cast

from llm_savings.audit import frames
from llm_savings.audit.ahead import Ahead
from llm_savings.audit.order import in_order
from llm_savings.audit.reading import Log, Unread
from llm_savings.audit.records import Message, Record, of_plain, plain
from llm_savings.audit.replay import Replay
from llm_savings.tokens import count

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
        given, texts = 0, _Texts()
        try:
            for (values, ahead), vector in frames.abreast(self._plain, meanwhile=partial(count, "")):
                if values is None:
                    self._told(*ahead)
                    return
                given += 1
                if self.each is not None:
                    self.each()
                record = of_plain(values)
                yield texts.received(record), ahead and Ahead.of(ahead, vector)
        except ChildProcessError:
            self.replay.seen.late = 0
        for number, record in enumerate(in_order(self._chosen(None), self._late)):
            ahead = self.replay.foresight.read(record)  # from the first on: routing remembers conversations
            if number >= given:
                if self.each is not None:
                    self.each()
                yield record, ahead

    def _plain(self) -> Iterator[tuple[Any, bytes]]:
        """In the other process: what `_abreast` makes all of again, and at last what is told of the log."""
        see, log, texts = self.replay.foresight.read, self.records, _Texts()
        for record in in_order(self._chosen(None), self._late):
            ahead, vector = found.plain() if (found := see(record)) is not None else (None, b"")
            yield (plain(texts.sent(record)), ahead), vector
        if isinstance(log, Log):
            unread = dict(log.unread.counts), log.unread.lines
            yield (None, (self.replay.seen.late, log.read, unread, dict(log.notes), log.refused)), b""

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


class _Texts:
    """Long texts that come again, as instructions do: each crosses over once, then its number does."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def sent(self, record: Record) -> Record:
        """The same call with numbers in place of texts, where they came before."""
        if not record.messages:
            return record
        return replace(record, messages=[self._numbered(message) for message in record.messages])

    def received(self, record: Record) -> Record:
        """The call that `sent` got."""
        for message in record.messages or ():
            content = message.get("content")
            if isinstance(content, dict):
                cast("dict[str, Any]", message)["content"] = self._text(**cast("dict[str, Any]", content))
        return record

    def _numbered(self, message: Message) -> Message:
        text = message.get("content")
        if not isinstance(text, str) or len(text) < _LONG:
            return message
        if (number := self._numbers.get(text)) is not None:
            return {**message, "content": {"number": number, "text": None}}
        if len(self._numbers) == _SHARED:
            self._numbers.clear()
        number = self._numbers[text] = len(self._numbers)
        return {**message, "content": {"number": number, "text": text}}

    def _text(self, number: int, text: str | None) -> str:
        if text is not None:
            del self._texts[number:]
            self._texts.append(text)
        return self._texts[number]
