# pyright: standard
"""`BudgetMiddleware`: an agent whose budget is gone says so and ends, instead of failing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage

from llm_savings.errors import BudgetExceededError, ConfigError

_MESSAGE = "I have to stop here: the budget for this work is used up."
_KEY = "llm_savings"


class BudgetMiddleware(AgentMiddleware[Any, Any, Any]):
    """Ends an agent of `langchain.agents.create_agent` when a budget stops one of its model calls.

    The budget itself is the callback's. The agent's last message is an AIMessage; what its tools found so far is kept,
    and `response_metadata["llm_savings"]["stopped"]` of that message says which budget has no room.

    Args:
        on_exceeded: "end" the agent with a last message, or raise the "error" as without this middleware.
        message: What the last message says, or a callable that makes it of the BudgetExceededError.

    Raises:
        ConfigError: `on_exceeded` is something else.

    Example:
        >>> agent = create_agent(model, tools, middleware=[BudgetMiddleware()])           # doctest: +SKIP
        >>> cost = CostCallback("costs.db", budget=Budget(daily="50"))                    # doctest: +SKIP
        >>> agent.invoke({"messages": [question]}, config={"callbacks": [cost]})          # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        on_exceeded: Literal["end", "error"] = "end",
        message: str | Callable[[BudgetExceededError], str] = _MESSAGE,
    ) -> None:
        super().__init__()
        if on_exceeded not in ("end", "error"):
            raise ConfigError(f"on_exceeded is {on_exceeded!r}; expected 'end' or 'error'")
        self.on_exceeded, self.message = on_exceeded, message

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | AIMessage:
        """Call the model, or say that there is no money for it."""
        try:
            return handler(request)
        except BudgetExceededError as error:
            return self._last(error)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | AIMessage:
        """The same under asyncio."""
        try:
            return await handler(request)
        except BudgetExceededError as error:
            return self._last(error)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """End here. An agent with a `response_format` would otherwise ask for the missing answer again, for ever."""
        last = state["messages"][-1]
        stopped = "stopped" in (last.response_metadata.get(_KEY) or ())
        return {"jump_to": "end"} if stopped else None

    def _last(self, error: BudgetExceededError) -> AIMessage:
        if self.on_exceeded == "error":
            raise error
        text = self.message if isinstance(self.message, str) else self.message(error)
        return AIMessage(text, response_metadata={_KEY: {"stopped": str(error)}})
