"""`ComplexityRouting`: a LiteLLM Router whose model "auto" is the cheapest group that will do."""
# pyright: standard

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import litellm

from llm_savings.errors import ConfigError
from llm_savings.litellm.routed_calls import ASKED, CHATS, Group
from llm_savings.routed import Routing, router_for
from llm_savings.routing import Tier
from llm_savings.routing.tiers import read_tiers

if TYPE_CHECKING:
    from litellm.router import Router

_log = logging.getLogger("llm_savings.litellm")
UNTRIED = (1, 111)
"""The first version of LiteLLM that routing was not tried with."""


class ComplexityRouting:
    """Makes a model group of a LiteLLM Router that sends each call to the cheapest of several groups that will do.

    `router.completion(model="auto", ...)` decides the same in sync, async and streams; the Responses API too. Which
    deployment of the chosen group answers is the Router's own choice: its cooldowns, load balancing and retries work
    as ever, and so do the fallbacks that it has for the tiers' groups. A tier whose deployments are all cooling down
    and that has no fallback gives way to the next stronger one. Other groups, and embeddings, are left alone.

    The call's `metadata` says what routing did, for `CostLogger`; its `session_id` (or `thread_id`,
    `conversation_id`) names a conversation, which sticks to its tier and moves up after two retries in a row, and
    `at_least` the weakest tier that will do.

    Args:
        tiers: Tier name -> a model group of the Router, or `Tier(group, max_tokens=200, ...)` with parameters for its
            calls; the caller's own come first. From the cheapest to the strongest.
        router: A `ComplexityRouter` for tiers of these names, or what makes one of them, such as
            `ComplexityRouter.rules` or `partial(ComplexityRouter, rules=[...])`.
        group: The name of the new model group.
        shadow: Decide and record, but send everything to the baseline's tier.
        cascade: Judge a cheaper tier's answer to a chat completion, and ask the next stronger one where it does not do.
            A callable is the judge: from the text of an answer to the probability that it will do. An answer is held
            back until it is judged, in a stream too. Both calls are in the ledger.

    Attributes:
        router: The `ComplexityRouter`; of several Routers, that of the last one that this was attached to.

    Raises:
        ConfigError: There are fewer than two tiers, or the router is not one for them.

    Example:
        >>> routing = ComplexityRouting(tiers={"simple": "gpt-4o-mini", "complex": "gpt-4o"})
        >>> routing.attach(router).completion(model="auto", messages=[...])        # doctest: +SKIP
    """

    def __init__(
        self,
        tiers: Mapping[str, str | Tier],
        *,
        router: Routing = None,
        group: str = "auto",
        shadow: bool = False,
        cascade: bool | Callable[[str], float] = False,
    ) -> None:
        self.tiers = read_tiers(tiers)
        if not isinstance(cast(object, group), str) or not group.strip():
            raise ConfigError(f"group={group!r}; give the name of the new model group, such as 'auto'")
        if not isinstance(cascade, bool) and not callable(cascade):
            raise ConfigError(f"cascade={cascade!r}; give True, or a callable from an answer's text to a probability")
        self.group, self.shadow, self._router, self._cascade = group, shadow, router, cascade
        self.router = router_for(self.tiers, router, shadow=shadow)  # what is wrong with it, it says now

    def attach(self, router: Router) -> Router:
        """Give a Router the new model group; it may have several, each by a routing of its own.

        Args:
            router: A `litellm.Router`. It keeps everything else, also when its settings are updated.

        Returns:
            The Router.

        Raises:
            ConfigError: A tier's group is not one of the Router's, the new one's name is taken, or LiteLLM keeps
                its own way to ask.
        """
        if (here := _litellm()) >= UNTRIED:
            _log.warning("Routing was tried with litellm below %d.%d, and this is %d.%d", *UNTRIED, *here)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # litellm 1.109 renames what 1.106 has
            known = sorted(router.get_model_names())
            if self.group in known:
                raise ConfigError(f"group={self.group!r}: the Router has such a model already; give another name")
            deployments: dict[str, Any] = {}
            for name, tier in self.tiers.items():
                found = router.get_model_list(model_name=tier.model)
                if not found:
                    allowed = ", ".join(map(repr, known))
                    raise ConfigError(f"tiers[{name!r}]={tier.model!r}: the Router has no such model; it has {allowed}")
                deployments[name] = found[0]
            priced = {
                name: Tier(model_of(deployments[name], tier.model), capabilities=tier.capabilities, **tier.params)
                for name, tier in self.tiers.items()
            }
            chooser = router_for(priced, self._router, shadow=self.shadow)
            providers = {name: _provider(deployments[name]) for name in self.tiers}
            group = Group(self.group, router, chooser, self.tiers, providers, self._cascade)
            # In every other way to ask, "auto" is the strongest tier; and it is listed.
            strongest = self.tiers[chooser.names[-1]].model
            aliases: dict[str, Any] = {**router.model_group_alias, self.group: strongest}
            ways = {way: own for way in ASKED if (own := getattr(router, way, None)) is not None}
            _set(router, {way: group.routed(way, own) for way, own in ways.items()} | {"model_group_alias": aliases})
            self.router = chooser
        return router


def _set(router: Router, new: Mapping[str, Any]) -> None:
    """Set these attributes of a Router, or none of them.

    Raises:
        ConfigError: It keeps its own way to ask.
    """
    own = vars(router)
    before = {name: own[name] for name in new if name in own}
    name = ""
    try:
        for name, value in new.items():
            setattr(router, name, value)
            if name in CHATS and getattr(router, name) is not value:
                raise AttributeError(name)
    except (AttributeError, TypeError) as error:
        for each in new:
            own.pop(each, None)
        own.update(before)
        raise ConfigError(f"this litellm's Router does not let its {name} be replaced; it cannot be routed") from error


def model_of(deployment: Mapping[str, Any], group: str) -> str:
    """The model that a deployment is, in the price book's words."""
    params, info = deployment["litellm_params"], deployment.get("model_info") or {}
    model = str(info.get("base_model") or params.get("base_model") or params["model"])
    return group if "*" in model else model


def _provider(deployment: Mapping[str, Any]) -> str:
    params = deployment["litellm_params"]
    try:
        return litellm.get_llm_provider(params["model"], params.get("custom_llm_provider"))[1]
    except Exception:  # noqa: BLE001 (one that LiteLLM will complain about itself)
        return str(params["model"])


def _litellm() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version("litellm"))[:2]))
