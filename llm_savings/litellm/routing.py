"""`ComplexityRouting`: a LiteLLM Router whose model "auto" is the cheapest group that will do."""
# pyright: standard, reportIncompatibleMethodOverride=false

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import litellm
from litellm.router_utils.fallback_event_handlers import record_pre_routing_selection
from litellm.types.router import CustomRoutingStrategyBase, RouterRateLimitError

from llm_savings.bounds import limits
from llm_savings.errors import ConfigError
from llm_savings.evidence import noted
from llm_savings.litellm.cascades import Cascade, cascading, underway, without
from llm_savings.routed import Routing, at_least_in, conversation_in, params_beside, router_for, with_evidence
from llm_savings.routing import ComplexityRouter, Decision, Tier, portable
from llm_savings.routing.tiers import read_tiers

if TYPE_CHECKING:
    from litellm.router import Router

_log = logging.getLogger("llm_savings.litellm")
_TAKE_MARKS = ("anthropic", "bedrock", "vertex")  # providers that know thoughts and marks of what is to be cached
_MARKS = frozenset(("thinking_blocks", "cache_control", "cachePoint"))
_ROUTED = "llm_savings_routed"  # where the Router's metadata says, for its fallbacks, what was chosen
ALLOWED = "llm_savings_tiers"
"""Where a call's metadata names the tiers that its caller may use; only the proxy's plug-in writes it."""
_FOR_RESPONSES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


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
            ConfigError: A tier's group is not one of the Router's, the new one's name is taken, or LiteLLM is too new.
        """
        if find_spec("litellm.router_rust"):  # its choice asks the strategy again, without end
            raise ConfigError('litellm 1.110 has another Router; pip install "litellm<1.110" to route with it')
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
            self.router = router_for(priced, self._router, shadow=self.shadow)
            strategy = _Strategy(self, router, deployments)
            # Retries look for other deployments of the group that was asked for; should somebody take the strategy
            # away, "auto" still answers.
            aliases: dict[str, Any] = {**router.model_group_alias, self.group: strategy.groups[strategy.names[-1]]}
            router.model_group_alias = aliases
            register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
            register(strategy)
            # Updating `routing_strategy` would take the strategy off with the old one.
            router._reset_custom_routing_strategy = _keep
            if self._cascade:
                cascading(router, partial(strategy.cascade, self._cascade if callable(self._cascade) else None))
            router.text_completion = strategy.text_completion(router.text_completion)
        return router


class _Strategy(CustomRoutingStrategyBase):
    """What a Router asks for a deployment, in the place of its own choice, to which it leaves the rest."""

    def __init__(self, routing: ComplexityRouting, router: Router, deployments: Mapping[str, Any]) -> None:
        self.group = routing.group
        self.router = routing.router
        self.names: tuple[str, ...] = self.router.names
        self.groups = {name: tier.model for name, tier in routing.tiers.items()}
        self._host, self._params = router, {name: tier.params for name, tier in routing.tiers.items()}
        self._sync, self._async = router.get_available_deployment, router.async_get_available_deployment
        self._providers = {name: _provider(deployments[name]) for name in self.names}

    def get_available_deployment(
        self, model: str, messages: Any = None, input: Any = None, specific_deployment: Any = False, **given: Any
    ) -> Any:
        """A deployment of the group that the router chooses, or of the one that was asked for."""
        choice = _Choice(self, model, messages, input, {"specific_deployment": specific_deployment, **given})
        while True:
            try:
                return self._sync(**choice.asked)
            except RouterRateLimitError:
                if not choice.gives_way():
                    raise

    async def async_get_available_deployment(
        self, model: str, messages: Any = None, input: Any = None, specific_deployment: Any = False, **given: Any
    ) -> Any:
        """The same under asyncio."""
        choice = _Choice(self, model, messages, input, {"specific_deployment": specific_deployment, **given})
        while True:
            try:
                return await self._async(**choice.asked)
            except RouterRateLimitError:
                if not choice.gives_way():
                    raise

    def cascade(
        self, judge: Callable[[str], float] | None, model: str, messages: Any, kwargs: Mapping[str, Any]
    ) -> Cascade | None:
        """The cascade of a call to the new group, decided ahead; None for another group, or where routing fails."""
        if model != self.group:
            return None
        try:
            return Cascade(self.router, self.router.route(messages, **told(self.router, kwargs)), judge)
        except Exception as error:  # noqa: BLE001 (a saving must not cost a call)
            _log.warning("Routing failed (%s): its answer is not judged", type(error).__name__)
            return None

    def text_completion(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """LiteLLM's own sends the name of the group to the provider; here it is the chosen deployment's."""

        @wraps(own)
        def text_completion(model: str, prompt: Any, **given: Any) -> Any:
            if model != self.group:
                return own(model=model, prompt=prompt, **given)
            given |= {"metadata": {**(given.get("metadata") or {}), "model_group": model}}
            given.setdefault("num_retries", self._host.num_retries)
            asked = [{"role": "user", "content": prompt if isinstance(prompt, str) else str(prompt)}]
            chosen = self._host.get_available_deployment(model=model, messages=asked, request_kwargs=given)
            given = {**self._host.default_litellm_params, **chosen["litellm_params"], **given}
            given.pop("messages", None)  # a copy of the prompt, where marks were taken out
            return litellm.text_completion(prompt=prompt, **{"caching": self._host.cache_responses, **given})

        return text_completion

    def has_fallback(self, group: str) -> bool:
        """Whether the Router has somewhere to go when a group fails."""
        settings = getattr(self._host, "settings", None)  # litellm 1.109's way
        fallbacks: Any = settings().fallbacks if settings else self._host.fallbacks
        return any(isinstance(each, Mapping) and (group in each or "*" in each) for each in fallbacks or ())

    def portable_for(self, tier: str, messages: Any) -> Any:
        """The messages as a tier's provider takes them: a copy, where another's thoughts and marks are taken out."""
        mixed = len(set(self._providers.values())) > 1
        if not mixed or self._providers[tier].startswith(_TAKE_MARKS) or not isinstance(messages, list):
            return messages
        return portable(messages) if any(map(_is_marked, messages)) else messages

    def params_for(self, decision: Decision, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the tier that the caller does not set."""
        return params_beside(replace(decision, params={**self._params[decision.tier], **decision.params}), kwargs)


