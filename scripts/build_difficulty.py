"""Fit the zero-shot difficulty model and write `llm_savings/routing/difficulty.npz` (about 70 kB).

    python scripts/build_difficulty.py [--data ../shared/data/routing/prompts.jsonl.gz]

What is learned, and from what:
- shape (length, clauses, relations): how often weak models fail, centred within each task of each data set, so that no
  data set says that another is harder. Ridge with so much shrinkage that each count is nearly weighed by itself: that
  is what transfers to a data set that was left out.
- words: by how much strong models are better than weak ones, centred within each data set; naive weights, shrunk.
- kinds (design, prove, translate, ...): the project's own prompts in English and Korean, the part for tuning alone.

Data: RouteLLM's MMLU and GSM8K (Apache-2.0), LLMRouter (MIT), ZeroEval (Apache-2.0), and
tests/unit/routing_prompts.tsv, which was written for this project.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from match_data import ROOT as FOLDER  # noqa: E402

from llm_savings.routing.difficulty import BITS, Difficulty  # noqa: E402
from llm_savings.routing.features import KINDS, SHAPE, features  # noqa: E402
from llm_savings.routing.requests import bounded  # noqa: E402

DATA = FOLDER / "routing" / "prompts.jsonl.gz"
OWN = ROOT / "tests" / "unit" / "routing_prompts.tsv"
SHRINKAGE = 10.0  # of the ridge over shape, in variances of a count
PRIOR = 30.0  # rows that a word's weight is shrunk by
WORD_SHARE = 0.35  # standard deviations of the words' part against one of shape's
BALANCE = 0.5  # a data set counts as its number of rows to this power


@dataclass
class Rows:
    """Prompts with their features and what models made of them."""

    names: np.ndarray
    tasks: np.ndarray
    keys: np.ndarray
    shape: np.ndarray
    places: list[np.ndarray]
    failure: np.ndarray
    gap: np.ndarray

    def take(self, kept: np.ndarray) -> Rows:
        where = np.flatnonzero(kept)
        return Rows(
            self.names[where], self.tasks[where], self.keys[where], self.shape[where],
            [self.places[k] for k in where], self.failure[where], self.gap[where],
        )  # fmt: skip


def read_rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def key(prompt: str) -> str:
    """The same for prompts that differ only in layout or in the request to box the answer."""
    return re.sub(r"\W+", "", prompt.lower())[:2000].replace("aftercarefulthoughtputyoufinalanswerinboxed", "")


def prepared(raw: list[dict]) -> Rows:
    texts = [bounded(row["prompt"]) for row in raw]
    seen = [features(text) for text in texts]
    names = np.array([row["dataset"] for row in raw])
    failure, gap = np.zeros(len(raw)), np.zeros(len(raw))
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        models = sorted(raw[rows[0]]["scores"])
        scores = np.array([[raw[k]["scores"][model] for model in models] for k in rows])
        strong = scores.mean(0) > np.median(scores.mean(0)) - 1e-9 * (len(models) > 2)
        # Weak models' failure, less half of strong ones': what only a better model gets right.
        weak, best = 1 - scores[:, ~strong].mean(1), 1 - scores[:, strong].mean(1)
        failure[rows], gap[rows] = standard(weak - 0.5 * best), standard(weak - best)
    counts = np.array([each.counts[: len(SHAPE)] for each in seen])
    tasks = np.array([task(row, text) for row, text in zip(raw, texts, strict=True)])
    keys = np.array([key(row["prompt"]) for row in raw])
    return Rows(names, tasks, keys, counts, [each.hashes & ((1 << BITS) - 1) for each in seen], failure, gap)


def task(row: dict, text: str) -> str:
    """The task within a data set: MMLU's subject, or what LLMRouter's prompts look like."""
    if row["dataset"] == "mmlu":
        return "mmlu " + row["id"].rsplit("-", 1)[0]
    if row["dataset"] != "llmrouter":
        return row["dataset"]
    looks = {
        "puzzle": r"There are \d houses",
        "code": r"^\s*def |[Ww]rite a (?:python )?function",
        "list": r"^\w+(?:, \w+){5,}$",
        "maths": r"\$.*\$|\\frac",
        "sums": r"boxed",
        "lookup": r"^[a-z][^?]*$",
    }
    for name, pattern in looks.items():
        if re.search(pattern, text.strip()):
            return f"llmrouter {name}"
    return "llmrouter other"


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-9)


def centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    kept = np.array(values, dtype=float)
    for group in np.unique(groups):
        kept[groups == group] -= kept[groups == group].mean(0)
    return kept


def fitted(rows: Rows, own: list[dict[str, str]]) -> Difficulty:
    """The model learned from these rows and the project's own prompts."""
    weight = np.zeros(len(rows.names))
    for name in np.unique(rows.names):
        weight[rows.names == name] = (rows.names == name).sum() ** (BALANCE - 1)
    weight /= weight.sum()
    # 30% of what differs between tasks of a data set is kept.
    counts = 0.7 * centred(rows.shape, rows.tasks) + 0.3 * centred(rows.shape, rows.names)
    wanted = 0.7 * centred(rows.failure, rows.tasks) + 0.3 * centred(rows.failure, rows.names)
    spread = np.sqrt((counts**2 * weight[:, None]).sum(0)) + 1e-9
    scaled = counts / spread
    left = scaled.T @ (scaled * weight[:, None]) + SHRINKAGE * np.eye(len(spread))
    of_shape = np.linalg.solve(left, scaled.T @ (wanted * weight)) / spread

    sums, seen = np.zeros(1 << BITS), np.zeros(1 << BITS)
    scale = weight / weight.mean()
    for each, gap, counted in zip(rows.places, centred(rows.gap, rows.names), scale, strict=True):
        sums[each] += gap * counted
        seen[each] += counted
    of_words = sums / (seen + PRIOR)
    said = np.array([of_words[each].sum() / np.sqrt(len(each) + 1) for each in rows.places])
    # Longer texts gather more words' weights: that trend belongs to shape.
    trend = np.linalg.lstsq(
        np.c_[centred(rows.shape, rows.names), np.ones(len(said))], centred(said, rows.names), rcond=None
    )[0]
    base = centred(rows.shape @ of_shape, rows.names).std()
    rest = centred(said - rows.shape @ trend[:-1], rows.names).std()
    unit = WORD_SHARE / (rest + 1e-9)
    of_counts = np.concatenate((of_shape / base - trend[:-1] * unit, np.zeros(len(KINDS))))
    model = Difficulty(of_counts, of_words * unit, 0.0)
    return with_kinds(model, own)


