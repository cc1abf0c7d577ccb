"""The semantic cache learning in domains that its calibration never saw: wrong answers and hits along seeded streams.

Run it as a script. Each question of a stream is compared with all earlier ones; a stored answer is right when both
questions carry the same label, and that label is the judge. English models are fitted on one data set and run on
another (the embedder was taught intents of both, on other rows); as shipped, both languages' run on streams that their
models did not see. `made` domains ask a few things of many places in several wordings, so that the nearest question
usually differs in one word. Beside it the same without learning, and plain cosine, calibrated on the same foreign data,
with the same learning. Every run starts from a threshold that keeps half of `max_error` in the domain of its
calibration, or from the shipped one.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from match_data import parakqc, part

from llm_savings.embedding import BundledEmbedder
from llm_savings.semantic_cache.learning import Evidence, Threshold, audit_chance, label, seen, threshold
from llm_savings.semantic_cache.match import Candidate, MatchModel, prepare
from llm_savings.semantic_cache.match.bounds import at_least, at_most, safe_threshold
from llm_savings.semantic_cache.match.features import NAMES
from llm_savings.semantic_cache.match.fitting import fit

DATA = Path(os.environ.get("LLM_SAVINGS_TEST_DATA", Path(__file__).parents[3] / "shared/data")) / "semcache"
MAX_ERROR, RATE, SEEDS, AGAIN = 0.01, 0.02, 4, 3
LENGTH = 5_000
Texts = tuple[list[str], list[str]]
Floats = npt.NDArray[np.float64]

PLACES = {
    "en": """\
Seoul Busan Tokyo Osaka Kyoto Paris Lyon Nice Berlin Hamburg Munich London Leeds Dublin Madrid Seville Lisbon
Porto Rome Milan Turin Vienna Zurich Geneva Oslo Bergen Helsinki Warsaw Prague Budapest Athens Cairo Nairobi Lagos
Delhi Mumbai Bangkok Hanoi Manila Jakarta Sydney Perth Toronto Boston Chicago Denver Dallas Miami Lima Havana""",
    "ko": """\
서울 부산 대구 인천 광주 대전 울산 수원 창원 고양 용인 성남 청주 전주 천안 안산 화성 안양 김해 평택 포항 시흥
파주 구미 원주 양산 진주 강릉 목포 여수 순천 군산 익산 경주 안동 춘천 속초 제주 거제 통영 충주 제천 공주
논산 아산 당진 나주""",
}
ASKED = {
    "en": """What is the population of {}?|How many people live in {}?|Tell me the number of inhabitants of {}
What is the best restaurant in {}?|Where should I eat in {}?|Recommend a good place for dinner in {}
How is the weather in {} today?|What's the weather like in {}?|weather {} today
How do I get from the airport to the centre of {}?|airport transfer {}|Best way from the airport into {}?
What time is it in {} right now?|current local time {}|Tell me the time in {}
How much is a hotel in {}?|What does a hotel room cost in {}?|average hotel price {}
Which museums can I visit in {}?|list of museums {}|What are the museums in {}?
Is {} safe at night?|Can I walk around {} safely after dark?|night safety {}
When is the best time to visit {}?|Which month is best for a trip to {}?|best season {}
Who is the mayor of {}?|What is the name of the mayor in {}?|mayor {}""",
    "ko": """{} 인구가 몇 명이야?|{}에는 사람이 얼마나 살아?|{} 인구 수 알려줘
{} 맛집 추천해줘|{}에서 뭐 먹을까?|{} 괜찮은 식당 어디야?
오늘 {} 날씨 어때?|{} 날씨 알려줘|{} 지금 날씨가 궁금해
{} 시장이 누구야?|{} 시장 이름 알려줘|{}의 현재 시장은 누구지?
{} 호텔 가격이 얼마야?|{} 숙박비 알려줘|{}에서 하룻밤 자는 데 얼마 들어?
{} 가는 기차 시간표 알려줘|{}행 기차 몇 시에 있어?|{} 기차 언제 출발해?
{} 여행 언제 가는 게 좋아?|{} 여행하기 좋은 계절은?|{}는 몇 월에 가면 좋아?
{} 박물관 어디 있어?|{}에 박물관이 뭐가 있지?|{} 박물관 목록 알려줘""",
}


class Stream(NamedTuple):
    """Of each lookup: the best candidate's features and probability, the nearest one's cosine, and who was right.

    `chance` and `right` are those of a domain that has not shown that it repeats, `wide` those of one that has.
    """

    features: Floats
    chance: Floats
    right: npt.NDArray[np.bool_]
    wide: Sequence[tuple[float, bool]]
    shows: Sequence[tuple[str, ...]]
    cosine: Floats
    nearest_right: npt.NDArray[np.bool_]


def read(name: str) -> Texts:
    """Texts and labels, without the rows whose intents the embedder was taught (see scripts/match_data.py)."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    taught = {"en_clinc150_train": 0.3, "en_banking77_train": 0.2}.get(name, 0.0)
    rows = [row for row in rows if part(row["text"]) >= taught]
    labels = [row.get("set", row.get("intent")) for row in rows]  # without an intent a question has no equal
    return [row["text"] for row in rows], [f"#{i}" if x is None else str(x) for i, x in enumerate(labels)]


