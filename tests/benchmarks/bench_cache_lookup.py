"""A whole lookup of the semantic cache: scope, embedding, index, match model and decision, beside other caches.

Run it as a script; `--entries 1000,10000,100000` and `--store URL` choose what is measured. Questions are made from
templates, English and Korean in turn, so that no data is needed. A lookup asks a new question of one scope with so many
entries. GPTCache and redisvl are measured in the same run where they are installed; their embedding is the same one.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
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
WORDS = {
    "en": (
        "order refund parcel invoice password account voucher subscription return card address coupon warranty receipt",
        "Seoul Busan Paris Berlin London Tokyo Austin Lima Oslo Cairo Madrid Vienna Dublin Prague Athens Lisbon",
        "damaged late gift corporate express heavy fragile frozen shared annual student family weekend digital",
        "How do I change my {} {} in {}?|Why has the {} {} for {} not arrived yet?|What does a {} {} cost in {}?"
        "|Can someone else pick up the {} {} in {}?|Please explain the rules for a {} {} in {}."
        "|Who do I call about a {} {} from {}?|When does the {} {} reach {}?|Where is the {} {} that I sent to {}?",
    ),
    "ko": (
        "주문 환불 택배 영수증 비밀번호 계정 쿠폰 구독 반품 카드 주소 상품권 보증서 배송",
        "서울 부산 파리 베를린 런던 도쿄 대전 광주 인천 제주 울산 수원 마드리드 더블린 프라하 아테네",
        "파손된 늦은 선물용 법인 특급 무거운 깨지기쉬운 냉동 공동 연간 학생 가족 주말 디지털",
        "{} {}을 {}에서 어떻게 바꾸나요?|{} {}은 {}에 왜 아직 안 왔나요?|{} {}은 {}에서 얼마예요?"
        "|{} {}을 {}에서 다른 사람이 찾아도 되나요?|{} {}에 대한 {} 규정을 설명해 주세요."
        "|{} {} 문의는 {} 어디에 하나요?|{} {}은 언제 {}에 도착하나요?|{} {}은 지금 {} 어디에 있나요?",
    ),
}


def questions() -> Iterator[str]:
    """Different questions, English and Korean in turn, in a fixed random order."""
    chance = random.Random(0)
    seen: set[str] = set()
    for language in itertools.cycle(("en", "ko")):
        things, places, kinds, patterns = WORDS[language]
        text = chance.choice(patterns.split("|")).format(
            chance.choice(kinds.split()), chance.choice(things.split()), chance.choice(places.split())
        )
        # Another word or two, so that there are enough of them.
        text = f"{chance.choice(kinds.split())} {chance.choice(things.split())}: {text}"
        if text not in seen:
            seen.add(text)
            yield text


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
