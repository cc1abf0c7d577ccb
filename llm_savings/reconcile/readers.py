"""Provider's own usage exports, read into one shape.

Sources of the field names, read in November 2026:

- OpenAI Usage and Costs API: platform.openai.com/docs/api-reference/usage (completions, embeddings, costs) and the
  types of openai-python (`openai.types.admin.organization`). The dashboard's CSV has the same fields as columns, with
  `amount_value` for `amount.value`: help.openai.com/en/articles/8554956-understanding-your-api-usage.
- Anthropic Usage and Cost Admin API: platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages and
  .../api/resources/admin/subresources/usage_and_cost. The Console's CSV (`usage_date_utc, model_version, ...`):
  support.anthropic.com/en/articles/9534590-cost-and-usage-reporting-in-console.
- The sandbox's bill: `llm_savings.sandbox.Sandbox.save`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TextIO, cast

from llm_savings.errors import ConfigError, LogFormatError, UsageError
from llm_savings.ledger import Mode
from llm_savings.usage import Usage

Kind = Literal["bill", "openai-usage", "openai-costs", "anthropic-usage", "anthropic-costs"]
KINDS: tuple[Kind, ...] = ("bill", "openai-usage", "openai-costs", "anthropic-usage", "anthropic-costs")
_UNDERSTOOD = (
    "understood are OpenAI's completions and embeddings usage and costs (API pages as JSON, or the dashboard's CSV), "
    "Anthropic's messages usage and cost reports (JSON, or the Console's CSV), and the bill of llm-savings sandbox"
)
_NOISE = Decimal("1e-9")  # what sums of floats, which OpenAI's costs are, may be off by
_HALF_CENT = Decimal("0.005")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """One request on a bill: the ids it goes by, when it was billed (UTC), and its price in USD."""

    ids: tuple[str, ...]
    model: str
    at: datetime
    usd: Decimal
    usage: Usage
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a provider says of a stretch of time and a model.

    Attributes:
        start: The first instant (UTC).
        end: The first instant after it.
        model: In the provider's words; None for all models together.
        usd: What was charged, or None in an export of tokens.
        usage: The tokens, or None in an export of costs.
        requests: How many requests, if it says.
        mode: The price list, if it says.
        slack: USD by which `usd` may be off because it was rounded.
    """

    start: datetime
    end: datetime
    model: str | None = None
    usd: Decimal | None = None
    usage: Usage | None = None
    requests: int | None = None
    mode: Mode | None = None
    slack: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A provider's export: requests of a bill, or figures by time and model; complete from `start` until `end`."""

    kind: Kind
    start: datetime
    end: datetime
    billed: tuple[Billed, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def provider(self) -> str | None:
        """Whose requests can be in it: "openai", "anthropic", or None for any."""
        return None if self.kind == "bill" else self.kind.partition("-")[0]

    @property
    def width(self) -> timedelta:
        """How long the stretches are of which the figures speak."""
        return max((f.end - f.start for f in self.figures), default=max(self.end - self.start, timedelta(seconds=1)))

    def between(self, since: datetime | None, until: datetime | None) -> Export:
        """The part between two instants (aware); figures that reach beyond them are left out.

        Raises:
            ConfigError: Nothing is left.
        """
        start, end = max(self.start, since or self.start), min(self.end, until or self.end)
        if self.kind != "bill":
            start += (self.start - start) % self.width
            end -= (end - self.start) % self.width
        if start >= end and (since or until):
            raise ConfigError(f"nothing is left of the export, which covers {self.start} to {self.end}")
        billed = tuple(row for row in self.billed if start <= row.at <= end)
        figures = tuple(figure for figure in self.figures if start <= figure.start and figure.end <= end)
        return replace(self, start=start, end=end, billed=billed, figures=figures)


def read_export(path: str | Path, kind: Kind | None = None) -> Export:
    """Read a usage export. CSV and JSON lines are streamed; unknown columns are ignored.

    Args:
        path: JSON (a page, a list of pages, or pages one a line), JSON lines or CSV.
        kind: What it must be; by default what it looks like.

    Raises:
        LogFormatError: It is none of these, or something in it cannot be read.
        OSError: The file cannot be opened.

    Example:
        >>> export = read_export("costs.json")                    # doctest: +SKIP
        >>> export.kind, export.start
        ('openai-costs', datetime.datetime(2026, 11, 1, 0, 0, tzinfo=datetime.timezone.utc))
    """
    billed: list[Billed] = []
    figures: list[Figure] = []
    spans: list[tuple[datetime, datetime]] = []
    found = kind
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        line: int | None = None
        try:
            for line, record in _records(file):  # noqa: B007 - the handlers below name the line
                looks = _kind(record)
                if looks is not None and looks != (found := found or looks):
                    raise LogFormatError(f"this looks like {looks}, not {found}")
                if looks == "bill" and "since" in record:  # the line above a bill's rows
                    spans.append((_instant(record["since"]), _instant(record["until"])))
                elif looks == "bill":
                    billed.append(_billed(record))
                else:
                    figure = _READERS.get(str(found), _openai_usage)(record)
                    spans.append((figure.start, figure.end))
                    if figure.usage or figure.usd:
                        figures.append(figure)
        except LogFormatError as error:
            raise error if error.line is not None else LogFormatError(str(error), line) from error
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, csv.Error, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise LogFormatError(f"{what} ({found or 'usage export'})", line) from error
    if found is None:
        raise LogFormatError(f"{path} has no usage in it; {_UNDERSTOOD}")
    if billed and not spans:  # a bare list of rows does not say from when until when it is complete
        spans = [(min(row.at for row in billed), max(row.at for row in billed))]
    if not spans:
        raise LogFormatError(f"{path} does not say what time it covers")
    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    return Export(kind=found, start=start, end=end, billed=tuple(billed), figures=tuple(figures))


def _records(file: TextIO) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
    """Flat records: a row of a CSV or bill, or a bucket's result together with the bucket's own fields."""
    first = file.readline()
    while first.isspace():
        first = file.readline()
    if first.lstrip()[:1] not in ("{", "["):
        yield from _csv_records(first, file)
        return
    try:
        value = _parse(first)
    except json.JSONDecodeError:  # a document over many lines
        try:
            value = _parse(first + file.read())
        except json.JSONDecodeError as error:
            raise LogFormatError(f"not JSON: {error.msg}", error.lineno) from error
    for record in _flat(value):
        yield 1, record
    for number, text in enumerate(file, start=2):
        if text.strip():
            try:
                value = _parse(text)
            except json.JSONDecodeError as error:
                raise LogFormatError(f"not JSON: {error.msg}", number) from error
            for record in _flat(value):
                yield number, record


def _parse(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _csv_records(header: str, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    separator = max(",;\t", key=header.count)
    names = [name.strip().lower() for row in csv.reader([header], delimiter=separator) for name in row]
    if _kind(dict.fromkeys(names)) is None:
        raise LogFormatError(f"columns {', '.join(names)[:300] or '(none)'} are no usage export's; {_UNDERSTOOD}", 1)
    rows = csv.reader(file, delimiter=separator)
    for row in rows:
        if any(row):
            yield rows.line_num + 1, dict(zip(names, row, strict=False))


def _flat(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _flat(item)
        return
    if not isinstance(value, dict):
        raise LogFormatError(f"{type(value).__name__} found where an object was expected; {_UNDERSTOOD}")
    record = cast("dict[str, Any]", value)
    if isinstance(record.get("data"), list):
        yield from _flat(record["data"])
    elif isinstance(record.get("results"), list):
        bucket = {name: field for name, field in record.items() if name not in ("results", "object")}
        for result in cast("list[dict[str, Any]]", record["results"]) or [{}]:
            yield bucket | result
    elif _kind(record) is not None:
        yield record
    else:
        raise LogFormatError(
            f"an object with {', '.join(record)[:300] or 'nothing'} is no usage export's; {_UNDERSTOOD}"
        )


def _kind(record: Mapping[str, Any]) -> Kind | None:
    """What a record belongs to, by its fields; None for a bucket without results, which may be anybody's."""
    marks: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("bill", ("usd", "usage", "at")),
        ("anthropic-costs", ("usage_date_utc", "cost_usd")),
        ("anthropic-usage", ("usage_date_utc", "usage_output_tokens")),
        ("anthropic-costs", ("starting_at", "amount")),
        ("anthropic-usage", ("starting_at", "uncached_input_tokens")),
        ("openai-costs", ("start_time", "amount")),
        ("openai-costs", ("start_time", "amount_value")),
        ("openai-usage", ("start_time", "input_tokens")),
    )
    what = str(record.get("object") or "")
    if what == "sandbox.bill":
        return "bill"
    if what.startswith("organization.usage.") and what.split(".")[2] not in ("completions", "embeddings"):
        raise LogFormatError(f"{what} is not compared; {_UNDERSTOOD}")
    return next((kind for kind, fields in marks if all(name in record for name in fields)), None)


def _billed(row: Mapping[str, Any]) -> Billed:
    usage = row["usage"]
    split = "cache_creation_input_tokens" in usage or "cache_read_input_tokens" in usage
    tier = _mode(row.get("tier"), batch=False)
    return Billed(
        ids=tuple(str(row[name]) for name in ("id", "request_id") if row.get(name)),
        model=str(row["model"]),
        at=_instant(row["at"]),
        usd=_usd(row["usd"]),
        usage=Usage.from_anthropic(usage) if split else Usage.from_openai(usage),
        mode=tier or "standard",
    )


def _openai_usage(row: Mapping[str, Any]) -> Figure:
    """Tokens in include cached and written ones, audio and images; the parts are those of uncached tokens."""
    start, end = _span(row)
    cached_audio = _count(row, "input_cached_audio_tokens")
    parts = {
        "cache_read": _count(row, "input_cached_tokens") - cached_audio,
        "cache_write_5m": _count(row, "input_cache_write_tokens"),
        "audio_input": _count(row, "input_audio_tokens"),
        "audio_cache_read": cached_audio,
        "image_input": _count(row, "input_image_tokens"),
    }
    out = {"audio_output": _count(row, "output_audio_tokens"), "image_output": _count(row, "output_image_tokens")}
    usage = Usage(
        input=_count(row, "input_tokens") - sum(parts.values()),
        output=_count(row, "output_tokens") - sum(out.values()),
        **parts,
        **out,
    )
    batch = str(row.get("batch")).lower() == "true"
    mode = _mode(row.get("service_tier"), batch=batch)
    requests = _count(row, "num_model_requests")
    return Figure(start=start, end=end, model=_model(row, "model", usage), usage=usage, requests=requests, mode=mode)


def _openai_costs(row: Mapping[str, Any]) -> Figure:
    """A line item is `gpt-4o-2024-08-06, cached input`; without grouping there is none."""
    start, end = _span(row)
    amount = row.get("amount")
    money = cast("Mapping[str, Any]", amount) if isinstance(amount, dict) else row
    item = str(row.get("line_item") or "").partition(",")[0].strip()
    usd = _in_dollars(
        money.get("value", money.get("amount_value")), money.get("currency", money.get("amount_currency"))
    )
    return Figure(start=start, end=end, model=item or None, usd=usd, slack=_NOISE)


def _anthropic_usage(row: Mapping[str, Any]) -> Figure:
    start, end = _span(row)
    if "usage_date_utc" in row:
        prefix = "usage_input_tokens_"
        split = {ttl: _count(row, f"{prefix}cache_write_{ttl}") for ttl in ("5m", "1h")}
        fresh, read = _count(row, f"{prefix}no_cache"), _count(row, f"{prefix}cache_read")
        out, name, tier = _count(row, "usage_output_tokens"), "model_version", row.get("usage_type")
    else:
        written: Mapping[str, Any] = row.get("cache_creation") or {}
        split = {ttl: _count(written, f"ephemeral_{ttl}_input_tokens") for ttl in ("5m", "1h")}
        fresh, read = _count(row, "uncached_input_tokens"), _count(row, "cache_read_input_tokens")
        out, name, tier = _count(row, "output_tokens"), "model", row.get("service_tier")
    usage = Usage(input=fresh, cache_read=read, cache_write_5m=split["5m"], cache_write_1h=split["1h"], output=out)
    return Figure(start=start, end=end, model=_model(row, name, usage), usage=usage, mode=_mode(tier, batch=False))


def _anthropic_costs(row: Mapping[str, Any]) -> Figure:
    """The API gives cents with all their decimals; the Console's CSV gives dollars, each row rounded."""
    start, end = _span(row)
    model = row.get("model") or (row.get("cost_type") if row.get("cost_type") not in ("token", "tokens") else None)
    if "usage_date_utc" in row:
        usd = _usd(row["cost_usd"])
        places = min(int(usd.as_tuple().exponent), -2)
        slack = min(_HALF_CENT, Decimal(5).scaleb(places - 1))
        return Figure(start=start, end=end, model=model or None, usd=usd, slack=slack)
    cents = _in_dollars(row.get("amount"), row.get("currency"))
    return Figure(start=start, end=end, model=model or None, usd=cents / 100)


_READERS = {
    "openai-usage": _openai_usage,
    "openai-costs": _openai_costs,
    "anthropic-usage": _anthropic_usage,
    "anthropic-costs": _anthropic_costs,
}


def _span(row: Mapping[str, Any]) -> tuple[datetime, datetime]:
    if "usage_date_utc" in row:
        start = _instant(str(row["usage_date_utc"])[:10])
        return start, start + _DAY
    if "starting_at" in row:
        return _instant(row["starting_at"]), _instant(row["ending_at"])
    return _instant(row["start_time"]), _instant(row["end_time"])


def _instant(value: Any) -> datetime:
    """Seconds since 1970, or ISO 8601; without a zone it is UTC, as in every provider's export."""
    text = str(value).strip()
    if text.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(int(Decimal(text)), UTC)
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _model(row: Mapping[str, Any], name: str, usage: Usage) -> str | None:
    model = row.get(name) or None
    if model is None and usage:
        raise LogFormatError("the usage is not told by model; export it again with group_by=model")
    return model


def _mode(tier: Any, *, batch: bool) -> Mode | None:
    """None when the export is not grouped by service tier."""
    name = "batch" if batch else str(tier or "").lower()
    modes: tuple[Mode, ...] = ("batch", "flex", "priority")  # Anthropic has flex_discount and priority_on_demand, too
    found: Mode = "standard"
    for mode in modes:
        if name.startswith(mode):
            found = mode
    return found if name else None


def _count(row: Mapping[str, Any], name: str) -> int:
    number = Decimal(str(row.get(name) or 0).strip() or 0)  # a CSV may say 59200.0
    if number != number.to_integral_value() or not 0 <= number < 10**15:
        raise UsageError(f"{name} is {row.get(name)!r}; expected a whole number of tokens")
    return int(number)


def _in_dollars(value: Any, currency: Any) -> Decimal:
    if currency and str(currency).lower() != "usd":
        raise LogFormatError(f"amounts are in {currency}, not in US dollars")
    return _usd(value)


def _usd(value: Any) -> Decimal:
    usd = Decimal(str(value if value is not None else 0).strip() or 0)
    if not usd.is_finite():
        raise LogFormatError(f"amount {value!r} is not a number of dollars")
    return usd
