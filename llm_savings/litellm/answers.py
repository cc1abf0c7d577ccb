"""What LiteLLM says of a call's end, as an `Answer`: tokens, model, price list, the provider's id."""
# pyright: standard

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, wraps
from importlib import import_module
from typing import Any, cast

import litellm

from llm_savings import tokens
from llm_savings.errors import UsageError
from llm_savings.ledger import Sent
from llm_savings.litellm.calls import base_model, mode_of, question
from llm_savings.meter import Answer
from llm_savings.usage import Usage, cache_lives

_REQUEST_IDS = ("llm_provider-x-request-id", "llm_provider-request-id", "llm_provider-x-amzn-requestid")
_REDACTED = "redacted-by-litellm"
_LEFT = "llm_savings_left"
_WAYS = ("route_streaming_logging_to_handler", "_route_streaming_logging_to_handler")


def answer_of(details: Mapping[str, Any], response: Any, *, hit: bool = False, reported: bool = True) -> Answer:
    """What is known of a call that LiteLLM reports as a success.

    Args:
        details: LiteLLM's `model_call_details`.
        response: The response, or the one assembled from a stream.
        hit: A cache answered.
        reported: Whether the provider may have reported usage; if not, any usage here is LiteLLM's own count.
    """
    if _get(response, "type") == "message":  # Anthropic's own, as its clients get it
        counts, name = Usage.from_anthropic(_get(response, "usage")), base_model(details) or _get(response, "model")
        return Answer(model=name, usage=counts, response_id=_get(response, "id"), hit=hit)
    hidden, raw, provider = _hidden(response), _get(response, "usage"), details.get("custom_llm_provider")
    model = base_model(details) or hidden.get("provider_response_model") or _get(response, "model")
    usage, sure, suspect = None, True, False
    try:
        if reported and not (details.get("stream") and _is_litellms_count(response, raw)):
            usage, sure = usage_of(details, raw)
    except UsageError:
        suspect = True
    if ended_unsaid(details.get("original_response")):
        sure = False  # what came is counted, what the provider went on to write is not
    if not usage and not suspect:
        # A success for no tokens at all is a usage that nobody reported.
        usage, sure = count(str(model), provider, question(details), answer_text(response)), False
    return Answer(
        model=model,
        usage=usage,
        mode=mode_of(_get(response, "service_tier") or _get(raw, "service_tier")),
        response_id=response_id(provider, response),
        hit=hit,
        estimated=not sure,
        suspect=suspect,
        text=lambda: answered(response),
    )


