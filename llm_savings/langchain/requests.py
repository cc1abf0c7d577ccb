# pyright: standard
"""What a start event of LangChain says about a request: its row in the ledger, and how large it can get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage

from llm_savings import tokens
from llm_savings.bounds import Size, limits
from llm_savings.labels import NAMING, SESSION_KEYS, USER_KEYS, labels, text
from llm_savings.langchain.messages import readable
from llm_savings.ledger import Mode, Sent
from llm_savings.meter import Meter
from llm_savings.unseen import may_read_more
from llm_savings.usage import CacheTTL, cache_lives

MODEL_KEYS = ("model", "model_name", "model_id", "azure_deployment", "deployment_name")
_CALLING = ("ai", "AIMessageChunk")  # types of messages that may carry calls of tools
# Parameters that become tokens of the prompt.
_PROMPT_KEYS = frozenset(
    ("tools", "functions", "response_format", "output_config", "output_format", "system", "instructions")
)


class Start:
    """The start event of one run, as LangChain reported it; nothing is copied.

    Attributes:
        run_id: LangChain's id of the run, and the call's id in the ledger.
        prompt: The messages of a chat model, the text for a plain LLM, or None when LangChain never said.
        params: The `invocation_params`.
        metadata: The run's metadata, with LangChain's `ls_...` entries.
        tags: The run's tags.
        serialized: What LangChain says of the model itself, for models without a name.
        batch: How many runs share the request.
        model: The model asked for.
        provider: LangChain's name of the provider.
    """

    __slots__ = ("batch", "metadata", "model", "params", "prompt", "provider", "run_id", "serialized", "tags")

    def __init__(
        self,
        serialized: Mapping[str, Any] | None,
        prompt: Sequence[BaseMessage] | str | None,
        event: Mapping[str, Any],
    ) -> None:
        self.run_id: UUID = event["run_id"]
        self.serialized, self.prompt = serialized, prompt
        self.params: Mapping[str, Any] = event.get("invocation_params") or {}
        self.metadata: Mapping[str, Any] = event.get("metadata") or {}
        self.tags: Sequence[str] = event.get("tags") or ()
        self.batch: int = event.get("batch_size") or 1
        self.model = str(self.metadata.get("ls_model_name") or text(self.params, MODEL_KEYS) or self._kind())
        self.provider: str | None = self.metadata.get("ls_provider")

    def _kind(self) -> str:
        named = self.serialized or {}
        return named.get("name") or next(reversed(named.get("id") or ()), "unknown")

    def size(self) -> Size:
        """How large the request can get."""
        most, choices = limits(self.params)
        if most is None:
            told = self.metadata.get("ls_max_tokens")
            most = told if type(told) is int and told > 0 else None
        return Size(self.prompt_bound(), most, choices, self.count)

    def count(self) -> int | None:
        """The prompt's tokens as counted here, or None when a part of it cannot be."""
        if self.prompt is None:
            return None
        asked = [self.prompt] if isinstance(self.prompt, str) else [readable(message) for message in self.prompt]
        if None in asked:
            return None
        total = sum(tokens.PER_MESSAGE + tokens.count(text or "", self.model) for text in asked) + tokens.PER_ANSWER
        for key in ("tools", "functions"):
            if value := self.params.get(key):
                total += tokens.count(json.dumps(value, default=str, ensure_ascii=False), self.model)
        return total

    def sent(self, meter: Meter, size: Size, *, user: str | None, session: str | None) -> Sent:
        """The row to write ahead; the meter's labels and the arguments are what holds unless the run says otherwise."""
        params, metadata, tags = self.params, self.metadata, meter.tags
        if self.tags or not NAMING.isdisjoint(metadata):
            tags = {**tags, **labels(self.tags, metadata)}
            user = text(metadata, USER_KEYS) or user
            session = text(metadata, SESSION_KEYS) or session
        tier = params.get("service_tier")
        mode: Mode = tier if tier in ("flex", "priority") else "standard"
        return Sent(
            call_id=str(self.run_id),
            host="langchain",
            requested_model=self.model,
            provider=self.provider,
            mode=mode,
            stream=bool(params.get("stream") or params.get("streaming")),
            bound=meter.bound(self.model, size, mode=mode, provider=self.provider),
            tags=tags,
            user=user,
            session=session,
        )

    def prompt_bound(self) -> int | None:
        """Tokens that the prompt cannot exceed, or None when the provider may add to it without telling."""
        params, prompt = self.params, self.prompt
        if prompt is None:
            return None
        total = 0
        blocks: list[Any] = []
        if isinstance(prompt, str):
            total += tokens.MESSAGE_OVERHEAD + tokens.upper_bound(prompt)
        else:
            for message in prompt:
                content = message.content
                total += tokens.MESSAGE_OVERHEAD + tokens.upper_bound(content)
                if not isinstance(content, str):
                    blocks.append(content)
                # By type and not by isinstance, which pydantic makes slow.
                if message.additional_kwargs or message.name or message.type in _CALLING:
                    total += _beside(message)
        # Text holds no files, so only blocks are looked through.
        if may_read_more(self.model, params, blocks):
            return None
        if not _PROMPT_KEYS.isdisjoint(params):
            given = [value for key in _PROMPT_KEYS if (value := params.get(key))]
            total += sum(tokens.TOOLS_OVERHEAD + len(_dumped(value)) for value in given)
        return total

    def cache_ttls(self) -> set[CacheTTL]:
        """The times to live of the cache marks in the request, as far as they can be seen from here."""
        messages = () if isinstance(self.prompt, str) else self.prompt or ()
        return cache_lives([*(message.content for message in messages), self.params])


def _beside(message: BaseMessage) -> int:
    """Tokens that a message's parts beside its content cannot exceed."""
    total = 0
    if message.type in _CALLING and (calls := cast("AIMessage", message).tool_calls):
        total += tokens.upper_bound(calls)
    if message.additional_kwargs:
        total += tokens.upper_bound(message.additional_kwargs)
    if message.name:
        total += tokens.upper_bound(message.name)
    return total


def _dumped(value: Any) -> str:
    """A parameter as JSON. With escapes, so it is never shorter than its UTF-8, and by far the fastest way."""
    if callable(schema := getattr(value, "model_json_schema", None)):
        value = schema()  # ChatOpenAI passes the pydantic class on
    return json.dumps(value, default=str)