def made(language: str) -> Texts:
    texts, labels = [], []
    for number, wordings in enumerate(ASKED[language].splitlines()):
        for place in PLACES[language].split():
            for wording in wordings.split("|"):
                texts.append(wording.format(place))
                labels.append(f"{number} {place}")
    return texts, labels


def streams(source: Texts, model: MatchModel, embedder: BundledEmbedder, seeds: int) -> list[Stream]:
    """The same questions in several orders, each judged against the five nearest earlier ones."""
    texts, labels = source
    vectors, questions = embedder.embed(texts), [prepare(text) for text in texts]
    found: list[Stream] = []
    for seed in range(seeds):
        order = random.Random(seed).sample(range(len(texts)), min(LENGTH, len(texts)))
        ordered = vectors[order]
        rows: list[tuple[Any, ...]] = [((0.0,) * len(NAMES), 0.0, False, (0.0, False), (), -1.0, False)]
        for i in range(1, len(order)):
            cosines = ordered[:i] @ ordered[i]
            some = np.argpartition(-cosines, 4)[:5] if i > 5 else np.arange(i)
            near = some[np.argsort(-cosines[some])]
            candidates = [Candidate(questions[order[j]], float(cosines[j])) for j in near]
            said = model.judge(questions[order[i]], candidates)
            wide = model.judge(questions[order[i]], candidates, repeats=True)
            same = [labels[order[j]] == labels[order[i]] for j in near]
            best = said.best is not None and same[said.best]
            features = wide.features if wide.best is not None else (0.0,) * len(NAMES)
            other = wide.best is not None and same[wide.best]
            there = (wide.probability, other)
            rows.append((features, said.probability, best, there, said.shows, float(cosines[near[0]]), same[0]))
        features, chance, right, wides, shows, cosine, nearest = zip(*rows, strict=True)
        arrays = np.array(features), np.array(chance), np.array(right)
        found.append(Stream(*arrays, wides, shows, np.array(cosine), np.array(nearest)))
    return found


Lookups = Sequence[tuple[float, bool] | tuple[float, bool, float, bool, tuple[str, ...]]]
Scorer = Callable[[Stream], Lookups]


def by_match(calibration: Stream) -> Scorer:
    """The match model fitted on another domain."""
    told = calibration.features.any(axis=1)
    right = np.array([right for _, right in calibration.wide], dtype=float)
    weights = fit(calibration.features[told], right[told], rounds=800)

    def score(stream: Stream) -> Lookups:
        chances = 1 / (1 + np.exp(-(stream.features @ weights[:-1] + weights[-1])))
        chances[~stream.features.any(axis=1)] = 0.0  # blocked
        return list(zip(chances.tolist(), [right for _, right in stream.wide], strict=True))

    return score


