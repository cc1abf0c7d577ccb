# pyright: standard
"""`with_compact_output`: objects from a chat model in fewer output tokens, and never half of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableSequence
from langchain_core.runnables.config import patch_config
from pydantic import BaseModel, model_validator

from llm_savings.errors import ConfigError, StructuredOutputError
from llm_savings.evidence import AT_END, noted
from llm_savings.langchain.messages import answered, readable
from llm_savings.structured.answers import Reading, read
from llm_savings.structured.compact import Compact, Got, Options, Request, modelled, summary_question
from llm_savings.structured.forms import Target, compact_json, smallest
from llm_savings.structured.rules import Traits, traits

_CUT = ("length", "max_tokens", "MAX_TOKENS", "max_output_tokens")
_REFUSED = ("content_filter", "refusal", "SAFETY", "guardrail_intervened")
# These take OpenAI's `response_format` from whoever calls them, and hand it on in their provider's words.
_TAKE_FORMAT = ("langchain_openai", "langchain_anthropic", "langchain_litellm")
_OVERHEAD = "overhead:output"


def with_compact_output(
    model: Runnable[LanguageModelInput, Any],
    schema: Any,
    *,
    many: bool = False,
    max_words: int | None = None,
    include_raw: bool = False,
    **options: Any,
) -> Runnable[LanguageModelInput, Any]:
    """A model that answers in objects of a schema, in the form that takes the fewest output tokens.

    Lists of records come as columns, schemas go out without what the model does not need, and answers are checked: one
    that was cut at its limit is asked for again with a higher one, one that does not fit is asked for again once.

    Args:
        model: A chat model, also with things bound to it.
        schema: A pydantic model, or another type that pydantic can validate; `str` for texts.
        many: A list of objects is wanted.
        max_words: The most words of an answer.
        include_raw: Give {"raw": message, "parsed": objects or None, "parsing_error": error or None}.
        **options: See `llm_savings.structured.compact.Options`: max_tokens, short_keys, sample, verbosity,
            reasoning_effort, stop, holdout, shadow, ledger.

    Raises:
        ConfigError: An option makes no sense, or the schema is none.

    Invoking it raises `StructuredOutputError` with the answer as `raw` when no whole answer could be had.

    Example:
        >>> reviews = with_compact_output(ChatOpenAI(model="gpt-4o-mini"), Review, many=True)      # doctest: +SKIP
        >>> reviews.invoke("Find the reviews in this text: ...")                                    # doctest: +SKIP
        [Review(...), Review(...)]
    """
    if not callable(getattr(model, "invoke", None)):
        raise ConfigError(f"model is {type(model).__name__}; expected a chat model")
    return CompactOutput(model, Compact(schema, Options.of(many=many, max_words=max_words, **options)), include_raw)


def summarizer(model: Runnable[LanguageModelInput, Any], *, max_words: int = 50, **options: Any) -> Runnable[str, str]:
    """A model that summarizes texts in at most so many words, each in its language; options as above.

    Example:
        >>> summarizer(ChatOpenAI(model="gpt-4o-mini"), max_words=20).invoke(article)               # doctest: +SKIP
    """
    short = with_compact_output(model, str, max_words=max_words, **options)

    def question(text: str) -> str:
        return summary_question(text, max_words)

    return RunnableLambda(question) | short


def compact_response_format(schema: Any, *, many: bool = False, **options: Any) -> type[BaseModel]:
    """What to give an agent as `response_format`: it answers in few tokens, and its `value` is the objects.

    The agent asks and checks in its own way; `CompactFormatMiddleware` tells the ledger what that saves. Options:
    short_keys, sample.

    Example:
        >>> form = compact_response_format(Review, many=True)                                       # doctest: +SKIP
        >>> agent = create_agent(model, tools, response_format=form)                                # doctest: +SKIP
        >>> agent.invoke({"messages": [...]})["structured_response"].value                          # doctest: +SKIP
    """
    chosen = Options.of(many=many, **options)
    form = smallest(Target(schema, many=many), chosen.sample, short=chosen.short_keys)

    def saved(text: str, output: int) -> dict[str, Any]:
        return {"schema": form.target.name, "form": form.name, **modelled(form, text, output)}

    class Compacted(BaseModel):
        output_evidence: ClassVar[Mapping[str, Any]] = {AT_END: saved}  # for `CompactFormatMiddleware`

        value: Any

        @model_validator(mode="before")
        @classmethod
        def _decoded(cls, answer: Any) -> Any:
            reading = read(form, compact_json(answer))
            if reading.fault:
                raise ValueError(reading.says)
            return {"value": reading.value}

        @classmethod
        def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
            # An agent may fall back to another provider's model, so it is a schema that all of them take.
            return {"title": _name(form.target.name), **form.schema(None).schema}

    Compacted.__name__ = Compacted.__qualname__ = form.target.name
    return Compacted


class CompactOutput(Runnable[LanguageModelInput, Any]):
    """What `with_compact_output` returns."""

    def __init__(self, model: Runnable[LanguageModelInput, Any], compact: Compact, include_raw: bool = False) -> None:
        self.model, self.compact, self.include_raw = model, compact, include_raw
        self.name = f"compact_{compact.name}"
        self.inner = _innermost(model)
        self._takes_format = type(self.inner).__module__.startswith(_TAKE_FORMAT)

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask once, and again where the answer is no good."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask once, and again where the answer is no good."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def _invoke(self, input: LanguageModelInput, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        exchange = _Exchange(self, input, run_manager, config)
        while exchange.request is not None:
            asked, sent, within = exchange.next()
            try:
                message = asked.invoke(sent, within, **kwargs)
            except Exception as error:
                if (message := _half(error)) is None:
                    raise
            exchange.heard(message)
        return exchange.result

    async def _ainvoke(self, input: LanguageModelInput, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        exchange = _Exchange(self, input, run_manager, config)
        while exchange.request is not None:
            asked, sent, within = exchange.next()
            try:
                message = await asked.ainvoke(sent, within, **kwargs)
            except Exception as error:
                if (message := _half(error)) is None:
                    raise
            exchange.heard(message)
        return exchange.result

    def asking(self, request: Request, known: Traits) -> Runnable[Any, Any]:
        """The model, set up to answer a request."""
        asked = self._binding(request, known)
        return asked.bind(**request.params) if request.params else asked

    def _binding(self, request: Request, known: Traits) -> Runnable[Any, Any]:
        if request.schema is None:
            return self.model
        name = _name(request.name)
        schema = {**request.schema.schema, "title": name}
        if request.plain or not self._takes_format:
            return _structured(self.model, schema)
        if known.by_tool(strict=request.schema.strict):
            return _structured(self.model, schema, method="function_calling")
        wanted = {"name": name, "schema": request.schema.schema, "strict": request.schema.strict}
        return self.model.bind(response_format={"type": "json_schema", "json_schema": wanted})


class _Exchange:
    """One talk about one answer: what to send next, until there is a result."""

    def __init__(
        self, output: CompactOutput, input: LanguageModelInput, run_manager: Any, config: RunnableConfig
    ) -> None:
        self._output, self._manager, self._config = output, run_manager, config
        self._turns = _turns(input)
        model, provider, limit = _named(output.inner)
        question = (readable(self._turns[-1]) or "") if self._turns else ""
        self._known = traits(model, provider)
        self._talk = output.compact.talk(model, provider, question=question, limit=limit)
        self.request: Request | None = next(self._talk)
        self.result: Any = None

    def next(self) -> tuple[Runnable[Any, Any], list[BaseMessage], RunnableConfig]:
        """The model as it is to be asked, the conversation, and a config that says what was done."""
        assert self.request is not None  # noqa: S101
        request = self.request
        within = patch_config(self._config, callbacks=self._manager.get_child())
        if request.evidence is not None:
            within["metadata"] = noted(within.get("metadata"), "output", request.evidence)
        if request.again:
            within["tags"] = [*(within.get("tags") or ()), _OVERHEAD]
        sent: list[BaseMessage] = [HumanMessage(request.ask)] if request.ask else _limited(self._turns, request.limit)
        return self._output.asking(request, self._known), sent, within

    def heard(self, message: Any) -> None:
        """Take in an answer."""
        try:
            self.request = self._talk.send(_got(message))
        except StopIteration as end:
            reading: Reading = end.value
            error = StructuredOutputError(reading.says, answered(message)) if reading.fault else None
            self.request = None
            self.result = {"raw": message, "parsed": reading.value, "parsing_error": error}
            if not self._output.include_raw:
                if error is not None:
                    raise error from None
                self.result = reading.value


def _name(named: str) -> str:
    """A name that every provider takes for a tool or a schema."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", named)[:64]


