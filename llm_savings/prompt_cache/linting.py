"""`lint`: why a provider's prompt cache does not hit, what that costs, and what to do. It reports, and no more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any, cast

from llm_savings.errors import LogFormatError
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import rounded
from llm_savings.prompt_cache.comparing import changes
from llm_savings.prompt_cache.prompt import Prompt
from llm_savings.prompt_cache.requests import Noted, Request, unpacked
from llm_savings.prompt_cache.rules import SECONDS
from llm_savings.prompt_cache.volatile import volatile

_LOOKBACK = 20
_NEAR = 20
"""How many requests before and after one are looked at."""
_RETRIEVED = re.compile(
    r"<(?:context|documents?|search_results|passages)>|retrieved|search results|^context:|relevant passages"
    r"|검색 결과|참고 문서|검색된",
    re.IGNORECASE | re.MULTILINE,
)
_STATIC = re.compile(
    r"^(?:#+ *)?(?:instructions|rules|guidelines|policies|지침|규칙)\b|^you (?:are|must)\b|^always\b|^당신은",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that keeps a prompt from being cached, or makes caching dearer than it need be.

    Attributes:
        kind: What it is, such as "clock" or "tool-order".
        place: Where, such as "system" or "message 3 block 0".
        reason: Why it costs.
        fix: What to do.
        usd_per_1000: What it costs per 1,000 such calls, in USD; None where the model's price is not known.
        request: The first request that has it, from 0.
        count: How many requests have it.
        details: What stands in the places of the reason's text, which `data/prompt_cache_findings.toml` has in Korean
            too.
    """

    kind: str
    place: str
    reason: str
    fix: str
    usd_per_1000: Decimal | None
    request: int = 0
    count: int = 1
    details: tuple[str, ...] = ()


def lint(
    requests: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    *,
    model: str | None = None,
    provider: str | None = None,
    prices: PriceBook | None = None,
) -> list[Finding]:
    """Find what keeps prompts from being cached.

    Args:
        requests: One request (`model`, `messages`, and if there are any `tools`, `system`, `tool_choice`, ...), a list
            of messages, or a log of requests in order of time. A log tells more: what changed between two calls is
            seen, and what looks volatile but never changed is not reported. Lines of an OpenAI batch and LiteLLM's
            logged calls are understood too.
        model: The model, where a request does not say.
        provider: Its provider, where the name does not tell.
        prices: The price book; LiteLLM's bundled map by default.

    Raises:
        LogFormatError: A request has no messages.

    Example:
        >>> [finding.kind for finding in lint([{"role": "system", "content": "It is now 2026-11-27 10:42:07."}])]
        ['clock']
    """
    book = prices or PriceBook()
    sent = [unpacked(item, number, book, model, provider) for number, item in enumerate(_listed(requests))]
    if not sent:
        raise LogFormatError("there is no request in it")
    noted = [note for request in sent for note in _alone(request, sent)]
    return _together(map(_finding, [*noted, *changes(sent)]))


def _finding(noted: Noted) -> Finding:
    said = _texts()[noted.kind]
    reason = said["reason"]["en"].format(*noted.details)
    where = noted.request.number
    return Finding(noted.kind, noted.place, reason, said["fix"]["en"], _usd(noted), where, details=noted.details)


def _listed(requests: Any) -> list[Any]:
    if isinstance(requests, Mapping):
        return [requests]
    items = list(cast("Iterable[Any]", requests))
    return (
        [{"messages": items}]
        if items and all(isinstance(item, Mapping) and "role" in item for item in items)
        else items
    )


def _together(found: Iterable[Finding]) -> list[Finding]:
    """The same finding in many requests is one finding."""
    merged: dict[tuple[str, str], Finding] = {}
    for finding in found:
        before = merged.get((finding.kind, finding.place))
        merged[finding.kind, finding.place] = replace(before, count=before.count + 1) if before else finding
    return sorted(merged.values(), key=lambda finding: (-(finding.usd_per_1000 or 0), finding.request, finding.place))


def _alone(request: Request, log: Sequence[Request]) -> Iterator[Noted]:
    near = [other for other in log[max(0, request.number - _NEAR) : request.number + _NEAR] if other is not request]
    yield from _volatile(request, near)
    yield from _order(request)
    yield from _marks(request)
    yield from _one_shot(request, near)
    yield from _many_blocks(request, near)


