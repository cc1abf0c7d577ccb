# pyright: standard
"""`PromptCaching`: LiteLLM's requests are marked for the provider's cache, where that pays."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from litellm.integrations.custom_logger import CustomLogger

from llm_savings import settings
from llm_savings.errors import SavingsError
from llm_savings.evidence import noted
from llm_savings.litellm.answers import raw_answer
from llm_savings.litellm.calls import metadata_of
from llm_savings.marked import Marking
from llm_savings.prompt_cache import Memory, Plan
from llm_savings.storage.forks import Latch
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.litellm")
_MOST = 4096
# LiteLLM has turned these into a string by the time they can be seen; their arguments are marked instead.
_SIGNED = ("bedrock", "bedrock_converse")
_NATIVE = "anthropic_messages"


class PromptCaching(CustomLogger):
    """Marks what is worth caching at the provider: `litellm.callbacks = [CostLogger(), PromptCaching()]`.

    Works for the SDK, the Router and the proxy, in sync, async and streams, on the request as LiteLLM has made it for
    the provider that it goes to; so a fallback to another one is planned anew. Marks of your own stay, and count. For
    Bedrock, which gets signed text, and for `litellm.anthropic.messages` it works in async calls and the proxy; a sync
    call to Bedrock takes `caching.marked(...)`: `litellm.completion(**caching.marked(model=..., messages=...))`.

    Args:
        memory: What is known of prefixes. A new one by default. A file's path, a `postgresql://` or `redis://` URL
            where several workers or machines share what they learn (see `Memory`).
        shadow: Plan and record, but send every request as it is.
        own_servers: Base URLs of servers that take what OpenAI takes, such as your gateway.

    Raises:
        ConfigError: `memory` is neither a `Memory` nor what can store one.

    Example:
        >>> import litellm
        >>> litellm.callbacks = [PromptCaching()]
    """

    def __init__(
        self, *, memory: Memory | str | None = None, shadow: bool = False, own_servers: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._marking = Marking(memory, shadow=shadow, own_servers=own_servers)
        self._plans: OrderedDict[str, tuple[Plan, str | None]] = OrderedDict()
        self._lock = Latch()

    @property
    def memory(self) -> Memory:
        """What is known of prefixes."""
        return self._marking.memory

    def marked(self, **arguments: Any) -> dict[str, Any]:
        """The arguments of a `completion` with marks in them, for a call that LiteLLM shows to nobody in time."""
        model = str(arguments.get("model"))
        provider = arguments.get("custom_llm_provider") or model.partition("/")[0]
        asked, plan = self._marking.marked(
            arguments, model=model, provider=provider, base=arguments.get("api_base"), dialect="anthropic"
        )
        if plan is not None:
            asked["metadata"] = noted(asked.get("metadata"), "prompt_cache", self._marking.evidence(plan))
            asked.setdefault("litellm_call_id", str(uuid4()))  # by which the answer is known
            self._remember(asked["litellm_call_id"], plan, None)
        return asked

    # LiteLLM calls these by keyword: their parameters must keep its names.

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
        """Mark a request to Bedrock before it is signed, and one in Anthropic's own protocol before it is written."""
        provider = str(kwargs.get("custom_llm_provider") or str(kwargs.get("model")).partition("/")[0])
        native = provider == "anthropic" and str(getattr(call_type, "value", call_type)) == _NATIVE
        if settings.disabled() or not (native or provider in _SIGNED):
            return None
        try:
            return self._marked_early(kwargs, provider) if native else self.marked(**kwargs)
        except Exception as error:  # noqa: BLE001 (a saving must not cost a call)
            _log.debug("a request to %s was sent without marks: %s", provider, type(error).__name__)
            return None

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Mark a request as it is about to leave."""
        try:
            self._mark(str(model), kwargs)
        except Exception as error:  # noqa: BLE001
            _log.debug("a request was sent without marks: %s", type(error).__name__)

    def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Learn from a whole answer as it comes: the next request can be planned before LiteLLM reports its end.

        That report comes from another thread, and the first of a process a second or two late.
        """
        came = kwargs.get("original_response")
        if not isinstance(came, str) or str(kwargs.get("litellm_call_id")) not in self._plans:
            return
        try:
            answer = raw_answer(came)
        except Exception as error:  # noqa: BLE001
            _log.debug("an answer is learned from at its report: %s", type(error).__name__)
            return
        if answer is not None and answer.usage:
            self._learn(kwargs, answer.usage)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Learn from a stream, or an answer that was not to be read."""
        self._ended(kwargs, response_obj)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same under asyncio."""
        self._ended(kwargs, response_obj)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Forget a plan that came to nothing."""
        self._planned(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same under asyncio."""
        self._planned(kwargs)

    def _marked_early(self, arguments: Mapping[str, Any], provider: str) -> dict[str, Any] | None:
        """The arguments with marks; `metadata` is the provider's there, and LiteLLM's own has another name."""
        key = arguments.get("api_key")
        model = str(arguments.get("model")).removeprefix(f"{provider}/")
        asked, plan = self._marking.marked(
            arguments, model=model, provider=provider, base=arguments.get("api_base"), key=key
        )
        if plan is None:
            return None
        noted_in = noted(asked.get("litellm_metadata"), "prompt_cache", self._marking.evidence(plan))
        self._remember(getattr(asked.get("litellm_logging_obj"), "litellm_call_id", None), plan, key)
        return {**asked, "litellm_metadata": noted_in}

    def _mark(self, model: str, details: dict[str, Any]) -> None:
        if details.get("call_type") == _NATIVE:
            return  # what is sent is written already
        request = (details.get("additional_args") or {}).get("complete_input_dict")
        if not isinstance(request, str):  # what is signed was planned before; else only the last attempt counts
            self._planned(details)
        if settings.disabled() or not isinstance(request, dict) or "messages" not in request:
            return
        params = cast("Mapping[str, Any]", details.get("litellm_params") or {})
        key = details.get("api_key") or params.get("api_key")
        key = key if isinstance(key, str) and key else None
        asked, plan = self._marking.marked(
            request,
            model=model,
            provider=details.get("custom_llm_provider") or params.get("custom_llm_provider"),
            base=params.get("api_base") or None,
            key=key,
        )
        if plan is None:
            return
        request.update(asked)  # LiteLLM's own mapping; what it holds of the caller's is as it was
        metadata = noted(metadata_of(details), "prompt_cache", self._marking.evidence(plan))
        details["litellm_params"] = {**params, "metadata": metadata}
        self._remember(details.get("litellm_call_id"), plan, key)

    def _remember(self, call_id: object, plan: Plan, key: str | None) -> None:
        with self._lock:
            self._plans[str(call_id)] = (plan, key)
            if len(self._plans) > _MOST:
                self._plans.popitem(last=False)

    def _planned(self, details: Mapping[str, Any]) -> tuple[Plan | None, str | None]:
        with self._lock:
            return self._plans.pop(str(details.get("litellm_call_id")), (None, None))

    def _ended(self, details: Mapping[str, Any], response: Any) -> None:
        if str(details.get("litellm_call_id")) not in self._plans:
            return
        found = getattr(response, "usage", None)
        try:
            usage = Usage.from_litellm(found) if found else None
        except SavingsError:
            usage = None
        self._learn(details, usage)

    def _learn(self, details: Mapping[str, Any], usage: Usage | None) -> None:
        call_id = str(details.get("litellm_call_id"))
        with self._lock:  # an end may be reported twice, from two threads
            plan, key = self._plans.get(call_id, (None, None))
            if plan is not None and details.get("cache_hit") is not True:
                self._marking.learn(plan, usage, key=key)
            self._plans.pop(call_id, None)
