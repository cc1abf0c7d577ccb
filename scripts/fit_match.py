"""Fit the match model and its thresholds again: writes llm_savings/semantic_cache/match/weights.json.

    python scripts/fit_match.py                      with the bundled embedder, a few minutes on one core
    python scripts/fit_match.py --dry-run            prints what it would write, and the tables behind it

Weights are fitted on CLINC150 and Banking77 (English) and Question_pair and Chatbot_data (Korean), each with negatives
made by exchanging one content word. Thresholds come from domains that the model judged was not fitted on: CLINC150 by
a model without it, Banking77 likewise, PARAKQC's calibration half (which no weights ever see), and questions with one
word exchanged. The strictest domain decides. Rows of the test splits are never read here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from match_data import Stream, intents, nearest_earlier, parakqc, question_pairs, rows

from llm_savings.semantic_cache.match.bounds import safe_threshold
from llm_savings.semantic_cache.match.features import NAMES, features
from llm_savings.semantic_cache.match.fitting import fit
from llm_savings.semantic_cache.match.guards import blocks
from llm_savings.semantic_cache.match.model import SCORED
from llm_savings.semantic_cache.match.question import Question, prepare

WEIGHTS = Path(__file__).resolve().parents[1] / "llm_savings" / "semantic_cache" / "match" / "weights.json"
ERRORS = (0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)


@dataclass
class Pairs:
    """Pairs that no guard blocks: features, whether the answer is shared, and the lookup each belongs to."""

    name: str
    rows: np.ndarray
    right: np.ndarray
    lookup: np.ndarray
    lookups: int

    def scored(self, coefficients: np.ndarray) -> list[tuple[float, bool]]:
        """The best candidate's logit and whether it is right, for each lookup that has one."""
        logits = self.rows @ coefficients[:-1] + coefficients[-1]
        best: dict[int, tuple[float, bool]] = {}
        for lookup, logit, right in zip(self.lookup.tolist(), logits.tolist(), self.right.tolist(), strict=True):
            if lookup not in best or logit > best[lookup][0]:
                best[lookup] = (logit, bool(right))
        return list(best.values())


class Fitting:
    """The embedder and the word space that every pair is seen through."""

    def __init__(self, embedder: Any, words: Any) -> None:
        self.embedder, self.words = embedder, words

    def pair(self, asked: Question, stored: Question, cosine: float, rival: float) -> tuple[float, ...] | None:
        if blocks(asked, stored) or not cosine > 0:
            return None
        margin = float(np.clip(cosine - rival, -0.2, 0.2))
        return features(asked, stored, cosine=float(cosine), margin=margin, space=self.words)

    def stream(self, stream: Stream) -> Pairs:
        """Every question beside its nearest earlier ones, as the cache would see it."""
        places, cosines = nearest_earlier(self.embedder.embed(stream.texts))
        asked = [prepare(text) for text in stream.texts]
        found: list[tuple[tuple[float, ...], bool, int]] = []
        for lookup, question in enumerate(asked):
            kept = 0
            for rank, (place, cosine) in enumerate(zip(places[lookup], cosines[lookup], strict=True)):
                rival = cosines[lookup][1 if rank == 0 else 0] if places[lookup][1] >= 0 else -1.0
                row = self.pair(question, asked[place], cosine, rival) if place >= 0 and kept < SCORED else None
                if row:
                    kept += 1
                    found.append((row, stream.labels[lookup] == stream.labels[place], lookup))
        return _pairs(stream.name, found, len(stream.texts))

    def judged(self, name: str, pairs: Sequence[tuple[str, str, bool]]) -> Pairs:
        """Pairs labelled by people, each a lookup of its own against one stored question."""
        first = self.embedder.embed([a for a, _, _ in pairs])
        second = self.embedder.embed([b for _, b, _ in pairs])
        rivals = _rivals(first, second)
        found: list[tuple[tuple[float, ...], bool, int]] = []
        for lookup, ((a, b, right), cosine) in enumerate(zip(pairs, (first * second).sum(1), strict=True)):
            row = self.pair(prepare(a), prepare(b), float(cosine), float(rivals[lookup]))
            if row:
                found.append((row, right, lookup))
        return _pairs(name, found, len(pairs))

    def swapped(self, stream: Stream, seed: int = 1) -> Pairs:
        """Each question beside itself with one content word exchanged for another of the stream: never right.

        Half the words come from anywhere, half are the most alike of thirty (a place for a place, when it knows any).
        """
        random = np.random.default_rng(seed)
        asked = [prepare(text) for text in stream.texts]
        vocabulary = sorted({surface for question in asked for surface in question.surfaces if len(surface) > 1})
        pairs: list[tuple[str, str, bool]] = []
        for text, question in zip(stream.texts, asked, strict=True):
            inside = [surface for surface in question.surfaces if surface in text.lower() and len(surface) > 1]
            if not inside:
                continue
            old = inside[random.integers(len(inside))]
            drawn = [vocabulary[place] for place in random.integers(len(vocabulary), size=30)]
            drawn = [word for word in drawn if word != old and self.words.likeness[old, word] < 0.9] or drawn
            new = max(drawn, key=lambda word: self.words.likeness[old, word]) if random.random() < 0.5 else drawn[0]
            pairs.append((text, text.lower().replace(old, new, 1), False))
        return self.judged(f"{stream.name} swapped", pairs)


