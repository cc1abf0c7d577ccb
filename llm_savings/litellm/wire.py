"""Asking for a stream's token counts where LiteLLM does not.

LiteLLM sends `stream_options.include_usage` by itself to api.openai.com only. On any other base a stream reports no
tokens at all, and LiteLLM logs 0 tokens and $0 for it (1.106 to 1.109).
"""
# pyright: standard

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

# Servers of these providers speak OpenAI's streaming dialect, the option included.
_COMPATIBLE = frozenset({"openai", "text-completion-openai", "azure", "hosted_vllm", "litellm_proxy", "lm_studio"})
_AZURE_FROM = "2024-09"  # Azure refuses stream_options before this API version
_OPTION = {"include_usage": True}
_REFUSED = re.compile(r"stream_options|include_usage")


class StreamUsage:
    """Adds the option to requests, and remembers servers that refused it."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def ask(self, details: Mapping[str, Any]) -> None:
        """Ask for usage in a request that is about to leave, if it is a stream that would otherwise have none.

        Only the request that LiteLLM has just built is changed, never an object of the user's.
        """
        wire, provider = _wire(details), details.get("custom_llm_provider")
        if (
            wire is None
            or not wire.get("stream")
            or not ("messages" in wire or "prompt" in wire)  # the Responses API reports usage by itself
            or "stream_options" in wire
            or provider not in _COMPATIBLE
            or (provider == "azure" and not _new_enough(details))
            or _base(details) in self._refused
        ):
            return
        if _sent_as_it_stands(details):  # LiteLLM strips the usage that the user did not ask for
            wire["stream_options"] = dict(_OPTION)
            return
        # The openai SDK puts `extra_body` on the wire, and LiteLLM's own view of the request stays what it was: the
        # user sees the very chunks that they would have seen without us.
        extra = cast("dict[str, Any]", wire.get("extra_body") or {})
        if "stream_options" not in extra:
            wire["extra_body"] = {**extra, "stream_options": dict(_OPTION)}

    def refused(self, details: Mapping[str, Any], error: object) -> None:
        """Stop asking a server whose error names the option."""
        if details.get("stream") and getattr(error, "status_code", None) in (400, 422) and _REFUSED.search(str(error)):
            self._refused.add(_base(details))


def asked_for_no_usage(details: Mapping[str, Any]) -> bool:
    """Whether the user's own stream options turn the provider's count off; LiteLLM then counts by itself."""
    options = details.get("stream_options")
    return (
        bool(details.get("stream"))
        and isinstance(options, Mapping)
        and cast("Mapping[str, Any]", options).get("include_usage") is not True
        and details.get("custom_llm_provider") in _COMPATIBLE
    )


def _wire(details: Mapping[str, Any]) -> dict[str, Any] | None:
    extra = details.get("additional_args")
    wire = cast("Mapping[str, Any]", extra).get("complete_input_dict") if isinstance(extra, Mapping) else None
    return cast("dict[str, Any]", wire) if isinstance(wire, dict) else None


def _sent_as_it_stands(details: Mapping[str, Any]) -> bool:
    # LiteLLM's own HTTP handler names the whole URL and sends the dict; the openai SDK is given a base.
    url = (details.get("additional_args") or {}).get("api_base")
    return isinstance(url, str) and url.rstrip("/").endswith("/completions")


def _base(details: Mapping[str, Any]) -> str:
    return str((details.get("litellm_params") or {}).get("api_base")).rstrip("/")


def _new_enough(details: Mapping[str, Any]) -> bool:
    version = (details.get("litellm_params") or {}).get("api_version")
    return isinstance(version, str) and (version >= _AZURE_FROM if version[:1].isdigit() else True)
