"""`compact_completion`: objects from any model of LiteLLM's in fewer output tokens, and never half of one."""
# pyright: standard

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import litellm

from llm_savings.errors import ConfigError, StructuredOutputError
from llm_savings.evidence import noted
from llm_savings.litellm.answers import answered
from llm_savings.structured.answers import Reading
from llm_savings.structured.compact import Compact, Got, Options, Request
from llm_savings.structured.forms import compact_json
from llm_savings.structured.rules import traits

_OVERHEAD = "overhead:output"
_OURS = ("response_format", "tools", "tool_choice", "functions", "stream", "n")
_LIMITS = ("max_completion_tokens", "max_tokens")


def compact_completion(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    schema: Any,
    *,
    include_raw: bool = False,
    completion: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Objects of a schema, asked for in the form that takes the fewest output tokens.

    Lists of records come as columns, schemas go out without what the model does not need, and answers are checked: one
    that was cut at its limit is asked for again with a higher one, one that does not fit is asked for again once.

    Args:
        model: As for `litellm.completion`.
        messages: As for `litellm.completion`.
        schema: A pydantic model, or another type that pydantic can validate; `str` for texts; or a `Compact`.
        include_raw: Give {"raw": response, "parsed": objects or None, "parsing_error": error or None}.
        completion: What completes, such as `router.completion`; LiteLLM's own by default.
        options: See `llm_savings.structured.compact.Options`: many, max_words, max_tokens, short_keys, sample,
            verbosity, reasoning_effort, stop, holdout, shadow, ledger.
        **given: Whatever else `litellm.completion` takes. `many` and `max_words` may stand here too.

    Raises:
        ConfigError: An option makes no sense, or the schema is none.
        StructuredOutputError: No whole answer could be had; `raw` is the last one.

    Example:
        >>> compact_completion("gpt-4o-mini", [{"role": "user", "content": text}], Review, many=True)  # doctest: +SKIP
        [Review(...), Review(...)]
    """
    exchange = _Exchange(model, messages, schema, options or {}, given)
    call = completion or litellm.completion
    while exchange.request is not None:
        exchange.heard(call(**exchange.next()))
    return exchange.given(include_raw)


async def acompact_completion(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    schema: Any,
    *,
    include_raw: bool = False,
    completion: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """The same for asyncio; `completion` is then `litellm.acompletion`, or such as `router.acompletion`."""
    exchange = _Exchange(model, messages, schema, options or {}, given)
    call = completion or litellm.acompletion
    while exchange.request is not None:
        exchange.heard(await call(**exchange.next()))
    return exchange.given(include_raw)


@lru_cache(maxsize=256)
def _remembered(schema: Any, options: Options) -> Compact:
    """One for all calls with the same schema and options: it knows how long answers get."""
    return Compact(schema, options)


class _Exchange:
    """One talk about one answer: what to send next, until there is a result."""

    def __init__(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        schema: Any,
        options: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        self._given = {name: value for name, value in given.items() if name not in ("many", "max_words")}
        if taken := next((name for name in _OURS if name in self._given), None):
            raise ConfigError(
                f"{taken} is set by compact_completion itself; use litellm.completion for answers with it"
            )
        self._model, self._messages = model, [dict(message) for message in messages]
        both = {name: given[name] for name in ("many", "max_words") if name in given} | dict(options)
        compact = schema if isinstance(schema, Compact) else _compact(schema, Options.of(**both))
        name, provider = _named(model, given.get("custom_llm_provider"))
        self._known = traits(name, provider)
        # A Router's group has none: then LiteLLM sorts out what each of its models takes.
        self._taken = _taken(name, provider)
        question = str(self._messages[-1].get("content") or "") if self._messages else ""
        limit = next((given[name] for name in _LIMITS if given.get(name)), None)
        self._talk = compact.talk(name, provider, question=question, limit=limit)
        self.request: Request | None = next(self._talk)
        self._reading, self._response = Reading(), None

    def next(self) -> dict[str, Any]:
        """The arguments of the next completion."""
        assert self.request is not None  # noqa: S101
        request = self.request
        params = {key: value for key, value in request.params.items() if self._taken is None or key in self._taken}
        arguments = {**params, **self._given, "model": self._model, "messages": self._turns(request)}
        if "max_tokens" in request.params:
            arguments = {name: value for name, value in arguments.items() if name not in _LIMITS}
            arguments["max_tokens"] = request.params["max_tokens"]
        if request.schema is not None:
            arguments |= self._form(request, arguments["messages"])
        if request.evidence is not None:
            metadata = noted(arguments.get("metadata"), "output", request.evidence)
            if request.again:
                metadata["tags"] = [*(metadata.get("tags") or ()), _OVERHEAD]
            arguments["metadata"] = metadata
        return arguments

    def heard(self, response: Any) -> None:
        """Take in an answer."""
        self._response = response
        try:
            self.request = self._talk.send(_got(response))
        except StopIteration as end:
            self.request, self._reading = None, end.value

    def given(self, include_raw: bool) -> Any:
        """What the caller gets."""
        reading, error = self._reading, None
        if reading.fault:
            error = StructuredOutputError(reading.says, answered(self._response) or "")
        if include_raw:
            return {"raw": self._response, "parsed": reading.value, "parsing_error": error}
        if error is not None:
            raise error
        return reading.value

    def _turns(self, request: Request) -> list[dict[str, Any]]:
        if request.ask:
            return [{"role": "user", "content": request.ask}]
        return _told(self._messages, f"({request.limit})") if request.limit else self._messages

    def _form(self, request: Request, turns: list[dict[str, Any]]) -> dict[str, Any]:
        assert request.schema is not None  # noqa: S101
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", request.name)[:64]
        schema, strict = request.schema.schema, request.schema.strict
        takes_format = self._taken is None or "response_format" in self._taken
        if takes_format and not self._known.by_tool(strict=strict):
            wanted = {"name": name, "schema": schema, "strict": strict}
            return {"response_format": {"type": "json_schema", "json_schema": wanted}}
        if self._taken is None or "tools" in self._taken:
            function = {"name": name, "parameters": schema}
            choice = {"type": "function", "function": {"name": name}}
            return {"tools": [{"type": "function", "function": function}], "tool_choice": choice}
        return {"messages": _told(turns, f"Answer with JSON alone that fits this schema: {compact_json(schema)}")}


def _told(turns: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The conversation with something said at its end, so that its beginning stays in the provider's cache."""
    if not turns:
        return turns
    *before, last = turns
    content = last.get("content")
    if isinstance(content, list):
        return [*before, {**last, "content": [*content, {"type": "text", "text": text}]}]
    return [*before, {**last, "content": f"{content}\n\n{text}"}]


def _taken(model: str, provider: str | None) -> frozenset[str] | None:
    """The parameters that LiteLLM knows a model to take; None where it knows nothing of it."""
    try:
        found = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider) if provider else None
    except Exception:  # noqa: BLE001 (a provider that it does not know)
        return None
    return frozenset(found) if found else None


def _compact(schema: Any, options: Options) -> Compact:
    try:
        return _remembered(schema, options)
    except TypeError:  # a sample cannot be hashed
        return Compact(schema, options)


def _named(model: str, provider: str | None) -> tuple[str, str | None]:
    try:
        name, found, _, _ = litellm.get_llm_provider(model, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001 (a Router's group has a name of its own)
        return model, provider
    return name, found


def _got(response: Any) -> Got:
    choice = response.choices[0]
    refused = getattr(choice.message, "refusal", None)
    refused = refused or (getattr(choice.message, "provider_specific_fields", None) or {}).get("refusal")
    usage = getattr(response, "usage", None)
    ended = "refused" if refused or choice.finish_reason in ("content_filter", "refusal") else None
    cut = "cut" if choice.finish_reason == "length" else None
    return Got(answered(response) or "", ended or cut, getattr(usage, "completion_tokens", None))
