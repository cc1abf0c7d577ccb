"""The two static students: a sum of table rows per word, a sum of words per text; and the losses that train them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llm_savings.embedding.text import Script, normalised, split

Rows = Callable[[str], Sequence[int]]


class Words:
    """Every word met so far with its table rows, so that a batch is two flat index arrays."""

    def __init__(self, script: Script, rows: Rows, weight: Callable[[str], float] = lambda word: 1.0) -> None:
        self.script = script
        self._rows = rows
        self._weight = weight
        self.weights: list[float] = []
        self._ids: dict[str, int] = {}
        self._texts: dict[str, NDArray[np.int64]] = {}
        self.tables: list[NDArray[np.int64]] = []

    def ids(self, text: str) -> NDArray[np.int64]:
        """Word ids of a text in this script (with repeats)."""
        if (known := self._texts.get(text)) is not None:
            return known
        out: list[int] = []
        for match in split(normalised(text)):
            if match.lastindex != self.script:
                continue
            word = match[match.lastindex]
            if word not in self._ids:
                self._ids[word] = len(self.tables)
                self.tables.append(np.asarray(self._rows(word), np.int64))
                self.weights.append(self._weight(word))
            out.append(self._ids[word])
        self._texts[text] = array = np.asarray(out, np.int64)
        return array


class Student(torch.nn.Module):
    """A word is the sum of its rows over the root of their number, times its weight; a text the sum of its words."""

    def __init__(self, words: Words, start: NDArray[np.float32]) -> None:
        super().__init__()
        self.words = words
        self.table = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(start), freeze=False, mode="sum")

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of `texts`; a text without a word of the script is zero."""
        ids = [self.words.ids(text) for text in texts]
        lengths = [len(i) for i in ids]
        unique, inverse = np.unique(np.concatenate(ids), return_inverse=True)
        rows = [self.words.tables[i] for i in unique]
        counts = np.asarray([len(row) for row in rows])
        offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
        vectors = self.table(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(offsets))
        weights = np.asarray([self.words.weights[i] for i in unique]) / np.sqrt(np.maximum(counts, 1))
        vectors = vectors * torch.from_numpy(weights).float().unsqueeze(1)
        owner = torch.from_numpy(np.repeat(np.arange(len(texts)), lengths))
        sums = torch.zeros(len(texts), vectors.shape[1]).index_add(0, owner, vectors[torch.from_numpy(inverse)])
        return functional.normalize(sums, dim=1)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`forward` in batches, as an array."""
        return np.concatenate([self(texts[i : i + 1000]).numpy() for i in range(0, len(texts), 1000)])


def row_idf(words: Words, texts: Sequence[str], size: int) -> NDArray[np.float32]:
    """Inverse document frequency of each table row over `texts`, between 0 and 1."""
    counts: Counter[int] = Counter()
    for text in texts:
        ids = words.ids(text)
        if len(ids):
            counts.update(set(np.concatenate([words.tables[i] for i in ids]).tolist()))
    df = np.zeros(size, np.float32)
    df[list(counts)] = list(counts.values())
    return np.log((1 + len(texts)) / (1 + df)) / np.log(1 + len(texts))


def centred(vectors: NDArray[np.floating], drop: int = 0) -> NDArray[np.float32]:
    """Teacher vectors without what all texts share: the mean and the first `drop` directions taken out, unit again."""
    out = vectors.astype(np.float32) - vectors.mean(0, dtype=np.float64).astype(np.float32)
    if drop:
        top = np.linalg.eigh(out[:20_000].T @ out[:20_000])[1][:, -drop:]
        out -= (out @ top) @ top.T
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)


def distillation(student: Tensor, teacher: Tensor, temperature: float = 20.0) -> Tensor:
    """How far the similarities within a batch are from the teacher's: squared error and KL of the softmaxed rows."""
    mask = ~torch.eye(len(student), dtype=torch.bool)
    ours, theirs = (vectors @ vectors.T for vectors in (student, teacher))
    squared = (ours - theirs)[mask].square().mean()
    ours, theirs = (sims[mask].view(len(student), -1) * temperature for sims in (ours, theirs))
    kl = functional.kl_div(ours.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")
    return 10 * squared + kl


def contrast(left: Tensor, right: Tensor, group: Tensor, negatives: Tensor, temperature: float = 20.0) -> Tensor:
    """InfoNCE over pairs `left[i]`, `right[i]`; rows of one `group` are no negatives of each other.

    Args:
        left: (n, d) unit vectors.
        right: (n, d) unit vectors of their paraphrases.
        group: (n,) ids; equal ids mean the same question.
        negatives: (m, d) further vectors that match none of `left`.
        temperature: What similarities are multiplied by.
    """
    same = (group[:, None] == group[None, :]) & ~torch.eye(len(left), dtype=torch.bool)
    sims = (left @ right.T * temperature).masked_fill(same, -1e4)
    goal = torch.arange(len(left))
    back = functional.cross_entropy(sims.T, goal)
    return (functional.cross_entropy(torch.cat([sims, left @ negatives.T * temperature], 1), goal) + back) / 2
