"""The shapes that go into the ledger and come out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from llm_savings.errors import RecordError
from llm_savings.pricing.amounts import WIDE
from llm_savings.usage import FIELDS, Usage

# Amounts are stored as whole picodollars (1e-12 USD). Nearly every token price in LiteLLM's map is a whole
# number of them, and sums in the database are exact; a 64-bit integer holds up to about 9.2 million dollars a call.
_INT64 = 2**63 - 1
MOST_USD = WIDE.scaleb(Decimal(_INT64), -12)
"""The largest amount that one row holds, in USD."""

Host = Literal["langchain", "litellm", "sdk"]
Mode = Literal["standard", "batch", "flex", "priority"]
Status = Literal["sent", "ok", "hit", "error", "abandoned"]
Basis = Literal["measured", "estimated", "unknown", "unpriced", "suspect"]
"""How a row's figure came about.

measured: the provider's own token counts, priced exactly. estimated: tokens counted here, or priced with an
assumption. unknown: the call may have been billed and nobody said how much; between $0 and its bound. unpriced: the
tokens are known, the price is not. suspect: the provider's counts contradict themselves.
"""


Entry = tuple[str | int | None, ...]
"""The values of `COLUMNS` for one call, or only those of `SENT_COLUMNS` for one that leaves."""


# These two are not frozen, since they are made for every call and freezing would triple what that takes. They are not
# to be changed either: `dataclasses.replace` makes another.
@dataclass(slots=True, kw_only=True)
class Sent:
    """A call that is about to leave: what is known before the answer.

    Attributes:
        call_id: Unique for this call; writing the same id twice changes nothing.
        host: Who sent it.
        requested_model: The model that the user asked for.
        provider: The host's name of the provider, if it said one.
        mode: The price list asked for.
        stream: Whether the answer was asked for as a stream.
        started_at: UTC, aware.
        bound: USD that the call cannot exceed, or None when nothing bounds it.
        tags: The user's own labels, such as {"feature": "faq"}.
        user: Who caused the call, in the user's own words.
        session: The conversation or trace it belongs to.
        tenant: A keyed hash naming the tenant; never an API key.
        reserved: USD held for the call in its budgets until its cost is known.
        budgets: The budgets' counters that the call is charged to.
    """

    call_id: str
    host: Host
    requested_model: str
    provider: str | None = None
    mode: Mode = "standard"
    stream: bool = False
    started_at: datetime = field(default_factory=partial(datetime.now, UTC))
    bound: Decimal | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    session: str | None = None
    tenant: str | None = None
    reserved: Decimal | None = None
    budgets: tuple[str, ...] = ()
    # What this is in a row, worked out once: it is written when the call leaves and again when it ends.
    head: Entry | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(slots=True, kw_only=True)
class Settled:
    """How a call ended.

    Attributes:
        status: ok, hit (answered by a cache for $0), error, or abandoned (a stream the user left).
        basis: How the figures came about; see `Basis`.
        model: The model that answered, as the price book or the provider names it.
        mode: The price list that applied.
        usage: What was consumed.
        actual: USD really spent, or None when unknown.
        baseline: USD the call would have cost with nothing saved, or None when unknown.
        strategies: What each saving did, such as {"semantic_cache": {"hit": True}}.
        response_id: The provider's id of the answer, to match its own records.
        error: The kind of error, without its text.
        latency: Seconds from start to end.
    """

    status: Status
    basis: Basis
    model: str | None = None
    mode: Mode | None = None
    usage: Usage = field(default_factory=Usage)
    actual: Decimal | None = None
    baseline: Decimal | None = None
    strategies: Mapping[str, Any] = field(default_factory=dict[str, Any])
    response_id: str | None = None
    error: str | None = None
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the ledger, read back. `settled` is None while the call is in flight or if its end was lost."""

    sent: Sent
    settled: Settled | None

    @property
    def basis(self) -> Basis:
        """A row that was never settled is unknown."""
        return self.settled.basis if self.settled else "unknown"

    @property
    def status(self) -> Status:
        """`sent` until the call is settled."""
        return self.settled.status if self.settled else "sent"


def to_picodollars(usd: Decimal | None) -> int | None:
    """A dollar amount as whole picodollars, rounded half to even where it has more decimals.

    Raises:
        RecordError: The amount is not finite or does not fit 64 bits (about 9.2 million dollars).
    """
    if usd is None:
        return None
    try:
        pico = round(WIDE.scaleb(usd, 12))
    except (ArithmeticError, ValueError) as error:
        raise RecordError(f"amount is {usd}; expected a finite number of dollars") from error
    if abs(pico) > _INT64:
        raise RecordError(f"amount ${usd} is too large for one call")
    return pico


def from_picodollars(pico: int | Decimal | None) -> Decimal | None:
    """Whole picodollars as dollars, exactly."""
    return None if pico is None else WIDE.scaleb(Decimal(int(pico)), -12)