def _structured(model: Runnable[Any, Any], schema: Mapping[str, Any], **how: Any) -> Runnable[Any, Any]:
    """The model as `with_structured_output` sets it up, without the parser that would follow it."""
    bound = getattr(model, "kwargs", None) if hasattr(model, "bound") else None
    owner: Any = _innermost(model) if bound is not None else model
    try:
        found = owner.with_structured_output(dict(schema), **how)
        if not isinstance(found, RunnableSequence):  # a model of somebody's own, who puts it together in another way
            found = owner.with_structured_output(dict(schema), include_raw=True, **how) | _raw
    except (AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"{type(model).__name__} cannot be asked for structured output; give the chat model itself, and add "
            "retries or fallbacks to what with_compact_output returns"
        ) from error
    first = found if found.last is _raw else found.first
    return first.bind(**bound) if bound else first


@RunnableLambda
def _raw(given: Any) -> Any:
    return given["raw"] if isinstance(given, Mapping) else given


def _innermost(model: Any) -> Any:
    while (inner := getattr(model, "bound", None) or getattr(model, "runnable", None)) is not None:
        model = inner
    return model


def _named(model: Any) -> tuple[str, str | None, int | None]:
    """The model's name, provider and limit of output tokens as a run of it reports them."""
    params: Any = {}
    if callable(ask := getattr(model, "_get_ls_params", None)):
        params = ask()
    return (
        str(params.get("ls_model_name") or type(model).__name__),
        params.get("ls_provider"),
        params.get("ls_max_tokens"),
    )


