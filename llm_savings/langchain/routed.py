# pyright: standard, reportIncompatibleMethodOverride=false
"""`RoutedChatModel`: a chat model that is several, and asks the cheapest of them that will do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import PrivateAttr

from llm_savings.errors import ConfigError
from llm_savings.langchain.routed_calls import STRUCTURED, BoundTool, RoutedCall, Structured
from llm_savings.langchain.routing_tiers import ModelTiers, bare
from llm_savings.routed import Routing

_NOT_HERE = ("cache", "rate_limiter", "custom_get_token_ids")


class RoutedChatModel(BaseChatModel):
    """Sends each call to the cheapest tier that will do, and is a chat model like any other.

    Works in invoke, stream, batch and their async twins, in events, with tools, structured output, retries,
    fallbacks, agents and LangGraph. Each call is one run, that of the chosen tier's model, whose metadata says what
    routing did; `CostCallback` keeps it, and `saved` counts it. A conversation, known by the `thread_id` or
    `session_id` of its config, sticks to its tier; where it changes provider, the copy that is sent has no thoughts
    and cache marks of the other. `config={"metadata": {"at_least": "complex"}}` asks for a stronger tier.

    Caches, rate limiters, retries and fallbacks of a tier's own work as ever: set them on the tier's model.

    Args:
        tiers: Tier name -> chat model, perhaps with parameters bound, from the cheapest to the strongest.
        router: A `ComplexityRouter` for tiers of these names, or what makes one of them, such as
            `ComplexityRouter.rules` or `partial(ComplexityRouter, rules=[...], experiment=0.05)`.
        shadow: Decide and record, but send everything to the baseline's tier.
        cascade: Judge a cheaper tier's answer, and ask the next stronger one where it does not do. A callable is the
            judge: from the text of an answer to the probability that it will do. An answer is held back until it is
            judged, in a stream too; events of version v3 are not judged. Both calls are in the ledger.
        given: `temperature`, `max_tokens` and `stop` of every call; `streaming`; and what LangChain gives every
            model: `callbacks`, `tags`, `metadata`, `name`, ...

    Raises:
        ConfigError: A tier is no chat model, the router is not one for these tiers, or there is no such setting.

    Example:
        >>> model = RoutedChatModel(tiers={"simple": mini, "complex": gpt4o})      # doctest: +SKIP
        >>> model.invoke("파이썬이 뭐야?").response_metadata["model_name"]            # doctest: +SKIP
        'gpt-4o-mini-2024-07-18'
    """

    tiers: dict[str, Any]
    router: Any = None
    shadow: bool = False
    cascade: Any = False
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    streaming: bool | None = None

    _tiers: ModelTiers = PrivateAttr()

    def __init__(
        self,
        *,
        tiers: Mapping[str, Any],
        router: Routing = None,
        shadow: bool = False,
        cascade: bool | Callable[[str], float] = False,
        **given: Any,
    ) -> None:
        known = type(self).model_fields
        for name, value in given.items():
            if name not in known:
                allowed = sorted(set(known) - set(_NOT_HERE))
                raise ConfigError(f"{name}={value!r}: there is no such setting; there are {', '.join(allowed)}")
            if name in _NOT_HERE and value is not None:
                raise ConfigError(f"{name}: give it to the tiers' own models, each of which keeps its own")
        if not isinstance(cascade, bool) and not callable(cascade):
            raise ConfigError(f"cascade={cascade!r}; give True, or a callable from an answer's text to a probability")
        found = ModelTiers(tiers, router, shadow=shadow)
        given |= {"tiers": found.models, "router": found.router, "shadow": found.router.shadow, "cascade": cascade}
        super().__init__(**given)
        self._tiers = found

    @property
    def _llm_type(self) -> str:
        return "llm-savings-routed"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"tiers": {name: tier.model for name, tier in self.router.tiers.items()}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        names = ", ".join(tier.model for tier in self.router.tiers.values())
        params = {"ls_provider": "llm-savings", "ls_model_name": f"routed({names})"}
        return {**params, **super()._get_ls_params(stop=stop or self.stop, **kwargs)}

    def _resolve_model_profile(self) -> Any:
        """What every tier can do: who asks does not know which of them will answer."""
        found = [bare(name, model).profile or {} for name, model in self.tiers.items()]
        keys = set.intersection(*(set(profile) for profile in found))
        values = {key: [cast("dict[str, Any]", profile)[key] for profile in found] for key in keys}
        return {key: min(each) for key, each in values.items() if all(isinstance(one, int) for one in each)} or None

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: Any = None, **kwargs: Any
    ) -> Any:
        """Ask the tier that the router chooses."""
        call = RoutedCall(self, input, config, stop, kwargs)
        while True:
            with call.asking():
                call.answer = call.runnable.invoke(call.input, call.config, **call.kwargs)
            if call.will_do():
                return call.wanted

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: Any = None, **kwargs: Any
    ) -> Any:
        """The same under asyncio."""
        call = RoutedCall(self, input, config, stop, kwargs)
        while True:
            with call.asking():
                call.answer = await call.runnable.ainvoke(call.input, call.config, **call.kwargs)
            if call.will_do():
                return call.wanted

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream the answer of the tier that the router chooses."""
        if self._streaming_disabled(**kwargs):
            yield self.invoke(input, config, stop=stop, **kwargs)
            return
        call = RoutedCall(self, input, config, stop, kwargs)
        while call.judged:
            with call.asking():
                call.answer = call.runnable.invoke(call.input, call.config, **call.kwargs)
            if call.will_do():
                yield call.wanted
                return
        with call.asking():
            yield from call.runnable.stream(call.input, call.config, **call.kwargs)

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same under asyncio."""
        if self._streaming_disabled(**kwargs):
            yield await self.ainvoke(input, config, stop=stop, **kwargs)
            return
        call = RoutedCall(self, input, config, stop, kwargs)
        while call.judged:
            with call.asking():
                call.answer = await call.runnable.ainvoke(call.input, call.config, **call.kwargs)
            if call.will_do():
                yield call.wanted
                return
        with call.asking():
            async for piece in call.runnable.astream(call.input, call.config, **call.kwargs):
                yield piece

    def stream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """LangChain's events; those of version v3 come from the tier's model itself."""
        if kwargs.get("version") != "v3":
            return super().stream_events(input, config, **kwargs)
        call = RoutedCall(self, input, config, kwargs.pop("stop", None), kwargs)
        return call.runnable.stream_events(call.input, call.config, **call.kwargs)

    def astream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same under asyncio."""
        if kwargs.get("version") != "v3":
            return super().astream_events(input, config, **kwargs)
        call = RoutedCall(self, input, config, kwargs.pop("stop", None), kwargs)
        return call.runnable.astream_events(call.input, call.config, **call.kwargs)

    def generate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """The old way to ask: one answer for each list of messages."""
        config, kwargs = _split(kwargs, callbacks)
        return _result([self.invoke(each, config, stop=stop, **kwargs) for each in messages])

    async def agenerate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """The same under asyncio."""
        config, kwargs = _split(kwargs, callbacks)
        return _result([await self.ainvoke(each, config, stop=stop, **kwargs) for each in messages])

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        config: Any = {"callbacks": run_manager.get_child()} if run_manager else None
        answer = self.invoke(messages, config, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, Any]:
        """Tools as they are given; the chosen tier's model takes them in its own way."""
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[BoundTool.of(tool) for tool in tools], **chosen, **kwargs)

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **kwargs: Any) -> Runnable[Any, Any]:
        """Answers of a schema, each by the way of the chosen tier's model."""
        return self.bind(**{STRUCTURED: Structured(self._tiers.models, schema, include_raw, kwargs)})

    def get_token_ids(self, text: str) -> list[int]:
        """As the strongest tier's model counts."""
        return self._tiers.strongest.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """As the strongest tier's model counts."""
        return self._tiers.strongest.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        """As the strongest tier's model counts."""
        return self._tiers.strongest.get_num_tokens_from_messages(messages, tools)


def _split(given: Mapping[str, Any], callbacks: Any) -> tuple[RunnableConfig, dict[str, Any]]:
    """What of the old way's parameters is the run's config, and what the model's."""
    config = {name: value for name in ("tags", "metadata", "run_name", "run_id") if (value := given.get(name))}
    rest = {name: value for name, value in given.items() if name not in ("tags", "metadata", "run_name", "run_id")}
    return cast("RunnableConfig", {**config, "callbacks": callbacks}), rest


def _result(answers: Sequence[AIMessage]) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=answer)] for answer in answers])
