"""Fit the match model and its thresholds again: writes llm_savings/semantic_cache/match/weights.json.

    python scripts/fit_match.py                      with the bundled embedder, a few minutes on one core
    python scripts/fit_match.py --dry-run            prints what it would write, and the tables behind it

The Korean model rests on English streams too, as the embedder saw them before it was taught their intents: what is
shipped was fitted with --only ko between build_embedder.py and teach_intents.py, and with --only en behind them.

Weights are fitted on CLINC150 and Banking77 (CC BY), for Korean with Question_pair (MIT) too, each with negatives made
by exchanging one content word. Thresholds come from whole streams, the strictest domain decides: CLINC150 and Banking77
for English, PARAKQC's calibration half, which no weights ever see, for Korean. What a model fitted without one of the
English domains does there at the shipped threshold is printed. Rows of the test splits are never read here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from match_data import Stream, intents, nearest_earlier, parakqc, question_pairs, rows

from llm_savings.semantic_cache.match.bounds import safe_threshold
from llm_savings.semantic_cache.match.canonical import canonical
from llm_savings.semantic_cache.match.features import NAMES, features
from llm_savings.semantic_cache.match.fitting import fit
from llm_savings.semantic_cache.match.guards import blocks
from llm_savings.semantic_cache.match.model import LONELY, NEIGHBOURS, SCORED, SPARSE
from llm_savings.semantic_cache.match.question import Question, prepare

WEIGHTS = Path(__file__).resolve().parents[1] / "llm_savings" / "semantic_cache" / "match" / "weights.json"
CAUTION = 0.6  # log odds
ERRORS = (0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)


Table = list[tuple[float, float]]  # allowed error, threshold
Found = tuple[tuple[float, ...], bool, int, int]  # features, right, others with the candidate's answer, lookup


@dataclass
class Pairs:
    """Pairs that no guard blocks: features, whether the answer is shared, and the lookup each belongs to.

    `others` is how many of the other near questions share the candidate's answer.
    """

    name: str
    rows: np.ndarray
    right: np.ndarray
    others: np.ndarray
    lookup: np.ndarray
    lookups: int

    def best(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The place of the best candidate of each lookup that has one, and its logit."""
        logits = self.rows @ coefficients[:-1] + coefficients[-1]
        order = np.lexsort((-logits, self.lookup))
        places = order[np.r_[True, np.diff(self.lookup[order]) != 0][: len(order)]]
        return places, logits[places]

    def scored(self, coefficients: np.ndarray) -> list[tuple[float, bool]]:
        """The best candidate's logit and whether it is right, for each lookup that has one."""
        places, logits = self.best(coefficients)
        return list(zip(logits.tolist(), self.right[places].astype(bool).tolist(), strict=True))


