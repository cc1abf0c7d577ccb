"""Telling somebody that a budget is running out: a callable, a webhook, or the log."""

from __future__ import annotations

import atexit
import json
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from llm_savings.budget import Alert

_log = logging.getLogger("llm_savings.budget")
_TRIES, _SECONDS = 3, 5.0


def deliver(alert: Alert, to: Callable[[Alert], object] | str | None) -> None:
    """Tell about an alert, without holding up or breaking the call that set it off.

    Args:
        alert: What has happened.
        to: A callable, which is called here and now; a webhook's URL, which gets the alert as JSON from a thread,
            three times at most (a program that ends waits five seconds for it); or None for a warning in the log.
    """
    if to is None:
        _log.warning("%s", alert.text())
    elif isinstance(to, str):
        thread = threading.Thread(target=_post, args=(to, alert), name="llm-savings-alert", daemon=True)
        thread.start()
        # A program that ends because its budget is spent still tells about it.
        atexit.register(thread.join, _SECONDS)
    else:
        try:
            to(alert)
        except Exception:  # noqa: BLE001 (the user's own code; their model call goes on)
            _log.exception("on_alert failed: %s", alert.text())


def _post(url: str, alert: Alert) -> None:
    from urllib.request import Request, urlopen

    from httpx import create_ssl_context
    from tenacity import Retrying, stop_after_attempt, wait_exponential

    try:
        for attempt in Retrying(stop=stop_after_attempt(_TRIES), wait=wait_exponential(max=10), reraise=True):
            with attempt:
                # Not by httpx itself: it logs every address, and a webhook's is a secret.
                body = json.dumps(payload(alert)).encode()
                request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 (Budget lets http(s) in)
                urlopen(request, timeout=_SECONDS, context=create_ssl_context()).close()  # noqa: S310
    except Exception as error:  # noqa: BLE001
        _log.warning("%s (its webhook at %s failed: %s)", alert.text(), urlsplit(url).hostname, type(error).__name__)


def payload(alert: Alert) -> dict[str, Any]:
    """An alert as JSON; `text` is what chat services show."""
    return {
        "text": alert.text(),
        "budget": alert.budget,
        "scope": alert.scope,
        "period": alert.period,
        "share": str(alert.share),
        "charged_usd": str(alert.charged),
        "limit_usd": str(alert.limit),
        "resets_at": alert.resets_at.isoformat() if alert.resets_at else None,
    }