def with_kinds(model: Difficulty, own: list[dict[str, str]]) -> Difficulty:
    """The model that also weighs what is asked for, so that 0 is the middle between simple and complex."""
    label = np.array([{"simple": 0.0, "medium": 0.5, "complex": 1.0}[row["tier"]] for row in own])
    public = np.array([model.raw(row["text"]) for row in own])
    asked = np.array([features(row["text"]).counts[len(SHAPE) :] for row in own])
    centre, spread = public.mean(), public.std()
    matrix = np.c_[(public - centre) / spread, asked, np.ones(len(own))]
    # What is asked for cannot make a request easier where it names work, nor harder where it names a short question.
    sign = np.array([1.0] * (1 + len(KINDS) - 3) + [-1.0] * 3 + [0.0])
    ridge = np.array([0.005] * (matrix.shape[1] - 1) + [0.0]) * len(own)
    ridge[0] = 0.002 * len(own)
    found_weights = np.zeros(matrix.shape[1])
    for _ in range(4000):
        chance = 1 / (1 + np.exp(-matrix @ found_weights))
        step = matrix.T @ (chance - label) + ridge * found_weights
        found_weights -= 1.5 / len(own) * step
        wrong = sign * found_weights < 0
        found_weights[wrong] = 0
    unit = found_weights[0] / spread
    shift = found_weights[-1] - centre * unit
    of_counts = np.concatenate((model.counts[: len(SHAPE)] * unit, found_weights[1:-1]))
    return Difficulty(of_counts, model.words * unit, shift)


def own_prompts(part: str) -> list[dict[str, str]]:
    with OWN.open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["part"] == part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    rows = prepared(read_rows(options.data))
    model = fitted(rows, own_prompts("tune"))
    model.save(ROOT / "llm_savings" / "routing" / "difficulty.npz")
    for name, value in zip((*SHAPE, *KINDS), model.counts, strict=True):
        print(f"{name:18}{value:8.3f}")


if __name__ == "__main__":
    main()
