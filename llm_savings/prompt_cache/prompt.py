"""A prompt as a provider's cache sees it: blocks in order, each with the hash of everything up to its end.

Chat messages in OpenAI's and LiteLLM's form and content blocks in Anthropic's or Bedrock's are read alike. The order
is the provider's: tools, then system text, then messages. A change in a block changes the hash of it and of all after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, cast

import orjson

Part = Literal["tools", "system", "messages"]
MARK_KEYS = ("cache_control", "prompt_cache_breakpoint", "cachePoint")
"""Keys that mark a block, in the dialects of Anthropic, OpenAI and Bedrock. They are no part of the text."""

# What a change of makes the provider forget the messages, but not tools and system text (Anthropic's guide to prompt
# caching, "What invalidates the cache").
_ALTERS_MESSAGES = ("tool_choice", "parallel_tool_calls", "thinking", "reasoning_effort", "reasoning")
_NOT_MARKABLE = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
_IMAGES = ("image", "image_url", "input_image")
IMAGE_TOKENS = 1_000
"""An image's tokens where nothing tells its size: about (width x height) / 750, at most some 1,600 on Claude."""
_COUNTED = 12_000  # tokens: no provider's minimum is near it


class Place(NamedTuple):
    """Where a mark stands.

    Attributes:
        part: "tools", "system" (the separate argument) or "messages".
        number: Which tool, system block or message.
        block: Which content block of the message or, beyond them, which tool call; None for one string.
    """

    part: Part
    number: int
    block: int | None = None

    def __str__(self) -> str:
        name = {"tools": "tool", "system": "system block", "messages": "message"}[self.part]
        return f"{name} {self.number}" + ("" if self.block is None else f" block {self.block}")


@dataclass(slots=True)
class Prompt:
    """The blocks of a prompt, as parallel lists.

    Attributes:
        keys: Hash of everything up to the end of the block.
        tokens: Estimated tokens up to the end of the block, before any correction.
        places: Where the block is.
        markable: Whether a mark may stand on it.
        kinds: "tools", "system" or the message's role.
        own: The caller's marks: block -> name of the time to live.
        shared: The last block of tools and system text (of the first message, where there is neither), -1 if none.
        automatic: Marks that are no block's own: of the whole request (Anthropic's `cache_control` beside the
            messages), and more than one within a tool's result.
        agentic: Tools are given, and none of them must be called: an answer may ask for another call.
        opaque: The last block that is not text alone, so that its tokens may not follow from its length; -1 if none.
        heads: The bytes of the first blocks, as far as a prefix may be near a provider's minimum: they can be counted.
    """

    keys: list[int] = field(default_factory=list[int])
    tokens: list[int] = field(default_factory=list[int])
    places: list[Place] = field(default_factory=list[Place])
    markable: list[bool] = field(default_factory=list[bool])
    kinds: list[str] = field(default_factory=list[str])
    own: dict[int, str] = field(default_factory=dict[int, str])
    shared: int = -1
    automatic: int = 0
    agentic: bool = False
    opaque: int = -1
    heads: list[bytes] = field(default_factory=list[bytes])

    def __len__(self) -> int:
        return len(self.keys)


def read_prompt(
    messages: Sequence[Any],
    tools: Sequence[Any] | None = None,
    system: Any = None,
    *,
    seed: bytes = b"",
    options: Mapping[str, Any] | None = None,
) -> Prompt:
    """Read a prompt's blocks. Nothing that is given is changed.

    Args:
        messages: Chat messages; those with the role "system" or "developer" count as system text.
        tools: Tool definitions.
        system: System text given apart from the messages: a string or content blocks.
        seed: What else tells prompts apart: the model and the account.
        options: The call's other parameters, of which some make the provider forget the messages.
    """
    reader = _Reader(seed)
    for index, tool in enumerate(tools or ()):
        reader.block(Place("tools", index), tool, "tools")
    reader.text("system", None, system, "system")
    talk: list[tuple[int, Mapping[str, Any], str, bool]] = []
    images = False
    for index, message in enumerate(messages):
        fields = _fields(message)
        role = str(fields.get("role", "user"))
        if role in ("system", "developer"):
            reader.message(index, fields, "system", isinstance(message, dict))
        else:
            talk.append((index, fields, role, isinstance(message, dict)))
            images = images or (type(content := fields.get("content")) is not str and _has_image(content))
    prompt = reader.prompt
    prompt.shared = len(prompt) - 1
    prompt.automatic += int((options or {}).get("cache_control") is not None)
    prompt.agentic = bool(tools) and _free(options)
    reader.alter(options or {}, images)
    for index, fields, role, plain in talk:
        reader.message(index, fields, role, plain)
        if prompt.shared < 0:
            prompt.shared = len(prompt) - 1
    return prompt


