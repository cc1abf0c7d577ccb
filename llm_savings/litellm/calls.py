"""What LiteLLM says of a call before it leaves: who sent it, to which model, and how much it can cost.

`details` is LiteLLM's `model_call_details`, the dict that every callback of a call receives as `kwargs`.
"""
# pyright: standard

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import litellm

from llm_savings import tokens
from llm_savings.bounds import limits
from llm_savings.evidence import CACHE_KEY, evidence_in
from llm_savings.labels import SESSION_KEYS, USER_KEYS, labels, text
from llm_savings.ledger import Mode, Sent, tenant_hash
from llm_savings.storage.forks import Latch
from llm_savings.unseen import may_read_more

_NAMES = (
    "completion",
    "text_completion",
    "responses",
    "anthropic_messages",
    "generate_content",
    "generate_content_stream",
    "embedding",
    "image_generation",
    "image_edit",
    "transcription",
    "speech",
    "rerank",
    "search",
    "ocr",
    "create_video",
)
BILLED = frozenset((*_NAMES, *(f"a{name}" for name in _NAMES), "pass_through_endpoint"))
"""The call types that a provider bills for an answer; files, lists and the like cost nothing."""

SAVES = "llm_savings_saves"
"""Where a routed call's metadata says that without routing another model would have been asked."""

_TIERS: dict[str, Mode] = {"flex": "flex", "priority": "priority", "batch": "batch"}

_TENANT_KEYS = ("user_api_key_team_id", "user_api_key_hash", "user_api_key")

_NOTHING: Mapping[str, Any] = {}


def call_sent(details: Mapping[str, Any], call_id: str, *, tags: Mapping[str, str]) -> Sent:
    """The call as the ledger knows it.

    Args:
        details: LiteLLM's details of the call.
        call_id: The row's id.
        tags: Labels of every call of this logger; those of the call itself win.
    """
    params, metadata = part_of(details, "litellm_params"), metadata_of(details)
    key = text(metadata, _TENANT_KEYS) if metadata else None
    return Sent(
        call_id=call_id,
        host="litellm",
        requested_model=base_model(details) or _bare(details),
        provider=details.get("custom_llm_provider"),
        mode=mode_of(part_of(details, "optional_params").get("service_tier")) or "standard",
        stream=bool(details.get("stream")),
        tags={**tags, **_labels(metadata)} if metadata else tags,
        user=details.get("user") or text(metadata, USER_KEYS),
        session=params.get("litellm_session_id") or text(metadata, SESSION_KEYS) or params.get("litellm_trace_id"),
        tenant=tenant_hash(key) if key else None,
    )


def question(details: Mapping[str, Any]) -> tuple[Any, Any]:
    """The messages or input, and the tools: what is counted when a provider reports no tokens."""
    prompt = details.get("messages") or details.get("input")
    return prompt, part_of(details, "optional_params").get("tools")


def reads_more(details: Mapping[str, Any]) -> bool:
    """Whether the provider may add to the prompt without telling."""
    prompt = details.get("input") or details.get("messages")
    return may_read_more(str(details.get("model")), part_of(details, "optional_params"), prompt)


def prompt_bound(details: Mapping[str, Any]) -> int | None:
    """Tokens that the prompt cannot exceed, or None when the provider may add to it without telling."""
    if reads_more(details):
        return None
    asked, prompt = part_of(details, "optional_params"), details.get("input") or details.get("messages")
    bound = tokens.upper_bound(asked)
    for turn in cast("list[Any]", prompt) if isinstance(prompt, list) else (prompt,):
        bound += tokens.MESSAGE_OVERHEAD + (_plain(turn) or tokens.upper_bound(turn))
    schemas = asked.get("tools") or asked.get("functions") or asked.get("response_format")
    return bound + tokens.TOOLS_OVERHEAD if schemas else bound


def _plain(turn: Any) -> int | None:
    """The bound of a message that is a role and a text, as nearly all are."""
    if type(turn) is dict and len(cast("dict[str, Any]", turn)) == 2 and "role" in turn:
        text = cast("dict[str, Any]", turn).get("content")
        return tokens.upper_bound(text) if isinstance(text, str) else None
    return None


