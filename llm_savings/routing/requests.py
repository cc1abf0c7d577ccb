"""What routing reads of a request: the last user turn, the turns around it, and what the model will have to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

HEAD, TAIL = 3_000, 1_000
"""Characters that are read of a turn: a question stands at either end, and a megabyte must not cost milliseconds."""

_USERS = frozenset(("user", "human"))
_ASSISTANTS = frozenset(("assistant", "ai", "model"))

_IMAGES = frozenset(("image", "image_url", "input_image"))
_AUDIO = frozenset(("audio", "input_audio", "audio_url"))
_FILES = frozenset(("file", "input_file", "document"))
_PER_IMAGE, _PER_FILE = 1_500, 3_000  # tokens; rough, and only weighed against a context window


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as routing sees it.

    Attributes:
        text: The last user turn, at most 4,000 characters of it.
        before: The user turn before that, or "".
        length: Characters of the whole last user turn.
        tokens: About how many the whole request has; rather too many than too few.
        prefix: About how many of them stand before the last user turn.
        turns: How many turns the user has had.
        answered: Whether the assistant has said something before the last user turn.
        needs: What the model must take: "vision", "audio", "documents", "tools", "json_schema".
        output: Tokens of answer that were asked for, or 0.
    """

    text: str
    before: str = ""
    length: int = 0
    tokens: int = 0
    prefix: int = 0
    turns: int = 1
    answered: bool = False
    needs: frozenset[str] = frozenset()
    output: int = 0


def read(
    messages: object, *, tools: object = None, response_format: object = None, max_tokens: int | None = None
) -> Asked:
    """Read a request. What cannot be read is passed over; nothing is changed.

    Args:
        messages: As the OpenAI protocol writes them (other hosts' content blocks are known too), or text.
        tools: Tool definitions, if any.
        response_format: As the OpenAI protocol writes it.
        max_tokens: Tokens of answer asked for.
    """
    needs: set[str] = set()
    if tools:
        needs.add("tools")
    if _is_mapping(response_format) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    if isinstance(messages, str | bytes):
        messages = [{"role": "user", "content": messages}]
    turns = [each for each in cast("Sequence[object]", messages or ()) if _is_mapping(each)]
    last = max((place for place, turn in enumerate(turns) if turn.get("role") in _USERS), default=len(turns) - 1)
    text, before, length, tokens, prefix, users, answered = "", "", 0, _tokens(str(tools)) if tools else 0, 0, 0, False
    for place, turn in enumerate(turns):
        parts = _parts(turn.get("content"), needs)
        size = sum(_tokens(part) if isinstance(part, str) else part for part in parts)
        size += _tokens(str(turn["tool_calls"])) if turn.get("tool_calls") else 0
        if place == last:
            prefix = tokens
        tokens += size + 4
        role = turn.get("role")
        if role in _USERS or place == last:
            said = " ".join(part for part in parts if isinstance(part, str))
            users += 1
            before, text, length = text, bounded(said), len(said)
        elif role in _ASSISTANTS and place < last:
            answered = True
    return Asked(
        text=text,
        before=before,
        length=length,
        tokens=tokens,
        prefix=prefix,
        turns=users,
        answered=answered,
        needs=frozenset(needs),
        output=max_tokens or 0,
    )


def bounded(text: str) -> str:
    """The part of a text that is read: all of it, or its first 3,000 and last 1,000 characters."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def _parts(content: object, needs: set[str]) -> list[str | int]:
    """The texts of a message's content, and tokens for what is no text; what a model needs for it is noted."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, bytes):
        return [content.decode("utf-8", "replace")]
    if not isinstance(content, Sequence):
        return []
    found: list[str | int] = []
    for block in cast("Sequence[object]", content):
        if isinstance(block, str):
            found.append(block)
        elif _is_mapping(block):
            kind = block.get("type")
            if kind in _IMAGES:
                needs.add("vision")
                found.append(_PER_IMAGE)
            elif kind in _AUDIO:
                needs.add("audio")
                found.append(_PER_IMAGE)
            elif kind in _FILES:
                needs.add("documents")
                found.append(_PER_FILE)
            elif isinstance(said := block.get("text"), str):
                found.append(said)
            elif kind == "tool_result":  # may hold text and images of its own, which are not the user's words
                inner = _parts(block.get("content"), needs)
                found.append(sum(_tokens(part) if isinstance(part, str) else part for part in inner))
    return found


def _tokens(text: str) -> int:
    """About the tokens of a text: a third of its bytes of UTF-8, which few languages exceed."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 3 + 1


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
