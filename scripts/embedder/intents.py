"""The Latin table taught which questions share an intent: which pieces tell, and which directions.

A sum of word vectors cannot know that "redeem" matters more than "please". The intents of CLINC150 and Banking77 say
so: neighbourhood components analysis (Goldberger and others, 2004) over a scale for each piece and one linear map for
all, so that nothing changes at run time. Other texts keep their similarities, and a question with one content word
exchanged comes no nearer to the original than it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_savings.embedding.text import Script, latin_rows, normalised, split
from llm_savings.semantic_cache.match import prepare

Floats = NDArray[np.float32]
STEPS, SHARPNESS, RATE, SCALE_RATE = 400, 20.0, 3e-4, 1e-2
KEEP, APART = 30.0, 3.0  # weights: of similarities that are to stay, and of exchanged words that are not to come nearer
_CLASSES, _EACH, _OTHERS = 64, 6, 384


class Bags:
    """Texts as pieces with weights, the same as `llm_savings.embedding` sums them; a text without any is left out."""

    def __init__(self, texts: Sequence[str], vocabulary: dict[str, int]) -> None:
        self.pieces: list[NDArray[np.int64]] = []
        self.weights: list[Floats] = []
        self.kept: list[int] = []
        for place, text in enumerate(texts):
            bag: dict[int, float] = defaultdict(float)
            for match in split(normalised(text)):
                if match.lastindex == Script.LATIN:
                    rows = latin_rows(match[Script.LATIN], vocabulary)
                    for row in rows:
                        bag[row] += 1 / np.sqrt(len(rows))
            if bag:
                self.kept.append(place)
                self.pieces.append(np.array(list(bag), np.int64))
                self.weights.append(np.array(list(bag.values()), np.float32))


def exchanged(texts: Sequence[str], table: Floats, vocabulary: dict[str, int], *, seed: int) -> list[tuple[str, str]]:
    """Questions in lower case, and the same with one content word exchanged for another of `texts`.

    Half of the words come from anywhere, half are the most alike of thirty by `table`.
    """
    rng = np.random.default_rng(seed)
    words = [[word for word in dict.fromkeys(prepare(text).surfaces) if word in text.lower()] for text in texts]
    known = sorted({word for some in words for word in some if len(word) > 1 and Bags([word], vocabulary).kept})
    bags = Bags(known, vocabulary)
    vectors = np.stack([weights @ table[pieces] for pieces, weights in zip(bags.pieces, bags.weights, strict=True)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = {word: place for place, word in enumerate(known)}
    found: list[tuple[str, str]] = []
    for text, some in zip(texts, words, strict=True):
        inside = [places[word] for word in some if word in places]
        if not inside:
            continue
        old = inside[rng.integers(len(inside))]
        drawn = rng.integers(len(known), size=30)
        drawn = drawn[(vectors[drawn] @ vectors[old] < 0.9)]
        if len(drawn):
            new = drawn[(vectors[drawn] @ vectors[old]).argmax()] if rng.random() < 0.5 else drawn[0]
            found.append((text.lower(), text.lower().replace(known[old], known[new], 1)))
    return found


class _Forward(NamedTuple):
    """A batch on its way: flat pieces and weights, where each text begins, and what came of them."""

    pieces: NDArray[np.int64]
    weights: Floats
    starts: NDArray[np.int64]
    sums: Floats
    lengths: Floats
    unit: Floats


class _Map:
    """A scale for each piece (its logarithm) and a linear map, with Adam's moments of both."""

    def __init__(self, table: Floats) -> None:
        self.table = table
        self.turn = np.eye(table.shape[1], dtype=np.float32)
        self.scale = np.zeros(len(table), np.float32)
        self._slopes = [np.zeros_like(self.turn), np.zeros_like(self.scale)]
        self._moments = [[np.zeros_like(part), np.zeros_like(part)] for part in self._slopes]
        self._steps = 0

    def forward(self, bags: Bags, places: Sequence[int]) -> _Forward:
        pieces = np.concatenate([bags.pieces[place] for place in places])
        weights = np.concatenate([bags.weights[place] for place in places])
        starts = np.cumsum([0, *(len(bags.pieces[place]) for place in places[:-1])])
        sums = np.add.reduceat(self.table[pieces] * (weights * np.exp(self.scale[pieces]))[:, None], starts)
        turned = sums @ self.turn.T
        lengths = np.linalg.norm(turned, axis=1, keepdims=True) + 1e-9
        return _Forward(pieces, weights, starts, sums, lengths, turned / lengths)

    def back(self, batch: _Forward, slope: Floats) -> None:
        """Add to the slopes what the slope of the loss by the unit vectors gives."""
        slope = (slope - batch.unit * (batch.unit * slope).sum(1, keepdims=True)) / batch.lengths
        self._slopes[0] += slope.T @ batch.sums
        owners = np.repeat(np.arange(len(batch.starts)), np.diff([*batch.starts, len(batch.pieces)]))
        each = np.einsum("nd,nd->n", (slope @ self.turn)[owners], self.table[batch.pieces])
        np.add.at(self._slopes[1], batch.pieces, each * batch.weights * np.exp(self.scale[batch.pieces]))

    def step(self, share: float) -> None:
        self._steps += 1
        parts = zip((self.turn, self.scale), self._slopes, self._moments, (RATE, SCALE_RATE), strict=True)
        for values, slope, (mean, square), rate in parts:
            mean += 0.1 * (slope - mean)
            square += 0.01 * (slope * slope - square)
            fair = mean / (1 - 0.9**self._steps), square / (1 - 0.99**self._steps)
            values -= share * rate * fair[0] / (np.sqrt(fair[1]) + 1e-8)
            slope[:] = 0


