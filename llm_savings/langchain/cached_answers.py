# pyright: standard
"""Answers of LangChain's models as the semantic cache keeps them, and as it gives them again."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation
from pydantic import BaseModel

from llm_savings.langchain.messages import loads

KEY = "llm_savings"
"""Where an answer's `response_metadata` has what the package did for it."""

# How answers end that are whole, in the words of one provider or another; every other end is a reason not to keep one.
_WHOLE = frozenset(
    re.findall(
        r"\w+",
        """
        stop end_turn stop_sequence tool_calls tool_use function_call complete completed eos eos_token end_of_turn
        finish finished success finish_reason_stop
        """,
    )
)
_ENDS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
_NOTHING = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": 0}
_WORD = re.compile(r"\s*\S+\s*|\s+")
_LETTERS = string.ascii_letters + string.digits


def why_not_kept(generations: Sequence[Generation], *, tools: bool) -> str | None:
    """Why an answer is not to be given to others, or None when it may be.

    Args:
        generations: The answer.
        tools: Whether calls of tools may be given again.
    """
    for generation in generations:
        message = getattr(generation, "message", None)
        if isinstance(message, AIMessage):
            if message.additional_kwargs.get("refusal") or _has_refusal(message.content):
                return "refused"
            if message.invalid_tool_calls:
                return "broken"
            calls = message.tool_calls or message.additional_kwargs.get("function_call")
            if calls and not tools:
                return "calls tools"
            if not calls and not message.text.strip():
                return "empty"
        elif not generation.text.strip():
            return "empty"
        if any(how.lower() not in _WHOLE for how in ends([generation])):
            return "not whole"
    return None if generations else "empty"


def ends(generations: Sequence[Generation]) -> list[str]:
    """How the answer says that it ended, in its provider's words."""
    found: list[str] = []
    for generation in generations:
        message = getattr(generation, "message", None)
        said = {**(generation.generation_info or {}), **getattr(message, "response_metadata", {})}
        found += [how for end in _ENDS if isinstance(how := said.get(end), str) and how]
    return found


def write(generations: Sequence[Generation]) -> str:
    """The answer as text; `read` makes it again."""
    # In plain letters, so that what removes names finds them.
    return dumps([_kept(generation) for generation in generations], ensure_ascii=False)


def read(written: str) -> list[Generation] | None:
    """The answer anew, with ids of its own, or None if this is none."""
    try:
        found = _loaded(written)
        if found and (calls := [call["id"] for message in _messages(found) for call in message.tool_calls]):
            for old in filter(None, calls):
                # Two calls with one id in a conversation are refused by some providers.
                written = written.replace(json.dumps(old), json.dumps(_another(old)))
            found = _loaded(written)
        return found
    except Exception:  # noqa: BLE001 - whatever somebody has put there
        return None


def words(written: str) -> str:
    """The words of an answer that `write` has written, to compare two of them."""
    return "\n".join(generation.text for generation in _loaded(written) or ())


def given(generations: list[Generation], evidence: Mapping[str, Any]) -> list[Generation]:
    """The answer as it is given again: nobody is to count its tokens twice."""
    for generation in generations:
        message = getattr(generation, "message", None)
        if isinstance(generation, ChatGeneration) and isinstance(message, AIMessage):
            meta = {**message.response_metadata, KEY: {**evidence, "usage": message.usage_metadata}}
            if "response_cost" in meta:  # ChatLiteLLM's
                meta["response_cost"] = 0
            generation.message = message.model_copy(
                update={"response_metadata": meta, "usage_metadata": dict(_NOTHING)}
            )
    return generations


def show(generations: Sequence[Generation], evidence: Mapping[str, Any]) -> None:
    """Have a fresh answer say why it did not come from the cache, beside what others say in it."""
    for generation in generations:
        message = getattr(generation, "message", None)
        if isinstance(generation, ChatGeneration) and isinstance(message, AIMessage):
            meta = shown(message.response_metadata, evidence)
            generation.message = message.model_copy(update={"response_metadata": meta})


def shown(said: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """An answer's metadata with this evidence beside what others say in it."""
    return {**said, KEY: {**said.get(KEY, {}), **evidence}}


def pieces(generation: Generation) -> Iterator[ChatGenerationChunk]:
    """An answer as a stream has it. Together the pieces are the answer again."""
    message = cast("AIMessage", cast("ChatGeneration", generation).message)
    meta = dict(message.response_metadata)
    first = {KEY: meta.pop(KEY)} if KEY in meta else {}  # whoever leaves the stream early is to know as well
    for part in _parts(message):
        yield ChatGenerationChunk(message=AIMessageChunk(**part, response_metadata=first))
        first = {}
    beside = dict(message.additional_kwargs)
    if message.tool_calls:
        beside.pop("tool_calls", None)  # LangChain would take them for more calls
    last = AIMessageChunk(
        content="" if isinstance(message.content, str) else [],
        additional_kwargs=beside,
        response_metadata={**first, **meta},
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _parts(message: AIMessage) -> Iterator[dict[str, Any]]:
    content = message.content
    if isinstance(content, str):
        yield from ({"content": word} for word in _WORD.findall(content))
    else:
        for place, block in enumerate(content):
            yield {"content": [{"index": place, **block} if isinstance(block, dict) else block]}
    for place, call in enumerate(message.tool_calls):
        written = {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": place}
        yield {
            "content": "" if isinstance(content, str) else [],
            "tool_call_chunks": [{**written, "type": "tool_call_chunk"}],
        }


def _kept(generation: Generation) -> Generation:
    info = _plain(generation.generation_info)
    if not isinstance(generation, ChatGeneration):
        return Generation(text=generation.text, generation_info=info)
    message = cast("AIMessage", generation.message)
    beside = dict(message.additional_kwargs)
    if "parsed" in beside:
        # An object of the user's own class; LangChain makes it anew of these values.
        beside["parsed"] = _parsed(message.text, beside["parsed"])
    meta = {key: value for key, value in message.response_metadata.items() if key != KEY}
    kept = AIMessage(
        content=message.content,
        additional_kwargs=_plain(beside),
        response_metadata=_plain(meta),
        tool_calls=message.tool_calls,
        usage_metadata=message.usage_metadata,
        name=message.name,
    )
    return ChatGeneration(message=kept, generation_info=info)


def _loaded(written: str) -> list[Generation] | None:
    found = loads(written)
    if not isinstance(found, list) or not found:
        return None
    whole = all(
        isinstance(getattr(one, "message", None), AIMessage)
        if isinstance(one, ChatGeneration)
        else type(one) is Generation
        for one in found
    )
    return found if whole else None


def _messages(generations: Sequence[Generation]) -> list[AIMessage]:
    found: list[BaseMessage | None] = [getattr(generation, "message", None) for generation in generations]
    return [message for message in found if isinstance(message, AIMessage)]


def _parsed(text: str, value: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value


def _plain(value: Any) -> Any:
    """What JSON can say of a value: an answer's metadata may hold objects of its client's."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return None


def _has_refusal(content: Any) -> bool:
    return isinstance(content, list) and any(isinstance(b, Mapping) and b.get("type") == "refusal" for b in content)


def _another(call_id: str) -> str:
    """A fresh id of the same form: providers differ in what they take for one."""
    head, _, tail = call_id.rpartition("_")
    fresh = "".join(secrets.choice(_LETTERS) for _ in tail)
    return f"{head}_{fresh}" if head else fresh
