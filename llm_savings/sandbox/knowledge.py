"""What the sandbox's models know: prompts with the answers of a large and, where it differs, a small model."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llm_savings.errors import ConfigError

BUNDLED = Path(__file__).with_name("knowledge.jsonl")


@dataclass(frozen=True, slots=True)
class Entry:
    """One known prompt.

    Attributes:
        id: Such as `faq-ko-001`.
        answer: The right answer.
        wrong: What a small model says instead, when the prompt is hard for it.
    """

    id: str
    answer: str
    wrong: str | None


class Knowledge:
    """Entries by prompt.

    Args:
        path: A JSON lines file: `{"id", "prompts": [...], "answer", "hard", "wrong"}`.

    Raises:
        ConfigError: The file cannot be read.
    """

    def __init__(self, path: Path = BUNDLED) -> None:
        self._close: dict[str, Entry] = {}
        self._loose: dict[str, Entry] = {}
        try:
            lines = path.read_text("utf-8").split("\n")  # JSON may hold other line ends, such as U+2028
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"knowledge file {path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                wrong = str(row["wrong"]) if row.get("hard") else None
                entry = Entry(row["id"], row["answer"], wrong)
                prompts = [str(prompt) for prompt in row["prompts"]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(f"knowledge file {path}, line {number}: {error!r}") from error
            for prompt in prompts:
                self._close.setdefault(_close(prompt), entry)
                self._loose.setdefault(_loose(prompt), entry)

    def find(self, prompt: str) -> Entry | None:
        """The entry of a prompt; case, spacing and punctuation do not matter, unless only they tell two apart."""
        return self._close.get(_close(prompt)) or self._loose.get(_loose(prompt))


def _close(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


@lru_cache(maxsize=4096)
def _loose(text: str) -> str:
    kept = (" " if unicodedata.category(letter)[0] in "PC" else letter for letter in _close(text))
    return " ".join("".join(kept).split())
