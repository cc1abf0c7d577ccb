"""The question sets that the match model is fitted, calibrated and measured on: rows, splits and streams.

Sources (see the data's own README for licences): CLINC150 (CC BY 3.0), Banking77 (CC BY 4.0), Question_pair and
Chatbot_data (MIT) for fitting; paraKQC (CC BY-SA 4.0) for thresholds and measuring alone, never for weights.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

ROOT = Path(os.environ.get("LLM_SAVINGS_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
NEIGHBOURS = 5


@dataclass(frozen=True)
class Stream:
    """Questions in the order asked, with the label that says which share an answer."""

    name: str
    language: str
    texts: list[str]
    labels: list[object]


def rows(name: str) -> list[dict[str, object]]:
    with gzip.open(ROOT / "semcache" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def part(key: object) -> float:
    """Return a number in [0, 1) that depends on `key` alone: which split a row falls in."""
    return crc32(f"split-{key}".encode()) / 2**32


def intents(name: str, half: str, size: int, seed: int = 0) -> Stream:
    """CLINC150 or Banking77: `fit` is 30% of the rows, `test` 40% or 50%; equal intents share an answer.

    The embedder was taught the intents of the rest (`taught`), which flatters it there. Rows out of scope (no intent)
    share an answer with nothing.
    """
    file = {"clinc": "en_clinc150_train", "banking": "en_banking77_train"}[name]
    unique = {str(row["text"]): row["intent"] for row in rows(file)}
    known, fitted = (0.3, 0.6) if name == "clinc" else (0.2, 0.5)
    low, high = {"taught": (0.0, known), "fit": (known, fitted), "test": (fitted, 1.0)}[half]
    kept = [
        (text, intent if intent is not None else f"none-{place}")
        for place, (text, intent) in enumerate(unique.items())
        if low <= part(text) < high
    ]
    return _shuffled(name, "en", kept, size, seed)


def parakqc(half: str, size: int, seed: int = 0) -> Stream:
    """PARAKQC's half: ten paraphrases share an answer, sibling sets do not.

    Runs of 25 sets go to `calibration` or `test` together, so that siblings stay as near as in the whole.
    """
    kept = [
        (str(row["text"]), row["set"])
        for row in rows("ko_parakqc_half")
        if half == "all" or (part(int(str(row["set"])) // 25) < 0.5) == (half == "calibration")
    ]
    return _shuffled("parakqc", "ko", kept, size, seed)


def question_pairs(size: int, seed: int = 0) -> Stream:
    """Question_pair as a stream: a question labelled a duplicate shares the answer of its pair."""
    group: dict[str, str] = {}

    def root(text: str) -> str:
        while group.setdefault(text, text) != text:
            text = group[text]
        return text

    for row in rows("ko_question_pair"):
        first, second = root(str(row["a"])), root(str(row["b"]))
        if row["duplicate"]:
            group[second] = first
    return _shuffled("question_pair", "ko", [(text, root(text)) for text in group], size, seed)


def chatbot(size: int, seed: int = 0) -> Stream:
    """Chatbot_data as a stream: questions with the same answer share it."""
    return _shuffled("chatbot", "ko", [(str(row["question"]), row["answer"]) for row in rows("ko_chatbot")], size, seed)


def prompts(size: int, seed: int = 0) -> list[str]:
    """Prompts of the routing data without their choices, cut at 160 characters: texts of every other kind.

    Those of `llmrouter` are left out, which `open_questions` measures with.
    """
    with gzip.open(ROOT / "routing" / "prompts.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    texts = sorted({row["prompt"].split("\nA. ")[0][:160] for row in found if row["dataset"] != "llmrouter"})
    return [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))[:size]]


def _shuffled(name: str, language: str, kept: list[tuple[str, object]], size: int, seed: int) -> Stream:
    order = np.random.default_rng(seed).permutation(len(kept))[:size]
    return Stream(name, language, [kept[place][0] for place in order], [kept[place][1] for place in order])


def nearest_earlier(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places and cosines, (n, 5) each, of the nearest earlier rows; -1 where there are fewer."""
    count = len(vectors)
    places = np.full((count, NEIGHBOURS), -1, dtype=np.int64)
    cosines = np.zeros((count, NEIGHBOURS), dtype=np.float32)
    for start in range(0, count, 500):
        stop = min(start + 500, count)
        scores = vectors[start:stop] @ vectors[:stop].T
        scores[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = -2.0
        top = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]
        found = np.take_along_axis(scores, top, axis=1)
        width = top.shape[1]
        places[start:stop, :width] = np.where(found > -2.0, top, -1)
        cosines[start:stop, :width] = np.where(found > -2.0, found, 0.0)
    return places, cosines


def groups(stream: Stream) -> dict[object, list[int]]:
    found: dict[object, list[int]] = defaultdict(list)
    for place, label in enumerate(stream.labels):
        found[label].append(place)
    return found
