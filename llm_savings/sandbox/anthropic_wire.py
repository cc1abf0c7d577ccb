"""Anthropic's messages: POST /v1/messages, whole and streamed, and /v1/messages/count_tokens.

Source: https://docs.claude.com/en/api/messages, https://docs.claude.com/en/api/messages-streaming
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

from .answers import Answer, Ask, Replies
from .anthropic_prompt import PER_ANSWER, PER_CALL, prompt_blocks
from .anthropic_rules import (
    COUNT_PARAMETERS,
    MESSAGE_PARAMETERS,
    check_body,
    check_format,
    check_marks,
    check_messages,
    read_choice,
    read_tools,
    text_of,
)
from .catalog import Model, find
from .count import AnthropicTokens, anthropic_tokens
from .prompt_cache import LOOKBACK, Account, Block, Split
from .wire import (
    JSON,
    Event,
    WireError,
    Work,
    check_range,
    check_texts,
    dumps,
    heard,
    is_object,
    mapping,
    pieces,
    sequence,
)


def messages(body: JSON, answers: Replies, account: Account) -> Work:
    """The work that a message request asks for.

    Raises:
        WireError: Anthropic would refuse it.
    """
    check_body(body, MESSAGE_PARAMETERS, required=("model", "messages", "max_tokens"))
    model = find("anthropic", body["model"])
    check_range(body, "max_tokens", 1, model.max_output)
    check_range(body, "temperature", 0, 1)
    check_range(body, "top_p", 0, 1)
    check_texts(sequence(body.get("stop_sequences")), "stop_sequences")
    ask, blocks = _read(body, model)
    prompt_tokens = sum(block.tokens for block in blocks)
    if prompt_tokens > model.context:
        raise WireError(400, f"prompt is too long: {prompt_tokens} tokens > {model.context} maximum")
    answer = answers.reply(ask)
    split = account.marked(model.name, blocks, minimum=model.least_cached, lookback=LOOKBACK)
    return _work(body, model, split, answer)


def count_tokens(body: JSON) -> JSON:
    """What `/v1/messages/count_tokens` says of a request.

    Raises:
        WireError: Anthropic would refuse it.
    """
    check_body(body, COUNT_PARAMETERS, required=("model", "messages"))
    _, blocks = _read(body, find("anthropic", body["model"]))
    return {"input_tokens": sum(block.tokens for block in blocks)}


def _read(body: JSON, model: Model) -> tuple[Ask, list[Block]]:
    turns = sequence(body["messages"])
    check_messages(turns)
    check_marks(body)
    tools = read_tools(body)
    choice, several = read_choice(body, tools)
    schema = mapping(mapping(body.get("output_config")).get("format") or body.get("output_format")).get("schema")
    if is_object(schema):
        check_format(schema)
    asked = ["\n".join(text_of(turn["content"])) for turn in turns if turn["role"] == "user"]
    asked = [text for text in asked if text] or [""]
    results = [block for block in sequence(turns[-1]["content"]) if block["type"] == "tool_result"]
    ask = Ask(
        prompt=asked[-1],
        context=dumps([heard(body.get("system")), [[turn["role"], heard(turn["content"])] for turn in turns]]),
        small=model.small,
        tool_result="\n".join(t for block in results for t in text_of(block.get("content"))) if results else None,
        tools=tools,
        choice=choice,
        several=several,
        schema=mapping(schema) if is_object(schema) else None,
    )
    return ask, prompt_blocks(body, tools, choice, schema)


def _finish(body: JSON, answer: Answer, tokens: AnthropicTokens) -> tuple[list[JSON], str, str | None, int]:
    """The content blocks that fit, why they end, the stop sequence that was met, and the output tokens."""
    limit = int(body["max_tokens"])
    if answer.ended == "refused":
        return [], "refusal", None, min(limit, PER_ANSWER + tokens(answer.text))
    if answer.calls:
        cost = PER_ANSWER + sum(tokens(call.name) + tokens(call.arguments) + PER_CALL for call in answer.calls)
        if cost > limit or answer.ended == "cut":  # cut inside a call: nothing usable is left, all of it is billed
            return [], "max_tokens", None, min(cost, limit)
        blocks: list[JSON] = [
            {
                "type": "tool_use",
                "id": f"toolu_{uuid.uuid4().hex[:24]}",
                "name": c.name,
                "input": json.loads(c.arguments),
            }
            for c in answer.calls
        ]
        return blocks, "tool_use", None, cost
    text, reason, met = answer.text, "end_turn", None
    for stop in sequence(body.get("stop_sequences")):
        if stop in text:
            text, reason, met = text.partition(stop)[0], "stop_sequence", str(stop)
    cost = PER_ANSWER + tokens(text)
    if cost > limit:
        text, reason, met, cost = tokens.clip(text, max(0, limit - PER_ANSWER)), "max_tokens", None, limit
    elif answer.ended == "cut":
        reason = "max_tokens"
    return [{"type": "text", "text": text}] if text else [], reason, met, cost


def _work(body: JSON, model: Model, split: Split, answer: Answer) -> Work:
    tokens = anthropic_tokens()
    blocks, reason, met, output = _finish(body, answer, tokens)

    def usage(output_tokens: int) -> JSON:
        return {
            "input_tokens": split.fresh,
            "cache_creation_input_tokens": split.short + split.long,
            "cache_read_input_tokens": split.read,
            "cache_creation": {"ephemeral_5m_input_tokens": split.short, "ephemeral_1h_input_tokens": split.long},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }

    message: JSON = {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model.snapshot,
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": met,
        "usage": usage(output),
    }
    user = mapping(body.get("metadata")).get("user_id")
    return Work(
        id=message["id"],
        endpoint="/v1/messages",
        model=body["model"],
        tier="standard",
        stream=body.get("stream") is True,
        user=user if isinstance(user, str) else None,
        usage=message["usage"],
        body=message,
        events=_stream(message, usage(1)),
        partial=lambda text: usage(min(output, PER_ANSWER + tokens(text))),
    )


def _stream(message: JSON, first: JSON) -> Callable[[], Iterator[Event]]:
    """message_start, each block in pieces, message_delta with the final usage, message_stop."""

    def event(name: str, payload: JSON, text: str = "", complete: bool = False) -> Event:
        data = f"event: {name}\ndata: {dumps({'type': name, **payload})}\n\n".encode()
        return Event(data, text, complete)

    def events() -> Iterator[Event]:
        start: JSON = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": first}
        yield event("message_start", {"message": start})
        for index, block in enumerate(message["content"]):
            place: JSON = {"index": index}
            if block["type"] == "text":
                yield event("content_block_start", {**place, "content_block": {"type": "text", "text": ""}})
                yield event("ping", {})
                for piece in pieces(block["text"]):
                    yield event("content_block_delta", {**place, "delta": {"type": "text_delta", "text": piece}}, piece)
            else:
                yield event("content_block_start", {**place, "content_block": {**block, "input": {}}}, block["name"])
                for piece in pieces(dumps(block["input"])):
                    delta = {"type": "input_json_delta", "partial_json": piece}
                    yield event("content_block_delta", {**place, "delta": delta}, piece)
            yield event("content_block_stop", place)
        ending = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
        counted = {name: count for name, count in message["usage"].items() if name.endswith("_tokens")}
        yield event("message_delta", {"delta": ending, "usage": counted}, complete=True)
        yield event("message_stop", {})

    return events
