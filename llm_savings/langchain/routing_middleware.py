# pyright: standard
"""`RoutingMiddleware`: each model call of an agent goes to the cheapest tier that will do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding, ensure_config

from llm_savings.errors import BudgetError, ConfigError
from llm_savings.langchain.routing_tiers import ModelTiers, tell_conversation
from llm_savings.routed import Routing, params_beside, with_evidence

_Answer = ModelResponse[Any] | AIMessage


class RoutingMiddleware(AgentMiddleware[Any, Any, Any]):
    """Chooses the model of each call of an agent of `langchain.agents.create_agent`.

    The agent's own model is replaced, so middleware that comes after this one sees the chosen tier's. Everything else
    is as with `RoutedChatModel`, which may be an agent's model as well; a cascade is only there.

    Args:
        tiers: Tier name -> chat model, perhaps with parameters bound, from the cheapest to the strongest.
        router: A `ComplexityRouter` for tiers of these names, or what makes one of them.
        shadow: Decide and record, but send everything to the baseline's tier.

    Raises:
        ConfigError: A tier is no chat model, or the router is not one for these tiers.

    Example:
        >>> routing = RoutingMiddleware(tiers={"simple": mini, "complex": gpt4o})        # doctest: +SKIP
        >>> agent = create_agent(gpt4o, tools, middleware=[routing])                    # doctest: +SKIP
    """

    def __init__(self, *, tiers: Mapping[str, Any], router: Routing = None, shadow: bool = False) -> None:
        super().__init__()
        self._tiers = ModelTiers(tiers, router, shadow=shadow)
        for name, model in tiers.items():
            if not isinstance(model, BaseChatModel) and not isinstance(getattr(model, "bound", None), BaseChatModel):
                raise ConfigError(
                    f"tiers[{name!r}] is {type(model).__name__}; give a chat model, perhaps with parameters bound. For "
                    "retries and fallbacks in an agent there are ModelRetryMiddleware and ModelFallbackMiddleware"
                )

    @property
    def router(self) -> Any:
        """The `ComplexityRouter`."""
        return self._tiers.router

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> _Answer:
        """Call the model of the tier that the router chooses."""
        with self._told():
            return handler(self._routed(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> _Answer:
        """The same under asyncio."""
        with self._told():
            return await handler(self._routed(request))

    def _routed(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        config, system = ensure_config(), [request.system_message] if request.system_message else []
        by_provider = isinstance(request.response_format, ProviderStrategy)
        decision = self._tiers.decided(
            [*system, *request.messages],
            config,
            request.model_settings,
            tools=request.tools,
            response_format={"type": "json_schema"} if by_provider else None,
        )
        bound = self._tiers.models[decision.tier]
        own = dict(bound.kwargs) if isinstance(bound, RunnableBinding) else {}
        model = self._tiers.bare[decision.tier]
        metadata = {**(config.get("metadata") or {}), **(model.metadata or {})}
        changed: dict[str, Any] = {
            # Its metadata is the run's, and no part of what a cache takes for the question.
            "model": model.model_copy(update={"metadata": with_evidence(metadata, decision)}),
            "model_settings": {
                **own,
                **params_beside(decision.params, request.model_settings),
                **request.model_settings,
            },
            "messages": self._tiers.messages_for(decision.tier, request.messages),
        }
        if system:
            (changed["system_message"],) = self._tiers.messages_for(decision.tier, system)
        return request.override(**changed)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell the router how the thread goes; that there is no money is no answer."""
        try:
            yield
        except BudgetError:
            raise
        except Exception:
            tell_conversation(self._tiers.router, ensure_config(), good=False)
            raise
        tell_conversation(self._tiers.router, ensure_config(), good=True)