class _Choice:
    """One choice of a deployment on its way. Where routing fails, the call goes to the strongest group.

    Attributes:
        asked: What the Router's own choice is asked.
    """

    def __init__(self, strategy: _Strategy, model: str, messages: Any, input: Any, given: dict[str, Any]) -> None:
        self.asked: dict[str, Any] = {"model": model, "messages": messages, "input": input, **given}
        self._strategy, self._decision, self._cascade = strategy, None, None
        if model != strategy.group:
            self._fallen(model)
            return
        self._kwargs: dict[str, Any] = given.get("request_kwargs") or {}
        self._allowed = _allowed_in(self._kwargs, strategy.names)
        self.asked["model"] = strategy.groups[self._allowed[-1]]
        self._where = "litellm_metadata" if "litellm_metadata" in self._kwargs else "metadata"
        self._metadata, self._messages, self._set = self._kwargs.get(self._where), messages, ()
        self._cascade = underway(self._metadata or {})
        self._responses = messages is None and self._where == "litellm_metadata"
        if messages is not None or self._responses:  # else it is an embedding
            self._try(lambda: self._decide(messages if messages is not None else input))

    def gives_way(self) -> bool:
        """Whether the next stronger group is to be asked, as no deployment of this one can be."""
        decision, strategy = self._decision, self._strategy
        if decision is None or strategy.has_fallback(self.asked["model"]):
            return False
        stronger = strategy.router.escalated(decision, "cooldown")
        if stronger is not None:
            self._try(lambda: stronger)
        return stronger is not None and self._decision is stronger

    def _decide(self, asked: Any) -> Decision:
        known = told(self._strategy.router, self._kwargs)
        return self._cascade.decision if self._cascade else self._strategy.router.route(asked, **known)

    def _fallen(self, model: str) -> None:
        """Note with a fallback what it fell from, where without routing another model would have been asked."""
        kwargs: dict[str, Any] = self.asked.get("request_kwargs") or {}
        for where in ("metadata", "litellm_metadata"):
            metadata = kwargs.get(where)
            routed = metadata.get(_ROUTED) if isinstance(metadata, Mapping) else None
            if routed and routed["group"] != model and routed["group"] in self._strategy.groups.values():
                kwargs[where] = noted(without(metadata), "routing", {**routed["evidence"], "fallback": True})

    def _try(self, decide: Callable[[], Decision]) -> None:
        try:
            decision = decide()
            if len(self._allowed) < len(self._strategy.names):
                decision = self._strategy.router.within(decision, self._allowed)
            self._aim(decision)
            self._decision = decision
            if self._cascade:
                self._cascade.decision = decision
        except Exception as error:  # noqa: BLE001 (a saving must not cost a call)
            _log.warning("Routing failed (%s): the call goes to %r", type(error).__name__, self.asked["model"])

    def _aim(self, decision: Decision) -> None:
        """Have the call go where the decision says. Only the copy of its parameters that is sent is changed."""
        kwargs, strategy = self._kwargs, self._strategy
        for name in self._set:
            del kwargs[name]
        params = strategy.params_for(decision, kwargs)
        if self._responses:
            params = {_FOR_RESPONSES.get(name, name): value for name, value in params.items()}
        kwargs.update(params)
        self._set = tuple(params)
        self.asked["model"] = group = strategy.groups[decision.tier]
        more = self._cascade.more if self._cascade else {}
        if isinstance(self._metadata, dict):  # the Router's own, where it looks for the fallbacks
            record_pre_routing_selection({self._where: self._metadata}, group)
            self._metadata.pop(_ROUTED, None)
            if decision.model != decision.baseline_model and not decision.shadow and "disabled" not in decision.reasons:
                self._metadata[_ROUTED] = {"group": group, "evidence": {**decision.evidence(), **more}}
        kwargs[self._where] = with_evidence(without(self._metadata), decision, **more)
        messages = strategy.portable_for(decision.tier, self._messages) if self._where == "metadata" else self._messages
        if messages is not self.asked["messages"]:
            kwargs["messages"] = self.asked["messages"] = messages


