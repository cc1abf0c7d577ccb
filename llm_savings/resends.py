"""Attempts that a provider's own client makes without telling the host that uses it.

Unless told otherwise the openai and anthropic clients send a request up to three times when it times out or the server
fails, and a host hears of the last time only. Each may have been billed, since a provider finishes an answer that
nobody waits for any more. The clients offer no hook, so the one method in which they wait before sending again is
wrapped, once for all hosts; where a release has no such method, these attempts go unseen.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from llm_savings.errors import BudgetError
from llm_savings.meter import may_have_billed
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings.resends")
_METHOD = "_sleep_for_retry"

Listener = Callable[[BaseException, str | None], None]
"""Told the error that may have been billed, and the model that the request names, if it can be seen."""

_lock = Latch()
_unwatched = {"openai._base_client", "anthropic._base_client"}
_listeners: list[Listener] = []


class RetriedError(Exception):
    """An attempt that failed and was made again, where no error says more.

    Attributes:
        status_code: The HTTP status that the provider answered with, if it did.
    """

    def __init__(self, status_code: int | None = None) -> None:
        super().__init__(f"HTTP {status_code}" if status_code else "no reason given")
        self.status_code = status_code


def watch(listener: Listener) -> None:
    """Have `listener` called before a client sends again what may have been billed.

    It is called for every request of the process, with the context of the request, and tells by that whether the
    request is its own; never on an event loop's thread, so it may write to a ledger. A BudgetError that it raises is
    raised by the client, and the request is not sent again. Only clients that are imported by now are watched. To call
    this again costs next to nothing, and finds those imported since.
    """
    if listener not in _listeners:
        with _lock:
            if listener not in _listeners:
                _listeners.append(listener)
    if not sys.modules.keys().isdisjoint(_unwatched):
        with _lock:
            for name in _unwatched & sys.modules.keys():
                _wrap(name)


def _wrap(name: str) -> None:
    module = sys.modules[name]
    clients = [getattr(module, client, None) for client in ("SyncAPIClient", "AsyncAPIClient")]
    if name in _unwatched and all(clients):  # not all: another thread is importing it right now
        _unwatched.discard(name)
        for client in clients:
            if (wait := getattr(client, _METHOD, None)) is not None:
                setattr(client, _METHOD, _watched(wait))


def _watched(wait: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(wait)
    def waiting(*given: Any, **named: Any) -> Any:
        _tell(sys.exception(), named)
        return wait(*given, **named)

    @wraps(wait)
    async def awaiting(*given: Any, **named: Any) -> Any:
        error = sys.exception()
        try:
            # A ledger must not hold up the event loop. The thread has this context, which says whose request it is.
            await asyncio.to_thread(_tell, error, named)
        except RuntimeError:  # another event loop than asyncio's, or no thread can be started any more
            _tell(error, named)
        return await wait(*given, **named)

    watched = awaiting if inspect.iscoroutinefunction(wait) else waiting
    # Others that wrap the same method may take this attribute for a sign that they have done so already.
    del watched.__wrapped__
    return watched


def _tell(error: BaseException | None, named: dict[str, Any]) -> None:
    try:
        status = getattr(named.get("response"), "status_code", None)
        if isinstance(status, int):
            error = RetriedError(status)
        if error is None or not may_have_billed(error):
            return
        body = getattr(named.get("options"), "json_data", None)
        model = cast("dict[str, Any]", body).get("model") if isinstance(body, dict) else None
        refusal: BudgetError | None = None
        for listener in tuple(_listeners):
            try:
                listener(error, model)
            except BudgetError as stop:  # the others hear of the attempt all the same
                refusal = refusal or stop
        if refusal is not None:
            raise refusal
    except BudgetError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the user's call goes on
        _log.exception("a retry was not metered")