class Fitting:
    """The embedder and the word space that every pair is seen through."""

    def __init__(self, embedder: Any, words: Any) -> None:
        self.embedder, self.words = embedder, words

    def pair(self, asked: Question, stored: Question, cosine: float, crowd: float) -> tuple[float, ...] | None:
        if blocks(asked, stored) or not cosine > 0:
            return None
        return features(asked, stored, cosine=float(cosine), crowd=crowd, space=self.words)

    def stream(self, stream: Stream) -> Pairs:
        """Every question beside its nearest earlier ones, as the cache would see it."""
        places, cosines = nearest_earlier(self.embedder.embed(stream.texts))
        asked = [prepare(text) for text in stream.texts]
        forms = [canonical(text) for text in stream.texts]  # equal forms are the exact tier's, whatever the threshold
        found: list[Found] = []
        for lookup, question in enumerate(asked):
            kept = 0
            answers = [stream.labels[place] for place in places[lookup] if place >= 0]
            near = [float(cosine) for place, cosine in zip(places[lookup], cosines[lookup], strict=True) if place >= 0]
            crowd = near[4] if len(near) > 4 else LONELY[question.language]
            for place, cosine in zip(places[lookup], cosines[lookup], strict=True):
                if place < 0 or kept == SCORED or forms[place] == forms[lookup]:
                    continue
                row = self.pair(question, asked[place], cosine, crowd)
                if row:
                    kept += 1
                    answer = stream.labels[place]
                    found.append((row, stream.labels[lookup] == answer, answers.count(answer) - 1, lookup))
        return _pairs(stream.name, found, len(stream.texts))

    def judged(self, name: str, pairs: Sequence[tuple[str, str, bool]]) -> Pairs:
        """Pairs labelled by people, each a lookup of its own against one stored question."""
        first = self.embedder.embed([a for a, _, _ in pairs])
        second = self.embedder.embed([b for _, b, _ in pairs])
        found: list[Found] = []
        for lookup, ((a, b, right), cosine) in enumerate(zip(pairs, (first * second).sum(1), strict=True)):
            asked = prepare(a)
            row = self.pair(asked, prepare(b), float(cosine), LONELY[asked.language])
            if row:
                found.append((row, right, 0, lookup))
        return _pairs(name, found, len(pairs))

    def swapped(self, stream: Stream, seed: int = 1) -> Pairs:
        """Questions with one content word exchanged, beside the original alone: never right."""
        changed = self._changed(stream, seed)
        pairs = [(stream.texts[place], text, False) for place, text in changed]
        return self.judged(f"{stream.name} swapped", pairs)

    def swapped_within(self, stream: Stream, seed: int = 1, most: int = 1500) -> Pairs:
        """Questions with one content word exchanged, looked up among all of the stream, where the original is best.

        Beside the original alone a swap always stands in an empty neighbourhood, and the fit would put the blame on
        that instead of on the word.
        """
        changed = self._changed(stream, seed)
        chosen = [changed[i] for i in np.random.default_rng(seed).permutation(len(changed))[:most]]
        scores = self.embedder.embed([text for _, text in chosen]) @ self.embedder.embed(stream.texts).T
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        found: list[Found] = []
        for lookup, ((original, text), places) in enumerate(zip(chosen, nearest.tolist(), strict=True)):
            asked, crowd = prepare(text), float(scores[lookup, places[4]])
            for place in places:
                row = self.pair(asked, prepare(stream.texts[place]), float(scores[lookup, place]), crowd)
                if row:
                    if place == original:
                        found.append((row, False, 0, lookup))
                    break
        return _pairs(f"{stream.name} swapped within", found, len(chosen))

    def _changed(self, stream: Stream, seed: int) -> list[tuple[int, str]]:
        """The place of each question and its text with one content word exchanged for another of the stream.

        Half the words come from anywhere, half are the most alike of thirty (a place for a place, when it knows any).
        """
        random = np.random.default_rng(seed)
        asked = [prepare(text) for text in stream.texts]
        vocabulary = sorted({surface for question in asked for surface in question.surfaces if len(surface) > 1})
        changed: list[tuple[int, str]] = []
        for number, (text, question) in enumerate(zip(stream.texts, asked, strict=True)):
            inside = [surface for surface in question.surfaces if surface in text.lower() and len(surface) > 1]
            if not inside:
                continue
            old = inside[random.integers(len(inside))]
            drawn = [vocabulary[place] for place in random.integers(len(vocabulary), size=30)]
            near = dict(zip(drawn, self.words.likeness([old], drawn)[0], strict=True))
            drawn = [word for word in drawn if word != old and near[word] < 0.9] or drawn
            new = max(drawn, key=near.__getitem__) if random.random() < 0.5 else drawn[0]
            changed.append((number, text.lower().replace(old, new, 1)))
        return changed


def _pairs(name: str, found: list[Found], lookups: int) -> Pairs:
    return Pairs(
        name=name,
        rows=np.array([row for row, *_ in found], dtype=np.float64).reshape(-1, len(NAMES)),
        right=np.array([right for _, right, _, _ in found], dtype=np.float64),
        others=np.array([others for _, _, others, _ in found], dtype=np.int64),
        lookup=np.array([lookup for *_, lookup in found], dtype=np.int64),
        lookups=lookups,
    )