def told(router: ComplexityRouter, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What routing is told of a call; and how the call before went for the conversation that it belongs to."""
    sources = [found for name in ("metadata", "litellm_metadata") if isinstance(found := kwargs.get(name), Mapping)]
    conversation = conversation_in(*sources, {"session_id": kwargs.get("litellm_session_id")})
    if conversation:
        again = any(source.get("attempted_retries") for source in sources)
        (router.failed if again else router.answered)(conversation)
    return {
        "tools": kwargs.get("tools"),
        "response_format": kwargs.get("response_format"),
        "max_tokens": limits(kwargs)[0],
        "conversation": conversation,
        "at_least": at_least_in(*sources),
    }


def _allowed_in(kwargs: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """The tiers that a call's caller may use, from the cheapest to the strongest; all where nobody says."""
    for place in ("metadata", "litellm_metadata"):
        said = kwargs.get(place)
        allowed = said.get(ALLOWED) if isinstance(said, Mapping) else None
        if isinstance(allowed, list):
            return tuple(name for name in names if name in allowed) or names[:1]
    return names


def _is_marked(message: object) -> bool:
    """Whether a message has thoughts, or marks of what is to be cached, which not every provider takes."""
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    blocks = [message, *(content if isinstance(content, list) else ())]
    return any(
        isinstance(block, Mapping)
        and (not _MARKS.isdisjoint(block) or block.get("type") in ("thinking", "redacted_thinking"))
        for block in blocks
    )


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


def _keep() -> None:
    """In the place of what takes a strategy off."""
