# pyright: standard
"""What an end event of LangChain says about an answer, in the meter's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import Generation, LLMResult

from llm_savings import tokens
from llm_savings.errors import SavingsError, UsageError
from llm_savings.evidence import evidence_in
from llm_savings.langchain.hosted import hosted_tools
from llm_savings.langchain.messages import answered, readable
from llm_savings.langchain.requests import Start
from llm_savings.ledger import Mode
from llm_savings.meter import Answer
from llm_savings.pricing import PriceBook
from llm_savings.usage import CacheTTL, Usage

_MODES: dict[str, Mode] = {
    "default": "standard",
    "standard": "standard",
    "flex": "flex",
    "priority": "priority",
    "batch": "batch",
}
# These think without showing it, so what they wrote says little about what they billed.
_HIDDEN_REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")
# Here all cache writes have one price, so nothing depends on a time to live.
_ONE_WRITE_PRICE = ("openai", "azure", "azure_openai")

Convert = Callable[[CacheTTL], Usage]


def read_answer(result: LLMResult, start: Start, prices: PriceBook) -> Answer:
    """The answer of a run that ended well, from a model or from a cache."""
    generations, messages, meta = _read(result)
    evidence = _evidence(meta)
    hit = _is_hit(messages, evidence)
    usage, estimated, suspect = None, False, False
    try:
        usage, estimated = _usage(meta, messages, start, prices)
    except UsageError:
        suspect = True
    searches, beyond = hosted_tools(messages)
    if searches and usage and not usage.web_searches:
        usage = replace(usage, web_searches=searches)
    if not usage and not suspect:
        # LiteLLM reports zeros for an answer without usage; neither is what the provider counted.
        usage = _counted(start, generations)
        estimated = usage is not None
        if hit and usage is None:
            usage = Usage()
    said = evidence_in(meta)
    cached = {key: value for key, value in evidence.items() if key != "usage" and key not in said}
    return Answer(
        model=_text(meta.get("model_name")) or _text(meta.get("model")),
        mode=_mode(meta, messages),
        # A cached answer keeps the id of the request that made it; that id is on the bill once only.
        response_id=None if hit else _response_id(meta, messages),
        hit=hit,
        usage=usage,
        estimated=estimated,
        suspect=suspect,
        unpriced=beyond,
        strategies={**said, "semantic_cache": cached} if cached else said,
        text=(lambda: answered(messages[0])) if len(messages) == 1 else None,
    )


def read_partial(result: LLMResult | None, start: Start) -> tuple[Answer, bool]:
    """The part of a stream that came before the user left it, and whether that was all of it."""
    generations, messages, meta = _read(result)
    if not any(map(_written, generations)):
        return Answer(), False
    if _is_hit(messages, _evidence(meta)):
        return Answer(hit=True), True
    complete = any(m.usage_metadata for m in messages) and (meta.get("finish_reason") or meta.get("stop_reason"))
    answer = Answer(
        model=_text(meta.get("model_name")) or _text(meta.get("model")),
        mode=_mode(meta, messages),
        response_id=_response_id(meta, messages),
        usage=None if complete else _counted(start, generations),
    )
    return answer, bool(complete)


def read_failure(error: BaseException, result: LLMResult | None) -> Answer | None:
    """The usage of an answer that came but could not be used, where the error brings the provider's own words.

    ChatOpenAI attaches the HTTP response when an answer does not fit its schema or was cut by its token limit.
    """
    body: Any = getattr(error, "completion", None)
    if callable(dump := getattr(body, "model_dump", None)):
        body = dump()
    for generation in _read(result)[0]:
        found = getattr(getattr(generation, "message", None), "response_metadata", {})
        if isinstance(found.get("body"), Mapping):
            body = found["body"]
    if not isinstance(body, Mapping) or not isinstance(raw := body.get("usage"), Mapping):
        return None
    answer = Answer(
        model=_text(body.get("model")),
        mode=_MODES.get(str(body.get("service_tier"))),
        response_id=_text(body.get("id")),
    )
    try:
        return replace(answer, usage=Usage.from_openai(raw))
    except UsageError:
        return replace(answer, suspect=True)


def reports_elsewhere(result: LLMResult) -> bool:
    """Whether this is one of several prompts in a request and another run was given the usage of all of them.

    LangChain's `LLMResult.flatten` empties the usage of all but the first.
    """
    return (result.llm_output or {}).get("token_usage") == {} and not _read(result)[1]


def _usage(
    meta: Mapping[str, Any], messages: Sequence[AIMessage], start: Start, prices: PriceBook
) -> tuple[Usage | None, bool]:
    """The provider's counts, and whether a part of them is somebody's guess."""
    raw, counted = meta.get("usage"), meta.get("token_usage")
    from_litellm = meta.get("model_provider") == "litellm"
    if raw and isinstance(raw, Mapping) and "cache_read_input_tokens" in raw and "input_tokens" in raw:
        # ChatAnthropic's own copy has the writes by time to live, and the searches.
        return _settled_ttl(lambda ttl: Usage.from_anthropic(raw, cache_ttl=ttl), meta, start, prices)
    if counted is not None and from_litellm:
        return _settled_ttl(lambda ttl: Usage.from_litellm(counted, cache_ttl=ttl), meta, start, prices)
    if (type(counted) is dict or isinstance(counted, Mapping)) and "prompt_tokens" in counted:
        return Usage.from_openai(counted), False
    reported = [usage for m in messages if (usage := _reported(m))]
    if not reported:
        return None, False
    # Every choice of one request carries the usage of the whole request.
    different = [u for i, u in enumerate(reported) if u not in reported[:i]]

    def convert(ttl: CacheTTL) -> Usage:
        return sum((Usage.from_langchain(u, cache_ttl=ttl) for u in different), Usage())

    usage, estimated = _settled_ttl(convert, meta, start, prices)
    # LiteLLM counts a stream itself when the provider did not; only a provider's own usage has these details.
    return usage, estimated or (from_litellm and not any(u.get("input_token_details") for u in reported))


def _settled_ttl(convert: Convert, meta: Mapping[str, Any], start: Start, prices: PriceBook) -> tuple[Usage, bool]:
    """Cache writes under the right time to live where the counts do not say it, and whether that is a guess."""
    short = convert("5m")
    if not short.cache_write_5m or (long := convert("1h")) == short:
        return short, False
    if (settled := _split_by_cost(short, long, meta, start, prices)) is not None:
        return settled, False
    ours = evidence_in(meta).get("prompt_cache") or {}  # our marks are on the wire alone
    marks = start.cache_ttls() | {ttl for ttl, _ in ours.get("marks", ()) if not ours.get("shadow")}
    if "1h" in marks:
        return long, "5m" in marks
    return short, not marks and start.provider not in _ONE_WRITE_PRICE


def _split_by_cost(short: Usage, long: Usage, meta: Mapping[str, Any], start: Start, prices: PriceBook) -> Usage | None:
    """The split that explains what LiteLLM says the call cost: its streams lose the split, not the cost."""
    cost = meta.get("response_cost")
    if not isinstance(cost, int | float) or cost <= 0:
        return None
    model = _text(meta.get("model_name")) or start.model
    try:
        low, high = (prices.price(usage, model, provider=start.provider) for usage in (short, long))
    except SavingsError:
        return None
    if low == high:
        return None
    moved = (Decimal(repr(cost)) - low) / (high - low) * short.cache_write_5m
    whole = int(moved.to_integral_value())
    if abs(moved - whole) > Decimal("0.01") or not 0 <= whole <= short.cache_write_5m:
        return None  # another price list than ours: it tells nothing
    return replace(short, cache_write_5m=short.cache_write_5m - whole, cache_write_1h=short.cache_write_1h + whole)


def _counted(start: Start, generations: Sequence[Generation]) -> Usage | None:
    """Tokens counted here, or None when what was billed cannot be seen from here."""
    model = start.model
    if model.rpartition("/")[2].startswith(_HIDDEN_REASONING) or (prompt := start.count()) is None:
        return None
    return Usage(input=prompt, output=sum(tokens.count(_written(g), model) for g in generations))


def _written(generation: Generation) -> str:
    """Everything that was written in an answer: text and calls of tools."""
    message = getattr(generation, "message", None)
    if not isinstance(message, BaseMessage):
        return generation.text
    return readable(message) or generation.text


def _is_hit(messages: Sequence[AIMessage], evidence: Mapping[str, Any]) -> bool:
    """Whether a cache of LangChain's answered.

    langchain-core sets `total_cost` to 0 on cached messages, and gives an id to every message that a model has made,
    but none to one that a cache rebuilt from text.
    """
    if not messages:
        return False
    usage: Any = messages[0].usage_metadata
    return messages[0].id is None or bool(usage and usage.get("total_cost") == 0) or evidence.get("cache") == "hit"


def _evidence(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What our own cache says of its part in an answer."""
    found = metadata.get("llm_savings")
    return found if isinstance(found, dict) and "cache" in found else {}


