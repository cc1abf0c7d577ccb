"""How the two students are trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder.corpora import only_hangul, rows
from embedder.korean_commands import requests
from embedder.korean_questions import Cluster, clusters
from embedder.rewrites import near_miss, paraphrase
from embedder.students import Student, Words, centred, contrast, distillation, row_idf
from llm_savings.embedding.text import HANGUL_ROWS, Script, hangul_rows, latin_rows

_LATIN_BATCH, _HANGUL_BATCH = 1024, 512


def _train(student: Student, steps: int, loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: min(1.0, (n + 1) / 50) * max(0.02, 1 - n / steps))
    total = 0.0
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        schedule.step()
        total += value.item()
        if step % 100 == 0:
            print(f"step {step}: loss {total / 100:.3f}", flush=True)
            total = 0.0


def latin_student(texts: Sequence[str], teacher: NDArray[np.float32], tokens: NDArray[np.float32],
                  vocabulary: Sequence[str], *, dimensions: int, steps: int, seed: int) -> Student:  # fmt: skip
    """Distil MiniLM's similarities into one vector per WordPiece token.

    Args:
        texts: Unlabelled questions.
        teacher: (n, 384) MiniLM vectors of them.
        tokens: (v, 384) MiniLM vectors of each token alone, the start (their first principal directions x IDF).
        vocabulary: The v tokens.
        dimensions: Numbers per vector.
        steps: Batches of 1,024.
        seed: Of the batches.
    """
    index = {piece: row for row, piece in enumerate(vocabulary)}
    words = Words(Script.LATIN, lambda word: latin_rows(word, index))
    kept = [i for i, text in enumerate(texts) if 2 <= len(words.ids(text)) <= 40]
    texts, goal = [texts[i] for i in kept], centred(teacher[kept])
    idf = row_idf(words, texts, len(vocabulary))
    spread = tokens - tokens.mean(0)
    start = spread @ np.linalg.eigh(spread.T @ spread)[1][:, ::-1][:, :dimensions]
    start *= idf[:, None] / np.linalg.norm(start, axis=1).mean()
    student = Student(words, start.astype(np.float32))
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(goal)

    def loss() -> Tensor:
        batch = rng.choice(len(texts), _LATIN_BATCH, replace=False)
        return distillation(student([texts[i] for i in batch]), target[batch])

    _train(student, steps, loss)
    return student


class _Pairs:
    """Draws paraphrase pairs with near misses: from songys, from rules, and by rewriting any sentence."""

    def __init__(self, words: Words, data: Path, sentences: Sequence[str], seed: int) -> None:
        self._rng = random.Random(seed)
        self._words = words
        questions = rows(data / "ko_question_pair.jsonl.gz")
        self._asked = [(row["a"].strip(), row["b"].strip()) for row in questions if row["duplicate"]]
        self._asked = [(a, b) for a, b in self._asked if a != b and only_hangul(a) and only_hangul(b)]
        answers: dict[str, list[str]] = {}
        for row in rows(data / "ko_chatbot.jsonl.gz"):
            answers.setdefault(row["answer"], []).append(row["question"].strip())
        self._answered = [group for group in answers.values() if 2 <= len(group) <= 6]
        self._clusters: list[Cluster] = []
        self._bare: dict[str, list[str]] = {}  # act -> wordings around a Latin topic, which this student does not see
        for cluster in clusters(seed):
            if only_hangul(cluster.wordings[0]):
                self._clusters.append(cluster)
            elif "|" not in cluster.topic:
                self._bare.setdefault(cluster.act, []).extend(w for w in cluster.wordings if len(words.ids(w)))
        self._by: dict[str, list[Cluster]] = {}
        for cluster in self._clusters:
            self._by.setdefault(cluster.topic, []).append(cluster)
            self._by.setdefault(cluster.act, []).append(cluster)
        self._families = list(requests(4_000, seed))
        self._sentences = [text for text in sentences if 6 <= len(text) <= 50 and only_hangul(text)]

    def draw(self) -> tuple[list[str], list[str], Tensor, list[str]]:
        """Left, right, group of each pair, and a near miss of each left."""
        rng = self._rng
        left: list[str] = []
        right: list[str] = []
        groups: list[object] = []

        def add(pool: Sequence[str], group: object) -> None:
            a, b = rng.sample(pool, 2)
            left.append(a)
            right.append(paraphrase(b, rng) if rng.random() < 0.3 else b)
            groups.append(group)

        chosen: dict[tuple[str, str], Cluster] = {}
        for _ in range(16):
            seed = rng.choice(self._clusters)
            for key in (seed.topic, seed.act):
                for cluster in rng.sample(self._by[key], min(3, len(self._by[key]))):
                    chosen[cluster.topic, cluster.act] = cluster
        for family in rng.sample(self._families, 16):
            chosen.update({(cluster.topic, cluster.act): cluster for cluster in family})
        for key, cluster in chosen.items():
            add(cluster.wordings, key)
        for act in rng.sample(sorted(self._bare), 8):
            add(self._bare[act], act)
        for a, b in rng.sample(self._asked, 100):
            add((a, b), b)
        for group in rng.sample(self._answered, 40):
            add(group, group[0])
        for text in rng.sample(self._sentences, 120):
            left.append(text)
            right.append(paraphrase(text, rng))
            groups.append(text)
        numbers: dict[object, int] = {}
        group = torch.tensor([numbers.setdefault(name, len(numbers)) for name in groups])
        misses = [near_miss(text, self._sentences, rng) for text in left]
        return left, right, group, [text for text in misses if len(self._words.ids(text))]


def hangul_student(texts: Sequence[str], teacher: NDArray[np.float32], sentences: Sequence[str], data: Path, *,
                   weight: Callable[[str], float], dimensions: int, steps: int, seed: int) -> Student:  # fmt: skip
    """Distil e5's similarities into jamo n-gram vectors while pulling paraphrases together, near misses apart.

    Args:
        texts: Unlabelled sentences of Hangul words only.
        teacher: (n, 384) e5 vectors of them.
        sentences: Sentences to rewrite and to count n-grams in.
        data: Folder of the songys files.
        weight: Of a word in the sum; the same as at run time.
        dimensions: Numbers per vector.
        steps: Batches: 512 sentences to distil and about 450 pairs each.
        seed: Of everything random.
    """
    words = Words(Script.HANGUL, hangul_rows, weight)
    pairs = _Pairs(words, data, sentences, seed)
    goal = centred(teacher)
    target = torch.from_numpy(goal)
    print(f"{len(texts)} sentences to distil", flush=True)
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(HANGUL_ROWS, dimensions)) / np.sqrt(dimensions)
    # An n-gram that training never meets keeps its random vector: a rare word is then at least like itself.
    start *= row_idf(words, sentences, HANGUL_ROWS)[:, None] ** 2
    student = Student(words, start.astype(np.float32))

    def loss() -> Tensor:
        batch = rng.choice(len(texts), _HANGUL_BATCH, replace=False)
        left, right, group, misses = pairs.draw()
        vectors = student([*left, *right, *misses])
        n = len(left)
        told_apart = contrast(vectors[:n], vectors[n : 2 * n], group, vectors[2 * n :])
        return distillation(student([texts[i] for i in batch]), target[batch]) + told_apart

    _train(student, steps, loss)
    return student
