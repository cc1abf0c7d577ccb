"""What a strategy did to a call, on its way from the rim that did it to the call's row in the ledger.

Both hosts carry a call's metadata from the caller to whoever meters it, through threads, tasks, streams and retries.
So a rim that changes a call says so under one key of that metadata, and `CostCallback` and `CostLogger` keep it. What
only the answer can tell is told by a function that they call when it is there (`AT_END`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast, get_args

Strategy = Literal["routing", "output", "prompt_cache", "batch", "semantic_cache"]
"""The strategies, in the order in which their savings are reckoned."""

METADATA_KEY = "llm_savings"
"""Where a call's metadata says what the strategies did: {"routing": {"baseline_model": "gpt-4o", ...}, ...}."""

AT_END = "at_end"
"""Where evidence holds a function of the answer's text and output tokens that gives the rest of the evidence."""

CACHE_KEY = "llm_savings_cache"
"""Where LiteLLM's details of a call say what our cache, as `litellm.cache`, did."""

AtEnd = Callable[[str, int], Mapping[str, Any]]

_log = logging.getLogger("llm_savings.evidence")
_STRATEGIES = frozenset(get_args(Strategy))
_NOTHING: Mapping[str, Any] = {}


def noted(metadata: Mapping[str, Any] | None, strategy: Strategy, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a call's metadata that also says what a strategy did.

    Args:
        metadata: The call's metadata so far; it is not changed.
        strategy: Who did something.
        evidence: What it did, in plain JSON values; never text of a prompt. What attribution reads of it: `routing`
            has "baseline_model" (and "repeat": True for a second try of the same request), `output` has
            "baseline_output" (tokens) and "basis" ("measured" or "modelled"). With "shadow": True it says what would
            have been done, and counts for nothing. Under `AT_END` there may be a function, an `AtEnd`, for what is only
            known once the answer is there. It must be quick; where the call has no answer, or it raises, the evidence
            stays without what it would have said.

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


def at_end(strategies: Mapping[str, Any], text: Callable[[], str | None] | None, output: int) -> dict[str, Any]:
    """What the strategies did, as a row keeps it: with what the answer tells, and without the functions that ask it.

    Args:
        strategies: As `evidence_in` gives them.
        text: Gives the answer's text, or None where it has no single one; None for a call without an answer.
        output: Its output tokens.

    Example:
        >>> output = {"form": "columns", AT_END: lambda text, tokens: {"baseline_output": 2 * tokens}}
        >>> at_end({"output": output}, lambda: "[1]", 3)
        {'output': {'form': 'columns', 'baseline_output': 6}}
    """
    return {name: _complete(evidence, text, output) for name, evidence in strategies.items()}


def _complete(evidence: Mapping[str, Any], text: Callable[[], str | None] | None, output: int) -> dict[str, Any]:
    found = dict(evidence)
    ask = found.pop(AT_END, None)
    if callable(ask) and text is not None:
        try:
            if (said := text()) is not None:
                found.update(cast("AtEnd", ask)(said, output))
        except Exception as error:  # noqa: BLE001 (what was saved is then not known; the row is kept all the same)
            _log.debug("an answer did not tell what was saved: %s", type(error).__name__)
    return found
