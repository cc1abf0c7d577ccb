# pyright: standard
"""A call to the group that `ComplexityRouting` adds to a Router: where it is sent, and what becomes of it there."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, cast

import litellm
from litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response import convert_to_streaming_response
from litellm.types.router import RouterRateLimitError

from llm_savings.bounds import limits
from llm_savings.litellm.calls import SAVES
from llm_savings.routed import at_least_in, conversation_in, params_beside, with_evidence
from llm_savings.routing import ComplexityRouter, Decision, Tier, portable, suffices

_log = logging.getLogger("llm_savings.litellm")
ALLOWED = "llm_savings_tiers"
"""Where a call's metadata names the tiers that its caller may use; only the proxy's plug-in writes it."""
CHATS = ("completion", "acompletion")
ASKED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(CHATS, ("model", "messages")),
    **dict.fromkeys(("text_completion", "atext_completion"), ("model", "prompt")),
    **dict.fromkeys(("responses", "aresponses"), ()),
    **dict.fromkeys(("anthropic_messages", "aanthropic_messages"), ()),
}
"""The Router's ways to ask that are routed, with what they take by position."""
_METADATA = ("metadata", "litellm_metadata")
_SYNC = ("completion", "text_completion", "responses")
_RESPONSES = ("responses", "aresponses")
_FOR_RESPONSES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
_FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_TAKE_MARKS = ("anthropic", "bedrock", "vertex")  # providers that know thoughts and marks of what is to be cached
_MARKS = frozenset(("thinking_blocks", "cache_control", "cachePoint"))