def _rivals(asked: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the cosine of the stored question nearest to each asked one, its own pair and near copies left out."""
    best = np.empty(len(asked), dtype=np.float32)
    own = (asked * stored).sum(1)
    for start in range(0, len(asked), 500):
        scores = asked[start : start + 500] @ stored.T
        scores[np.abs(scores - own[start : start + 500, None]) < 1e-5] = -1.0
        best[start : start + 500] = scores.max(1)
    return best


def _pairs(name: str, found: list[tuple[tuple[float, ...], bool, int]], lookups: int) -> Pairs:
    return Pairs(
        name=name,
        rows=np.array([row for row, _, _ in found], dtype=np.float64).reshape(-1, len(NAMES)),
        right=np.array([right for _, right, _ in found], dtype=np.float64),
        lookup=np.array([lookup for _, _, lookup in found], dtype=np.int64),
        lookups=lookups,
    )


def fitted(parts: Sequence[tuple[Pairs, float]]) -> np.ndarray:
    """Fit on all parts, each weighing what is given whatever its size."""
    weights = np.concatenate([np.full(len(part.right), weight / max(len(part.right), 1)) for part, weight in parts])
    return fit(
        np.concatenate([part.rows for part, _ in parts]), np.concatenate([part.right for part, _ in parts]), weights=weights
    )


def curve(pairs: Pairs, coefficients: np.ndarray) -> str:
    """Hits and wrong answers in percent: at 1% of lookups, and at 5% of hits (what could be had, no guarantee)."""
    ordered = sorted(pairs.scored(coefficients), reverse=True)
    wrong = np.cumsum([not right for _, right in ordered])
    hits = np.arange(1, len(ordered) + 1)

    def last(fine: np.ndarray) -> str:
        at = np.flatnonzero(fine)
        place = at[-1] if len(at) else None
        if place is None:
            return "0"
        return f"{hits[place] / pairs.lookups:.1%} (wrong {wrong[place] / pairs.lookups:.2%}, p {chance(ordered[place][0]):.3f})"

    return f"{pairs.name:24} 1% of lookups: {last(wrong / pairs.lookups <= 0.01):34} 5% of hits: {last(wrong <= 0.05 * hits)}"


def chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(min(logit, 40.0), -40.0)))


def thresholds(judged: Sequence[tuple[Pairs, np.ndarray]]) -> list[tuple[float, float]]:
    """The strictest domain's threshold for each error, as probabilities; an error that none can keep is left out."""
    table = []
    for error in ERRORS:
        found = [safe_threshold(p.scored(c), lookups=p.lookups, max_error=error, confidence=0.9) for p, c in judged]
        if max(found) < math.inf:
            table.append((error, math.ceil(chance(max(found)) * 1e5) / 1e5))
    return table


def english(fitting: Fitting) -> tuple[dict[str, Any], dict[str, Any]]:
    streams = {name: intents(name, "fit", size) for name, size in (("clinc", 6000), ("banking", 5000))}
    pairs = {name: fitting.stream(stream) for name, stream in streams.items()}
    swaps = {name: fitting.swapped(stream) for name, stream in streams.items()}

    def without(left_out: str) -> np.ndarray:
        kept = [name for name in streams if name != left_out]
        return fitted([(pairs[name], 1.0) for name in kept] + [(swaps[name], SWAPS) for name in kept])

    final = without("")
    judged: list[tuple[Pairs, np.ndarray]] = []
    for name in streams:
        blind = without(name)
        print("left out:", curve(pairs[name], blind))
        print("fitted:  ", curve(pairs[name], final))
        judged += [(pairs[name], blind), (pairs[name], final)]
    return _written(final), {"bundled": thresholds(judged), "foreign": thresholds([*judged, *((s, final) for s in swaps.values())])}


def korean(fitting: Fitting) -> tuple[dict[str, Any], dict[str, Any]]:
    labelled = [(str(row["a"]), str(row["b"]), bool(row["duplicate"])) for row in rows("ko_question_pair") if row["a"] != row["b"]]
    duplicates = fitting.judged("question_pair", labelled)
    stream = question_pairs(5000)
    near = fitting.stream(stream)
    swaps = fitting.swapped(stream)
    unseen = [fitting.stream(parakqc("calibration", 5000, seed)) for seed in (0, 1)]
    final = fitted([(duplicates, 1.0), (near, 1.0), (swaps, SWAPS)])
    for pairs in (duplicates, near, swaps, *unseen):
        print("         ", curve(pairs, final))
    judged = [(pairs, final) for pairs in unseen]
    return _written(final), {"bundled": thresholds(judged), "foreign": thresholds([*judged, (swaps, final)])}


SWAPS = 0.5  # weight of the exchanged-word negatives beside a stream's 1


def _written(coefficients: np.ndarray) -> dict[str, float]:
    names = (*NAMES, "intercept")
    return {name: round(float(value), 5) for name, value in zip(names, coefficients, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default="llm_savings.embedding:BundledEmbedder", help="module:callable")
    parser.add_argument("--words", default="llm_savings.semantic_cache.match.wordspace:bundled_words", help="module:callable")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    fitting = Fitting(made(options.embedder), made(options.words))
    models: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for language, build in (("en", english), ("ko", korean)):
        models[language], limits[language] = build(fitting)
        print(language, json.dumps(models[language]), json.dumps(limits[language]), sep="\n  ")
    if not options.dry_run:
        about = "Made by scripts/fit_match.py from CLINC150, Banking77 (CC BY), Question_pair, Chatbot_data (MIT)."
        WEIGHTS.write_text(json.dumps({"about": about, "models": models, "thresholds": limits}, indent=1) + "\n", "utf-8")


def made(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)()


if __name__ == "__main__":
    main()