def _volatile(request: Request, others: Sequence[Request]) -> Iterator[Noted]:
    """Text before the last mark (or in what every prompt shares) that changes from call to call."""
    prompt = request.prompt
    end = max(prompt.own, default=prompt.shared)
    tokens = prompt.tokens[end] if end >= 0 else 0
    said = [text for other in others for _, text in other.stable_texts]
    for place, text in request.stable_texts:
        for kind, start, stop in volatile(text):
            if not any(text[start:stop] in other for other in said):  # else it does not change
                yield Noted(kind, place, request, tokens, "again" if prompt.own else "read", (f"{start}",))


def _order(request: Request) -> Iterator[Noted]:
    """Retrieved text before instructions that never change, in one prompt (a log shows it by what changed)."""
    for place, text in request.stable_texts:
        retrieved = _RETRIEVED.search(text)
        static = [found.start() for found in _STATIC.finditer(text)] if retrieved else []
        if retrieved and static and retrieved.start() < min(static[-1], len(text) // 2):
            length = len(text) - static[-1]
            yield Noted("dynamic-before-static", place, request, length / 4, "read", (f"{length}",))


def _marks(request: Request) -> Iterator[Noted]:
    prompt, terms = request.prompt, request.terms
    blocks = sorted(prompt.own)
    count = len(blocks) + prompt.automatic
    if not count:
        return
    last = str(prompt.places[blocks[-1]]) if blocks else "request"
    if terms.usd and terms.dialect in ("automatic", "none"):
        yield Noted("mark-not-taken", last, request, details=(terms.model,))
        return
    if count > terms.marks:
        yield Noted("too-many-marks", last, request, details=(f"{count}", f"{terms.marks}"))
    lives = [SECONDS.get(prompt.own[block], 300.0) for block in blocks]
    late = [block for before, after, block in zip(lives, lives[1:], blocks[1:], strict=False) if before < after]
    if late:
        yield Noted("ttl-order", str(prompt.places[late[0]]), request)
    for block in blocks:
        if not prompt.markable[block]:
            yield Noted("mark-rejected", str(prompt.places[block]), request)
    tokens, most = request.counted(blocks[-1]) if blocks else (0, terms.minimum)
    if most < terms.minimum:
        yield Noted("below-minimum", last, request, details=(f"{tokens:,}", f"{terms.minimum:,}"))


def _one_shot(request: Request, others: Sequence[Request]) -> Iterator[Noted]:
    """A mark on the very end of a prompt that nobody goes on from, with what could be shared left unmarked."""
    prompt = request.prompt
    last = max((block for block, able in enumerate(prompt.markable) if able), default=-1)
    alone = set(prompt.own) == {last} and not request.answered and last > prompt.shared
    if alone and not any(prompt.keys[last] in other.prompt.keys for other in others):
        yield Noted("tail-mark", str(prompt.places[last]), request, prompt.tokens[last], "premium")


def _many_blocks(request: Request, others: Sequence[Request]) -> Iterator[Noted]:
    """More new blocks than the provider looks back from a mark: what the call before wrote is not found."""
    prompt, lookback = request.prompt, request.terms.lookback or (0 if request.terms.usd else _LOOKBACK)
    earlier = [other for other in others if other.number < request.number]
    start = max((_written(other, prompt) for other in earlier), default=-1)
    start = request.last_turn if start < 0 else start
    following = min((block for block in prompt.own if block >= start), default=-1)
    if lookback and start >= 0 and following - start >= lookback:
        details = (f"{following - start}", f"{lookback}")
        yield Noted("lookback", str(prompt.places[following]), request, prompt.tokens[start], "again", details)


def _written(other: Request, prompt: Prompt) -> int:
    """The last block that another request marked and that this prompt has too, -1 if none."""
    mine = {key: block for block, key in enumerate(prompt.keys)}
    return max((mine.get(other.prompt.keys[block], -1) for block in other.prompt.own), default=-1)


def _usd(noted: Noted) -> Decimal | None:
    """What 1,000 such calls pay for it."""
    terms = noted.request.terms
    if not terms.usd:
        return None
    if noted.costs == "nothing" or noted.tokens < terms.minimum:
        return Decimal(0)
    write = terms.lives[0].write if terms.lives else 1.0
    more = {"read": 1.0 - terms.read, "again": write - terms.read, "premium": write - 1.0}[noted.costs]
    return rounded(round(1000 * noted.tokens * more), terms.usd, Decimal("0.01"))


@lru_cache(maxsize=1)
def _texts() -> dict[str, dict[str, dict[str, str]]]:
    text = resources.files("llm_savings").joinpath("data", "prompt_cache_findings.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
