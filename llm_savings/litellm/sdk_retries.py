"""The retries that the openai SDK makes on its own.

Unless told otherwise the SDK sends a request up to three times when it times out or fails with a server error, and
LiteLLM hears of the last time only. Each of them may have been billed: a provider finishes, and charges for, an
answer that nobody waits for any more. The SDK offers no hook for it, so the one method in which it waits before it
sends again is wrapped; if a release has no such method, these attempts are not seen.
"""
# pyright: standard

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from llm_savings.meter import may_have_billed

_log = logging.getLogger("llm_savings.litellm")

resent: ContextVar[Callable[[str | None, BaseException], None] | None] = ContextVar("llm_savings_resent", default=None)
"""Called with the request's model and the error when the SDK is about to send the current request again."""

_METHOD = "_sleep_for_retry"


class HttpError(Exception):
    """A provider answered with a status that the SDK retried.

    Attributes:
        status_code: The HTTP status.
    """

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


@functools.cache
def watch() -> None:
    """See the SDK's own retries from now on. Doing it again changes nothing."""
    try:
        from openai import _base_client as sdk
    except ImportError:
        return
    for client in (getattr(sdk, "SyncAPIClient", None), getattr(sdk, "AsyncAPIClient", None)):
        if (wait := getattr(client, _METHOD, None)) is not None:
            setattr(client, _METHOD, _watched(wait))


def _watched(wait: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wait)
    def waiting(*given: Any, **named: Any) -> Any:  # the async method's coroutine is handed through
        try:
            _tell(named.get("options"), named.get("response"))
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a retry was not metered")
        return wait(*given, **named)

    return waiting


def _tell(options: Any, response: Any) -> None:
    listener = resent.get()
    if listener is None:
        return
    status = getattr(response, "status_code", None)
    error = HttpError(status) if isinstance(status, int) else sys.exception()
    if error is not None and may_have_billed(error):
        body = getattr(options, "json_data", None)
        listener(body.get("model") if isinstance(body, dict) else None, error)
