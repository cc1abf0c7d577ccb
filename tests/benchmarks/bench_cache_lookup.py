"""A whole lookup of the semantic cache: scope, embedding, index, match model and decision, beside GPTCache.

    python tests/benchmarks/bench_cache_lookup.py [--entries 1000,10000,100000] [--store URL] [--peers PYTHON]

A lookup asks a new question of one scope with so many entries, each looked up before it was kept, English and Korean in
turn: people's questions where
../shared/data has them (CLINC150, Banking77, paraKQC, Question_pair, Chatbot_data), as far as they go, else made from
templates. GPTCache runs in the same run by the interpreter that has it: its FAISS and SQLite managers, its default
evaluation, the same embedder's vectors.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data/semcache"
LOOKUPS = 2_000
ANSWER = '{"content": "' + "A short answer, as a shop would give it. " * 5 + '"}'
# Things, places and kinds; what is asked of them, each line one thing in several wordings.
WORDS = {
    "en": (
        "order refund parcel invoice password account voucher subscription return card address coupon warranty receipt "
        "contract meter ticket booking loan deposit",
        "Seoul Busan Paris Berlin London Tokyo Austin Lima Oslo Cairo Madrid Vienna Dublin Prague Athens Lisbon Hanoi "
        "Boston Denver Miami Rome Milan Porto Bergen Warsaw Perth Delhi Manila Osaka Leeds",
        "damaged late gift corporate express heavy fragile frozen shared annual student family weekend digital cheap "
        "used foreign second lost premium",
        """How do I change my {0} {1}?|I want to change the {0} {1} in {2}, how?|Can my {0} {1} be changed in {2}?
Why has the {0} {1} for {2} not arrived yet?|My {0} {1} to {2} still isn't here, why?|{0} {1} {2} not arrived
What does a {0} {1} cost in {2}?|How much is a {0} {1} in {2}?|price of a {0} {1} in {2}
Can someone else pick up the {0} {1} in {2}?|May a friend collect my {0} {1} in {2} for me?
Please explain the rules for a {0} {1} in {2}.|What are the rules for a {0} {1} in {2}?
Who do I call about a {0} {1} from {2}?|Whom should I contact about my {0} {1} from {2}?
When does the {0} {1} reach {2}?|How long does the {0} {1} take to {2}?
Where is the {0} {1} that I sent to {2}?|track my {0} {1} to {2}
I lost my {0} {1} in {2}, what should I do?|What happens when a {0} {1} is lost in {2}?
Is a {0} {1} taxed in {2}?|Do I pay tax on a {0} {1} in {2}?
Can I cancel the {0} {1} after I moved to {2}?|cancel {0} {1} {2}
Do I need an ID for a {0} {1} in {2}?|Which papers does a {0} {1} need in {2}?""",
    ),
    "ko": (
        "주문 환불 택배 영수증 비밀번호 계정 쿠폰 구독 반품 카드 주소 상품권 보증서 배송 "
        "계약 요금 예약 대출 보증금 교환",
        "서울 부산 파리 베를린 런던 도쿄 대전 광주 인천 제주 울산 수원 마드리드 더블린 프라하 아테네 "
        "하노이 보스턴 덴버 마이애미 로마 밀라노 바르샤바 델리 마닐라 오사카 대구 청주 전주 강릉",
        "파손된 늦은 선물용 법인 특급 무거운 깨지기쉬운 냉동 공동 연간 학생 가족 주말 디지털 "
        "저렴한 중고 해외 두번째 분실한 프리미엄",
        """{0} {1} 어떻게 바꾸나요?|{2}에서 {0} {1}을 바꾸고 싶은데 방법이 뭔가요?|{2}에서 {0} {1} 변경 되나요?
{2} {0} {1}이 왜 아직 안 왔나요?|{0} {1}이 {2}에 안 왔는데 이유가 뭐죠?|{2} {0} {1} 미도착
{2}에서 {0} {1}은 얼마예요?|{2} {0} {1} 가격 알려줘|{0} {1} 비용이 {2}에서 얼마나 드나요?
{2}에서 {0} {1}을 다른 사람이 찾아도 되나요?|제 {0} {1}을 친구가 {2}에서 대신 받을 수 있나요?
{2}의 {0} {1} 규정을 설명해 주세요.|{2} {0} {1} 규정이 어떻게 되나요?
{2} {0} {1} 문의는 어디에 하나요?|{0} {1} 관련해서 {2} 누구에게 연락하죠?
{0} {1}은 언제 {2}에 도착하나요?|{0} {1}이 {2}까지 얼마나 걸려요?
{2}로 보낸 {0} {1}은 지금 어디에 있나요?|{2} {0} {1} 조회
{2}에서 {0} {1}을 잃어버렸는데 어떡하죠?|{2}에서 {0} {1}을 분실하면 어떻게 되나요?
{2}에서 {0} {1}에 세금이 붙나요?|{0} {1} 세금을 {2}에서 내야 하나요?
{2}로 이사하면 {0} {1}을 취소할 수 있나요?|{2} {0} {1} 취소
{2}에서 {0} {1}에 신분증이 필요한가요?|{2} {0} {1} 필요 서류가 뭐예요?""",
    ),
}


def asked_by_people() -> Iterator[str]:
    """Different questions of the data sets, English and Korean in turn, in a fixed random order."""
    keys = ("text", "question", "a", "b")
    sets: list[list[str]] = []
    for language in ("en", "ko"):
        found = [
            text
            for file in sorted(DATA.glob(f"{language}_*.jsonl.gz"))
            for line in gzip.decompress(file.read_bytes()).decode().splitlines()
            for key, text in json.loads(line).items()
            if key in keys
        ]
        sets.append(list(dict.fromkeys(found)))
        random.Random(5).shuffle(sets[-1])
    yield from itertools.chain.from_iterable(zip(*sets, strict=False))


def questions() -> Iterator[str]:
    """People's questions, and when they are used up, or not there, made ones."""
    yield from asked_by_people()
    yield from made()


