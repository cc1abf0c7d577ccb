"""Reading the questions that a cache is to know before anybody asks them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.storage.tables import records_of, text_of, values_of

_COLUMNS = {"question": ("question", "질문"), "answer": ("answer", "답변", "답"), "tags": ("tags", "태그")}


class Known(NamedTuple):
    """A question to be kept with its answer.

    Attributes:
        question: As somebody may ask it.
        answer: None where the model is to give it.
        tags: Labels to forget it by.
    """

    question: str
    answer: str | None
    tags: tuple[str, ...]


def read_faq(path: str | Path) -> list[Known]:
    """Read a CSV file with the columns question, answer and tags, or JSON lines with these keys (질문, 답변, 태그).

    Answers and tags may be missing. Several tags are a list in JSON; in CSV a semicolon stands between them.

    Raises:
        ConfigError: The file cannot be read, or has no questions.
        LogFormatError: A line is none of these; says the line.
    """
    text = text_of(path)
    if Path(path).suffix.lower() == ".csv":
        rows: Iterator[tuple[int, Any]] = records_of(text)
    else:
        rows = values_of(text)
    found = [_known(row, line) for line, row in rows]
    if not found:
        raise ConfigError(f"{path} has no questions")
    return found


def _known(row: Any, line: int) -> Known:
    given = cast("dict[Any, Any]", row) if isinstance(row, dict) else {}
    by = {str(name).strip().casefold(): value for name, value in given.items()}
    question, answer, tags = (next((by[n] for n in names if n in by), None) for names in _COLUMNS.values())
    if not isinstance(question, str) or not question.strip():
        raise LogFormatError("no question; expected question, and answer and tags if there are", line=line)
    if answer is not None and not isinstance(answer, str):
        raise LogFormatError(f"the answer is {type(answer).__name__}; expected text", line=line)
    several = cast("list[Any]", tags) if isinstance(tags, list) else str(tags or "").split(";")
    return Known(question, (answer or "").strip() or None, tuple(t for tag in several if (t := str(tag).strip())))
