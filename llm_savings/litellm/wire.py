"""Asking for a stream's token counts where LiteLLM does not.

LiteLLM sends `stream_options.include_usage` by itself to api.openai.com only. On any other base a stream reports no
tokens, for which LiteLLM 1.106 logs 0 tokens and $0, and 1.109 a count of its own.
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
    """Adds the option to requests, and remembers servers that refused it.

    Attributes:
        off: Leave all requests as they are.
    """

    def __init__(self) -> None:
        self.off = False
        self._refused: set[str] = set()

    def ask(self, details: Mapping[str, Any]) -> bool:
        """Ask for usage in a request that is about to leave, if it is a stream that would otherwise have none.

        Only the request that LiteLLM has just built is changed, never an object of the user's.

        Returns:
            Whether the provider may be expected to report usage.
        """
        wire, provider = _wire(details), details.get("custom_llm_provider")
        # Other providers, and the Responses API, report usage by themselves.
        chat = wire is not None and ("messages" in wire or "prompt" in wire)
        if wire is None or not chat or not wire.get("stream") or provider not in _COMPATIBLE:
            return True
        extra = cast("dict[str, Any]", wire.get("extra_body") or {})
        own = wire.get("stream_options", extra.get("stream_options"))
        if own is not None:
            return isinstance(own, Mapping) and cast("Mapping[str, Any]", own).get("include_usage") is True
        if self.off or _base(details) in self._refused or (provider == "azure" and not _new_enough(details)):
            return False
        if _sent_as_it_stands(details):  # LiteLLM strips the usage that the user did not ask for
            wire["stream_options"] = dict(_OPTION)
        else:
            # The openai SDK puts `extra_body` on the wire, and LiteLLM's own view of the request stays what it was:
            # the user sees the very chunks that they would have seen without us.
            wire["extra_body"] = {**extra, "stream_options": dict(_OPTION)}
        return True

    def refused(self, details: Mapping[str, Any], error: object) -> None:
        """Stop asking a server whose error names the option."""
        if details.get("stream") and getattr(error, "status_code", None) in (400, 422) and _REFUSED.search(str(error)):
            self._refused.add(_base(details))


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
