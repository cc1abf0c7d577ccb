"""What changed between two requests of a log that should have shared a beginning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from llm_savings.prompt_cache.prompt import MARK_KEYS, tool_name
from llm_savings.prompt_cache.requests import Noted, Request, text_of
from llm_savings.prompt_cache.volatile import volatile

_ALIKE = 200
"""Characters of text that two prompts must share to be one application's."""
_BACK = 8
"""How many earlier requests one is compared with."""
_SWITCHES = ("tool_choice", "parallel_tool_calls", "thinking", "reasoning_effort")


def changes(log: Sequence[Request]) -> Iterator[Noted]:
    """The changes of each request against the nearest earlier one that it resembles."""
    for number, request in enumerate(log):
        for earlier in reversed(log[max(0, number - _BACK) : number]):
            if _related(earlier, request):
                yield from _between(earlier, request)
                break


def _related(earlier: Request, request: Request) -> bool:
    """Whether two requests are of one conversation or application."""
    session = [_session(one) for one in (earlier, request)]
    if session[0] and session[0] == session[1]:
        return True
    shared = _joined(earlier.system), _joined(request.system)
    if shared[0] or shared[1]:
        same = _common(*shared) + _common(shared[0][::-1], shared[1][::-1])
        if same < min(_ALIKE, 0.5 * max(map(len, shared))):
            return False
    elif not earlier.tools and not _same_talk(earlier, request):
        return False
    return not (earlier.tools or request.tools) or bool(_names(earlier) & _names(request)) or bool(shared[0])


def _between(earlier: Request, request: Request) -> Iterator[Noted]:
    prompt = request.prompt
    total = prompt.tokens[-1] if prompt.tokens else 0
    if earlier.model and request.model and earlier.model != request.model:
        yield Noted("model-switch", "model", request, total, "again", (earlier.model, request.model))
    if kind := _tools(earlier, request):
        yield Noted(kind, "tools", request, prompt.tokens[prompt.shared] if prompt.shared >= 0 else 0, "again")
    yield from _system(earlier, request)
    if earlier.talk and request.talk:
        yield from _talk(earlier, request)


def _tools(earlier: Request, request: Request) -> str | None:
    """What kind of change the tools had."""
    before, after = ([json.dumps(tool, default=repr) for tool in one.tools] for one in (earlier, request))
    if before == after:
        return None
    before, after = ([_canonical(tool) for tool in one.tools] for one in (earlier, request))
    if before == after:
        return "unsorted-keys"
    if sorted(before) == sorted(after):
        return "tool-order"
    if _names(earlier) != _names(request):
        return "tool-set"
    pairs = zip(map(text_of, earlier.tools), map(text_of, request.tools), strict=False)
    return None if any(_volatile_apart(*pair) for pair in pairs) else "tool-changed"


def _system(earlier: Request, request: Request) -> Iterator[Noted]:
    before, after = _joined(earlier.system), _joined(request.system)
    if before == after or not before or not after or _volatile_apart(before, after):
        return
    place = request.system[0][0]
    tokens = request.prompt.tokens[request.prompt.shared]
    start, end = _common(before, after), _common(before[::-1], after[::-1])
    if _same_json(before, after):
        yield Noted("unsorted-keys", place, request, tokens, "again")
    elif end > max(_ALIKE, start) or (end > 80 and start < len(after) // 4):
        yield Noted("dynamic-before-static", place, request, end / 4, "again", (f"{end}",))
    elif start >= _ALIKE:
        yield Noted("system-changed", place, request, tokens, "again", (f"{start}",))


def _talk(earlier: Request, request: Request) -> Iterator[Noted]:
    before, after = ([_canonical(_bare(message)) for message in one.talk] for one in (earlier, request))
    total = request.prompt.tokens[-1]
    same = _common(before, after)
    if same == len(before):  # it goes on, as it should
        for name in _SWITCHES:
            if earlier.options.get(name) != request.options.get(name):
                yield Noted("option-switch", name, request, total, "again", (name,))
        return
    for dropped in range(1, len(before)):
        rest = before[dropped:]
        if len(rest) >= min(2, len(before) - 1) and after[: len(rest)] == rest and same < len(rest):
            yield Noted("history-trimmed", "message 0", request, total, "again", (f"{dropped}",))
            return
    later = any(a == b for a, b in zip(before[same + 1 :], after[same + 1 :], strict=False))
    if later and len(after) >= len(before):
        yield Noted("history-edited", f"message {same}", request, total, "again")


def _volatile_apart(before: str, after: str) -> bool:
    """Whether two texts are the same but for clocks, identifiers and the like, which are reported by themselves."""
    return before != after and _blanked(before) == _blanked(after)


def _blanked(text: str) -> str:
    spots = sorted((start, end) for _, start, end in volatile(text))
    pieces: list[str] = []
    at = 0
    for start, end in spots:
        pieces.append(text[at:start])
        at = max(at, end)
    return "\0".join([*pieces, text[at:]])


def _same_json(before: str, after: str) -> bool:
    def parsed(text: str) -> tuple[str, str, str] | None:
        start, end = text.find("{"), text.rfind("}")
        try:
            return text[:start], _canonical(json.loads(text[start : end + 1])), text[end + 1 :]
        except ValueError:
            return None

    found = parsed(before)
    return found is not None and found == parsed(after)


def _same_talk(earlier: Request, request: Request) -> bool:
    before, after = ({_canonical(_bare(message)) for message in one.talk} for one in (earlier, request))
    return bool(before & after)


def _bare(value: Any) -> Any:
    """A message without marks, with one text block and a string as the same thing."""
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        return {key: _bare(item) for key, item in pairs.items() if key not in MARK_KEYS}
    if isinstance(value, list):
        items = [_bare(item) for item in cast("list[Any]", value)]
        only: Any = items[0] if len(items) == 1 else None
        plain = isinstance(only, dict) and {*cast("dict[str, Any]", only)} == {"type", "text"}
        return cast("dict[str, Any]", only)["text"] if plain else items
    return value


def _names(request: Request) -> frozenset[str]:
    return frozenset(map(tool_name, request.tools))


def _session(request: Request) -> str:
    metadata = request.options.get("metadata")
    found: Mapping[str, Any] = cast("Mapping[str, Any]", metadata) if isinstance(metadata, Mapping) else {}
    return str(request.options.get("session_id") or found.get("session_id") or request.options.get("trace_id") or "")


def _joined(texts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(text for _, text in texts)


def _common(before: Sequence[Any], after: Sequence[Any]) -> int:
    """How many items two sequences have in common at their beginnings."""
    same, differ = 0, min(len(before), len(after)) + 1
    while differ - same > 1:  # slices are compared much faster than items
        middle = (same + differ) // 2
        if before[same:middle] == after[same:middle]:
            same = middle
        else:
            differ = middle
    return same


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
