"""LiteLLM's answers as the semantic cache keeps them, and back: JSON of a whole answer, streamed or not."""
# pyright: standard

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from llm_savings.litellm.answers import texts
from llm_savings.litellm.cache_requests import Kind

# Where LiteLLM puts the events of a stream of Anthropic's, which it caches as they came.
_EVENTS = "litellm_cached_anthropic_sse_events"
# What the Responses API says back of the request: who asked is nobody else's business.
_ASKERS = ("metadata", "user", "safety_identifier", "prompt_cache_key")
_ENDED = {"stop", "end_turn", "stop_sequence", "completed"}
_CALLED = {"tool_calls", "function_call", "tool_use"}
# How a block of Anthropic's is streamed: its field, and the delta that fills it.
_DELTAS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}


def body_of(result: Any) -> dict[str, Any] | None:
    """The JSON of an answer as LiteLLM hands it over to be cached; None if it is none."""
    if isinstance(result, BaseModel):
        result = result.model_dump_json()
    if isinstance(result, str):
        try:
            result = json.loads(result)
        except ValueError:
            return None
    if not isinstance(result, dict):
        return None
    body = cast("dict[str, Any]", result)
    if _EVENTS in body:
        return _message(body[_EVENTS])
    return {name: value for name, value in body.items() if name not in _ASKERS}


def kind_of_body(body: Mapping[str, Any]) -> Kind | None:
    """What an answer looks like."""
    if body.get("type") == "message":
        return "messages"
    if body.get("object") == "response":
        return "responses"
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
        return None
    return "chat" if all(isinstance(one.get("message"), dict) for one in choices) else "text"


def answers_all(body: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    """Whether it has all that was asked for: LiteLLM may make one choice of several that were streamed."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return True
    scored = not call.get("logprobs") or all(choice.get("logprobs") for choice in choices)
    return scored and len(choices) == (call.get("n") or 1)


def is_whole(body: Mapping[str, Any], kind: Kind, *, tools: bool) -> bool:
    """Whether an answer may be given again: not cut short, refused or empty, nor, unless allowed, calling a tool."""
    if body.get("error") or body.get("detail"):
        return False
    if kind == "messages":
        parts = [(body.get("stop_reason"), body.get("content"))]
    elif kind == "responses":
        parts = [(body.get("status"), body.get("output"))]
    else:
        parts = [(one.get("finish_reason"), one.get("message") or one.get("text")) for one in body["choices"]]
    return all(_is_whole(ended, said, tools=tools) for ended, said in parts)


def _is_whole(ended: Any, said: Any, *, tools: bool) -> bool:
    parts = _parts(said)
    calls = ended in _CALLED or any(_calls(part) for part in parts)
    if not parts or (calls and not tools) or not (ended in _ENDED or (ended in _CALLED and tools)):
        return False
    if any(part.get("refusal") or part.get("type") == "refusal" for part in parts):
        return False
    return calls or any(_words(part).strip() for part in parts)


def _words(part: Mapping[str, Any]) -> str:
    """What a part says to the user; its thoughts are not an answer."""
    text = part.get("text") if part.get("type") in ("text", "output_text") else part.get("content")
    return text if isinstance(text, str) else ""


def _parts(said: Any) -> list[Mapping[str, Any]]:
    """A message with its blocks, or a list's items with theirs."""
    found: list[Mapping[str, Any]] = []
    for item in said if isinstance(said, list) else [said]:
        part: Mapping[str, Any] = item if isinstance(item, dict) else {"type": "text", "text": item}
        if isinstance(item, dict) or item:
            found += [part, *_parts(blocks)] if isinstance(blocks := part.get("content"), list) else [part]
            found += [inner] if isinstance(inner := part.get("provider_specific_fields"), dict) else []
    return found


def _calls(part: Mapping[str, Any]) -> bool:
    """Whether a part is, or holds, a call of a tool: the provider's own tools' too."""
    kind = str(part.get("type"))
    return bool(part.get("tool_calls") or part.get("function_call")) or kind.endswith(("_call", "tool_use", "_result"))


def reply_of(body: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """What LiteLLM's cache handler turns into the answer: it replays chat completions and responses by itself."""
    if stream and body.get("type") == "message":
        return {_EVENTS: list(_events(body))}
    if body.get("object") == "response" and str(body.get("id")).startswith("chatcmpl"):
        # LiteLLM names them so where a provider has no Responses API, and takes what is named so for a completion.
        return {**body, "id": f"resp_{body['id']}"}
    return body


def text_of(answer: str) -> str:
    """The words of a kept answer."""
    body = json.loads(answer)
    return "".join(texts(body.get("choices") or body.get("output") or body.get("content")))


def _message(events: Sequence[str | bytes]) -> dict[str, Any] | None:
    """Anthropic's events as the message that they make; None if it is not whole."""
    message: dict[str, Any] | None = None
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    ended = False
    for event in _read(events):
        kind, at = event.get("type"), event.get("index", 0)
        delta: dict[str, Any] = event.get("delta") or {}
        if kind == "message_start":
            message = dict(event["message"])
        elif kind == "content_block_start":
            blocks[at] = dict(event["content_block"])
        elif kind == "content_block_delta" and at in blocks:
            if delta.get("type") == "input_json_delta":
                inputs[at] = inputs.get(at, "") + delta.get("partial_json", "")
            elif delta.get("type") == "citations_delta":
                blocks[at]["citations"] = [*(blocks[at].get("citations") or ()), delta.get("citation")]
            else:
                for name in delta.keys() - {"type"}:
                    blocks[at][name] = (blocks[at].get(name) or "") + delta[name]
        elif kind == "message_delta" and message is not None:
            message |= delta
            message["usage"] = {**(message.get("usage") or {}), **(event.get("usage") or {})}
        ended = ended or kind == "message_stop"
    if message is None or not ended:
        return None
    for at, written in inputs.items():
        blocks[at]["input"] = json.loads(written or "{}")
    return {**message, "content": [blocks[at] for at in sorted(blocks)]}


def _read(events: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    for event in events:
        # Not splitlines(): an answer may hold other line ends, such as U+2028.
        for line in (event.decode() if isinstance(event, bytes) else event).split("\n"):
            if line.startswith("data:") and isinstance(said := json.loads(line[5:]), dict):
                yield said


def _events(message: Mapping[str, Any]) -> Iterator[str]:
    """A message as the events that stream it."""
    usage, ended = message.get("usage"), {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield _event("message_start", message={**message, "content": [], **dict.fromkeys(ended)})
    for at, block in enumerate(message.get("content") or ()):
        field, delta = _DELTAS.get(block.get("type"), (None, None))
        if block.get("type") == "tool_use":
            start, deltas = (
                {**block, "input": {}},
                [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}],
            )
        elif field is None:
            start, deltas = block, []
        else:
            start, deltas = {**block, field: ""}, [{"type": delta, field: block.get(field)}]
            if signature := start.pop("signature", None):
                deltas.append({"type": "signature_delta", "signature": signature})
            for citation in start.pop("citations", None) or ():
                deltas.append({"type": "citations_delta", "citation": citation})
        yield _event("content_block_start", index=at, content_block=start)
        for one in deltas:
            yield _event("content_block_delta", index=at, delta=one)
        yield _event("content_block_stop", index=at)
    yield _event("message_delta", delta=ended, usage=usage)
    yield _event("message_stop")


def _event(kind: str, **said: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **said}, ensure_ascii=False)}\n\n"
