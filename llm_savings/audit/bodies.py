"""Bodies of requests and answers at the providers' APIs, as fields of a record."""

from __future__ import annotations

from typing import Any, cast

from llm_savings.audit.prompts import answer, messages, tools
from llm_savings.audit.values import Document, mode, name, part, sequence
from llm_savings.usage import Usage

_APART = frozenset(
    (
        *("model", "messages", "input", "prompt", "contents", "system", "instructions", "tools", "functions"),
        *("stream", "stream_options", "user", "metadata", "service_tier"),
    )
)


# What may change an answer, by the API references of OpenAI, Anthropic and Gemini.
_PARAMETERS = frozenset(
    (
        *("temperature", "top_p", "top_k", "n", "seed", "stop", "stop_sequences", "logprobs", "top_logprobs"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "frequency_penalty", "presence_penalty"),
        *("response_format", "text", "output_config", "tool_choice", "function_call", "parallel_tool_calls"),
        *("logit_bias", "modalities", "audio", "reasoning", "reasoning_effort", "verbosity", "thinking", "prediction"),
        *("web_search_options", "previous_response_id", "truncation", "generationConfig", "generation_config"),
        *("safetySettings", "toolConfig", "systemInstruction"),
    )
)


def request(body: Document, *, mixed: bool = False) -> dict[str, Any]:
    """What a request's body tells: of OpenAI's chat completions or responses, Anthropic's messages, or like these.

    Args:
        body: The request.
        mixed: Whether other things stand in it too: its answer, times, labels.
    """
    known = (key for key in body if (key in _PARAMETERS if mixed else key not in _APART))
    found: dict[str, Any] = {"parameters": {key: body[key] for key in known}}
    if model := name(body, "model"):
        found["model"] = model
    prompt = next((body[key] for key in ("messages", "input", "prompt", "contents") if body.get(key)), None)
    found["messages"] = messages(prompt, body.get("system") or body.get("instructions"))
    if given := body.get("tools") or body.get("functions"):
        found["tools"] = tools(given)
    if body.get("stream") is True:
        found["streamed"] = True
    if user := name(body, "user") or name(part(body, "metadata"), "user_id"):
        found["user"] = user
    if (tier := mode(body.get("service_tier"))) != "standard":
        found["mode"] = tier
    return found


def response(body: Document) -> dict[str, Any]:
    """What an answer's body tells.

    Raises:
        UsageError: Its token counts contradict each other.
    """
    found: dict[str, Any] = {}
    if model := name(body, "model", "modelVersion"):
        found["model"] = model
    if number := name(body, "id", "responseId"):
        found["response_id"] = number
    counts = part(body, "usage", "usageMetadata")
    if counts:
        found["usage"] = usage(counts, anthropic=body.get("type") == "message")
    if (tier := mode(body.get("service_tier"), counts.get("service_tier"))) != "standard":
        found["mode"] = tier
    if body.get("error"):
        found["failed"] = True
    for key, inner in (("choices", "message"), ("candidates", "content")):
        if choices := sequence(body.get(key)):
            first: Any = choices[0]
            held = cast("dict[str, Any]", first) if isinstance(first, dict) else {"text": first}
            found["answer"], found["tool_calls"] = answer(held.get(inner) or held.get("text"))
            return found
    if said := body.get("output") or body.get("content"):
        found["answer"], found["tool_calls"] = answer(said if isinstance(said, str) else _talk(said))
    return found


def _talk(said: Any) -> Any:
    """An answer's items: messages and calls of the responses API, or the blocks of one message."""
    kinds = [cast("dict[str, Any]", item).get("type") for item in sequence(said) if isinstance(item, dict)]
    if "message" in kinds or "function_call" in kinds:
        return said
    return {"role": "assistant", "content": said}


def usage(counts: Document, *, anthropic: bool = False) -> Usage:
    """A usage object in the dialect that its names show.

    Raises:
        UsageError: The counts contradict each other.
    """
    if "promptTokenCount" in counts or "prompt_token_count" in counts:
        return Usage.from_gemini(counts)
    if "inputTokens" in counts:
        return Usage.from_bedrock(counts)
    cached = "cache_read_input_tokens" in counts or "cache_creation_input_tokens" in counts
    if cached and "prompt_tokens" in counts:  # LiteLLM's, whose totals include them
        return Usage.from_litellm(counts)
    if anthropic or cached:
        return Usage.from_anthropic(counts)
    if "input_token_details" in counts:
        return Usage.from_langchain(counts)
    return Usage.from_openai(counts)