def answered(response: Any) -> str | None:
    """What a model answered: the arguments of the first tool that it calls, or its text; None for several choices."""
    choices = _get(response, "choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    message = _get(choices[0], "message")
    if calls := _get(message, "tool_calls"):
        return _get(_get(calls[0], "function"), "arguments")
    return _get(message, "content")


def ended_unsaid(stream: Any) -> bool:
    """Whether a stream ended without the provider saying so, as LiteLLM lets one of Anthropic's that is cut short.

    Called with what the user reads from or, under asyncio, what that reads from: it knows which block is still open.
    """
    if getattr(stream, "current_content_block_type", None) is not None:
        return True
    return (
        getattr(stream, "received_finish_reason", "not one of LiteLLM's streams") is None
        and getattr(stream, "intermittent_finish_reason", None) is None
    )


@cache
def watch_messages() -> None:
    """Have LiteLLM say which streams in Anthropic's own protocol nobody read to their end: it reports them as whole."""
    with suppress(ImportError, AttributeError, StopIteration):  # another release, which reports them in another way
        handler = import_module("litellm.proxy.pass_through_endpoints.streaming_handler").PassThroughStreamingHandler
        name = next(name for name in _WAYS if hasattr(handler, name))
        setattr(handler, name, staticmethod(_saying(getattr(handler, name))))


def _saying(report: Any) -> Any:
    @wraps(report)
    async def saying(*given: Any, **named: Any) -> Any:
        with suppress(Exception):  # whatever it is, the user's call goes on
            kind = getattr(named["endpoint_type"], "value", None)
            if kind == "anthropic" and b"event: message_stop" not in b"".join(named["raw_bytes"]):
                named["litellm_logging_obj"].model_call_details[_LEFT] = True
        return await report(*given, **named)

    return saying


def is_left(details: Mapping[str, Any]) -> bool:
    """Whether this is a stream that nobody read to its end."""
    return bool(details.get(_LEFT))


def of_what_came(response: Any, answer: Answer) -> Answer:
    """The answer of a stream that nobody read to its end, counted here.

    The provider tells the tokens of an answer at its end; what it says before is one or a few.
    """
    if answer.usage is None:
        return Answer()
    came = tokens.count(answer_text(response) or "", str(answer.model))
    return replace(answer, usage=replace(answer.usage, output=max(answer.usage.output, came)))


def usage_of(details: Mapping[str, Any], raw: Any) -> tuple[Usage | None, bool]:
    """The usage that the response carries, and whether its cache writes are surely in the right bucket.

    Raises:
        UsageError: The counts contradict each other.
    """
    if raw is None:
        return None, True
    if _get(raw, "prompt_tokens") is None and _get(raw, "input_tokens") is not None:
        return Usage.from_openai(raw), True
    usage = Usage.from_litellm(raw)
    written = usage.cache_write_5m + usage.cache_write_1h
    if not written or "claude" not in str(details.get("model")) or _is_split(raw):
        return usage, True
    # Not split by time to live: the request says which it asked for.
    lives = cache_lives((details.get("messages"), details.get("optional_params")))
    if len(lives) > 1:
        return usage, False
    return Usage.from_litellm(raw, cache_ttl="1h" if lives == {"1h"} else "5m"), True


def response_id(provider: str | None, response: Any) -> str | None:
    """The provider's id of the answer; of its request where LiteLLM puts an id of its own in the answer's place."""
    own = _get(response, "id")
    if isinstance(own, str) and provider != "anthropic":
        return _unwrapped(own)
    headers: Mapping[str, Any] = _hidden(response).get("additional_headers") or {}
    return next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)


def raw_answer(raw: str) -> Answer | None:
    """What a provider's own JSON says, for a call whose end LiteLLM never reported; None if it is no answer.

    Raises:
        UsageError: The counts contradict each other.
    """
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    answer = cast("dict[str, Any]", body)
    if isinstance(counts := answer.get("usageMetadata"), dict):
        usage = Usage.from_gemini(counts)
    elif not isinstance(counts := answer.get("usage"), dict):
        return None
    elif "inputTokens" in counts:
        usage = Usage.from_bedrock(counts)
    elif answer.get("type") == "message":
        usage = Usage.from_anthropic(counts)
    else:
        usage = Usage.from_openai(counts)
    tier = answer.get("service_tier") or cast("dict[str, Any]", counts).get("service_tier")
    return Answer(model=answer.get("model"), usage=usage, mode=mode_of(tier), response_id=answer.get("id"))


def streamed_answer(sent: Sent, asked: tuple[Any, Any], chunks: Sequence[Any]) -> Answer:
    """What an abandoned stream has delivered, counted here.

    Args:
        sent: The call.
        asked: Its `question`.
        chunks: The pieces that came.
    """
    first = chunks[0] if chunks else None
    model = _hidden(first).get("provider_response_model") or _get(first, "model") or sent.requested_model
    text = "".join(part for chunk in chunks for part in texts(_get(chunk, "choices")))
    return Answer(
        model=model,
        usage=count(model, sent.provider, asked, text),
        mode=mode_of(_get(first, "service_tier")),
        response_id=response_id(sent.provider, first),
        estimated=True,
    )


