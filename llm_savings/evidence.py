"""What a strategy did to a call, on its way from the rim that did it to the call's row in the ledger.

Both hosts carry a call's metadata from the caller to whoever meters it, through threads, tasks, streams and retries.
So a rim that changes a call says so under one key of that metadata, and `CostCallback` and `CostLogger` keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

Strategy = Literal["routing", "output", "prompt_cache", "batch", "semantic_cache"]
"""The strategies, in the order in which their savings are reckoned."""

METADATA_KEY = "llm_savings"
"""Where a call's metadata says what the strategies did: {"routing": {"baseline_model": "gpt-4o", ...}, ...}."""

_STRATEGIES = frozenset(get_args(Strategy))
_NOTHING: Mapping[str, Any] = {}


def noted(metadata: Mapping[str, Any] | None, strategy: Strategy, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a call's metadata that also says what a strategy did.

    Args:
        metadata: The call's metadata so far; it is not changed.
        strategy: Who did something.
        evidence: What it did, in plain JSON values; never text of a prompt. What attribution reads of it: `routing`
            has "baseline_model", `output` has "baseline_output" (tokens) and "basis" ("measured" or "modelled").
            With "shadow": True it says what would have been done, and counts for nothing.

    Example:
        >>> noted({"user": "kim"}, "routing", {"tier": "simple", "baseline_model": "gpt-4o"})
        {'user': 'kim', 'llm_savings': {'routing': {'tier': 'simple', 'baseline_model': 'gpt-4o'}}}
    """
    return {**(metadata or {}), METADATA_KEY: {**evidence_in(metadata), strategy: dict(evidence)}}


def evidence_in(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a call's metadata says of the strategies; what is no evidence is left out."""
    found = metadata.get(METADATA_KEY) if metadata else None
    if found is None or not isinstance(found, Mapping):  # None, as nearly always, is told faster
        return _NOTHING
    said = cast("Mapping[object, object]", found).items()
    return {
        str(name): dict(cast("Mapping[str, Any]", value))
        for name, value in said
        if name in _STRATEGIES and isinstance(value, Mapping)
    }
