"""How often the semantic cache answers from memory, and how often wrongly, on questions that nothing was tuned on.

Beside it in the same run: plain cosine of the same embedder at the best threshold that the same calibration rows allow,
and exact match. No label of a test row is used to choose anything. A right answer is one of the same label: the same
set of paraphrases (PARAKQC), or the same intent (CLINC150, Banking77), which is not quite the same answer. Nothing of
the stored answers is looked at but in the lines "worded alike": they are for a cache whose equal answers come in the
same words (from a FAQ, a tool, a flow), which `Agreement` sees.

    python tests/benchmarks/bench_semantic_accuracy.py [--embedder module:callable] [--words module:callable]

LLM_SAVINGS_PAIRS may name more files of judged pairs (tab-separated: id, question, question, 0 or 1), for example a
local copy of PAWS-QQP; they are measured as unseen domains.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import math
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT), str(Path(__file__).parent)]
import open_questions  # noqa: E402
import swap_rules  # noqa: E402
from match_data import ROOT as DATA  # noqa: E402
from match_data import Stream, chatbot, intents, nearest_earlier, parakqc  # noqa: E402

from llm_savings.semantic_cache import learning  # noqa: E402
from llm_savings.semantic_cache.match import (  # noqa: E402
    Candidate,
    Judgement,
    Language,
    MatchModel,
    Question,
    canonical,
    language_of,
    prepare,
)
from llm_savings.semantic_cache.match.bounds import at_least, at_most, safe_threshold  # noqa: E402

MAX_ERROR = 0.01
Scored = list[tuple[float, bool]]  # best score and whether it is right, a lookup each; no candidate, no entry


class Scope:
    """What a cache knows of a scope without any label, as `AnswerCache` keeps it: the threshold moves with it."""

    def __init__(self, model: MatchModel, language: Language) -> None:
        self.model, self.shipped = model, model.threshold_for(MAX_ERROR, language)
        self.counts: Counter[str] = Counter()
        self.seen = 0
        self.evidence = learning.Evidence()
        self.now = learning.threshold(self.evidence, self.shipped, MAX_ERROR)
        self.limit = self.now.value

    def judge(self, asked: Question, candidates: Sequence[Candidate], answers: Sequence[object] = ()) -> Judgement:
        """Judge as the cache does now; the lookup counts from the next look at the counters on.

        Args:
            asked: The question.
            candidates: The nearest earlier ones.
            answers: Theirs, when they are known to come in the same words; see `Agreement`.
        """
        if self.seen % 60 == 59:
            self.evidence = learning.Evidence.from_counts(self.counts)
            self.now = learning.threshold(self.evidence, self.shipped, MAX_ERROR)
        self.limit = self.now.value
        judged = self.model.judge(asked, candidates, repeats=self.now.repeats)
        if judged.best is not None and judged.probability < self.limit:
            judged = replace(judged, probability=agreed(self.model, judged, answers))
        epoch, p = self.evidence.epoch, None if judged.best is None else judged.probability
        self.counts.update({f"{epoch}.{sight}": 1 for sight in judged.shows})
        self.counts.update(learning.seen(p, p is not None and p >= self.limit, epoch))
        self.seen += 1
        return judged


def agreed(model: MatchModel, judged: Judgement, answers: Sequence[object]) -> float:
    """The probability of the best candidate, given how many of the others have its answer."""
    return model.agreed(judged.probability, answers.count(answers[judged.best or 0]) - 1 if answers else 0)


class Bench:
    """The model under test and the embedder it sees through."""

    def __init__(self, model: MatchModel, embedder: Any) -> None:
        self.model, self.embedder = model, embedder

    def run(self, stream: Stream) -> dict[str, Scored]:
        """Ask every question of the stream; return each method's score of its best earlier question.

        A canonically equal earlier question scores 1 for every method: that tier comes first in the cache.
        """
        places, cosines = nearest_earlier(self.embedder.embed(stream.texts))
        asked = [prepare(text) for text in stream.texts]
        known: dict[str, int] = {}
        found: dict[str, Scored] = {
            name: [] for name in ("ours", "cosine", "exact", "shipped", "agreed", "ours agreed")
        }
        scope, worded = (Scope(self.model, language_of(stream.texts[0])) for _ in range(2))
        for lookup, text in enumerate(stream.texts):
            form = canonical(text)
            if form in known:
                right = stream.labels[known[form]] == stream.labels[lookup]
                for scores in found.values():
                    scores.append((1.0, right))
            elif places[lookup][0] >= 0:
                near = [
                    (place, float(cosine))
                    for place, cosine in zip(places[lookup], cosines[lookup], strict=True)
                    if place >= 0
                ]
                candidates = [Candidate(asked[place], cosine) for place, cosine in near]
                answers = [stream.labels[place] for place, _ in near]
                ours = self.model.judge(asked[lookup], candidates, repeats=True)
                shipped, told = scope.judge(asked[lookup], candidates), worded.judge(asked[lookup], candidates, answers)
                for name, judged, score in (
                    ("ours", ours, ours.probability),
                    ("ours agreed", ours, 0.0 if ours.best is None else agreed(self.model, ours, answers)),
                    ("shipped", shipped, float(shipped.probability >= scope.limit)),
                    ("agreed", told, float(told.probability >= worded.limit)),
                ):
                    if judged.best is not None:
                        found[name].append((score, answers[judged.best] == stream.labels[lookup]))
                found["cosine"].append((near[0][1], stream.labels[near[0][0]] == stream.labels[lookup]))
            known[form] = lookup
        return found

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
        """Probability and cosine of each asked question against the one stored question beside it."""
        stored = self.embedder.embed([first for first, _ in pairs])
        asked = self.embedder.embed([second for _, second in pairs])
        scores: list[tuple[float, float]] = []
        for (first, second), cosine in zip(pairs, (stored * asked).sum(1), strict=True):
            if canonical(first) == canonical(second):
                scores.append((1.0, 1.0))
                continue
            judged = self.model.judge(prepare(second), [Candidate(prepare(first), float(cosine))])
            scores.append((judged.probability, float(cosine)))
        return scores

    def limit(self, text: str) -> float:
        return self.model.threshold_for(MAX_ERROR, prepare(text).language)


def served(scored: Scored, threshold: float) -> tuple[int, int]:
    kept = [right for score, right in scored if score >= threshold]
    return len(kept), sum(not right for right in kept)


def line(name: str, hits: int, wrong: int, lookups: int) -> str:
    low, high = at_least(wrong, lookups, confidence=0.975), at_most(wrong, lookups, confidence=0.975)
    return (
        f"{name:42} hits {hits / lookups:6.1%}   wrong of lookups {wrong / lookups:6.2%} [{low:.2%}, {high:.2%}]"
        f"   wrong of hits {wrong / max(hits, 1):6.1%}"
    )


def within_hits(scored: Scored, lookups: int, share: float, confidence: float = 0.9) -> float:
    """The loosest threshold whose wrong hits are bounded by `share` of hits, from a fifth of the lookups down.

    Tried in steps of 50 hits from the strictest, stopped at the first that fails (as `safe_threshold` does).
    """
    ordered = sorted(scored, reverse=True)
    best, wrong = math.inf, 0
    for hits, (score, right) in enumerate(ordered, 1):
        wrong += not right
        if hits % 50 or hits < lookups / 5:
            continue
        if at_most(wrong, hits, confidence=confidence) > share:
            break
        best = score
    return best


def streams(bench: Bench) -> None:
    sources: dict[str, tuple[Callable[[str, int], Stream], str]] = {
        "CLINC150": (lambda half, size: intents("clinc", half, size), "fit"),
        "Banking77": (lambda half, size: intents("banking", half, size), "fit"),
        "paraKQC": (lambda half, size: parakqc(half, size), "calibration"),
    }
    for name, (source, calibration) in sources.items():
        tuned = source(calibration, 5000)
        scores = bench.run(tuned)
        at_lookups = safe_threshold(scores["cosine"], lookups=len(tuned.texts), max_error=MAX_ERROR, confidence=0.9)
        at_hits = {
            method: within_hits(scores[method], len(tuned.texts), 0.05) for method in ("ours", "ours agreed", "cosine")
        }
        cases = [("test", 5000), ("test", 2000)] + ([("all", 5000)] if name == "paraKQC" else [])
        for half, size in cases:
            stream = source(half, size)
            count = len(stream.texts)
            found = bench.run(stream)
            aside = " (calibration half included)" if half == "all" else ""
            print(f"\n{name}, {count} questions{aside}")
            print(line("ours, as shipped, max_error=0.01", *served(found["shipped"], 1.0), count))
            print(line("  where equal answers are worded alike", *served(found["agreed"], 1.0), count))
            print(line("plain cosine, its best for the same", *served(found["cosine"], at_lookups), count))
            print(line("ours, at most 5% of hits", *served(found["ours"], at_hits["ours"]), count))
            print(
                line(
                    "  where equal answers are worded alike",
                    *served(found["ours agreed"], at_hits["ours agreed"]),
                    count,
                )
            )
            print(line("plain cosine, at most 5% of hits", *served(found["cosine"], at_hits["cosine"]), count))
            print(line("exact and canonical match", *served(found["exact"], 1.0), count))


def swaps(bench: Bench) -> None:
    cases: list[tuple[str, str, str, str]] = [*swap_rules.facts(), *swap_rules.opposites(), *swap_rules.words()]
    for stream in (intents("clinc", "test", 5000), intents("banking", "test", 5000), parakqc("test", 5000)):
        for rule in (swap_rules.denials, swap_rules.digits, swap_rules.listed):
            cases += rule(stream.texts, stream.language)
    table: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    scores = bench.pairs([(first, second) for _, _, first, second in cases])
    for (kind, language, _, changed), (probability, cosine) in zip(cases, scores, strict=True):
        table[language, kind].append((probability >= bench.limit(changed), cosine >= 0.95))
    print("\nOne thing exchanged, asked against the original alone: share served (plain cosine at 0.95 beside it)")
    limits = {
        "negation": 0.02,
        "antonym": 0.02,
        "number": 0.01,
        "version": 0.01,
        "date": 0.01,
        "unit": 0.01,
        "order": 0.01,
    }
    for (language, kind), outcomes in sorted(table.items()):
        ours, plain = (sum(each) / len(outcomes) for each in zip(*outcomes, strict=True))
        limit = limits.get(kind, 0.1 if language == "en" else 0.2)
        verdict = "ok" if ours <= limit else "MISSED"
        print(
            f"  {language} {kind:9} {ours:6.1%} of {len(outcomes):5}   limit {limit:4.0%} {verdict:6}"
            f"   cosine 0.95: {plain:6.1%}"
        )


ARTICLE = [
    ("배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"),
    ("RAG가 뭐야?", "RAG에 대해 설명해줘"),
    ("환불 정책이 어떻게 되나요?", "반품하려면 어떻게 해야 하나요?"),
    ("제품 보증 기간은?", "제품 보증 기간이 어떻게 되나요?"),
]


def article(bench: Bench) -> None:
    print("\nThe article's pairs, as shipped")
    for both in (ARTICLE, [(second, first) for first, second in ARTICLE]):
        for (first, second), (probability, cosine) in zip(both, bench.pairs(both), strict=True):
            verdict = "hit " if probability >= bench.limit(second) else "miss"
            print(f"  {verdict} p {probability:.3f} cosine {cosine:.3f}  {first} / {second}")


def adversarial(bench: Bench) -> None:
    """Unseen pairs that mostly differ in one word: every lookup has a near neighbour, and most are wrong."""
    cases = [
        (first, second, False)
        for _, _, first, second in (*swap_rules.facts(), *swap_rules.opposites(), *swap_rules.words())
    ]
    judged: dict[str, list[tuple[str, str, bool]]] = {"one word exchanged, frames": cases}
    for path in filter(None, os.environ.get("LLM_SAVINGS_PAIRS", "").split(os.pathsep)):
        judged[Path(path).name] = list(read_pairs(Path(path)))
    print("\nUnseen, adversarial pairs, as shipped, max_error=0.01")
    for name, pairs in judged.items():
        scores = bench.pairs([(first, second) for first, second, _ in pairs])
        for method, kept in (
            ("ours", [right for (_, b, right), (p, _) in zip(pairs, scores, strict=True) if p >= bench.limit(b)]),
            ("cosine 0.95", [right for (_, _, right), (_, c) in zip(pairs, scores, strict=True) if c >= 0.95]),
        ):
            print(line(f"{name[:24]}, {method}", len(kept), sum(not right for right in kept), len(pairs)))


def broad(bench: Bench) -> None:
    """Streams of unseen open domains, in which most near questions ask something else, as shipped, without a label."""
    texts = {
        name: [text for text in open_questions.asked() if text.startswith("Write a") == code]
        for name, code in (("programming tasks, all distinct", True), ("quiz questions, all distinct", False))
    }
    found = [open_questions.distinct(name, each) for name, each in texts.items()]
    found += [open_questions.one_word(texts["quiz questions, all distinct"]), open_questions.asked_of_many()]
    korean = parakqc("test", 5000)
    first = dict(zip(reversed(korean.labels), reversed(korean.texts), strict=True))  # one question of each set
    found.append(open_questions.one_word_korean("Korean sets, one word differs", list(first.values())))
    found.append(open_questions.one_word_korean("Korean talk, one word differs", chatbot(5000, 1).texts))
    print("\nUnseen open domains as streams, as shipped, max_error=0.01, no labels (plain cosine at 0.95 beside it)")
    for stream in found:
        scores = bench.run(stream)
        for method, name, limit in (("ours", "shipped", 1.0), ("cosine 0.95", "cosine", 0.95)):
            print(line(f"{stream.name[:29]}, {method}", *served(scores[name], limit), len(stream.texts)))


def read_pairs(path: Path) -> Iterable[tuple[str, str, bool]]:
    with path.open(encoding="utf-8") as file:
        for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if len(row) >= 4 and row[-1] in {"0", "1"}:
                yield _plain(row[-3]), _plain(row[-2]), row[-1] == "1"


def _plain(text: str) -> str:
    text = text[2:-1] if text[:2] in {"b'", 'b"'} else text
    return text.replace(" '", "'").replace(" n't", "n't").replace(" ?", "?").replace(" ,", ",")


def speed(bench: Bench) -> None:
    print("\nTime of one call, microseconds, median")
    for stream in (intents("clinc", "test", 2000), parakqc("test", 2000)):
        places, cosines = nearest_earlier(bench.embedder.embed(stream.texts))
        asked = [prepare(text) for text in stream.texts]
        read: list[float] = []
        judge: list[float] = []
        for _ in range(2):  # the second round finds the words known, as a cache that has run for a while does
            read, judge = [], []
            for lookup in range(1000, 2000):
                before = time.perf_counter()
                question = prepare(stream.texts[lookup])
                after = time.perf_counter()
                near = [
                    Candidate(asked[place], float(c)) for place, c in zip(places[lookup], cosines[lookup], strict=True)
                ]
                middle = time.perf_counter()
                bench.model.judge(question, near)
                judge.append(time.perf_counter() - middle)
                read.append(after - before)
        print(
            f"  {stream.name:8} prepare {np.median(read) * 1e6:6.1f}   judge 5 candidates {np.median(judge) * 1e6:6.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default="llm_savings.embedding:BundledEmbedder", help="module:callable")
    parser.add_argument(
        "--words", default="llm_savings.semantic_cache.match.wordspace:bundled_words", help="module:callable"
    )
    options = parser.parse_args()
    if not (DATA / "semcache").is_dir():
        print(f"skipped: no data at {DATA} (set LLM_SAVINGS_TEST_DATA)")
        return
    model = MatchModel.load(_made(options.words))
    bench = Bench(model, _made(options.embedder))
    streams(bench)
    swaps(bench)
    article(bench)
    adversarial(bench)
    broad(bench)
    speed(bench)


def _made(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)()


if __name__ == "__main__":
    main()
