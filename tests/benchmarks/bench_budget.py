"""What a budget adds to a metered call on SQLite, beside what litellm's own budget and price take for one.

Run it as a script. The same call is begun and answered by a meter without a budget and by one with a daily and a
monthly limit, in turn; the difference is what the budget adds: bounding the call, and holding its cost in two
counters, in a transaction that every process on the machine sees. The target is 200 microseconds at p50.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

import litellm
from bench_callback import CALLS, compare, show

from llm_savings import Budget, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.tokens import count

PROMPT = "You answer briefly and kindly. " * 40 + "Where is my refund?"
USAGE = Usage(input=212, output=40)
# The same instructions at every call, and a question that nobody has asked before.
QUESTIONS = (
    f"Where is parcel {number}, which I ordered last week? 제 택배는 어디에 있나요?" for number in itertools.count()
)
SIZE = Size(len(PROMPT) + 100, 100, count=lambda: count(PROMPT) + count(next(QUESTIONS)))


def caller(meter: Meter, size: Size) -> Callable[[], Any]:
    """One call as a host makes it, without the host."""
    numbers = itertools.count()

    def call() -> None:
        sent = Sent(call_id=f"{id(meter)}-{next(numbers)}", host="sdk", requested_model="gpt-4o", provider="openai")
        live = meter.begin(sent, size)
        meter.answered(live, Answer(model="gpt-4o", usage=USAGE))

    return call


def took(name: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    print(f"{name:<44} p50 {statistics.median(taken):8.1f} us   p99 {ordered[int(len(ordered) * 0.99)]:8.1f} us")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Meter(Path(folder, "plain.db"))
        one = Meter(Path(folder, "one.db"), budget=Budget(daily="1000000"))
        two = Meter(Path(folder, "two.db"), budget=Budget(daily="1000000", monthly="1000000"))
        counted = Meter(Path(folder, "counted.db"), budget=Budget(daily="1000000", monthly="1000000"))
        manager = litellm.BudgetManager(project_name="bench", client_type="local")
        manager.create_budget(total_budget=1_000_000, user="kim")
        answer = litellm.mock_completion("gpt-4o", [{"role": "user", "content": "x"}], mock_response="In five days.")
        os.chdir(folder)  # where the manager keeps its file

        def managed() -> None:
            if manager.get_current_cost(user="kim") <= manager.get_total_budget("kim"):
                manager.update_cost(completion_obj=answer, user="kim")

        bytes_only = Size(SIZE.prompt, SIZE.max_tokens)
        taken = compare(
            {
                "plain": caller(plain, bytes_only),
                "one": caller(one, bytes_only),
                "two": caller(two, bytes_only),
                "counted": caller(counted, SIZE),
            }
        )
        # Apart: whoever comes next after LiteLLM finds the processor's caches full of it.
        theirs = compare({"manager": managed, "priced": lambda: litellm.completion_cost(answer, model="gpt-4o")})
        took("a metered call without a budget takes", taken["plain"])
        show("a daily limit adds", taken["one"], taken["plain"])
        show("a daily and a monthly limit add", taken["two"], taken["plain"])
        show("  and counting the prompt's tokens as well", taken["counted"], taken["plain"])
        took("litellm.BudgetManager takes (one process)", theirs["manager"])
        took("litellm.completion_cost takes", theirs["priced"])
        rows = two.ledger.summary("total")[0]
        charged = {counter.spent for counter in two.ledger.budgets.counters().values()}
        print(f"rows {rows.calls:,} of {CALLS + 100:,}, ${rows.actual} spent, the counters say {charged} picodollars")
        for meter in (plain, one, two, counted):
            meter.ledger.close()


if __name__ == "__main__":
    main()
