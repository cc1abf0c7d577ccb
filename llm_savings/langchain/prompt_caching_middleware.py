# pyright: standard
"""`PromptCachingMiddleware`: each model call of an agent is marked for the provider's cache, where that pays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage

from llm_savings.errors import ConfigError
from llm_savings.langchain.prompt_caching import with_prompt_caching
from llm_savings.marked import Marking
from llm_savings.prompt_cache import Memory

_Answer = ModelResponse[Any] | AIMessage
_MOST = 64


class PromptCachingMiddleware(AgentMiddleware[Any, Any, Any]):
    """Marks the tools, system text and history of an agent of `langchain.agents.create_agent`.

    Put it after middleware that chooses the model, such as `RoutingMiddleware`. See `with_prompt_caching`; a model that
    it does not take is asked without marks.

    Args:
        memory: What is known of prefixes. Give the agents of one program the same; or a file's path or a
            `postgresql://` or `redis://` URL where processes or machines share what they learn (see `Memory`).
        shadow: Plan and record, but send every prompt as it is.
        own_servers: Base URLs of servers that take what OpenAI takes, such as your gateway.

    Example:
        >>> agent = create_agent(claude, tools, middleware=[PromptCachingMiddleware()])    # doctest: +SKIP
    """

    def __init__(
        self, *, memory: Memory | str | None = None, shadow: bool = False, own_servers: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.memory = Marking(memory).memory
        self._how: dict[str, Any] = {"memory": self.memory, "shadow": shadow, "own_servers": own_servers}
        self._models: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> _Answer:
        """Call the model, with marks."""
        return handler(request.override(model=self._marking(request.model)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> _Answer:
        """The same under asyncio."""
        return await handler(request.override(model=self._marking(request.model)))

    def _marking(self, model: Any) -> Any:
        known = self._models.get(id(model))
        if known is not None and known[0] is model:
            return known[1]
        try:
            found: Any = with_prompt_caching(model, **self._how)
        except ConfigError:
            found = model
        self._models[id(model)] = (model, found)
        if len(self._models) > _MOST:
            self._models.popitem(last=False)
        return found