class _Reader:
    """Goes through a prompt's blocks. Each block's hash is taken of the hash before it and the block's own bytes."""

    def __init__(self, seed: bytes) -> None:
        self.prompt = Prompt()
        self._before = blake2b(seed, digest_size=8).digest()
        self._ahead = b""  # what comes before the next block and is none itself, such as a message's role
        self._total = 0

    def alter(self, options: Mapping[str, Any], images: bool) -> None:
        """Mark what follows as another prompt's where the call's parameters make the provider forget the messages."""
        chosen = {name: options[name] for name in _ALTERS_MESSAGES if options.get(name) is not None}
        if chosen or images:
            self._ahead += _bytes([chosen, images])

    def message(self, index: int, fields: Mapping[str, Any], kind: str, plain: bool) -> None:
        content = fields.get("content")
        if len(fields) == 2 and type(content) is str:  # a role and a text: by far the commonest
            self._ahead += b"{%s}" % kind.encode()
            self._string(Place("messages", index), content, kind, plain)
            return
        rest = {name: value for name, value in fields.items() if name not in _NO_REST}
        self._ahead += b"{%s}" % kind.encode() + (_bytes(rest) if rest else b"")
        before = len(self.prompt.keys)
        if rest or fields.get("thinking_blocks"):
            self.prompt.opaque = before
        for thought in _listed(fields.get("thinking_blocks")):
            raw = _bytes(thought)
            self._ahead += raw
            self._total += len(raw) // 4
        count = self.text("messages", index, content, kind, plain)
        for number, call in enumerate(_listed(fields.get("tool_calls"))):
            self.block(Place("messages", index, count + number), call, kind, plain)
        if (ttl := _own_ttl(fields)) and len(self.prompt.keys) > before:
            self.prompt.own[len(self.prompt.keys) - 1] = ttl

    def text(self, part: Part, index: int | None, content: Any, kind: str, plain: bool = True) -> int:
        """Read a string or content blocks; tells how many blocks of content there are."""
        if content is None:
            return 0
        if isinstance(content, str):
            self._string(Place(part, 0 if index is None else index), content, kind, plain)
            return 1
        blocks = _listed(content)
        for number, block in enumerate(blocks):
            self.block(Place(part, number) if index is None else Place(part, index, number), block, kind, plain)
        return len(blocks)

    def block(self, place: Place, block: Any, kind: str, plain: bool = True) -> None:
        fields = _fields(block)
        ttl = _own_ttl(fields)
        if ttl and len(fields) == 1 and "cachePoint" in fields:  # Bedrock's marks are blocks of their own
            if self.prompt.keys:
                self.prompt.own[len(self.prompt.keys) - 1] = ttl
            return
        name, text = fields.get("type"), fields.get("text")
        if name in _RESULTS and (inside := _marks_inside(fields)):
            self.prompt.automatic += len(inside) - (not ttl)
            ttl = ttl or inside[-1]
            fields = {**fields, "content": [_bare(each) for each in _listed(fields["content"])]}
        plain = plain and isinstance(block, dict | str)
        if isinstance(text, str) and name in _TEXTS and fields.keys() <= _PLAIN:
            self._string(place, text, kind, plain)
        else:
            bare = _bare(fields) if ttl else fields
            raw = _bytes(bare)
            self.prompt.opaque = len(self.prompt.keys)
            markable = plain and name not in _NOT_MARKABLE and text != "" and "reasoningContent" not in fields
            self._add(
                place, raw, _weight(raw, bare), "tool" if name in _RESULTS or "toolResult" in fields else kind, markable
            )
        if ttl:
            self.prompt.own[len(self.prompt.keys) - 1] = ttl

    def _string(self, place: Place, text: str, kind: str, plain: bool) -> None:
        markable = plain and bool(text) and not text.isspace()
        raw = text.encode("utf-8", "surrogatepass")
        self._add(place, b'"' + raw, _tokens(len(text), len(raw)), kind, markable)

    def _add(self, place: Place, raw: bytes, tokens: int, kind: str, markable: bool) -> None:
        # The length stands between what is ahead and the block, so that no two ways of cutting a text hash alike.
        self._before = digest = blake2b(
            b"%b%b%d:%b" % (self._before, self._ahead, len(raw), raw), digest_size=8
        ).digest()
        self._ahead = b""
        self._total += tokens
        prompt = self.prompt
        prompt.keys.append(int.from_bytes(digest, "big"))
        prompt.tokens.append(self._total)
        prompt.places.append(place)
        prompt.markable.append(markable)
        prompt.kinds.append(kind)
        if self._total < _COUNTED:
            prompt.heads.append(raw)


