"""`read_logs`: past calls from whatever logs there are, streamed, with a count of what could not be read and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from llm_savings.audit.containers import rows
from llm_savings.audit.formats import FORMATS, Format
from llm_savings.audit.formats.table import table
from llm_savings.audit.records import Record
from llm_savings.audit.values import NO_MODEL, Document, Unusable, Values
from llm_savings.errors import ConfigError, LogFormatError, UsageError

_SAMPLE = 50  # entries of which most must fit a format
_LOOKED_AT = 2000  # lines among which they are looked for
_EXAMPLES = 3
_CONTRADICTING = "tokens that contradict themselves or are too many"
_NEGATIVE, _OTHER = "negative tokens", "values of another kind than the format has"


@dataclass(slots=True)
class Unread:
    """Entries that gave no record.

    Attributes:
        counts: Reason -> how many.
        lines: Reason -> file -> the numbers of the first of them.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict[str, dict[str, list[int]]])

    @property
    def total(self) -> int:
        """How many in all."""
        return self.counts.total()

    def add(self, reason: str, path: str, line: int) -> None:
        """Count one."""
        self.counts[reason] += 1
        found = self.lines.setdefault(reason, {}).setdefault(path, [])
        if len(found) < _EXAMPLES:
            found.append(line)


class Log:
    """The records of some files, to be gone through as often as needed; each pass reads the files again.

    Attributes:
        formats: File -> the name of its format.
        refused: File -> why it, or the rest of it, cannot be read.
        read: How many records the latest pass has given so far.
        unread: What it could not read.
        notes: What it did not use or took to mean something, and how often: costs in euros, times without a zone.
    """

    def __init__(self, files: Mapping[str, Format], refused: Mapping[str, str], tz: tzinfo = UTC) -> None:
        self._files, self._tz = dict(files), tz
        self.formats = {path: format.name for path, format in files.items()}
        self.refused = dict(refused)
        self.read, self.unread, self.notes = 0, Unread(), Counter[str]()

    @property
    def size(self) -> int:
        """Bytes of the files that are there."""
        return sum(file.stat().st_size for file in map(Path, self._files) if file.exists())

    def __iter__(self) -> Iterator[Record]:
        self.read, self.unread = 0, Unread()
        values = Values(requests=self._requests())
        self.notes = values.notes
        for path, format in self._files.items():
            yield from self._records(path, format, values)

    def _records(self, path: str, format: Format, values: Values) -> Iterator[Record]:
        unread, read, before = self.unread, format.read, self.read
        answered = values.requests if format.name == "batch-input" else dict[str, bytes]()
        values.tz = None if format.utc else self._tz
        try:
            for line, document in rows(path):
                if isinstance(document, Unusable):
                    unread.add(document.reason, path, line)
                    continue
                try:
                    if answered and document.get("custom_id") in answered:
                        raise Unusable("a request of a batch, read with its answer")
                    found = read(document, values)
                    if not found.get("model"):
                        raise Unusable(NO_MODEL)
                    record = Record(source=path, line=line, **found)
                except Unusable as problem:
                    unread.add(problem.reason, path, line)
                except UsageError as problem:
                    unread.add(_NEGATIVE if "negative" in str(problem) else _CONTRADICTING, path, line)
                except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError):
                    unread.add(_OTHER, path, line)
                else:
                    self.read += 1
                    yield record
        except (LogFormatError, OSError) as problem:
            self.refused[path] = f"{problem} ({self.read - before:,} records were read before)"

    def _requests(self) -> dict[str, bytes]:
        """The requests of batches whose answers are read too; a batch has some 200 MB at most."""
        names = set(self.formats.values())
        if not names >= {"batch-input", "batch-output"}:
            return {}
        answered = self._ids("batch-output")
        return {
            str(document["custom_id"]): orjson.dumps(document)
            for path, format in self._files.items()
            if format.name == "batch-input"
            for _, document in _sound(path)
            if document.get("custom_id") in answered
        }

    def _ids(self, name: str) -> set[Any]:
        paths = [path for path, format in self._files.items() if format.name == name]
        return {str(document.get("custom_id")) for path in paths for _, document in _sound(path)}