def fitted(parts: Sequence[tuple[Pairs, float]], *, from_cosine: float) -> np.ndarray:
    """Fit on the nearest candidate of each lookup; each part weighs what is given, whatever its size.

    Candidates below `from_cosine` are left out: they are never served, and telling them apart would cost accuracy
    where it counts.
    """
    tables, right, weights = [], [], []
    for part, weight in parts:
        kept = (part.rows[:, 0] >= from_cosine) & np.r_[True, np.diff(part.lookup) != 0][: len(part.lookup)]
        tables.append(part.rows[kept])
        right.append(part.right[kept])
        weights.append(np.full(kept.sum(), weight / max(kept.sum(), 1)))
    return fit(np.concatenate(tables), np.concatenate(right), weights=np.concatenate(weights))


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
        shares = f"{hits[place] / pairs.lookups:.1%} (wrong {wrong[place] / pairs.lookups:.2%}"
        return f"{shares}, p {chance(ordered[place][0]):.3f})"

    at_lookups, at_hits = last(wrong / pairs.lookups <= 0.01), last(wrong <= 0.05 * hits)
    return f"{pairs.name:24} 1% of lookups: {at_lookups:34} 5% of hits: {at_hits}"


def chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(min(logit, 40.0), -40.0)))


def thresholds(judged: Sequence[tuple[Pairs, np.ndarray]]) -> Table:
    """The strictest domain's threshold for each error, as probabilities; an error that none can keep is left out."""
    table = []
    for error in ERRORS:
        found = [safe_threshold(p.scored(c), lookups=p.lookups, max_error=error, confidence=0.9) for p, c in judged]
        if max(found) < math.inf:
            table.append((error, math.ceil(chance(max(found)) * 1e5) / 1e5))
    return table


def english(pairs: dict[str, Pairs]) -> tuple[dict[str, float], Table]:
    """Fit on CLINC150 and Banking77 together; each is also judged by a model that never saw it."""
    domains = ("clinc", "banking")
    pairs = {name: floored(part, SPARSE["en"]) for name, part in pairs.items()}

    def without(left_out: str) -> np.ndarray:
        kept = [name for name in domains if name != left_out]
        return fitted(
            [(pairs[name], 1.0) for name in kept] + [(pairs[f"{name} swapped within"], 0.015) for name in kept],
            from_cosine=0.65,
        )

    final = without("")
    # Banking77 is the more crowded and the stricter one; without this CLINC150 would spend half of what Banking77 does.
    final[NAMES.index("crowd")] -= 2.0
    final[-1] += 2.0 * 0.65
    limit = thresholds([(pairs[name], final) for name in domains])
    served_from = min((threshold for error, threshold in limit if error <= 0.01), default=1.0)
    for name in domains:
        print("fitted:  ", curve(pairs[name], final))
        print(
            "left out:",
            curve(pairs[name], without(name)),
            "| at the shipped threshold:",
            spent(pairs[name], without(name), served_from),
        )
    return _written(final), limit


def korean(pairs: dict[str, Pairs]) -> tuple[dict[str, float], Table]:
    """Fit on the English streams too: the bundled Korean vectors were made from Question_pair, whose cosines flatter.

    PARAKQC's calibration half gives the thresholds; in another order it shows how much they depend on that.
    """
    parts = {
        "clinc": 1.0,
        "banking": 1.0,
        "clinc swapped": 0.1,
        "banking swapped": 0.1,
        "labelled": 0.3,
        "question_pair swapped": 0.1,
    }
    final = fitted([(pairs[name], weight) for name, weight in parts.items()], from_cosine=0.0)
    # How likely they are right is known only where the threshold is: PARAKQC moves all probabilities alike.
    final[-1] += shift(pairs["parakqc"], final)
    unseen = [pairs["parakqc"]]
    for part in (pairs["labelled"], pairs["question_pair swapped"], *unseen, pairs["parakqc again"]):
        print("         ", curve(part, final))
    return _written(final), thresholds([(part, final) for part in unseen])


