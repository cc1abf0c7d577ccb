"""Which answer a question may get: everything it depends on, digested, and the words that meaning is looked for in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, TypeGuard, cast

import orjson

_VERSION = "1"  # of the digests: entries of another version are never found
_USER = frozenset(("user", "human"))
# Of a message: what says who, when or where it was written, and not what.
_NOISE = frozenset(("id", "response_metadata", "usage_metadata", "cache_control", "example", "index"))
_MUTABLE = re.compile(r"^(?!data:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PLACES = frozenset(("url", "image_url", "uri", "file_uri", "fileUri", "video_url", "file_url", "gcs_uri"))
_LINKS = frozenset(("tool_call_id", "tool_use_id", "call_id"))
_ARGUMENTS = frozenset(("args", "arguments", "input", "function"))
_ABOUT = frozenset(("type", "source_type", "mime_type", "status"))  # of a part, what says nothing without the rest
_CALLS = frozenset(("tool_use", "tool_call", "function", "function_call", "server_tool_use"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a model, in neither host's terms.

    Attributes:
        model: The model asked for.
        messages: As the OpenAI protocol writes them: `role`, `content` (text, or blocks), `tool_calls`, ...
        parameters: Everything else that may change the answer: tools, response format, temperature, base URL, ...
            Plain values only; None means the same as absent.
        namespace: Whose answers may be shared: a tenant, a key, a team.
        user: Who asks, as a keyed hash, for erasing; not part of the scope.
        max_age: Seconds that an answer may be old, or None for any age; not part of the scope.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    namespace: str = ""
    user: str | None = None
    max_age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as the cache sees it.

    Attributes:
        id: Digest of the scope and of the canonical form of the text.
        scope: Digest of everything but the text.
        domain: Digest of namespace, model and the first instructions: where errors are learned together.
        text: The last user turn.
        model: The model asked for.
        namespace: Whose answer it is.
        user: Who asks, as a keyed hash.
        max_age: Seconds that an answer may be old.
    """

    id: str
    scope: str
    domain: str
    text: str
    model: str
    namespace: str
    user: str | None = None
    max_age: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not cached, such as "image by reference"."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is never cached.

    Attributes:
        max_temperature: A request with a higher temperature wants to be surprised.
        tools: Whether answers that call tools, and the turns that follow them, are cached.
    """

    max_temperature: float = 1.0
    tools: bool = False


def read(
    request: Request,
    space: str,
    *,
    canonical: Callable[[str], str],
    policy: Policy,
    redact: Callable[[str], str] | None = None,
) -> Question | Refusal:
    """A request's scope and text, or why it is not to be cached.

    Two requests have one scope only if nothing but the words of the last user turn tells them apart. The order of
    keys, the ids of messages and of tool calls, and metadata do not.

    Args:
        request: What is asked.
        space: Name of the vector space; another embedder's entries are another scope's.
        canonical: The form in which two texts are the same question.
        policy: What is never cached.
        redact: What the text goes through first.
    """
    temperature = request.parameters.get("temperature")
    if isinstance(temperature, int | float) and temperature > policy.max_temperature:
        return Refusal("temperature")
    last = next((i for i in reversed(range(len(request.messages))) if _role(request.messages[i]) in _USER), None)
    if last is None:
        return Refusal("no user turn")
    if not policy.tools and last != len(request.messages) - 1:
        return Refusal("tool turn")
    text, rest = _split(request.messages[last])
    if not text.strip():
        return Refusal("no text")
    text = text if redact is None else redact(text)
    try:
        plain = _Plain()
        messages = [plain.message(rest if i == last else m) for i, m in enumerate(request.messages)]
        parameters = {k: strict(v, k) for k, v in request.parameters.items() if v is not None}
    except _Opaque as why:
        return Refusal(str(why))
    asked = [_VERSION, request.namespace, request.model, parameters]
    scope = sys.intern(digest([*asked, space, messages]))  # a hundred thousand entries of it hold one text
    first = next((m for m in messages if m.get("role") in ("system", "developer")), None)
    return Question(
        id=digest([scope, canonical(text)]),
        scope=scope,
        domain=digest([_VERSION, request.namespace, request.model, space, first]),
        text=text,
        model=request.model,
        namespace=request.namespace,
        user=request.user,
        max_age=request.max_age,
    )


def digest(value: Any) -> str:
    """32 hexadecimal digits that equal plain values share, and practically no others."""
    try:
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # halves of surrogate pairs, whole numbers beyond 64 bits
        written = json.dumps(value, sort_keys=True).encode()
    return blake2b(written, digest_size=16).hexdigest()


def _role(message: Mapping[str, Any]) -> Any:
    return message.get("role")


def _split(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The words of a turn, and the turn without them: with a gap where each piece of text was."""
    content = message.get("content")
    if isinstance(content, str):
        return content, {**message, "content": None}
    if not isinstance(content, Sequence):
        return "", message
    words: list[str] = []
    blocks: list[Any] = []
    for block in cast("Sequence[Any]", content):
        text = block if isinstance(block, str) else _text(block)
        if text is None:
            blocks.append(block)
        else:
            words.append(text)
            blocks.append({"type": "text"} if isinstance(block, str) else {**block, "text": None})
    # One block of text is the same request as the text alone.
    alone = len(blocks) == 1 and set(_without_noise(blocks[0])) <= {"type", "text"}
    return "\n\n".join(words), {**message, "content": None if alone and words else blocks}


