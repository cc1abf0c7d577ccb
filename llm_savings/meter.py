"""`Meter`: what every host does with a call, decided once: bound it, write it ahead, price it, settle it.

Hosts (LangChain's callback, LiteLLM's logger) translate what they see into `Sent` and `Answer` and leave the rest
to a meter. A meter never raises into the user's call.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from llm_savings.attribution import Facts
from llm_savings.bounds import Size, upper_bound
from llm_savings.budget import Budget
from llm_savings.errors import SavingsError, UnknownModelError, UnpricedError
from llm_savings.evidence import at_end
from llm_savings.gate import Gate
from llm_savings.ledger import Basis, Call, Ledger, Line, Mode, Sent, Settled, Status, total
from llm_savings.ledger.records import MOST_USD
from llm_savings.ledger.summary import added
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import in_picodollars
from llm_savings.storage.forks import Guarded
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.meter")

_MANY = 256
_NOTHING = Usage()


@dataclass(slots=True, kw_only=True)  # not frozen, as one is made for every call; see `Sent`
class Answer:
    """What a host learned of a call's end.

    Attributes:
        model: The model that answered, in the provider's words.
        usage: Token counts, or None when nobody reported any.
        mode: The price list that applied, if the answer said so.
        response_id: The provider's id of the answer.
        hit: A cache answered and nothing was sent; `usage` is what the call would have consumed.
        estimated: The tokens were counted here, or a part of the price rests on an assumption.
        suspect: The provider's counts contradict themselves.
        unpriced: The provider charged for something that no usage carries, so its tokens' price is too little.
        shared: Another call's row carries the usage of the request that this one was a part of.
        strategies: What each saving did.
        text: Gives the answer's text, for evidence that depends on it; None or no text where it has no single one.
    """

    model: str | None = None
    usage: Usage | None = None
    mode: Mode | None = None
    response_id: str | None = None
    hit: bool = False
    estimated: bool = False
    suspect: bool = False
    unpriced: bool = False
    shared: bool = False
    strategies: Mapping[str, Any] = field(default_factory=lambda: {})
    text: Callable[[], str | None] | None = field(default=None, compare=False)


@dataclass(slots=True, eq=False)
class Live:
    """A call in flight.

    Attributes:
        sent: The call, as it was written ahead.
        target: Its ledger's identity.
        began: When, on the monotonic clock.
        counted: Its prompt in tokens, if they were counted.
        done: Whether it is settled.
        strategies: What each saving did, however the call ends.
        watcher: Who is told of its end; see `Meter.watch`.
        ended: When it ended, on the clock of `began`; None where that is when it is settled.
    """

    sent: Sent
    target: str
    began: float
    counted: int | None = None
    done: bool = False
    strategies: Mapping[str, Any] | None = None
    watcher: Callable[[Call], object] | None = None
    ended: float | None = None


current_call: ContextVar[Live | None] = ContextVar("llm_savings_call", default=None)
"""The call that the outer host is metering right now, so that an inner host does not meter it again."""

METERED = "llm_savings_metered"
"""Where the inner host hears of it too late for `current_call`: the key of its details with the ledger's identity."""


