"""What a budget has to hold for a LiteLLM call, read from the request or, ahead of it, from the arguments."""
# pyright: standard

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from litellm.types.utils import all_litellm_params

from llm_savings import tokens
from llm_savings.bounds import Size
from llm_savings.litellm.answers import texts
from llm_savings.litellm.calls import asked_limits, prompt_bound, provider_of, reads_more

_NO_PARAMETERS = frozenset((*all_litellm_params, "model", "messages", "input", "prompt", "user"))
# Parameters that are a part of the prompt.
_PROMPTS, _SCHEMAS = ("instructions", "system"), ("tools", "functions", "response_format", "text")
_TEXT_BLOCKS = ("text", "input_text", "output_text")


def known_of(arguments: Mapping[str, Any], call_type: str) -> dict[str, Any]:
    """LiteLLM's details of a call, as far as the arguments of its function tell them.

    Args:
        arguments: The call's arguments by name.
        call_type: LiteLLM's name of the function.

    Raises:
        Exception: LiteLLM knows no provider of such a model.
    """
    base = arguments.get("api_base")
    model, provider = provider_of(arguments["model"], arguments.get("custom_llm_provider"), base)
    if call_type.startswith(("acompletion", "completion")):
        model = model.removeprefix("responses/")  # says only which of OpenAI's interfaces to use
    return {
        "model": model,
        "custom_llm_provider": provider,
        "call_type": call_type,
        "messages": arguments.get("messages"),
        "input": arguments.get("input") or arguments.get("prompt"),
        "stream": arguments.get("stream"),
        "user": arguments.get("user"),
        "litellm_call_id": arguments.get("litellm_call_id"),
        "litellm_params": arguments,
        "optional_params": {
            name: value for name, value in arguments.items() if value is not None and name not in _NO_PARAMETERS
        },
    }


def size_of(details: Mapping[str, Any]) -> Size:
    """How large a call can get. A limit on its output is one that the user gave, never LiteLLM's own default."""
    return Size(prompt_bound(details), *asked_limits(details), lambda: prompt_tokens(details))


def prompt_tokens(details: Mapping[str, Any]) -> int | None:
    """The prompt's tokens, counted here; None where it is more than text."""
    asked = details.get("input") or details.get("messages")
    params = cast("Mapping[str, Any]", details.get("optional_params") or {})
    if not _is_text(asked):
        return None
    parts = [*texts(asked), *(text for name in _PROMPTS for text in texts(params.get(name)))]
    schemas = [params[name] for name in _SCHEMAS if params.get(name)]
    parts += [json.dumps(schema, ensure_ascii=False, default=str) for schema in schemas]
    turns = len(cast("list[Any]", asked)) if isinstance(asked, list) else 1
    over = tokens.PER_MESSAGE * turns + tokens.PER_ANSWER + (tokens.TOOLS_OVERHEAD if schemas else 0)
    return sum(tokens.count(part, str(details.get("model"))) for part in parts) + over


def _is_text(asked: Any) -> bool:
    return isinstance(asked, str) or (isinstance(asked, list) and all(map(_is_text_turn, cast("list[Any]", asked))))


def _is_text_turn(turn: Any) -> bool:
    if isinstance(turn, str):
        return True
    if not isinstance(turn, Mapping):
        return False
    content = cast("Mapping[str, Any]", turn).get("content")
    blocks = cast("list[Any]", content) if isinstance(content, list) else ()
    return isinstance(content, str | list | None) and all(
        isinstance(block, Mapping) and cast("Mapping[str, Any]", block).get("type") in _TEXT_BLOCKS for block in blocks
    )


def has_grown(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a request may cost more than the arguments that it was held by: a hook may have changed it since."""
    if _bare(before["model"]) != _bare(now.get("model")):
        return True
    (limit, answers), (allowed, more) = asked_limits(before), asked_limits(now)
    if (limit is not None and (allowed is None or allowed > limit)) or more > answers:
        return True
    if reads_more(now) and not reads_more(before):
        return True
    return _length(now) > _length(before)


def _bare(model: object) -> str:
    return str(model).rpartition("/")[2]  # what stands before it may say how to reach a model: bedrock/converse/...


def _length(details: Mapping[str, Any]) -> int:
    # Of the texts alone: LiteLLM may have put them into another interface's messages.
    wire = (details.get("additional_args") or {}).get("complete_input_dict")
    parts = [wire[name] for name in ("messages", "input", "prompt") if wire.get(name)] if isinstance(wire, dict) else []
    said = cast("Mapping[str, Any]", wire if parts else details.get("optional_params") or {})
    parts = parts or [details.get("input") or details.get("messages")]
    return sum(len(text) for part in (*parts, *map(said.get, _PROMPTS)) for text in texts(part))