def _text(block: Any) -> str | None:
    if isinstance(block, Mapping):
        found = cast("Mapping[str, Any]", block)
        text = found.get("text")
        if found.get("type") in ("text", "input_text", None) and isinstance(text, str):
            return text
    return None


def _without_noise(message: Mapping[str, Any]) -> list[str]:
    return [key for key, value in message.items() if key not in _NOISE and value is not None]


def _refers(part: Mapping[str, Any]) -> bool:
    """Whether a part says what it is by its id alone: a file at the provider, an item of an earlier answer."""
    if not isinstance(part.get("id"), str) or "text" in part:
        return False
    return part.get("source_type") == "id" or _ABOUT.issuperset(_without_noise(part))


class _Opaque(Exception):
    """A part of the request that cannot be told apart from others."""


class _Plain:
    """Turns one request into plain values that are equal whenever the request is."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}  # ids of tool calls are made up anew each time; their order is not

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        plain = {key: self._part(key, message[key]) for key in _without_noise(message)}
        return {**plain, "id": message["id"]} if _refers(message) else plain

    def _part(self, key: str, value: Any) -> Any:
        if key in _LINKS and isinstance(value, str):
            return self._call(value)
        if key == "content" and not isinstance(value, str):
            return [self._block(item) for item in value] if _is_list(value) else strict(value, key)
        if key == "tool_calls" and _is_list(value):
            return [self._block(call) for call in value]
        return strict(value, key)

    def _block(self, block: Any) -> Any:
        if not isinstance(block, Mapping):
            return strict(block, "content")
        found = cast("Mapping[str, Any]", block)
        plain = {
            key: strict(found[key], key) if key in _ARGUMENTS else _fixed(self._part(key, found[key]), key)
            for key in _without_noise(found)
        }
        called = found.get("id")
        if isinstance(called, str) and (found.get("type") in _CALLS or "args" in found or "function" in found):
            plain["id"] = self._call(called)
        elif _refers(found):
            plain["id"] = called
        return plain

    def _call(self, called: str) -> int:
        return self._calls.setdefault(called, len(self._calls))


def strict(value: Any, name: str) -> Any:
    """The value as plain JSON; nothing is left out.

    Raises:
        _Opaque: It holds something that cannot be told apart from others of its kind.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if value != value or value in (float("inf"), -float("inf")):
            raise _Opaque(f"opaque {name}")
        return int(value) if value == int(value) else float(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): strict(item, name) for key, item in pairs.items()}
    if _is_list(value):
        return [strict(item, name) for item in value]
    if isinstance(value, bytes | bytearray):
        return {"sha256": sha256(value).hexdigest()}
    raise _Opaque(f"opaque {name}")


def _fixed(value: Any, key: str) -> Any:
    """The part of a block, if what it says cannot change: a URL may show another image tomorrow."""
    if isinstance(value, str):
        if key in _PLACES and _MUTABLE.match(value):
            raise _Opaque("image by reference")
    elif isinstance(value, dict):
        for inner, item in cast("dict[str, Any]", value).items():
            _fixed(item, inner)
    return cast("Any", value)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))
