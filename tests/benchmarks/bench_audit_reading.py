"""Reading logs without prompts and pricing each call, beside what parsing the same file alone takes.

Each reader is a process of its own, for its peak memory. `python bench_audit_reading.py 100000` for fewer records.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

RECORDS = 1_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash")
START = datetime(2026, 11, 1, tzinfo=UTC)


def row(n: int) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{n}",
        "timestamp": (START + timedelta(seconds=n * 2.5)).isoformat(),
        "model": MODELS[n % 4],
        "prompt_tokens": 200 + n % 3000,
        "completion_tokens": 50 + n % 500,
        "latency_s": 0.5 + n % 7,
        "user": f"u{n % 5000}",
        "feature": ("faq", "agent", "search")[n % 3],
    }


def payload(n: int) -> dict[str, object]:
    at = START.timestamp() + n * 2.5
    prompt, completion = 200 + n % 3000, 50 + n % 500
    used = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": f"chatcmpl-{n}", "call_type": "acompletion", "status": "success", "custom_llm_provider": None,
        "model": MODELS[n % 4], **used, "response_cost": None, "startTime": at, "endTime": at + 0.5 + n % 7,
        "cache_hit": None, "end_user": f"u{n % 5000}", "request_tags": [f"feature:{n % 3}"],
        "metadata": {"usage_object": used}, "messages": None, "response": None, "model_parameters": {},
    }  # fmt: skip


def write(folder: Path, records: int) -> list[Path]:
    table, lines, litellm = folder / "calls.csv", folder / "calls.jsonl", folder / "litellm.jsonl"
    with table.open("w") as as_csv, lines.open("w") as as_lines, litellm.open("w") as as_payloads:
        as_csv.write(",".join(row(0)) + "\n")
        for n in range(records):
            one = row(n)
            as_csv.write(",".join(map(str, one.values())) + "\n")
            as_lines.write(json.dumps(one) + "\n")
            as_payloads.write(json.dumps(payload(n)) + "\n")
    return [table, lines, litellm]


def parse(path: str) -> int:
    """The peer: the parser alone, which knows nothing of calls."""
    import csv

    import orjson

    if path.endswith(".csv"):
        with Path(path).open(newline="") as file:
            return sum(1 for _ in csv.DictReader(file))
    with Path(path).open("rb") as file:
        return sum(1 for line in file if orjson.loads(line))


def read(path: str) -> int:
    from llm_savings.audit import read_logs

    return sum(1 for _ in read_logs(path))


def price(path: str) -> int:
    from llm_savings import PriceBook
    from llm_savings.audit import read_logs

    book, count, total = PriceBook(), 0, 0
    for record in read_logs(path):
        total += book.price(record.usage, record.model, mode=record.mode, at=record.at, provider=record.provider)
        count += 1
    assert total > 0
    return count


def measured(how: str, path: Path) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, __file__, how, str(path)],
        capture_output=True, text=True, check=True, env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"},
    )  # fmt: skip
    took, peak, count = done.stdout.split()
    return float(took), float(peak), int(count)


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        print(f"{records:,} records without prompts")
        print(f"{'file':14} {'MB':>5}  {'what':22} {'s':>6} {'records/s':>10} {'peak MB':>8}  beside parsing")
        for path in write(Path(folder), records):
            alone = 0.0
            for how, what in (("parse", "the parser alone"), ("read", "read_logs"), ("price", "read_logs and a price")):
                took, peak, count = measured(how, path)
                assert count == records
                alone = alone or took
                size = path.stat().st_size / 1e6
                rate = f"{records / took:10,.0f}"
                print(f"{path.name:14} {size:5.0f}  {what:22} {took:6.1f} {rate} {peak:8.0f}  {took / alone:.1f}x")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        begin = time.perf_counter()
        number = {"parse": parse, "read": read, "price": price}[sys.argv[1]](sys.argv[2])
        print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, number)
    else:
        main()
