# pyright: standard
"""What `RoutedChatModel` and `RoutingMiddleware` share: models as tiers, and what of a call routing is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.runnables import RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase

from llm_savings.bounds import limits
from llm_savings.errors import ConfigError
from llm_savings.routed import Routing, at_least_in, conversation_in, router_for
from llm_savings.routing import ComplexityRouter, Decision, Tier
from llm_savings.routing.history import portable_content

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
        self.router = router_for(
            {name: Tier(_named(model)) for name, model in self.bare.items()}, router, shadow=shadow
        )
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
        sources = _sources(config)
        told = {"tools": given.get("tools"), "response_format": given.get("response_format"), **known}
        if isinstance(messages, list):
            messages = [_asked(message) for message in messages if isinstance(message, BaseMessage)]
        return self.router.route(
            messages,
            max_tokens=limits(given)[0],
            conversation=conversation_in(*sources),
            at_least=at_least_in(*sources),
            **told,
        )

    def messages_for(self, tier: str, messages: Sequence[BaseMessage]) -> list[Any]:
        """The messages as a tier's provider takes them: copies, where another provider's parts are taken out."""
        provider = self._providers[tier]
        return [_portable(message, provider) for message in messages] if self._mixed else [*messages]


def tell_conversation(router: ComplexityRouter, config: Mapping[str, Any], *, good: bool) -> None:
    """Note how an answer was for the conversation that a call belongs to, if its config names one."""
    if (conversation := conversation_in(*_sources(config))) is not None:
        (router.answered if good else router.failed)(conversation)


def _sources(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return config.get("configurable") or {}, config.get("metadata") or {}


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


def adapted(model: Any, how: Callable[[Any], Any]) -> Any:
    """A tier's model after `how` was done to the chat models in it; what is bound, its retries and fallbacks stay.

    LangChain's own wrappers pass `bind_tools` on to the model within, and are gone, or do not know it.
    """
    if isinstance(model, RunnableWithFallbacks):
        others = [adapted(each, how) for each in model.fallbacks]
        return model.model_copy(update={"runnable": adapted(model.runnable, how), "fallbacks": others})
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": adapted(model.bound, how)})
    return how(model)


def _named(model: BaseChatModel) -> str:
    return _told(model, "ls_model_name") or type(model).__name__


def _told(model: BaseChatModel, key: str) -> str:
    return str(cast("Mapping[str, Any]", model._get_ls_params()).get(key) or "")


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
