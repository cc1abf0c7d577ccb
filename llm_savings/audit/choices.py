"""What an audit tries: which strategies, with which smaller models, and which calls can wait."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import cast, get_args

from llm_savings.audit.records import Record
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy

ALL: frozenset[Strategy] = frozenset(get_args(Strategy))
_CAN_WAIT = frozenset(("batch", "can-wait", "can_wait", "nightly", "offline", "background", "bulk"))


def tagged_to_wait(record: Record) -> bool:
    """Whether a call's labels say that its answer can wait: "can-wait", "nightly", "offline", ..., as name or value."""
    return not record.streamed and any(
        word.casefold() in _CAN_WAIT for pair in record.tags.items() for word in pair if word
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What an audit tries.

    Attributes:
        strategies: Which; all five by default.
        small_models: Model, or a pattern with * -> the smaller model that routing may choose; "" for none. They come
            before the shipped table (`llm_savings/data/small_models.toml`).
        can_wait: Which calls a batch would do for.
        max_error: Of the semantic cache; see `llm_savings.semantic_cache.Settings`.
        ttl: For how long a cached answer is one.
        per_tenant: Whether tenants share no cached answers.

    Raises:
        ConfigError: A strategy is not known.
    """

    strategies: frozenset[Strategy] = ALL
    small_models: Mapping[str, str] = field(default_factory=dict[str, str])
    can_wait: Callable[[Record], bool] = tagged_to_wait
    max_error: float = 0.01
    ttl: timedelta = timedelta(hours=24)
    per_tenant: bool = True

    def __post_init__(self) -> None:
        if unknown := set(self.strategies) - ALL:
            raise ConfigError(
                f"strategies has {sorted(unknown)[0]!r}; expected some of {', '.join(get_args(Strategy))}"
            )

    def small(self, model: str) -> str:
        """The smaller model for one, or "".

        Example:
            >>> Choices().small("gpt-4o-2024-08-06"), Choices().small("gpt-4o-mini")
            ('gpt-4o-mini', '')
        """
        name = model.rpartition("/")[2]
        for pattern, small in (*self.small_models.items(), *_shipped()):
            if fnmatchcase(model, pattern) or fnmatchcase(name, pattern):
                return small
        return ""


@lru_cache(maxsize=1)
def _shipped() -> tuple[tuple[str, str], ...]:
    text = resources.files("llm_savings").joinpath("data", "small_models.toml").read_text(encoding="utf-8")
    tables = cast("list[dict[str, object]]", tomllib.loads(text)["model"])
    return tuple((str(name), str(one["small"])) for one in tables for name in cast("list[str]", one["names"]))
