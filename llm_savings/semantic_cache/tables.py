"""A user's own text files: questions with answers, pairs of questions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from llm_savings.errors import ConfigError, LogFormatError


def text_of(path: str | Path) -> str:
    """A file's text.

    Raises:
        ConfigError: It cannot be read as UTF-8.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error


def rows_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file's text with the number of their last line. Only a line feed ends a line, not U+2028.

    Raises:
        LogFormatError: It is no CSV; says the line.
    """
    rows = csv.reader(StringIO(text))
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise LogFormatError(f"no CSV: {error}", rows.line_num) from error
