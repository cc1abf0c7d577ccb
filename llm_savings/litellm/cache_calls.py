"""LiteLLM's calls whose answers are to be kept: how they end, and what is shown of the cache with their answers."""
# pyright: standard

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from inspect import signature, unwrap
from queue import SimpleQueue
from typing import Any

from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.llm_response_utils.response_metadata import ResponseMetadata

from llm_savings.errors import ConfigError
from llm_savings.evidence import CACHE_KEY
from llm_savings.litellm.cache_requests import KINDS, Kind
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.scope import Question
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings.litellm")
_HEADER = "x-llm-savings-cache"  # LiteLLM's proxy sends it to its client
_NEEDED = ("fastapi", "orjson", "soundfile")
_watching = Latch()
_watched = False


@dataclass(slots=True)
class Asked:
    """A call whose answer is to be kept.

    Attributes:
        question: What it asks.
        kind: What its answer looks like.
        logging: LiteLLM's object of the call.
        began: When it was let through to the model, on the monotonic clock.
        dropped: Tells when LiteLLM has forgotten the call.
    """

    question: Question
    kind: Kind
    logging: weakref.ref[Any] | None = None
    began: float = field(default_factory=time.monotonic)
    dropped: weakref.finalize[..., Any] | None = None


class Dropped:
    """Releases those who wait for a call that LiteLLM never speaks of again, such as a stream that the user left.

    The garbage collector notices, and must not do more than say so; a thread does the rest.
    """

    def __init__(self, answers: AnswerCache) -> None:
        self._queue: SimpleQueue[Question | None] = SimpleQueue()
        self._answers, self._thread, self._lock = answers, None, Latch()
        weakref.finalize(self, self._queue.put, None).atexit = False

    def watch(self, logging_obj: Any, question: Question) -> weakref.finalize[..., Any]:
        """Have the question given up when this object is gone."""
        dropped = weakref.finalize(logging_obj, self._queue.put, question)
        dropped.atexit = False
        if self._thread is None or not self._thread.is_alive():  # never started, or lost in a fork
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    given = (self._queue, self._answers.gave_up)
                    self._thread = threading.Thread(target=_release, args=given, name="llm-savings", daemon=True)
                    self._thread.start()
        return dropped


def _release(queue: SimpleQueue[Question | None], gave_up: Any) -> None:
    while (question := queue.get()) is not None:
        gave_up(question)


def check_host() -> None:
    """Whether LiteLLM's cache can run with what is installed.

    Raises:
        ConfigError: It cannot; the message names what is missing.
    """
    try:
        # LiteLLM loads this at the first hit, in the user's call.
        import_module("litellm.llms.anthropic.pass_through.messages.response_cache")
    except ImportError as error:
        if str(error.name).startswith("litellm"):
            return  # another release, which has no such part
        missing = [name for name in _NEEDED if find_spec(name) is None]
        needed = " ".join(missing or [str(error.name)])
        raise ConfigError(
            f"litellm.cache needs {needed}, which litellm does not install by itself: pip install {needed}"
        ) from error


def _sign() -> None:
    """Keep the signatures of LiteLLM's functions on them: its cache handler works them out twice in each call."""
    main = import_module("litellm.main")
    for name in KINDS:
        if function := getattr(main, name, None):
            function = unwrap(function)
            function.__signature__ = signature(function)


def _show(metadata: Any, logging_obj: Any) -> None:
    evidence = logging_obj.model_call_details.get(CACHE_KEY)
    if not isinstance(evidence, dict):
        return
    hidden = metadata._hidden_params
    headers = hidden.get("additional_headers") if isinstance(hidden, dict) else hidden.additional_headers
    named = {**(headers or {}), _HEADER: evidence["cache"]}
    shown: dict[str, Any] = {"llm_savings": dict(evidence), "additional_headers": named}
    if evidence["cache"] == "hit":
        shown["response_cost"] = 0.0  # LiteLLM says what it once took
    metadata._update_hidden_params(shown)


def watch(failed: Callable[[Any], None]) -> None:
    """Have LiteLLM tell of calls that failed, and show with each answer what the cache had to do with it.

    Args:
        failed: Called with LiteLLM's object of the call.
    """
    global _watched
    with _watching:
        if _watched:
            return
        _watched = True
        failure_handler, set_hidden_params = Logging.failure_handler, ResponseMetadata.set_hidden_params

    @wraps(failure_handler)
    def failing(self: Any, *given: Any, **named: Any) -> Any:
        try:
            failed(self)
        except Exception as error:  # noqa: BLE001 (a defect here must not become the user's)
            _log.debug("a failed call still leads: %s", type(error).__name__)
        return failure_handler(self, *given, **named)

    @wraps(set_hidden_params)
    def shown(self: Any, logging_obj: Any, *given: Any, **named: Any) -> None:
        set_hidden_params(self, logging_obj, *given, **named)
        try:
            _show(self, logging_obj)
        except Exception as error:  # noqa: BLE001 (a defect here must not become the user's)
            _log.debug("an answer does not show its lookup: %s", type(error).__name__)

    _sign()
    Logging.failure_handler = failing
    ResponseMetadata.set_hidden_params = shown
