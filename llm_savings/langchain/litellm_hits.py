# pyright: standard
"""Answers of LiteLLM's own cache (`litellm.cache`) to a chat model of LangChain's.

ChatLiteLLM passes such an answer on like any other, with the tokens and the cost of the call that once made it, and
LiteLLM's callbacks hear of it later and elsewhere. The one method that LiteLLM calls when its cache has answered, in
the caller's own context, is wrapped; where a release has no such method, these answers count as paid.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from llm_savings.evidence import CACHE_KEY
from llm_savings.meter import METERED
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings.langchain")
_MODULE, _METHOD = "litellm.caching.caching_handler", "_update_litellm_logging_obj_environment"
# The cache may itself ask for embeddings, whose hits are not the call's.
_CALLS = ("completion", "acompletion")
_lock = Latch()
_unwatched = {_MODULE}


Tell = Callable[[Mapping[str, Any] | None], str | None]
"""Hears what our cache says of its answer, None where it is another cache's; says who meters the call."""


def watch(tell: Tell) -> None:
    """Have `tell` called when LiteLLM's cache answers, once LiteLLM is imported."""
    if not _unwatched or _MODULE not in sys.modules:
        return
    with _lock:
        handler = getattr(sys.modules[_MODULE], "LLMCachingHandler", None)
        if handler is None or not _unwatched:  # another thread is importing it, or was first
            return
        _unwatched.clear()
        if (method := getattr(handler, _METHOD, None)) is not None:
            setattr(handler, _METHOD, _watched(method, tell))


def _watched(method: Callable[..., Any], tell: Tell) -> Callable[..., Any]:
    @wraps(method)
    def answered(handler: Any, logging_obj: Any, *args: Any, **named: Any) -> Any:
        found = method(handler, logging_obj, *args, **named)
        try:
            if getattr(logging_obj, "call_type", None) in _CALLS:
                # LiteLLM's callbacks get these details, in a thread or task of its own.
                details = logging_obj.model_call_details
                if ledger := tell(details.get(CACHE_KEY)):
                    details[METERED] = ledger
        except Exception:  # noqa: BLE001 - whatever it is, the user's call goes on
            _log.exception("an answer of LiteLLM's cache was not metered as one")
        return found

    return answered
