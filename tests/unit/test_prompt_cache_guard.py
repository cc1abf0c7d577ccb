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
from llm_savings.prompt_cache.plan import Plan, plan_prompt
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
        plan = self.plan(at, blocks)
        lives = {block: life.seconds for block, life in plan.written}
        ends = plan.prompt.tokens
        self._cache.ahead = at
        sent = [Block(str(block), SIZE, lives.get(n)) for n, block in enumerate(blocks)]
        split = self._account.marked(SONNET, sent, minimum=self._terms.minimum, lookback=20)
        self.memory.record(plan, Usage(split.fresh, split.read, split.short, split.long), at)
        self.cost += split.fresh + 0.1 * split.read + 1.25 * split.short + 2 * split.long
        self.uncached += split.total
        self.longest = max(self.longest, split.total)
        return {block for block in lives if ends[block] > split.read}

    def plan(self, at: float, blocks: list[int]) -> Plan:
        """What would be marked in a prompt."""
        ends = [SIZE * (n + 1) for n in range(len(blocks))]
        places = [Place("messages", 0, n) for n in range(len(blocks))]
        able, kinds = [True] * len(blocks), ["user"] * len(blocks)
        prompt = Prompt(keys=_keys(blocks), tokens=ends, places=places, markable=able, kinds=kinds, shared=0)
        return plan_prompt(prompt, self._terms, self.memory, now=at, model=SONNET)

    def check(self) -> None:
        """The promise."""
        assert self.cost <= 1.01 * self.uncached + max(200_000, 2 * self.longest)


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
    assert provider.cost <= 1.01 * provider.uncached + 200_000


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


def test_prompts_that_come_once_are_never_marked() -> None:
    chance = random.Random(11)
    provider, fresh = Provider(None), iter(range(10**9))
    for n in range(400):
        assert not provider.send(3.0 * n, [next(fresh) for _ in range(chance.choice([3, 10, 40, 200]))])
    assert provider.cost == pytest.approx(provider.uncached)


@pytest.mark.parametrize(("ttls", "gap"), [(("5m",), 310.0), (("1h",), 3_700.0)])
def test_what_returns_just_too_late_costs_next_to_nothing(ttls: tuple[str, ...], gap: float) -> None:
    provider = Provider(ttls)
    for n in range(400):
        talk, turn = n % 20, n // 20
        provider.send(gap * turn + talk, [talk * 1_000 + block for block in range(10 + turn)])
    assert provider.cost <= 1.005 * provider.uncached


def returning(memory: Memory) -> float:
    """The chance that a new prompt of five thousand tokens comes again within five minutes."""
    return memory.odds.chance("leaf", (0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0), 300.0)


def test_what_comes_again_is_seen_without_paying_for_it() -> None:
    provider = Provider(("5m",))
    for n in range(120):
        blocks = [n // 4 * 100 + block for block in range(10)]
        provider.memory.record(provider.plan(20.0 * n, blocks), None, sent=False)
    assert returning(provider.memory) > max(0.3, 2 * returning(Memory()))
    assert provider.send(2_400.0, list(range(90_000, 90_010)))  # so a new one is marked at once


@settings(deadline=None, max_examples=25)
@given(moments=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20), grows=st.booleans())
def test_a_clock_may_say_what_it_will(moments: list[float], grows: bool) -> None:
    provider = Provider(None)
    for n, at in enumerate(moments):
        provider.send(at, [*range(8), *range(100, 100 + (n if grows else n * 7 % 5))])
    at = moments[-1] if abs(moments[-1]) < 1e12 else 0.0
    for n in range(20):  # as soon as it goes right again, what comes again is marked
        provider.send(at + 20.0 * n, [*range(8), 1_000 + n])
    assert provider.plan(at + 401.0, [*range(8), 2_000]).held == 8 * SIZE


def test_a_clock_that_was_days_ahead_stops_nobody_from_learning() -> None:
    ahead, straight = Memory(ttls=("5m",)), Memory(ttls=("5m",))
    rows = [
        {"timestamp": 10_000 * n, "input_length": 5_120, "hash_ids": [n // 9 * 1_000 + block for block in range(10)]}
        for n in range(300)
    ]
    simulate([{"timestamp": 864_000_000, "input_length": 2_560, "hash_ids": [-1, -2, -3, -4, -5]}], memory=ahead)
    for memory in (ahead, straight):
        simulate(rows, memory=memory)
    assert returning(ahead) == pytest.approx(returning(straight), rel=0.05)
    assert returning(straight) > 1.3 * returning(Memory())


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
