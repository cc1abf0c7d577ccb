"""`CostLogger`: LiteLLM's callbacks as calls in a ledger."""
# pyright: standard

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import litellm
import openai  # noqa: F401 (so that its client can be watched)
from litellm.integrations.custom_logger import CustomLogger

from llm_savings import settings
from llm_savings.budget import Budget
from llm_savings.errors import BudgetError, BudgetUnavailableError, ConfigError, UsageError
from llm_savings.ledger import Ledger, Settled
from llm_savings.ledger.counters import BusyError
from llm_savings.litellm import stops
from llm_savings.litellm.answers import answer_of, is_left, of_what_came, raw_answer, watch_messages
from llm_savings.litellm.attempts import Attempt, Leftovers, Trace, awaited, is_awaited, keep, latest, leaving, stop_for
from llm_savings.litellm.calls import (
    BILLED,
    CallIds,
    asked_for,
    base_model,
    call_sent,
    metadata_of,
    output_limit,
    question,
    strategies_of,
)
from llm_savings.litellm.holds import has_grown, known_of, size_of
from llm_savings.litellm.wire import StreamUsage
from llm_savings.meter import METERED, Answer, Live, Meter, current_call
from llm_savings.metered import Metered
from llm_savings.pricing import PriceBook
from llm_savings.resends import RetriedError, watch
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.litellm")
# LiteLLM's proxy announces requests that it turns away itself; nothing is sent for them.
_NOT_SENT = "litellm_no_upstream_llm_call"
_FREE = Answer(usage=Usage())
_MOCK_KEY = "mock-key"  # what LiteLLM passes as the API key of a mock_response


