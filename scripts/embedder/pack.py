"""Writes the weight files that `llm_savings.embedding` reads, and says how large they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llm_savings.embedding.text import IDF_SLOTS, idf_slot, normalised, split

SPACE = "llm-savings-koen-1"  # count up when llm_savings.embedding.text or bundled changes what vectors come out


def eight_bits(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows as int8 with one scale each."""
    scale = np.maximum(np.abs(table).max(1), 1e-8) / 127
    return np.rint(table / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def idf_table(corpora: Iterable[Sequence[str]]) -> tuple[NDArray[np.uint8], float]:
    """IDF per slot in 1/255 of the highest, each language counted among its own texts; and the highest itself."""
    sizes, counts = [], Counter[int]()
    corpora = [list(texts) for texts in corpora]
    largest = max(map(len, corpora))
    for texts in corpora:
        found: Counter[int] = Counter()
        for text in texts:
            found.update({idf_slot(match[match.lastindex or 0]) for match in split(normalised(text))})
        for slot, count in found.items():
            counts[slot] += round(count * largest / len(texts))
        sizes.append(len(texts))
    highest = float(np.log((1 + largest) / 1) + 1)
    out = np.full(IDF_SLOTS, 255, np.uint8)
    for slot, count in counts.items():
        if count <= 2 * largest / min(sizes):
            continue  # rare forms would fill the table and lend their weight to words that were never met
        out[slot] = round(255 * float(np.log((1 + largest) / (1 + count)) + 1) / highest)
    return out, highest


def pack(folder: Path, *, latin: NDArray[np.float32], vocabulary: Sequence[str], hangul: NDArray[np.float32],
         idf: NDArray[np.uint8], highest_idf: float) -> str:  # fmt: skip
    """Write all files into `folder`; the space is named after `SPACE` and a digest of them.

    Returns:
        The name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(zip(("latin", "latin_scale", "hangul", "hangul_scale"), (*eight_bits(latin), *eight_bits(hangul)),
                      strict=True))  # fmt: skip
    digest = hashlib.sha256("\n".join(vocabulary).encode())
    for name, array in {**arrays, "idf": idf}.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
        digest.update(array.tobytes())
    name = f"{SPACE}-{digest.hexdigest()[:8]}"
    (folder / "vocabulary.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "name.txt").write_text(f"{name} {highest_idf:.6f}\n", encoding="utf-8")
    return name