def by_cosine(calibration: Stream) -> Scorer:
    """A logistic curve over the cosine, fitted on another domain."""
    columns = np.zeros((len(calibration.cosine), len(NAMES)))
    columns[:, 0] = calibration.cosine
    weights = fit(columns, calibration.nearest_right.astype(float), rounds=800)

    def score(stream: Stream) -> Lookups:
        chances = 1 / (1 + np.exp(-(stream.cosine * weights[0] + weights[-1])))
        return list(zip(chances.tolist(), stream.nearest_right.tolist(), strict=True))

    return score


def as_shipped(stream: Stream) -> Lookups:
    return [
        (p, right, *wide, shows)
        for p, right, wide, shows in zip(
            stream.chance.tolist(), stream.right.tolist(), stream.wide, stream.shows, strict=True
        )
    ]


class Run(NamedTuple):
    wrong: list[int]
    hits: list[int]
    last: Threshold


def run(
    lookups: Lookups, shipped: float, seed: int, *, learn: bool = True, noise: float = 0.0, told: float = 0.0
) -> Run:
    """Serve a stream; wrong answers and hits up to each lookup. `told` is how often the judge is said to err."""
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    evidence, now, fresh = Evidence(), Threshold(value=shipped, shipped=shipped), 0
    wrong, hits = [0], [0]
    for p, right, *more in lookups:
        if more:
            counts.update({f"{evidence.epoch}.{sight}": 1 for sight in more[2]})
            p, right = more[:2] if now.repeats else (p, right)
        served = p >= now.value and not (learn and draw.random() < audit_chance(now, RATE, p))
        if learn:
            counts.update(seen(p, served, evidence.epoch))
            if not served:
                counts.update(label(p, right != (draw.random() < noise), evidence.epoch))
            fresh += 1
            if fresh == 20:
                evidence, fresh = Evidence.from_counts(counts), 0
                now = threshold(evidence, shipped, MAX_ERROR, judge_error=told)
        wrong.append(wrong[-1] + (served and not right))
        hits.append(hits[-1] + served)
    return Run(wrong, hits, now)


def report(name: str, runs: Sequence[Run], orders: int) -> None:
    """One line: wrong answers at checkpoints, and hits at the start and the end.

    The interval is that of one run an order: runs of the same order differ in their audits alone.
    """
    length = len(runs[0].hits) - 1
    part = length // 5
    cells = []
    for stop in (part, 2 * part, 3 * part, 4 * part, length):
        total, wrong = stop * orders, round(sum(r.wrong[stop] for r in runs) * orders / len(runs))
        low, high = at_least(wrong, total, confidence=0.975), at_most(wrong, total, confidence=0.975)
        cells.append(f"{100 * wrong / total:5.2f} [{100 * low:5.2f}-{100 * high:5.2f}]")
    ended = sum(r.wrong[length] > MAX_ERROR * length for r in runs)
    ever = sum(any(r.wrong[n] > MAX_ERROR * n for n in range(500, length + 1, 100)) for r in runs)
    first = sum(r.hits[part] for r in runs) / part / len(runs)
    last = sum(r.hits[length] - r.hits[length - part] for r in runs) / part / len(runs)
    bound = min(1.0, sum(r.last.error_bound for r in runs) / len(runs))
    print(
        f"  {name:<28} {' '.join(cells)} | {100 * ever / len(runs):3.0f}% {100 * ended / len(runs):3.0f}% | "
        f"{100 * first:4.1f} -> {100 * last:4.1f} | {100 * bound:6.2f}",
        flush=True,
    )


