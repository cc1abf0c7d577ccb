# pyright: standard
"""Which call is leaving right now: for LiteLLM inside ChatLiteLLM, and for the clients that retry on their own.

`CostCallback` works in an executor's thread under asyncio, where a context variable that it sets is lost. A handler
that LangChain runs on the loop could set one, but where one is present langchain-core 1.7.2 forgets `on_llm_start` of
all others (`AsyncCallbackManager.on_llm_start`). So the variable is set earlier: LangChain asks its configure hooks
for a handler in the caller's own context, before every run. This hook has none to give; it leaves an empty mark there,
and the callback, which has a copy of that context, writes on the mark. It is done once no request of the call can
leave any more (its first token, its end), wherever copies of the variable linger.

LangChain reports no end of a model's `ainvoke` that is cancelled, nor of a call that is cancelled while its callbacks
begin; and the task that made it may go on, as after a timeout. So LangChain's own methods tell when they are cancelled.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakSet

from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.tracers.context import register_configure_hook

from llm_savings.errors import BudgetError
from llm_savings.langchain import litellm_hits
from llm_savings.langchain.only_hits import cached_request
from llm_savings.ledger import Sent
from llm_savings.meter import Live, current_call
from llm_savings.resends import watch
from llm_savings.storage.forks import Latch

_NOBODYS = Sent(call_id="", host="langchain", requested_model="")

metered_elsewhere: ContextVar[bool] = ContextVar("llm_savings_metered_elsewhere", default=False)
"""Whether the model run of this context answers from a batch, whose cost is in the ledger already."""


class Metering(Protocol):
    """What this module needs of a `CostCallback`."""

    def abandon(self, mark: Mark) -> None:
        """Settle the calls of this mark, which were cancelled."""
        ...

    def resent(self, run_id: UUID, error: BaseException) -> None:
        """A request is about to be sent again after this error. A BudgetError stops it."""
        ...

    def release(self, mark: Mark, error: BaseException) -> None:
        """The request of this mark will not leave."""
        ...


_lock = Latch()
_callbacks: WeakSet[Metering] = WeakSet()
_budgets = threading.Event()
_imported = 0


@dataclass(slots=True, eq=False)
class Mark(Live):
    """A call that this rim meters; it names no ledger until a callback claims it.

    Attributes:
        hit: LiteLLM's cache answered.
        evidence: What it says of that, if it is ours.
        cached: The parameters of the request, if LangChain will ask a cache before it leaves.
        request: The parameters of the request that was let through, or stopped.
        refusal: Why no request of this call will leave any more.
        gone: Whether it was cancelled before a request could leave.
    """

    hit: bool = False
    evidence: Mapping[str, Any] | None = None
    cached: Mapping[str, Any] | None = None
    request: Mapping[str, Any] | None = None
    refusal: BudgetError | None = None
    gone: bool = False


def claim(live: Live, request: Mapping[str, Any]) -> Mark | None:
    """Say that the call of this context is metered by `live`. Of several callbacks on one call, the first is named."""
    global _imported
    if _imported != len(sys.modules):  # clients may be among what has been imported since
        _imported = len(sys.modules)
        watch(_resent)
        litellm_hits.watch(_hit)
    mark = current_call.get()
    if not isinstance(mark, Mark) or mark.done:
        return None
    if not mark.target:
        mark.sent, mark.target, mark.request = live.sent, live.target, request
    return mark


def refuse(request: Mapping[str, Any], refusal: BudgetError) -> None:
    """Say that the request with these parameters is stopped; what anybody holds for it is released.

    LangChain reports no end of what is stopped at its start, neither to other callbacks nor of the other prompts that
    one request may carry.
    """
    mark = current_call.get()
    if isinstance(mark, Mark):
        mark.request, mark.refusal, mark.done = request, refusal, True
        for callback in _living():
            callback.release(mark, refusal)


def will_not_leave(request: Mapping[str, Any]) -> BaseException | None:
    """Why the request with these parameters, which has just been let through, will not leave all the same.

    Under asyncio another callback may have stopped it meanwhile, or it may have been cancelled.
    """
    mark = current_call.get()
    if not isinstance(mark, Mark):
        return None
    if mark.request is request and mark.refusal is not None:
        return mark.refusal
    return asyncio.CancelledError() if mark.gone else None


def refusal_of(run_id: UUID) -> BudgetError | None:
    """Why the run of this context was stopped, if it was."""
    mark = current_call.get()
    return mark.refusal if isinstance(mark, Mark) and mark.sent.call_id == str(run_id) else None


def register(callback: Metering) -> None:
    """Have marks made from now on; `callback` is told of retries and of cancelled calls for as long as it lives."""
    with _lock:
        _callbacks.add(callback)
    _hook()


def expect_refusals() -> None:
    """Look from now on whether a cache could answer; without a budget nobody needs to know, and it takes a while."""
    _budgets.set()


def _living() -> list[Metering]:
    with _lock:
        return list(_callbacks)


class _Marking:
    """In the form in which LangChain asks a hook for a handler: a variable with a value."""

    def get(self) -> None:
        """No handler; a new mark in the caller's context."""
        cached = cached_request() if _budgets.is_set() else None
        current_call.set(Mark(_NOBODYS, "", time.monotonic(), cached=cached))


@cache
def _hook() -> None:
    register_configure_hook(_Marking(), inheritable=False)  # pyright: ignore[reportArgumentType]
    BaseChatModel.agenerate = _heeding(BaseChatModel.agenerate, _cancelled)
    for name in ("on_chat_model_start", "on_llm_start"):
        setattr(AsyncCallbackManager, name, _heeding(getattr(AsyncCallbackManager, name), _cancelled_at_start))


def _heeding(method: Callable[..., Any], cancelled: Callable[[Mark], None]) -> Any:
    @wraps(method)
    async def heeded(self: Any, *given: Any, **named: Any) -> Any:
        try:
            return await method(self, *given, **named)
        except asyncio.CancelledError:
            mark = current_call.get()
            if isinstance(mark, Mark):
                cancelled(mark)
            raise

    return heeded


def _cancelled(mark: Mark) -> None:
    if not mark.gone:
        _aside(lambda callback: callback.abandon(mark))


def _cancelled_at_start(mark: Mark) -> None:
    mark.gone = True
    _aside(lambda callback: callback.release(mark, asyncio.CancelledError()))


def _aside(tell: Callable[[Metering], None]) -> None:
    """Tell all callbacks, without holding up the event loop."""
    for callback in _living():
        try:
            asyncio.get_running_loop().run_in_executor(None, tell, callback)
        except RuntimeError:  # the loop is being closed
            tell(callback)


def _resent(error: BaseException, _model: str | None) -> None:
    mark = current_call.get()
    if isinstance(mark, Mark) and mark.target and not mark.done:
        stop: BudgetError | None = None
        for callback in _living():
            try:
                callback.resent(UUID(mark.sent.call_id), error)
            except BudgetError as refusal:  # the others' rows of this attempt are still to be written
                stop = refusal
        if stop is not None:
            refuse(mark.request or {}, stop)
            raise stop


def _hit(evidence: Mapping[str, Any] | None) -> str | None:
    mark = current_call.get()
    if not isinstance(mark, Mark) or not mark.target or mark.done:
        return None
    mark.hit, mark.evidence = True, evidence
    return mark.target
