"""What a log does not tell, and what was assumed, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from llm_savings.audit.choices import Choices
from llm_savings.audit.reading import Log
from llm_savings.audit.seen import Seen
from llm_savings.report.texts import Said, recognised, say

_FILES = 3  # whose lines are named


def notes(seen: Seen, choices: Choices, log: Log | None) -> Iterator[Said]:
    """What a reader has to know of an audit.

    Args:
        seen: What the replay came to.
        choices: What was tried.
        log: Where the calls come from, where they were read.
    """
    if lacking := seen.blind.get("prompt"):
        yield say("audit.no_prompt", lacking, seen.priced)
    if lacking := seen.blind.get("answer"):
        yield say("audit.no_answer", lacking)
    if lacking := seen.blind.get("time"):
        yield say("audit.no_time", lacking)
    if seen.late:
        yield say("audit.late", seen.late)
    if seen.failed:
        yield say("audit.failed", seen.failed)
    if seen.overhead:
        yield say("audit.overhead", f"${seen.overhead:f}")
    for (small, provider), times in seen.elsewhere.items():
        yield say("audit.elsewhere", times, small, provider)
    if seen.unpriced:
        yield say("audit.unpriced", seen.unpriced)
    if seen.hits:
        yield say("audit.hits", seen.hits)
    if seen.logged and seen.logged != seen.spent:
        yield say("audit.logged", f"${seen.logged:f}", f"${seen.spent:f}")
    if "batch" in choices.strategies and not seen.waited:
        yield say("audit.no_batch")
    if log is not None:
        for note, times in log.notes.items():
            yield say("audit.noted", times, recognised(note, "noted"))
        for path, why in log.refused.items():
            yield say("audit.refused", path, why)
        for why, times in log.unread.counts.items():
            yield say("audit.unread", times, recognised(why, "unread"), _lines(log.unread.lines.get(why, {})))


def _lines(found: Mapping[str, list[int]]) -> str:
    """The first lines of each file."""
    named = [f"{path}: {', '.join(map(str, lines))}" for path, lines in islice(found.items(), _FILES)]
    return "; ".join(named) + (" …" if len(found) > _FILES else "")