def made() -> Iterator[str]:
    """Different questions, English and Korean in turn, in a fixed random order."""
    chance = random.Random(0)
    seen: set[str] = set()
    for language in itertools.cycle(("en", "ko")):
        things, places, kinds, lines = WORDS[language]
        wording = chance.choice(chance.choice(lines.split("\n")).split("|"))
        # A few things are asked often, most of them once: that is where others' wordings meet.
        few = chance.random() < 0.4
        one, two, three = (words.split()[: 4 if few else None] for words in (kinds, things, places))
        text = wording.format(chance.choice(one), chance.choice(two), chance.choice(three))
        if text not in seen:
            seen.add(text)
            yield text


def timed(call: Callable[[str], Any], asked: list[str]) -> tuple[list[float], list[Any]]:
    """Milliseconds of each call, and what it gave."""
    taken: list[float] = []
    found: list[Any] = []
    for text in asked:
        began = time.perf_counter()
        found.append(call(text))
        taken.append((time.perf_counter() - began) * 1e3)
    return taken, found


def percentiles(taken: list[float]) -> str:
    return f"{statistics.median(taken):.3f} / {sorted(taken)[int(len(taken) * 0.99)]:.3f}" if taken else ""


def ours(entries: int, store: str | None) -> list[str]:
    """A line of the table: all lookups, and those of a kind; memory; what was found."""
    import psutil

    from llm_savings.semantic_cache import AnswerCache, Hit, Request, Settings

    def asking(text: str) -> Request:
        system = {"role": "system", "content": "You answer customers of a shop, briefly and kindly. " * 20}
        turns = [system, {"role": "user", "content": text}]
        return Request(model="gpt-4o", messages=turns, parameters={"temperature": 0})

    AnswerCache(None, text_of=str).lookup(asking("warm up 준비"))
    given = questions()
    fresh = list(itertools.islice(given, LOOKUPS + 200))
    stored = list(itertools.islice(given, entries))
    gc.collect()
    before = psutil.Process().memory_info().rss
    cache = AnswerCache(store, Settings(max_entries=None, wait=0, audit_rate=0), text_of=str)
    for text in stored:  # looked up, and kept, as in use
        request = asking(text)
        cache.lookup(request)
        cache.keep(cache.question(request), ANSWER)  # type: ignore[arg-type]
    requests = [asking(text) for text in fresh]
    for request in requests[:200]:
        cache.lookup(request)
    taken, found = timed(cache.lookup, requests[200:])  # type: ignore[arg-type]
    used = (psutil.Process().memory_info().rss - before) / 1e6
    cache.close()
    hits = [isinstance(one, Hit) for one in found]
    korean = [not one.question.text.isascii() for one in found]
    why = Counter("hit" if isinstance(one, Hit) else one.reason.split(":")[0] for one in found)
    passed = [ms for ms, one in zip(taken, found, strict=True) if isinstance(one, Hit) or one.judged]
    return [
        percentiles(taken),
        percentiles(passed),
        *(
            percentiles(list(itertools.compress(taken, kind))).partition(" ")[0]
            for kind in (hits, [not hit for hit in hits], [not ko for ko in korean], korean)
        ),
        f"{used:.0f}",
        ", ".join(f"{name} {count / len(found):.0%}" for name, count in why.most_common(4)),
    ]


def gptcache(entries: int) -> list[float]:
    """Milliseconds of GPTCache's lookups, with its faiss and sqlite managers."""
    import faiss as _
    import sqlalchemy as _  # noqa: F811
    from gptcache import Cache
    from gptcache.adapter.api import get, put
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.similarity_evaluation import SearchDistanceEvaluation

    from llm_savings.embedding import BundledEmbedder

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
        fresh = list(itertools.islice(given, LOOKUPS // 4))
        for text in itertools.islice(given, entries):
            put(text, ANSWER, cache_obj=cache)
        taken, _ = timed(lambda text: get(text, cache_obj=cache), fresh)
        return taken


def alone(python: str, *options: str) -> Any:
    """What this script gives with these options in a process of its own, whose memory nothing else has filled."""
    command = [python, __file__, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    if done.returncode:
        return f"not measured: {(done.stderr.strip().splitlines() or ['ended without a word'])[-1][:80]}"
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", default="1000,10000,100000")
    parser.add_argument("--store", default=None, help="a file, postgresql:// or redis://; memory by default")
    parser.add_argument("--peers", default=sys.executable, help="a Python that has gptcache, faiss-cpu and sqlalchemy")
    parser.add_argument("--ours", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--gptcache", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ours or given.gptcache:
        found = ours(given.ours, given.store) if given.ours else percentiles(gptcache(given.gptcache))
        print(json.dumps(found))
        return

    from rich.console import Console
    from rich.table import Table

    columns = ("p50 / p99 ms", "no guard", "hits p50", "misses", "English", "Korean", "memory MB", "what was found")
    table = Table("entries in the scope", *columns)
    store = ("--store", given.store) if given.store else ()
    for entries in map(int, given.entries.split(",")):
        found = alone(sys.executable, "--ours", str(entries), *store)
        table.add_row(f"llm-savings, {entries:,}", *([found] if isinstance(found, str) else found))
    table.add_row("GPTCache, 1,000", alone(given.peers, "--gptcache", "1000"))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
