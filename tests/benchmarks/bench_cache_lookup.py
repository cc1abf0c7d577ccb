"""A whole lookup of the semantic cache: scope, embedding, index, match model and decision, beside other caches.

Run it as a script; `--entries 1000,10000,100000` and `--store URL` choose what is measured. Questions are made from
templates, English and Korean in turn, so that no data is needed. A lookup asks a new question of one scope with so many
entries. GPTCache and redisvl are measured in the same run where they are installed; their embedding is the same one.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from llm_savings.embedding import BundledEmbedder
from llm_savings.semantic_cache import AnswerCache, Miss, Request, Settings

LOOKUPS = 2_000
ANSWER = '{"content": "' + "A short answer, as a shop would give it. " * 5 + '"}'
THINGS = {
    "en": ["order", "refund", "parcel", "invoice", "password", "account", "voucher", "subscription", "return", "card"],
    "ko": ["주문", "환불", "택배", "영수증", "비밀번호", "계정", "쿠폰", "구독", "반품", "카드"],
}
PLACES = {
    "en": ["Seoul", "Busan", "Paris", "Berlin", "London", "Tokyo", "Austin", "Lima", "Oslo", "Cairo"],
    "ko": ["서울", "부산", "파리", "베를린", "런던", "도쿄", "대전", "광주", "인천", "제주"],
}
ASKED = {
    "en": [
        "How do I change my {thing} number {n} in {place}?",
        "Why has the {thing} {n} for {place} not arrived yet?",
        "Can someone else pick up {thing} {n} at the {place} branch?",
        "What does {thing} {n} cost when it goes to {place}?",
        "Please explain the rules for {thing} {n} in {place}.",
    ],
    "ko": [
        "{place}에서 {n}번 {thing}을 어떻게 바꾸나요?",
        "{place}로 가는 {thing} {n}번은 왜 아직 안 왔나요?",
        "{place} 지점에서 {thing} {n}번을 다른 사람이 찾아도 되나요?",
        "{place}까지 {thing} {n}번은 얼마예요?",
        "{place}의 {thing} {n}번 규정을 설명해 주세요.",
    ],
}


def questions() -> Iterator[str]:
    """Different questions without end, English and Korean in turn."""
    for n in itertools.count(1):
        for number in range(10):
            for language in ("en", "ko"):
                place, pattern = PLACES[language][(n + number) % 10], ASKED[language][(n + number) % 5]
                yield pattern.format(thing=THINGS[language][number], place=place, n=n)


def asking(text: str) -> Request:
    system = {"role": "system", "content": "You answer customers of a shop, briefly and kindly. " * 20}
    return Request(model="gpt-4o", messages=[system, {"role": "user", "content": text}], parameters={"temperature": 0})


def timed(call: Callable[[str], Any], asked: list[str]) -> tuple[float, float]:
    """Milliseconds: median and 99th percentile."""
    taken: list[float] = []
    for text in asked:
        began = time.perf_counter()
        call(text)
        taken.append((time.perf_counter() - began) * 1e3)
    taken.sort()
    return statistics.median(taken), taken[int(len(taken) * 0.99)]


def ours(entries: int, store: str | None) -> tuple[float, float, float, str]:
    """Median, 99th percentile, memory in MB, and what was found."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    cache = AnswerCache(store, Settings(max_entries=None, wait=0, audit_rate=0), text_of=str)
    given = questions()
    for text in track(itertools.islice(given, entries), f"keeping {entries:,}", total=entries, transient=True):
        question = cache.question(asking(text))
        cache.keep(question, ANSWER)  # type: ignore[arg-type]
    time.sleep(3)  # an index may be under construction
    used = (psutil.Process().memory_info().rss - before) / 1e6
    fresh = list(itertools.islice(given, LOOKUPS))
    found = [cache.lookup(asking(text)) for text in fresh[:100]]
    p50, p99 = timed(lambda text: cache.lookup(asking(text)), fresh[100:])
    missed = {miss.reason.split(":")[0] for miss in found if isinstance(miss, Miss)}
    cache.close()
    return p50, p99, used, ", ".join(sorted(missed))


def gptcache(entries: int) -> tuple[float, float]:
    """GPTCache with its faiss and sqlite managers."""
    import tempfile

    from gptcache import Cache
    from gptcache.adapter.api import get, put
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.similarity_evaluation import SearchDistanceEvaluation

    embedder = BundledEmbedder()
    with tempfile.TemporaryDirectory() as folder:
        manager = get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{folder}/cache.db"),
            VectorBase("faiss", dimension=embedder.dimensions, index_path=f"{folder}/faiss.index"),
            max_size=10 * entries,
        )
        cache = Cache()
        cache.init(
            pre_embedding_func=lambda data, **_: data["prompt"],
            embedding_func=lambda text, **_: embedder.embed([text])[0],
            data_manager=manager,
            similarity_evaluation=SearchDistanceEvaluation(),
        )
        given = questions()
        for text in track(itertools.islice(given, entries), "GPTCache", total=entries, transient=True):
            put(text, ANSWER, cache_obj=cache)
        return timed(lambda text: get(text, cache_obj=cache), list(itertools.islice(given, LOOKUPS // 4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", default="1000,10000,100000")
    parser.add_argument("--store", default=None, help="a file, postgresql:// or redis://; memory by default")
    parser.add_argument("--peers", default=1000, type=int, help="entries for GPTCache, which is slow to fill")
    given = parser.parse_args()
    table = Table("entries in the scope", "p50 ms", "p99 ms", "memory MB", "missed because")
    BundledEmbedder().embed(["warm up", "준비"])
    for entries in map(int, given.entries.split(",")):
        p50, p99, used, why = ours(entries, given.store)
        table.add_row(f"llm-savings, {entries:,}", f"{p50:.3f}", f"{p99:.3f}", f"{used:.0f}", why)
    try:
        p50, p99 = gptcache(given.peers)
        table.add_row(f"GPTCache, {given.peers:,}", f"{p50:.3f}", f"{p99:.3f}", "", "")
    except ImportError as error:
        table.add_row(f"GPTCache: {error}", "", "", "", "")
    Console().print(table)


if __name__ == "__main__":
    main()
