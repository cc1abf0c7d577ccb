"""What batch jobs take of time and memory: python tests/benchmarks/bench_batch.py [LINES]

Lines are prepared (read from a file, parsed, checked, told apart, bounded in cost, written to the journal, made into
the provider's file) and results are parsed (read from the provider's bytes in pieces, parsed, priced tokens, written to
the journal), for 20,000 and LINES (200,000) lines, each size in a process of its own. Beside them, in the same run,
what plain json takes to read the same lines and write them again. Rates are in lines per second of CPU time, since
this machine may have other work to do; memory is what the process's peak grew by.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_savings.batch import decisions
from llm_savings.batch.inputs import Reader, Target, raw
from llm_savings.batch.job import Job
from llm_savings.batch.journal import Journal
from llm_savings.batch.openai import _result
from llm_savings.batch.provider import lines_of, rules_of
from llm_savings.batch.records import JobRow
from llm_savings.pricing import PriceBook

WHERE = Target("openai", "gpt-4o-mini", "/v1/chat/completions")
REVIEW = (
    "배송이 정말 빨라서 좋았어요. The box was a little dented but the product itself is fine, I would buy it again."
)


def write_inputs(path: Path, many: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(many):
            turns = [
                {"role": "system", "content": "Classify the review's sentiment as JSON."},
                {"role": "user", "content": f"{number}: {REVIEW}"},
            ]
            body = {"model": WHERE.model, "messages": turns, "max_tokens": 60}
            line = {"custom_id": f"r{number}", "method": "POST", "url": WHERE.endpoint, "body": body}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_results(path: Path, names: Iterable[str]) -> None:
    usage = {"prompt_tokens": 60, "completion_tokens": 14, "total_tokens": 74}
    with path.open("w", encoding="utf-8") as file:
        for name in names:
            message = {"role": "assistant", "content": '{"sentiment":"긍정","reason":"배송이 빠르다"}'}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"id": f"chatcmpl-{name}", "model": WHERE.model, "choices": [choice], "usage": usage}
            answer = {"status_code": 200, "request_id": "req", "body": body}
            line = {"id": "batch_req", "custom_id": name, "response": answer, "error": None}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(65536):
            yield piece


def plain(path: Path) -> Callable[[], int]:
    def work() -> int:
        count = 0
        with path.open(encoding="utf-8") as file, Path(os.devnull).open("w", encoding="utf-8") as out:
            for line in file:
                out.write(json.dumps(json.loads(line), ensure_ascii=False))
                count += 1
        return count

    return work


def rate(work: Callable[[], int]) -> float:
    began = time.process_time()
    count = work()
    return count / (time.process_time() - began)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, many: int) -> dict[str, float]:
    inputs, results = folder / "in.jsonl", folder / "out.jsonl"
    write_inputs(inputs, many)
    prices, rules, book = PriceBook(), rules_of("openai"), Journal(folder / "j.db")
    reader = Reader(WHERE, rules, prices)
    next(reader.read(*line) for line in raw(inputs))  # the price map is read once
    found: dict[str, float] = {"read, plain json": rate(plain(inputs))}
    found["read and checked"] = rate(lambda: sum(1 for line in raw(inputs) if reader.read(*line)))
    before = peak()
    row = JobRow(0, "", "openai", WHERE.model, WHERE.endpoint, "sdk", 0.0, "new", None, {})

    def prepare() -> int:
        nonlocal row
        row = book.add(row, (reader.read(*line) for line in raw(inputs)), salt="")
        while plan := decisions.fill(((n, len(b) + 120, t) for n, _, b, t in book.waiting(row)), rules, None):
            book.plan(row, plan.until, plan.count, plan.tokens)
        with Path(os.devnull).open("wb") as out:
            for chunk in book.chunks(row):
                out.writelines(body for _, body in book.lines(chunk))
        return many

    found["prepared, with the journal"] = rate(prepare)
    write_results(results, (f"{row.id}-{key}" for chunk in book.chunks(row) for key, _ in book.lines(chunk)))
    found["parsed, plain json"] = rate(plain(results))

    def parsed() -> Iterator[Any]:
        return map(decisions.ending, map(_result, lines_of(pieces(results))))

    found["results parsed"] = rate(lambda: sum(1 for _ in parsed()))

    def collect() -> int:
        page: list[Any] = []
        for ending in parsed():
            page.append(ending)
            if len(page) == 500:
                book.end(row, page)
                page = []
        book.end(row, page)
        return many

    found["results parsed, with the journal"] = rate(collect)
    job = Job(book, row, None, None)  # type: ignore[arg-type]
    found["outcomes read"] = rate(lambda: sum(1 for _ in job.results()))
    return found | {"memory (MB)": peak() - before}


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    table: dict[int, dict[str, float]] = {}
    for size in (20_000, many):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "found.json")
            if os.fork() == 0:
                out.write_text(json.dumps(measure(Path(folder), size)))
                os._exit(0)
            os.wait()
            table[size] = json.loads(out.read_text())
    print(f"{'lines a second of CPU':34}" + "".join(f"{size:>14,}" for size in table))
    for name in table[many]:
        print(f"{name:34}" + "".join(f"{found[name]:>14,.0f}" for found in table.values()))


if __name__ == "__main__":
    main()