def read_logs(
    paths: str | Path | Iterable[str | Path],
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    tz: tzinfo = UTC,
) -> Log:
    """Past calls from logs, whatever wrote them.

    Args:
        paths: Files, or folders whose files are read: JSON lines, JSON, CSV or Parquet, gzipped or not, or a ledger.
        format: What they are ("litellm", "langfuse", ..., "table"), if their entries should not tell.
        columns: Of a table, field -> header where it should not be guessed, such as {"model": "engine"}; the fields are
            the keys of `llm_savings.audit.formats.table.NAMES`.
        tz: The zone of times that name none, in tables and logs of requests; the other formats' are UTC then.

    Raises:
        ConfigError: `format` or a field in `columns` is unknown, a file is not there, or pyarrow is missing.
        LogFormatError: None of the files can be read; it says which formats were tried and what each missed.

    Example:
        >>> log = read_logs("spend_logs.jsonl.gz")                                   # doctest: +SKIP
        >>> sum(record.cost or 0 for record in log), log.read, log.unread.counts     # doctest: +SKIP
        (Decimal('12.03'), 4210, Counter({'no model': 3}))
    """
    known = [one.name for one in FORMATS] + ["table"]
    if format is not None and format not in known:
        raise ConfigError(f"format is {format!r}; expected one of {', '.join(known)}")
    files: dict[str, Format] = {}
    refused: dict[str, str] = {}
    for path in _files([paths] if isinstance(paths, str | Path) else paths):
        try:
            files[path] = _format(path, format, columns)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        except LogFormatError as error:
            refused[path] = str(error)
    if not files:
        raise LogFormatError("; ".join(f"{path}: {why}" for path, why in refused.items()) or "no files are given")
    return Log(files, refused, tz)


def _files(paths: Iterable[str | Path]) -> Iterator[str]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from (str(file) for file in sorted(path.rglob("*")) if file.is_file() and file.name[0] != ".")
        else:
            yield str(path)


def _sound(path: str) -> Iterator[tuple[int, Document]]:
    try:
        yield from ((line, document) for line, document in rows(path) if not isinstance(document, Unusable))
    except LogFormatError:
        return  # it is told when the file is read


def _format(path: str, named: str | None, columns: Mapping[str, str] | None) -> Format:
    """The format of a file, from its first entries."""
    sample: list[Document] = []
    looked = 0
    try:
        for _, document in islice(rows(path), _LOOKED_AT):
            looked += 1
            if not isinstance(document, Unusable):
                sample.append(document)
                if len(sample) == _SAMPLE:
                    break
    except LogFormatError:
        if not sample:
            raise
    if not sample:
        why = "it has no entries" if not looked else f"none of its first {looked:,} lines can be read"
        raise LogFormatError(f"{why}; expected JSON objects or rows of a table")
    if named and named != "table":
        return next(one for one in FORMATS if one.name == named)
    rest = table(dict.fromkeys(key for document in sample for key in document), columns)
    if columns or named:
        if lacking := _lacking(rest, sample):
            have = ", ".join(str(key)[:40] for key in islice(sample[0], 20))
            raise LogFormatError(f"there is no column {' and no '.join(lacking)}; it has: {have}")
        return rest
    tried = (*FORMATS[:-1], rest, FORMATS[-1])  # bodies of calls have no counts beside their fields; tables have
    fits = [sum(not one.missing(document) for document in sample) for one in tried]
    if best := max(fits):
        return tried[fits.index(best)]
    raise LogFormatError(
        "its format is not known; tried were "
        + "; ".join(f"{one.name} (lacks {', '.join(_lacking(one, sample))})" for one in tried)
    )


def _lacking(format: Format, sample: Sequence[Document]) -> list[str]:
    """What the entry that comes nearest to a format lacks."""
    return min((format.missing(document) for document in sample), key=len)