class Meter(Guarded):
    """Meters calls into a ledger.

    Args:
        ledger: A `Ledger`, or what `Ledger` takes (a path, ":memory:", a postgresql:// URL, None for the default).
        prices: The price book; LiteLLM's bundled map by default.
        tags: Labels for every call of this meter.
        budget: What calls must stay within, a `Budget` or several.

    Raises:
        ConfigError: The ledger's path or URL cannot be one, or two budgets have one name.

    Example:
        >>> meter = Meter(":memory:")
        >>> bound = meter.bound("gpt-4o", Size(prompt=50, max_tokens=100))
        >>> live = meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o", bound=bound))
        >>> meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=10, output=5)))
        >>> meter.spent
        Decimal('0.000075')

    Attributes:
        watch: Called where a call begins, in its context; what it gives is called with the call once it has ended.
            None by default; see `llm_savings.telemetry`.
    """

    def __init__(
        self,
        ledger: Ledger | str | Path | None = None,
        *,
        prices: PriceBook | None = None,
        tags: Mapping[str, str] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
    ) -> None:
        super().__init__()
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        self.prices = prices or PriceBook()
        self.tags = dict(tags or {})
        budgets = (budget,) if isinstance(budget, Budget) else tuple(budget or ())
        self.gate = Gate(self.ledger, self.prices, budgets)
        self.watch: Callable[[], Callable[[Call], object]] | None = None
        self._lines: dict[str, Line] = {}
        self._ended: deque[tuple[Sent, Settled]] = deque()

    def bound(self, model: str, size: Size, *, mode: Mode = "standard", provider: str | None = None) -> Decimal | None:
        """USD that a call cannot exceed, or None when nothing is known to bound it (see `upper_bound`)."""
        try:
            bound = upper_bound(self.prices, model, size, mode=mode, provider=provider)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a call of %s was not bounded", model)
            return None
        # max_tokens=10**12: no bound at all, and too large to be kept
        return None if bound is not None and bound > MOST_USD else bound

    def begin(self, sent: Sent, size: Size | None = None, *, now: bool = False) -> Live:
        """Write a call ahead and, where there is a budget, hold what it may cost.

        Args:
            sent: The call.
            size: How large it can get. A call that says itself what is `reserved` for it needs none.
            now: Wait for nobody who holds the ledger.

        Raises:
            BudgetError: A budget stops the call; see `Gate.admit`.
            BusyError: With `now`, where it would have to wait; nothing was written or held.
                Nothing else is ever raised.
        """
        if self.gate.budgets():
            held = self.gate.admit(sent, size or Size(None), now=now)
            return self._watched(Live(held.sent, self.ledger.identity, time.monotonic(), held.counted))
        try:
            self.ledger.sent(sent)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("call %s was not written ahead", sent.call_id)
        return self._watched(Live(sent, self.ledger.identity, time.monotonic()))

    def late(self, sent: Sent) -> Live:
        """A call of which the host tells only now that it has ended. Its budgets are charged what it cost."""
        return self._watched(Live(self.gate.charged(sent), self.ledger.identity, time.monotonic()))

    def _watched(self, live: Live) -> Live:
        if self.watch is not None:
            try:
                live.watcher = self.watch()
            except Exception:  # noqa: BLE001
                _log.exception("call %s is not watched", live.sent.call_id)
        return live

    def answered(self, live: Live, answer: Answer) -> None:
        """Settle a call that was answered."""
        self._settle(live, lambda: self.told(live, answer))

    def told(self, live: Live, answer: Answer) -> Settled:
        """What the row of a call that was answered will say, but for its latency; `settle` writes it."""
        return self._outcome(live, "hit" if answer.hit else "ok", answer)

    def settle(self, live: Live, told: Settled) -> None:
        """Settle a call as it was told."""
        self._settle(live, lambda: told)

    def abandoned(self, live: Live, answer: Answer) -> None:
        """Settle a stream that the user left: what was streamed is known, the provider may have made more."""
        self._settle(live, lambda: self._outcome(live, "abandoned", replace(answer, estimated=True)))

    def failed(self, live: Live, error: BaseException, answer: Answer | None = None) -> None:
        """Settle a call that ended in an error; free when the provider surely refused it, else unknown."""
        if answer is None and not may_have_billed(error):
            answer = Answer(usage=Usage(), mode=live.sent.mode)
        found = answer or Answer()
        self._settle(live, lambda: self._outcome(live, "error", found, type(error).__name__))

    def _outcome(self, live: Live, status: Status, answer: Answer, error: str | None = None) -> Settled:
        if live.strategies:
            output = answer.usage.output if answer.usage else 0
            done = at_end(live.strategies, answer.text if output else None, output)
            answer = replace(answer, strategies={**done, **answer.strategies})
        return settle(self.prices, live.sent, answer, status, error=error)

    def _settle(self, live: Live, outcome: Callable[[], Settled]) -> None:
        with self._lock:  # a host may report an end twice, from two threads
            if live.done:
                return
            live.done = True
        try:
            settled = outcome()
            settled.latency = (time.monotonic() if live.ended is None else live.ended) - live.began
            self.ledger.settle(live.sent, settled)
            # Adding up takes longer than writing it down, and few look at the sums after every call.
            self._ended.append((live.sent, settled))
            if len(self._ended) >= _MANY:
                with self._lock:
                    self._add_up()
            if live.sent.budgets:
                self.gate.learn(live.sent, settled, live.counted)
            if live.watcher is not None:
                live.watcher(Call(live.sent, settled))
        except Exception:  # noqa: BLE001
            _log.exception("call %s was not settled", live.sent.call_id)

    def _add_up(self) -> None:
        found = {key: [line] for key, line in self._lines.items()}
        while self._ended:
            sent, settled = self._ended.popleft()
            key = settled.model or sent.requested_model
            found.setdefault(key, []).append(_line(key, sent, settled))
        self._lines = {key: added(key, lines) for key, lines in found.items()}

    @property
    def lines(self) -> list[Line]:
        """This meter's calls by model, the most expensive first. The ledger may know more, from other processes."""
        with self._lock:
            self._add_up()
            return sorted(self._lines.values(), key=lambda line: (-line.actual, line.key))

    @property
    def spent(self) -> Decimal:
        """USD spent by the calls of this meter, measured and estimated."""
        return total(self.lines).actual

    @property
    def saved(self) -> Decimal:
        """USD that the calls of this meter would have cost more with nothing saved."""
        return total(self.lines).saved

    @property
    def calls(self) -> int:
        """How many calls this meter has settled."""
        return total(self.lines).calls


def settle(
    prices: PriceBook,
    sent: Sent,
    answer: Answer,
    status: Status,
    *,
    error: str | None = None,
) -> Settled:
    """What a call cost and would have cost, and how surely that is known. Pure."""
    basis, actual, baseline = _outcome(prices, sent, answer, status)
    return Settled(
        status=status,
        basis=basis,
        model=answer.model or sent.requested_model,
        mode=answer.mode or sent.mode,
        usage=_NOTHING if answer.usage is None else answer.usage,
        actual=actual,
        baseline=baseline,
        strategies=answer.strategies,
        response_id=answer.response_id,
        error=error,
    )