def output_limit(details: Mapping[str, Any]) -> int | None:
    """The most output tokens that the request allows, also as it is written; None when it sets no limit."""
    wire = part_of(part_of(details, "additional_args"), "complete_input_dict")
    most, _ = asked_limits(details)
    return limits(wire)[0] if most is None else most


def asked_limits(details: Mapping[str, Any]) -> tuple[int | None, int]:
    """The most output tokens that the user asked for (None for no limit), and how many answers are paid for."""
    most, each = limits(part_of(details, "optional_params"))
    kind, prompt = str(details.get("call_type")), details.get("input")
    many = isinstance(prompt, list) and kind.endswith("text_completion")
    return 0 if kind.endswith("embedding") else most, each * len(cast("list[Any]", prompt)) if many else each


def base_model(details: Mapping[str, Any]) -> str | None:
    """The model that the user declared a deployment to be, as Azure deployments need."""
    params = part_of(details, "litellm_params")
    declared = params.get("base_model") or part_of(params, "model_info").get("base_model")
    return declared or part_of(metadata_of(details), "model_info").get("base_model")


@lru_cache(maxsize=1024)  # LiteLLM takes more than a millisecond for some
def provider_of(model: str, provider: str | None, base: str | None) -> tuple[str, str]:
    """A model's bare name and its provider's.

    Raises:
        Exception: LiteLLM knows no provider of such a model.
    """
    return litellm.get_llm_provider(model, provider, base)[:2]


def mode_of(tier: object) -> Mode | None:
    """The price list that a service tier's name stands for; None when there is no name."""
    return _TIERS.get(tier, "standard") if isinstance(tier, str) else None


def part_of(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The mapping under a name; an empty one where there is none."""
    value = source.get(name)
    return value if isinstance(value, dict) else _NOTHING


def metadata_of(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's metadata, wherever this kind of call carries it."""
    params = part_of(details, "litellm_params")
    own, other = part_of(params, "metadata"), part_of(params, "litellm_metadata")
    return {**other, **own} if own and other else own or other


def asked_for(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the savings did to the request. A Router's fallback saved what routing did before it, or nothing."""
    metadata = metadata_of(details)
    said, first = evidence_in(metadata), metadata.get("original_model_group")
    if "routing" not in said or not first or first == metadata.get("model_group"):
        return said
    routing = {"routing": {**said["routing"], "fallback": True}} if metadata.get(SAVES) else {}
    return {**{name: each for name, each in said.items() if name != "routing"}, **routing}


def strategies_of(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """What each saving did for the call, as its row keeps it."""
    found, said = details.get(CACHE_KEY), asked_for(details)
    return {**said, "semantic_cache": found} if isinstance(found, dict) else said


class CallIds:
    """Row ids: LiteLLM's call id, and `id#2` and so on when it is used again (the proxy's retries share one)."""

    def __init__(self, remembered: int = 16_384) -> None:
        self._most, self._uses, self._lock = remembered, OrderedDict[str, int](), Latch()

    def take(self, call_id: str | None) -> str:
        """A row id for one more attempt of this call."""
        call_id = call_id or str(uuid.uuid4())
        with self._lock:
            use = self._uses.pop(call_id, 0) + 1
            self._uses[call_id] = use
            if len(self._uses) > self._most:
                self._uses.popitem(last=False)
        return call_id if use == 1 else f"{call_id}#{use}"

    def give_back(self, row_id: str) -> None:
        """An id that was taken last is not used after all."""
        call_id = row_id.partition("#")[0]
        with self._lock:
            if self._uses.get(call_id):
                self._uses[call_id] -= 1


def _bare(details: Mapping[str, Any]) -> str:
    # On a cache hit the name still has the prefix that LiteLLM takes off before it sends.
    return str(details.get("model") or "unknown").removeprefix(f"{details.get('custom_llm_provider')}/")


def _labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    # The proxy keeps what its client sent in a part of its own.
    return labels(metadata.get("tags"), metadata, part_of(metadata, "requester_metadata"))
