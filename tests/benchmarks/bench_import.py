"""What `import llm_savings` costs a program, beside the hosts it plugs into. Fresh interpreters, median of several."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

RUNS = 7


def seconds(code: str, runs: int = RUNS) -> float:
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def main() -> None:
    empty = seconds("pass")
    ours = seconds("import llm_savings") - empty
    print(f"import llm_savings     {ours * 1000:8.1f} ms")
    meter = seconds("from llm_savings import Meter") - empty
    print(f"  ... and Meter        {meter * 1000:8.1f} ms")
    for host in ("langchain_core.callbacks", "litellm"):
        theirs = seconds(f"import {host}", 3) - empty
        print(f"import {host:24} {theirs * 1000:8.1f} ms ({theirs / ours:.0f}x)")


if __name__ == "__main__":
    main()
