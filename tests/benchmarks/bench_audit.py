"""How fast the audit is: without prompts (read, sorted, priced, added up), and with prompts through all strategies.

    python tests/benchmarks/bench_audit.py [--calls 1000000] [--prompts 20000]

On a second core another process reads ahead: CPU and memory are those of both. Beside it, in the same run: the same
file parsed by orjson alone. Prompts are those of the demo's workload, numbered.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

FIRST = datetime(2026, 11, 2, tzinfo=UTC)
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gpt-4.1")


def write_bare(path: Path, calls: int) -> None:
    dice = random.Random(1)
    with path.open("wb") as file:
        for n in range(calls):
            row = {
                "model": MODELS[n % 4],
                "usage": {"prompt_tokens": dice.randrange(20, 4000), "completion_tokens": dice.randrange(1, 800)},
                "start_time": (FIRST + timedelta(seconds=n)).isoformat(),
            }
            file.write(orjson.dumps(row) + b"\n")


def write_prompts(path: Path, calls: int) -> None:
    from llm_savings.demo import load

    asked, dice = load().requests, random.Random(2)
    with path.open("wb") as file:
        for n in range(calls):
            one = dice.choice(asked)
            prompt = one.prompt if dice.random() < 0.3 else f"{one.prompt} ({n})"
            used = {"prompt_tokens": 1500, "completion_tokens": dice.randrange(1, 800)}
            row = {
                "id": f"call-{n}",
                "model": MODELS[n % 4],
                "messages": [{"role": "system", "content": one.system}, {"role": "user", "content": prompt}],
                "response": {"choices": [{"message": {"role": "assistant", "content": f"Answer {n}."}}]},
                **used,
                "metadata": {"usage_object": used},
                "startTime": (FIRST + timedelta(seconds=10 * n)).timestamp(),
                "litellm_call_id": f"call-{n}",
                "call_type": "completion",
                "custom_llm_provider": "anthropic" if "claude" in MODELS[n % 4] else "openai",
                "model_parameters": {"max_tokens": 800},
                "response_cost": None,
            }
            file.write(orjson.dumps(row) + b"\n")


def timed(path: str) -> None:
    from llm_savings.audit import audit

    began = time.perf_counter()
    found = audit(path)
    wall = time.perf_counter() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    peak = sum(one.ru_maxrss for one in used) / 1024  # what both share is counted twice
    print(f"{found.seen.calls:,} {wall:.1f} {cpu:.1f} {found.seen.calls / wall:,.0f} {peak:,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--one", metavar="FILE")
    given = parser.parse_args()
    if given.one:
        timed(given.one)
        return
    print(f"{'':16}{'calls':>12}{'wall s':>8}{'CPU s':>8}{'calls/s':>10}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, write, calls in (
            ("no prompts", write_bare, given.calls),
            ("all strategies", write_prompts, given.prompts),
        ):
            path = Path(folder, f"{name}.jsonl")
            if not calls:
                continue
            write(path, calls)
            began = time.process_time()
            with path.open("rb") as file:
                for line in file:
                    orjson.loads(line)
            plain = time.process_time() - began
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True
            )
            counted, wall, cpu, rate, peak = done.stdout.split()[-5:]
            print(f"{name:16}{counted:>12}{wall:>8}{cpu:>8}{rate:>10}{peak:>9}   orjson alone: {plain:.1f} s")


if __name__ == "__main__":
    main()
