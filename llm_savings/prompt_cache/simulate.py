"""`simulate`: what a policy of marking would have cost on traffic of the past, at a model's own prices and rules."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast, get_args

from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.prompt_cache.memory import Memory
from llm_savings.prompt_cache.plan import plan_prompt
from llm_savings.prompt_cache.prompt import Place, Prompt, read_prompt
from llm_savings.prompt_cache.rules import Life, Terms
from llm_savings.usage import Usage

Policy = Literal["planner", "system+tail", "clairvoyant", "none"]
"""planner: `plan_breakpoints`. system+tail: marks at the end of the system text and of the prompt, as hosts' helpers
set them. clairvoyant: every token that is sent again in time is written, and no other; a bound that no policy reaches,
as it knows what comes and has no limit of four marks. none: nothing is cached."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the input of some traffic would have cost.

    Attributes:
        policy: The policy's name.
        requests: How many there were.
        tokens: Input tokens in all.
        read: Tokens read from the cache.
        written: Tokens written to it.
        usd: What the input cost.
        uncached_usd: What it would have cost with nothing cached.
    """

    policy: str
    requests: int
    tokens: int
    read: int
    written: int
    usd: Decimal
    uncached_usd: Decimal

    @property
    def relative(self) -> float:
        """Cost relative to no caching: 1.0 is as dear, 0.6 saves 40%."""
        return float(self.usd / self.uncached_usd) if self.uncached_usd else 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of the past: when (seconds), its blocks, and its tokens as the provider counted them."""

    at: float
    prompt: Prompt
    tokens: int


Marks = Sequence[tuple[int, Life]]
PolicyFunction = Callable[[Sent, Terms], Marks]


def simulate(
    trace: str | Path | Iterable[Mapping[str, Any]],
    policy: Policy | PolicyFunction = "planner",
    model: str = "claude-sonnet-4-5",
    *,
    ttls: Sequence[str] | None = None,
    memory: Memory | None = None,
    block_tokens: int = 512,
) -> Simulation:
    """Replay traffic under a policy, by the model's rules: minimum, lookback, times to live, prices.

    Args:
        trace: A JSONL file (`.gz` too) or mappings, in order of time. Either traces with hashes of prefix blocks
            (`timestamp` in ms, `input_length`, `hash_ids`), or logged calls (`messages`, and if known `tools` and
            `system`; `timestamp` in ms or `startTime` in seconds).
        policy: A policy's name, or a function of a request and the terms that gives blocks to mark, with lives.
        model: Whose prices and rules apply.
        ttls: The times to live that may be bought, such as ("5m",); by default all.
        memory: A memory that knows earlier traffic; by default a new one.
        block_tokens: Tokens of a hashed block.

    Raises:
        ConfigError: The policy has no such name, or the model takes no marks.
        LogFormatError: A line of the trace is neither.

    Example:
        >>> rows = [{"timestamp": 1000 * n, "input_length": 2048, "hash_ids": [1, 2, 3, 4]} for n in range(3)]
        >>> simulate(rows, "system+tail", ttls=("5m",)).relative < 0.6
        True
    """
    keeper = memory or Memory(ttls=ttls, capacity=1_000_000)
    terms = keeper.terms(model)
    if not terms.lives or not terms.marked:
        raise ConfigError(f"model is {model!r}, which takes no marks: {terms.why}")
    requests = list(_requests(trace, block_tokens))
    if policy == "clairvoyant":
        return _clairvoyant(requests, terms)
    own: dict[str, PolicyFunction] = {"planner": _none, "system+tail": _system_and_tail, "none": _none}
    if not callable(policy) and policy not in own:
        raise ConfigError(f"policy is {policy!r}; expected {', '.join(map(repr, get_args(Policy)))} or a function")
    chosen = policy if callable(policy) else own[policy]
    name = str(getattr(policy, "__name__", policy))
    held: dict[int, float] = {}
    total = read = written = 0
    cost = 0.0
    for sent in requests:
        plan = plan_prompt(sent.prompt, terms, keeper, now=sent.at, model=model) if policy == "planner" else None
        wanted = plan.written if plan else chosen(sent, terms)
        marks = [(block, life) for block, life in wanted if sent.prompt.tokens[block] >= terms.minimum]
        got, dear = served(sent, marks, terms, held)
        new = sum(count for count, _ in dear)
        if plan:
            hour = sum(count for count, life in dear if life.name == "1h")
            usage = Usage(sent.tokens - got - new, got, cache_write_5m=new - hour, cache_write_1h=hour)
            keeper.record(plan, usage, sent.at)
        total, read, written = total + sent.tokens, read + got, written + new
        cost += sent.tokens - got - new + got * terms.read + sum(count * life.write for count, life in dear)
    return Simulation(
        name, len(requests), total, read, written, Decimal(round(cost)) * terms.usd, total * terms.usd
    )  # fmt: skip


