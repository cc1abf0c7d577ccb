"""A report over 1,000,000 calls: seconds and peak memory, beside a plain Python loop over the same rows."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from llm_savings import Ledger, Usage
from llm_savings.ledger import Sent, Settled

ROWS = 1_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-haiku-4-5", "o3")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "costs.db")
        ledger = Ledger(path)
        fill(ledger)
        size = path.stat().st_size / 1e6
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        since = datetime(2026, 11, 1, tzinfo=UTC)
        all_of_it = 0.0
        for by in ("total", "model", "day", "tag:feature"):
            start = time.perf_counter()
            lines = ledger.summary(by, tz="Asia/Seoul")
            seconds = time.perf_counter() - start
            all_of_it += seconds
            print(f"{by:12} {seconds:6.2f} s  {len(lines):4} lines")
        start = time.perf_counter()
        ledger.summary("model", since=since)
        print(f"{'since':12} {time.perf_counter() - start:6.2f} s")
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
        print(
            f"all four     {all_of_it:6.2f} s, file {size:.0f} MB, peak memory {peak:.0f} MB (was {before / 1024:.0f})"
        )
        start = time.perf_counter()
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for i, call in enumerate(ledger.calls()):
            if call.settled and call.settled.actual is not None:
                sums[call.settled.model or ""] += call.settled.actual
            if i == ROWS // 20:
                break
        loop = (time.perf_counter() - start) * 20
        print(f"the same by model in a Python loop: about {loop:.0f} s ({loop / all_of_it:.0f}x the four reports)")


def fill(ledger: Ledger) -> None:
    start = datetime(2026, 10, 24, tzinfo=UTC)
    store = ledger._store
    for chunk in range(0, ROWS, 20_000):
        entries = []
        for i in range(chunk, chunk + 20_000):
            sent = Sent(
                call_id=f"{i * 2654435761 % 2**32:08x}-{i:027d}",
                host="langchain",
                requested_model=MODELS[i % 5],
                started_at=start + timedelta(seconds=2.6 * i),
                bound=Decimal("0.16"),
                tags={"feature": f"f{i % 7}", "team": f"t{i % 3}"},
                user=f"u{i % 1000}",
                provider="openai",
            )
            end = Settled(
                status="ok",
                basis="measured" if i % 50 else "estimated",
                model=MODELS[i % 5],
                usage=Usage(input=100 + i % 900, cache_read=i % 500, output=i % 300),
                actual=Decimal(i % 9999).scaleb(-6),
                baseline=Decimal(i % 9999 + 10).scaleb(-6),
                response_id=f"chatcmpl-{i:024x}",
                latency=0.5,
            )
            entries.append((sent, end if i % 100 else None))
        store.write(entries)


if __name__ == "__main__":
    main()