class CostLogger(Metered, CustomLogger):
    """Keeps what every LiteLLM call costs in a ledger.

    For the SDK (sync, async, streams), the Router with its retries and fallbacks, embeddings, the responses API and
    the proxy. Each HTTP attempt that may have been billed is a row: written before the request leaves, settled when
    LiteLLM reports its end, for a success shortly after the answer. Metering never raises into a call; a budget does,
    before anything has been sent, with a `BudgetError` that is a `litellm.BudgetExceededError` too. Answers of
    LiteLLM's cache cost nothing and are given even when the money is gone.

    Args:
        ledger: A `Ledger`, or what `Ledger` takes: a path, ":memory:", a postgresql:// URL, None for the default.
        prices: The price book; LiteLLM's bundled map by default.
        tags: Labels for every call, such as {"app": "shop"}. A call adds its own: `metadata={"tags": ["feature:faq"]}`
            (plain tags make the label `tags`), and of its metadata feature, team, project, app, environment and
            customer.
        budget: What the calls must stay within, a `Budget` or several. Each attempt holds its own upper bound in them,
            also a retry's or a fallback's.

    Attributes:
        stream_usage: Ask OpenAI-compatible servers for the token counts of a stream where LiteLLM does not; True.
            Users see the same chunks either way. Without it such streams are estimated.

    Raises:
        ConfigError: The ledger's path or URL cannot be one, or two budgets have one name, or no budget can
            stop this release of LiteLLM.

    Example:
        >>> import litellm
        >>> costs = CostLogger(":memory:")
        >>> litellm.callbacks = [costs]
        >>> costs.spent
        Decimal('0')
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
        # LiteLLM takes loggers of one class for the same one unless a public text or number of theirs differs.
        self.logger_id = uuid.uuid4().hex
        self.meter = Meter(ledger, prices=prices, tags=tags, budget=budget)
        self._where = self.ledger.identity
        self._is_file = "://" not in self.ledger.target
        self._ids = CallIds()
        self._leftovers = Leftovers(self.meter)
        self._streams = StreamUsage()

        watch(_resent)
        if not stops.watch(_stop_for) and budget:
            raise ConfigError("this release of litellm cannot be stopped by a budget; expected litellm>=1.106,<2")

    @property
    def stream_usage(self) -> bool:
        """Whether servers are asked for the token counts of streams."""
        return not self._streams.off

    @stream_usage.setter
    def stream_usage(self, asked: bool) -> None:
        self._streams.off = not asked

    # LiteLLM calls these by keyword: their parameters must keep its names.

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        """Hold an async call in its budgets. LiteLLM calls this before it asks its cache.

        A file that nobody else holds just now takes a fraction of a millisecond, less than a thread would. What may
        wait, for a lock or a network, is done off the event loop.
        """
        if settings.disabled() or not self._budgeted():
            return None
        kind = str(getattr(call_type, "value", call_type))
        try:
            stop = await self._held(kwargs, kind)
        except Exception as error:  # noqa: BLE001 (the request itself will be held, or stopped)
            _log.debug("a LiteLLM call was not held ahead: %s", type(error).__name__)
            return None
        if stop is not None and litellm.cache is None:
            raise stop
        return None  # the cache may answer; if it does not, the request is stopped

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Write an attempt ahead. LiteLLM calls this in the caller's thread before the request leaves."""
        self._safely(self._announced, kwargs)

    def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Remember what came back, for calls whose end is never reported."""
        self._safely(self._received, kwargs)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Settle a call that was answered."""
        self._safely(self._answered, kwargs, response_obj, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Settle an attempt that failed."""
        if not is_awaited(kwargs):  # else LiteLLM tells of it once more, where it need not hold up the event loop
            self._safely(self._failed, kwargs, end_time)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Settle a call that was answered; off the event loop where that can take more than microseconds."""
        aside = not self._is_file or kwargs.get("stream")
        await self._settled(bool(aside), self._answered, kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Settle an attempt that failed."""
        await self._settled(is_awaited(kwargs), self._failed, kwargs, end_time)

    async def _settled(self, aside: bool, step: Callable[..., None], *given: Any) -> None:
        if aside:
            try:
                return await asyncio.to_thread(self._safely, step, *given)
            except RuntimeError:  # LiteLLM delivers what is left at exit, when no thread can be started any more
                pass
        self._safely(step, *given)

    def so_far(self, details: dict[str, Any], response: Any, *, hit: bool) -> Settled | None:
        """What the row of a call that was just answered will say; None where this logger does not meter it.

        Args:
            details: LiteLLM's details of the call.
            response: Its whole response.
            hit: A cache answered.
        """
        attempt = latest(details, self._where)
        if attempt and attempt.trace and attempt.owner is self:
            return self._told(details, response, attempt, attempt.trace.live, hit=hit)
        live = Live(call_sent(details, "", tags={}), self._where, 0.0)
        return self._told(details, response, Attempt(self), live, hit=True) if hit else None

    def _told(self, details: dict[str, Any], response: Any, attempt: Attempt, live: Live, *, hit: bool) -> Settled:
        """What a call came to: worked out once, for the client and the ledger."""
        if attempt.told is None or (attempt.told.status == "hit") != hit:
            _say(details, live, hit=hit)
            attempt.told = self.meter.told(live, _answer(details, response, attempt, hit=hit))
        return attempt.told

    def __repr__(self) -> str:
        # LiteLLM writes its callbacks into a line of debugging in every call, whether that is shown or not.
        return self._title()

    def __str__(self) -> str:
        return super().__repr__()

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("run_inline", "raise_error", "ignore_llm", "ignore_chat_model"):
            raise ConfigError(
                "CostLogger is for litellm.callbacks; as a LangChain callback use llm_savings.CostCallback"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _safely(self, step: Callable[..., None], *given: Any) -> None:
        if settings.disabled():
            return
        try:
            step(*given)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a LiteLLM call was not metered")

    def _announced(self, details: dict[str, Any]) -> None:
        try:
            self._sent(details)
        except Exception as error:
            if self._budgeted():
                # Where money is at stake, not knowing is a no.
                stop = BudgetUnavailableError(f"the call could not be held in its budget: {type(error).__name__}")
                keep(details, self._where, Attempt(self, stop=stop))
            raise

    def _budgeted(self) -> bool:
        try:
            return bool(self.meter.gate.budgets())
        except BudgetError:  # there is one, and it makes no sense
            return True

    def _sent(self, details: dict[str, Any]) -> None:
        if details.get("call_type") not in BILLED or _NOT_SENT in details or self._replaced():
            return
        before = latest(details, self._where)
        if before is not None and (before.owner is not self or before.trace is None):
            return  # another logger of this ledger, or another host, has it; or it may not leave
        if self._metered_outside():
            keep(details, self._where, Attempt(self, stop=self._unheld()))
            return
        attempt = before if before is not None and self._is_held(before, details) else None
        if attempt is None:
            if before is not None and (lost := before.claim()) is not None:
                # The SDK's own retries run inside the handler of the first error, and report none of the others.
                error = sys.exception() if before.number == 1 else None
                self.meter.failed(lost, error or RetriedError(), _FREE if before.known else None)
            attempt = self._begun(details, details, before.number + 1 if before else 1)
        if str(details.get("call_type")).endswith(("anthropic_messages", "pass_through_endpoint")):
            watch_messages()
        if attempt.trace is not None:
            attempt.known, attempt.trace.asked = None, question(details)
            # What is sent again was not looked up in the cache again.
            done = strategies_of(details) if attempt.number == 1 else asked_for(details)
            attempt.trace.live.strategies = done
            attempt.mock = details.get("api_key") == _MOCK_KEY
            attempt.reported = self._streams.ask(details) and not attempt.mock
        keep(details, self._where, attempt)

    async def _held(self, arguments: Mapping[str, Any], call_type: str) -> BudgetError | None:
        if self._is_file:
            with suppress(BusyError):
                return self._hold(arguments, call_type, now=True)
        return await asyncio.to_thread(self._hold, arguments, call_type)

    def _hold(self, arguments: Mapping[str, Any], call_type: str, *, now: bool = False) -> BudgetError | None:
        """Hold a call by its arguments; the error if it may not leave."""
        logging_obj = arguments.get("litellm_logging_obj")
        details = getattr(logging_obj, "model_call_details", None)
        if call_type not in BILLED or not isinstance(details, dict) or self._replaced() or self._metered_outside():
            return None
        awaited(details)
        if latest(details, self._where) is not None:
            return None  # another logger of this ledger has it, or it is sent again
        # What was given by its place is with this object alone.
        placed = {name: getattr(logging_obj, name, None) for name in ("model", "messages")}
        known = known_of({**placed, **arguments}, call_type)
        attempt = self._begun(details, known, 1, now=now)
        attempt.known = known
        keep(details, self._where, attempt)
        return stops.stop_of(attempt.stop) if attempt.stop else None

    def _is_held(self, attempt: Attempt, details: dict[str, Any]) -> bool:
        return attempt.known is not None and not has_grown(attempt.known, details)

    def _begun(self, details: dict[str, Any], known: Mapping[str, Any], number: int, *, now: bool = False) -> Attempt:
        """A new attempt, held in its budgets and written ahead."""
        sent = call_sent(known, self._ids.take(details.get("litellm_call_id")), tags=self.meter.tags)
        size = size_of(known)
        most = replace(size, max_tokens=output_limit(known)) if "additional_args" in known else size
        # made here, and known to nobody else yet
        sent.bound = self.meter.bound(sent.requested_model, most, mode=sent.mode, provider=sent.provider)
        try:
            live = self.meter.begin(sent, size, now=now)
        except BusyError:
            self._ids.give_back(sent.call_id)
            raise
        except BudgetError as stop:
            return Attempt(self, number=number, stop=stop)
        attempt = Attempt(self, Trace(live), number=number)
        self._leftovers.watch(attempt)
        return attempt

    def _resent(self, attempt: Attempt, live: Live, error: BaseException) -> None:
        """The openai SDK sends a request again: what it sent before is an attempt of its own.

        Raises:
            BudgetError: There is no room for one more.
        """
        earlier = replace(live.sent, call_id=self._ids.take(live.sent.call_id.partition("#")[0]))
        if not earlier.budgets:
            self.meter.failed(Live(earlier, live.target, live.began), error)
            return
        try:
            again = self.meter.begin(earlier)
        except BudgetError as stop:
            if (lost := attempt.claim()) is not None:
                self.meter.failed(lost, error)
            attempt.stop = stop
            raise stops.stop_of(stop) from error
        again.began = live.began
        self.meter.failed(again, error)

    def _received(self, details: dict[str, Any]) -> None:
        attempt = latest(details, self._where)
        if attempt is None or attempt.trace is None or attempt.owner is not self:
            return
        came = details.get("original_response")
        if isinstance(came, str):
            attempt.trace.raw = came
        elif isinstance(chunks := getattr(came, "chunks", None), list):
            attempt.trace.chunks = chunks

    def _answered(self, details: dict[str, Any], response: Any, start: Any, end: Any) -> None:
        attempt = latest(details, self._where)
        if attempt is None or attempt.stop is not None:  # a cache may have answered what may not leave
            attempt = self._unannounced(details, response, start)
        if attempt is None or attempt.owner is not self or (live := attempt.claim()) is None:
            return
        _ended(live, end)
        hit = details.get("cache_hit") is True
        if not hit and is_left(details):
            _say(details, live, hit=False)
            self.meter.abandoned(live, of_what_came(response, _answer(details, response, attempt, hit=False)))
        else:
            self.meter.settle(live, self._told(details, response, attempt, live, hit=hit))

    def _unannounced(self, details: dict[str, Any], response: Any, start: Any) -> Attempt | None:
        """An answer without a request: a cache's, or that of a provider for which LiteLLM announces none."""
        if details.get("call_type") not in BILLED and not getattr(response, "usage", None):
            return None
        attempt = Attempt(self)
        if details.get(METERED) != self._where and not self._metered_outside():
            sent = call_sent(details, self._ids.take(details.get("litellm_call_id")), tags=self.meter.tags)
            began = start.astimezone(UTC) if isinstance(start, datetime) else sent.started_at
            took = (sent.started_at - began).total_seconds()
            live = self.meter.late(replace(sent, started_at=began))
            live.began -= max(took, 0.0)
            attempt = Attempt(self, Trace(live))
        keep(details, self._where, attempt)
        return attempt

    def _failed(self, details: dict[str, Any], end: Any) -> None:
        attempt = latest(details, self._where)
        if attempt is None or attempt.owner is not self or (live := attempt.claim()) is None:
            return
        _ended(live, end)
        error = details.get("exception")
        self._streams.refused(details, error)
        never_left = attempt.mock or type(error).__name__ == "RawRequestCaptured"
        self.meter.failed(
            live, error if isinstance(error, BaseException) else RetriedError(), _FREE if never_left else None
        )

    def _replaced(self) -> bool:
        """A later logger of this ledger has taken its place; LiteLLM goes on calling loggers it has once seen."""
        others = litellm.callbacks
        return self not in others and any(
            isinstance(other, CostLogger) and other._where == self._where for other in others
        )

    def _unheld(self) -> BudgetError | None:
        """The error if the other host's call is not held in this logger's budgets."""
        outer = current_call.get()
        if outer is None or set(self.meter.gate.charged(outer.sent).budgets) <= set(outer.sent.budgets):
            return None
        return BudgetUnavailableError(
            "this call is metered into the same ledger by a CostCallback that has not the CostLogger's budgets; give "
            "both the same budget=, or the CostLogger a ledger of its own"
        )

    def _metered_outside(self) -> bool:
        outer = current_call.get()
        return outer is not None and not outer.done and outer.target == self._where


def _say(details: Mapping[str, Any], live: Live, *, hit: bool) -> None:
    """Add what strategies say only after the call was written ahead."""
    if said := strategies_of(details) if hit else asked_for(details):
        live.strategies = {**(live.strategies or {}), **said}


def _answer(details: dict[str, Any], response: Any, attempt: Attempt, *, hit: bool) -> Answer:
    """The answer, with the provider's own model and id also where the proxy has put others in their place."""
    answer = answer_of(details, response, hit=hit, reported=attempt.reported)
    if answer.response_id is None and isinstance(headers := details.get("response_headers"), dict):
        answer.response_id = headers.get("request-id")  # a stream in Anthropic's own protocol
    hidden = getattr(response, "_hidden_params", None) or {}
    told = hidden.get("provider_response_model") or base_model(details)
    if told or "user_api_key" not in metadata_of(details):
        return answer
    raw = attempt.trace.raw if attempt.trace else None
    try:
        own = raw_answer(raw) if raw else None
    except UsageError:
        own = None
    if own is None:  # the model that was asked for is the best guess then
        answer.model = None
    else:
        answer.model, answer.response_id = own.model, own.response_id or answer.response_id
    return answer


def _ended(live: Live, end: Any) -> None:
    """LiteLLM reports an end later, and the first of a process by seconds: that is no latency of the call."""
    if isinstance(end, datetime):
        now, late = time.monotonic(), (datetime.now(end.tzinfo) - end).total_seconds()
        live.ended = max(live.began, now - max(late, 0.0))  # the other clock may have been set since


def _stop_for(details: dict[str, Any], always: bool) -> BudgetError | None:
    return None if _NOT_SENT in details or settings.disabled() else stop_for(details, always)


def _resent(error: BaseException, model: str | None) -> None:
    refusal: BudgetError | None = None
    for attempt in leaving(model):
        owner, trace = attempt.owner, attempt.trace
        if isinstance(owner, CostLogger) and trace and not trace.live.done and not owner._metered_outside():
            try:
                owner._resent(attempt, trace.live, error)
            except BudgetError as stop:  # the others hear of the attempt all the same
                refusal = refusal or stop
    if refusal is not None:
        raise refusal
