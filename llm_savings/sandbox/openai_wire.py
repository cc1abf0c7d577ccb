"""OpenAI's chat completions: POST /v1/chat/completions, whole and streamed.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .answers import Answer, Ask, Replies, Tool, ToolCall
from .catalog import Model, find
from .count import OpenAITokens, openai_tokens
from .openai_prompt import PER_CALL, cached, prompt_blocks, text_of
from .openai_rules import (
    CHAT_PARAMETERS,
    billed_tier,
    check_body,
    check_messages,
    check_model_parameters,
    read_format,
    read_tools,
)
from .prompt_cache import Account, Split
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


def chat(body: JSON, answers: Replies, account: Account) -> Work:
    """The work that a chat completion request asks for.

    Raises:
        WireError: OpenAI would refuse it.
    """
    check_body(body, CHAT_PARAMETERS, required=("model", "messages"))
    model = find("openai", body["model"])
    check_model_parameters(body, model)
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1), ("n", 1, 128)):
        check_range(body, name, low, high)
    for name in ("max_completion_tokens", "max_tokens"):
        check_range(body, name, 1, model.max_output)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else sequence(body.get("stop"))
    check_texts(stops, "stop")
    messages = sequence(body["messages"])
    check_messages(messages)
    tokens = openai_tokens()
    tools = read_tools(body)
    schema = read_format(mapping(body.get("response_format")), messages)
    ask = read_ask(body, messages, model, tools, schema)
    blocks = prompt_blocks(messages, tools, schema)
    check_context(sum(block.tokens for block in blocks), model)
    writing = Writing(model, tokens, limit or model.max_output, tuple(stops))
    effort = body.get("reasoning_effort") or "medium"
    choices = [writing.write(answers.reply(ask, number), ask, effort) for number in range(body.get("n") or 1)]
    return _work(body, model, tokens, cached(account, model, body, blocks), choices)


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished alternative: what is visible of it, why it ended and what it cost."""

    answer: Answer
    finish: str
    tokens: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Writing:
    """How a model's answer becomes tokens: hidden reasoning first, then text up to a stop or the limit."""

    model: Model
    tokens: OpenAITokens
    limit: int
    stops: tuple[str, ...] = ()

    def write(self, answer: Answer, ask: Ask, effort: str) -> Choice:
        """The choice that this answer becomes."""
        if answer.ended:
            spent = self.tokens(answer.text) + sum(self.tokens(call.arguments) for call in answer.calls)
            return Choice(answer, "length" if answer.ended == "cut" else "stop", min(spent, self.limit), 0)
        reasoning = reasoning_tokens(self.model, ask, effort)
        if reasoning >= self.limit:  # all of it spent on thinking: billed, and nothing to show
            return Choice(Answer(""), "length", self.limit, self.limit)
        room = self.limit - reasoning
        if answer.calls:
            return self._write_calls(answer, room, reasoning)
        text = answer.text
        for stop in self.stops:
            text = text.partition(stop)[0]
        cost = self.tokens(text)
        if cost > room:
            return Choice(Answer(self.tokens.clip(text, room)), "length", self.limit, reasoning)
        return Choice(Answer(text), "stop", reasoning + cost, reasoning)

    def _write_calls(self, answer: Answer, room: int, reasoning: int) -> Choice:
        cost = sum(self.tokens(call.name) + self.tokens(call.arguments) + PER_CALL for call in answer.calls)
        if cost <= room:
            return Choice(answer, "tool_calls", reasoning + cost, reasoning)
        first = answer.calls[0]
        left = max(0, room - PER_CALL - self.tokens(first.name))
        call = ToolCall(first.name, self.tokens.clip(first.arguments, left))
        return Choice(Answer("", (call,)), "length", self.limit, reasoning)


def reasoning_tokens(model: Model, ask: Ask, effort: str) -> int:
    """Hidden tokens of a reasoning model: in steps of 64, more for longer prompts and higher effort."""
    if not model.reasoning:
        return 0
    scale = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 4, "xhigh": 8}.get(effort, 2)
    return 64 * scale * (1 + len(ask.prompt) % 3)


def check_context(prompt_tokens: int, model: Model) -> None:
    """Refuse a prompt that the model cannot hold."""
    if prompt_tokens > model.context:
        message = (
            f"This model's maximum context length is {model.context} tokens. "
            f"However, your messages resulted in {prompt_tokens} tokens."
        )
        raise WireError(400, message, code="context_length_exceeded", param="messages")


