"""Where prices come from: LiteLLM's bundled map or a fetched one, and the supplement. Nothing here uses the network."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from llm_savings.errors import ConfigError

MAP_NAME = "model_prices_and_context_window_backup.json"

_log = logging.getLogger("llm_savings.pricing")
_NOT_MODELS = ("sample_spec", "fallback_generalizations")
_DATE = re.compile(r"20\d\d(-?)[01]\d\1[0-3]\d")
_DEPRECATION = re.compile(r'deprecation_date"\s*:\s*"$')


@dataclass(frozen=True)
class PriceMap:
    """A price map in LiteLLM's format.

    Attributes:
        entries: Model name -> its keys.
        date: A day on which the map is known to have been current, or None when nothing tells.
        origin: Where it comes from, for people.
    """

    entries: Mapping[str, Mapping[str, Any]]
    date: date | None
    origin: str


def bundled_path() -> Path | None:
    """The map inside the installed litellm, found without importing it (that takes seconds)."""
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / MAP_NAME
        if path.is_file():
            return path
    return None


def fetched_path() -> Path:
    """Where `update` puts a newer map: the user's cache folder."""
    import platformdirs  # only needed here

    return Path(platformdirs.user_cache_dir("llm-savings", appauthor=False)) / "prices.json"


def newest_map() -> PriceMap:
    """The newer of the bundled map and the fetched one.

    A fetched map that cannot be read is skipped with a warning; without any map, only the supplement and overrides
    are left, and a warning says so.
    """
    bundled, fetched = bundled_path(), fetched_path()
    found: list[PriceMap] = []
    if bundled is not None:
        found.append(_labelled(read_map(bundled), f"litellm {_litellm_version()}"))
    if fetched.is_file():
        try:
            theirs = read_map(fetched)
        except ConfigError as error:
            _log.warning("Ignoring the fetched price map: %s. Run `llm-savings prices --update` to renew it.", error)
        else:
            # Both by the same measure, so that an upgrade of litellm beats an old download.
            if not found or (theirs.date or date.min) >= (found[0].date or date.min):
                day = datetime.fromtimestamp(fetched.stat().st_mtime, UTC).date()
                return PriceMap(theirs.entries, max(theirs.date or day, day), f"fetched {day}")
    if not found:
        _log.warning("No price map: litellm's %s was not found. Only overrides can be priced.", MAP_NAME)
        return PriceMap({}, None, "no map")
    return found[0]


def read_map(path: Path) -> PriceMap:
    """Read a price map in LiteLLM's format.

    Raises:
        ConfigError: The file cannot be read or is not such a map.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise ConfigError(f"price map {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"price map {path} is not valid: {error}") from error


@lru_cache(maxsize=4)
def _read(path: Path, _modified: int, _size: int) -> PriceMap:
    # Parsing takes 40 ms and books are cheap to make: they share the entries, which nothing changes.
    text = path.read_text(encoding="utf-8")
    return PriceMap(parse_map(text), written_on(text), str(path))


def parse_map(text: str) -> dict[str, Mapping[str, Any]]:
    """Parse a price map with exact decimals.

    Raises:
        ValueError: Not a JSON object with models in it.
    """
    raw: object = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    if not isinstance(raw, dict):
        raise ValueError("expected a JSON object of models")
    # What is not an object is no model; a map may gain such things without harm.
    models = {
        name: cast("Mapping[str, Any]", entry)
        for name, entry in cast("dict[str, object]", raw).items()
        if isinstance(entry, dict) and name not in _NOT_MODELS
    }
    if not models:
        raise ValueError("there is no model in it")
    return models


def written_on(text: str, today: date | None = None) -> date | None:
    """The newest day, not in the future, that a map mentions, other than as a date of deprecation.

    A map does not carry its date, and the file's time is the time of installation. It names dated models and says when
    a price was checked, so it is at least as new as that: an honest lower bound.
    """
    today = today or datetime.now(UTC).date()
    newest: date | None = None
    for found in _DATE.finditer(text):
        start, end = found.span()
        before, after = text[max(0, start - 24) : start], text[end : end + 1]
        if before[-1:].isdigit() or after.isdigit() or _DEPRECATION.search(before):
            continue
        try:
            day = datetime.strptime(found[0].replace("-", ""), "%Y%m%d").replace(tzinfo=UTC).date()
        except ValueError:
            continue
        if day <= today and (newest is None or day > newest):
            newest = day
    return newest


@lru_cache(maxsize=1)
def supplement() -> Mapping[str, Mapping[str, Any]]:
    """Models that the map has dropped but logs still contain, from `llm_savings/data/prices_supplement.toml`."""
    text = resources.files("llm_savings").joinpath("data", "prices_supplement.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(text, parse_float=Decimal)["prices"]
    return {name: {k: v for k, v in group.items() if k != "names"} for group in groups for name in group["names"]}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a price")


def _labelled(price_map: PriceMap, origin: str) -> PriceMap:
    return PriceMap(price_map.entries, price_map.date, origin)


def _litellm_version() -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version("litellm")
    except metadata.PackageNotFoundError:
        return "(unknown version)"
