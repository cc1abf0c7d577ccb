"""Budget errors of LiteLLM's own kind, and the one place in LiteLLM from which they stop a request.

LiteLLM swallows what a callback raises, so a callback leaves its refusal with the call's details, and the method that
has just told the callbacks of the request raises it. That method, `Logging.pre_call`, runs before every request of
every mode: sync and async, the Router's, the SDK's own retries and the proxy's.
"""
# pyright: standard

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import litellm
from litellm.exceptions import BudgetExceededError as HostsError
from litellm.exceptions import OpenAIError as KnownError
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.llms.openai.common_utils import OpenAIError as HandledError

from llm_savings import errors
from llm_savings.errors import BudgetError
from llm_savings.storage.forks import Latch

Stopped = Callable[[dict[str, Any], bool], BudgetError | None]
"""Why the request of these details may not leave; if not asked for certain, only where nobody awaits the call."""

_lock = Latch()
_watching = False


class _Stopped(HostsError, KnownError, HandledError):
    """LiteLLM's budget error. The other two types are those that its handlers pass on as they are."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _made, (type(self), self.args, vars(self))


class BudgetExceededError(errors.BudgetExceededError, _Stopped):
    """`llm_savings.BudgetExceededError`, which is `litellm.BudgetExceededError` as well."""


class UnboundedCallError(errors.UnboundedCallError, _Stopped):
    """`llm_savings.UnboundedCallError`, which is `litellm.BudgetExceededError` as well."""


class UnscopedCallError(errors.UnscopedCallError, _Stopped):
    """`llm_savings.UnscopedCallError`, which is `litellm.BudgetExceededError` as well."""


class BudgetUnavailableError(errors.BudgetUnavailableError, _Stopped):
    """`llm_savings.BudgetUnavailableError`, which is `litellm.BudgetExceededError` as well."""


_KINDS: tuple[type[BudgetError], ...] = (
    BudgetExceededError,
    UnboundedCallError,
    UnscopedCallError,
    BudgetUnavailableError,
)


def stop_of(error: BudgetError) -> BudgetError:
    """A new error that says the same, of LiteLLM's own type as well.

    Its HTTP status is LiteLLM's for spent budgets (`litellm.budget_exceeded_status_code`), which neither its Router
    nor its clients take for a reason to try again.
    """
    kind = next((kind for kind in _KINDS if isinstance(error, kind.__mro__[1])), BudgetUnavailableError)
    named = {
        "message": str(error),
        "status_code": getattr(litellm, "budget_exceeded_status_code", 422),
        "current_cost": float(getattr(error, "spent", 0)),
        "max_budget": float(getattr(error, "limit", 0)),
        "type": "budget_exceeded",
        "category": "litellm_rate_limit",  # LiteLLM's word for what itself refuses, not a provider
        "rate_limit_type": "budget",
    }
    nothing = dict.fromkeys(("param", "code", "body", "headers", "response", "entity_type", "entity_id"))
    return _made(kind, error.args, {**nothing, "llm_provider": "", **vars(error), **named})


def _made(kind: type[BudgetError], args: tuple[Any, ...], state: dict[str, Any]) -> BudgetError:
    # Each of its types would be made of other arguments.
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def watch(stopped: Stopped) -> bool:
    """Have LiteLLM ask `stopped` whether the request that it has just announced may leave.

    Returns:
        Whether this release of LiteLLM has the places to ask from.
    """
    global _watching
    with _lock:
        methods = [getattr(Logging, name, None) for name in ("pre_call", "failure_handler", "async_failure_handler")]
        if _watching or not all(methods):
            return _watching
        pre_call, failed, async_failed = cast("list[Callable[..., Any]]", methods)
        Logging.pre_call = _raising(pre_call, lambda details: stopped(details, True))
        # Some providers' handlers turn an error into one of theirs. LiteLLM asks these two last, before it decides
        # whether to try again.
        Logging.failure_handler = _raising(failed, lambda details: stopped(details, False))

        @wraps(async_failed)
        async def awaited(self: Logging, *given: Any, **named: Any) -> Any:
            found = await async_failed(self, *given, **named)
            if (error := stopped(self.model_call_details, True)) is not None:
                raise stop_of(error)
            return found

        Logging.async_failure_handler = awaited
        _watching = True
        return True


def _raising(method: Callable[..., Any], stopped: Callable[[dict[str, Any]], BudgetError | None]) -> Any:
    @wraps(method)
    def asking(self: Logging, *given: Any, **named: Any) -> Any:
        found = method(self, *given, **named)
        if (error := stopped(self.model_call_details)) is not None:
            raise stop_of(error)
        return found

    return asking
