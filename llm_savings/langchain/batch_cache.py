# pyright: standard, reportPrivateUsage=false
"""A model's cache for a batch: what it has word for word is not sent, and what the batch answers is put into it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation

from llm_savings.langchain.cache_requests import as_structured
from llm_savings.langchain.cached_answers import given, read, write
from llm_savings.langchain.caching import SemanticCache
from llm_savings.langchain.only_hits import cache_of

_log = logging.getLogger("llm_savings.langchain")
_WRITTEN = "langchain"  # where a known answer has LangChain's own form


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the user's model would make it.

    Attributes:
        model: The user's model.
        messages: What it is asked.
        bound: The parameters that it is asked with.
        metadata: The run's, which may choose the cache's namespace.
    """

    model: BaseChatModel
    messages: Sequence[BaseMessage]
    bound: Mapping[str, Any]
    metadata: Mapping[str, Any]


def known_answer(asked: Asked) -> dict[str, Any] | None:
    """What the model's cache has for a request, as the body of an answer; None where it has nothing."""

    def look(cache: BaseCache, prompt: str, llm_string: str) -> Any:
        if isinstance(cache, SemanticCache):
            return cache.exact(prompt)
        return cache.lookup(prompt, llm_string)

    found = _at_cache(asked, look)
    message = getattr(found[0], "message", None) if isinstance(found, list) and len(found) == 1 else None
    if not isinstance(message, AIMessage):
        return None
    usage = message.usage_metadata
    counts = usage and {"prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"]}
    choices = [{"message": {"role": "assistant", "content": message.text}}]
    named = message.response_metadata.get("model_name")
    return {"model": named, "choices": choices, "usage": counts, _WRITTEN: write(cast("list[Generation]", found))}


def keep_answer(asked: Asked, answer: BaseMessage) -> None:
    """Put an answer where a later call of the model will look; whatever fails in here, the answer is the user's."""
    generations = [ChatGeneration(message=cast("AIMessage", answer))]
    _at_cache(asked, lambda cache, prompt, llm_string: cache.update(prompt, llm_string, generations))


def answering(model: BaseChatModel, body: Mapping[str, Any]) -> BaseChatModel:
    """A copy of a model whose cache gives this known answer."""
    return model.model_copy(update={"cache": _Given(body[_WRITTEN])})


class _Given(BaseCache):
    """One answer, to whatever is asked."""

    def __init__(self, written: str) -> None:
        self._written = written

    def lookup(self, prompt: str, llm_string: str) -> Any:
        return given(read(self._written) or [], {"cache": "hit", "tier": "exact"})

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Nothing is made that could be kept."""

    def clear(self, **_: Any) -> None:
        """It is not ours."""


class _DoneError(BaseException):
    """Nothing is to be asked of the provider. Not an Exception, which a cache might catch."""


class _Hook(BaseCache):
    """Stands where LangChain asks a cache, with LangChain's own key, and goes no further."""

    def __init__(self, act: Callable[[str, str], Any]) -> None:
        self._act, self.found = act, cast("Any", None)

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.found = self._act(prompt, llm_string)
        raise _DoneError

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Never reached."""

    def clear(self, **_: Any) -> None:
        """It is not ours."""


def _at_cache(asked: Asked, act: Callable[[BaseCache, str, str], Any]) -> Any:
    """What `act` gives where LangChain would ask the model's cache; None without one, or where it fails."""
    cache, model = cache_of(asked.model), asked.model
    if cache is None:
        return None
    hook = _Hook(lambda prompt, llm_string: act(cache, prompt, llm_string))
    named = {name: value for name, value in asked.bound.items() if name != "ls_structured_output_format"}
    # In the place of a run, which would be told of; a cache reads its metadata.
    run: Any = SimpleNamespace(run_id=None, metadata={**(model.metadata or {}), **asked.metadata}, handlers=[], tags=[])
    try:
        with as_structured(asked.bound):
            model.model_copy(update={"cache": hook})._generate_with_cache(
                list(asked.messages), run_manager=run, **named
            )
    except _DoneError:
        return hook.found
    except Exception as error:  # noqa: BLE001 (whatever it is, the batch goes on without)
        _log.warning("the cache of %s was not asked for a batch: %s", type(model).__name__, type(error).__name__)
    return None
