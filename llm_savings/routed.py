"""What every host does about routing: a router for its tiers, and what a decision does to a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from llm_savings.bounds import limits
from llm_savings.errors import ConfigError
from llm_savings.evidence import noted
from llm_savings.labels import text
from llm_savings.routing import ComplexityRouter, Decision, Tier

Routing = ComplexityRouter | Callable[..., ComplexityRouter] | None
"""A router for tiers of these names, what makes one of them (such as `ComplexityRouter.rules`), or None."""

_CONVERSATION = ("thread_id", "session_id", "conversation_id")


def router_for(tiers: Mapping[str, Tier], router: Routing, *, shadow: bool = False) -> ComplexityRouter:
    """The router that was given, checked; or one for these tiers.

    Raises:
        ConfigError: It is none, or one for other tiers, or it is not in shadow where it should be.

    Example:
        >>> router_for({"simple": Tier("gpt-4o-mini"), "complex": Tier("gpt-4o")}, ComplexityRouter.rules).names
        ('simple', 'complex')
    """
    found: object = router or ComplexityRouter
    if not isinstance(found, ComplexityRouter) and callable(found):
        found = cast("Callable[..., object]", found)(tiers, shadow=shadow)
    if not isinstance(found, ComplexityRouter):
        raise ConfigError(
            f"router is {type(found).__name__}; give a ComplexityRouter, or what makes one of tiers, such as "
            "ComplexityRouter.rules"
        )
    if found.names != tuple(tiers):
        raise ConfigError(f"router has the tiers {list(found.names)}, but tiers has {list(tiers)}; give both the same")
    if shadow and not found.shadow:
        raise ConfigError("shadow=True, but the router is not in shadow; make it with shadow=True")
    return found


def conversation_in(*sources: Mapping[str, Any]) -> str | None:
    """The name of the conversation that a call belongs to, from the first of these that tells."""
    return next(filter(None, (text(source, _CONVERSATION) for source in sources)), None)


def at_least_in(*sources: Mapping[str, Any]) -> str | None:
    """The weakest tier that will do for the caller, from the first of these that tells."""
    return next(filter(None, (text(source, ("at_least",)) for source in sources)), None)


def with_evidence(metadata: Mapping[str, Any] | None, decision: Decision, **more: Any) -> dict[str, Any]:
    """A copy of a call's metadata that says what routing did; nothing where the package is switched off."""
    if "disabled" in decision.reasons:
        return dict(metadata or {})
    return noted(metadata, "routing", {**decision.evidence(), **more})


def params_beside(params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A tier's parameters that the caller does not set.

    Example:
        >>> router = ComplexityRouter({"simple": Tier("gpt-4o-mini", max_tokens=200), "complex": "gpt-4o"})
        >>> params = router.route("hi").params
        >>> params_beside(params, {}), params_beside(params, {"max_completion_tokens": 9})
        ({'max_tokens': 200}, {})
    """
    limited = limits(given)[0] is not None  # the limit has several names
    return {
        name: value
        for name, value in params.items()
        if name not in given and not (limited and limits({name: value})[0] is not None)
    }
