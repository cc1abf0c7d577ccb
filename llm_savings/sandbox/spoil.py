"""Structured answers that are no good, on request, in the ways in which models get them wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from .answers import Answer, Ask, Replies, ToolCall
from .wire import JSON, dumps, is_array, is_object

SPOILS = {
    "truncated": "half of the answer, with the word that it reached its limit; billed",
    "half": "half of the answer, and no word about it; billed",
    "interleaved": "the second column's values stand among the first one's; billed",
    "unequal": "the last column is one value short; billed",
    "wrong-type": "the first number is a text; billed",
    "refused": "the model refuses to answer; billed",
}
REFUSAL = "I can't help with that."


class Spoiled:
    """Answers requests as another does, but for one fault.

    Args:
        replies: Who answers.
        kind: One of `SPOILS`.
    """

    def __init__(self, replies: Replies, kind: str) -> None:
        self._replies, self._kind = replies, kind

    def reply(self, ask: Ask, choice: int = 0) -> Answer:
        """The answer, spoilt."""
        answer = self._replies.reply(ask, choice)
        if self._kind == "refused":
            return Answer(REFUSAL, ended="refused")
        calls = tuple(ToolCall(call.name, self._spoilt(call.arguments, whole=True)) for call in answer.calls)
        ended = "cut" if self._kind == "truncated" else None
        return replace(answer, text=self._spoilt(answer.text), calls=calls, ended=ended)

    def _spoilt(self, text: str, *, whole: bool = False) -> str:
        if self._kind in ("truncated", "half") and not whole:
            return text[: len(text) // 2]
        try:
            value: Any = json.loads(text)
        except ValueError:
            return text
        if not is_object(value):
            return text
        return dumps(self._object(value))

    def _object(self, value: JSON) -> JSON:
        columns = [name for name, item in value.items() if is_array(item)]
        if self._kind in ("truncated", "half"):  # a call's arguments are an object in any case
            return dict(list(value.items())[:-1])
        if self._kind == "wrong-type":
            return _with_text_for_number(value, [False])
        if self._kind == "unequal" and len(columns) > 1:
            return {**value, columns[-1]: value[columns[-1]][:-1]}
        if self._kind == "interleaved" and len(columns) > 1:
            pairs = zip(value[columns[0]], value[columns[1]], strict=False)
            return {**value, columns[0]: [item for pair in pairs for item in pair]}
        return value


def _with_text_for_number(value: Any, done: list[bool]) -> Any:
    if is_object(value):
        return {name: _with_text_for_number(item, done) for name, item in value.items()}
    if is_array(value):
        return [_with_text_for_number(item, done) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not done[0]:
        done[0] = True
        return f"{value} or so"
    return value
