"""What a word costs in tokens, in English, Korean and code: the table `words` of llm_savings/data/structured.toml.

    python scripts/measure_words.py

English and Korean: the answers of the sandbox's knowledge file. Code: the functions and classes of this package.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from llm_savings.structured.words import count_words, language
from llm_savings.tokens import encoding

PACKAGE = Path(__file__).parents[1] / "llm_savings"
FEWEST = 8  # words; a shorter text says little


def texts() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"en": [], "ko": [], "code": list(code())}
    for line in (PACKAGE / "sandbox/knowledge.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        if "```" not in entry["answer"] and entry["kind"] != "code":
            found[language(entry["answer"])].append(entry["answer"])  # of a translation, not that of its prompt
    return {name: [text for text in every if count_words(text) >= FEWEST] for name, every in found.items()}


def code() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text("utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield ast.get_source_segment(source, node) or ""


def main() -> None:
    print("# Tokens per word: of all texts together, and what 99 of 100 texts stay below.")
    print(f"# Printed by scripts/measure_words.py on {datetime.now(UTC):%Y-%m-%d}.")
    for name, every in texts().items():
        print(f"[words.{name}]")
        print(f"texts = {len(every)}")
        for encoder in ("o200k_base", "cl100k_base"):
            sizes = [(len(encoding(encoder).encode_ordinary(text)), count_words(text)) for text in every]
            ratios = sorted(tokens / words for tokens, words in sizes)
            mean = sum(tokens for tokens, _ in sizes) / sum(words for _, words in sizes)
            most = ratios[min(len(ratios) - 1, ceil(0.99 * len(ratios)))]
            print(f"{encoder} = {{ mean = {mean:.2f}, most = {most:.2f} }}")


if __name__ == "__main__":
    main()
