"""A user's own text files: CSV and JSON lines. Only a line feed ends a line: text may hold U+2028 and others."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

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
    """The rows of a CSV file's text, each with the number of its last line.

    Raises:
        LogFormatError: It is no CSV; says the line.
    """
    rows = csv.reader(StringIO(text), strict=True)  # else a quote that is never closed takes in all the rest
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise LogFormatError(f"no CSV: {error}", rows.line_num) from error


def records_of(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file's text below its header, as `rows_of`: cells by their column's name; blank rows are none.

    Raises:
        LogFormatError: It is no CSV; says the line.
    """
    rows = rows_of(text)
    _, header = next(rows, (0, list[str]()))
    return ((line, dict(zip(header, row, strict=False))) for line, row in rows if row)


def values_of(text: str) -> Iterator[tuple[int, Any]]:
    """The values of JSON lines, each with its line's number; blank lines are passed over.

    Raises:
        LogFormatError: A line is no JSON; says which.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise LogFormatError(f"no JSON: {error}", number) from error
