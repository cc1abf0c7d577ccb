"""What the plug-in adds to LiteLLM's proxy: the same proxy with and without it, in turn, in one run.

Run it as a script. Two proxies of two workers each stand before one local provider that answers at once. First each is
driven by as many connections as it can take, which gives its throughput; then both get requests at a fifth of what the
bare one can do, at random moments whether or not the ones before are answered. The processor time of the workers is
read beside it: of the three it is what a busy machine changes least. Every question is another one, so that
each is metered, held in a budget, routed, looked up and not found; and, last, one question that the cache answers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "litellm_host"))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

from litellm_proxy import KEY, running

from llm_savings.sandbox import Sandbox

ROUNDS, SECONDS, CONNECTIONS, ANSWERS, WORKERS = 10, 2.5, 16, 4, 2
CONFIG = """
model_list:
  - model_name: mini
    litellm_params: {model: openai/gpt-4o-mini, api_base: "%s/v1", api_key: sk-test}
  - model_name: big
    litellm_params: {model: openai/gpt-4o, api_base: "%s/v1", api_key: sk-test}
general_settings: {master_key: %s}
"""
PLUGIN = "litellm_settings: {callbacks: [llm_savings.litellm.proxy.plugin]}\n"
OPTIONS = """
ledger: costs.db
budgets: [{daily: "1000"}]
cache: {per: team}
routing: {tiers: {simple: mini, complex: big}}
"""
numbers = itertools.count()


def body(model: str, text: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 20}


async def ask(client: httpx.AsyncClient, model: str, text: str | None = None, *, last: bool = False) -> float:
    """Seconds that an answer took; the connection is closed after the last one."""
    began = time.perf_counter()
    said = text or f"Question number {next(numbers)}: what is in parcel {random.random()}?"
    headers = {"Connection": "close"} if last else {}
    answer = await client.post("/v1/chat/completions", json=body(model, said), headers=headers)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - began


async def saturated(url: str, model: str, seconds: float) -> float:
    """Answers a second with all connections busy.

    Workers share a socket, and the one that is awake takes most of the connections that come together, so that the
    other idles: a connection is closed after a few answers, and the next one goes to whoever has time.
    """
    end, done = time.perf_counter() + seconds, 0

    async def drive() -> None:
        nonlocal done
        async with client_of(url) as client:
            for number in itertools.count(1):
                if time.perf_counter() >= end:
                    return
                await ask(client, model, last=number % ANSWERS == 0)
                done += 1

    began = time.perf_counter()
    await asyncio.gather(*(drive() for _ in range(CONNECTIONS)))
    return done / (time.perf_counter() - began)


async def arriving(url: str, model: str, rate: float, seconds: float, text: str | None = None) -> list[float]:
    """Seconds that each answer took where requests come at random moments, so many a second on average."""
    tasks: list[asyncio.Task[float]] = []
    async with client_of(url) as client:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            tasks.append(asyncio.create_task(ask(client, model, text)))
            await asyncio.sleep(random.expovariate(rate))
        return list(await asyncio.gather(*tasks))


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def cpu(config: str) -> float:
    """Seconds of processor time that the workers of a proxy have taken."""
    mine = psutil.Process().children()
    parent = next(each for each in mine if any(config in part for part in each.cmdline()))
    return sum(sum(each.cpu_times()[:2]) for each in parent.children(recursive=True))


async def measured(bare: str, plugged: str, configs: dict[str, str]) -> None:
    sides = {"bare": (bare, "mini"), "plugged": (plugged, "auto")}
    took, answered = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
    for url, model in sides.values():
        await saturated(url, model, 3)  # warm
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS):
        # Short rounds, each side first in turn: a machine whose speed changes by its neighbours changes both alike.
        for name, (url, model) in list(sides.items())[:: 1 if number % 2 else -1]:
            before, began = cpu(configs[name]), time.perf_counter()
            speeds[name].append(await saturated(url, model, SECONDS))
            took[name] += cpu(configs[name]) - before
            answered[name] += speeds[name][-1] * (time.perf_counter() - began)
    speed = {name: statistics.median(each) for name, each in speeds.items()}
    rate = speed["bare"] / 5
    times: dict[str, list[float]] = {"bare": [], "plugged": [], "a hit": []}
    for _ in range(ROUNDS):
        for name, (url, model) in sides.items():
            times[name] += await arriving(url, model, rate, SECONDS)
        times["a hit"] += await arriving(plugged, "auto", rate, SECONDS, "What is the return policy?")
    middle = {name: statistics.median(each) * 1000 for name, each in times.items()}
    print(f"{WORKERS} workers each; load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores at the end")
    print(f"{'':14}{'answers/s':>12}{'p50 ms':>10}{'p95 ms':>10}{'added p50':>12}{'CPU ms each':>13}")
    for name, each in times.items():
        quick = f"{speed[name]:.0f}" if name in speed else ""
        busy = f"{took[name] / answered[name] * 1000:.2f}" if name in took else ""
        late = statistics.quantiles(each, n=20)[-1] * 1000
        print(f"{name:14}{quick:>12}{middle[name]:>10.2f}{late:>10.2f}{middle[name] - middle['bare']:>12.2f}{busy:>13}")
    low, kept, high = statistics.quantiles((p / b for b, p in zip(*speeds.values(), strict=True)), n=4)
    print(f"throughput kept {kept:.0%} (middle half of the rounds: {low:.0%} to {high:.0%})")
    print(f"open arrivals at {rate:.0f} a second")


def main() -> None:
    with ExitStack() as stack:
        at = stack.enter_context(Sandbox.spawn()).url
        urls: list[str] = []
        configs: dict[str, str] = {}
        for name in ("bare", "plugged"):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{name}-")))
            (folder / "llm_savings.yaml").write_text(OPTIONS)
            config = CONFIG % (at, at, KEY) + (PLUGIN if name == "plugged" else "")
            client = stack.enter_context(running(folder, config, {}, workers=WORKERS))
            urls.append(str(client.base_url).rstrip("/"))
            configs[name] = str(folder)
        asyncio.run(measured(*urls, configs))


if __name__ == "__main__":
    main()