def _reported(message: AIMessage) -> Any:
    """The usage of the call that made the answer; on an answer given again that is not the message's own."""
    found = _evidence(message.response_metadata)
    return found.get("usage") if found.get("cache") == "hit" else message.usage_metadata


def _mode(meta: Mapping[str, Any], messages: Sequence[AIMessage]) -> Mode | None:
    if (tier := meta.get("service_tier")) is not None:
        return _MODES.get(str(tier))
    for holder in ("usage", "token_usage"):
        if (found := meta.get(holder)) is not None:
            plain = type(found) is dict or isinstance(found, Mapping)  # the first is told faster
            if (tier := found.get("service_tier") if plain else getattr(found, "service_tier", None)) is not None:
                return _MODES.get(str(tier))
    # ChatOpenAI renames the details of other tiers: "flex_cache_read".
    for message in messages:
        for key in (message.usage_metadata or {}).get("input_token_details") or {}:
            if key.startswith(("flex", "priority")):
                return _MODES[key.partition("_")[0]]
    return None


def _response_id(meta: Mapping[str, Any], messages: Sequence[AIMessage]) -> str | None:
    """The provider's id of the answer, or of the request where the user has LangChain keep the headers.

    Streams of ChatOpenAI and ChatAnthropic lose the answer's id, and ChatLiteLLM always does.
    """
    if named := _text(meta.get("id")):
        return named
    if messages and (own := messages[0].id) and not own.startswith(("lc_", "run-")):
        return own
    headers = meta.get("headers") or {}
    return _text(headers.get("x-request-id")) or _text(headers.get("request-id"))


def _read(result: LLMResult | None) -> tuple[Sequence[Generation], Sequence[AIMessage], Mapping[str, Any]]:
    """An answer's choices, the messages among them, and what it says about itself.

    langchain-core gathers the last on the message of a single choice only.
    """
    generations: Any = result.generations[0] if result and result.generations else ()
    messages: list[AIMessage] = []
    for generation in generations:
        message: Any = getattr(generation, "message", None)
        # By type and not by isinstance, which pydantic makes slow.
        if getattr(message, "type", None) in ("ai", "AIMessageChunk"):
            messages.append(message)
    if len(messages) == 1 and (meta := messages[0].response_metadata):
        return generations, messages, meta
    meta = dict((result and result.llm_output) or {})
    for generation in generations[:1]:
        meta.update(generation.generation_info or {})
    for message in messages[:1]:
        meta.update(message.response_metadata)
    return generations, messages, meta


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