def count(model: str, provider: str | None, asked: tuple[Any, Any], text: str | None) -> Usage | None:
    """Tokens of a question and its answer, counted on this machine; None where what is billed cannot be seen.

    Args:
        model: The model that answered.
        provider: LiteLLM's name of the provider.
        asked: The call's `question`.
        text: The answer's text.
    """
    prompt, tools = asked
    if text is None or prompt is None or _hides_reasoning(model, provider):
        return None
    turns = cast("list[Any]", prompt) if isinstance(prompt, list) else [prompt]
    parts = [part for turn in turns for part in texts(turn)]
    if _REDACTED in (text, *parts):
        return None
    if tools:
        parts.append(json.dumps(tools, ensure_ascii=False, default=str))
    chat = sum(isinstance(turn, Mapping) for turn in turns)
    wrapping = tokens.PER_MESSAGE * chat + tokens.PER_ANSWER if chat else 0
    return Usage(input=sum(tokens.count(part, model) for part in parts) + wrapping, output=tokens.count(text, model))


def _hides_reasoning(model: str, provider: str | None) -> bool:
    # OpenAI's reasoning models bill for thoughts that they do not show; the others' thoughts are in the answer.
    return provider in ("openai", "azure") and litellm.supports_reasoning(model=model, custom_llm_provider=provider)


def answer_text(response: Any) -> str | None:
    """All text of an answer, tool calls included."""
    for name in ("choices", "output"):
        if (found := _get(response, name)) is not None:
            return "".join(texts(found))
    return "" if _get(response, "data") is not None else None  # embeddings have no text


_KEYS = (
    *("message", "delta", "tool_calls", "function", "function_call"),
    *("content", "text", "reasoning_content", "refusal", "arguments", "name", "input", "output"),
)


def texts(value: Any) -> Iterable[str]:
    """Every text of a message, an answer or a list of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[Any]", value):
            yield from texts(item)
    elif isinstance(value, dict):
        for name in _KEYS:
            if name in value:
                yield from texts(value[name])
    elif value is not None:
        for name in _KEYS:
            yield from texts(_get(value, name))


def _is_litellms_count(response: Any, raw: Any) -> bool:
    """Whether a stream's usage is what LiteLLM counts when a provider reports none: no details, and the very number."""
    text = None if _get(raw, "prompt_tokens_details") is not None else answer_text(response)
    if not text:
        return False
    counted = litellm.token_counter(model=_get(response, "model") or "", text=text, count_response_tokens=True)
    return counted == _get(raw, "completion_tokens")


def _is_split(raw: Any) -> bool:
    details = _get(_get(raw, "prompt_tokens_details"), "cache_creation_token_details")
    return bool(_get(details, "ephemeral_5m_input_tokens") or _get(details, "ephemeral_1h_input_tokens"))


def _unwrapped(own: str) -> str:
    # The Responses API's ids come wrapped, to find their deployment again: resp_base64("...;response_id:resp_...").
    # The proxy's come sealed, so that no other client can ask for them, and since litellm 1.110 we see these too.
    for opened in (_opened, _unsealed):
        inner = opened(own.removeprefix("resp_")) if own.startswith("resp_") else ""
        _, marker, inside = inner.partition("response_id:")
        if marker and inside:
            return _unwrapped(inside.partition(";")[0])
    return own


def _opened(wrapped: str) -> str:
    try:
        return base64.b64decode(wrapped + "==").decode() if wrapped.startswith("bGl0ZWxsbT") else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _unsealed(wrapped: str) -> str:
    if "litellm.proxy.proxy_server" not in sys.modules:
        return ""
    from litellm.proxy.common_utils.encrypt_decrypt_utils import decrypt_value_helper

    return decrypt_value_helper(wrapped, "response_id", "debug", return_original_value=True) or ""


def _hidden(response: Any) -> Mapping[str, Any]:
    hidden = getattr(response, "_hidden_params", None)
    return cast("Mapping[str, Any]", hidden) if isinstance(hidden, Mapping) else {}


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return cast("Mapping[str, Any]", source).get(name)
    return getattr(source, name, None)