@dataclass(frozen=True, eq=False)
class Group:
    """The group that chooses among tiers.

    Attributes:
        name: Its name.
        host: The Router.
        router: Who decides.
        tiers: Tier name -> a model group of the Router, with parameters.
        providers: Tier name -> its provider, by LiteLLM's name.
        cascade: Whether answers of chat completions are judged, or by whom.
    """

    name: str
    host: Any
    router: ComplexityRouter
    tiers: Mapping[str, Tier]
    providers: Mapping[str, str]
    cascade: bool | Callable[[str], float]

    def routed(self, way: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """One of the Router's ways to ask, which sends the group's calls to a tier's, and leaves all others alone."""
        of_group = self._text_completion if way == "text_completion" else own

        @wraps(own)
        def ask(*args: Any, **given: Any) -> Any:
            call = self._call(way, args, given)
            while call is not None:
                try:
                    answer = of_group(**call.asked)
                except Exception as error:  # whatever it is, it is raised where no other tier can be asked
                    if not call.gives_way(error):
                        raise
                else:
                    if call.will_do(answer):
                        return _pieces(answer) if call.in_pieces else answer
            return own(*args, **given)

        @wraps(own)
        async def aask(*args: Any, **given: Any) -> Any:
            call = self._call(way, args, given)
            while call is not None:
                try:
                    answer = await own(**call.asked)
                except Exception as error:  # as above
                    if not call.gives_way(error):
                        raise
                else:
                    if call.will_do(answer):
                        return _apieces(answer) if call.in_pieces else answer
            return await own(*args, **given)

        return ask if way in _SYNC else aask

    def _call(self, way: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> RoutedCall | None:
        asked = {**dict(zip(ASKED[way], args, strict=False)), **given}
        if asked.get("model") != self.name or len(args) > len(ASKED[way]):
            return None
        return RoutedCall(self, way, asked)

    def _text_completion(self, model: str, prompt: Any, **given: Any) -> Any:
        """LiteLLM's own sends the name of the group to the provider; here it is the chosen deployment's."""
        given = {"num_retries": self.host.num_retries, **given}
        given["metadata"] = {**given["metadata"], "model_group": model}
        chosen = self.host.get_available_deployment(model=model, messages=_turn(prompt), request_kwargs=given)
        given = {**self.host.default_litellm_params, **chosen["litellm_params"], **given}
        return litellm.text_completion(prompt=prompt, **{"caching": self.host.cache_responses, **given})

    def fallbacks(self, group: str) -> dict[str, Any]:
        """The Router's fallbacks, where it has some for the new group and none for a tier's group."""
        found = dict[str, Any]()
        for kind in _FALLBACKS:
            listed = self._listed(kind)
            own = [each[self.name] for each in listed if self.name in each]
            if own and not any(group in each for each in listed):
                found[kind] = [*listed, {group: own[0]}]
        return found

    def falls_back(self, group: str) -> bool:
        """Whether the Router has somewhere to go when a tier's group fails."""
        return any(not {group, self.name, "*"}.isdisjoint(each) for each in self._listed("fallbacks"))

    def _listed(self, kind: str) -> list[Mapping[str, Any]]:
        settings = getattr(self.host, "settings", None)  # since litellm 1.109
        listed = getattr(settings() if settings else self.host, kind, None)
        return [each for each in listed or () if isinstance(each, Mapping)]

    def has_left(self, sent: Mapping[str, Any]) -> bool:
        """Whether any deployment is left to ask; those that failed are cooling down."""
        given = {"messages": sent.get("messages"), "input": sent.get("input"), "request_kwargs": dict(sent)}
        try:
            self.host.get_available_deployment(model=sent["model"], **given)
        except RouterRateLimitError:
            return False
        except Exception:  # noqa: BLE001 (another reason to have none: not one to ask another tier)
            return True
        return True


class RoutedCall:
    """One call on its way. Where routing fails, it goes to the strongest tier that its caller may use.

    Args:
        group: The group that was asked for.
        way: The Router's method that was called.
        given: What it was called with.
    """

    def __init__(self, group: Group, way: str, given: Mapping[str, Any]) -> None:
        self._group, self._way, self._router = group, way, group.router
        self._decision: Decision | None = None
        self._more: dict[str, Any] = {}  # what is noted beside the decision
        retries = given.get("num_retries", group.host.num_retries)
        self._retries = retries if isinstance(retries, int) else 0
        self._tries: dict[str, Any] = {}  # where a conversation's call is to be retried fewer times than that
        # What the Responses API and Anthropic's call metadata is sent to the provider.
        self._where = "metadata" if "messages" in ASKED[way] or "prompt" in ASKED[way] else "litellm_metadata"
        said = {name: each for name in _METADATA if isinstance(each := given.get(name), Mapping)}
        told, names = said.values(), self._router.names
        self._conversation = conversation_in(*told, {"session_id": given.get("litellm_session_id")})
        self._at_least = at_least_in(*told)
        allowed = next((each[ALLOWED] for each in told if isinstance(each.get(ALLOWED), list)), names)
        self._allowed = tuple(name for name in names if name in allowed) or names[:1]
        for name, each in said.items():
            said[name] = kept = dict(each)
            for ours in (ALLOWED, SAVES):
                kept.pop(ours, None)
        self._given: Mapping[str, Any] = {**given, **said}
        self._sent: dict[str, Any] = {**self._given, "model": group.tiers[self._allowed[-1]].model}
        if self._conversation:
            self._router.answered(self._conversation)  # the call before, else it was retried
        self._go(self._decide)

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the Router's own method is called with: whole, where the answer is judged."""
        if not self.is_judged:
            return self._sent
        return {name: value for name, value in self._sent.items() if name not in ("stream", "stream_options")}

    @property
    def in_pieces(self) -> bool:
        """Whether the answer was asked for as a stream, and is whole."""
        return self.is_judged and bool(self._given.get("stream"))

    @property
    def is_judged(self) -> bool:
        """Whether a stronger tier is asked if this one's answer will not do."""
        decision = self._decision
        if not self._group.cascade or self._way not in CHATS or decision is None or decision.arm is not None:
            return False
        return _is_free(decision) and decision.tier != self._router.names[-1]

    def will_do(self, answer: Any) -> bool:
        """Whether the answer is the one to give; if not, the next stronger tier is the one to ask."""
        decision, judge = self._decision, self._group.cascade
        if decision is None or not self.is_judged:
            return True
        try:
            if _is_good(answer, self._given.get("response_format"), judge if callable(judge) else None):
                return True
        except Exception as error:  # noqa: BLE001 (what cannot be judged is the caller's, as without a cascade)
            _log.warning("An answer could not be judged (%s): it is given", type(error).__name__)
            return True
        # Without routing there would have been one call: only one of the two has a baseline.
        return not self._goes_up("cascade", cascade=True, repeat=True)

    def gives_way(self, error: Exception) -> bool:
        """Whether a stronger tier is to be asked: retries failed in a conversation, or none of this one is left."""
        decision = self._decision
        if decision is None or not _is_free(decision):
            return False
        retried = self._sent[self._where].get("attempted_retries")  # by LiteLLM
        if retried and self._conversation and self._is_tried_twice(decision):
            for _ in range(2):
                self._router.failed(self._conversation)
            self._retries -= 2
            self._tries = {"num_retries": self._retries}
            return self._go(self._decide)
        if not isinstance(error, RouterRateLimitError) and self._group.has_left(self._sent):
            return False
        return self._goes_up("cooldown")

    def _is_tried_twice(self, decision: Decision) -> bool:
        """Whether two failures are to move a conversation up, before its retries are used up."""
        if not self._conversation or self._retries < 2 or not _is_free(decision):
            return False
        group = self._group.tiers[decision.tier].model
        return decision.tier != self._router.names[-1] and not self._group.falls_back(group)

    def _goes_up(self, reason: str, **more: Any) -> bool:
        stronger = self._router.escalated(self._decision, reason) if self._decision is not None else None
        if stronger is None:
            return False
        self._more = {**self._more, **more}
        return self._go(lambda: stronger)

    def _decide(self) -> Decision:
        given = self._given
        prompt = _turn(given.get("prompt")) if "prompt" in ASKED[self._way] else given.get("messages")
        return self._router.route(
            given.get("input") if self._way in _RESPONSES else prompt,
            tools=given.get("tools"),
            response_format=given.get("response_format"),
            max_tokens=limits(given)[0],
            conversation=self._conversation,
            at_least=self._at_least,
        )

    def _go(self, decide: Callable[[], Decision]) -> bool:
        try:
            decision = decide()
            if len(self._allowed) < len(self._router.names):
                decision = self._router.within(decision, self._allowed)
            self._sent, self._decision = self._sent_by(decision), decision
            return True
        except Exception as error:  # noqa: BLE001 (a saving must not cost a call)
            _log.warning("Routing failed (%s): the call goes to %r", type(error).__name__, self._sent["model"])
            return False

    def _sent_by(self, decision: Decision) -> dict[str, Any]:
        given, tier = self._given, self._group.tiers[decision.tier]
        params = params_beside({**tier.params, **decision.params}, given)
        if self._way in _RESPONSES:
            params = {_FOR_RESPONSES.get(name, name): value for name, value in params.items()}
        metadata = with_evidence(given.get(self._where), decision, **self._more)
        if _is_free(decision) and decision.model != decision.baseline_model:
            metadata[SAVES] = True
        sent = {**self._group.fallbacks(tier.model), **given, **params, "model": tier.model, self._where: metadata}
        sent |= {"num_retries": 1} if self._is_tried_twice(decision) else self._tries
        if self._way in CHATS:
            sent["messages"] = self._portable(decision.tier)
        return sent

    def _portable(self, tier: str) -> Any:
        """The messages as a tier's provider takes them: a copy, where another's thoughts and marks are taken out."""
        messages, providers = self._given.get("messages"), self._group.providers
        mixed = len(set(providers.values())) > 1
        if not mixed or providers[tier].startswith(_TAKE_MARKS) or not isinstance(messages, list):
            return messages
        return portable(messages) if any(map(_is_marked, messages)) else messages


def _is_free(decision: Decision) -> bool:
    return not decision.shadow and "disabled" not in decision.reasons


def _turn(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt if isinstance(prompt, str) else str(prompt)}]


def _is_marked(message: object) -> bool:
    """Whether a message has thoughts, or marks of what is to be cached, which not every provider takes."""
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    blocks = [message, *(content if isinstance(content, list) else ())]
    return any(
        isinstance(block, Mapping)
        and (not _MARKS.isdisjoint(block) or block.get("type") in ("thinking", "redacted_thinking"))
        for block in blocks
    )


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
