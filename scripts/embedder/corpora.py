"""The texts that the bundled embedder is built from, each from a named source with a licence that allows it.

`data` is the folder of question files that the project's tests use (songys, CLINC150, Banking77); `repositories` holds
plain checkouts of public repositories, one folder each, under the names in `REPOSITORIES`. See NOTICE beside the
weights for authors and licences. paraKQC and every row that `reported` keeps back are never read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from embedder.korean_commands import requests
from embedder.korean_questions import clusters
from llm_savings.embedding.text import Script, normalised, split

REPOSITORIES = {
    "nsmc": "e9t/nsmc (CC0 1.0): raw/*.json",
    "slurp": "pswietojanski/slurp (CC BY 4.0, text): dataset/lm/lm.txt, dataset/slurp/*.jsonl",
    "webquestions": "brmson/dataset-factoid-webquestions (CC BY 4.0): main/*.json",
    "react-ko": "reactjs/ko.react.dev (CC BY 4.0): src/content",
    "vue-ko": "vuejs-translations/docs-ko (CC BY 4.0): src",
    "fastapi": "fastapi/fastapi (MIT): docs/ko, docs/en",
    "tech-interview": "gyoogle/tech-interview-for-developer (MIT)",
    "interview-beginner": "JaeYeopHan/Interview_Question_for_Beginner (MIT)",
}
_HANGUL = re.compile("[가-힣]")
_MARKUP = re.compile(r"```.*?```|<[^>]+>|\{[^}]*\}|!?\[([^\]]*)\]\([^)]*\)|https?://\S+|[`*_>#|]+", re.DOTALL)


def reported(text: str) -> bool:
    """Whether a CLINC150 or Banking77 row is kept for reporting (half of them, by a hash of the text)."""
    return hashlib.sha256(text.strip().lower().encode()).digest()[0] & 1 == 1


def rows(path: Path) -> list[dict[str, str]]:
    """The objects of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def only_hangul(text: str) -> bool:
    """Whether a text has words and all of them are Hangul."""
    found = split(normalised(text))
    return bool(found) and all(match.lastindex == Script.HANGUL for match in found)


def _sentences(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.glob(pattern)):
        text = _MARKUP.sub(lambda m: m.group(1) or " ", path.read_text(encoding="utf-8", errors="ignore"))
        for line in text.splitlines():
            for sentence in re.split(r"(?<=[.?!])\s+", line.strip(" -+\t0123456789.:")):
                if 8 <= len(sentence) <= 90:
                    yield sentence


def _reviews(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("raw/*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            text = str(row.get("review", "")).strip()
            if 10 <= len(text) <= 60 and len(_HANGUL.findall(text)) > len(text) / 2:
                yield text


def _sample(texts: Iterator[str], count: int, seed: int) -> list[str]:
    unique = sorted(set(texts))
    random.Random(seed).shuffle(unique)
    return unique[:count]


def korean(data: Path, repositories: Path, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Unlabelled Korean sentences: all of them, those that the teacher is asked about, and the questions."""
    pairs, chat = rows(data / "ko_question_pair.jsonl.gz"), rows(data / "ko_chatbot.jsonl.gz")
    songys = sorted({row[key] for row in pairs for key in ("a", "b")} | {row["question"] for row in chat})
    made = [wording for cluster in clusters(seed) for wording in cluster.wordings]
    documents: list[str] = []
    for name, pattern in (("react-ko", "**/*.md"), ("vue-ko", "**/*.md"), ("fastapi", "docs/ko/**/*.md"),
                          ("tech-interview", "**/*.md"), ("interview-beginner", "**/*.md")):  # fmt: skip
        found = (text for text in _sentences(repositories / name, pattern) if _HANGUL.search(text))
        documents += _sample(found, 8_000, seed)
    reviews = _sample(_reviews(repositories / "nsmc"), 120_000, seed)
    rng = random.Random(seed)
    rng.shuffle(made)
    rng.shuffle(documents)
    rng.shuffle(songys)
    asked = sorted({rng.choice(cluster.wordings) for family in requests(3_000, seed) for cluster in family})
    rng.shuffle(asked)
    songys = [text.strip() for text in songys]
    everything = [*songys, *made, *documents, *reviews]
    chosen = [*songys, *made[:14_000], *documents[:12_000], *reviews[:40_000], *asked[:6_000]]
    chosen = [text for text in dict.fromkeys(chosen) if len(text) <= 60 and only_hangul(text)]
    return everything, chosen, [*songys, *made, *asked]


def english(data: Path, repositories: Path, routing: Path, seed: int) -> list[str]:
    """Unlabelled English questions and commands for distillation."""
    kept: list[str] = []
    for name in ("en_clinc150_train.jsonl.gz", "en_banking77_train.jsonl.gz"):
        kept += [row["text"] for row in rows(data / name) if not reported(row["text"])]
    lines = (repositories / "slurp" / "lm.txt").read_text(encoding="utf-8").splitlines()
    spoken = [line.strip() for line in lines if 8 <= len(line) <= 120]
    for path in sorted((repositories / "slurp").glob("*.jsonl")):
        spoken += [json.loads(line)["sentence"] for line in path.read_text(encoding="utf-8").splitlines()]
    asked = [row["qText"] for path in sorted((repositories / "webquestions" / "main").glob("*.json"))
             for row in json.loads(path.read_text(encoding="utf-8"))]  # fmt: skip
    prompts = [str(row["prompt"]).split("\nA. ")[0][:160] for row in rows(routing)]
    found = (text for text in _sentences(repositories / "fastapi", "docs/en/docs/**/*.md") if len(text) > 20)
    out = sorted(set(kept + spoken + asked + _sample(iter(prompts), 8_000, seed) + _sample(found, 6_000, seed)))
    held = {row["text"].strip().lower() for name in ("en_clinc150_train.jsonl.gz", "en_banking77_train.jsonl.gz")
            for row in rows(data / name) if reported(row["text"])}  # fmt: skip
    out = [text for text in out if text.strip().lower() not in held]
    random.Random(seed).shuffle(out)
    return out
