"""A LiteLLM call as the semantic cache sees it: what of its arguments may change the answer, and whose answer it is."""
# pyright: standard

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import litellm
from litellm.types.utils import all_litellm_params
from pydantic import BaseModel

from llm_savings.labels import USER_KEYS, text
from llm_savings.ledger import tenant_hash
from llm_savings.litellm.calls import part_of, provider_of
from llm_savings.semantic_cache.scope import Request

Kind = Literal["chat", "text", "responses", "messages"]
"""What an answer looks like: OpenAI's chat and text completions, its Responses API, Anthropic's messages."""
Per = Literal["key", "team", "user", "everyone"]
"""Who shares answers."""

KINDS: dict[str, Kind] = {
    "completion": "chat",
    "acompletion": "chat",
    "text_completion": "text",
    "atext_completion": "text",
    "responses": "responses",
    "aresponses": "responses",
    "anthropic_messages": "messages",
    "aanthropic_messages": "messages",
}
"""LiteLLM's functions whose answers are cached. Embeddings, images, audio and the like are not."""
_ASKED: dict[Kind, str] = {"chat": "messages", "text": "prompt", "responses": "input", "messages": "messages"}
_SYSTEM: dict[Kind, str] = {"responses": "instructions", "messages": "system"}

# Of what LiteLLM keeps for itself, the part that changes what is asked or what is answered.
_SHAPING = frozenset(
    (
        "allowed_openai_params",
        "api_version",
        "assistant_continue_message",
        "base_model",
        "bos_token",
        "custom_prompt_dict",
        "ensure_alternating_roles",
        "eos_token",
        "final_prompt_value",
        "guardrails",
        "headers",
        "hf_model_name",
        "initial_prompt_value",
        "litellm_system_prompt",
        "merge_reasoning_content_in_choices",
        "mock_response",
        "prompt_environment",
        "prompt_id",
        "prompt_label",
        "prompt_variables",
        "prompt_version",
        "region_name",
        "roles",
        "supports_system_message",
        "use_chat_completions_api",
        "user_continue_message",
    )
)
# Who asks, how, and how long they wait; and what is told in another way below.
_ASIDE = frozenset(
    (
        "api_base",
        "api_key",
        "base_url",
        "cache_control",
        "cache_control_injection_points",
        "client",
        "custom_llm_provider",
        "max_retries",
        "model",
        "parent_otel_span",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream",
        "stream_options",
        "timeout",
        "user",
    )
)
_LEFT_OUT = (frozenset(all_litellm_params) - _SHAPING) | _ASIDE
_HEADERS = frozenset(("headers", "extra_headers"))
_TRACING = ("traceparent", "tracestate", "baggage", "x-request-id", "x-correlation-id", "idempotency-key", "user-agent")
_PROXY_KEY, _TEAM = "user_api_key", "user_api_key_team_id"


_schemas: WeakKeyDictionary[type[BaseModel], Any] = WeakKeyDictionary()


def kind_of(call: Mapping[str, Any]) -> Kind:
    """What kind of answer a call expects.

    Args:
        call: Its arguments by name, LiteLLM's own among them.
    """
    handler = getattr(call.get("litellm_logging_obj"), "llm_caching_handler", None)
    name = getattr(getattr(handler, "original_function", None), "__name__", None)
    if name in KINDS:
        return KINDS[name]
    shapes: list[Kind] = [kind for kind, asked in _ASKED.items() if call.get(asked) is not None]
    return shapes[0] if shapes else "chat"


def asked_in(call: Mapping[str, Any]) -> Any:
    """The object that holds a call's question; the same one when LiteLLM hands over the answer."""
    return next((call[name] for name in _ASKED.values() if call.get(name) is not None), None)


def request_of(call: Mapping[str, Any], kind: Kind, *, namespace: str = "", per: Per = "key") -> Request:
    """The call in the cache's terms.

    Of its arguments all are part of the scope but those that are known not to change the answer, so that one nobody
    has heard of separates rather than confuses.

    Args:
        call: Its arguments by name, LiteLLM's own among them.
        kind: What its answer looks like.
        namespace: Where the call names none.
        per: Who shares answers.
    """
    control = control_of(call)
    metadata = [part_of(call, "metadata"), part_of(call, "litellm_metadata")]
    model, where, key = _where(call)
    shared = _is_deployment(call, metadata)
    parameters: dict[str, Any] = {
        name: _plain(value)
        for name, value in call.items()
        if name not in _LEFT_OUT and name != _ASKED[kind] and name != _SYSTEM.get(kind) and name[:1] != "_"
        if value not in (None, False) or name not in _SHAPING
    }
    for name in _HEADERS & parameters.keys():
        parameters[name] = _headers(parameters[name])
    if parameters.get("conversation") is not None:
        parameters["conversation"] = object()  # goes on at the provider: the same name is another history next time
    client = call.get("client")
    if client is not None and not shared:
        parameters["client"], key = _client(client, key)
    parameters |= {"answer's kind": kind, "sent to": where, "asked by": _tenant(metadata, None if shared else key, per)}
    user = call.get("user") or text(metadata[0], USER_KEYS) or text(metadata[1], USER_KEYS)
    if per == "user":
        parameters["asked by"].append(user)
    named = control.get("namespace") or metadata[0].get("redis_namespace") or namespace
    return Request(
        model=model,
        messages=_messages(call, kind),
        parameters=parameters,
        namespace=str(named),
        user=_user_hash(user) if user else None,
        max_age=_number(control.get("s-maxage", control.get("s-max-age"))),
    )


