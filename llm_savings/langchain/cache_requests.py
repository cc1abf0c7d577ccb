# pyright: standard
"""What LangChain asks a cache for, as the semantic cache wants to know it: from the real call, not from the host's key.

The key that LangChain hands to a cache hides things (the schema behind a class, a changed field, most parameters of
ChatLiteLLM, API keys). So the call is looked up on the stack: LangChain calls a cache from the method that has the
model, its messages and its parameters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLanguageModel, chat_models, llms
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.tools import BaseTool
from langchain_core.tracers.context import register_configure_hook
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter

from llm_savings.labels import USER_KEYS, text
from llm_savings.langchain.requests import MODEL_KEYS
from llm_savings.ledger import tenant_hash
from llm_savings.semantic_cache import Request

_CHAT = ("_generate_with_cache", "_agenerate_with_cache")
_PLAIN = ("get_prompts", "aget_prompts", "update_cache", "aupdate_cache")
_DEEPEST = 16  # calls between LangChain and the cache: of caches that wrap it
# What changes how a request is sent, seen or paid, and not what is answered.
_NOISE = frozenset(
    re.findall(
        r"\w+",
        """
        name cache verbose callbacks tags metadata custom_get_token_ids rate_limiter disable_streaming profile
        timeout request_timeout default_request_timeout max_retries n_retries retry streaming stream stream_usage
        stream_options stream_chunk_timeout http_socket_options tiktoken_model_name allowed_special
        disallowed_special batch_size prompt_cache_key prompt_cache_options prompt_cache_retention service_tier
        store ls_structured_output_format structured_output_format
        """,
    )
)
_ROLES = {"human": "user", "ai": "assistant"}
# Of `additional_kwargs`: what repeats the message's calls of tools, or its content.
_REPEATED = frozenset(
    ("tool_calls", "parsed", "__openai_function_call_ids__", "__gemini_function_call_thought_signatures__")
)
_SCALARS = (bool, int, float, str, bytes)
_NAMED = (Enum, Decimal, date, time, UUID, PurePath)

# The messages for which a cache has been asked already: an `invoke` may stream, and a stream may use another.
asking: ContextVar[Sequence[BaseMessage] | None] = ContextVar("llm_savings_asking", default=None)
_namespace: ContextVar[str | None] = ContextVar("llm_savings_cache_namespace", default=None)


@contextmanager
def cache_namespace(name: str) -> Iterator[None]:
    """Calls within get and leave answers in this namespace, whatever the cache's own and the run's metadata say.

    Example:
        >>> with cache_namespace("tenant-b"):                                     # doctest: +SKIP
        ...     chain.invoke(question)
    """
    token = _namespace.set(name)
    try:
        yield
    finally:
        _namespace.reset(token)


def chosen_namespace(own: str, metadata: Mapping[str, Any]) -> str:
    """The namespace that holds here: the block's, the run's, or the cache's own."""
    here = _namespace.get()
    return here if here is not None else text(metadata, ("cache_namespace",)) or own