_NO_REST = frozenset({"role", "content", "tool_calls", "thinking_blocks", *MARK_KEYS})
_PLAIN = frozenset({"type", "text", *MARK_KEYS})
_TEXTS = (None, "text", "input_text")
_RESULTS = ("tool_result", "function_call_output")


def estimate(text: str) -> int:
    """Tokens of a text, by its length and script: no tokenizing, within some 15% on prose."""
    return _tokens(len(text), len(text.encode("utf-8", "surrogatepass")))


def _tokens(length: int, size: int) -> int:
    """Tokens of so many characters in so many bytes: about 4 letters of Latin a token, 1.1 of Hangul."""
    wide = (size - length) // 2
    return (length - wide + 3) // 4 + int(wide * 0.9)


def _weight(raw: bytes, fields: Mapping[str, Any]) -> int:
    """Tokens of a block that is not plain text."""
    if fields.get("type") in _IMAGES or "image" in fields:
        return IMAGE_TOKENS
    if len(raw) > 4_000 and (b"base64" in raw or b'"image' in raw):  # a picture or a file within a tool's result
        return sum(_within(value) for value in fields.values())
    return estimate(raw.decode("utf-8", "surrogatepass"))


def _within(value: Any) -> int:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return _weight(_bytes(fields), fields)
    if isinstance(value, str):
        return IMAGE_TOKENS if value.startswith("data:") and ";base64," in value[:100] else estimate(value)
    return sum(_within(item) for item in _listed(value))


def _free(options: Mapping[str, Any] | None) -> bool:
    """Whether the model may answer without calling a tool. Who forces a call wants one structured answer."""
    choice = (options or {}).get("tool_choice")
    name = cast("Mapping[str, Any]", choice).get("type") if isinstance(choice, Mapping) else choice
    return name in (None, "auto", "none")


def _own_ttl(fields: Mapping[str, Any]) -> str:
    """The time to live of the caller's own mark on a block, or "" where there is none."""
    if isinstance(inner := fields.get("function"), Mapping) and "cache_control" in inner:  # LiteLLM takes it there too
        fields = cast("Mapping[str, Any]", inner)
    for name in MARK_KEYS:
        if (mark := fields.get(name)) is not None:
            default = "30m" if name == "prompt_cache_breakpoint" else "5m"
            return str(_fields(mark).get("ttl") or default)
    return ""


def _marks_inside(result: Mapping[str, Any]) -> list[str]:
    """Times to live of the marks within a tool's result; LiteLLM sets them there, and they count as others do."""
    return [ttl for each in _listed(result.get("content")) if (ttl := _own_ttl(_fields(each)))]


def _bare(block: Any) -> Mapping[str, Any]:
    return {key: value for key, value in _fields(block).items() if key not in MARK_KEYS}


def tool_name(tool: Any) -> str:
    """A tool's name, in any provider's form; "" where it has none."""
    fields = _fields(tool)
    inner = fields.get("function") or fields.get("toolSpec") or fields
    return str(cast("Mapping[str, Any]", inner).get("name", "")) if isinstance(inner, Mapping) else ""


def _has_image(content: Any) -> bool:
    return any((fields := _fields(block)).get("type") in _IMAGES or "image" in fields for block in _listed(content))


def _fields(value: Any) -> Mapping[str, Any]:
    if type(value) is dict:
        return cast("dict[str, Any]", value)
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    if isinstance(value, str):
        return {"type": "text", "text": value}
    dump = getattr(value, "model_dump", None)  # LiteLLM's own messages come back as pydantic objects
    return cast("Mapping[str, Any]", dump(exclude_none=True)) if dump else {"value": repr(value)}


def _listed(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):  # half a surrogate pair, or an integer beyond 64 bits
        return repr(value).encode("utf-8", "surrogatepass")