def bench(title: str, found: Sequence[Stream], ways: dict[str, tuple[Scorer, float]]) -> None:
    print(f"\n{title}: {len(found)} orders of {len(found[0].chance):,} lookups, learning {AGAIN} times each")
    for name, (scorer, start) in ways.items():
        scored = [scorer(one) for one in found]
        report(f"{name}, no learning", [run(one, start, 0, learn=False) for one in scored], len(found))
        again = [(one, seed) for one in scored for seed in range(AGAIN)]
        report(f"{name}, learning", [run(one, start, seed) for one, seed in again], len(found))
        if name == "match":
            for told in (0.0, 0.05):
                noisy = [run(one, start, seed, noise=0.05, told=told) for one, seed in again]
                report(f"match, judge 5% wrong{', told' if told else ''}", noisy, len(found))
    scorer, start = ways["match"]
    tiny = [run(scorer(one)[:50], start, seed) for one in found for seed in range(AGAIN)]
    print(f"  after 50 lookups looser than at the start: {sum(r.last.value < start for r in tiny)} of {len(tiny)}")


def drifting(title: str, before: Sequence[Lookups], after: Sequence[Lookups], start: float) -> None:
    halves = [[*one[: LENGTH // 2], *other[: LENGTH // 2]] for one, other in zip(before, after, strict=True)]
    print(f"\n{title}, the domain changes halfway")
    report("match, no learning", [run(one, start, 0, learn=False) for one in halves], len(halves))
    learnt = [run(one, start, seed) for one in halves for seed in range(AGAIN)]
    report("match, learning", learnt, len(halves))


def calibrated(scorer: Scorer, stream: Stream) -> float:
    lookups = [(lookup[0], lookup[1]) for lookup in scorer(stream)]
    return min(0.995, safe_threshold(lookups, lookups=len(lookups), max_error=MAX_ERROR / 2))


def main() -> None:
    if not DATA.exists():
        sys.exit(f"no data at {DATA}; set LLM_SAVINGS_TEST_DATA")
    began = time.perf_counter()
    model, embedder = MatchModel.load(), BundledEmbedder()
    print(f"max_error {100 * MAX_ERROR:.0f}% of lookups, audits {100 * RATE:.0f}% of hits in the long run")
    print(
        "  % wrong per lookup [95%] after each fifth | runs above it after 500 lookups, at the end | "
        "% hits in the first and last fifth | bound"
    )
    english = {
        name: streams(read(f"en_{name}"), model, embedder, SEEDS) for name in ("clinc150_train", "banking77_train")
    }
    scorers: dict[str, Scorer] = {}
    for home, other in (("clinc150_train", "banking77_train"), ("banking77_train", "clinc150_train")):
        scorer, cosine = by_match(english[other][0]), by_cosine(english[other][0])
        scorers[home] = scorer
        tried = english[other][1 % SEEDS]
        ways = {"match": (scorer, calibrated(scorer, tried)), "cosine": (cosine, calibrated(cosine, tried))}
        bench(f"{home}, calibrated on {other}", english[home], ways)
    scorer, cosine = scorers["banking77_train"], by_cosine(english["clinc150_train"][0])
    tried = english["clinc150_train"][1 % SEEDS]
    ways = {"match": (scorer, calibrated(scorer, tried)), "cosine": (cosine, calibrated(cosine, tried))}
    asked = streams(made("en"), model, embedder, SEEDS)
    bench("made English, calibrated on clinc150_train", asked, ways)
    shipped = {"match": (as_shipped, model.threshold_for(MAX_ERROR, "en")), "cosine": ways["cosine"]}
    bench("made English, as shipped (cosine calibrated on clinc150_train)", asked, shipped)
    start = calibrated(scorer, tried)
    clinc, banking = ([scorer(one) for one in english[name]] for name in ("clinc150_train", "banking77_train"))
    drifting("clinc150_train to banking77_train", clinc, banking, start)
    start = model.threshold_for(MAX_ERROR, "ko")
    half = parakqc("test", LENGTH)
    korean = streams((list(half.texts), list(half.labels)), model, embedder, SEEDS)
    bench("paraKQC's half that calibrated nothing, as shipped", korean, {"match": (as_shipped, start)})
    bench("made Korean, as shipped", streams(made("ko"), model, embedder, SEEDS), {"match": (as_shipped, start)})
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
