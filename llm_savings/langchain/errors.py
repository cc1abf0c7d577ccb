# pyright: standard
"""The budgets' errors as LangChain's own, so that code which catches LangChain's model errors catches them too.

None is retryable by LangChain's own rules (`ModelRetryMiddleware` asks); `.with_retry()` asks nobody.
"""

from __future__ import annotations

from langchain_core.exceptions import ModelError

from llm_savings import errors


class BudgetExceededError(errors.BudgetExceededError, ModelError):
    """See `llm_savings.errors.BudgetExceededError`."""


class UnboundedCallError(errors.UnboundedCallError, ModelError):
    """See `llm_savings.errors.UnboundedCallError`."""


class UnscopedCallError(errors.UnscopedCallError, ModelError):
    """See `llm_savings.errors.UnscopedCallError`."""


class BudgetUnavailableError(errors.BudgetUnavailableError, ModelError):
    """See `llm_savings.errors.BudgetUnavailableError`."""


def translated(error: errors.BudgetError) -> errors.BudgetError:
    """The same error, also as LangChain's."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, errors.BudgetExceededError):
        found: errors.BudgetError = BudgetExceededError(
            error.spent, error.reserved, error.limit, error.resets_at, needed=error.needed, budget=error.budget
        )
    else:
        found = next((own(*error.args) for own in _OWN if isinstance(error, own.__bases__[0])), error)
    found.__cause__ = error.__cause__
    return found


_OWN = (UnboundedCallError, UnscopedCallError, BudgetUnavailableError)
