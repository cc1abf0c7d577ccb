# pyright: standard, reportIncompatibleMethodOverride=false
"""`with_prompt_caching`: a chat model that marks its prompts for the provider's cache, where that pays.

The marks are set on the request as the model has made it for the wire, so that nothing of a message is lost on the
way, and LangChain's own caches, tracers and callbacks see the prompt as it was given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import PrivateAttr, SecretStr

from llm_savings.errors import ConfigError, UsageError
from llm_savings.evidence import noted
from llm_savings.marked import Marking
from llm_savings.prompt_cache import Memory, Plan
from llm_savings.usage import Usage

_Model = TypeVar("_Model", bound=Runnable[Any, Any])
_CALL = "llm_savings_prompt"
_KEYS = ("anthropic_api_key", "openai_api_key", "api_key", "aws_access_key_id")
_BASES = ("anthropic_api_url", "openai_api_base", "api_base")


def with_prompt_caching(
    model: _Model,
    *,
    memory: Memory | str | None = None,
    shadow: bool = False,
    own_servers: Sequence[str] = (),
) -> _Model:
    """A copy of a chat model that marks what is worth caching at the provider.

    Anthropic's models get `cache_control` on the tools, system text and messages that come again often enough, OpenAI's
    a `prompt_cache_key` and, from GPT-5.6 on, breakpoints, Bedrock's a `cachePoint`. What the planner decides is in the
    answer's `response_metadata["llm_savings"]`, and `CostCallback` keeps it. Marks that you set yourself stay, and
    count.

    Args:
        model: ChatAnthropic, ChatBedrockConverse, ChatOpenAI, ChatLiteLLM or a model derived from one of them; a
            RoutedChatModel of such models; or one of these with parameters or tools bound.
        memory: What is known of prefixes. Give the models of one program the same; or a file's path or a
            `postgresql://` or `redis://` URL where processes or machines share what they learn (see `Memory`).
        shadow: Plan and record, but send every prompt as it is.
        own_servers: Base URLs of servers that take what OpenAI takes, such as your gateway.

    Raises:
        ConfigError: The model is none of these.

    Example:
        >>> model = with_prompt_caching(ChatAnthropic(model="claude-sonnet-4-5"))       # doctest: +SKIP
        >>> chain = prompt | model | StrOutputParser()                                  # doctest: +SKIP
    """
    return _caching(model, Marking(memory, shadow=shadow, own_servers=own_servers))


def _caching(model: Any, marking: Marking) -> Any:
    if isinstance(model, RunnableBinding):
        return model.model_copy(update={"bound": _caching(model.bound, marking)})
    from llm_savings.langchain.routed import RoutedChatModel  # loads the router

    if isinstance(model, RoutedChatModel):
        given: dict[str, Any] = {name: getattr(model, name) for name in model.model_fields_set}
        given["tiers"] = {name: _caching(tier, marking) for name, tier in model.tiers.items()}
        return RoutedChatModel(**given)
    if not isinstance(model, BaseChatModel) or _on_the_wire(type(model)) is None:
        raise ConfigError(
            f"model is {type(model).__name__}; with_prompt_caching takes ChatAnthropic, ChatBedrockConverse, "
            "ChatOpenAI, ChatLiteLLM, models derived from these, and a RoutedChatModel of them"
        )
    if isinstance(getattr(model, "_marking", None), Marking):
        return model
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", _marking_class(type(model)))
    object.__setattr__(copy, "__pydantic_private__", {**(copy.__pydantic_private__ or {}), "_marking": marking})
    return copy


def _on_the_wire(kind: type) -> str | None:
    """The method of a model in which its request is as it will be sent."""
    known = ("_get_request_payload", "completion_with_retry", "_converse_params")
    return next((name for name in known if callable(getattr(kind, name, None))), None)


class _Call:
    """One request on its way: what was planned for it, and what became of it."""

    def __init__(self, model: Any) -> None:
        self._model, self._marking = model, cast("Marking", model._marking)
        self._plan: Plan | None = None
        self._key = _secret(next((found for name in _KEYS if (found := getattr(model, name, None))), None))

    def marked(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with its marks."""
        model = self._model
        known = model._get_ls_params()
        asked, self._plan = self._marking.marked(
            request,
            model=str(request.get("model") or known.get("ls_model_name")),
            provider=known.get("ls_provider") if known.get("ls_provider") != "litellm" else None,
            base=next((str(base) for name in _BASES if (base := getattr(model, name, None))), None),
            key=self._key,
            dialect="anthropic" if hasattr(model, "completion_with_retry") else None,
        )
        return asked

    def told(self, message: AIMessage) -> None:
        """Say in the answer what was done."""
        if self._plan is not None:
            message.response_metadata = noted(
                message.response_metadata, "prompt_cache", self._marking.evidence(self._plan)
            )

    def ended(self, used: UsageMetadata | None) -> None:
        """Learn from the answer."""
        if self._plan is None:
            return
        try:
            usage = Usage.from_langchain(used) if used else None
        except UsageError:
            usage = None
        self._marking.learn(self._plan, usage, key=self._key)