def neighbours(unit: Floats, labels: NDArray[np.int64]) -> tuple[float, Floats]:
    """The loss that a softmax neighbour has another label, and its slope by the unit vectors."""
    odds = unit @ unit.T * SHARPNESS
    np.fill_diagonal(odds, -np.inf)
    chances = np.exp(odds - odds.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    alike = chances * (labels[:, None] == labels[None, :])
    right = alike.sum(1, keepdims=True)
    has = right[:, 0] > 0
    slope = SHARPNESS * (chances - alike / np.maximum(right, 1e-12)) * has[:, None] / max(has.sum(), 1)
    return float(-np.log(np.maximum(right[has], 1e-12)).mean()), (slope + slope.T) @ unit


def taught(table: Floats, vocabulary: dict[str, int], labelled: Sequence[tuple[list[str], list[object]]],
           others: Sequence[str], changed: Sequence[tuple[str, str]], *, seed: int = 0) -> Floats:  # fmt: skip
    """Return `table`, (v, d), scaled and turned.

    Args:
        table: One row for each piece.
        vocabulary: The pieces' rows.
        labelled: Questions and their intents, a set for each domain.
        others: Texts whose similarities are to stay.
        changed: Questions, and the same with one content word exchanged for another.
        seed: Of the batches.
    """
    rng = np.random.default_rng(seed)
    learned, start = _Map(table), _Map(table)
    sets: list[tuple[Bags, list[NDArray[np.int64]]]] = []
    for texts, labels in labelled:
        bags, found = Bags(texts, vocabulary), {}
        for place, kept in enumerate(bags.kept):
            found.setdefault(labels[kept], []).append(place)
        sets.append((bags, [np.array(places) for places in found.values() if len(places) > 1]))
    kept = Bags(others, vocabulary)
    known = [set(Bags([pair[side] for pair in changed], vocabulary).kept) for side in (0, 1)]
    pairs = [pair for place, pair in enumerate(changed) if place in known[0] & known[1]]
    sides = [Bags([pair[side] for pair in pairs], vocabulary) for side in (0, 1)]
    for step in range(STEPS):
        told = 0.0
        for bags, groups in sets:
            chosen = [groups[i] for i in rng.choice(len(groups), min(_CLASSES, len(groups)), replace=False)]
            drawn = [rng.choice(group, min(_EACH, len(group)), replace=False) for group in chosen]
            batch = learned.forward(bags, np.concatenate(drawn).tolist())
            loss, slope = neighbours(batch.unit, np.repeat(np.arange(len(drawn)), [len(each) for each in drawn]))
            learned.back(batch, slope)
            told += loss
        places = rng.choice(len(kept.kept), min(_OTHERS, len(kept.kept)), replace=False).tolist()
        batch, was = learned.forward(kept, places), start.forward(kept, places).unit
        moved = batch.unit @ batch.unit.T - was @ was.T
        learned.back(batch, KEEP * 0.4 / len(places) * moved @ batch.unit)
        places = rng.choice(len(pairs), min(256, len(pairs)), replace=False).tolist()
        one, other = (learned.forward(side, places) for side in sides)
        before = (start.forward(sides[0], places).unit * start.forward(sides[1], places).unit).sum(1)
        nearer = np.maximum((one.unit * other.unit).sum(1) - before, 0)[:, None] * (2 * APART / len(places))
        learned.back(one, nearer * other.unit)
        learned.back(other, nearer * one.unit)
        learned.step(min(1.0, (step + 1) / 20) * (1 - step / STEPS))
        if step % 100 == 99:
            print(f"intents, step {step + 1}: loss {told / len(sets):.3f}", flush=True)
    return (np.exp(learned.scale)[:, None] * table) @ learned.turn.T
