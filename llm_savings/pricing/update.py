"""Fetch a newer price map. Only on request: nothing else in the package asks the network for prices."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_savings.errors import ConfigError, SavingsError
from llm_savings.pricing.amounts import money
from llm_savings.pricing.sources import fetched_path, parse_map

MAP_URL = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"

_MAX_BYTES = 64 * 1024 * 1024
_MIN_PRICED = 500
_MAX_PER_TOKEN = money("0.1")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def update(path: Path | str | None = None, *, url: str = MAP_URL, timeout: float = 30) -> Path:
    """Fetch LiteLLM's current price map, check it and keep it; the next `PriceBook()` uses it if it is newer.

    Args:
        path: Where to put it (mode 0600, replaced atomically); the user's cache folder when not given.
        url: Where to get it: https, or http on this machine.
        timeout: Seconds to wait for the server.

    Returns:
        The file written.

    Raises:
        ConfigError: `url` is not https.
        SavingsError: The map could not be fetched, is not a plausible one, or could not be written. What was there
            before is left as it was.

    Example:
        >>> update()  # doctest: +SKIP
        PosixPath('/home/me/.cache/llm-savings/prices.json')
    """
    from http.client import HTTPException  # slow to import, seldom needed
    from urllib import request

    if not _is_safe(url):
        raise ConfigError(f"url={url!r}: prices are fetched by https only")
    try:
        with request.urlopen(url, timeout=timeout) as response:  # noqa: S310  # the scheme is checked above
            if not _is_safe(response.url):
                raise SavingsError(f"{url} leads to {response.url}, and prices are fetched by https only")
            body = response.read(_MAX_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise SavingsError(f"the price map could not be fetched from {url}: {error}") from error
    if len(body) > _MAX_BYTES:
        raise SavingsError(f"{url} sent more than {_MAX_BYTES} bytes; that is not a price map")
    try:
        _check(parse_map(body.decode("utf-8")))
    except ValueError as error:
        raise SavingsError(f"{url} did not send a price map: {error}") from error
    target = Path(path) if path is not None else fetched_path()
    try:
        _write(target, body)
    except OSError as error:
        raise SavingsError(f"the price map could not be written to {target}: {error}") from error
    return target


def _is_safe(url: str) -> bool:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _check(entries: Mapping[str, Mapping[str, Any]]) -> None:
    priced = 0
    for name, entry in entries.items():
        for key in ("input_cost_per_token", "output_cost_per_token"):
            price = entry.get(key)
            if price is not None:
                priced += 1
                if money(price) > _MAX_PER_TOKEN:
                    raise ValueError(f"{key} of {name!r} is {price} USD per token")
    if priced < _MIN_PRICED:
        raise ValueError(f"it has only {priced} prices")


def _write(target: Path, body: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # created with mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
