"""Files of logs, one entry after the other in bounded memory: JSON lines, JSON, CSV and Parquet, gzipped or not."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from llm_savings.audit.formats.otel import spans
from llm_savings.audit.values import Unusable
from llm_savings.errors import ConfigError, LedgerError, LogFormatError

MOST_IN_AN_ENTRY = 64 * 2**20
"""Bytes that one line, or one entry of a JSON list, may have."""
MOST_EXPANSION = 400
"""How many times its size a gzipped log may have, once it has 64 MB. Prompts that repeat a great deal make some 200."""

_HEAD = 2**20
_MALFORMED = Unusable("malformed JSON")
_NO_OBJECT = Unusable("JSON that is no object")
_TOO_LONG = Unusable(f"an entry over {MOST_IN_AN_ENTRY >> 20} MB")
_CELLS = Unusable("a row with more or fewer cells than the header")
# Under these an API's answer, or an export, has its list of entries.
_LISTS = ("data", "items", "results", "runs", "observations", "generations", "resourceSpans")
_LIST = re.compile(r'\s*(?:\[|\{\s*"(?:' + "|".join(_LISTS[:-1]) + r')"\s*:\s*\[)')  # spans are in lists of lists

Row = tuple[int, Any]
"""A line's number, and its entry or the `Unusable` that says why there is none."""


def rows(path: str) -> Iterator[Row]:
    """The entries of a file with their numbers: a line, or a place in a JSON list; blank lines are passed over.

    Raises:
        LogFormatError: It is no log, or what follows cannot be read (a gzip bomb, a file that breaks off).
        ConfigError: It is Parquet and pyarrow is not installed.
        OSError: It cannot be opened.
    """
    with Path(path).open("rb") as file:
        magic = file.read(16)
    if magic.startswith(b"PAR1"):
        return _parquet(path)
    if magic.startswith(b"SQLite format 3"):
        return _ledger(path)
    return _text(path)


def _text(path: str) -> Iterator[Row]:
    with Path(path).open("rb") as raw, _utf8(raw) as file:
        head = file.peek(_HEAD)
        kind = _kind(head)
        entries = {"lines": _lines, "json": _json, "csv": _csv}[kind](file)
        try:
            yield from entries
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise LogFormatError(f"the gzip file is damaged or breaks off: {error}") from error
        except csv.Error as error:
            raise LogFormatError(f"its header cannot be read: {error}") from error


def _utf8(raw: BinaryIO) -> io.BufferedReader[Any]:
    """The file's text in UTF-8, whatever it is packed or written in."""
    file: io.BufferedReader[Any] = io.BufferedReader(cast("io.RawIOBase", raw), _HEAD)
    try:
        if file.peek(2)[:2] == b"\x1f\x8b":
            file = io.BufferedReader(_Inflated(file), _HEAD)
        mark = file.peek(3)[:3]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogFormatError(f"the gzip file is damaged or breaks off: {error}") from error
    other = "utf-16" if mark[:2] in (b"\xff\xfe", b"\xfe\xff") else None
    if not other and not _decodes(file.peek(_HEAD), "utf-8") and _decodes(file.peek(_HEAD), "cp949"):
        other = "cp949"  # as Excel writes CSV in Korea
    if other:
        return io.BufferedReader(_Recoded(io.TextIOWrapper(file, other, errors="replace", newline="")), _HEAD)
    if mark == b"\xef\xbb\xbf":
        file.read(3)
    return file


def _decodes(head: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)  # its end may be within a character
    except UnicodeDecodeError:
        return False
    return True


class _Inflated(io.RawIOBase):
    """A gzipped file that stops being read when it grows as no log does."""

    def __init__(self, packed: io.BufferedReader[Any]) -> None:
        self._packed, self._plain, self._size = packed, gzip.GzipFile(fileobj=packed), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._plain.read1(len(buffer))
        buffer[: len(data)] = data
        self._size += len(data)
        if self._size > MOST_IN_AN_ENTRY and self._size > MOST_EXPANSION * self._packed.tell():
            raise LogFormatError(
                f"it grows to more than {MOST_EXPANSION} times its size, which no log does (a gzip bomb?); "
                "unpack it yourself if you trust it"
            )
        return len(data)