def served(sent: Sent, marks: Marks, terms: Terms, held: dict[int, float]) -> tuple[int, list[tuple[int, Life]]]:
    """Tokens read, and tokens written with each life, as a provider bills them.

    Args:
        sent: The request; `held` is brought up to date with what it leaves behind.
        marks: Blocks that are marked, and for how long.
        terms: The provider's rules.
        held: Until when the provider holds each prefix, in seconds on the requests' own clock.
    """
    keys, tokens, at = sent.prompt.keys, sent.prompt.tokens, sent.at
    hit = -1
    for block, _ in marks:
        for shorter in range(block, max(-1, block - max(1, terms.lookback)), -1):
            if held.get(keys[shorter], 0.0) > at:
                hit = max(hit, shorter)
                break
    before = tokens[hit] if hit >= 0 else 0
    got, dear = before, list[tuple[int, Life]]()
    for block, life in sorted(marks, key=lambda mark: mark[0]):
        if block > hit:
            dear.append((tokens[block] - before, life))
            before = tokens[block]
        held[keys[block]] = max(held.get(keys[block], 0.0) if block <= hit else 0.0, at + life.seconds)
    return got, dear


def _system_and_tail(sent: Sent, terms: Terms) -> Marks:
    markable = [block for block, able in enumerate(sent.prompt.markable) if able]
    ends = {sent.prompt.shared, markable[-1]} if markable else set[int]()
    return [(block, terms.lives[-1]) for block in sorted(ends) if block >= 0]


def _none(sent: Sent, terms: Terms) -> Marks:
    del sent, terms
    return ()


def _clairvoyant(requests: Sequence[Sent], terms: Terms) -> Simulation:
    """Each block by itself: written when it comes again within the life, read while it lives, plain otherwise.

    What is shorter than the minimum is not read either, however often it comes.
    """
    best: Simulation | None = None
    for life in terms.lives:
        again: dict[int, float] = {}
        comes: list[int] = []
        for sent in reversed(requests):
            keys = sent.prompt.keys
            times = (again.get(key) for key in keys)
            comes.append(next((n for n, t in enumerate(times) if t is None or t - sent.at > life.seconds), len(keys)))
            again.update(dict.fromkeys(keys, sent.at))
        held: dict[int, float] = {}
        cost, read, written = 0.0, 0, 0
        for sent, reach in zip(requests, reversed(comes), strict=True):
            before = 0
            ends = list(zip(sent.prompt.keys, sent.prompt.tokens, strict=True))
            got = max((end for key, end in ends if held.get(key, -1.0) >= sent.at and end >= terms.minimum), default=0)
            for block, (key, end) in enumerate(ends):
                count, before = end - before, end
                if end <= got:
                    read, cost = read + count, cost + count * terms.read
                elif block < reach and sent.prompt.tokens[reach - 1] >= terms.minimum:
                    written, cost = written + count, cost + count * life.write
                else:
                    cost += count
                    continue
                held[key] = sent.at + life.seconds
        total = sum(sent.tokens for sent in requests)
        usd = Decimal(round(cost)) * terms.usd
        if best is None or usd < best.usd:
            best = Simulation("clairvoyant", len(requests), total, read, written, usd, total * terms.usd)
    assert best is not None  # noqa: S101 (terms has lives)
    return best


def _requests(trace: str | Path | Iterable[Mapping[str, Any]], block_tokens: int) -> Iterable[Sent]:
    for number, row in enumerate(_rows(trace) if isinstance(trace, (str, Path)) else trace, start=1):
        try:
            if "hash_ids" in row:
                yield _hashed(row, block_tokens)
            else:
                prompt = read_prompt(row["messages"], row.get("tools"), row.get("system"))
                moment = row["timestamp"] / 1000 if "timestamp" in row else float(row["startTime"])
                yield Sent(moment, prompt, prompt.tokens[-1] if prompt.tokens else 0)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LogFormatError(f"neither a trace nor a logged call: {error!r}", number) from error


def _hashed(row: Mapping[str, Any], size: int) -> Sent:
    keys, length = [int(key) for key in row["hash_ids"]], int(row["input_length"])
    ends = [min((block + 1) * size, length) for block in range(len(keys))]
    prompt = Prompt(
        keys=keys,
        tokens=ends,
        places=[Place("messages", 0, block) for block in range(len(keys))],
        # A block that is not full has another hash as soon as something follows: nothing can share it.
        markable=[end == (block + 1) * size for block, end in enumerate(ends)],
        kinds=["user"] * len(keys),
        shared=0 if keys else -1,
    )
    return Sent(row["timestamp"] / 1000, prompt, length)


def _rows(path: str | Path) -> Iterable[Mapping[str, Any]]:
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield cast("Mapping[str, Any]", json.loads(line))
                except ValueError as error:
                    raise LogFormatError(f"not JSON: {error}", number) from error
