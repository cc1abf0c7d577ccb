"""The providers' prompt caches, by the providers' own rules.

Nothing here may be shared with llm_savings.prompt_cache: what that plans is checked against this.
Sources: https://docs.claude.com/en/docs/build-with-claude/prompt-caching,
https://platform.openai.com/docs/guides/prompt-caching (November 2026)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

from .count import openai_tokens

MINIMUM, STEP, MARKS = 1_024, 128, 4
LOOKBACK = 20
SHORT, LONG, HALF_HOUR = 300.0, 3_600.0, 1_800.0
IDLE = 600.0  # OpenAI keeps an automatic prefix five to ten minutes after its last use


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a prompt that may end a cached prefix.

    Attributes:
        content: What it says, without its cache mark.
        tokens: How many tokens it has, with what frames it.
        ttl: Seconds that the prefix up to here is to be kept; None: it carries no mark.
    """

    content: str
    tokens: int
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Where a prompt's tokens went: nowhere new, read from the cache, or written for a shorter or longer time."""

    fresh: int
    read: int = 0
    short: int = 0
    long: int = 0

    @property
    def total(self) -> int:
        """Tokens of the whole prompt."""
        return self.fresh + self.read + self.short + self.long


@dataclass(slots=True)
class PromptCache:
    """What every account's prompts have left behind.

    Attributes:
        ahead: Seconds that the provider's clock is ahead of the real one.
    """

    ahead: float = 0.0
    _held: dict[bytes, tuple[float, float]] = field(default_factory=dict[bytes, tuple[float, float]])

    def reset(self) -> None:
        """Forget everything."""
        self.ahead = 0.0
        self._held.clear()

    def of(self, account: str) -> Account:
        """The cache as one account sees it; accounts never meet."""
        return Account(self, account)

    def keep(self, key: bytes, ttl: float) -> None:
        """Hold a prefix, or hold it for longer."""
        self._held[key] = (self._now() + ttl, ttl)

    def touch(self, key: bytes) -> bool:
        """Whether a prefix is held; if so, its time begins anew."""
        until, ttl = self._held.get(key, (0.0, 0.0))
        if until <= self._now():
            return False
        self.keep(key, ttl)
        return True

    def _now(self) -> float:
        return time.monotonic() + self.ahead


@dataclass(frozen=True, slots=True)
class Account:
    """One account's share of a `PromptCache`."""

    cache: PromptCache
    name: str

    def marked(self, model: str, blocks: Sequence[Block], *, minimum: int, lookback: int | None) -> Split:
        """A prompt with marks: read up to the longest prefix that is held, written at every mark beyond it.

        Args:
            model: Part of the prefix.
            blocks: The whole prompt in order.
            minimum: A shorter prefix is not cached.
            lookback: How many blocks back from a mark a held prefix is looked for; None: any number.
        """
        keys = list(accumulate(blocks, _chained, initial=self._seed(model)))[1:]
        ends = list(accumulate(block.tokens for block in blocks))
        total = ends[-1] if ends else 0
        marks = [number for number, block in enumerate(blocks) if block.ttl is not None]
        if not marks:
            return Split(total)
        read = 0
        for mark in marks:
            first = 0 if lookback is None else max(0, mark - lookback + 1)
            found = next((number for number in range(mark, first - 1, -1) if self.cache.touch(keys[number])), None)
            read = max(read, 0 if found is None else ends[found])
        written, short, long = read, 0, 0
        for mark in marks:
            size, ttl = ends[mark] - written, blocks[mark].ttl or 0.0
            if size <= 0 or ends[mark] < minimum:
                continue
            written = ends[mark]
            short, long = (short, long + size) if ttl == LONG else (short + size, long)
            self.cache.keep(keys[mark], ttl)
        return Split(total - written, read, short, long)

    def automatic(self, model: str, text: str, prompt_tokens: int) -> int:
        """Tokens of a prompt that are read from the cache without any mark: from 1,024, in steps of 128."""
        if prompt_tokens < MINIMUM:
            return 0
        ids = openai_tokens().ids(text)
        steps = [str(ids[start : start + STEP]) for start in range(0, len(ids) - STEP + 1, STEP)]
        keys = list(accumulate((Block(step, STEP) for step in steps), _chained, initial=self._seed(model)))[1:]
        first = MINIMUM // STEP - 1
        held = len(list(takewhile(self.cache.touch, keys[first:])))
        for key in keys[first:]:
            self.cache.keep(key, IDLE)
        found = (held + first) * STEP if held else 0
        return min(found, prompt_tokens // STEP * STEP)

    def _seed(self, model: str) -> bytes:
        return _chained(b"", Block(f"{self.name}\0{model}", 0))


def _chained(before: bytes, block: Block) -> bytes:
    return hashlib.blake2b(block.content.encode(), key=before[:32], digest_size=32).digest()
