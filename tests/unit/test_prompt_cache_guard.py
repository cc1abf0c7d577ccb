"""Whatever traffic comes, caching costs no more than no caching and a small allowance; where it pays, it still does.

The bill is the sandbox's, which shares nothing with the planner.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import Usage
from llm_savings.prompt_cache import Memory, simulate
from llm_savings.prompt_cache.plan import plan_prompt
from llm_savings.prompt_cache.prompt import Place, Prompt
from llm_savings.sandbox.prompt_cache import Block, PromptCache

SONNET = "claude-sonnet-4-5"
SIZE = 512


class Provider:
    """Sends prompts of blocks of 512 tokens through the planner to the sandbox's cache, and adds up the bill."""

    def __init__(self, ttls: tuple[str, ...] | None) -> None:
        self.memory, self._cache = Memory(ttls=ttls), PromptCache()
        self._account = self._cache.of("one")
        self._terms = self.memory.terms(SONNET)
        self.cost = self.uncached = self.longest = 0.0

    def send(self, at: float, blocks: list[int]) -> set[int]:
        """Send a prompt; tells which of its blocks were newly marked."""
        ends = [SIZE * (n + 1) for n in range(len(blocks))]
        places = [Place("messages", 0, n) for n in range(len(blocks))]
        able, kinds = [True] * len(blocks), ["user"] * len(blocks)
        prompt = Prompt(keys=_keys(blocks), tokens=ends, places=places, markable=able, kinds=kinds, shared=0)
        plan = plan_prompt(prompt, self._terms, self.memory, now=at, model=SONNET)
        lives = {block: life.seconds for block, life in plan.written}
        self._cache.ahead = at
        sent = [Block(str(block), SIZE, lives.get(n)) for n, block in enumerate(blocks)]
        split = self._account.marked(SONNET, sent, minimum=self._terms.minimum, lookback=20)
        self.memory.record(plan, Usage(split.fresh, split.read, split.short, split.long), at)
        self.cost += split.fresh + 0.1 * split.read + 1.25 * split.short + 2 * split.long
        self.uncached += split.total
        self.longest = max(self.longest, split.total)
        return {block for block in lives if ends[block] > split.read}

    def check(self) -> None:
        """The promise."""
        assert self.cost <= 1.02 * self.uncached + max(400_000, 2 * self.longest)


def _keys(blocks: list[int]) -> list[int]:
    keys, before = list[int](), 0
    for block in blocks:
        before = hash((before, block)) & (1 << 64) - 1
        keys.append(before)
    return keys


def spiteful(provider: Provider, chance: random.Random, requests: int) -> None:
    """Conversations go on for as long as their newest turn is not marked, and never again from then on."""
    at, talks, fresh = 0.0, list[list[int]](), iter(range(10**9))
    for _ in range(requests):
        at += chance.expovariate(1 / 4)
        if not talks or chance.random() < 0.2:
            talks.append([next(fresh) for _ in range(chance.randint(4, 30))])
        talk = talks.pop(chance.randrange(len(talks)))
        talk = [*talk, *(next(fresh) for _ in range(chance.randint(1, 6)))]
        if not provider.send(at, talk) and len(talk) < 200:
            talks.append(talk)
        if len(talks) > 20:
            talks.pop(0)


@pytest.mark.parametrize("ttls", [("5m",), ("1h",), None])
def test_who_returns_only_where_nothing_was_marked_takes_no_more_than_the_allowance(
    ttls: tuple[str, ...] | None,
) -> None:
    provider = Provider(ttls)
    spiteful(provider, random.Random(3), 1_500)
    provider.check()
    assert provider.cost > provider.uncached  # it was hurt: this traffic is as bad as it is meant to be
    assert provider.cost <= 1.02 * provider.uncached + 400_000


def test_good_times_do_not_pay_for_bad_ones_for_long() -> None:
    provider = Provider(None)
    for n in range(600):
        provider.send(3.0 * n, [*range(40), 1_000 + n])
    assert provider.cost < 0.15 * provider.uncached
    good, base = provider.cost, provider.uncached
    spiteful(provider, random.Random(5), 1_500)
    provider.check()
    assert provider.cost - good <= 1.05 * (provider.uncached - base) + 0.9 * base  # at most what was won


def test_after_losses_it_comes_back_where_it_pays() -> None:
    provider = Provider(("5m",))
    spiteful(provider, random.Random(7), 600)
    cost, base = provider.cost, provider.uncached
    for n in range(800):
        provider.send(10_000 + 5.0 * n, [*range(-40, 0), 10**10 + n])
    assert provider.cost - cost < 0.25 * (provider.uncached - base)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    gap=st.sampled_from([1.0, 20.0, 250.0, 900.0, 3000.0]),
    returning=st.floats(0, 1),
    shift=st.floats(0, 1),
    shared=st.sampled_from([0, 3, 12]),
    ttls=st.sampled_from([("5m",), ("1h",), None]),
)
def test_no_traffic_costs_more_than_the_allowance(
    seed: int, gap: float, returning: float, shift: float, shared: int, ttls: tuple[str, ...] | None
) -> None:
    chance, provider = random.Random(seed), Provider(ttls)
    at, talks, fresh = 0.0, list[list[int]](), iter(range(100, 10**9))
    for n in range(300):
        at += chance.expovariate(1 / gap)
        goes_on = returning if n < 150 else shift
        if talks and chance.random() < goes_on:
            talk = chance.choice(talks[-30:])
        else:
            talk = [*range(shared), *(next(fresh) for _ in range(chance.randint(2, 20)))]
        talks.append([*talk, *(next(fresh) for _ in range(chance.randint(1, 5)))])
        provider.send(at, talks[-1])
        provider.check()


@pytest.mark.parametrize("blocks", [20, 40, 80, 120])
def test_agents_lose_nothing_by_it(blocks: int) -> None:
    chance = random.Random(blocks)
    rows: list[dict[str, Any]] = []
    for session in range(8):
        at = chance.uniform(0, 600)
        for turn in range(12):
            ids = [*range(40), *((session + 1) * 100_000 + n for n in range(blocks * (turn + 1)))]
            rows.append({"timestamp": 1000 * at, "input_length": 64 * len(ids), "hash_ids": ids})
            at += 2 + chance.expovariate(1 / 15)
    rows.sort(key=lambda row: row["timestamp"])
    for ttls in (("5m",), None):
        assert simulate(rows, ttls=ttls, block_tokens=64).relative <= 0.31
