"""What one call that was made teaches: hashes and numbers, and never text. It can be kept, and learned elsewhere."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from llm_savings.prompt_cache.odds import FEATURES, Kind
from llm_savings.usage import Usage

if TYPE_CHECKING:
    from llm_savings.prompt_cache.plan import Plan

_FORM = 3
_MOST = 4  # no tokenizer makes more of a text than its bytes, which are at most four of what `estimate` says
_FRAME = 16  # tokens that may frame a block: a message's role, a call's name
Observed = tuple[Kind, tuple[float, ...], tuple[int, ...], int | None, float]
"""What is watched: the question, the facts, the blocks (longest first), the one it goes on from, tokens at stake."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one call teaches.

    Attributes:
        model: The model, as asked for.
        at: When it was sent, in seconds since 1970 (UTC).
        keys: The hashes of its prefixes that count, shortest first.
        end: Which of them a prompt ended with, or -1.
        turns: How many requests of its conversation came before.
        watched: Prefixes whose return is waited for.
        held: Which of `keys` the provider holds from then on and for how many seconds; 0 for what it refused.
        refused: Tokens of the longest mark, where nothing was cached; 0 for one whose length was not the reason; None
            where something was, or no mark was sent.
        paid: What its marks cost beyond plain input, in tokens of uncached input.
        gained: What they brought, in the same.
        tokens: The prompt's tokens.
        ratio: The provider's count of the prompt relative to ours, or None where it did not say.
        long: The first of `keys` that has, by the provider's own count, as many tokens as it caches; -1 for none.
    """

    model: str
    at: float
    keys: Sequence[int]
    end: int = -1
    turns: int = 0
    watched: tuple[Observed, ...] = ()
    held: tuple[tuple[int, float], ...] = ()
    refused: float | None = None
    paid: float = 0.0
    gained: float = 0.0
    tokens: float = 0.0
    ratio: float | None = None
    long: int = -1


def lesson_of(plan: Plan, usage: Usage | None, *, sent: bool) -> Lesson:
    """What a call teaches; see `Memory.record`."""
    prompt, terms = plan.prompt, plan.terms
    keys: Sequence[int] = prompt.keys
    if not terms.marked:  # of what the provider finds by itself, only how often the shared text comes counts
        keys = keys[prompt.shared :][:1] if prompt.shared >= 0 else []
    ratio = usage.prompt / max(prompt.tokens[-1], 1) if usage is not None and usage.prompt and prompt.tokens else None
    held = tuple((block, life.seconds) for block, life in plan.written) if sent and terms.marked else ()
    refused = None
    paid, gained, tokens = plan.account
    if usage is not None and sent:
        paid, gained = _billed(plan, usage)
        tokens = float(usage.prompt)
        if plan.marks and usage == usage.uncached():
            # A short prefix is below the provider's minimum after all; a long one has other reasons.
            longest = max(mark.tokens for mark in plan.marks)
            refused = float(longest) if longest < 3 * terms.minimum else 0.0
            held = tuple((block, 0.0) for block, _ in held)
    if not sent or (plan.own and not plan.marks):  # what the caller's own marks cost is the caller's
        paid = gained = tokens = 0.0
    end = plan.end if keys and terms.marked else -1
    long = _long(plan, usage) if terms.marked and usage is not None else -1
    return Lesson(
        plan.model, plan.at, keys, end, plan.turns, plan.watched, held, refused, paid, gained, tokens, ratio, long
    )  # fmt: skip


def _long(plan: Plan, usage: Usage) -> int:
    """The first block up to which there are as many tokens as are cached, whatever the rest of the prompt has."""
    tokens, last = plan.prompt.tokens, len(plan.prompt) - 1

    def least(block: int) -> int:
        return usage.prompt - _MOST * (tokens[-1] - tokens[block]) - _FRAME * (last - block)

    blocks = range(max(plan.prompt.opaque, 0), last + 1)
    found = bisect_left(blocks, plan.terms.minimum, key=least)
    return blocks[found] if found < len(blocks) else -1


def _billed(plan: Plan, usage: Usage) -> tuple[float, float]:
    """What the provider's bill says was paid for writes beyond plain input, and what reads brought."""
    long = {life.name == "1h": life.write - 1.0 for life in plan.terms.lives}
    short, hour = long.get(False, 0.0), long.get(True, 0.0)
    paid = max(0.0, usage.cache_write_5m * short + usage.cache_write_1h * hour)
    return paid, usage.cache_read * (1.0 - plan.terms.read)


def packed(lesson: Lesson) -> bytes:
    """A lesson as bytes: JSON, a line feed, and the hashes, eight bytes each."""
    facts = [
        _FORM,
        lesson.model,
        lesson.at,
        lesson.end,
        lesson.turns,
        lesson.watched,
        lesson.held,
        lesson.refused,
        [lesson.paid, lesson.gained, lesson.tokens],
        lesson.ratio,
        lesson.long,
    ]
    return orjson.dumps(facts) + b"\n" + struct.pack(f">{len(lesson.keys)}Q", *lesson.keys)


def unpacked(raw: bytes) -> Lesson:
    """The lesson in these bytes.

    Raises:
        ValueError: They hold none that this version understands.
    """
    try:
        text, _, hashes = raw.partition(b"\n")
        keys = struct.unpack(f">{len(hashes) // 8}Q", hashes)
        form, model, at, end, turns, watched, held, refused, (paid, gained, tokens), ratio, long = orjson.loads(text)
        if form != _FORM or not isinstance(model, str) or (ratio is not None and not 1e-6 < ratio < 1e6):
            raise ValueError("another form")

        def block(value: Any) -> int:
            if not 0 <= value < len(keys):
                raise ValueError("no such block")
            return int(value)

        return Lesson(
            model,
            float(at),
            keys,
            -1 if end < 0 else block(end),
            int(turns),
            tuple(
                (
                    _kind(kind),
                    _facts(facts),
                    tuple(map(block, b)),
                    None if on is None else block(on),
                    max(0.0, float(size)),
                )
                for kind, facts, b, on, size in watched
            ),
            tuple((block(b), max(0.0, float(seconds))) for b, seconds in held),
            None if refused is None else float(refused),
            float(paid),
            float(gained),
            float(tokens),
            None if ratio is None else float(ratio),
            -1 if long < 0 else block(long),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(f"no lesson: {error}") from error


def _kind(value: Any) -> Kind:
    if value not in ("leaf", "trunk"):
        raise ValueError("no such question")
    return value


def _facts(values: Sequence[Any]) -> tuple[float, ...]:
    if len(values) != len(FEATURES):
        raise ValueError("other facts")
    return tuple(map(float, values))
