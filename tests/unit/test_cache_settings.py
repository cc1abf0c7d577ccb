"""Settings of the semantic cache: wrong ones are named."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llm_savings.errors import ConfigError
from llm_savings.semantic_cache.settings import Settings


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_error", 1.5),
        ("max_error", "1%"),
        ("similarity_threshold", 95),
        ("ttl", 0),
        ("ttl", timedelta(seconds=-1)),
        ("ttl", float("nan")),
        ("audit_rate", -0.1),
        ("max_entries", 0),
        ("max_bytes", 0),
        ("wait", -1),
        ("embed_timeout", 0),
        ("max_temperature", True),
        *((name, None) for name in ("max_error", "max_temperature", "longest", "audit_rate", "wait", "embed_timeout")),
    ],
)
def test_a_wrong_value_is_named(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option) as caught:
        Settings.of({option: value})  # type: ignore[typeddict-item,misc]
    assert repr(value) in str(caught.value)


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"treshold.*similarity_threshold"):
        Settings.of({"treshold": 0.9})  # type: ignore[typeddict-unknown-key]


def test_limits_may_be_off() -> None:
    assert Settings(ttl=None, max_entries=None, max_bytes=None, max_error=0, audit_rate=0).ttl is None