def read_ask(body: JSON, messages: list[Any], model: Model, tools: tuple[Tool, ...], schema: JSON | None) -> Ask:
    """What is asked by a chat request, or by one of the Responses API whose input is chat messages by now."""
    asked = [text_of(message.get("content")) for message in messages if message["role"] == "user"]
    chosen = body.get("tool_choice") or body.get("function_call") or "auto"
    if is_object(chosen):
        chosen = mapping(chosen.get("function")).get("name") or chosen.get("name") or "required"
        if not any(tool.name == chosen for tool in tools):
            message = f"Tool choice '{chosen}' not found in 'tools' parameter."
            raise WireError(400, message, param="tool_choice")
    last = messages[-1]
    return Ask(
        prompt=asked[-1] if asked else text_of(last.get("content")),
        context=dumps([[message["role"], heard(message.get("content"))] for message in messages]),
        small=model.small,
        tool_result=text_of(last.get("content")) if last["role"] in ("tool", "function") else None,
        tools=tools,
        choice=str(chosen),
        several=body.get("parallel_tool_calls") is not False,
        schema=schema,
    )


def _work(body: JSON, model: Model, tokens: OpenAITokens, split: Split, choices: list[Choice]) -> Work:
    tier = billed_tier(body.get("service_tier"), model)
    head: JSON = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model.snapshot,
    }
    tail: JSON = {"service_tier": "default" if tier == "standard" else tier, "system_fingerprint": "fp_sandbox"}
    reasoning = sum(choice.reasoning for choice in choices)
    written = {"cache_write_tokens": split.short} if model.breakpoints else {}

    def usage(output: int) -> JSON:
        return {
            "prompt_tokens": split.total,
            "completion_tokens": output,
            "total_tokens": split.total + output,
            "prompt_tokens_details": {"cached_tokens": split.read, **written, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": min(reasoning, output),
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    total = sum(choice.tokens for choice in choices)
    whole = usage(total)
    legacy = "functions" in body
    shown = [_choice(number, choice, legacy) for number, choice in enumerate(choices)]
    chunk: JSON = {**head, "object": "chat.completion.chunk", **tail}
    include = mapping(body.get("stream_options")).get("include_usage") is True
    user = body.get("user")
    return Work(
        id=head["id"],
        endpoint="/v1/chat/completions",
        model=body["model"],
        tier=tier,
        stream=body.get("stream") is True,
        user=user if isinstance(user, str) else None,
        usage=whole,
        body={**head, "choices": shown, "usage": whole, **tail},
        events=_stream(chunk, shown, whole if include else None),
        partial=lambda text: usage(min(total, reasoning + tokens(text))),
    )


def _choice(number: int, choice: Choice, legacy: bool) -> JSON:
    message: JSON = {"role": "assistant", "content": choice.answer.text, "refusal": None, "annotations": []}
    if choice.answer.ended == "refused":
        message |= {"content": None, "refusal": choice.answer.text}
    finish = choice.finish
    calls = [
        {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": c.name, "arguments": c.arguments},
        }
        for c in choice.answer.calls
    ]
    if calls:
        message["content"] = None
        if legacy:
            message["function_call"] = calls[0]["function"]
            finish = "function_call" if finish == "tool_calls" else finish
        else:
            message["tool_calls"] = calls
    return {"index": number, "message": message, "logprobs": None, "finish_reason": finish}


def _sse(payload: object) -> bytes:
    """One server-sent event without a name."""
    return f"data: {dumps(payload)}\n\n".encode()


def _stream(chunk: JSON, choices: list[JSON], usage: JSON | None) -> Callable[[], Iterator[Event]]:
    """The chunks of an answer: role, pieces, finish reason; then the usage, when it was asked for, and the end."""
    quiet: JSON = {} if usage is None else {"usage": None}

    def event(number: int, delta: JSON, text: str = "", finish: str | None = None, complete: bool = False) -> Event:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Event(_sse({**chunk, "choices": [choice], **quiet}), text, complete)

    def events() -> Iterator[Event]:
        for number, choice in enumerate(choices):
            message = choice["message"]
            yield event(number, {"role": "assistant", "content": message["content"] and "", "refusal": None})
            member = "content" if message["refusal"] is None else "refusal"
            for piece in pieces(message[member] or ""):
                yield event(number, {member: piece}, piece)
            for place, call in enumerate(message.get("tool_calls", ())):
                name = call["function"]["name"]
                start = {**call, "index": place, "function": {"name": name, "arguments": ""}}
                yield event(number, {"tool_calls": [start]}, name)
                for piece in pieces(call["function"]["arguments"]):
                    yield event(number, {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, piece)
            if "function_call" in message:
                yield event(number, {"function_call": message["function_call"]}, message["function_call"]["arguments"])
            last = number == len(choices) - 1
            yield event(number, {}, finish=choice["finish_reason"], complete=last)
        if usage is not None:
            yield Event(_sse({**chunk, "choices": [], "usage": usage}))
        yield Event(b"data: [DONE]\n\n")

    return events
