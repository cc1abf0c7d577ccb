"""Teach the bundled embedder's Latin table the intents of CLINC150 and Banking77: the step behind build_embedder.py.

    PYTHONPATH=.:scripts python scripts/teach_intents.py --latin DIR

Takes two minutes on one core and needs numpy alone. DIR has latin.npy and latin_scale.npy as build_embedder.py packed
them, so that they are not taught twice; the shipped ones started from those of commit 6abdc1b. Only rows that are
`taught` by `match_data.intents` are read with their intents, three in ten of CLINC150's and two in ten of Banking77's;
thresholds and reports rest on the others. Run scripts/fit_match.py afterwards. With `--sets clinc` or `--sets banking`,
in a copy of the repository, the other one tells what teaching does for questions of a domain that it never saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from embedder import pack
from embedder.intents import exchanged, taught
from match_data import intents, prompts

from llm_savings.embedding import bundled

WEIGHTS = Path(bundled.__file__).parent / "weights"
SEED, OTHERS, EXCHANGED = 0, 7_000, 4_000


def main() -> None:
    """Parse the arguments, teach and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latin", type=Path, required=True, help="folder with the table as it was built")
    parser.add_argument("--sets", default="clinc,banking", help="whose intents are taught")
    given = parser.parse_args()
    folder: Path = given.latin
    pieces = (WEIGHTS / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = {piece: row for row, piece in enumerate(pieces)}
    latin, hangul = _table(folder, "latin"), _table(WEIGHTS, "hangul")
    streams = [intents(name, "taught", 1_000_000) for name in given.sets.split(",")]
    labelled = [(stream.texts, stream.labels) for stream in streams]
    others = prompts(OTHERS, SEED)
    asked = [text for stream in streams for text in stream.texts] + others[:EXCHANGED]
    pairs = exchanged(asked, latin, vocabulary, seed=SEED)
    latin = taught(latin, vocabulary, labelled, others, pairs, seed=SEED)
    highest = float((WEIGHTS / "name.txt").read_text(encoding="utf-8").split()[1])
    print(pack.pack(WEIGHTS, latin=latin, hangul=hangul, idf=np.load(WEIGHTS / "idf.npy"), vocabulary=pieces,
                    highest_idf=highest))  # fmt: skip


def _table(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy").astype(np.float32) * np.load(folder / f"{name}_scale.npy")[:, None]


if __name__ == "__main__":
    main()
