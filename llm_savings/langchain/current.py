"""Telling LiteLLM's logger, inside a call of ChatLiteLLM, that LangChain's callback is metering the call already.

A context variable set in an executor's thread is lost, and `CostCallback` works in one under asyncio: it must not
block the event loop. So a second handler, which LangChain runs on the loop itself and which touches no file, puts a
mark into `meter.current_call`. The callback fills the same mark before the request leaves. The mark is done as soon as
no request of the call can leave any more (its first token, its end), wherever copies of the variable linger.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from contextvars import ContextVar
from functools import cache
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakSet

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from llm_savings.langchain.resends import watch
from llm_savings.ledger import Sent
from llm_savings.meter import Live, current_call

_MOST = 10_000
_NOBODYS = Sent(call_id="", host="langchain", requested_model="")

_lock = threading.Lock()
_marks: OrderedDict[UUID, Live] = OrderedDict()
_callbacks: WeakSet[Metering] = WeakSet()


class Metering(Protocol):
    """What this module needs of a `CostCallback`."""

    def abandon(self, parent: UUID) -> None:
        """Settle the calls of a parent run that was cancelled."""
        ...

    def resent(self, run_id: UUID, error: BaseException) -> None:
        """A request is about to be sent again after this error."""
        ...


def mark(run_id: UUID) -> Live:
    """The mark of a run, made by whoever asks first; it names no ledger until a callback `claim`s it."""
    with _lock:
        found = _marks.get(run_id)
        if found is None:
            found = _marks[run_id] = Live(_NOBODYS, "", time.monotonic())
            if len(_marks) > _MOST:  # a host that never ends its runs must not fill the memory
                _marks.popitem(last=False)
        return found


def claim(run_id: UUID, live: Live) -> None:
    """Say that this call is metered, and into which ledger. Of several callbacks on one run, the first is named."""
    found = mark(run_id)
    if not found.target:
        found.sent, found.target = live.sent, live.target


class _Current(BaseCallbackHandler):
    """Sets and clears `current_call` around every model call of the process."""

    run_inline = True

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        watch(_resent)
        current_call.set(mark(run_id))

    def on_llm_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        watch(_resent)
        current_call.set(mark(run_id))

    def on_llm_new_token(self, *_: Any, run_id: UUID, **__: Any) -> None:
        # The request has left. What the caller does between two pieces of a stream is another call.
        if (found := _marks.get(run_id)) and not found.done:
            _finish(found)

    def on_llm_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        _finish(_marks.pop(run_id, None))

    def on_llm_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        _finish(_marks.pop(run_id, None))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **__: Any) -> None:
        # A cancelled `ainvoke` of a model ends without any event of its own; its parent's is the only news.
        if isinstance(error, asyncio.CancelledError):
            for callback in list(_callbacks):
                _in_background(callback, run_id)


def _finish(found: Live | None) -> None:
    if found is not None:
        found.done = True
        if current_call.get() is found:
            current_call.set(None)


def _resent(error: BaseException) -> None:
    live = current_call.get()
    if live is not None and live.target and not live.done and live.sent.host == "langchain":
        for callback in list(_callbacks):
            callback.resent(UUID(live.sent.call_id), error)


def _in_background(callback: Metering, parent: UUID) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        callback.abandon(parent)
    else:
        loop.run_in_executor(None, callback.abandon, parent)


# A handler without state may be a default.
_handler: ContextVar[_Current | None] = ContextVar("llm_savings_current_handler", default=_Current())  # noqa: B039


@cache
def _hook() -> None:
    register_configure_hook(_handler, inheritable=True)


def register(callback: Metering) -> None:
    """Have the marks set from now on; `callback` is told of cancelled runs for as long as it lives."""
    _callbacks.add(callback)
    _hook()