def agreement(judged: Sequence[tuple[Pairs, np.ndarray]]) -> list[float]:
    """How the log odds change where three or four of the other near questions have the best one's answer.

    A slope, and what is added for three and for four: logistic regression by Newton's method over the best candidates,
    less what an unseen domain may lack.
    """
    tables, answers = [], []
    for pairs, coefficients in judged:
        places, logits = pairs.best(coefficients)
        kept = pairs.others[places] >= NEIGHBOURS - 2
        four = pairs.others[places][kept] >= NEIGHBOURS - 1
        tables.append(np.column_stack([logits[kept], ~four, four]))
        answers.append(pairs.right[places][kept])
    table, right = np.concatenate(tables), np.concatenate(answers)
    point = np.zeros(3)
    for _ in range(30):
        chances = 1 / (1 + np.exp(-table @ point))
        bent = (table.T * (chances * (1 - chances))) @ table + 1e-3 * np.eye(3)
        point += np.linalg.solve(bent, table.T @ (right - chances))
    return [round(float(value), 3) for value in point - np.array([0.0, CAUTION, CAUTION])]


def shift(pairs: Pairs, coefficients: np.ndarray, max_error: float = 0.01) -> float:
    """What to add to all log odds so that where `max_error` of the lookups are wrong, as many are expected to be."""
    scored = sorted(pairs.scored(coefficients), reverse=True)
    wrong = np.cumsum([not right for _, right in scored])
    served = np.array([logit for logit, _ in scored])[: np.searchsorted(wrong, max_error * pairs.lookups, side="right")]
    low, high = -3.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        expected = float((1 / (1 + np.exp(served + middle))).sum()) / pairs.lookups
        low, high = (middle, high) if expected > max_error else (low, middle)
    return high


def floored(pairs: Pairs, sparse: float) -> Pairs:
    """Let no neighbourhood count as emptier than `sparse`, as the model does when it judges."""
    table = pairs.rows.copy()
    place = NAMES.index("crowd")
    table[:, place] = np.maximum(table[:, place], sparse)
    return replace(pairs, rows=table)


def all_pairs(fitting: Fitting) -> dict[str, Pairs]:
    streams = [intents("clinc", "fit", 6000), intents("banking", "fit", 6000)]
    found = {stream.name: fitting.stream(stream) for stream in streams}
    for stream in (*streams, question_pairs(5000)):
        found[f"{stream.name} swapped"] = fitting.swapped(stream)
        found[f"{stream.name} swapped within"] = fitting.swapped_within(stream)
    labelled = [
        (str(row["a"]), str(row["b"]), bool(row["duplicate"]))
        for row in rows("ko_question_pair")
        if row["a"] != row["b"]
    ]
    found["labelled"] = fitting.judged("labelled", labelled)
    found["parakqc"] = fitting.stream(parakqc("calibration", 5000, 0))
    found["parakqc again"] = fitting.stream(parakqc("calibration", 5000, 1))
    return found


def spent(pairs: Pairs, coefficients: np.ndarray, threshold: float) -> str:
    kept = [right for logit, right in pairs.scored(coefficients) if chance(logit) >= threshold]
    return f"{len(kept) / pairs.lookups:.1%} (wrong {(len(kept) - sum(kept)) / pairs.lookups:.2%})"


def _written(coefficients: np.ndarray) -> dict[str, float]:
    names = (*NAMES, "intercept")
    return {name: round(float(value), 5) for name, value in zip(names, coefficients, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default="llm_savings.embedding:BundledEmbedder", help="module:callable")
    parser.add_argument(
        "--words", default="llm_savings.semantic_cache.match.wordspace:bundled_words", help="module:callable"
    )
    parser.add_argument("--only", choices=("en", "ko"), help="one language, the other keeps its weights")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    fitting = Fitting(made(options.embedder), made(options.words))
    found: dict[str, Any] = json.loads(WEIGHTS.read_text("utf-8"))
    models, limits = found["models"], found["thresholds"]
    pairs = all_pairs(fitting)
    for language, build in (("en", english), ("ko", korean)):
        if options.only in (None, language):
            models[language], limits[language] = build(pairs)
            print(language, json.dumps(models[language]), json.dumps(limits[language]), sep="\n  ")
    coefficients = np.array(list(models["en"].values()))
    agreed = agreement([(floored(pairs[name], SPARSE["en"]), coefficients) for name in ("clinc", "banking")])
    print("agreement", agreed)
    found["agreement"] = agreed
    if not options.dry_run:
        WEIGHTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def made(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)()


if __name__ == "__main__":
    main()
