"""One worker of several that share a memory: `prefix_worker.py STORE`, told what to do line by line.

`N` sends turn N of a conversation as soon as the turn before, whoever sent it, is known here; the answer is the tokens
that were believed to be held. `flood` sends other prompts without end.
"""

from __future__ import annotations

import sys
import time
from itertools import count

from llm_savings import Usage
from llm_savings.prompt_cache import Memory, Plan, plan_breakpoints

MODEL = "claude-sonnet-4-5"
TEXT = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 120
PATIENCE = 60.0


def planned(memory: Memory, texts: list[str]) -> Plan:
    talk = [{"role": "user" if n else "system", "content": text} for n, text in enumerate(texts)]
    return plan_breakpoints(talk, None, MODEL, memory=memory)


def turn(number: int) -> list[str]:
    return [TEXT, *(f"Turn {n}: where is my parcel? " * 20 for n in range(number + 1))]


def send(memory: Memory, texts: list[str]) -> int:
    plan = planned(memory, texts)
    held, total = int(plan.held), plan.prompt.tokens[-1]
    written = max((mark.tokens for mark in plan.marks), default=held) - held
    memory.record(plan, Usage(total - held - written, held, cache_write_5m=written))
    return held


def main() -> None:
    memory = Memory(store=sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "flood":
            print("flooding", flush=True)
            for flooded in count():
                send(memory, [f"{flooded} {TEXT}", *(f"{n}" for n in range(50))])
        number, deadline = int(line), time.monotonic() + PATIENCE
        before = planned(memory, turn(number - 1)).prompt.keys if number else []
        while None in memory.known(before) and time.monotonic() < deadline:
            time.sleep(0.02)  # the thread that follows the others needs a moment
        print(send(memory, turn(number)), flush=True)
    memory.close()


if __name__ == "__main__":
    main()
