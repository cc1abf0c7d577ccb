"""What the providers' prompt caches would have held for past calls: found by themselves, or marked by the planner."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from llm_savings.audit.records import Record
from llm_savings.pricing import PriceBook
from llm_savings.prompt_cache.memory import Memory
from llm_savings.prompt_cache.plan import plan_prompt
from llm_savings.prompt_cache.prompt import Prompt, read_prompt
from llm_savings.prompt_cache.requests import text_of
from llm_savings.prompt_cache.rules import Life, Terms
from llm_savings.prompt_cache.simulate import Sent, served
from llm_savings.tokens import count
from llm_savings.usage import Usage

IDLE = (300.0, 600.0, 3600.0)
"""Seconds without use after which an automatic cache lets go: at worst, usually, at best. OpenAI: "generally 5 to 10
minutes of inactivity", "up to one hour" (https://platform.openai.com/docs/guides/prompt-caching)."""

_STEP = 128  # characters that are compared at once
_MOST = 200_000  # prefixes remembered, of either kind
_NEVER = float("-inf")


class Reads(NamedTuple):
    """Tokens read at worst, usually and at best."""

    low: int = 0
    expected: int = 0
    high: int = 0


class Beginning(NamedTuple):
    """A prompt as an automatic cache compares it.

    Attributes:
        keys: A hash of every beginning, a step of characters apart.
        record: The call.
    """

    keys: Sequence[int]
    record: Record

    @classmethod
    def of(cls, record: Record) -> Beginning:
        """That of a call."""
        text, key, keys = _text(record), 0, list[int]()
        for start in range(0, len(text) - _STEP + 1, _STEP):
            key = hash((key, text[start : start + _STEP]))
            keys.append(key)
        return cls(keys, record)


def _text(record: Record) -> str:
    """A call's prompt as one text; tools and the answer's schema stand before the messages."""
    head = [text_of(tool) for tool in record.tools]
    head.append(text_of(record.parameters.get("response_format") or ""))
    return "\0".join([*head, *(f"{m.get('role')}\1{text_of(m.get('content'))}" for m in record.messages or ())])


class Automatic:
    """A cache that a provider keeps by itself: the longest beginning that came before, from a minimum, in steps."""

    def __init__(self) -> None:
        self._used: dict[str, dict[int, float]] = {}  # the model and the account -> beginning -> when
        self._count = 0
        self._counted: dict[tuple[int, bool], int] = {}

    def read(self, begins: Beginning, whose: str, terms: Terms, prompt: int, at: float) -> Reads:
        """What is read of a prompt; it is remembered.

        Args:
            begins: The prompt.
            whose: The model and the account.
            terms: The provider's rules.
            prompt: Its tokens, as the provider counted them.
            at: Seconds since 1970.
        """
        if prompt < terms.minimum:
            return Reads()
        used = self._used.setdefault(whose, {})
        # Whoever used a beginning used all that are shorter, so that none of them was used longer ago.
        first = [bisect_left(begins.keys, True, key=lambda key: at - used.get(key, _NEVER) > idle) for idle in IDLE]
        self._count -= len(used)
        used.update(dict.fromkeys(begins.keys, at))
        self._count += len(used)
        if self._count > _MOST:
            for name, some in list(self._used.items()):
                if kept := {key: last for key, last in some.items() if at - last <= IDLE[-1]}:
                    self._used[name] = kept
                else:
                    del self._used[name]
            self._count = sum(map(len, self._used.values()))
        tokens = {steps: self._tokens(begins, steps, terms, prompt) for steps in set(first)}
        return Reads(*(tokens[steps] for steps in first))

    def _tokens(self, begins: Beginning, steps: int, terms: Terms, prompt: int) -> int:
        if not steps:
            return 0
        end, key = steps * _STEP, (begins.keys[steps - 1], terms.key)
        if (tokens := self._counted.get(key)) is None:
            # Where we have the provider's tokenizer, exactly; else by the share of the prompt.
            text = _text(begins.record)
            tokens = count(text[:end], terms.model) if terms.key else prompt * end // len(text)
            if len(self._counted) > _MOST:
                self._counted.clear()
            self._counted[key] = tokens
        whole = min(tokens, prompt) // terms.step * terms.step
        return whole if whole >= terms.minimum else 0


class Marked:
    """The caches of providers that want marks, which the planner sets as it would have then."""

    def __init__(self, prices: PriceBook) -> None:
        self.memory = Memory(prices=prices)
        self.memory.seed("")  # read once what the hashes start from
        self._held: dict[int, float] = {}
        self._last = _NEVER

    def usage(self, record: Record, model: str, terms: Terms, used: Usage, at: float) -> Usage:
        """What the call consumes with the planner's marks; the prompt is remembered.

        Args:
            record: The call; it has messages.
            model: The model that it goes to.
            terms: Its rules.
            used: What it consumed, as the provider counted it.
            at: Seconds since 1970; never earlier than the call before.
        """
        plain = used.uncached()
        memory = self.memory.scoped(record.tenant or "")
        options = record.parameters
        prompt = read_prompt(record.messages or (), record.tools, seed=memory.seed(terms.model), options=options)
        plan = plan_prompt(prompt, terms, memory, now=at, model=model)
        sized = _scaled(prompt, plain.input)
        marks = [(block, life) for block, life in plan.written if sized.tokens[block] >= terms.minimum]
        read, written = served(Sent(at, sized, plain.input), marks, terms, self._held)
        found = _split(plain, read, written)
        memory.record(plan, found, at)
        if len(self._held) > _MOST:
            self._held = {key: until for key, until in self._held.items() if until > at}
        return found


def _scaled(prompt: Prompt, tokens: int) -> Prompt:
    """The same prompt with as many tokens as the provider counted."""
    estimated = prompt.tokens[-1] if prompt.tokens else 0
    return replace(prompt, tokens=[end * tokens // max(estimated, 1) for end in prompt.tokens])


def _split(plain: Usage, read: int, written: list[tuple[int, Life]]) -> Usage:
    read = min(read, plain.input)
    long = sum(size for size, life in written if life.seconds >= 3600)
    short = sum(size for size, life in written if life.seconds < 3600)
    return with_cached(plain, read, short, long)


def with_cached(plain: Usage, read: int, short: int = 0, long: int = 0) -> Usage:
    """A usage with nothing cached, with so many tokens of its input read or written; never more than it has."""
    read = min(read, plain.input)
    short = min(short, plain.input - read)
    long = min(long, plain.input - read - short)
    if not (read or short or long):
        return plain
    counts: dict[str, Any] = plain.as_dict()
    counts |= {"input": plain.input - read - short - long}
    return Usage(**counts | {"cache_read": read, "cache_write_5m": short, "cache_write_1h": long})
