"""The ledger's rows as CSV, JSON lines or Parquet, streamed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from llm_savings.errors import ConfigError
from llm_savings.ledger.records import Call
from llm_savings.usage import FIELDS

Format = Literal["csv", "jsonl", "parquet"]
# Spreadsheets run a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # also as East Asia types them
_SQLITE = b"SQLite format 3\0"
_TEXT_COLUMNS = (
    "call_id",
    "host",
    "status",
    "basis",
    "requested_model",
    "model",
    "provider",
    "mode",
    "started_at",
    "bound_usd",
    "actual_usd",
    "baseline_usd",
    "user",
    "session",
    "tenant",
    "tags",
    "strategies",
    "response_id",
    "error",
)
COLUMNS = (*_TEXT_COLUMNS, "stream", "latency_s", *(f"{name}_tokens" for name in FIELDS))
"""Columns of an export. Amounts are USD as exact decimal text, times ISO 8601 in UTC, latency in seconds."""


def export(calls: Iterable[Call], path: str | Path, format: Format | None = None) -> int:
    """Write calls to a new file, readable by its owner alone.

    Args:
        calls: Such as `ledger.calls()`.
        path: The file to write; an existing one is replaced.
        format: "csv", "jsonl" or "parquet"; by default the path's ending.

    Returns:
        How many calls were written.

    Raises:
        ConfigError: The format is unknown, or Parquet is asked for and pyarrow is not installed.
        OSError: The file cannot be written.
    """
    path = Path(path)
    kind = format or path.suffix.removeprefix(".")
    writers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    if kind not in writers:
        raise ConfigError(f"export format is {kind!r}; expected csv, jsonl or parquet")
    if kind == "parquet":
        _arrow()  # before the old file goes
    fresh(path)
    return writers[kind](map(flat, calls), path)


def fresh(path: Path) -> None:
    """Make an empty file that its owner alone may read, instead of one that is there; never instead of a database.

    Raises:
        ConfigError: It is a SQLite file, such as the ledger itself.
        OSError: It cannot be written.
    """
    if is_sqlite(path):
        raise ConfigError(f"{path} is a database; name another file to write")
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def is_sqlite(path: Path) -> bool:
    """Whether a file is there, and is a SQLite database by its first bytes (www.sqlite.org/fileformat.html)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def flat(call: Call) -> dict[str, Any]:
    """A call by the names of `COLUMNS`."""
    sent, end = call.sent, call.settled
    row: dict[str, Any] = {
        "call_id": sent.call_id,
        "host": sent.host,
        "status": call.status,
        "basis": call.basis,
        "requested_model": sent.requested_model,
        "model": end.model if end else None,
        "provider": sent.provider,
        "mode": (end and end.mode) or sent.mode,
        "started_at": sent.started_at.isoformat(),
        "bound_usd": _plain(sent.bound),
        "actual_usd": _plain(end.actual) if end else None,
        "baseline_usd": _plain(end.baseline) if end else None,
        "user": sent.user,
        "session": sent.session,
        "tenant": sent.tenant,
        "tags": json.dumps(dict(sent.tags), ensure_ascii=False) if sent.tags else None,
        "strategies": json.dumps(dict(end.strategies), ensure_ascii=False) if end and end.strategies else None,
        "response_id": end.response_id if end else None,
        "error": end.error if end else None,
        "stream": sent.stream,
        "latency_s": end.latency if end else None,
    }
    return row | {f"{name}_tokens": getattr(end.usage, name) if end else None for name in FIELDS}


def _plain(usd: Any) -> str | None:
    return None if usd is None else format(usd.normalize(), "f")


def _csv(rows: Iterable[dict[str, Any]], path: Path) -> int:
    # A byte order mark makes Excel read Korean as UTF-8.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        return write_csv(file, COLUMNS, rows)


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows below their columns' names, no cell a formula; how many there were."""
    count = 0
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({key: harmless(value) for key, value in row.items()})
        count += 1
    return count


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula.

    Example:
        >>> harmless("=1+1"), harmless("-0.5"), harmless(3)
        ("'=1+1", '-0.5', 3)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) and not _number(value) else value


def _number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def _jsonl(rows: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow; install it with: pip install "llm-savings[parquet]"') from error


def _parquet(rows: Iterable[dict[str, Any]], path: Path) -> int:
    pa, pq = _arrow()
    types = dict.fromkeys(COLUMNS, pa.int64()) | dict.fromkeys(_TEXT_COLUMNS, pa.string())
    schema = pa.schema([(name, types[name]) for name in COLUMNS if name not in ("stream", "latency_s")])
    schema = schema.append(pa.field("stream", pa.bool_())).append(pa.field("latency_s", pa.float64()))
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(rows, 10_000):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    return count


def _chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