@lru_cache(maxsize=64)
def _marking_class(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    """A model class that is `kind` in all but this: its requests are marked."""
    wire = _on_the_wire(kind)
    members: dict[str, Any] = {
        # What LangChain shows and what its caches take for the model is the same as before.
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__annotations__": {"_marking": Any},
        "_marking": PrivateAttr(default=None),
        **_asking(kind, _through_client if wire == "_converse_params" else _through_arguments),
    }
    if wire == "_get_request_payload":
        members[wire] = _payload(kind)
    elif wire == "completion_with_retry":
        members |= {"completion_with_retry": _completion(kind), "acompletion_with_retry": _acompletion(kind)}
    meta = cast("Any", type(kind))
    return cast("type[BaseChatModel]", meta(kind.__name__, (kind,), members))


def _payload(kind: Any) -> Callable[..., Any]:
    def _get_request_payload(self: Any, input_: Any, *, stop: Any = None, **kwargs: Any) -> dict[str, Any]:
        call = kwargs.pop(_CALL, None)
        payload = kind._get_request_payload(self, input_, stop=stop, **kwargs)
        return payload if call is None else call.marked(payload)

    return _get_request_payload


def _completion(kind: Any) -> Callable[..., Any]:
    def completion_with_retry(self: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        call = kwargs.pop(_CALL, None)
        return kind.completion_with_retry(self, run_manager=run_manager, **(call.marked(kwargs) if call else kwargs))

    return completion_with_retry


def _acompletion(kind: Any) -> Callable[..., Any]:
    async def acompletion_with_retry(self: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        call = kwargs.pop(_CALL, None)
        asked = call.marked(kwargs) if call else kwargs
        return await kind.acompletion_with_retry(self, run_manager=run_manager, **asked)

    return acompletion_with_retry


def _through_arguments(model: Any, call: _Call) -> tuple[Any, dict[str, Any]]:
    """What is to be asked, and with which arguments, for the call to reach the method that makes the request."""
    return model, {_CALL: call}


def _through_client(model: Any, call: _Call) -> tuple[Any, dict[str, Any]]:
    """The same for a model that makes its request in the method that is asked: its client sees the request."""
    copy = model.model_copy()
    object.__setattr__(copy, "client", _MarkingClient(model.client, call))
    return copy, {}


class _MarkingClient:
    """A client of Bedrock's Converse API, whose requests are marked."""

    def __init__(self, client: Any, call: _Call) -> None:
        self._client, self._call = client, call

    def converse(self, **request: Any) -> Any:
        return self._client.converse(**self._marked(request))

    def converse_stream(self, **request: Any) -> Any:
        return self._client.converse_stream(**self._marked(request))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _marked(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with marks: planned by its parts under the names that they have everywhere else."""
        kit = request.get("toolConfig") or {}
        parts: dict[str, Any] = {"messages": request["messages"], "system": request.get("system") or None}
        parts |= {"tools": kit.get("tools"), "tool_choice": kit.get("toolChoice")}
        more = request.get("additionalModelRequestFields") or {}
        found = self._call.marked({**more, **{name: value for name, value in parts.items() if value is not None}})
        marked = {**request, "messages": found["messages"]}
        if parts["system"] is not None:
            marked["system"] = found["system"]
        if parts["tools"] is not None:
            marked["toolConfig"] = {**kit, "tools": found["tools"]}
        return marked


def _asking(kind: Any, through: Callable[[Any, _Call], tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """The methods of a model that ask its provider, of those that it has itself."""

    def _generate(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if _CALL in kwargs:
            return kind._generate(self, messages, stop, run_manager, **kwargs)
        call = _Call(self)
        model, more = through(self, call)
        return _whole(call, kind._generate(model, messages, stop, run_manager, **kwargs, **more))

    async def _agenerate(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        if _CALL in kwargs:
            return await kind._agenerate(self, messages, stop, run_manager, **kwargs)
        call = _Call(self)
        model, more = through(self, call)
        return _whole(call, await kind._agenerate(model, messages, stop, run_manager, **kwargs, **more))

    def _stream(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        if _CALL in kwargs:
            yield from kind._stream(self, messages, stop, run_manager, **kwargs)
            return
        pieces = _Pieces(_Call(self))
        model, more = through(self, pieces.call)
        for piece in kind._stream(model, messages, stop, run_manager, **kwargs, **more):
            yield pieces.seen(piece)
        pieces.end()

    async def _astream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        if _CALL in kwargs:
            async for piece in kind._astream(self, messages, stop, run_manager, **kwargs):
                yield piece
            return
        pieces = _Pieces(_Call(self))
        model, more = through(self, pieces.call)
        async for piece in kind._astream(model, messages, stop, run_manager, **kwargs, **more):
            yield pieces.seen(piece)
        pieces.end()

    own = {"_generate": _generate, "_agenerate": _agenerate, "_stream": _stream, "_astream": _astream}
    return {name: new for name, new in own.items() if getattr(kind, name) is not getattr(BaseChatModel, name)}


class _Pieces:
    """The pieces of a streamed answer: the first tells what was done, and together they tell the usage."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self._used: UsageMetadata | None = None
        self._told = False

    def seen(self, piece: ChatGenerationChunk) -> ChatGenerationChunk:
        message = cast("AIMessage", piece.message)
        if not self._told:
            self._told = True
            self.call.told(message)
        if message.usage_metadata:
            self._used = add_usage(self._used, message.usage_metadata)
        return piece

    def end(self) -> None:
        self.call.ended(self._used)


def _whole(call: _Call, result: ChatResult) -> ChatResult:
    message = result.generations[0].message if result.generations else None
    if isinstance(message, AIMessage):
        call.told(message)
        call.ended(message.usage_metadata)
    return result


def _secret(key: Any) -> str | None:
    return key.get_secret_value() if isinstance(key, SecretStr) else key if isinstance(key, str) else None