@dataclass(slots=True, eq=False)
class Calling:
    """A request to a model, as LangChain is about to make it.

    Attributes:
        model: The model.
        prompt: Its messages, or the text for a plain LLM.
        stop: Where it is to stop.
        given: The parameters of this call: tools, response format, ...
        run: LangChain's manager of the run, or of the runs to come; None if there is none.
        structured: Whether the call of a tool is how the answer is to be given.
    """

    model: BaseLanguageModel[Any]
    prompt: Sequence[BaseMessage] | str
    stop: Sequence[str] | None
    given: Mapping[str, Any]
    run: Any = None
    structured: bool = False

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The run's."""
        return getattr(self.run, "metadata", None) or {}

    def request(self, namespace: str) -> Request:
        """What decides the answer; what cannot be told apart from others is left as it is, for the cache to refuse."""
        own, given = _configuration(self.model), {k: v for k, v in self.given.items() if k not in _NOISE}
        parameters = {**own, **{f"call.{name}": _told(value) for name, value in given.items()}, "call.stop": self.stop}
        kwargs = own.get("model_kwargs") or {}
        parameters["temperature"] = given.get("temperature", kwargs.get("temperature", own.get("temperature")))
        prompt = self.prompt
        user = text(self.metadata, USER_KEYS)
        return Request(
            model=text(given, MODEL_KEYS) or text(own, MODEL_KEYS) or type(self.model).__name__,
            messages=[{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(map(_message, prompt)),
            parameters=parameters,
            namespace=chosen_namespace(namespace, self.metadata),
            user=tenant_hash(user) if user else None,
        )

    def when_failed(self, tell: Callable[[], None]) -> None:
        """Have `tell` called if the run ends in an error."""
        if self.run is not None:
            self.run.handlers = [*self.run.handlers, _Failure(tell, inline=not isinstance(self.prompt, str))]


class _Failure(BaseCallbackHandler):
    """On one run alone, from now on."""

    def __init__(self, tell: Callable[[], None], *, inline: bool) -> None:
        self._tell = tell
        # A trip to a thread for each token otherwise. Not before `on_llm_start`: langchain-core 1.7.2 would forget
        # the other handlers (`AsyncCallbackManager.on_llm_start`).
        self.run_inline = inline

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        """The call that others may be waiting for has no answer."""
        self._tell()


def calling(prompt: str) -> Calling | None:
    """The call for which LangChain asks a cache for this prompt right now, or None if that cannot be seen."""
    frame = sys._getframe(1)
    for _ in range(_DEEPEST):
        if frame is None:
            return None
        name, here = frame.f_code.co_name, frame.f_globals
        if here is vars(chat_models) and name in _CHAT:
            own = frame.f_locals
            if own.get("prompt") is not prompt:
                return None
            given, run = own["kwargs"], own["run_manager"]
            asking.set(own["messages"])
            return Calling(own["self"], own["messages"], own["stop"], given, run, _is_structured(given))
        if here is vars(llms) and name in _PLAIN and frame.f_back is not None:
            inner, own = frame.f_locals, frame.f_back.f_locals
            if inner.get("prompt") is not prompt or "self" not in own:
                return None
            managers, place = own.get("callback_managers") or (), inner.get("i", 0)
            run = managers[place] if place < len(managers) else None
            return Calling(own["self"], prompt, own["stop"], own["kwargs"], run)
        frame = frame.f_back
    return None


def streaming(
    model: BaseLanguageModel[Any], prompt: Sequence[BaseMessage], stop: Any, run: Any, given: Mapping[str, Any]
) -> Calling | None:
    """The stream that LangChain is about to begin, or None if a cache has been asked for it or its run is not seen."""
    if asking.get() is prompt:
        return None
    frame = sys._getframe(2)
    if run is None and frame.f_globals is vars(chat_models) and frame.f_code.co_name in ("stream", "astream"):
        run = frame.f_locals.get("run_manager")
    asking.set(prompt)
    return None if run is None else Calling(model, prompt, stop, given, run, _is_structured(given))


class _Structuring:
    """In the form in which LangChain asks a hook for a handler: a variable with a value. It has none to give.

    `with_structured_output` says by a keyword that a tool is only the form of the answer. LangChain drops it before it
    asks a cache, but after it has asked the hooks, in the same context.
    """

    tools: ContextVar[Any] = ContextVar("llm_savings_structured_tools", default=None)

    def get(self) -> None:
        """Note the tools of a call whose answer has the form of a tool's call."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_globals is not vars(chat_models):
            frame = frame.f_back
        own = frame.f_locals if frame is not None else {}
        self.tools.set(own.get("kwargs", {}).get("tools") if own.get("ls_structured_output_format") else None)


_structuring = _Structuring()


@lru_cache(maxsize=1)
def watch_structured() -> None:
    """Look from now on which calls have a tool only as the form of their answer."""
    register_configure_hook(_structuring, inheritable=False)  # pyright: ignore[reportArgumentType]


@contextmanager
def as_structured(bound: Mapping[str, Any]) -> Iterator[None]:
    """A cache is asked in here for a call with these parameters, of which no hook has seen what its tools are for."""
    token = _structuring.tools.set(bound.get("tools") if bound.get("ls_structured_output_format") else None)
    try:
        yield
    finally:
        _structuring.tools.reset(token)


def _is_structured(given: Mapping[str, Any]) -> bool:
    tools = given.get("tools")
    return tools is not None and _structuring.tools.get() is tools


def _configuration(model: BaseLanguageModel[Any]) -> dict[str, Any]:
    """Everything in a model that may change its answers: all fields, whatever the model says of itself.

    A model that says what identifies it (`_identifying_params`) may also hold what cannot be told apart, such as its
    client; of one that does not, that is refused.
    """
    kind = type(model)
    speaks = any("_identifying_params" in vars(each) for each in kind.__mro__ if each not in _SILENT)
    fields = {name: vars(model).get(name) for name in kind.model_fields} | (model.model_extra or {})
    if speaks:
        fields = {**cast("Any", model)._identifying_params, **fields}
    else:
        fields |= model.__pydantic_private__ or {}
    if kind.__module__.startswith("langchain_core.language_models.fake"):
        fields.pop("i", None)  # how often it was asked
    found: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}"}
    for name, value in fields.items():
        if name not in _NOISE:
            try:
                found[name] = _plain(value)
            except _Opaque:
                if not speaks:
                    found[name] = value
    return found


_SILENT = (BaseLanguageModel, chat_models.BaseChatModel, chat_models.SimpleChatModel, llms.BaseLLM, llms.LLM)


class _Opaque(Exception):
    """A value that cannot be told apart from others of its kind."""


def _told(value: Any) -> Any:
    try:
        return _plain(value)
    except _Opaque:
        return value


def _plain(value: Any) -> Any:
    """The value as JSON would have it, with digests in place of secrets and schemas in place of classes."""
    if value is None or isinstance(value, _SCALARS):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, SecretStr | SecretBytes):
        # Only ever a part of what is digested again: nobody stores it, and machines with one key share their answers.
        secret = value.get_secret_value()
        return {"secret": sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()}
    if isinstance(value, type):
        return _schema(value)
    if isinstance(value, BaseLanguageModel):
        return _configuration(value)
    if isinstance(value, BaseTool):
        return _plain(convert_to_openai_tool(value))
    if isinstance(value, BaseModel):
        return {
            "class": type(value).__qualname__,
            **{name: _plain(vars(value).get(name)) for name in type(value).model_fields},
        }
    if isinstance(value, _NAMED):
        return [type(value).__name__, str(value)]
    raise _Opaque


@lru_cache(maxsize=512)
def _schema(kind: type) -> Any:
    try:
        legacy = getattr(kind, "schema", None) if not issubclass(kind, BaseModel) else None
        return legacy() if callable(legacy) else TypeAdapter(kind).json_schema()
    except Exception as error:
        raise _Opaque from error


def _message(message: BaseMessage) -> dict[str, Any]:
    """As the OpenAI protocol has it, without what says who, when or where it was written."""
    kind = message.type.removesuffix("MessageChunk").lower()
    found: dict[str, Any] = {
        "role": message.role if isinstance(message, ChatMessage) else _ROLES.get(kind, kind),
        "content": message.content if isinstance(message.content, str) else [_block(b) for b in message.content],
        "name": message.name,
        "tool_call_id": getattr(message, "tool_call_id", None),
        "status": getattr(message, "status", None),
    }
    if isinstance(message, AIMessage):
        found["tool_calls"] = message.tool_calls or None
        found["invalid"] = [[call["name"], call["args"]] for call in message.invalid_tool_calls] or None
    beside = {k: _told(v) for k, v in message.additional_kwargs.items() if v is not None and k not in _REPEATED}
    return {**found, "beside": beside or None}


def _block(block: Any) -> Any:
    if isinstance(block, Mapping) and block.get("source_type") == "id":
        return {**block, "file": block.get("id")}  # here the id is the content
    return block