def microseconds(moment: datetime) -> int:
    """UTC microseconds since 1970, exactly.

    Raises:
        RecordError: The datetime is naive, so its instant is anybody's guess.
    """
    if moment.tzinfo is None:
        raise RecordError(f"time {moment.isoformat()} has no time zone; pass an aware datetime, such as UTC")
    return (moment - _EPOCH) // _MICROSECOND


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


SENT_COLUMNS = (
    "call_id",
    "host",
    "requested_model",
    "provider",
    "mode",
    "stream",
    "started_us",
    "bound_pusd",
    "tags",
    "user_id",
    "session_id",
    "tenant",
    "reserved_pusd",
    "budgets",
)
SETTLED_COLUMNS = (
    "status",
    "basis",
    "model",
    "actual_pusd",
    "baseline_pusd",
    "strategies",
    "response_id",
    "error",
    "latency_us",
    *(f"{name}_tokens" for name in FIELDS),
)
COLUMNS = (*SENT_COLUMNS, *SETTLED_COLUMNS)

# The second half of an entry whose call has not ended.
NOT_SETTLED: Entry = ("sent", "unknown", *[None] * (len(SETTLED_COLUMNS) - 2))


def head(sent: Sent) -> Entry:
    """A call that is about to leave as the values of `SENT_COLUMNS`, of nothing but text, whole numbers and None.

    Raises:
        RecordError: The time is naive, or an amount is not finite or is beyond 9.2 million dollars.
    """
    if sent.head is None:
        sent.head = (
            sent.call_id,
            sent.host,
            sent.requested_model,
            sent.provider,
            sent.mode,
            int(sent.stream),
            microseconds(sent.started_at),
            to_picodollars(sent.bound),
            _compact(dict(sent.tags)) if sent.tags else None,
            sent.user,
            sent.session,
            sent.tenant,
            None if sent.reserved is None else to_picodollars(sent.reserved),
            _compact(sent.budgets) if sent.budgets else None,
        )
    return sent.head


def entry(sent: Sent, settled: Settled | None = None) -> Entry:
    """A call as the values of `COLUMNS`.

    Raises:
        RecordError: As for `head`.
    """
    first = head(sent)
    if settled is None:
        return (*first, *NOT_SETTLED)
    if settled.mode is not None and settled.mode != sent.mode:
        first = (*first[:_MODE], settled.mode, *first[_MODE + 1 :])
    actual = to_picodollars(settled.actual)
    return (
        *first,
        settled.status,
        settled.basis,
        settled.model,
        actual,
        actual if settled.baseline is settled.actual else to_picodollars(settled.baseline),
        _compact(dict(settled.strategies)) if settled.strategies else None,
        settled.response_id,
        settled.error,
        None if settled.latency is None else round(settled.latency * 1_000_000),
        *vars(settled.usage).values(),
    )


_MODE = SENT_COLUMNS.index("mode")
_TOKENS = tuple(f"{name}_tokens" for name in FIELDS)


def clean(values: Entry) -> Entry:
    """The entry, whole, with text that every database takes: no NUL, no half of a surrogate pair."""
    if len(values) == len(SENT_COLUMNS):
        values = (*values, *NOT_SETTLED)
    if (said := repr(values)).isascii() and "\\" not in said:  # as nearly always, and told at once
        return values
    return tuple([value if type(value) is not str or _is_clean(value) else _cleaned(value) for value in values])


def _is_clean(text: str) -> bool:
    return text.isascii() and "\0" not in text


def _cleaned(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def call_from_row(row: Mapping[str, Any]) -> Call:
    """A `Call` from a database row keyed by column name."""
    sent = Sent(
        call_id=row["call_id"],
        host=row["host"],
        requested_model=row["requested_model"],
        provider=row["provider"],
        mode=row["mode"],
        stream=bool(row["stream"]),
        started_at=from_microseconds(row["started_us"]),
        bound=from_picodollars(row["bound_pusd"]),
        tags=_decoded(row["tags"])[0] if row["tags"] else {},
        user=row["user_id"],
        session=row["session_id"],
        tenant=row["tenant"],
        reserved=from_picodollars(row["reserved_pusd"]),
        budgets=tuple(json.loads(row["budgets"])) if row["budgets"] else (),
    )
    if row["status"] == "sent":
        return Call(sent, None)
    settled = Settled(
        status=row["status"],
        basis=row["basis"],
        model=row["model"],
        mode=row["mode"],
        usage=Usage(*[row[name] or 0 for name in _TOKENS]),
        actual=from_picodollars(row["actual_pusd"]),
        baseline=from_picodollars(row["baseline_pusd"]),
        strategies=_decoded(row["strategies"])[0] if row["strategies"] else {},
        response_id=row["response_id"],
        error=row["error"],
        latency=None if row["latency_us"] is None else row["latency_us"] / 1_000_000,
    )
    return Call(sent, settled)


def from_microseconds(micros: int) -> datetime:
    """An aware UTC datetime, exactly."""
    return _EPOCH + timedelta(0, 0, micros)


# Sorted and compact, so that equal labels are equal text and group together in a report.
_decoded = json.JSONDecoder().raw_decode  # no blanks to look for before and after what `_compact` wrote
_compact = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