def control_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the call says of caching: `cache={"ttl": 60, "namespace": ..., "s-maxage": ..., "tags": [...]}`."""
    return part_of(call, "cache")


def lasting(call: Mapping[str, Any]) -> float | None:
    """Seconds that this call's answer is to be kept, where it says so; 0 or less for not at all."""
    return _number(control_of(call).get("ttl"))


def _messages(call: Mapping[str, Any], kind: Kind) -> list[Any]:
    """The question as chat messages; none where it is no question that can be told."""
    asked = _plain(call.get(_ASKED[kind]))
    if kind == "text" and isinstance(asked, list) and len(asked) == 1:
        asked = asked[0]
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    turns = cast("list[Any]", asked) if isinstance(asked, list) else []
    if (kind == "text" and len(turns) != 1) or not all(isinstance(turn, dict) for turn in turns):
        return []
    if kind == "responses":
        # These stand for what the provider keeps under their id, which of any other turn says nothing.
        turns = [
            {**t, "kept as": t.get("id")} if t.get("type") in ("item_reference", "reasoning") else t for t in turns
        ]
    system = _plain(call.get(_SYSTEM[kind])) if kind in _SYSTEM else None
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def _plain(value: Any) -> Any:
    """The value without the hosts' own classes; what cannot be told stays as it is, and is refused for it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, type) and issubclass(value, BaseModel):
        if value not in _schemas:
            _schemas[value] = [value.__name__, value.model_json_schema()]
        return _schemas[value]
    return value


def _where(call: Mapping[str, Any]) -> tuple[str, list[Any], str | None]:
    """The model's bare name, provider and base URL, and the API key that pays."""
    base, key = call.get("api_base") or call.get("base_url"), call.get("api_key")
    model, provider = _provider(str(call.get("model")), call.get("custom_llm_provider"), base)
    name = str(provider).rpartition("-")[2]
    base = base or litellm.api_base or _set(name, "API_BASE") or _set(name, "BASE_URL")
    key = key or litellm.api_key or getattr(litellm, f"{name}_key", None) or _set(name, "API_KEY")
    return model, [provider, None if base is None else str(base).rstrip("/")], key


def _provider(model: str, provider: str | None, base: str | None) -> tuple[str, str | None]:
    """A model's bare name and its provider; what it says of the base and the key is not always what was given."""
    with suppress(Exception):  # of a provider that LiteLLM does not know
        return provider_of(model, provider, base)
    return model, provider


def _set(provider: str, what: str) -> str | None:
    return os.environ.get(f"{provider.upper()}_{what}")


def _is_deployment(call: Mapping[str, Any], metadata: list[Mapping[str, Any]]) -> bool:
    """Whether a Router chose where to send it, and with its own key: that says nothing of who asks."""
    routed = any(part.get("model_group") for part in metadata)
    return routed and "original_model_id" not in part_of(call, "model_info")


def _tenant(metadata: list[Mapping[str, Any]], key: str | None, per: Per) -> list[Any]:
    """Whose answer it is. Only a digest of it is kept, with the rest of the scope.

    A client of the proxy may write into one of its two kinds of metadata, never into both.
    """
    if per == "everyone":
        return []
    if per == "team" and any(part.get(_TEAM) for part in metadata):
        return [part.get(_TEAM) for part in metadata]
    if any(part.get(_PROXY_KEY) for part in metadata):
        return [part.get(_PROXY_KEY) for part in metadata]
    return [sha256(key.encode()).hexdigest() if isinstance(key, str) else key]


def _client(client: Any, key: str | None) -> tuple[Any, str | None]:
    """Where the user's own client sends to, and its key; the client itself where that cannot be told."""
    base, own = getattr(client, "base_url", None), getattr(client, "api_key", None)
    if base is None or not isinstance(own, str):
        return client, key
    return [str(base), str(getattr(client, "organization", None))], own


def _headers(headers: Any) -> Any:
    if not isinstance(headers, dict):
        return headers
    named = {str(name).lower(): value for name, value in headers.items()}
    return {name: value for name, value in named.items() if name not in _TRACING and not name.startswith("x-stainless")}


def _user_hash(user: object) -> str | None:
    try:
        return tenant_hash(str(user))
    except OSError:  # nowhere to keep the key of such hashes
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
