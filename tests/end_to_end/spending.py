"""A machine whose workers spend one budget at the same time, through the real client of OpenAI.

Run as `python spending.py LEDGER OPENAI_URL LIMIT WORKERS CALLS KILLED SEED`. The client is imported once; every worker
is a fork that makes all its calls at once, even ones as tasks, odd ones as threads. So many of them are killed at a
random moment, after so many calls. The others say what became of their calls, each in a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from llm_savings import Budget, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.errors import BudgetExceededError
from llm_savings.ledger import Sent
from llm_savings.ledger.ledger import Ledger
from llm_savings.meter import Answer, Live

MODEL = "gpt-4o"
PROMPT = [{"role": "user", "content": "Compare and analyse budgets."}]
PROMPT_TOKENS = 12  # as the provider counts them
LONGEST = 90  # tokens; the answer has 95, so that every call costs exactly what was held for it


class Worker:
    def __init__(self, ledger: str, url: str, limit: str, *, name: str, lengths: int, ready: int) -> None:
        self.meter = Meter(Ledger(ledger), budget=Budget(daily=limit, monthly=limit))
        self.url, self.name, self.lengths, self.ready = url, name, lengths, ready
        self.ends: Counter[str] = Counter()
        self.lock = threading.Lock()

    def arguments(self, number: int) -> dict[str, Any]:
        return {"model": MODEL, "messages": PROMPT, "max_tokens": LONGEST - number % self.lengths}

    def begin(self, number: int) -> Live | None:
        most = self.arguments(number)["max_tokens"]
        size = Size(100, most, count=lambda: PROMPT_TOKENS)
        sent = Sent(call_id=f"{self.name}-{number}", host="sdk", requested_model=MODEL, provider="openai")
        try:
            live = self.meter.begin(sent, size)
            os.write(self.ready, b".")
            return live
        except BudgetExceededError:
            self.end("refused")
        except Exception as error:
            self.end(f"{type(error).__name__}: {error}")
        return None

    def answered(self, live: Live, answer: Any) -> None:
        usage = Usage.from_openai(answer.usage)
        self.meter.answered(live, Answer(model=answer.model, usage=usage, response_id=answer.id))
        self.end("answered")

    def failed(self, live: Live, error: Exception) -> None:
        self.meter.failed(live, error)
        self.end(f"{type(error).__name__}: {error}")

    def end(self, how: str) -> None:
        with self.lock:
            self.ends[how] += 1

    def client(self) -> dict[str, Any]:
        return {"base_url": self.url, "api_key": "any", "max_retries": 0, "timeout": 120}

    def in_threads(self, calls: int) -> None:
        def ask(number: int) -> None:
            if live := self.begin(number):
                try:
                    answer = client.chat.completions.create(**self.arguments(number))
                except Exception as error:
                    self.failed(live, error)
                else:
                    self.answered(live, answer)

        with openai.OpenAI(**self.client()) as client, ThreadPoolExecutor(calls) as pool:
            list(pool.map(ask, range(calls)))

    async def in_tasks(self, calls: int) -> None:
        async def ask(number: int) -> None:
            if live := self.begin(number):
                try:
                    answer = await client.chat.completions.create(**self.arguments(number))
                except Exception as error:
                    self.failed(live, error)
                else:
                    self.answered(live, answer)

        async with openai.AsyncOpenAI(**self.client()) as client:
            await asyncio.gather(*(ask(number) for number in range(calls)))

    def work(self, calls: int, *, threads: bool) -> None:
        if threads:
            self.in_threads(calls)
        else:
            asyncio.run(self.in_tasks(calls))
        self.meter.ledger.close()
        os.write(1, (json.dumps(self.ends) + "\n").encode())


def main(ledger: str, url: str, limit: str, workers: int, calls: int, killed: int, seed: int) -> None:
    dice = random.Random(seed)
    ready: dict[int, int] = {}
    # Those that are to be killed come first, so that the others have not spent everything before.
    for number in dice.sample(range(workers), workers):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            code = 3
            try:
                # Whoever is to be told from others by the bill alone has one price.
                lengths = 1 if killed else 41
                worker = Worker(ledger, url, limit, name=f"{seed}-{os.getpid()}", lengths=lengths, ready=write)
                worker.work(calls, threads=number % 2 == 1)
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        ready[child] = read
    for child in list(ready)[:killed]:
        for _ in range(dice.randint(1, calls // 3)):
            os.read(ready[child], 1)  # returns at once when the worker is done
        os.kill(child, signal.SIGKILL)
    ends = [os.waitpid(child, 0)[1] for child in ready]
    # One that was done before it was to be killed is none that failed.
    sys.exit(any(os.WIFEXITED(end) and os.WEXITSTATUS(end) for end in ends))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
