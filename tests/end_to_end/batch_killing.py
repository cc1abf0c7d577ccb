"""Runs batch jobs and dies, with SIGKILL, at a given event or at a random moment; then runs them to their end.

Run as `python batch_killing.py FOLDER OPENAI_URL ANTHROPIC_URL WHAT SEED`. An event is the beginning or the end of a
transaction of the journal or of an HTTP request. WHAT is "steps" (one job for every event that there is, killed there),
"hurry" (the same for jobs that ask in real time, at every seventh event), or a number of jobs that are killed at random
moments. Prints how many kills there were.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import contextmanager
from typing import Any

import anthropic
import openai

from llm_savings import Budget, Meter, PriceBook, tokens
from llm_savings.batch import Answered, Options, submit
from llm_savings.batch.journal import Journal

REVIEWS = ["배송이 빨라요", "별로예요", "Good", "Bad", "보통", "다시 살래요", "비싸요", "So so", "최고", "Broken"]
INPUTS = [*REVIEWS, REVIEWS[0], REVIEWS[3]]


PRICES = PriceBook()


class Countdown:
    """Counts events, and kills the process at one of them."""

    def __init__(self, at: int) -> None:
        self.left, self.count = at, 0

    def event(self) -> None:
        self.count += 1
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, client: Any) -> None:
        inner, event = client._client.send, self.event
        before = Journal.transaction

        def send(*given: Any, **named: Any) -> Any:
            event()
            answer = inner(*given, **named)
            event()
            return answer

        @contextmanager
        def transaction(journal: Journal) -> Any:
            event()
            with before(journal) as db:
                yield db
            event()

        client._client.send = send
        Journal.transaction = transaction


def run(folder: str, client: Any, model: str, name: str) -> None:
    requests = [{"messages": [{"role": "user", "content": text}], "max_tokens": 40} for text in INPUTS]
    meter = Meter(f"{folder}/costs.db", budget=Budget(total="5"), prices=PRICES)
    options = Options(name=name, patience=0.2, attempts=6, shadow=name.startswith("hurry"))
    job = submit(requests, provider=client, model=model, journal=f"{folder}/batches.db", meter=meter, options=options)
    job.wait(poll=0.01, timeout=20)
    lost = [outcome for outcome in job.results() if not isinstance(outcome, Answered)]
    assert not lost, lost
    meter.ledger.close()


def child(folder: str, client: Any, model: str, name: str, at: int) -> int:
    """The pid of a process that runs a job; it ends with 0 if it was not killed."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            Countdown(at).watch(client)
            run(folder, client, model, name)
            code = 0
        except BaseException as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> bool:
    """Whether it was killed; one that failed is the end of this program."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        sys.exit("a job failed")
    return False


def main(folder: str, urls: list[str], what: str, seed: int) -> None:
    dice, kills = random.Random(seed), 0
    tokens.count("so that no child has to load it"), PRICES.resolve("gpt-4o")
    clients = [
        (openai.OpenAI(base_url=urls[0], api_key="x", timeout=10), "gpt-4o-mini"),
        (anthropic.Anthropic(base_url=urls[1], api_key="x", timeout=10), "claude-haiku-4-5"),
    ]
    for client, model in clients:
        at = 1
        while what in ("steps", "hurry"):
            killed = ended(child(folder, client, model, f"{what}-{model}-{at}", at))
            if not killed:
                break
            ended(child(folder, client, model, f"{what}-{model}-{at}", 0))
            kills, at = kills + 1, at + (7 if what == "hurry" else 1 if model.startswith("gpt") else 3)
    for number in range(0 if what in ("steps", "hurry") else int(what)):
        client, model = clients[number % 2]
        while True:  # a job may be killed more than once
            pid = child(folder, client, model, f"random-{number}", 0)
            time.sleep(dice.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
            if not ended(pid):
                break
            kills += 1
            if dice.random() < 0.5:
                ended(child(folder, client, model, f"random-{number}", 0))
                break
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:4], sys.argv[4], int(sys.argv[5]))
