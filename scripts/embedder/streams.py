"""What an embedder reaches: streams of questions, each compared with the earlier ones by plain cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.corpora import reported, rows

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def streams(data: Path, length: int = 5_000, seed: int = 7) -> dict[str, tuple[list[str], list[str]]]:
    """Texts and labels by name; of CLINC150 and Banking77 only rows that nothing was built from."""
    found: dict[str, list[tuple[str, str]]] = {
        "paraKQC": [(row["text"], str(row["set"])) for row in rows(data / "ko_parakqc_half.jsonl.gz")]
    }
    for name, file in (("CLINC150", "en_clinc150_train"), ("Banking77", "en_banking77_train")):
        held = [row for row in rows(data / f"{file}.jsonl.gz") if reported(row["text"])]
        found[name] = [(row["text"], row["intent"] or f"none {i}") for i, row in enumerate(held)]
    out: dict[str, tuple[list[str], list[str]]] = {}
    for name, pairs in found.items():
        order = np.random.default_rng(seed).permutation(len(pairs))[:length]
        out[name] = ([pairs[i][0] for i in order], [pairs[i][1] for i in order])
    return out


def nearest(vectors: NDArray[np.float32], labels: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """For each question but the first: how near the nearest earlier one is, and whether its label is the same."""
    names = np.asarray(labels)
    best = np.zeros(len(vectors), np.float32)
    right = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), 500):
        rows_ = slice(start, start + 500)
        similar = vectors[rows_] @ vectors[: start + 500].T
        similar[np.triu_indices(len(similar), start, similar.shape[1])] = -2  # itself and later questions
        at = similar.argmax(1)
        best[rows_], right[rows_] = similar.max(1), names[at] == names[rows_]
    return best[1:], right[1:]


def hit_rates(best: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Most hits, in % of questions, with at most 5% of hits wrong, and with 1% of questions answered wrongly."""
    order = np.argsort(-best, kind="stable")
    wrong, hits, asked = np.cumsum(~right[order]), np.arange(1, len(best) + 1), len(best) + 1
    threshold = np.append(np.diff(best[order]) != 0, True)
    per_hit, per_lookup = threshold & (wrong <= 0.05 * hits), threshold & (wrong <= 0.01 * asked)
    share = [100 * float(hits[kept].max(initial=0)) / asked for kept in (per_hit, per_lookup)]
    return share[0], share[1]


def report(data: Path, embed: Embed, names: Sequence[str] = ("paraKQC", "CLINC150", "Banking77")) -> str:
    """One line per stream."""
    lines = []
    for name, (texts, labels) in streams(data).items():
        if name in names:
            best, right = nearest(embed(texts), labels)
            per_hit, per_lookup = hit_rates(best, right)
            lines.append(
                f"{name:10} {len(texts)} questions: {per_hit:4.1f}% hits at 5% of hits wrong, "
                f"{per_lookup:4.1f}% at 1% of questions wrong, nearest is right {100 * right.mean():.1f}%"
            )
    return "\n".join(lines)
