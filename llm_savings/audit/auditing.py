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
from llm_savings.semantic_cache.match.bounds import at_most

_ZERO = Decimal(0)
_LINTED = 500  # prompts that the linter looks at


class Span(NamedTuple):
    """USD saved at worst, as expected, and at best."""

    low: Decimal
    expected: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
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
        unread: Reason -> lines of the log that could not be read; `lines` of them in `notes`.
        notes: What the log does not tell, and what was assumed, in sentences.
    """

    attribution: Attribution
    spans: Mapping[Strategy, Span]
    seen: Seen
    max_error: float
    findings: tuple[Finding, ...] = ()
    unread: Mapping[str, int]
    notes: tuple[str, ...] = ()

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
        """Share of the calls looked up that the cache may have answered wrongly, at most."""
        return self.max_error if self.seen.by_meaning else 0.0

    def document(self) -> dict[str, Any]:
        """All of it for machines; see `llm_savings.audit.show`."""
        from llm_savings.audit.show import document

        return document(self)

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
        notes=tuple(_notes(seen, records, wanted)),
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


def _notes(seen: Seen, records: Iterable[Record], choices: Choices) -> Iterable[str]:
    covered = seen.priced
    blind = seen.blind
    if lacking := blind.get("prompt"):
        yield (
            f"{lacking:,} of {covered:,} calls have no prompt in the log: what routing, the semantic cache and the "
            "prompt cache would have done with them cannot be known, and is not in here."
        )
    if lacking := blind.get("answer"):
        yield f"{lacking:,} calls have no answer in the log: no shorter one is known, and no hit could be given."
    if lacking := blind.get("time"):
        yield f"{lacking:,} calls have no time: they are taken in the log's order, and prompt caches are left out."
    if seen.late:
        yield f"{seen.late:,} calls were out of order in the log; they were sorted by their times."
    if seen.failed:
        yield f"{seen.failed:,} calls have no token counts (most failed); they may have cost something."
    if seen.overhead:
        yield f"${seen.overhead:f} went on calls that failed: an overhead, of which no strategy takes anything off."
    for (small, provider), times in seen.elsewhere.items():
        yield (
            f"{times:,} calls go to {small} at its maker's price, an assumption: its price at {provider} is not known."
        )
    if seen.unpriced:
        yield f"{seen.unpriced:,} calls used something without a known price."
    if seen.hits:
        yield f"{seen.hits:,} calls were answered by a cache already then."
    if seen.logged and seen.logged != seen.spent:
        yield f"The log itself says ${seen.logged:f}; today's price book says ${seen.spent:f}."
    if "batch" in choices.strategies and not seen.waited:
        yield "No call is labelled as one that can wait; say which can, and a batch takes half their price."
    if seen.routed:
        yield (
            f"Of {seen.routed:,} calls that a smaller model would have got, about {seen.doubt:,.0f} may need the "
            "larger one, by their prompts alone. `llm-savings route calibrate` with judged answers knows more."
        )
    if seen.by_meaning:
        bound = at_most(0, seen.by_meaning)
        yield (
            f"{seen.by_meaning:,} of {seen.served:,} cached answers are to a question in other words; at most "
            f"{choices.max_error:.1%} of lookups are meant to be wrong. Unchecked, up to {bound:.0%} of these could be."
        )
    if isinstance(records, Log):
        for note, times in records.notes.items():
            yield f"{times:,} x {note}."
        for path, why in records.refused.items():
            yield f"{path} was not read (to its end): {why}."
        for why, times in records.unread.counts.items():
            yield f"{times:,} lines were not read: {why}."
