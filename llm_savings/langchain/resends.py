# pyright: standard
"""Attempts that a provider's own client makes without telling LangChain.

Unless told otherwise the openai and anthropic clients send a request up to three times when it times out or the
server fails. Each may have been billed, since a provider finishes an answer that nobody waits for any more. The clients
offer no hook, so the one method in which they wait before sending again is wrapped; where a release has no such
method, these attempts go unseen.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

_log = logging.getLogger("llm_savings.langchain")

_METHOD, _DONE = "_sleep_for_retry", "_llm_savings_langchain"
_lock = threading.Lock()
_unwatched = {"openai", "anthropic"}


class RetriedError(Exception):
    """A provider answered with a status after which its client sent the request again.

    Attributes:
        status_code: The HTTP status.
    """

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


def watch(tell: Callable[[BaseException], None]) -> None:
    """Have `tell` called before a client of this process sends again, as soon as that client is imported."""
    for name in [name for name in _unwatched if name in sys.modules]:
        with _lock:
            _unwatched.discard(name)
            module = sys.modules.get(f"{name}._base_client")
            for client in (getattr(module, "SyncAPIClient", None), getattr(module, "AsyncAPIClient", None)):
                wait = getattr(client, _METHOD, None)
                if wait is not None and not hasattr(wait, _DONE):
                    setattr(client, _METHOD, _watched(wait, tell))


def _watched(wait: Callable[..., Any], tell: Callable[[BaseException], None]) -> Callable[..., Any]:
    @wraps(wait)
    def waiting(*args: Any, **named: Any) -> Any:
        if error := _cause(named):
            _told(tell, error)
        return wait(*args, **named)

    @wraps(wait)
    async def awaiting(*args: Any, **named: Any) -> Any:
        if error := _cause(named):
            try:
                # A ledger must not hold up the event loop. The thread has this context, which says what call it is.
                await asyncio.to_thread(_told, tell, error)
            except RuntimeError:  # another event loop than asyncio's
                _told(tell, error)
        return await wait(*args, **named)

    watched = awaiting if inspect.iscoroutinefunction(wait) else waiting
    # Others that wrap the same method may take this attribute for a sign that they have done so already.
    del watched.__wrapped__
    setattr(watched, _DONE, True)
    return watched


def _cause(named: dict[str, Any]) -> BaseException | None:
    status = getattr(named.get("response"), "status_code", None)
    return RetriedError(status) if isinstance(status, int) else sys.exception()


def _told(tell: Callable[[BaseException], None], error: BaseException) -> None:
    try:
        tell(error)
    except Exception:  # noqa: BLE001 - whatever it is, the user's call goes on
        _log.exception("a retry was not metered")