def _turns(input: LanguageModelInput) -> list[BaseMessage]:
    if isinstance(input, PromptValue):
        return input.to_messages()
    return [HumanMessage(input)] if isinstance(input, str) else convert_to_messages(input)


def _limited(turns: Sequence[BaseMessage], limit: str | None) -> list[BaseMessage]:
    """The conversation with a limit said at its end; a copy, so that the beginning stays in the provider's cache."""
    if limit is None or not turns:
        return list(turns)
    last = turns[-1]
    if isinstance(last.content, str):
        content: Any = f"{last.content}\n\n({limit})"
    else:
        content = [*last.content, {"type": "text", "text": f"({limit})"}]
    return [*turns[:-1], last.model_copy(update={"content": content})]


def _got(message: Any) -> Got:
    meta: Mapping[str, Any] = message.response_metadata
    incomplete = meta.get("incomplete_details")
    reasons = {meta.get(name) for name in ("finish_reason", "stop_reason", "stopReason", "done_reason")}
    reasons.add(incomplete.get("reason") if isinstance(incomplete, Mapping) else None)
    refused = bool(message.additional_kwargs.get("refusal")) or any(
        isinstance(block, Mapping) and block.get("type") == "refusal" for block in message.content
    )
    usage = message.usage_metadata or {}
    ended = "refused" if refused or not reasons.isdisjoint(_REFUSED) else None
    return Got(answered(message), ended or (None if reasons.isdisjoint(_CUT) else "cut"), usage.get("output_tokens"))


def _half(error: Exception) -> AIMessage | None:
    """The answer that an error of OpenAI's client holds back because it was cut or filtered; None for other errors."""
    kind = type(error).__name__
    if kind not in ("LengthFinishReasonError", "ContentFilterFinishReasonError"):
        return None
    completion = getattr(error, "completion", None)
    choices, usage = getattr(completion, "choices", None), getattr(completion, "usage", None)
    output = getattr(usage, "completion_tokens", 0)
    return AIMessage(
        content=(choices[0].message.content or "") if choices else "",
        response_metadata={"finish_reason": "length" if kind.startswith("Length") else "content_filter"},
        usage_metadata={"input_tokens": 0, "output_tokens": output, "total_tokens": output},
    )