def _outcome(
    prices: PriceBook, sent: Sent, answer: Answer, status: Status
) -> tuple[Basis, Decimal | None, Decimal | None]:
    """The basis, and USD spent and without savings."""
    basis: Basis = "estimated" if answer.estimated else "measured"
    if answer.suspect:
        return "suspect", None, None
    if answer.shared:
        return basis, Decimal(0), None
    if answer.usage is None:
        return "unknown", None, None
    if not answer.usage:
        # An answer for no tokens at all is a usage that went missing; a refusal for none is free.
        free = status in ("error", "hit")
        return (basis, Decimal(0), None) if free else ("unknown", None, None)
    try:
        if answer.unpriced:
            raise UnpricedError(f"{sent.requested_model} used something that has no price")
        actual, baseline = _price(prices, sent, answer, answer.usage)
    except SavingsError:
        # A hit costs nothing even where its worth cannot be told.
        return (basis, Decimal(0), None) if answer.hit else ("unpriced", None, None)
    return basis, Decimal(0) if answer.hit else in_picodollars(actual), in_picodollars(baseline)


def _price(prices: PriceBook, sent: Sent, answer: Answer, usage: Usage) -> tuple[Decimal, Decimal]:
    model = _priced_model(prices, sent.requested_model, answer.model, sent.provider)
    mode = answer.mode or sent.mode
    actual = prices.price(usage, model, mode=mode, at=sent.started_at, provider=sent.provider)
    if "routing" in answer.strategies or "output" in answer.strategies:
        try:
            return actual, _unsaved(prices, sent, answer, usage, model)
        except SavingsError:  # the baseline model has no price; what was spent is known all the same
            pass
    # Batch is a saving; flex and priority are what the user ordered.
    list_mode: Mode = "standard" if mode == "batch" else mode
    cached = usage.cache_read or usage.cache_write_5m or usage.cache_write_1h or usage.audio_cache_read
    if list_mode == mode and not cached:
        return actual, actual
    return actual, prices.price(usage.uncached(), model, mode=list_mode, at=sent.started_at, provider=sent.provider)


def _unsaved(prices: PriceBook, sent: Sent, answer: Answer, usage: Usage, model: str) -> Decimal:
    """USD without any saving, where another model or a longer answer is a part of that."""
    facts = Facts.of(
        answer.strategies,
        model=model,
        usage=usage,
        mode=answer.mode or sent.mode,
        provider=sent.provider,
        at=sent.started_at,
    )
    return facts.price(prices, frozenset())


_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})")


@lru_cache(maxsize=1024)
def _priced_model(prices: PriceBook, asked: str, answered: str | None, provider: str | None) -> str:
    """The name to price by: the one that answered, unless the user registered a price for the one asked for.

    A name that only adds an unknown date to the one asked for is that model; any other unknown name is unpriced.
    """
    if answered is None or answered == asked or prices.is_override(asked):
        return asked
    try:
        prices.resolve(answered, provider=provider)
    except UnknownModelError:
        bare = asked.rpartition("/")[2]
        if answered.startswith(bare) and _DATED.fullmatch(answered, len(bare)):
            return asked
    return answered


def may_have_billed(error: BaseException) -> bool:
    """Whether a provider may have charged for a call that ended in this error.

    A refusal (HTTP 4xx but 408 and 409, which can follow work done) and a connection that was never made cost
    nothing. A server error, a timeout, a lost connection or an answer that cannot be read may all follow work done.
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 499):
        return False
    if getattr(error, "llm_savings_refused", False):
        return False
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # causes may go round in a circle
        seen.add(id(link))
        if type(link).__name__ in ("ConnectError", "ConnectTimeout", "ConnectionRefusedError", "gaierror"):
            return False
        maker = type(link).__module__.partition(".")[0]
        # What was being handled when an error was raised may be the user's own business (their cache is down, so they
        # ask the model). Only LiteLLM raises its errors without naming their cause.
        link = link.__cause__ or (link.__context__ if maker == "litellm" else None)
    return True


def _line(key: str, sent: Sent, settled: Settled) -> Line:
    unknown = settled.basis in ("unknown", "suspect")
    hit = settled.status == "hit"
    actual = settled.actual or Decimal(0)
    return Line(
        key=key,
        calls=1,
        hits=int(hit),
        errors=int(settled.status == "error"),
        estimated=int(settled.basis == "estimated"),
        unknown=int(unknown),
        unpriced=int(settled.basis == "unpriced"),
        unbounded=int(unknown and sent.bound is None),
        unvalued=int(hit and settled.baseline is None),
        usage=Usage() if hit else settled.usage,
        actual=actual,
        estimated_usd=actual if settled.basis == "estimated" else Decimal(0),
        baseline=actual if settled.baseline is None else settled.baseline,
        unknown_bound=(sent.bound or Decimal(0)) if unknown else Decimal(0),
    )
