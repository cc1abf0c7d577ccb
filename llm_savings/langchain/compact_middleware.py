# pyright: standard
"""`CompactFormatMiddleware`: what an agent saves whose answer has a compact form, for the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from llm_savings.evidence import noted

_Answer = ModelResponse[Any] | AIMessage


class CompactFormatMiddleware(AgentMiddleware[Any, Any, Any]):
    """Notes for the ledger what an agent of `create_agent` with a `compact_response_format` saves; it changes nothing.

    Only a call that gives the answer saves something, not one that calls a tool. Put it after middleware that chooses
    the model, such as `RoutingMiddleware`.

    Example:
        >>> form = compact_response_format(Review, many=True)                                       # doctest: +SKIP
        >>> create_agent(model, tools, response_format=form, middleware=[CompactFormatMiddleware()])  # doctest: +SKIP
    """

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> _Answer:
        """Call the model, with a note."""
        return handler(_told(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> _Answer:
        """The same under asyncio."""
        return await handler(_told(request))


def _told(request: ModelRequest[Any]) -> ModelRequest[Any]:
    wanted: Any = request.response_format
    evidence = getattr(getattr(wanted, "schema", wanted), "output_evidence", None)
    if evidence is None or not isinstance(request.model, BaseChatModel):
        return request
    metadata = noted(request.model.metadata, "output", evidence)
    return request.override(model=request.model.model_copy(update={"metadata": metadata}))
