"""`audit`: what the strategies would have saved of past calls, before anything is adopted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from llm_savings import settings
from llm_savings.attribution import LADDER, Attribution
from llm_savings.audit.choices import Choices
from llm_savings.audit.notes import notes
from llm_savings.audit.order import UnsortedError
from llm_savings.audit.reading import Log, read_logs
from llm_savings.audit.records import Record
from llm_savings.audit.replay import Replay
from llm_savings.audit.seen import Seen
from llm_savings.audit.working import Reading
from llm_savings.errors import LogFormatError
from llm_savings.evidence import Strategy
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT
from llm_savings.prompt_cache import Finding, lint
from llm_savings.report.money import dollars
from llm_savings.report.texts import Said

_ZERO = Decimal(0)
_LINTED = 500  # prompts that the linter looks at


class Span(NamedTuple):
    """USD saved at worst, as expected, and at best."""

    low: Decimal
    expected: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audit:
    """What the strategies would have saved. All amounts are USD, exact.

    Attributes:
        attribution: From what the calls would have cost with nothing saved, down to what they would have cost with the
            strategies; each call is replayed once through all of them, so overlaps are counted once.
        spans: For each strategy, how much of its credit is sure. Routing at worst: answers of the small model that
            probably do not do are asked again of the strong one. Semantic cache at worst: only the same words. Output
            at worst: nothing. Prompt cache: providers hold what is not marked for 5 minutes at worst, an hour at best.
        seen: Counts: calls, failed, unpriced, routed, served by the cache, ...
        max_error: The share of lookups that the cache may answer wrongly.
        findings: What keeps prompts from being cached, dearest first.
        unread: Reason -> how many entries of the log could not be read; the first lines of them are in `notes`.
        notes: What the log does not tell, and what was assumed: sentences, in English as `str`, or by `text("ko")`.
    """

    attribution: Attribution
    spans: Mapping[Strategy, Span]
    seen: Seen
    max_error: float
    findings: tuple[Finding, ...] = ()
    unread: Mapping[str, int]
    notes: tuple[Said, ...] = ()

    @property
    def spent(self) -> Decimal:
        """What the calls cost as they were, by today's price book."""
        return self.seen.spent

    @property
    def saved(self) -> Span:
        """What would have been saved of `spent`; together, from the sums of the strategies' spans."""
        expected = EXACT.subtract(self.spent, self.attribution.actual)
        down = sum((EXACT.subtract(span.expected, span.low) for span in self.spans.values()), _ZERO)
        up = sum((EXACT.subtract(span.high, span.expected) for span in self.spans.values()), _ZERO)
        return Span(EXACT.subtract(expected, down), expected, EXACT.add(expected, up))

    @property
    def priced_share(self) -> float:
        """Share of the calls that the figures cover."""
        covered = self.attribution.calls + self.seen.hits
        return covered / self.seen.calls if self.seen.calls else 0.0

    @property
    def false_hits(self) -> float:
        """Share of the lookups that the cache answers wrongly, at most.

        Not checked on these answers: the error that the cache is calibrated to keep to, and no more than it answers
        with what was asked in other words.
        """
        seen = self.seen
        return min(self.max_error, seen.by_meaning / seen.lookups) if seen.lookups else 0.0

    @property
    def doubtful(self) -> float:
        """Share of the routed calls that may need the larger model: the router's estimate, from their prompts alone."""
        return self.seen.doubt / self.seen.routed if self.seen.routed else 0.0

    def document(self) -> dict[str, Any]:
        """All of it for machines; see `llm_savings.audit.show`."""
        from llm_savings.audit.show import document

        return document(self)

    def __repr__(self) -> str:
        low, expected, high = map(dollars, self.saved)
        spent = f"{self.seen.calls:,} calls, {dollars(self.spent)} spent"
        return f"Audit({spent}, {expected} of it could have been saved: {low} at worst, {high} at best)"

    def _repr_html_(self) -> str:
        from llm_savings.audit.show import in_notebook

        return in_notebook(self)


def audit(
    logs: str | Path | Iterable[str | Path] | Iterable[Record],
    *,
    choices: Choices | None = None,
    prices: PriceBook | None = None,
    each: Callable[[], object] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Audit:
    """Replay past calls through the strategies. Nothing leaves this machine.

    Args:
        logs: Files or folders of logs in any of the formats of `read_logs`, what `read_logs` gave, or records.
        choices: What is tried.
        prices: The price book; LiteLLM's bundled map by default.
        each: Called once a record, for a progress bar.
        since: Only calls from then on (aware).
        until: Only calls before then (aware).

    Raises:
        LogFormatError: There is nothing in the logs that can be read.

    Example:
        >>> found = audit("spend_logs.jsonl.gz")                               # doctest: +SKIP
        >>> found.spent, found.saved.expected                                  # doctest: +SKIP
    """
    wanted, book = choices or Choices(), prices or PriceBook()
    records = _records(logs)
    reading = Reading(records, each, since, until)
    with settings.unswitched():
        try:
            seen, prompts = _replayed(reading, wanted, book)
        except UnsortedError:
            reading.sort = True
            seen, prompts = _replayed(reading, wanted, book)
    if not seen.calls:
        raise LogFormatError(_nothing_in(records))
    unread = dict(records.unread.counts) if isinstance(records, Log) else {}
    return Audit(
        attribution=seen.attribution,
        spans=_spans(seen),
        seen=seen,
        max_error=wanted.max_error,
        findings=_findings(prompts, book),
        unread=unread,
        notes=tuple(notes(seen, wanted, records if isinstance(records, Log) else None)),
    )


def _records(logs: Any) -> Iterable[Record]:
    if isinstance(logs, (str, Path)):
        return read_logs([logs])
    if isinstance(logs, Log):
        return logs
    found = list(logs)
    return found if not found or isinstance(found[0], Record) else read_logs(found)


def _replayed(reading: Reading, choices: Choices, prices: PriceBook) -> tuple[Seen, list[Record]]:
    """What the calls came to, and some of those with a prompt."""
    prompts: list[Record] = []
    with closing(Replay(choices, prices)) as replay:
        for record, ahead in reading.calls(replay):
            replay.take(record, ahead)
            if record.messages and len(prompts) < _LINTED:
                prompts.append(record)
    return replay.seen, prompts


def _nothing_in(records: Iterable[Record]) -> str:
    said = [f"{path}: {why}" for path, why in records.refused.items()] if isinstance(records, Log) else []
    unread = [f"{count:,} x {why}" for why, count in records.unread.counts.items()] if isinstance(records, Log) else []
    return "; ".join(["there is no call in the logs", *said, *unread])


def _spans(seen: Seen) -> dict[Strategy, Span]:
    credits = seen.credits
    return {
        name: Span(
            EXACT.subtract(credits[name], seen.less.get(name, _ZERO)),
            credits[name],
            EXACT.add(credits[name], seen.more.get(name, _ZERO)),
        )
        for name in LADDER
        if name in credits
    }


def _findings(prompts: list[Record], prices: PriceBook) -> tuple[Finding, ...]:
    asked = [
        {"model": one.model, "messages": list(one.messages or ()), **({"tools": list(one.tools)} if one.tools else {})}
        for one in prompts
    ]
    found = lint(asked, prices=prices) if asked else []
    return tuple(sorted(found, key=lambda one: (one.usd_per_1000 or _ZERO) * one.count, reverse=True)[:5])
