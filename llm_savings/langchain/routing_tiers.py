# pyright: standard
"""What `RoutedChatModel` and `RoutingMiddleware` share: models as tiers, and what of a call routing is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage

from llm_savings.bounds import limits
from llm_savings.errors import ConfigError
from llm_savings.evidence import noted
from llm_savings.labels import text
from llm_savings.routing import ComplexityRouter, Decision, Tier
from llm_savings.routing.history import portable_content

Routing = ComplexityRouter | Callable[..., ComplexityRouter] | None
"""A router for tiers of these names, what makes one of them (such as `ComplexityRouter.rules`), or None."""

_CONVERSATION = ("thread_id", "session_id", "conversation_id")
_AT_LEAST = ("at_least",)
_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
# They take marks of what is to be cached in a prompt's blocks, or take them off.
_TAKE_MARKS = frozenset(("anthropic", "bedrock", "google", "litellm"))


class ModelTiers:
    """Chat models by the names of their tiers, and the router that chooses among them.

    Attributes:
        models: Tier name -> chat model, perhaps with parameters bound, from the cheapest to the strongest.
        bare: The same without what is bound.
        router: Who decides.

    Raises:
        ConfigError: A tier is no chat model, or the router is not one for these tiers.
    """

    def __init__(self, models: Mapping[str, Any], router: Routing = None, *, shadow: bool = False) -> None:
        if not isinstance(cast(object, models), Mapping):
            raise ConfigError(f"tiers={models!r}; give a mapping such as {{'simple': mini, 'complex': gpt4o}}")
        self.models = dict(models)
        self.bare = {name: bare(name, model) for name, model in models.items()}
        self.router = _router({name: Tier(_named(model)) for name, model in self.bare.items()}, router, shadow)
        self._providers = {name: _told(model, "ls_provider") for name, model in self.bare.items()}
        self._mixed = len({_maker(provider) for provider in self._providers.values()}) > 1

    @property
    def strongest(self) -> BaseChatModel:
        """The chat model of the last tier."""
        return self.bare[self.router.names[-1]]

    def decided(self, messages: object, config: Mapping[str, Any], given: Mapping[str, Any], **known: Any) -> Decision:
        """Where a call goes.

        Args:
            messages: Its messages; text, or anything that LangChain will refuse, is passed on as it is.
            config: The config of the call, whose metadata or `configurable` may name the conversation, and with
                `at_least` the weakest tier that will do.
            given: The parameters of the call.
            known: `tools` and `response_format` where they are not among them.
        """
        sources = (config.get("configurable") or {}, config.get("metadata") or {})
        told = {"tools": given.get("tools"), "response_format": given.get("response_format"), **known}
        if isinstance(messages, list):
            messages = [_asked(message) for message in messages if isinstance(message, BaseMessage)]
        return self.router.route(
            messages,
            max_tokens=limits(given)[0],
            conversation=conversation_of(config),
            at_least=next(filter(None, (text(source, _AT_LEAST) for source in sources)), None),
            **told,
        )

    def messages_for(self, tier: str, messages: Sequence[BaseMessage]) -> list[Any]:
        """The messages as a tier's provider takes them: copies, where another provider's parts are taken out."""
        provider = self._providers[tier]
        return [_portable(message, provider) for message in messages] if self._mixed else [*messages]


def conversation_of(config: Mapping[str, Any]) -> str | None:
    """The name of the conversation that a call belongs to, if its config tells."""
    sources = (config.get("configurable") or {}, config.get("metadata") or {})
    return next(filter(None, (text(source, _CONVERSATION) for source in sources)), None)


def with_evidence(metadata: Mapping[str, Any] | None, decision: Decision, **more: Any) -> Mapping[str, Any]:
    """A run's metadata that says what routing did; the same where the package is switched off."""
    if "disabled" in decision.reasons:
        return metadata or {}
    return noted(metadata, "routing", {**decision.evidence(), **more})


def with_params(decision: Decision, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a call: the caller's own, and those of the tier that the caller does not set."""
    params = dict(decision.params)
    if limits(given)[0] is not None:  # the same limit has several names
        params = {name: value for name, value in params.items() if limits({name: value})[0] is None}
    return {**params, **given}


def bare(name: str, model: object) -> BaseChatModel:
    """The chat model of a tier without what is bound to it.

    Raises:
        ConfigError: There is none.
    """
    inner: Any = model
    for _ in range(8):
        if isinstance(inner, BaseChatModel):
            return inner
        inner = getattr(inner, "bound", None) or getattr(inner, "runnable", None)  # .bind(), .with_fallbacks()
    raise ConfigError(f"tiers[{name!r}] is {type(model).__name__}; give a chat model, such as ChatOpenAI(...)")


def _named(model: BaseChatModel) -> str:
    return _told(model, "ls_model_name") or type(model).__name__


def _told(model: BaseChatModel, key: str) -> str:
    return str(cast("Mapping[str, Any]", model._get_ls_params()).get(key) or "")


def _router(tiers: Mapping[str, Tier], router: Routing, shadow: bool) -> ComplexityRouter:
    if router is None:
        return ComplexityRouter(tiers, shadow=shadow)
    found = router if isinstance(router, ComplexityRouter) or not callable(router) else router(tiers, shadow=shadow)
    if not isinstance(found, ComplexityRouter):
        raise ConfigError(
            f"router is {type(found).__name__}; give a ComplexityRouter, or what makes one of tiers, such as "
            "ComplexityRouter.rules"
        )
    if found.names != tuple(tiers):
        raise ConfigError(f"router has the tiers {list(found.names)}, and tiers={list(tiers)}; give both the same")
    if shadow and not found.shadow:
        raise ConfigError("shadow=True, but the router given is not in shadow; give it shadow=True when it is made")
    return found


def _asked(message: BaseMessage) -> dict[str, Any]:
    """A message as the router reads it."""
    role = message.role if isinstance(message, ChatMessage) else _ROLES.get(message.type, message.type)
    return {"role": role, "content": message.content, "tool_calls": getattr(message, "tool_calls", None)}


def _portable(message: BaseMessage, provider: str) -> BaseMessage:
    if isinstance(message, AIMessage):
        wrote = message.response_metadata.get("model_provider")
        if not isinstance(wrote, str) or _maker(wrote) == _maker(provider):
            return message
        # What every provider takes of another's answer: its words, and its calls of tools.
        return AIMessage(str(message.text), tool_calls=message.tool_calls, id=message.id, name=message.name)
    if isinstance(message.content, list) and _maker(provider) not in _TAKE_MARKS:
        return message.model_copy(update={"content": portable_content(message.content)})
    return message


def _maker(provider: str) -> str:
    """Whose messages a provider's name stands for; LangChain's integrations name one provider in several ways."""
    words: Sequence[str] = re.split(r"[_\W]+", provider.lower())
    known = {"azure": "openai", "openai": "openai", "bedrock": "bedrock", "google": "google"}
    return next((known[word] for word in words if word in known), words[0])
