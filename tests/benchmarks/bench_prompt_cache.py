"""What planned cache marks cost and save, beside the marks that hosts' helpers set and beside a clairvoyant.

    python tests/benchmarks/bench_prompt_cache.py [TRACE.jsonl.gz ...]

Traces are Mooncake's (kvcache-ai/Mooncake, Apache-2.0). What the planner believes before it has seen any traffic was
fitted on the first half of each of these files, so each is reported from its middle on, with an empty memory, and
whole. Input cost relative to no caching, at Sonnet 4.5's prices: 1.0 is as dear, lower is better.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from llm_savings import Usage
from llm_savings.prompt_cache import Memory, plan_breakpoints, simulate
from llm_savings.prompt_cache.simulate import Policy

MODEL = "claude-sonnet-4-5"
TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
LIVES: tuple[tuple[str, ...] | None, ...] = (("5m",), ("1h",), None)


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(TRACES.glob("*.jsonl.gz"))
    print(f"{'trace':<42}{'ttl':>7}{'requests':>10}{'system+tail':>13}{'planner':>9}{'clairvoyant':>13}")
    for path in paths:
        with gzip.open(path, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        for name, part in (("second part", rows[len(rows) // 2 :]), ("whole", rows)):
            for ttls in LIVES:
                row(f"{path.name.split('.')[0][9:]}, {name}", part, ttls)
        for n in range(4):
            row(f"quarter {n + 1} alone", rows[n * len(rows) // 4 : (n + 1) * len(rows) // 4], ("5m",))
    print()
    print(f"{'agent turns':<42}{'ttl':>7}{'requests':>10}{'system+tail':>13}{'planner':>9}{'clairvoyant':>13}")
    for blocks in (20, 40, 80, 120):
        row(f"{blocks} blocks a turn, 20 sessions of 12", agents(blocks), ("5m",), size=64)
    print()
    spite(1_500)
    questions(400)
    planning(200)
    with tempfile.TemporaryDirectory() as folder:
        planning(200, str(Path(folder) / "prefixes.db"))
    memory(1_000_000)


def row(name: str, rows: list[dict[str, Any]], ttls: tuple[str, ...] | None, size: int = 512) -> None:
    policies: tuple[Policy, ...] = ("system+tail", "planner", "clairvoyant")
    got = [simulate(rows, policy, MODEL, ttls=ttls, block_tokens=size).relative for policy in policies]
    ttl = "any" if ttls is None else ttls[0]
    print(f"{name:<42}{ttl:>7}{len(rows):>10,}{got[0]:>13.3f}{got[1]:>9.3f}{got[2]:>13.3f}")


def agents(blocks: int, sessions: int = 20, turns: int = 12) -> list[dict[str, Any]]:
    """Sessions of an agent, as hashed traces: each turn adds so many blocks of 64 tokens after a shared system text."""
    chance = random.Random(7)
    rows: list[dict[str, Any]] = []
    for session in range(sessions):
        at = chance.uniform(0, 1800)
        for turn in range(turns):
            ids = [*range(40), *((session + 1) * 100_000 + n for n in range(blocks * (turn + 1)))]
            rows.append({"timestamp": 1000 * at, "input_length": 64 * len(ids), "hash_ids": ids})
            at += 2 + chance.expovariate(1 / 15)
    return sorted(rows, key=lambda entry: entry["timestamp"])


def spite(requests: int) -> None:
    """Conversations that go on only where their newest turn was not marked: the worst that can be done to a planner."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
    from test_prompt_cache_guard import Provider, spiteful

    for ttls in LIVES:
        provider = Provider(ttls)
        spiteful(provider, random.Random(3), requests)
        name = "any" if ttls is None else ttls[0]
        print(f"traffic made against the planner, {name}: {provider.cost / provider.uncached:.3f} of no caching")


def questions(count: int) -> None:
    """Many questions with one system prompt of 5,000 tokens, ten seconds apart."""
    said = "You answer questions about our shop, kindly and briefly. " * 455
    rows = [
        {
            "timestamp": 10_000 * n,
            "messages": [
                {"role": "system", "content": said},
                {"role": "user", "content": f"Question {n} about refunds?"},
            ],
        }
        for n in range(count)
    ]
    found = simulate(rows, "planner", MODEL)
    print(f"{count} questions with one system prompt of about 5,000 tokens: {found.relative:.3f} of no caching")


def planning(messages: int, store: str | None = None) -> None:
    """How long a plan takes; with a store, while two other processes write to it as fast as they can."""
    chance = random.Random(1)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "고객", "문의", "배송", "환불"]

    def text(count: int) -> str:
        return " ".join(chance.choice(words) for _ in range(count))

    tools = [{"name": f"t{n}", "description": text(20), "input_schema": {"type": "object"}} for n in range(20)]
    talk: list[dict[str, Any]] = [{"role": "system", "content": text(1000)}]
    known = Memory(store=store)
    command = [sys.executable, str(Path(__file__).parents[1] / "end_to_end" / "prefix_worker.py"), str(store)]
    others = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in "ab"[: 2 * bool(store)]
    ]
    for other in others:
        assert other.stdin is not None and other.stdout is not None
        other.stdin.write("flood\n")
        other.stdin.flush()
        while other.stdout.readline() != "flooding\n":
            pass
    took: list[float] = []
    for turn in range(messages // 2):
        talk = [*talk, {"role": "user", "content": text(60)}]
        if len(talk) > messages - 20:
            for _ in range(40):
                start = time.thread_time()
                plan_breakpoints(talk, tools, MODEL, memory=known, now=1000.0 + 20 * turn)
                took.append(time.thread_time() - start)
        plan = plan_breakpoints(talk, tools, MODEL, memory=known, now=1000.0 + 20 * turn)
        known.record(plan, Usage(input=plan.prompt.tokens[-1]), 1001.0 + 20 * turn)
        talk = [*talk, {"role": "assistant", "content": text(100)}]
    cut = quantiles(took, n=20)
    for other in others:
        other.kill()
    size = f"{len(talk) - 1} messages and {len(tools)} tools"
    size += f", two other processes writing ({len(known):,} prefixes learned)" if store else ""
    known.close()
    print(f"planning at {size}: p50 {1e3 * median(took):.2f} ms, p95 {1e3 * cut[-1]:.2f} ms")


def memory(prefixes: int) -> None:
    """A day with a million prefixes: what the memory holds, and what that takes."""
    sample = 20_000
    record(Memory(), 0)  # reads the price map, which is not the memory's
    tracemalloc.start()
    some = Memory()
    for n in range(sample):
        record(some, n)
    each = tracemalloc.get_traced_memory()[0] / sample
    tracemalloc.stop()
    known = Memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    for n in range(prefixes):
        record(known, n)
    spent = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{prefixes:,} prefixes in a day, each once: {len(known):,} held at {each:.0f} bytes each,", end=" ")
    print(f"peak memory grew by {grown / 1024:.0f} MiB, {1e6 * spent / prefixes:.0f} us a call")


def record(known: Memory, number: int) -> None:
    talk = [{"role": "user", "content": f"{number} " + "word " * 300}]
    at = 86_400 * number / 1_000_000
    known.record(plan_breakpoints(talk, None, MODEL, memory=known, now=at), None, at)


if __name__ == "__main__":
    main()
