# pyright: standard
"""Cascades on a LiteLLM Router: a cheaper group's answer is judged, and a stronger one asked where it will not do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, cast
from weakref import WeakValueDictionary

from litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response import convert_to_streaming_response

from llm_savings.routing import ComplexityRouter, Decision, suffices

_log = logging.getLogger("llm_savings.litellm")
_KEY = "llm_savings_cascade"
# By a name in the call's metadata: a Router's threads know no context, and copy what is in there.
_underway: WeakValueDictionary[str, Cascade] = WeakValueDictionary()


@dataclass(eq=False)
class Cascade:
    """One call on its way up.

    Attributes:
        router: Who decides.
        decision: Where it goes now; the choice of a deployment may move it up.
        judge: The caller's own, or None.
        more: What is noted of it beside the decision.
    """

    router: ComplexityRouter
    decision: Decision
    judge: Callable[[str], float] | None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def judged(self) -> bool:
        """Whether a stronger tier is asked if this one's answer will not do."""
        decision = self.decision
        free = not decision.shadow and decision.arm is None and "disabled" not in decision.reasons
        return free and decision.tier != self.router.names[-1]

    def will_do(self, answer: Any, response_format: Any) -> bool:
        """Whether the answer is the one to give; if not, the next stronger tier is the one to ask."""
        try:
            if not self.judged or _is_good(answer, response_format, self.judge):
                return True
        except Exception as error:  # noqa: BLE001 (what cannot be judged is the caller's, as without a cascade)
            _log.warning("An answer could not be judged (%s): it is given", type(error).__name__)
            return True
        stronger = self.router.escalated(self.decision)
        if stronger is None:
            return True
        # Without routing there would have been one call: only one of the two has a baseline.
        self.decision, self.more = stronger, {"cascade": True, "repeat": True}
        return False

    def asking(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a call that the Router sends where the decision says; whole, where it is judged."""
        _underway[name := hex(id(self))] = self
        metadata = {**(given.get("metadata") or {}), _KEY: name}
        left_out = ("stream", "stream_options") if self.judged else ()
        return {key: value for key, value in given.items() if key not in left_out} | {"metadata": metadata}


def underway(metadata: Mapping[str, Any]) -> Cascade | None:
    """The cascade that a call with this metadata is a part of."""
    return _underway.get(str(metadata.get(_KEY)))


def without(metadata: Any) -> Any:
    """The metadata that a request is made with: some is only for the way there."""
    if not isinstance(metadata, dict):
        return metadata
    return {name: value for name, value in metadata.items() if not name.startswith("llm_savings_")}


def cascading(host: Any, begin: Callable[[str, Any, Mapping[str, Any]], Cascade | None]) -> None:
    """Have a Router judge the answers of its chat completions.

    Args:
        host: The Router.
        begin: From a call's model, messages and parameters to its cascade; None where there is none.
    """
    sync, awaited = host.completion, host.acompletion

    @wraps(sync)
    def completion(model: str, messages: Any, **given: Any) -> Any:
        if (cascade := begin(model, messages, given)) is None:
            return sync(model=model, messages=messages, **given)
        while cascade.judged:
            answer = sync(model=model, messages=messages, **cascade.asking(given))
            if cascade.will_do(answer, given.get("response_format")):
                return _pieces(answer) if given.get("stream") else answer
        return sync(model=model, messages=messages, **cascade.asking(given))

    @wraps(awaited)
    async def acompletion(model: str, messages: Any, **given: Any) -> Any:
        if (cascade := begin(model, messages, given)) is None:
            return await awaited(model=model, messages=messages, **given)
        while cascade.judged:
            answer = await awaited(model=model, messages=messages, **cascade.asking(given))
            if cascade.will_do(answer, given.get("response_format")):
                return _apieces(answer) if given.get("stream") else answer
        return await awaited(model=model, messages=messages, **cascade.asking(given))

    host.completion, host.acompletion = completion, acompletion


def _pieces(answer: Any) -> Iterator[Any]:
    return convert_to_streaming_response(answer.model_dump())


async def _apieces(answer: Any) -> AsyncIterator[Any]:
    for piece in _pieces(answer):
        yield piece


def _is_good(answer: Any, response_format: Any, judge: Callable[[str], float] | None) -> bool:
    choice = answer.choices[0]
    if choice.message.tool_calls:
        return True
    said = getattr(choice, "logprobs", None)
    tokens = getattr(said, "content", None) or ()
    return suffices(
        str(choice.message.content or ""),
        finish_reason=choice.finish_reason,
        schema=_schema(response_format),
        confidence=judge,
        logprobs=[token.logprob for token in tokens],
    ).ok


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    """The JSON schema that was asked for: as OpenAI writes it, or a pydantic model's."""
    if isinstance(response_format, type) and hasattr(response_format, "model_json_schema"):
        return cast("Any", response_format).model_json_schema()
    inner = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    found = inner.get("schema") if isinstance(inner, Mapping) else None
    return found if isinstance(found, Mapping) else None
