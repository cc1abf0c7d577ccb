"""One request as the linter sees it, whatever log it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from llm_savings.errors import LogFormatError
from llm_savings.pricing import PriceBook
from llm_savings.prompt_cache.prompt import MARK_KEYS, Place, Prompt, read_prompt
from llm_savings.prompt_cache.rules import Terms, terms_of
from llm_savings.tokens import count

_ABROAD = 2  # tokens that another tokenizer may make of one of ours beyond ASCII: Claude makes some 1.7 of Korean


@dataclass
class Request:
    """One request.

    Attributes:
        number: Which one in its log, from 0.
        model: The model, or "".
        tools: Tool definitions.
        system: System text given apart, and that of system messages.
        talk: The other messages.
        options: The call's other parameters.
        prompt: Its blocks.
        terms: What caching means for its model; no price where that is not known.
    """

    number: int
    model: str
    tools: Sequence[Any]
    system: list[tuple[str, str]]
    talk: list[Mapping[str, Any]]
    options: Mapping[str, Any]
    prompt: Prompt
    terms: Terms

    @cached_property
    def answered(self) -> bool:
        """Whether it has an answer of the model in it: it is a later turn of a conversation."""
        return any(message.get("role") == "assistant" for message in self.talk)

    @cached_property
    def last_turn(self) -> int:
        """The block before the last answer and what follows it, that is the end of the call before; -1 if none."""
        kinds = self.prompt.kinds
        last = max((block for block, kind in enumerate(kinds) if kind == "assistant"), default=-1)
        while last >= 0 and kinds[last] == "assistant":
            last -= 1
        return last

    def counted(self, block: int) -> tuple[int, int]:
        """Tokens up to a block by a real count, as far as they may be near a minimum, and how many they may be."""
        prompt = self.prompt
        if block >= len(prompt.heads):
            return prompt.tokens[block], prompt.tokens[block]
        texts = [raw.decode("utf-8", "replace") for raw in prompt.heads[: block + 1]]
        counts = [count(text) for text in texts]
        return sum(counts), sum(n if text.isascii() else n * _ABROAD for n, text in zip(counts, texts, strict=True))

    @cached_property
    def stable_texts(self) -> tuple[tuple[str, str], ...]:
        """Place and text of what other calls should share: tools, system text, marked parts of the first message."""
        found = [(str(Place("tools", number)), text_of(tool)) for number, tool in enumerate(self.tools)]
        found += self.system
        content = self.talk[0].get("content") if len(self.talk) == 1 else None
        marked = [self.prompt.places[block] for block in self.prompt.own]
        ends = [place.block for place in marked if place.part == "messages" and place.block is not None]
        if isinstance(content, list) and ends and not self.system:
            blocks = cast("list[Any]", content)[: max(ends) + 1]
            found += [(f"message 0 block {number}", text_of(block)) for number, block in enumerate(blocks)]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Noted:
    """Something found in a request.

    Attributes:
        kind: What, as in `prompt_cache_findings.toml`.
        place: Where.
        request: In which request.
        tokens: The tokens that it is about.
        costs: What is paid for them: "nothing", as plain input what could be "read", "again" what was written before,
            or the "premium" of writing what nobody reads.
        details: What stands in the places of the finding's text.
    """

    kind: str
    place: str
    request: Request
    tokens: float = 0.0
    costs: Literal["nothing", "read", "again", "premium"] = "nothing"
    details: tuple[str, ...] = ()


def unpacked(
    item: Mapping[str, Any], number: int, prices: PriceBook, model: str | None, provider: str | None
) -> Request:
    """A request from a line of a log: a request's body, a line of a batch, or a logged call.

    Raises:
        LogFormatError: It has no messages.
    """
    fields: dict[str, Any] = dict(item)
    for wrapper in ("body", "request", "request_body", "kwargs", "params"):
        if isinstance(inner := fields.get(wrapper), Mapping) and "messages" in inner:
            fields = {**fields, **cast("Mapping[str, Any]", inner)}
            break
    fields |= cast("Mapping[str, Any]", fields.get("model_parameters") or {})
    messages = fields.get("messages")
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise LogFormatError("a request has no list of messages", number + 1)
    talk = [
        cast("Mapping[str, Any]", message)
        for message in cast("Sequence[Any]", messages)
        if isinstance(message, Mapping)
    ]
    name = str(fields.get("model") or model or "")
    owner = fields.get("custom_llm_provider") or provider
    tools = cast("Sequence[Any]", fields.get("tools") or ())
    terms = terms_of(name, owner, prices) if name else Terms("none", "")
    system = [("system", text_of(fields["system"]))] if fields.get("system") else []
    system += [
        (f"message {number}", text_of(message.get("content")))
        for number, message in enumerate(talk)
        if message.get("role") in ("system", "developer")
    ]
    return Request(
        number=number,
        model=name,
        tools=tools,
        system=system,
        talk=[message for message in talk if message.get("role") not in ("system", "developer")],
        options=fields,
        prompt=read_prompt(talk, tools, fields.get("system"), options=fields),
        terms=terms,
    )


def text_of(value: Any) -> str:
    """All text in a value, in order."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        return "\n".join(filter(None, (text_of(item) for key, item in pairs.items() if key not in MARK_KEYS)))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "\n".join(filter(None, (text_of(item) for item in cast("Sequence[Any]", value))))
    return ""
