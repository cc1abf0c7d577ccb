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
from llm_savings.audit.order import UnsortedError, as_they_come, in_order
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
        each: Called once a call, when it is given.
        since: Only calls from then on.
        until: Only calls before then.
        sort: Whether they are sorted first; else it is seen on the way that they have to be.
        given: The most calls that were given at one time.
    """

    records: Iterable[Record]
    each: Callable[[], object] | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: bool = False
    given: int = 0

    def calls(self, replay: Replay) -> Iterator[tuple[Record, Ahead | None]]:
        """The calls for a replay, from the first on.

        Raises:
            UnsortedError: They are to be sorted first, for another replay.
        """
        found = self._abreast(replay) if self._pays() else ((record, None) for record in self._in_order(replay))
        for number, one in enumerate(found, 1):
            if number > self.given:
                self.given = number
                if self.each is not None:
                    self.each()
            yield one

    def _pays(self) -> bool:
        """Whether there is so much to be read that another process is worth its start: prompts, and many."""
        log = self.records
        much = isinstance(log, Log) and log.size > _MUCH and frames.can_fork()
        return much and any(record.messages for record in islice(log, _LOOKED_AT))

    def _abreast(self, replay: Replay) -> Iterator[tuple[Record, Ahead | None]]:
        """With another process, which reads. What ends that one too early, this one meets when it goes on by itself."""
        given, texts = 0, _Texts()
        try:
            for (values, ahead), vector in frames.abreast(partial(self._plain, replay), meanwhile=partial(count, "")):
                if values is not None:
                    given += 1
                    yield texts.received(of_plain(values)), ahead and Ahead.of(ahead, vector)
                elif ahead is None:
                    raise UnsortedError
                else:
                    self._told(replay, *ahead)
                    return
        except ChildProcessError:
            replay.seen.late = 0
        for number, record in enumerate(self._in_order(replay)):
            ahead = replay.foresight.read(record)  # from the first on: routing remembers conversations
            if number >= given:
                yield record, ahead

    def _plain(self, replay: Replay) -> Iterator[tuple[Any, bytes]]:
        """In the other process: what `_abreast` makes all of again, and at last what is told of the log."""
        see, log, texts = replay.foresight.read, self.records, _Texts()
        try:
            for record in self._in_order(replay):
                ahead, vector = found.plain() if (found := see(record)) is not None else (None, b"")
                yield (plain(texts.sent(record)), ahead), vector
        except UnsortedError:
            yield (None, None), b""
        if isinstance(log, Log):
            unread = dict(log.unread.counts), log.unread.lines
            yield (None, (replay.seen.late, log.read, unread, dict(log.notes), log.refused)), b""

    def _told(self, replay: Replay, late: int, read: int, unread: Any, notes: Any, refused: Any) -> None:
        replay.seen.late = late
        if isinstance(log := self.records, Log):
            log.read, log.unread = read, Unread(Counter(unread[0]), unread[1])
            log.notes, log.refused = Counter(notes), refused

    def _in_order(self, replay: Replay) -> Iterator[Record]:
        def late() -> None:
            replay.seen.late += 1

        return (in_order if self.sort else as_they_come)(self._chosen(), late)

    def _chosen(self) -> Iterator[Record]:
        for record in self.records:
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