class _Recoded(io.RawIOBase):
    """A text in UTF-8."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._text.read(len(buffer) // 4).encode("utf-8", "replace")
        buffer[: len(data)] = data
        return len(data)


def _kind(head: bytes) -> str:
    if not head.strip():
        raise LogFormatError("it is empty")
    if b"\0" in head[:4096]:
        raise LogFormatError("it is a binary file; expected JSON lines, JSON, CSV or Parquet, gzipped or not")
    lines = [line for line in head.splitlines()[:200] if line.strip()]
    first = lines[0].strip()
    whole = sum(line.startswith(b"{") and isinstance(_loads(line), dict) for line in lines)
    begins = _list_begins(first.decode("utf-8", "replace"))
    if begins is not None:  # of a list whose entries have a line each, the last is whole, having no comma
        whole -= 0 if _loads(first) is not None and len(lines) > 1 else 1
    if whole > 0:
        return "lines"
    if first.startswith(b"{") and len(lines) == 1 and begins is None:
        return "lines"  # it is longer than the head, or broken
    if first.startswith((b"{", b"[")):
        return "json"
    if _delimiter(first.decode("utf-8", "replace")):
        return "csv"
    raise LogFormatError("its text is neither JSON lines nor JSON nor CSV with a header")


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _lines(file: io.BufferedReader[Any]) -> Iterator[Row]:
    number, loads = 0, orjson.loads
    while line := file.readline(MOST_IN_AN_ENTRY):
        number += 1
        if len(line) == MOST_IN_AN_ENTRY and not line.endswith(b"\n"):
            while (more := file.readline(_HEAD)) and not more.endswith(b"\n"):
                pass
            yield number, _TOO_LONG
            continue
        try:
            value = loads(line)
        except ValueError:
            if not line.isspace():
                yield number, _MALFORMED
            continue
        if type(value) is not dict:
            yield number, _NO_OBJECT
        elif (held := entries_of(cast("dict[str, Any]", value))) is None:
            yield number, value
        else:
            for entry in held:
                yield number, entry if isinstance(entry, dict) else _NO_OBJECT


def entries_of(value: dict[str, Any]) -> list[Any] | None:
    """The entries that one object holds, or None if it is an entry itself."""
    if "model" in value or _SETS.isdisjoint(value):
        return None
    for key in _LISTS:
        held = value.get(key)
        if isinstance(held, list) and held and isinstance(held[0], dict):
            return list(spans(value)) if key == "resourceSpans" else cast("list[Any]", held)
    return None


_SETS = frozenset(_LISTS)


def _json(file: io.BufferedReader[Any]) -> Iterator[Row]:
    """The entries of a JSON document; of a list, or an object that begins with one, as they come."""
    text = io.TextIOWrapper(file, "utf-8", errors="replace")
    decode = json.JSONDecoder().raw_decode
    buffer, size, number = text.read(_HEAD), _HEAD, 0
    begin = _list_begins(buffer)
    if begin is None:
        buffer += text.read(MOST_IN_AN_ENTRY)
        if len(buffer) > MOST_IN_AN_ENTRY:
            raise LogFormatError(
                f"one JSON object over {MOST_IN_AN_ENTRY >> 20} MB; make JSON lines of it, such as with jq -c '.data[]'"
            )
        value = _loads(buffer.encode("utf-8", "replace"))
        if not isinstance(value, dict):
            raise LogFormatError("malformed JSON")
        one = cast("dict[str, Any]", value)
        entries: list[Any] = entries_of(one) or [one]
        for number, entry in enumerate(entries, 1):
            yield number, entry if isinstance(entry, dict) else _NO_OBJECT
        return
    at = begin
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            at += 1
        if buffer.startswith("]", at):
            return
        try:
            value, end = decode(buffer, at)
            if end == len(buffer):
                raise ValueError  # it may go on
        except (ValueError, RecursionError):
            more = text.read(size)
            if not more or len(buffer) - at > MOST_IN_AN_ENTRY:
                yield number + 1, _MALFORMED
                raise LogFormatError(
                    f"the list breaks off, is malformed or has over {MOST_IN_AN_ENTRY >> 20} MB in entry {number + 1}"
                ) from None
            buffer, at, size = buffer[at:] + more, 0, size * 2
            continue
        number, at, size = number + 1, end, _HEAD
        if not isinstance(value, dict):
            yield number, _NO_OBJECT
        else:
            for entry in entries_of(cast("dict[str, Any]", value)) or [value]:
                yield number, entry
        if at > _HEAD:
            buffer, at = buffer[at:], 0


def _list_begins(text: str) -> int | None:
    """Where the first entry of the document's list is, or None if it is none."""
    match = _LIST.match(text)
    return match.end() if match else None


def _delimiter(header: str) -> str | None:
    best = max(",;\t|", key=header.count)
    return best if best in header else None


def _csv(file: io.BufferedReader[Any]) -> Iterator[Row]:
    text = io.TextIOWrapper(file, "utf-8", errors="replace", newline="")
    csv.field_size_limit(max(csv.field_size_limit(), MOST_IN_AN_ENTRY))  # prompts are longer than its 128 KB
    first = next(line for line in file.peek(_HEAD).splitlines() if line.strip())
    delimiter = _delimiter(first.decode("utf-8", "replace")) or ","
    reader = csv.reader(text, delimiter=delimiter)
    header = [cell.strip() for cell in next((row for row in reader if row), list[str]())]
    width = len(header)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, _CELLS
            continue
        if len(row) == width:
            yield reader.line_num, dict(zip(header, row, strict=True))
        elif row:
            yield reader.line_num, _CELLS


def _parquet(path: str) -> Iterator[Row]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow; install it with: pip install "llm-savings[parquet]"') from error
    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1000)
            yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1)
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        raise LogFormatError(f"the Parquet file cannot be read: {error}") from error


def _ledger(path: str) -> Iterator[Row]:
    import sqlite3

    from llm_savings.ledger import Ledger
    from llm_savings.ledger.export import flat
    from llm_savings.storage.sqlite import uri

    try:
        with closing(sqlite3.connect(uri(path, "ro"), uri=True)) as db:
            columns = {column for _, column, *_ in db.execute("PRAGMA table_info(calls)")}
        if not columns >= {"call_id", "requested_model", "actual_pusd"}:  # opening it as a ledger would make it one
            raise LogFormatError("it is a SQLite database, but no ledger of llm-savings")
        with Ledger(path) as ledger:
            yield from enumerate(map(flat, ledger.calls()), 1)
    except (LedgerError, sqlite3.Error) as error:
        raise LogFormatError(str(error)) from error
